"""Summarise the evaluations of a run: a line for each, the best so far, and a conclusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from genjax.evaluation.judge import default_split
from genjax.experiment import Keep
from genjax.runs.screen import format_numbers, format_time
from genjax.runs.setup import Setup
from genjax.serial.json_text import Json

MOST = 6  # most numbers in a line
# Alarms start after this fraction of a run and after this many steps.
LATE, EARLIEST = 0.25, 100
PATIENCE = 3  # consecutive training rows that must look collapsed


class Summary:
    """Remembers the evaluations of a run.

    Args:
      keep: options that say which evaluation is best.
      key_numbers: names of the family's main numbers, shown first.
      held_out: description of the split, such as "test, 142 examples".
      rows: rows of ``metrics.jsonl`` so far, so that a resumed run knows its best.
    """

    def __init__(
        self,
        keep: Keep,
        key_numbers: Sequence[str],
        held_out: str,
        rows: Sequence[Mapping[str, Json]] = (),
    ) -> None:
        self._keep, self._held_out = keep, held_out
        self._first = tuple(dict.fromkeys(("loss", *filter(None, [keep.best]), *key_numbers)))
        self._best: tuple[int, float] | None = None
        self._last: tuple[int, Mapping[str, float]] | None = None
        for row in rows:
            if row["split"] == "eval":
                numbers = {k: v for k, v in row.items() if isinstance(v, int | float)}
                self._remember(int(numbers.pop("step", 0)), numbers)

    def take(self, step: int, total: int, numbers: Mapping[str, float]) -> str:
        """Remember an evaluation and return its line."""
        is_best = self._remember(step, numbers)
        line = "  ".join([f"held out {step}/{total}", *self._choose(numbers)])
        if is_best:
            return f"{line}  (the best {self._keep.best} so far)"
        return line if self._best is None else f"{line}  (best {self._describe_best()})"

    def conclude(self, steps: int = 0, seconds: float = 0.0) -> tuple[str, ...]:
        """Return the last lines of a run: how long it took, and its results on held-out data.

        Args:
          steps: number of steps since the start or since resuming.
          seconds: time that they took.
        """
        lines = [f"trained {steps:,} steps in {format_time(seconds)}"] if steps else []
        if self._last is None:
            return (*lines, "nothing was evaluated on held-out data yet (every.evaluate)")
        step, numbers = self._last
        line = "  ".join([f"held out ({self._held_out}, step {step})", *self._choose(numbers)])
        lines.append(line)
        if self._best is not None and self._best[0] != step:
            lines.append(f"the best: {self._describe_best()}")
        return tuple(lines)

    def _remember(self, step: int, numbers: Mapping[str, float]) -> bool:
        """Remember an evaluation; return whether it is the best."""
        self._last = step, dict(numbers)
        value = numbers.get(self._keep.best or "", math.nan)
        sign = -1 if self._keep.larger_is_better else 1
        if not math.isfinite(value):
            return False
        if self._best is not None and sign * value >= sign * self._best[1]:
            return False
        self._best = step, value
        return True

    def _describe_best(self) -> str:
        assert self._best is not None
        step, value = self._best
        return f"{self._keep.best} {value:.5g} at step {step}"

    def _choose(self, numbers: Mapping[str, float]) -> list[str]:
        """Return the first numbers, the family's before those of evaluators."""
        order = dict.fromkeys((*(n for n in self._first if n in numbers), *numbers))
        shown = format_numbers((name, numbers[name]) for name in list(order)[:MOST])
        more = len(order) - len(shown)
        return [*shown, f"and {more} more"] if more > 0 else shown


def make_summary(setup: Setup, rows: list[dict[str, Json]]) -> Summary:
    """Build the summary of a run with the rows so far."""
    family, splits = setup.family, setup.data.splits
    shown = tuple(dict.fromkeys((*family.key_numbers, *family.evaluated_as.key_numbers)))
    held_out = ""
    if setup.experiment.every.evaluate:
        split = default_split(splits)
        held_out = f"{split}, {len(splits[split]):,} examples"
    return Summary(setup.experiment.keep, shown, held_out, rows)


class Alarms:
    """Warns once if a model looks collapsed, and again if it recovers and collapses once more.

    One evaluation or ``PATIENCE`` consecutive training rows are enough. Every model looks collapsed
    at first, so rows before the fraction ``LATE`` of the run are ignored.

    Args:
      total_steps: number of steps of the run.
    """

    def __init__(self, total_steps: int) -> None:
        self._from = max(EARLIEST, math.ceil(LATE * total_steps))
        self._seen: dict[tuple[str, str], int] = {}
        self.standing: dict[str, str] = {}  # current warnings by sign

    def check(self, step: int, split: str, found: Mapping[str, str]) -> tuple[str, ...]:
        """Take the signs of collapse in a row; return the warnings to print.

        Args:
          step: step of the row.
          split: "train" or "eval".
          found: sentences about what looks collapsed, by sign, such as the name of a number.
        """
        if step < self._from:
            return ()
        for key in [key for key in self._seen if key[0] == split and key[1] not in found]:
            del self._seen[key]
            self.standing.pop(key[1], None)
        new = []
        for sign, sentence in found.items():
            self._seen[split, sign] = self._seen.get((split, sign), 0) + 1
            if self._seen[split, sign] >= (1 if split == "eval" else PATIENCE):
                if sign not in self.standing:
                    new.append(sentence)
                self.standing[sign] = sentence
        return tuple(new)
