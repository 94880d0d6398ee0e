"""Raw files to records. A record that cannot be read is told with its place and reason, and stops no other."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from genjax.data.compressed import check_parquet
from genjax.data.images import decode, header
from genjax.data.signals import read_wav
from genjax.data.synthetic import refuse_synthetic
from genjax.data.texts import Unit
from genjax.errors import UserError, unknown
from genjax.prepare.files import DAMAGED, Files
from genjax.prepare.stage import ARROW

SHOWN = 200  # characters of a broken record that the quarantine keeps
LONGEST = 2**31 - 1  # characters of a field of a table; the csv module's own limit is one for tables of numbers
NO_HEADER: tuple[type[Exception], ...] = (csv.Error, ValueError, *DAMAGED)  # what looking for one raises


class Found(NamedTuple):
    """A record.

    Attributes:
      place: where in the file it stands, in a form that sorts as the file does; "" where the file is the record.
      values: its columns.
      fault: why it cannot be used; None where it can.
    """

    place: str
    values: dict[str, Any]
    fault: str | None = None


class Reader:
    """Files of one kind; a subclass has ``files`` (patterns) and ``root``."""

    files: tuple[str, ...]
    root: str | None

    def found(self) -> Files:
        return Files.found(self.root, self.files)

    def fields(self, files: Files) -> pa.Schema:
        """The columns of a record besides ``id`` and ``source``."""
        raise NotImplementedError

    def digest(self, files: Files, path: str) -> str:
        """A hash of a file's contents."""
        return files.digest(path)

    def read(self, files: Files, path: str) -> Iterator[Found]:
        """The records of a file; an error of the file itself may be raised in between."""
        with files.open(path) as file:
            yield from self.records(file, files.name(path))

    def records(self, file: BinaryIO, name: str) -> Iterator[Found]:
        """The records of an open file."""
        raise NotImplementedError


@dataclass(frozen=True)
class Texts(Reader):
    """Text files, each a record, or each line or paragraph of it; compressed ones (".gz" and others), too.

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
        if self.unit not in get_args(Unit):
            raise unknown("unit", self.unit, get_args(Unit))
        check_encodings(self.encodings)

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([("text", ARROW)])

    def records(self, file: BinaryIO, name: str) -> Iterator[Found]:
        if self.unit == "files":
            yield text_at("", file.read(), self.encodings)
            return
        block: list[bytes] = []
        begins = 0
        for number, line in enumerate(file, 1):
            empty = not line.strip()
            if self.unit == "lines":
                if not empty:
                    yield text_at(line_place(number), line.rstrip(b"\r\n"), self.encodings)
            elif not empty:
                begins = begins if block else number
                block.append(line)
            elif block:
                yield text_at(line_place(begins), b"".join(block).rstrip(b"\r\n"), self.encodings)
                block = []
        if block:
            yield text_at(line_place(begins), b"".join(block).rstrip(b"\r\n"), self.encodings)


@dataclass(frozen=True)
class Csv(Reader):
    """Rows of CSV files under a header. Spaces after a comma are left out; an empty field is null.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
      columns: those that are taken; none for all of the first file's that has a header.
      delimiter: between fields.
      encodings: tried in turn on each field; those that hold ASCII as it is.
    """

    files: tuple[str, ...]
    root: str | None = None
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    encodings: tuple[str, ...] = ("utf-8",)

    def __post_init__(self) -> None:
        check_encodings(self.encodings)
        if len(self.delimiter) != 1:
            raise UserError(f"a delimiter is one character, unlike {self.delimiter!r}")
        for encoding in self.encodings:
            if b"a, b".decode(encoding, "replace") != "a, b":
                raise UserError(f"a CSV file in {encoding} cannot be read: write it in utf-8")

    def fields(self, files: Files) -> pa.Schema:
        reasons = []
        for path in files.paths:
            try:
                with files.open(path) as file:
                    names = self._header(self._rows(file))
            except NO_HEADER as error:  # it is told again when the file's records are read
                reasons.append(f"{path}: {error}")
                continue
            if missing := set(self.columns) - set(names):
                raise unknown(f"column of {path}", min(missing), names)
            return pa.schema([(name, ARROW) for name in self.columns or names])
        raise UserError(f"no file has a header that can be read; {reasons[0]}")

    def read(self, files: Files, path: str) -> Iterator[Found]:
        with files.open(path) as file:
            rows = self._rows(file)
            try:
                header = self._header(rows, self.columns or self.fields(files).names)
            except (csv.Error, ValueError) as error:
                yield broken("", "", str(error))
                return
            for number in itertools.count(1):
                place, begins, row = f"row-{number:09d}", rows.line_num + 1, []
                try:
                    row = next(rows)
                    if row:
                        yield Found(place, self._values(header, row))
                except StopIteration:
                    return
                except csv.Error as error:  # a quote that is not closed takes the lines up to the next one with it
                    yield broken(place, "", f"broken CSV: lines {begins} to {rows.line_num}: {error}")
                except ValueError as error:
                    yield broken(place, self.delimiter.join(row), str(error))

    def _values(self, header: list[str], row: list[str]) -> dict[str, str | None]:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} fields under a header of {len(header)}")
        return dict(zip(header, (field or None for field in self._texts(row)), strict=True))

    def _header(self, rows: Iterator[list[str]], wanted: Iterable[str] = ()) -> list[str]:
        """The names of the columns; a ValueError tells what is wrong with them."""
        names = [name.strip() for name in self._texts(next(rows, []))]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"no header of different names, but {', '.join(names)[:SHOWN] or 'nothing'}")
        if missing := set(wanted) - set(names):
            raise ValueError(f"no column {', '.join(sorted(missing))}")
        return names

    def _texts(self, row: list[str]) -> list[str]:
        return [decoded_in(field.encode("utf-8", "surrogateescape"), self.encodings) for field in row]

    def _rows(self, file: BinaryIO) -> Any:
        """A reader of the csv module, which tells the line that it is at."""
        csv.field_size_limit(LONGEST)
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        lines = (line.replace("\0", "") for line in text)
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True, strict=True)


@dataclass(frozen=True)
class Parquet(Reader):
    """Rows of Parquet files, unless they are synthetic. Values that are no text are written as JSON.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
      columns: those that are taken.
    """

    files: tuple[str, ...]
    root: str | None = None
    columns: tuple[str, ...] = ("text",)

    def found(self) -> Files:
        files = super().found()
        for path in files.paths:  # a broken one is told when its records are read
            with contextlib.suppress(*DAMAGED), files.open(path) as file:
                refuse_synthetic(pq.read_schema(file), files.name(path))
        return files

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([(column, ARROW) for column in self.columns])

    def records(self, file: BinaryIO, name: str) -> Iterator[Found]:
        try:
            table = pq.ParquetFile(file)
        except pa.ArrowException as error:
            yield broken("", "", f"no Parquet file: {str(error).splitlines()[0]}")
            return
        check_parquet(table.metadata, file.seek(0, io.SEEK_END))
        if missing := set(self.columns) - set(table.schema_arrow.names):
            yield broken("", "", f"no column {', '.join(sorted(missing))}")
            return
        number = 0
        for batch in table.iter_batches(1024, columns=list(self.columns)):
            for row in batch.to_pylist():
                number += 1
                yield Found(f"row-{number:09d}", {column: as_text(row[column]) for column in self.columns})


class WholeFiles(Reader):
    """Files that are a record each, as they are; the folder that one lies in is its ``label``."""

    column: ClassVar[str]

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([(self.column, pa.large_binary()), ("label", ARROW)])

    def records(self, file: BinaryIO, name: str) -> Iterator[Found]:
        content = file.read()
        fault = self.fault(content)
        if fault is not None:
            yield broken("", "", fault)
            return
        yield Found("", {self.column: content, "label": name.split("/")[-2] if "/" in name else None})

    def fault(self, content: bytes) -> str | None:
        """What is wrong with a file; None where nothing is."""
        raise NotImplementedError


@dataclass(frozen=True)
class Images(WholeFiles):
    """Image files, in ``image``, and their folders, in ``label``.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
    """

    column: ClassVar[str] = "image"

    files: tuple[str, ...]
    root: str | None = None

    def fault(self, content: bytes) -> str | None:
        try:
            header(content)
            decode(content, None, 3)
        except Exception as error:  # Pillow's readers raise almost anything on a damaged file
            known = str(error).splitlines()[0] if str(error) and "BytesIO" not in str(error) else type(error).__name__
            return f"no image: {known}"
        return None


@dataclass(frozen=True)
class Waves(WholeFiles):
    """WAV files, in ``signal``, and their folders, in ``label``.

    Attributes:
      files: patterns below the root.
      root: a folder or URL; None takes $GENJAX_DATA.
    """

    column: ClassVar[str] = "signal"

    files: tuple[str, ...]
    root: str | None = None

    def fault(self, content: bytes) -> str | None:
        try:
            read_wav(content)
        except ValueError as error:
            return f"no sound: {error}"
        return None


def line_place(number: int) -> str:
    return f"line-{number:09d}"


def broken(place: str, raw: str, fault: str) -> Found:
    shown = raw[:SHOWN].encode("utf-8", "replace").decode()  # what is no character becomes "?"
    return Found(place, {"text": shown}, fault)


def text_at(place: str, raw: bytes, encodings: tuple[str, ...]) -> Found:
    try:
        text = decoded_in(raw, encodings)
    except ValueError as error:
        return broken(place, raw[:SHOWN].decode("utf-8", "replace"), str(error))
    return Found(place, {"text": text.removeprefix("\ufeff")})


def decoded_in(raw: bytes, encodings: tuple[str, ...]) -> str:
    """The text in the first encoding that fits; a ValueError tells that none does."""
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError(f"not in {' or '.join(encodings)}")


def as_text(value: Any) -> str | None:
    """A value as text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def check_encodings(encodings: tuple[str, ...]) -> None:
    if not encodings:
        raise UserError("name at least one encoding")
    for encoding in encodings:
        try:
            b"a".decode(encoding, "replace")
        except LookupError:
            raise UserError(f"there is no encoding {encoding!r}; utf-8 and cp1252 are two") from None
