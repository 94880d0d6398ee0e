"""Ranges that a search draws values from: ``low..high`` or ``low..high:log``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genjax.errors import UserError

PATTERN = re.compile(r"(?P<low>[^.]\S*?)\.\.(?P<high>[^.:]\S*?)(?P<log>:log)?")
DIGITS = 4  # significant ones of a drawn number, so that names are short


@dataclass(frozen=True)
class Range:
    """A range of numbers, with both ends.

    Attributes:
      low: lower end.
      high: upper end.
      log: whether the logarithm is uniform.
    """

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Any, name: str) -> float:
        """Return the number that a trial of Optuna suggests, rounded to ``DIGITS``."""
        if isinstance(self.low, int):
            return int(trial.suggest_int(name, self.low, self.high, log=self.log))
        found = float(trial.suggest_float(name, self.low, self.high, log=self.log))
        return min(max(float(f"{found:.{DIGITS - 1}e}"), self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{':log' if self.log else ''}"


def is_range(words: Sequence[str]) -> bool:
    """Return whether words look like a range."""
    return len(words) == 1 and PATTERN.fullmatch(words[0]) is not None


def read_range(word: str, kinds: set[Any], name: str) -> Range:
    """Return the range that a word names.

    Args:
      word: the word.
      kinds: types that the field takes.
      name: dotted name of the field.

    Raises:
      UserError: the field takes no numbers, or the ends are wrong.
    """
    found = PATTERN.fullmatch(word)
    kind = float if float in kinds else int if int in kinds else None
    if found is None or kind is None:
        raise UserError(f"{name} must be a number to have a range, got {word!r}", name)
    try:
        low, high = kind(found["low"]), kind(found["high"])
    except ValueError:
        what = "numbers" if kind is float else "whole numbers"
        raise UserError(
            f"{name} must have {what} as ends of its range, got {word!r}", name
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name} must have a range that rises, got {word!r}", name)
    log = found["log"] is not None
    if log and low <= 0:
        raise UserError(f"{name} must have a range above 0 with :log, got {word!r}", name)
    return Range(low, high, log)
