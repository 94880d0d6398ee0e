"""Convert numbers with units and thousands separators to plain numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

BLANK = r"[ \u00a0\u202f]"
NUMBER = rf"\d+(?:(?:{BLANK}|[.,'])\d+)*"
WRITTEN = re.compile(
    rf"(?P<open>\()?(?P<sign>[+-]?){BLANK}*(?P<before>[^\W\d_]{{0,3}}[$€£¥₹]|[A-Z]{{3}}{BLANK})?"
    rf"{BLANK}*(?P<inner>[+-]?)(?P<number>{NUMBER})"
    rf"(?P<gap>{BLANK}*)(?P<after>[%‰$€£¥₹]|°{BLANK}?\w?|[^\W\d_]{{1,12}}[.²³]?)?(?P<close>\))?"
)
ENGLISH = re.compile(r"\d+(?:\.\d+)?|\d{1,3}(?:[, '\u00a0\u202f]\d{3})+(?:\.\d+)?")
EUROPEAN = re.compile(r"\d+(?:,\d+)?|\d{1,3}(?:[. '\u00a0\u202f]\d{3})+(?:,\d+)?")
PLAIN = re.compile(r"\d+(?:\.\d+)?")
SINGLE = re.compile(r"0\d+")  # a name made of digits, such as a postal code
FEW = 20  # up to this many distinct values may be names, such as 2WD and 4WD


class Plain(NamedTuple):
    """A column of numbers.

    Attributes:
      cells: plain numbers; None where one is missing.
      unit: unit of all numbers; "" for none.
    """

    cells: list[str | None]
    unit: str


def read_numbers(cells: Sequence[str | None]) -> Plain | None:
    """Return the numbers of a column whose values all have the same unit and notation; None for
    other columns and for plain numbers.

    "1,234" is read as a thousand, because no notation always has exactly three decimals.
    """
    found = [None if cell is None else WRITTEN.fullmatch(cell.strip()) for cell in cells]
    known = [match for cell, match in zip(cells, found, strict=True) if cell is not None]
    matches = [match for match in known if match is not None]
    if len(matches) < len(known) or not matches:
        return None
    units = {_unit(match) for match in matches}
    numbers = [match["number"] for match in matches]
    glued = any(m["after"] and m["after"][0].isalpha() and not m["gap"] for m in matches)
    plain = all(PLAIN.fullmatch(number) for number in numbers)
    if len(units) > 1 or (glued and len({match[0] for match in matches}) <= FEW):
        return None
    if any(bool(match["open"]) != bool(match["close"]) for match in matches):
        return None
    if any(match["sign"] and match["inner"] for match in matches):
        return None
    if any(map(SINGLE.match, numbers)):
        return None
    (unit,) = units
    if not unit and plain and not any(match["open"] for match in matches):
        return None
    for form, point in ((ENGLISH, "."), (EUROPEAN, ",")):
        if all(form.fullmatch(number) for number in numbers):
            written = [None if match is None else _plain(match, point) for match in found]
            return Plain(written, unit)
    return None


def _unit(match: re.Match[str]) -> str:
    before, after = ((match[name] or "").strip() for name in ("before", "after"))
    word = after.casefold().removesuffix("s") if len(after) > 3 else after  # one year, two years
    return f"{before}{' ' if before and word else ''}{word}"


def _plain(match: re.Match[str], point: str) -> str:
    whole, _, part = match["number"].partition(point)
    digits = re.sub(r"\D", "", whole) + (f".{part}" if part else "")
    negative = "-" in (match["sign"], match["inner"]) or bool(match["open"])
    return f"-{digits}" if negative else digits
