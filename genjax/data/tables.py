"""Documents that stand in one column of JSONL, CSV or Parquet files."""

from __future__ import annotations

import csv
import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genjax.data.splits import digest
from genjax.data.texts import Piece, fingerprint_of, lines, shown
from genjax.errors import UserError, unknown

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
ROWS = 1024  # of Parquet, read at once


@dataclass(frozen=True)
class TableTexts:
    """One document a row. Empty and missing ones are passed over.

    Attributes:
      root: the folder that messages leave out of the paths.
      paths: of the files; JSONL, CSV and TSV may be compressed by gzip.
      column: that holds the text.
      encoding: of JSONL, CSV and TSV.
    """

    root: Path
    paths: tuple[Path, ...]
    column: str = "text"
    encoding: str = "utf-8"

    @property
    def title(self) -> str:
        return f"{self.column!r} in {len(self.paths):,} files of {self.root}"

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest([fingerprint_of(self.paths).encode(), f"{self.column} {self.encoding}".encode()])

    def pieces(self) -> Iterator[Piece]:
        """
        Raises:
          UserError: a file is damaged, has no such column, or something other than text in it.
        """
        read = {"jsonl": self._jsonl, "csv": self._csv, "parquet": self._parquet}
        for path in self.paths:
            name = shown(path, self.root)
            for place, value in read[kind(path)](path, name):
                if value is not None and not isinstance(value, str):
                    raise UserError(f"{place} of {name} holds {type(value).__name__} in {self.column!r}, not text")
                if value:
                    yield Piece(value, f"{place} of {name}", True)

    def _missing(self, name: str, known: list[str]) -> UserError:
        error = unknown("column", self.column, known)
        return UserError(f"{name}: {error}")

    def _jsonl(self, path: Path, name: str) -> Iterator[tuple[str, Any]]:
        for number, line in enumerate(lines(path, self.encoding), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"line {number:,} of {name} is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise UserError(f"line {number:,} of {name} is no JSON object")
            if self.column not in row:
                raise self._missing(f"line {number:,} of {name}", list(row))
            yield f"line {number:,}", row[self.column]

    def _csv(self, path: Path, name: str) -> Iterator[tuple[str, Any]]:
        csv.field_size_limit(sys.maxsize)  # the module's own limit is one for tables of numbers
        tabs = ".tsv" in path.suffixes
        reader = csv.DictReader(lines(path, self.encoding), delimiter="\t" if tabs else ",", strict=True)
        try:
            if self.column not in (reader.fieldnames or ()):
                raise self._missing(name, list(reader.fieldnames or ()))
            for number, row in enumerate(reader, 1):
                yield f"row {number:,}", row[self.column]
        except csv.Error as error:
            raise UserError(f"{name} cannot be read as a table, near line {reader.line_num:,}: {error}") from None

    def _parquet(self, path: Path, name: str) -> Iterator[tuple[str, Any]]:
        import pyarrow
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(path)
            if self.column not in file.schema_arrow.names:
                raise self._missing(name, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(ROWS, columns=[self.column]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield f"row {number:,}", value
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{name} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def kind(path: Path) -> str:
    """What kind of table a file is, by its suffix.

    Raises:
      UserError: none that is known.
    """
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() not in KINDS or (path.suffix == ".gz" and suffix.lower() == ".parquet"):
        raise UserError(f"{path.name} is no table; known are {', '.join(KINDS)}, all but the last also with .gz")
    return KINDS[suffix.lower()]
