"""The reader for raw files of JSON objects."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from genjax import checks
from genjax.data.tally import EMPTY_LINES, HALVES
from genjax.data.text.json_records import parse_records, pass_over
from genjax.errors import UserError
from genjax.prepare.decoding import check_encodings, decode_bytes
from genjax.prepare.files import Files
from genjax.prepare.readers import (
    Found,
    Reader,
    decode_text,
    line_place,
    make_broken_record,
    stringify,
)
from genjax.prepare.stage import ARROW
from genjax.serial.json_text import HALF, replace_halves, values

MARK = b"\xef\xbb\xbf \t\r\n"  # blanks and the UTF-8 byte order mark


@checks.frozen
class JsonLines(Reader):
    """Reads JSON objects: one per line, each over several lines, or in a list.

    Values that are not text are written as JSON; a missing value is null.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None for $GENJAX_DATA.
      columns: members to read.
      encodings: encodings to try in turn on each line.
    """

    files: tuple[str, ...]
    root: str | None = None
    columns: tuple[str, ...] = ("text",)
    encodings: tuple[str, ...] = ("utf-8",)

    def __post_init__(self) -> None:
        check_encodings(self.encodings)
        checks.some(self, "columns")

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([(column, ARROW) for column in self.columns])

    def records(self, file: BinaryIO, name: str, left: Counter[str]) -> Iterator[Found]:
        head: list[bytes] = []
        for line in file:
            head.append(line)
            if line.strip(MARK):
                break
        raw = b"".join(head)
        encoding, begins = json.detect_encoding(raw[:4]), raw.strip(MARK)
        if begins == b"{" or begins.startswith(b"[") or not encoding.startswith("utf-8"):
            yield from self._read_list(raw + file.read(), encoding, name, left)
            return
        for place, line in enumerate(itertools.chain(head, file), 1):
            if line.strip():
                yield from self._parse_line(place, line.strip(), name, left)
            else:
                left[EMPTY_LINES] += 1

    def _read_list(
        self, raw: bytes, encoding: str, name: str, left: Counter[str]
    ) -> Iterator[Found]:
        """Yield the records of a file that is not one record per line in UTF-8, such as a list."""
        try:
            known = self.encodings if encoding.startswith("utf-8") else (encoding,)
            text = decode_bytes(raw, known, left)
        except ValueError as error:
            yield make_broken_record("", "", str(error))
            return
        number = 0
        try:
            for number, (_, row) in enumerate(parse_records([text], name), 1):
                shown = json.dumps(row, ensure_ascii=False)
                yield self._make_record(f"record-{number:09d}", shown, row, left)
        except UserError as error:
            yield make_broken_record(f"record-{number + 1:09d}", "", f"broken JSON: {error}")

    def _parse_line(
        self, number: int, line: bytes, name: str, left: Counter[str]
    ) -> Iterator[Found]:
        read = decode_text(line_place(number), line, self.encodings, left)
        if read.fault is not None:
            yield read
            return
        text = read.values["text"]
        try:
            rows = [value.value for value in values(text, name, line=number)]
        except UserError as error:
            yield make_broken_record(
                read.place, text, f"broken JSON: {str(error).partition('is not JSON: ')[2]}"
            )
            return
        for place, row in enumerate(rows, 1):
            yield self._make_record(
                read.place if len(rows) == 1 else f"{read.place}-{place:06d}", text, row, left
            )

    def _make_record(self, place: str, text: str, row: Any, left: Counter[str]) -> Found:
        if not isinstance(row, dict):
            return make_broken_record(place, text, "no JSON object")
        if "\\u" in text or HALF.search(text):  # otherwise there are no halves of pairs
            row, halves = replace_halves(row)
            left[HALVES] += halves
        pass_over(row, self.columns, "a record", left)
        for column in self.columns:
            value = row.get(column)
            left[f"values of {column!r} that are missing or null"] += value is None
            left[f"values of {column!r} that are not text written as JSON"] += not isinstance(
                value, str | None
            )
        return Found(place, {column: stringify(row.get(column)) for column in self.columns})
