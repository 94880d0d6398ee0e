"""Prices of runs, given by the user: per million tokens read and drawn, and per second."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genjax.errors import UserError

OTHERS = "*"  # the name of all runs without a price of their own
PARTS = ("in", "out", "second")
_PRICE = re.compile(r"(?P<run>[^=]+)=(?P<prices>[^=]+)")


@dataclass(frozen=True)
class Price:
    """A price: per million tokens read, per million tokens drawn, and per second of an answer."""

    read: float = 0.0
    drawn: float = 0.0
    second: float = 0.0

    def count(self, tokens_in: int, tokens_out: int, milliseconds: float) -> float:
        """Return the cost of requests."""
        tokens = self.read * tokens_in + self.drawn * tokens_out
        return tokens / 1e6 + self.second * milliseconds / 1e3


def read_prices(given: Sequence[str]) -> dict[str, Price]:
    """Read prices such as ``gpt=0.5,1.5`` or ``*=0.5,1.5,0.001``, or JSON files of
    ``{"gpt": {"in": 0.5, "out": 1.5, "second": 0}}``; "*" is any other run.

    Raises:
      UserError: a price is not a number of at least 0, or a file cannot be read.
    """
    found: dict[str, Price] = {}
    for one in given:
        if match := _PRICE.fullmatch(one):
            parts = match["prices"].split(",")
            if not 2 <= len(parts) <= len(PARTS):
                raise UserError(
                    f"price must be RUN=IN,OUT or RUN=IN,OUT,SECOND, got {one}", "price"
                )
            found[match["run"].strip()] = Price(*(_read_number(part, one) for part in parts))
        else:
            found |= _read_file(one)
    return found


def _read_file(path: str) -> dict[str, Price]:
    try:
        read = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        rule = "RUN=IN,OUT, RUN=IN,OUT,SECOND or a JSON file of prices"
        raise UserError(f"price must be {rule}, got {path!r:.100}", "price") from None
    if not isinstance(read, Mapping):
        raise UserError(f"price: {path} must be an object of runs, got {read!r:.60}", "price")
    found = {}
    for name, one in read.items():
        if not isinstance(one, Mapping) or not set(one) <= set(PARTS):
            rule = f"an object of {', '.join(PARTS)}"
            raise UserError(f"price of {name!r:.60} must be {rule}, got {one!r:.60}", "price")
        found[str(name)] = Price(*(_read_number(one.get(part, 0), str(name)) for part in PARTS))
    return found


def _read_number(value: object, where: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not 0 <= number < 1e12:
        raise UserError(f"price of {where!r:.60} must be at least 0, got {value!r:.60}", "price")
    return number


def find_price(prices: Mapping[str, Price], run: str) -> Price | None:
    """Return the price of a run by its name; None if there is none."""
    return prices.get(run, prices.get(OTHERS))
