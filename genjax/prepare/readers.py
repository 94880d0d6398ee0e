"""Read records from raw files.

A record that cannot be read is reported with its place and the reason; the others are still read.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from genjax import checks
from genjax.data.audio.signals import read_sound
from genjax.data.compressed import check_parquet
from genjax.data.images.decode import decode, header
from genjax.data.synthetic import refuse_synthetic
from genjax.data.tables.delimited import DelimitedRows, check_dialect, choose_dialect
from genjax.data.tally import EMPTY_LINES, MARKS, TRIMMED
from genjax.data.text import parquet as parquet_text
from genjax.data.text.documents import Unit
from genjax.errors import UserError, unknown_name
from genjax.prepare.decoding import check_encodings, decode_bytes, read_bytes
from genjax.prepare.files import DAMAGED, Files
from genjax.prepare.stage import ARROW
from genjax.serial.json_text import Json

SHOWN = 200  # characters of a broken record that the quarantine keeps
NO_HEADER: tuple[type[Exception], ...] = (ValueError, *DAMAGED)  # raised without a valid header


class Found(NamedTuple):
    """A record.

    Attributes:
      place: place in the file, in a form that sorts in file order; "" if the file is the record.
      values: values of the columns.
      fault: why the record cannot be used; None if it can.
      remark: what will be lost when it is used, counted in the data card; None for nothing.
    """

    place: str
    values: dict[str, Json]
    fault: str | None = None
    remark: str | None = None


class Reader:
    """Base class of readers for one kind of file; subclasses have ``files`` (patterns) and
    ``root``.
    """

    files: tuple[str, ...]
    root: str | None

    def find_files(self) -> Files:
        return Files.find(self.root, self.files)

    def fields(self, files: Files) -> pa.Schema:
        """Return the columns of a record besides ``id`` and ``source``."""
        raise NotImplementedError

    def digest(self, files: Files, path: str) -> str:
        """Return a hash of a file's contents."""
        return files.digest(path)

    def read(self, files: Files, path: str, left: Counter[str] | None = None) -> Iterator[Found]:
        """Yield the records of a file; errors of the file may be raised in between.

        Args:
          files: files of the reader.
          path: path of the file.
          left: counts of what is skipped and changed, for the data card.
        """
        with files.open(path) as file:
            yield from self.records(file, files.name(path), Counter() if left is None else left)

    def records(self, file: BinaryIO, name: str, left: Counter[str]) -> Iterator[Found]:
        """Yield the records of an open file; ``left`` is as for ``read``."""
        raise NotImplementedError


@checks.frozen
class Texts(Reader):
    """Reads text files, plain or compressed (".gz" and others).

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None for $GENJAX_DATA.
      unit: what counts as a record: "files", "lines", or "paragraphs", which end at an empty line.
      encodings: encodings to try in turn on each record; the first that fits is used.
    """

    files: tuple[str, ...]
    root: str | None = None
    unit: Unit = "files"
    encodings: tuple[str, ...] = ("utf-8",)

    def __post_init__(self) -> None:
        check_encodings(self.encodings)

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([("text", ARROW)])

    def records(self, file: BinaryIO, name: str, left: Counter[str]) -> Iterator[Found]:
        if self.unit == "files":
            yield decode_text("", file.read(), self.encodings, left)
            return
        block: list[bytes] = []
        begins = 0
        for number, line in enumerate(file, 1):
            empty = not line.strip()
            if self.unit == "lines":
                left[EMPTY_LINES] += empty
                if not empty:
                    yield decode_text(
                        line_place(number), line.rstrip(b"\r\n"), self.encodings, left
                    )
            elif not empty:
                begins = begins if block else number
                block.append(line)
            elif block:
                yield decode_text(
                    line_place(begins), b"".join(block).rstrip(b"\r\n"), self.encodings, left
                )
                block = []
        if block:
            yield decode_text(
                line_place(begins), b"".join(block).rstrip(b"\r\n"), self.encodings, left
            )


@checks.frozen
class Csv(Reader):
    """Reads rows of CSV and TSV files with a header; an empty field is null.

    Blanks after a delimiter are dropped if the header has them, and always before a quote.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None for $GENJAX_DATA.
      columns: columns to read; () for all columns of the first file with a header.
      delimiter: character between fields; None for a tab in .tsv and a comma otherwise.
      encodings: encodings to try in turn on each field; they must contain ASCII.
      quote: character around fields that contain the delimiter; "" for none; None for none in .tsv
        and double quotes otherwise.
      escape: character that makes the next one literal; None for none.
    """

    files: tuple[str, ...]
    root: str | None = None
    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encodings: tuple[str, ...] = ("utf-8",)
    quote: str | None = None
    escape: str | None = None

    def __post_init__(self) -> None:
        check_encodings(self.encodings)
        check_dialect(self.delimiter, self.quote, self.escape)
        for encoding in self.encodings:
            if b"a, b".decode(encoding, "replace") != "a, b":
                raise UserError(
                    f"encodings must contain ASCII, got {encoding}: convert the file to utf-8",
                    "encodings",
                )

    def fields(self, files: Files) -> pa.Schema:
        reasons = []
        for path in files.paths:
            try:
                with files.open(path) as file:
                    names = self._rows(files.name(path), file, Counter()).names
            except NO_HEADER as error:  # reported again when the records are read
                reasons.append(f"{path}: {error}")
                continue
            if missing := set(self.columns) - set(names):
                raise unknown_name(f"column of {path}", min(missing), names)
            return pa.schema([(name, ARROW) for name in self.columns or names])
        raise UserError(f"no file has a header that can be read; {reasons[0]}")

    def read(self, files: Files, path: str, left: Counter[str] | None = None) -> Iterator[Found]:
        left = Counter() if left is None else left
        with files.open(path) as file:
            try:
                rows = self._rows(files.name(path), file, left)
                wanted = self.columns or self.fields(files).names
                if missing := set(wanted) - set(rows.names):
                    raise ValueError(f"no column {', '.join(sorted(missing))}")
            except ValueError as error:
                yield make_broken_record("", "", str(error))
                return
            for row in rows:
                place = f"row-{row.number + rows.empty:09d}"
                if row.fault is None:
                    values = dict(
                        zip(rows.names, (cell or None for cell in row.cells), strict=True)
                    )
                    left["empty values read as null"] += sum(
                        values[name] is None for name in wanted
                    )
                    yield Found(place, values)
                elif row.cells:
                    yield make_broken_record(place, ",".join(row.cells), row.fault)
                else:  # a quote that is not closed spans the lines up to the next quote
                    reason = row.fault.removeprefix("cannot be read: ")
                    yield make_broken_record(
                        place, "", f"broken CSV: lines {row.begins} to {row.ends}: {reason}"
                    )
            left.update({EMPTY_LINES: rows.empty, TRIMMED: rows.trimmed})

    def _rows(self, name: str, file: BinaryIO, left: Counter[str]) -> DelimitedRows:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="\n")
        first = text.readline()
        left[MARKS] += first.startswith("\ufeff")
        lines = itertools.chain([first.removeprefix("\ufeff")] if first else [], text)
        texts = functools.partial(self._texts, left)
        rows = DelimitedRows(
            name, lines, choose_dialect(name, self.delimiter, self.quote, self.escape), texts
        )
        if not rows.names:
            raise ValueError("the file is empty: it must have a header")
        return rows

    def _texts(self, left: Counter[str], row: list[str]) -> list[str]:
        return [
            decode_bytes(field.encode("utf-8", "surrogateescape"), self.encodings, left)
            for field in row
        ]


@checks.frozen
class Parquet(Reader):
    """Reads rows of Parquet files, unless they are synthetic. Values that are not text are written
    as JSON.

    Bytes, also in lists and structs, must be text in one of the encodings; other rows are broken.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None for $GENJAX_DATA.
      columns: columns to read.
      encodings: encodings to try in turn on each value of bytes.
    """

    files: tuple[str, ...]
    root: str | None = None
    columns: tuple[str, ...] = ("text",)
    encodings: tuple[str, ...] = ("utf-8",)

    def __post_init__(self) -> None:
        check_encodings(self.encodings)

    def find_files(self) -> Files:
        files = super().find_files()
        for path in files.paths:  # a broken file is reported when its records are read
            with contextlib.suppress(*DAMAGED), files.open(path) as file:
                refuse_synthetic(pq.read_schema(file), files.name(path))
        return files

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([(column, ARROW) for column in self.columns])

    def records(self, file: BinaryIO, name: str, left: Counter[str]) -> Iterator[Found]:
        try:
            table = pq.ParquetFile(file)
        except pa.ArrowException as error:
            yield make_broken_record("", "", f"no Parquet file: {str(error).splitlines()[0]}")
            return
        check_parquet(table.metadata, file.seek(0, io.SEEK_END))
        if missing := set(self.columns) - set(table.schema_arrow.names):
            yield make_broken_record("", "", f"no column {', '.join(sorted(missing))}")
            return
        number = 0
        for batch in table.iter_batches(1024, columns=list(self.columns)):
            for row in parquet_text.rows(batch):
                number += 1
                place = f"row-{number:09d}"
                try:
                    values = {
                        c: stringify(read_bytes(row[c], self.encodings, left)) for c in self.columns
                    }
                except ValueError as error:
                    yield make_broken_record(place, "", str(error))
                    continue
                yield Found(place, values)


class WholeFiles(Reader):
    """Base class of readers that take each file as a record; its folder is the ``label``."""

    column: ClassVar[str]

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([(self.column, pa.large_binary()), ("label", ARROW)])

    def records(self, file: BinaryIO, name: str, left: Counter[str]) -> Iterator[Found]:
        content = file.read()
        try:
            remark = self.look(content)
        except ValueError as error:
            yield make_broken_record("", "", str(error))
            return
        label = name.split("/")[-2] if "/" in name else None
        yield Found("", {self.column: content, "label": label}, remark=remark)

    def look(self, content: bytes) -> str | None:
        """Return what decoding the file will lose; None for nothing.

        Raises:
          ValueError: the file cannot be used.
        """
        raise NotImplementedError


@checks.frozen
class Images(WholeFiles):
    """Reads image files into ``image``, and the names of their folders into ``label``.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None for $GENJAX_DATA.
    """

    column: ClassVar[str] = "image"

    files: tuple[str, ...]
    root: str | None = None

    def look(self, content: bytes) -> str | None:
        try:
            animated = header(content).animated
            decode(content, None, 3)
        except Exception as error:  # Pillow's readers raise almost anything on a damaged file
            known = (
                str(error).splitlines()[0]
                if str(error) and "BytesIO" not in str(error)
                else type(error).__name__
            )
            raise ValueError(f"no image: {known}") from error
        return "have several frames or pages, of which the first is decoded" if animated else None


@checks.frozen
class Waves(WholeFiles):
    """Reads WAV files into ``signal``, and the names of their folders into ``label``.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None for $GENJAX_DATA.
    """

    column: ClassVar[str] = "signal"

    files: tuple[str, ...]
    root: str | None = None

    def look(self, content: bytes) -> str | None:
        try:
            clipped = read_sound(content).clipped
        except ValueError as error:
            raise ValueError(f"no sound: {error}") from error
        return (
            "have values beyond full scale, which are clipped where they are decoded"
            if clipped
            else None
        )


def line_place(number: int) -> str:
    return f"line-{number:09d}"


def make_broken_record(place: str, raw: str, fault: str) -> Found:
    shown = raw[:SHOWN].encode("utf-8", "replace").decode()  # invalid characters become "?"
    return Found(place, {"text": shown}, fault)


def decode_text(place: str, raw: bytes, encodings: tuple[str, ...], left: Counter[str]) -> Found:
    try:
        text = decode_bytes(raw, encodings, left)
    except ValueError as error:
        return make_broken_record(place, raw[:SHOWN].decode("utf-8", "replace"), str(error))
    return Found(place, {"text": text})


def stringify(value: Any) -> str | None:
    """Convert a value to text; None stays None."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
