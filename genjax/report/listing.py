"""List the runs of a folder by what the ends of their files say, as whole files may be large."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from etils import epath

from genjax.report.collect import PARTS, find_holder, find_runs, to_number
from genjax.runs.writers import parse_rows

DEPTH = 3  # levels of folders that are looked into
MOST = 500  # runs that are listed
TAIL = 2**16  # bytes that are read of the rows
# Files that change while a run is trained or evaluated.
CHANGING = (*PARTS, "eval.json", "codec.json", "samples")


@dataclass(frozen=True)
class Entry:
    """A run in the list.

    Attributes:
      name: its path below the folder.
      run_dir: its directory.
      holder: the process that trains it; None if none does.
      step: of its last row; None without one.
      loss: of its last row with one; NaN without.
      changed: when its files last changed, in seconds.
    """

    name: str
    run_dir: epath.Path
    holder: str | None
    step: int | None
    loss: float
    changed: float


def list_runs(folder: epath.Path) -> list[Entry]:
    """Return the newest runs in a folder, the one that changed last first."""
    found = [_describe(folder, one) for one in find_runs(folder, DEPTH)]
    return sorted(found, key=lambda entry: -entry.changed)[:MOST]


def _describe(folder: epath.Path, run_dir: epath.Path) -> Entry:
    rows = parse_rows(_read_tail(run_dir / "metrics.jsonl"))
    losses = [to_number(row["loss"]) for row in rows if "loss" in row]
    return Entry(
        name=str(run_dir.relative_to(folder)),
        run_dir=run_dir,
        holder=find_holder(run_dir),
        step=rows[-1]["step"] if rows else None,
        loss=next((loss for loss in reversed(losses) if not math.isnan(loss)), math.nan),
        changed=max((time for _, time, _ in stamp(run_dir)), default=0.0),
    )


def _read_tail(path: epath.Path) -> bytes:
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return bytes(file.read())
    return b""


def stamp(run_dir: epath.Path) -> tuple[tuple[str, float, int], ...]:
    """Return name, time and size of the files of a run that change: if these have not changed, its
    page has not.
    """
    found = []
    for name in CHANGING:
        with contextlib.suppress(OSError):
            stat = os.stat(run_dir / name)
            found.append((name, stat.st_mtime, stat.st_size))
    return tuple(found)


def stamp_all(run_dirs: Sequence[epath.Path]) -> tuple[object, ...]:
    """Return the stamps of several runs, with who trains them."""
    return tuple((str(one), find_holder(one), stamp(one)) for one in run_dirs)
