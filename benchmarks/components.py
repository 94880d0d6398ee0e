"""Write docs/components.md, the map of everything that a config can be written with.

    python -m benchmarks.components             # write the page
    python -m benchmarks.components --check     # exit with 1 if the page is not current

A component is a public dataclass of a module that a section lists. Its line is the first sentence
of its docstring, its fields are those of the class with their defaults, and the config that uses it
is the first that names it, or that names a component whose default it is.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from genjax import gx
from genjax.evaluation.judge import Evaluator
from genjax.family import Family
from genjax.optim import Optimizer
from genjax.schedules import Schedule

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "components.md"
SECTIONS = {  # title: modules, or packages with all of theirs, in the order of the page
    "Families": (
        "families.vae families.vdvae families.vqvae families.gan.gan families.diffusion.diffusion "
        "families.diffusion.latent families.diffusion.flow_map "
        "families.diffusion.forecast families.diffusion.tabular "
        "families.diffusion.control "
        "families.autoregressive.autoregressive "
        "families.autoregressive.captioner families.autoregressive.code_prior "
        "families.autoregressive.next_scale "
        "families.autoregressive.next_state families.masked_lm families.masked_diffusion "
        "families.classifier posttrain.reward posttrain.lora posttrain.dpo posttrain.kto "
        "posttrain.labelled_kto "
        "posttrain.orpo posttrain.simpo posttrain.ppo posttrain.grpo posttrain.rloo "
        "posttrain.online_dpo posttrain.rewarded_diffusion posttrain.ddpo "
        "posttrain.distillation"
    ),
    "Parts of families": (
        "families.likelihoods families.quantisers families.multiscale families.masking "
        "families.gan.augment families.diffusion.augment families.diffusion.couplings "
        "data.design.attributes posttrain.adapters"
    ),
    "Nets": "nets",
    "Processes of diffusion": "samplers.diffusion.processes families.diffusion.bound",
    "Samplers": (
        "samplers.diffusion.steps samplers.diffusion.solvers samplers.diffusion.ancestral "
        "samplers.diffusion.adaptive samplers.tokens.decoding samplers.tokens.beam "
        "families.autoregressive.request families.autoregressive.harmonising "
        "families.diffusion.rows families.unmasking"
    ),
    "Optimizers": "optim",
    "Schedules": "schedules",
    "Sources of data": (
        "data.sources data.audio.spectrograms data.reasoning.problems "
        "data.simulation.sources data.tables.pairs data.design.attributed "
        "data.design.sketches"
    ),
    "Dynamical systems": "data.simulation.systems",
    "Codecs": (
        "data.text.codecs data.text.subwords data.text.words data.text.wrapped data.text.hashed "
        "data.codecs data.audio.signals data.audio.mel data.audio.music data.audio.voices "
        "data.audio.abc data.tables.codec data.simulation.codec data.video.codec "
        "data.tables.related"
    ),
    "Layouts and splits of text": "data.text.layouts data.text.prefixes data.text.splits",
    "Chat templates": "data.chat.template",
    "Augmentations": "data.images.augment data.audio.augment data.text.augment",
    "Curricula and orders": "data.order.curriculum data.order.difficulty data.order.pacing",
    "Evaluators": "evaluation",
    "The experiment": "experiment parallel start_from",
    "Preparation of data": (
        "prepare.preparation prepare.readers prepare.tfds_images prepare.people prepare.stages "
        "prepare.matching"
    ),
}
# Fields of every class of the kind, which are said once.
SHARED = {
    Optimizer: {field.name for field in dataclasses.fields(Optimizer)},
    Evaluator: {field.name for field in dataclasses.fields(Evaluator)},
}
# Where other public records stand beside the components: only what ``gx`` has is listed.
NAMED_ONLY = ("Samplers", "Sources of data", "Layouts and splits of text", "Curricula and orders")
BASES = (Family, Evaluator, Optimizer, Schedule)  # what components of one's own derive from
NOT_WRITTEN = {  # public dataclasses that no config is written with
    *("Layout", "UpdateRule", "Model", "Part", "Subject", "Findings", "Report", "Judge"),
    *("Request", "CaptionRequest", "Picture", "RowLikelihood", "NoiseSchedule"),
    *("Rule", "Parametrization", "Outcome", "Relation", "DrawnSketch", "SketchDiffusion"),
}
INTRODUCTION = """\
# Components

`python -m benchmarks.components` writes this page from the code. Everything here is written in a
config as `gx.NAME(...)`, or imported from the module that is named. The link is a config that uses
it, or else a page that does; a dash says that there is none.

The network of a `Diffusion` predicts one of four targets: `target="noise"`, `"x0"`, `"v"` or
`"velocity"`. A number of the data, such as a learning rate, is a schedule or a plain number as the
field says. `python -m genjax train CONFIG --help` lists the fields of a whole config with what they
mean.

What you can add in a file of your own, each with a whole example:
[a family, a source, an evaluator, an optimizer and a schedule, a net](add_a_family.md).
"""


@dataclasses.dataclass(frozen=True)
class Component:
    """What the page says of a class.

    Attributes:
      name: of the class.
      module: that defines it.
      line: the first sentence of its docstring.
      fields: as ``name=default``, or ``name`` where there is no default.
      config: the path of a config or page that uses it, None for none.
    """

    name: str
    module: str
    line: str
    fields: tuple[str, ...]
    config: str | None


def main(arguments: list[str] | None = None, page: Path = PAGE) -> int:
    """Write or check the page; return the exit code: 1 if it is not current."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare the page")
    check = parser.parse_args(arguments).check
    text = render(list_components())
    if not check:
        page.write_text(text, encoding="utf-8")
    elif not page.exists() or page.read_text(encoding="utf-8") != text:
        print(f"{page} is not current: python -m benchmarks.components", file=sys.stderr)
        return 1
    return 0


def list_components() -> dict[str, list[Component]]:
    """Return the components of each section, by name."""
    classes = {
        title: [
            kind
            for kind in find_classes(names.split())
            if title not in NAMED_ONLY or is_named(kind)
        ]
        for title, names in SECTIONS.items()
    }
    users = find_users([kind for kinds in classes.values() for kind in kinds])
    return {
        title: sorted(
            (describe(kind, users.get(kind.__name__)) for kind in kinds),
            key=lambda component: component.name.lower(),
        )
        for title, kinds in classes.items()
    }


def find_classes(names: list[str]) -> Iterator[type]:
    """Yield the components that modules define, or all modules of packages."""
    for name in names:
        module = importlib.import_module(f"genjax.{name}")
        modules = [module]
        if "__path__" in vars(module):
            found = pkgutil.walk_packages(module.__path__, f"{module.__name__}.")
            modules += [importlib.import_module(each.name) for each in found if not each.ispkg]
        for each in modules:
            for kind in vars(each).values():
                if inspect.isclass(kind) and kind.__module__ == each.__name__ and is_written(kind):
                    yield kind


def is_written(kind: type) -> bool:
    """Return whether a config may hold an instance: a public frozen dataclass that is none of the
    program's own records.
    """
    return (
        dataclasses.is_dataclass(kind)
        and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        and not kind.__name__.startswith("_")
        and kind not in BASES
        and kind.__name__ not in NOT_WRITTEN
        and (is_named(kind) or "evaluation" not in kind.__module__ or issubclass(kind, Evaluator))
    )


def is_named(kind: type) -> bool:
    """Return whether ``gx`` has it."""
    return kind.__name__ in dir(gx) and vars(sys.modules[kind.__module__])[kind.__name__] is kind


def find_users(kinds: list[type]) -> dict[str, str]:
    """Return a page for each component, by name: a config that names it, or one whose default it
    is, else a page of docs that does.
    """
    users: dict[str, str] = {}
    for path in sorted((ROOT / "configs").glob("*/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        words = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        words |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        for word in words:
            users.setdefault(word, f"../configs/{path.parent.name}/{path.name}")
    inherited = dict(users)
    for _ in range(3):  # defaults of defaults
        for kind in kinds:
            for part in default_parts(kind):
                if kind.__name__ in inherited:
                    inherited.setdefault(part, inherited[kind.__name__])
    docs = ROOT / "docs"
    for path in [*sorted(docs.glob("walks/*.md")), *sorted(docs.glob("*.md"))]:
        if path != PAGE:
            for word in re.findall(r"\bgx\.(\w+)|`(\w+)[`(]", path.read_text(encoding="utf-8")):
                inherited.setdefault("".join(word), path.relative_to(docs).as_posix())
    return inherited


def default_parts(kind: type) -> list[str]:
    """Return the names of the components that are defaults of a component."""
    values = [field.default for field in dataclasses.fields(kind)]
    parts = [part for value in values for part in (value if isinstance(value, tuple) else [value])]
    return [
        type(part).__name__
        for part in parts
        if dataclasses.is_dataclass(part) and not isinstance(part, type)
    ]


def describe(kind: type, config: str | None) -> Component:
    """What the page says of a class."""
    shared = set().union(*(names for base, names in SHARED.items() if issubclass(kind, base)))
    fields = [
        field.name
        if field.default is dataclasses.MISSING
        else f"{field.name}={show(field.default)}"
        for field in dataclasses.fields(kind)
        if field.name not in shared and field.init
    ]
    return Component(kind.__name__, kind.__module__, first_sentence(kind), tuple(fields), config)


def first_sentence(kind: type) -> str:
    """Return the first sentence of a class's docstring, on one line, without the marks of code."""
    text = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    for stop in re.finditer(r"\.\s(?=[A-Z`])", text):
        sentence = text[: stop.start()]
        if sentence.count("(") == sentence.count(")"):  # no "et al." within brackets
            text = sentence
            break
    return text.replace("``", "`").rstrip(".:;")


def show(value: object) -> str:
    """Return a default as it is written, a component by its name alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = [f.name for f in dataclasses.fields(value) if getattr(value, f.name) != f.default]
        return f"{type(value).__name__}({'...' if changed else ''})"
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return repr(value) if len(repr(value)) <= 40 else "..."


def render(sections: Mapping[str, list[Component]]) -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for title, components in sections.items():
        lines.append(f"## {title}\n")
        if title == "Optimizers":
            lines.append(f"All but `Players` take also: {names_of(Optimizer)}.\n")
        if title == "Evaluators":
            lines.append(f"All take also: {names_of(Evaluator)}.\n")
        for each in components:
            module = "" if each.name in dir(gx) else f" (`{each.module}`)"
            used = "—"
            if each.config is not None:
                used = f"[{Path(each.config).stem}]({each.config})"
            lines.append(f"- **`{each.name}`**{module}: {each.line}. {used}")
            if each.fields:
                lines.append(f"  <br>`{', '.join(each.fields)}`")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def names_of(kind: type) -> str:
    """Return the fields that all of a kind have."""
    fields = dataclasses.fields(kind)
    return ", ".join(f"`{field.name}={show(field.default)}`" for field in fields)


if __name__ == "__main__":
    sys.exit(main())
