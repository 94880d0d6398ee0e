"""Write docs/results.md from the results that the docstrings of the configs state.

    python -m benchmarks.results             # write the page
    python -m benchmarks.results --check     # exit with 1 if the page is not current

A result is a block of a docstring: the line ``Result:``, then indented lines ``key: text`` up to
the next empty line. A line that is indented further continues the one above it.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from genjax.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
NOT_RUN = "not yet run"
NUMBER = r"\d+(?:\.\d+)?"
FAMILIES = {  # a folder of configs/: the title of its section, in the order of the page
    "vae": "VAE and VQ-VAE",
    "gan": "GAN",
    "diffusion": "Diffusion and flows",
    "autoregressive": "Autoregressive models",
    "masked_lm": "Masked language models",
    "captioner": "Captions of pictures",
    "classifier": "Classifiers",
    "reward": "Reward models",
    "posttrain": "Configs that continue a trained model",
    "prepare": "Preparation of data",
}
COLUMNS = ("config", "data", "metric", "value", "baseline", "published", "minutes", "hardware")
INTRODUCTION = f"""\
# Results

`python -m benchmarks.results` writes this page from the docstrings of the configs. A docstring
also says how many steps were trained, what was tried besides, and what limits the result.

Numbers are of held-out data unless the metric names other data. Where several seeds ran there is
one number per seed, and ± is the standard error unless the metric says otherwise. Options after the
name of a config belong to the command. What is {NOT_RUN} is listed at the end.
"""


@dataclass(frozen=True)
class Result:
    """One number, or one for each seed, that a config reached.

    Attributes:
      command: the command that trains the config.
      data: what it is trained on.
      metric: what the value measures, with its unit.
      value: the numbers, as they are written; empty where the config is not yet run.
      error: standard errors, one for each value or one for all.
      seeds: the random seeds, one for each value.
      minutes: the time of training, as text: `12`, `8 to 16` or one for each seed.
      hardware: what it ran on.
      baseline: what the value is compared with, measured here.
      published: the number that others reached, with its protocol and source.
      reason: why the config is not yet run.
    """

    command: str
    data: str
    metric: str = ""
    value: tuple[Decimal, ...] = ()
    error: tuple[Decimal, ...] = ()
    seeds: tuple[int, ...] = ()
    minutes: str = ""
    hardware: str = ""
    baseline: str = ""
    published: str = ""
    reason: str = ""


KEYS = tuple(field.name for field in dataclasses.fields(Result))


def main(
    arguments: list[str] | None = None,
    configs: Path = ROOT / "configs",
    page: Path = PAGE,
) -> int:
    """Write or check the page; return the exit code: 1 if it is not current, 2 for a fault."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare the page")
    check = parser.parse_args(arguments).check
    try:
        text = render(read_folder(configs))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not check:
        page.write_text(text, encoding="utf-8")
    elif not page.exists() or page.read_text(encoding="utf-8") != text:
        print(f"{page} is not current: python -m benchmarks.results", file=sys.stderr)
        return 1
    return 0


def read_folder(configs: Path) -> dict[Path, tuple[Result, ...]]:
    """Read the results of all configs, in the order of the page.

    Raises:
      UserError: a folder has no section, or a config has no result or a faulty one.
    """
    for folder in sorted(path for path in configs.iterdir() if path.is_dir()):
        if folder.name not in FAMILIES and any(folder.glob("*.py")):
            raise UserError(f"{folder} has no section in FAMILIES", field=str(folder))
    paths = (path for family in FAMILIES for path in sorted((configs / family).glob("*.py")))
    return {path.relative_to(configs): read_config(path) for path in paths}


def read_config(path: Path) -> tuple[Result, ...]:
    """Read the results of one config from its docstring, without importing it."""
    note = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    results = parse(note, str(path))
    if not results:
        raise UserError(f"{path} has no block `Result:` in its docstring", field=str(path))
    return results


def parse(note: str, path: str) -> tuple[Result, ...]:
    """Parse all blocks of a docstring; `path` names the file in errors."""
    return tuple(parse_block(block, path) for block in blocks(note))


def blocks(note: str) -> Iterator[list[str]]:
    """Yield the indented lines of each block, continued lines joined."""
    block: list[str] | None = None
    for line in note.splitlines():
        if line.rstrip() == "Result:":
            if block is not None:
                yield block
            block = []
        elif block is not None and not line.strip():
            yield block
            block = None
        elif block and line.startswith(" " * 5):
            block[-1] += " " + line.strip()
        elif block is not None:
            block.append(line.strip())
    if block is not None:
        yield block


def parse_block(lines: list[str], path: str) -> Result:
    """Parse the lines of one block.

    Raises:
      UserError: a key is unknown, stated twice or missing, or a text breaks a rule of its key.
    """
    texts: dict[str, str] = {}
    for line in lines:
        key, colon, text = (part.strip() for part in line.partition(":"))
        if not colon or not text:
            raise UserError(f"{path}: a result needs lines `key: text`, got {line!r}", field=path)
        if key not in KEYS:
            known = ", ".join(KEYS)
            raise UserError(f"{path}: unknown key {key!r} in a result; known: {known}", field=path)
        if key in texts:
            raise UserError(f"{path}: a result has {key!r} twice", field=path)
        texts[key] = text
    missing = [key for key in ("command", "data", "value") if key not in texts]
    if missing:
        raise UserError(f"{path}: a result lacks {', '.join(missing)}", field=path)
    value, error, seeds = (texts.pop(key, "") for key in ("value", "error", "seeds"))
    if not re.fullmatch(r"(\d+(, *\d+)*)?", seeds):
        raise UserError(f"{path}: seeds must be whole numbers >= 0, got {seeds!r}", field=path)
    result = Result(
        value=() if value == NOT_RUN else decimals("value", value, path),
        error=decimals("error", error, path),
        seeds=tuple(int(seed) for seed in seeds.split(",") if seed),
        **texts,
    )
    check(result, path)
    return result


def decimals(key: str, text: str, path: str) -> tuple[Decimal, ...]:
    """Parse numbers between commas; they keep the digits that they are written with."""
    if text and not re.fullmatch(rf"-?{NUMBER}(, *-?{NUMBER})*", text):
        rule = f"numbers between commas{f' or {NOT_RUN!r}' if key == 'value' else ''}"
        raise UserError(f"{path}: {key} must be {rule}, got {text!r}", field=path)
    return tuple(Decimal(part.strip()) for part in text.split(",") if part)


def check(result: Result, path: str) -> None:
    """Raise UserError where the keys of a result contradict each other."""
    count = len(result.value)
    measured = (result.error, result.seeds, result.minutes, result.hardware)
    rest = max(count - 1, 1)
    minutes = rf"(under )?{NUMBER}|{NUMBER} to {NUMBER}|{NUMBER}(, {NUMBER}){{{rest}}}"
    faults = {
        "a value needs a metric": count and not result.metric,
        "only what is not yet run has a reason": count and result.reason,
        "what is not yet run has no error, seeds, minutes or hardware": not count and any(measured),
        f"{count} values need as many seeds": len(result.seeds) not in (0, count),
        f"{count} values need one error or as many": len(result.error) not in (0, 1, count),
        "minutes must be like `12`, `under 7`, `8 to 16`, or one number a value": result.minutes
        and not re.fullmatch(minutes, result.minutes),
    }
    for rule, broken in faults.items():
        if broken:
            raise UserError(f"{path}: {rule}", field=path)


def render(results: dict[Path, tuple[Result, ...]]) -> str:
    """Return the page: a table for each family, then the list of what is not yet run."""
    parts = [INTRODUCTION]
    for family, title in FAMILIES.items():
        rows = [
            row(path, result)
            for path, block in results.items()
            for result in block
            if path.parts[0] == family and result.value
        ]
        if rows:
            parts.append(f"## {title}\n\n{table(rows)}")
    waiting = [
        f"- {link(path, result)}: {'; '.join(filter(None, remarks(result)))}.\n"
        for path, block in results.items()
        for result in block
        if not result.value
    ]
    if waiting:
        parts.append("## Not yet run to their ends\n\n" + "".join(waiting))
    return "\n".join(parts)


def row(path: Path, result: Result) -> tuple[str, ...]:
    """Return the cells of a result, in the order of COLUMNS."""
    errors = result.error if len(result.error) != 1 else result.error * len(result.value)
    spread = [f"±{error}" for error in errors] or [""] * len(result.value)
    pairs = zip(result.value, spread, strict=True)
    value = ", ".join(f"{number}{error}" for number, error in pairs)
    if len(result.seeds) > 1:
        value += f" (seeds {', '.join(map(str, result.seeds))})"
    texts = (result.baseline, result.published, result.minutes, result.hardware)
    return (link(path, result), result.data, result.metric, value, *texts)


def remarks(result: Result) -> tuple[str, ...]:
    """Return what is known of a config that is not yet run."""
    published = f"published: {cited(result.published)}" if result.published else ""
    return result.data, result.metric, result.reason, published


def link(path: Path, result: Result) -> str:
    """Link to the config, followed by the options of the command."""
    options = result.command.partition(path.stem)[2].strip()
    name = f"[{path.stem}](../configs/{path.as_posix()})"
    return f"{name} `{options}`" if options else name


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Format rows of cells as a Markdown table."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    return "".join(f"| {' | '.join(cited(cell) or '–' for cell in line)} |\n" for line in lines)


def cited(text: str) -> str:
    """Make arXiv numbers links, and keep `|` from ending a cell."""
    text = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)
    return text.replace("|", r"\|")


if __name__ == "__main__":
    sys.exit(main())
