"""Write the output of a run: ``metrics.jsonl``, TensorBoard events, the screen, pictures and the
loss plot.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from genjax.data.charts import new_figure
from genjax.data.pictures import png_bytes
from genjax.machine import disk
from genjax.runs.screen import Status, choose_screen
from genjax.serial.json_text import Json

if TYPE_CHECKING:
    from genjax.runs.events import Events

Numbers = Mapping[str, float]


class Writers:
    """The writers of one run. ``active`` is False on all processes except the first: then nothing
    is written.

    Rows of ``metrics.jsonl`` after ``step``, from which the run continues, are removed. Earlier
    rows that a killed process has not written to TensorBoard are written there now.
    """

    def __init__(
        self,
        run_dir: epath.Path,
        step: int,
        total_steps: int,
        active: bool = True,
        quiet: bool = False,
    ):
        self._run_dir = run_dir
        self._active = active
        self._screen = choose_screen(total_steps) if active and not quiet else None
        if active:
            self._step = step
            self._metrics = run_dir / "metrics.jsonl"
            truncate_rows(self._metrics, step)
            self._file = self._metrics.open("a", encoding="utf-8")

    def __enter__(self) -> Writers:
        return self

    @functools.cached_property
    def _events(self) -> Events:
        """TensorBoard's files, with all rows so far.

        They are opened after the first step, which need not wait for the import.
        """
        from genjax.runs.events import Events

        events = Events(self._run_dir / "tensorboard", self._step)
        for row in read_rows(self._metrics):
            events.write_scalars(row.pop("step"), row.pop("split"), row)
        return events

    def __exit__(self, *_: Any) -> None:
        if self._active:
            self._file.close()
            self._events.close()
        if self._screen is not None:
            self._screen.close()

    def write_row(self, step: int, split: str, numbers: Numbers) -> None:
        """Write one row of numbers."""
        if not self._active:
            return
        events = self._events  # before this row is in the file
        self._file.write(json.dumps({"step": step, "split": split} | finite(numbers)) + "\n")
        self._file.flush()
        events.write_scalars(step, split, numbers)

    def flush(self) -> None:
        """Flush TensorBoard's files to disk."""
        if self._active:
            self._events.flush()

    def write_picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Write a picture, uint8 [H, W, C], to ``samples/step_NAME.png`` and to TensorBoard."""
        if not self._active:
            return
        path = self._run_dir / "samples" / f"{step:08d}_{name}.png"
        disk.write(path, png_bytes(image))
        self._events.write_picture(step, name, image)

    def show_picture(self, path: epath.Path) -> None:
        """Show a written picture in a notebook."""
        if self._screen is not None:
            self._screen.show_picture(path)

    def show_progress(self, status: Status) -> None:
        """Show the progress of the run."""
        if self._screen is not None:
            self._screen.show(status)

    def end_progress(self) -> None:
        """Leave the last progress where it is: what follows comes below it."""
        if self._screen is not None:
            self._screen.close()

    def report(self, *lines: str) -> None:
        """Print lines about normal events, unless the run is quiet."""
        if self._screen is not None:
            self.say_all(lines)

    def say(self, line: str) -> None:
        """Print a permanent line, above the bar on a terminal."""
        if self._screen is not None:
            self._screen.say(line)
        elif self._active:
            print(line, file=sys.stderr)

    def say_all(self, *lines: tuple[str, ...]) -> None:
        """Print several permanent lines."""
        for line in itertools.chain(*lines):
            self.say(line)


def finite(numbers: Numbers) -> dict[str, float | None]:
    """Convert numbers of any float type for JSON; NaN and infinity, which JSON lacks, become
    None.
    """
    return {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}


def read_rows(path: epath.Path) -> list[dict[str, Json]]:
    """Return the rows of a ``metrics.jsonl``."""
    return parse_rows(path.read_bytes()) if path.exists() else []


def parse_rows(content: bytes) -> list[dict[str, Json]]:
    """Parse lines as rows; invalid lines, such as one that a crash cut in half, are skipped."""
    rows = []
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and "split" in row:
            rows.append(row)
    return rows


def truncate_rows(path: epath.Path, step: int) -> None:
    """Remove the rows after ``step``."""
    kept = [json.dumps(row) + "\n" for row in read_rows(path) if row["step"] <= step]
    disk.write(path, "".join(kept))


def plot_losses(run_dir: epath.Path) -> epath.Path:
    """Draw ``plots/loss.png``: the loss of training and evaluation over the steps."""
    rows = read_rows(run_dir / "metrics.jsonl")
    figure = new_figure(6, 4, dpi=100)
    axes = figure.add_subplot()
    for split in ("train", "eval"):
        points = [
            (r["step"], r["loss"])
            for r in rows
            if r["split"] == split and r.get("loss") is not None
        ]
        if points:
            alone = split == "eval" or len(points) == 1  # a line needs two points
            axes.plot(
                *zip(*points, strict=True), label=split, marker="o" if alone else None, markersize=3
            )
    axes.set(xlabel="step", ylabel="loss")
    if axes.lines:
        axes.legend()
    axes.grid(alpha=0.3)
    path = run_dir / "plots" / "loss.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk.write_atomically(path) as part, part.open("wb") as file:
        figure.savefig(file, format="png", dpi=120)
    return path
