"""Detect whether a column of a table holds numbers, dates or categories; refuse other columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from genjax.data.images.decode import note
from genjax.data.tables.codec import Columns
from genjax.data.tables.dates import ISO, DateColumn, compact_dates, dates
from genjax.data.tables.units import read_numbers
from genjax.errors import UserError

# No leading zeros: those mark postal codes and other names made of digits.
NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
LARGEST = 1e18  # its square fits in float32
EXACT = 2**53  # larger whole numbers are not distinguished
INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
FEW = 20  # up to this many distinct values may be categories, however few rows there are

DIGITS = r"[+-]?(?:\d{1,3}(?:[, '\u00a0\u202f]\d{3})+|\d{1,3}(?:\.\d{3})+(?=,)|\d+)(?:[.,]\d+)?"
MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
FORMS = {
    "a number with a separator of thousands": re.compile(
        r"[+-]?\d{1,3}(?:[, '\u00a0\u202f]\d{3})+(?:\.\d+)?|[+-]?[1-9]\d{0,2}(?:\.\d{3}){2}"
    ),
    "a number with a decimal comma": re.compile(
        r"[+-]?(?:\d+|\d{1,3}(?:[. '\u00a0\u202f]\d{3})+),\d+"
    ),
    "a number with a unit": re.compile(
        rf"[+-]?\s*(?:[^\W\d_]{{0,3}}[$€£¥₹]|[A-Z]{{3}}\s)\s*{DIGITS}|"  # $3.50, US$ 4, EUR 5
        rf"{DIGITS}\s*[%‰$€£¥₹°]\s*\w?|"  # 7 %, 20 °C
        rf"{DIGITS}\s+[^\W\d_]{{1,12}}[.²³]?|"  # 12 kg
        rf"\({DIGITS}\)"
    ),
    "a date that is not ISO, such as 2023-04-23": re.compile(
        rf"\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}.*|\d{{4}}[./]\d{{1,2}}[./]\d{{1,2}}.*|\d{{4}}-\d-.*|"
        rf"\d{{1,2}}[\s-]{MONTH}[\s-]\d{{2,4}}.*|{MONTH}\s\d{{1,2}},?\s\d{{4}}.*|"
        rf"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s.*\d{{4}}.*|\d{{1,2}}(?::\d\d){{1,2}}\s?[ap]\.?m\.?",
        re.IGNORECASE,
    ),
}
# "12kg", but also "4WD": the number of distinct values decides.
GLUED = re.compile(rf"{DIGITS}[^\W\d_]{{1,12}}")
CURES = {
    "a date that is not ISO, such as 2023-04-23": "write it like this",
    "a number with a decimal comma": "write it with a point",
}

Cells = Sequence[str | None]


@dataclass(frozen=True)
class Typed:
    """The typed columns of a table.

    Attributes:
      columns: numeric columns and columns of categories, in the order of the table.
      dates: date columns that were split into numeric columns.
    """

    columns: Columns
    dates: tuple[DateColumn, ...] = ()

    @property
    def alike(self) -> dict[str, int]:
        """Number of categories of each column that differ from others only in blanks and case."""
        found = {}
        for name, cells in self.columns.items():
            if cells.dtype.kind != "f":
                values = {cell for cell in cells if cell is not None}
                found[name] = len(values) - len(
                    {" ".join(value.casefold().split()) for value in values}
                )
        return found


class Typing:
    """Detects the types of the columns of a table.

    Attributes:
      title: name of the table in messages.
      numeric: columns that must hold numbers.
      categorical: columns of categories, whatever they look like.
      words: columns whose stored type is not numeric.
    """

    def __init__(
        self,
        title: str,
        numeric: Collection[str],
        categorical: Collection[str],
        words: Collection[str],
    ) -> None:
        self.title = title
        self.numeric = frozenset(numeric)
        self.categorical = frozenset(categorical)
        self.words = frozenset(words)

    def of(self, name: str, cells: Cells) -> tuple[Columns, DateColumn | None]:
        """Convert a column of the table to numeric columns or categories; dates give several.

        Args:
          name: name of the column.
          cells: cells [N]; None where one is missing.

        Returns:
          The columns by name, and how a date was split, or None.

        Raises:
          UserError: the column has no value, or a value of another type; the message names row and
            column.
        """
        known = [cell for cell in cells if cell is not None]
        if not known:
            raise UserError(
                f"column {name!r} of {self.title} holds no value; leave it out (drop)", self.title
            )
        if name in self.categorical and name not in self.numeric:
            return {name: np.array(cells, object)}, None
        compact = None if name in self.numeric else compact_dates(name, cells)
        if compact is not None:
            return compact[1], compact[0]
        plain = read_numbers(cells)
        if plain is not None:
            unit = f" with the unit {plain.unit!r}" if plain.unit else ""
            note(f"{self.title}: column {name!r} holds numbers{unit}, such as {known[0]!r}")
            cells = plain.cells
            known = [cell for cell in cells if cell is not None]
        numbers = sum(map(bool, map(NUMBER.fullmatch, map(str.strip, known))))
        infinite = (
            sum(map(bool, map(INFINITE.fullmatch, map(str.strip, known))))
            if numbers < len(known)
            else 0
        )
        if name in self.numeric or (
            (name not in self.words or plain is not None) and 2 * (numbers + infinite) > len(known)
        ):
            return {name: self._convert_numbers(name, cells, numbers, len(known))}, None
        found = dates(name, cells, self.title)
        if found is not None:
            return found[1], found[0]
        self._check_categories(name, known)
        return {name: np.array(cells, object)}, None

    def _convert_numbers(self, name: str, cells: Cells, numbers: int, known: int) -> np.ndarray:
        if numbers < known:
            row, cell = next(
                (i, c)
                for i, c in enumerate(cells, 1)
                if c is not None and not NUMBER.fullmatch(c.strip())
            )
            form = _form(cell.strip())
            raise UserError(
                f"row {row:,} of {self.title} has {cell!r}{f' ({form})' if form else ''} in "
                f"{name!r}, where "
                f"{numbers:,} of {known:,} values are numbers: fix it, or list it in missing, or "
                "the column in "
                "categorical",
                self.title,
            )
        values = np.array([np.nan if cell is None else float(cell) for cell in cells])
        if (large := np.abs(values) > LARGEST).any():
            row = int(large.argmax())
            raise UserError(
                f"row {row + 1:,} of {self.title} has {cells[row]!r} in {name!r}: numbers must be "
                f"<= {LARGEST:g}",
                self.title,
            )
        for row in np.flatnonzero(np.abs(values) >= EXACT).tolist():
            if WHOLE.fullmatch((cells[row] or "").strip()):
                raise UserError(
                    f"row {row + 1:,} of {self.title} has {cells[row]!r} in {name!r}: whole "
                    "numbers above 2^53 are not "
                    "distinguished; leave the column out (drop), or list it in categorical",
                    self.title,
                )
        return values

    def _check_categories(self, name: str, known: Sequence[str]) -> None:
        """Refuse numbers and dates in other forms, ids and free text, which are not categories."""
        values = sorted({cell.strip() for cell in known})
        has = (
            f"column {name!r} of {self.title} holds {len(values):,} different values in "
            f"{len(known):,} rows"
        )
        or_else = "leave the column out (drop), or list it in categorical"
        rest = [
            value for value in values if not NUMBER.fullmatch(value) and not ISO.fullmatch(value)
        ]
        for form, pattern in FORMS.items():
            example = next((value for value in rest if pattern.fullmatch(value)), "")
            if example and 2 * sum(_form(value) is not None for value in rest) > len(rest):
                cure = CURES.get(
                    form, "write plain numbers, and the unit, if any, in the name of the column"
                )
                raise UserError(
                    f"{has}, such as {example!r}, {form}: {cure}; or {or_else}", self.title
                )
        if len(values) <= FEW:
            return
        if 2 * sum(GLUED.fullmatch(value) is not None for value in rest) > len(rest):
            raise UserError(
                f"{has}, such as {values[0]!r}, a number with a unit: write plain numbers, and the "
                "unit in the name "
                f"of the column; or {or_else}",
                self.title,
            )
        if 2 * len(values) > len(known):
            raise UserError(
                f"{has}, such as {values[0]!r}: an id or free text has nothing to learn from, "
                "leave it out (drop); "
                "if they are categories, list the column in categorical",
                self.title,
            )


def _form(cell: str) -> str | None:
    """Describe a value that is a number or date in another form; None for other values."""
    return next((form for form, pattern in FORMS.items() if pattern.fullmatch(cell)), None)
