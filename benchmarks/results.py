"""Write docs/results.md from the results that the docstrings of the configs state.

    python -m benchmarks.results             # write the page
    python -m benchmarks.results --check     # exit with 1 if the page is not current

``genjax.report.published`` says how a docstring states a result.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from genjax.errors import UserError
from genjax.report.published import NOT_RUN, Result, parse, read_note

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
PLANS = ROOT / "docs" / "plans.json"
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
name of a config belong to the command. A number that is a link is read from the run's own
measurements, kept under `docs/runs`. What is {NOT_RUN} is listed at the end.
"""
PLANNED = """\
## For machines that were not at hand

The memory of each device and the hours, a lower bound, are those of the [plans](plans.md). Beside
each config stands one for a small machine, whose results are above.

| config | data | published | machine | memory | hours | small form |
| --- | --- | --- | --- | --- | --- | --- |
"""


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
    results = parse(read_note(path.read_text(encoding="utf-8")), str(path))
    if not results:
        raise UserError(f"{path} has no block `Result:` in its docstring", field=str(path))
    return results


def render(results: dict[Path, tuple[Result, ...]]) -> str:
    """Return the page: a table for each family, one of plans, then what is not yet run."""
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
    rest = [(p, result) for p, block in results.items() for result in block if not result.value]
    planned = [plan_line(path, result) for path, result in rest if result.planned]
    if planned:
        parts.append(PLANNED + "".join(planned))
    waiting = [
        f"- {link(path, result)}: {'; '.join(filter(None, remarks(result)))}.\n"
        for path, result in rest
        if not result.planned
    ]
    if waiting:
        parts.append("## Not yet run to their ends\n\n" + "".join(waiting))
    return "\n".join(parts)


def row(path: Path, result: Result) -> tuple[str, ...]:
    """Return the cells of a result, in the order of COLUMNS."""
    errors = result.error if len(result.error) != 1 else result.error * len(result.value)
    spread = [f"±{error}" for error in errors] or [""] * len(result.value)
    pairs = zip(result.value, spread, strict=True)
    cells = [f"{number}{error}" for number, error in pairs]
    if result.kept:
        folders = (folder for folder, _ in result.kept)
        cells = [f"[{cell}](runs/{at}/eval.json)" for cell, at in zip(cells, folders, strict=True)]
    value = ", ".join(cells)
    if len(result.seeds) > 1:
        value += f" (seeds {', '.join(map(str, result.seeds))})"
    texts = (result.baseline, result.published, result.minutes, result.hardware)
    return (link(path, result), result.data, result.metric, value, *texts)


def plan_line(path: Path, result: Result) -> str:
    """Format the line of a config that needs a machine that was not at hand.

    Raises:
      UserError: docs/plans.json has no plan of its whole form.
    """
    rows = json.loads(PLANS.read_text(encoding="utf-8"))["rows"]
    for plan in rows:
        if (plan["config"], plan["on"]) == (path.stem, result.planned) and not plan["instead"]:
            break
    else:
        raise UserError(f"{path}: {PLANS.name} has no plan on {result.planned}", field=str(path))
    memory = f"{plan['memory']['needed'] / 1e9:.3g} GB"
    cells = (result.data, cited(result.published) or "–", result.planned)
    line = (link(path, result), *cells, memory, f"{plan['hours']:.2g}", f"`{result.sibling}`")
    return f"| {' | '.join(line)} |\n"


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
