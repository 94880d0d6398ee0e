"""Read the rows of CSV and TSV files; everything that reads such files uses this module.

A row must have as many values as the header has names. Otherwise it has a fault, and the caller
refuses it or sets it aside; no row is cut or padded.
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
}  # other delimiters that are tried
PACKED = frozenset({".gz", ".bz2", ".xz", ".lzma", ".zip", ".zst", ".lz4"})
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# Longest field in characters; the csv module's own limit would refuse a long text.
LONGEST = min(sys.maxsize, 2**31 - 1)


@checks.frozen
class Dialect:
    """How rows are written.

    Attributes:
      delimiter: character between values.
      quote: character around values that contain the delimiter, the quote (doubled) or a line end;
        "" if quotes are ordinary characters.
      escape: character that makes the next one literal; "" for none.
      guessed: whether the delimiter follows from the file name, so that it is checked.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    guessed: bool = False


def choose_dialect(
    name: str, delimiter: str | None, quote: str | None, escape: str | None
) -> Dialect:
    """Return the dialect of a file; what is None follows from its name: .tsv has tabs and no
    quotes.

    Raises:
      UserError: one of the characters is not a single one, or two of them are equal.
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
    """Raise ``UserError`` if rows cannot be written in this way."""
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
      number: number of the row, from 1; empty lines are not counted.
      starts: line on which the row starts, from 1.
      ends: line on which it ends.
      cells: values; their number may be wrong if the row has a fault.
      fault: what is wrong with the row; None if nothing is.
    """

    number: int
    begins: int
    ends: int
    cells: list[str]
    fault: str | None = None


class DelimitedRows:
    """The rows of a file, which can be read once.

    Attributes:
      names: names of the columns, without surrounding blanks.
      empty: number of empty lines skipped so far.
      trimmed: number of rows so far whose blanks after delimiters were left out.
    """

    def __init__(
        self,
        title: str,
        lines: Iterable[str],
        dialect: Dialect,
        decode: Callable[[list[str]], list[str]] | None = None,
    ) -> None:
        """Read the header.

        Args:
          title: name of the file in messages.
          lines: lines of the file, with their line feeds.
          dialect: how the rows are written.
          decode: function applied to the values of a row; its ValueError is a fault of the row.

        Raises:
          ValueError: there is no header, or its names are not distinct.
        """
        self.title = title
        self.empty = self.trimmed = 0
        self._decode = decode
        self._dialect = dialect
        self._lines = _split(iter(lines), dialect.quote)
        self._pending: deque[str] = deque()
        self._taken: list[str] = []  # the lines of the current row
        self._line = 0
        self._blanks = False
        self._odd = False  # whether the row has blanks before a quote
        self._null = False  # whether the row has a NUL character
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
                raise ValueError(f"{self.title} has two columns named {name!r}: rename one")
        if len(names) == 1 and self._dialect.guessed:
            self._check_delimiter()
        if len(names) > 1 and all(name[:1] == " " for name in given[1:]):
            # In "a, b" the blanks belong to the commas.
            self._blanks = True
            self._records = self._parse()
        return names

    def _check_delimiter(self) -> None:
        """Refuse a header of one column if another delimiter splits it and the first row alike."""
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
                    f"the single column {header.strip()!r} of {self.title} would be {first} "
                    f"columns if split at {called}: if that is right, set delimiter={other!r}"
                )

    def _parse(self) -> Iterator[tuple[int, list[str], str | None]]:
        """Yield the first line of each row, its raw values, and its fault or None."""
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
            if self._odd and not self._blanks:
                # In 1, "a, b" there is a blank before a quote: read the row again without it.
                self._line -= len(self._taken)
                self._pending.extendleft(reversed(self._taken))
                self._taken.clear()
                try:
                    again = next(self._make_reader(True))
                    # Only blanks differ: the quote after blanks is inside a value.
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
        """Return a csv reader for the remaining lines; with ``blanks`` it skips those after a
        delimiter.
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
    """Yield the lines, split at carriage returns if the file has no other line ends."""
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
