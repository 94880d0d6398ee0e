"""Convert ISO dates and times to numeric columns: days, seconds and fractions, each of which
float32 represents exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from genjax import checks
from genjax.errors import UserError

CLOCK = r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:[.,](\d{1,9}))?)?"
ZONE = r"(Z| ?UTC| ?[+-]\d\d(?::?\d\d)?)?"
ISO = re.compile(rf"(\d{{4}}-\d\d-\d\d)(?:([T ]){CLOCK}{ZONE})?|{CLOCK}{ZONE}", re.ASCII)
# Days in three centuries.
COMPACT = re.compile(r"(?:1[89]|20|21)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", re.ASCII)
MICRO = 6  # digits of a fraction in one number; further digits form another
DAY = 86_400


@checks.frozen
class DateColumn:
    """A column of dates, times or both, split into a numeric column for each part.

    The first part has the name of the column. A zone that differs between rows becomes a column of
    categories.

    Attributes:
      name: name of the column.
      between: text between date and time; "" for a date only, None for a time only.
      seconds: whether times are written with seconds.
      digits: number of digits after the decimal point of the seconds.
      zone: zone of all times as written; None if it differs between rows.
      compact: whether dates are written without hyphens.
    """

    name: str
    between: str | None = ""
    seconds: bool = False
    digits: int = 0
    zone: str | None = ""
    compact: bool = False

    @property
    def parts(self) -> dict[str, str]:
        """Name of the column of each part."""
        kinds = [] if self.between is None else ["day"]
        kinds += [] if self.between == "" else ["time"]
        kinds += ["fraction"] if self.digits else []
        kinds += ["rest"] if self.digits > MICRO else []
        kinds += ["zone"] if self.zone is None else []
        return {
            kind: f"{self.name} ({kind})" if number else self.name
            for number, kind in enumerate(kinds)
        }

    def format(self, columns: Mapping[str, np.ndarray]) -> list[str]:
        """Format the dates [N] of columns of parts as in the file; "" where one is missing."""
        values = {kind: columns[name] for kind, name in self.parts.items()}
        numbers = [part for kind, part in values.items() if kind != "zone"]
        gone = np.isnan(np.stack(numbers)).any(0)
        texts = [""] * len(gone)
        if "day" in values:
            # Python's dates have the years 1 to 9999.
            days = np.clip(np.where(gone, 0, values["day"]), -719_162, 2_932_896)
            texts = np.datetime_as_string(np.rint(days).astype("datetime64[D]")).tolist()
            texts = [text.replace("-", "") for text in texts] if self.compact else texts
        if "time" in values:
            clock = self._format_time(values, gone)
            texts = [
                f"{text}{self.between or ''}{time}" for text, time in zip(texts, clock, strict=True)
            ]
        if "zone" in values:
            gone = gone | np.array([zone is None for zone in values["zone"]])
            texts = [f"{text}{zone}" for text, zone in zip(texts, values["zone"], strict=True)]
        elif self.zone:
            texts = [text + self.zone for text in texts]
        return ["" if missing else text for text, missing in zip(texts, gone, strict=True)]

    def _format_time(self, values: Mapping[str, np.ndarray], gone: np.ndarray) -> list[str]:
        unit = 1 if self.seconds else 60
        found = []
        limits = {
            "time": DAY // unit,
            "fraction": 10 ** min(self.digits, MICRO),
            "rest": 10 ** (self.digits - MICRO),
        }
        whole = {
            kind: np.clip(np.rint(np.where(gone, 0, values[kind])), 0, limit - 1)
            .astype(np.int64)
            .tolist()
            for kind, limit in limits.items()
            if kind in values
        }
        for row, count in enumerate(whole["time"]):
            minutes, second = divmod(count, 60) if self.seconds else (count, 0)
            text = f"{minutes // 60:02d}:{minutes % 60:02d}" + (
                f":{second:02d}" if self.seconds else ""
            )
            if "fraction" in whole:
                text += f".{whole['fraction'][row]:0{min(self.digits, MICRO)}d}"
            if "rest" in whole:
                text += f"{whole['rest'][row]:0{self.digits - MICRO}d}"
            found.append(text)
        return found


def dates(
    name: str, cells: Sequence[str | None], title: str
) -> tuple[DateColumn, dict[str, np.ndarray]] | None:
    """Parse a column of ISO dates or times; return it with the columns of its parts, or None if no
    cell is one.

    Args:
      name: name of the column.
      cells: cells of the column; None where one is missing.
      title: name of the table in messages.

    Raises:
      UserError: most cells but not all are dates or times, a date does not exist, or only some
        cells have a time.
    """
    forms = {cell: None if cell is None else ISO.fullmatch(cell.strip()) for cell in set(cells)}
    matches = [forms[cell] for cell in cells]
    known = sum(cell is not None for cell in cells)
    if 2 * sum(match is not None for match in matches) <= known:
        return None
    parts_of = {match: match.groups() for match in set(matches) if match is not None}
    found = [None if match is None else parts_of[match] for match in matches]
    _check_one_form(name, cells, found, title)
    first = next(groups for groups in found if groups is not None)
    # Date, text between, then hour, minute, second, fraction and zone of the form that matched.
    times = [None if g is None else (g[2:7] if g[0] is not None else g[7:]) for g in found]
    zones = {time[4] or "" for time in times if time is not None}
    digits = max(len(time[3] or "") for time in times if time is not None)
    column = DateColumn(
        name,
        None if first[0] is None else (first[1] or ""),
        any(time is not None and time[2] is not None for time in times),
        digits,
        zones.pop() if len(zones) == 1 else None,
    )
    parts = column.parts
    columns: dict[str, np.ndarray] = {}
    if "day" in parts:
        columns[parts["day"]] = _days(name, [None if g is None else g[0] for g in found], title)
    if "time" in parts:
        columns[parts["time"]] = _numbers(times, lambda t: _count(t, column.seconds))
    if "fraction" in parts:
        columns[parts["fraction"]] = _numbers(
            times, lambda t: int((t[3] or "").ljust(digits, "0")[:MICRO])
        )
    if "rest" in parts:
        columns[parts["rest"]] = _numbers(
            times, lambda t: int((t[3] or "").ljust(digits, "0")[MICRO:])
        )
    if "zone" in parts:
        columns[parts["zone"]] = np.array(
            [None if t is None else t[4] or "" for t in times], object
        )
    return column, columns


def _check_one_form(
    name: str,
    cells: Sequence[str | None],
    found: Sequence[tuple[str | None, ...] | None],
    title: str,
) -> None:
    """Refuse cells if only some are dates, or only some have a time or a date."""
    known = sum(cell is not None for cell in cells)
    fitting = sum(groups is not None for groups in found)
    if fitting < known:
        row = next(i for i, cell in enumerate(cells) if cell is not None and found[i] is None)
        raise UserError(
            f"row {row + 1:,} of {title} has {cells[row]!r} in {name!r}, where {fitting:,} of "
            f"{known:,} values are ISO dates or times: correct it, list it in missing, or list the "
            "column in categorical or drop",
            title,
        )
    forms = [None if groups is None else (groups[0] is None, groups[1] is None) for groups in found]
    first = next(form for form in forms if form is not None)
    for row, form in enumerate(forms):
        if form not in (None, first):
            raise UserError(
                f"row {row + 1:,} of {title} has {cells[row]!r} in {name!r}, but other rows have "
                "another form of date and time: use one form, or leave the column out (drop)",
                title,
            )


def compact_dates(
    name: str, cells: Sequence[str | None]
) -> tuple[DateColumn, dict[str, np.ndarray]] | None:
    """Parse a column of dates such as 20240229, like ``dates``; None if a cell is not one, or all
    are equal.
    """
    if not all(COMPACT.fullmatch(cell.strip()) for cell in cells if cell is not None):
        return None
    if len({cell.strip() for cell in cells if cell is not None}) < 2:
        return None
    days = [
        None if cell is None else (c := cell.strip()) and f"{c[:4]}-{c[4:6]}-{c[6:]}"
        for cell in cells
    ]
    if not all(_is_day(day) for day in set(days) if day is not None):
        return None
    column = DateColumn(name, compact=True)
    return column, {name: _days(name, days, name)}


def _count(time: Sequence[str | None], seconds: bool) -> int:
    """Return the seconds since midnight, or the minutes if times have no seconds."""
    hour, minute, second = (int(part or 0) for part in time[:3])
    return (hour * 60 + minute) * 60 + second if seconds else hour * 60 + minute


def _numbers(times: Sequence[tuple[str | None, ...] | None], count: object) -> np.ndarray:
    assert callable(count)
    return np.array([np.nan if time is None else count(time) for time in times], np.float64)


def _days(name: str, days: Sequence[str | None], title: str) -> np.ndarray:
    """Return the days since 1970-01-01, float64 [N]."""
    try:
        if any(day is not None and day < "0001" for day in days):
            raise ValueError
        found = np.array(["NaT" if day is None else day for day in days], "datetime64[D]")
    except ValueError:
        row = next(i for i, day in enumerate(days) if day is not None and not _is_day(day))
        raise UserError(
            f"row {row + 1:,} of {title} has {days[row]!r} in {name!r}, which is not a date: "
            "correct it, or list it in missing",
            title,
        ) from None
    return np.where(np.isnat(found), np.nan, found.astype(np.int64).astype(np.float64))


def _is_day(day: str) -> bool:
    try:
        np.datetime64(day, "D")
    except ValueError:
        return False
    return day >= "0001"
