"""Keep what a run measured in docs/runs, where a result of a config names it.

    python -m benchmarks.kept_runs runs/vae_digits ...       # write docs/runs/vae_digits/
    python -m benchmarks.kept_runs runs/vae_digits --name vae_digits_seed_1

A folder has the numbers of the run's eval.json with their protocols, and its metrics.jsonl, thinned
to at most ``ROWS`` rows of each split. Of absolute paths the last part is kept. A result states
where its value is from: ``kept: vae_digits:loss``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.report.published import Result

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "runs"
ROWS = 40  # of each split that are kept
DIGITS = 5  # of each number in the rows
SIZE = 50_000  # bytes of a folder at most
ABSOLUTE = re.compile(r"(?<![\w.])/(?:[\w.-]+/)+([\w.-]+)")


def keep(run_dir: Path, folder: Path) -> None:
    """Write what is kept of a run into a folder.

    Raises:
      UserError: the run was not evaluated, or what is kept is too large.
    """
    try:
        numbers = json.loads((run_dir / "eval.json").read_text(encoding="utf-8"))
        lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(
            f"run_dir {run_dir} has no {Path(error.filename).name}", "run_dir"
        ) from None
    rows = "".join(json.dumps(row) + "\n" for row in thin(json.loads(line) for line in lines))
    numbers.pop("judged", None)  # the same numbers, by call of the command
    text = json.dumps(numbers, indent=2, ensure_ascii=False) + "\n"
    texts = {"eval.json": ABSOLUTE.sub(r"\1", text), "metrics.jsonl": rows}
    if (size := sum(map(len, texts.values()))) > SIZE:
        raise UserError(f"run_dir {run_dir} has {size:,} bytes to keep, over {SIZE:,}", "run_dir")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def thin(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Thin out rows evenly, the first and last of each split kept, and round their numbers."""
    splits: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        short = {k: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for k, v in row.items()}
        splits.setdefault(row["split"], []).append(short)
    kept = []
    for found in splits.values():
        places = np.unique(
            np.linspace(0, len(found) - 1, min(len(found), ROWS)).round().astype(int)
        )
        kept += [found[place] for place in places]
    return sorted(kept, key=lambda row: row["step"])


def read_value(folder: Path, name: str) -> float:
    """Read a number of a kept run.

    Raises:
      UserError: the folder or the number is not there.
    """
    path = folder / "eval.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))[name])
    except (FileNotFoundError, KeyError):
        raise UserError(
            f"kept must name a number in docs/runs, got {path}: {name}", "kept"
        ) from None


def agrees(result: Result, root: Path = FOLDER) -> bool:
    """Return whether a result's values are the kept numbers, rounded; shares may be in percent."""
    return all(
        any(
            round(Decimal(scale * read_value(root / folder, name)), _places(value)) == value
            for scale in (1, 100)
        )
        for value, (folder, name) in zip(result.value, result.kept, strict=False)
    )


def _places(value: Decimal) -> int:
    return -int(value.as_tuple().exponent)


def main() -> int:
    """Keep runs; return the exit code: 2 for a fault."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("run_dirs", type=Path, nargs="+")
    parser.add_argument("--name", help="of the folder, for one run (default: the run's)")
    given = parser.parse_args()
    if given.name and len(given.run_dirs) > 1:
        parser.error("name is for one run")
    try:
        for run_dir in given.run_dirs:
            keep(run_dir, FOLDER / (given.name or run_dir.name))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
