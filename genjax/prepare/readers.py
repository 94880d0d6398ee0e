"""Raw files to records.

A record that cannot be read is reported with its place and reason, and stops no other.
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

NO_HEADER: tuple[type[Exception], ...] = (ValueError, *DAMAGED)  # what looking for one raises


class Found(NamedTuple):
    """A record.

    Attributes:
      place: where in the file it stands, in a form that sorts as the file does; "" where the file
        is the record.
      values: its columns.
      fault: why it cannot be used; None if it can.
      remark: what of it will be lost all the same; the data card counts it.
    """

    place: str
    values: dict[str, Json]
    fault: str | None = None
    remark: str | None = None


class Reader:
    """Files of one kind; a subclass has ``files`` (patterns) and ``root``."""

    files: tuple[str, ...]
    root: str | None

    def find_files(self) -> Files:
        return Files.find(self.root, self.files)

    def fields(self, files: Files) -> pa.Schema:
        """The columns of a record besides ``id`` and ``source``."""
        raise NotImplementedError

    def digest(self, files: Files, path: str) -> str:
        """A hash of a file's contents."""
        return files.digest(path)

    def read(self, files: Files, path: str, left: Counter[str] | None = None) -> Iterator[Found]:
        """The records of a file; an error of the file itself may be raised in between.

        Args:
          left: counts what is skipped and changed, for the data card.
        """
        with files.open(path) as file:
            yield from self.records(file, files.name(path), Counter() if left is None else left)

    def records(self, file: BinaryIO, name: str, left: Counter[str]) -> Iterator[Found]:
        """The records of an open file; ``left`` as of ``read``."""
        raise NotImplementedError


@checks.frozen
class Texts(Reader):
    """Text files, each a record, or each line or paragraph of it; compressed ones (".gz" and
    others), too.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
      unit: what makes a record, "files", "lines", or "paragraphs" with an empty line between them.
      encodings: tried in turn on each record; the first that fits is taken.
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
    """DelimitedRows of CSV and TSV files under a header; an empty field is null.

    Blanks after a delimiter are left out where those of the header have them, and those before a
    quote always.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
      columns: those that are taken; none for all of the first file's that has a header.
      delimiter: between fields; None for a tab in .tsv and a comma else.
      encodings: tried in turn on each field; those that hold ASCII as it is.
      quote: around fields that hold the delimiter; "" for none. None takes none in .tsv, and double
        quotes else.
      escape: before a character that represents itself; None for none.
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
                    f"a CSV file in {encoding} cannot be read: write it in utf-8", "encodings"
                )

    def fields(self, files: Files) -> pa.Schema:
        reasons = []
        for path in files.paths:
            try:
                with files.open(path) as file:
                    names = self._rows(files.name(path), file, Counter()).names
            except NO_HEADER as error:  # reported again when the file's records are read
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
                else:  # a quote that is not closed takes the lines up to the next one with it
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
            raise ValueError("no header, but nothing")
        return rows

    def _texts(self, left: Counter[str], row: list[str]) -> list[str]:
        return [
            decode_bytes(field.encode("utf-8", "surrogateescape"), self.encodings, left)
            for field in row
        ]


@checks.frozen
class Parquet(Reader):
    """DelimitedRows of Parquet files, unless they are synthetic. Values that are not text are
    written as JSON.

    Bytes are text in one of the encodings, also within lists and structs; a row with others is
    broken.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
      columns: those that are taken.
      encodings: tried in turn on each value of bytes.
    """

    files: tuple[str, ...]
    root: str | None = None
    columns: tuple[str, ...] = ("text",)
    encodings: tuple[str, ...] = ("utf-8",)

    def __post_init__(self) -> None:
        check_encodings(self.encodings)

    def find_files(self) -> Files:
        files = super().find_files()
        for path in files.paths:  # a broken one is reported when its records are read
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
    """Files that are a record each, as they are; the folder that one lies in is its ``label``."""

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
        """What of a file is lost where it is decoded; None if nothing is.

        Raises:
          ValueError: it cannot be used.
        """
        raise NotImplementedError


@checks.frozen
class Images(WholeFiles):
    """Image files that ``decode`` reads, in ``image``, and their folders, in ``label``.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
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
    """WAV files that ``read_sound`` reads, in ``signal``, and their folders, in ``label``.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
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
    shown = raw[:SHOWN].encode("utf-8", "replace").decode()  # what is not a character becomes "?"
    return Found(place, {"text": shown}, fault)


def decode_text(place: str, raw: bytes, encodings: tuple[str, ...], left: Counter[str]) -> Found:
    try:
        text = decode_bytes(raw, encodings, left)
    except ValueError as error:
        return make_broken_record(place, raw[:SHOWN].decode("utf-8", "replace"), str(error))
    return Found(place, {"text": text})


def stringify(value: Any) -> str | None:
    """A value as text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
