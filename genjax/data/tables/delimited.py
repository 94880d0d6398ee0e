"""The rows of CSV and TSV files: one reader for all that takes such files.

A row has as many values as the header has names. What breaks that rule is a fault of the row, which
the caller refuses or sets aside; no row is cut or filled up.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import NamedTuple

from genjax import checks
from genjax.data.progress import ReadProgress
from genjax.errors import UserError

OTHERS = {
    ",": "a comma",
    ";": "a semicolon",
    "\t": "a tab",
    "|": "a bar",
}  # what may separate columns as well
PACKED = frozenset({".gz", ".bz2", ".xz", ".lzma", ".zip", ".zst", ".lz4"})
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
LONGEST = min(
    sys.maxsize, 2**31 - 1
)  # characters of a field; the csv module's own limit would refuse a long text


@checks.frozen
class Dialect:
    """How rows are written.

    Attributes:
      delimiter: between values, one character.
      quote: around values that hold the delimiter, itself (twice) or a line end; "" where quotes
        are letters as any other.
      escape: before a character that represents itself; "" for none.
      guessed: whether the delimiter was taken by the name of the file, so that another one is
        looked for.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    guessed: bool = False


def choose_dialect(
    name: str, delimiter: str | None, quote: str | None, escape: str | None
) -> Dialect:
    """The dialect of a file by its name, where nothing else is given: tabs and no quotes in .tsv,
    as that is written.

    Raises:
      UserError: one of them is not a single character, or two of them are the same.
    """
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    tabs = suffixes[-1:] in ([".tsv"], [".tab"])
    found = Dialect(
        ("\t" if tabs else ",") if delimiter is None else delimiter,
        ("" if tabs else '"') if quote is None else quote,
        escape or "",
        delimiter is None,
    )
    check_dialect(found.delimiter, found.quote, found.escape)
    return found


def check_dialect(delimiter: str | None, quote: str | None, escape: str | None) -> None:
    """Raises UserError where no rows can be written so."""
    if delimiter is not None and (len(delimiter) != 1 or delimiter in "\r\n"):
        raise UserError(f"delimiter must be one character, got {delimiter!r}", "delimiter")
    for name, value in (("quote", quote), ("escape", escape)):
        if value and (len(value) != 1 or value in "\r\n"):
            raise UserError(f"{name} must be one character, or '' for none, got {value!r}", name)
    used = [value for value in (delimiter, quote, escape) if value]
    if len(set(used)) < len(used):
        raise UserError(
            f"delimiter, quote and escape must differ, got {', '.join(map(repr, used))}",
            "delimiter",
        )


class Row(NamedTuple):
    """A row below the header.

    Attributes:
      number: of the row, from 1; empty lines are not counted.
      starts: the line that it starts at, from 1.
      ends: and the one that it ends at.
      cells: its values; fewer or more than there are names, or none, where it has a fault.
      fault: what is wrong with it.
    """

    number: int
    begins: int
    ends: int
    cells: list[str]
    fault: str | None = None


class DelimitedRows:
    """The rows of a file, to be read once.

    Attributes:
      names: those of the columns, without the blanks around them.
      empty: lines without anything, which have been skipped so far.
      trimmed: rows so far whose blanks after delimiters were left out.
    """

    def __init__(
        self,
        title: str,
        lines: Iterable[str],
        dialect: Dialect,
        decode: Callable[[list[str]], list[str]] | None = None,
    ) -> None:
        """Reads the header.

        Args:
          title: what a person calls the file.
          lines: of it with their ends, split at line feeds.
          decode: what is done to the values of a row; its ValueError is a fault of the row.

        Raises:
          ValueError: there is no header, or it does not name each column by a name of its own.
        """
        self.title = title
        self.empty = self.trimmed = 0
        self._decode = decode
        self._dialect = dialect
        self._lines = _split(iter(lines), dialect.quote)
        self._pending: deque[str] = deque()
        self._taken: list[str] = []  # the lines of the row that is read
        self._line = 0
        self._blanks = False
        self._odd = False  # whether a line of the row has blanks before a quote
        self._null = False  # or a NUL character
        quote, delimiter = re.escape(dialect.quote), re.escape(dialect.delimiter)
        self._spaced = (
            re.compile(rf"(?:^|{delimiter}) +{quote}")
            if quote and dialect.delimiter != " "
            else None
        )
        self._records = self._parse()
        self.names = self._read_header()

    def __iter__(self) -> Iterator[Row]:
        number, width, progress = 0, len(self.names), ReadProgress()
        for begins, cells, fault in self._records:
            if fault is None and self._is_empty(cells, width):
                self.empty += 1
                continue
            number += 1
            if not number % 5000:
                progress.show(f"{self.title}: {number:,} rows read")
            if fault is None and len(cells) != width:
                fault = f"has {len(cells)} values, but the header names {width} columns"
            elif fault is None and self._decode is not None:
                try:
                    cells = self._decode(cells)
                except ValueError as error:
                    fault = str(error)
            yield Row(number, begins, self._line, cells, fault)

    @staticmethod
    def _is_empty(cells: list[str], width: int) -> bool:
        return not cells or (len(cells) == 1 and width > 1 and not cells[0].strip())

    def _read_header(self) -> list[str]:
        for _, cells, fault in self._records:
            if fault is not None:
                raise ValueError(
                    f"{self.title} cannot be read as a table, near line {self._line:,}: its header "
                    f"{fault}"
                )
            if len(cells) > 1 or (cells and cells[0].strip()):
                break
            self.empty += 1
        else:
            return []
        given = cells if self._decode is None else self._decode(cells)
        names = [name.strip() for name in given]
        for place, name in enumerate(names, 1):
            if not name:
                raise ValueError(
                    f"column {place} of {self.title} has no name in the header: name it, or remove "
                    "it"
                )
            if names.index(name) != place - 1:
                raise ValueError(f"{self.title} has two columns of the name {name!r}: rename one")
        if len(names) == 1 and self._dialect.guessed:
            self._check_delimiter()
        if len(names) > 1 and all(
            name[:1] == " " for name in given[1:]
        ):  # "a, b": the blanks belong to the commas
            self._blanks = True
            self._records = self._parse()
        return names

    def _check_delimiter(self) -> None:
        """Refuse a header of one name that is one of several, and so is the row below it, by
        another delimiter.
        """
        header = self._taken[0]
        below = next(self._lines, None)
        if below is None:
            return
        self._pending.append(below)
        quote = self._dialect.quote
        for other, called in OTHERS.items():
            if other == self._dialect.delimiter:
                continue
            first, second = (len(_cells(line, other, quote)) for line in (header, below))
            if first == second > 1:
                raise ValueError(
                    f"the one column {header.strip()!r} of {self.title} would be {first} columns "
                    f"by {called}: "
                    f"if that separates them, give delimiter={other!r}"
                )

    def _parse(self) -> Iterator[tuple[int, list[str], str | None]]:
        """The line each row starts at, its values as they stand, and what is wrong with it."""
        if not self._dialect.quote and not self._dialect.escape:
            yield from self._parse_unquoted()
            return
        csv.field_size_limit(LONGEST)
        reader = self._make_reader(self._blanks)
        while True:
            begins = self._line + 1
            self._taken.clear()
            self._odd = self._null = False
            cells: list[str] = []
            fault = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = _fault(error)
            if (
                self._odd and not self._blanks
            ):  # 1, "a, b": read the row again without the blanks before quotes
                self._line -= len(self._taken)
                self._pending.extendleft(reversed(self._taken))
                self._taken.clear()
                try:
                    again = next(self._make_reader(True))
                    # equal but for blanks: what looked like a quote after blanks stands within a
                    # value
                    same = [cell.lstrip(" ") for cell in again] == [
                        cell.lstrip(" ") for cell in cells
                    ]
                    trimmed = fault is not None or not same
                    cells, fault = again if trimmed else cells, None
                    self.trimmed += trimmed
                except csv.Error as error:
                    cells, fault = [], _fault(error)
                reader = self._make_reader(False)
            if self._null and fault is None:
                cells, fault = [], NUL
            if self._blanks and any(self._dialect.delimiter + " " in line for line in self._taken):
                self.trimmed += 1
            yield begins, cells, fault

    def _parse_unquoted(self) -> Iterator[tuple[int, list[str], str | None]]:
        delimiter = self._dialect.delimiter
        for line in self._feed_lines():
            text = line.removesuffix("\n").removesuffix("\r")
            yield self._line, text.split(delimiter) if text else [], NUL if "\0" in text else None
            self._taken.clear()

    def _make_reader(self, blanks: bool) -> Iterator[list[str]]:
        """The csv module's reader of the lines that are left; ``blanks`` after a delimiter are
        left out.
        """
        dialect = self._dialect
        return csv.reader(
            self._feed_lines(),
            delimiter=dialect.delimiter,
            quotechar=dialect.quote or None,
            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
            escapechar=dialect.escape or None,
            skipinitialspace=blanks,
            strict=True,
        )

    def _feed_lines(self) -> Iterator[str]:
        pending, taken, spaced, quote = (
            self._pending,
            self._taken,
            self._spaced,
            self._dialect.quote,
        )
        while True:
            line = pending.popleft() if pending else next(self._lines, None)
            if line is None:
                return
            self._line += 1
            taken.append(line)
            if spaced is not None and quote in line and spaced.search(line):
                self._odd = True
            if "\0" in line:
                self._null = True
            yield line


NUL = "holds a NUL character: the file is damaged, or in another encoding such as utf-16"


def _fault(error: csv.Error) -> str:
    text = str(error)
    if "end of data" in text:
        return f"cannot be read: {text}, a quote is not closed"
    if "new-line character" in text:
        return "cannot be read: a carriage return in a value without quotes"
    return f"cannot be read: {text}"


def _cells(line: str, delimiter: str, quote: str) -> list[str]:
    text = line.rstrip("\r\n")
    if not quote:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, quotechar=quote))
    except (csv.Error, StopIteration):
        return []


def _split(lines: Iterator[str], quote: str) -> Iterator[str]:
    """The lines themselves; those of a file whose lines end in carriage returns alone are
    split there.
    """
    first = next(lines, None)
    if first is None:
        return
    head = first.rstrip("\r\n")
    at = head.find("\r")
    returns = at >= 0 and not (quote and head.count(quote, 0, at) % 2)
    if not returns:
        yield first
        yield from lines
        return
    for line in (first, *lines):
        yield from LINE.findall(line)
