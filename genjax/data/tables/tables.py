"""Read documents from one column of JSONL, CSV or Parquet files."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genjax.data.compressed import check_parquet
from genjax.data.splits import digest
from genjax.data.synthetic import refuse_synthetic
from genjax.data.tables.delimited import DelimitedRows, Dialect, choose_dialect
from genjax.data.tally import EMPTY_LINES, EMPTY_TEXTS, TRIMMED, Tally
from genjax.data.text.documents import (
    Piece,
    common_folder,
    find_domain,
    hash_user_files,
    lines,
    shorten_path,
)
from genjax.data.text.json_records import json_records
from genjax.errors import UserError, unknown_name

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".data": "csv",  # as UCI names its tables
    ".tsv": "csv",
    ".parquet": "parquet",
}
ROWS = 1024  # Parquet rows read at once


@dataclass(frozen=True)
class TableTexts:
    """Takes each row as a document. Empty and missing documents are skipped.

    Bytes in Parquet are decoded like other texts.

    Attributes:
      root: folder that messages leave out of the paths.
      paths: paths of the files; JSONL, CSV and TSV may be compressed by gzip.
      column: column of the text.
      encoding: encoding of JSONL, CSV and TSV, and of bytes in Parquet.
      domain: column that names the domain of a text; None for the file's, as in ``FileTexts``.
      synthetic: whether Parquet files of synthetic records are read; otherwise they are refused.
      delimiter: character between values of CSV and TSV; None to follow the suffix.
      quote: character around values; "" for none, None to follow the suffix.
      escape: character of CSV and TSV that makes the next one literal.
      left: counts of what is skipped or changed.
    """

    root: Path
    paths: tuple[Path, ...]
    column: str = "text"
    encoding: str = "utf-8"
    domain: str | None = None
    synthetic: bool = False
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    left: Tally = field(default_factory=Tally, compare=False, repr=False)

    @property
    def title(self) -> str:
        return f"{self.column!r} in {len(self.paths):,} files of {self.root}"

    @functools.cached_property
    def fingerprint(self) -> str:
        how = f"{self.column} {self.encoding} {self.domain or ''}"
        dialects = {
            self._choose_dialect(path) for path in self.paths if detect_kind(path) == "csv"
        } - {Dialect(guessed=True)}
        if dialects:
            how += " " + " ".join(sorted(map(repr, dialects)))
        return digest([hash_user_files(self.paths).encode(), how.encode("utf-8", "surrogatepass")])

    def iterate_pieces(self) -> Iterator[Piece]:
        """Yield the texts, piece by piece.

        Raises:
          UserError: a file is damaged or synthetic, or its column is missing or not text.
        """
        base = common_folder(self.paths)
        read = {"jsonl": self._read_jsonl, "csv": self._read_csv, "parquet": self._read_parquet}
        for path in self.paths:
            name = shorten_path(path, self.root)
            with self.left.reading(str(path)) as left:
                for place, row in read[detect_kind(path)](path, name, left):
                    value = row[self.column]
                    if value is not None and not isinstance(value, str):
                        raise UserError(
                            f"{place} of {name} holds {type(value).__name__} in {self.column!r}, "
                            "not text",
                            self.column,
                        )
                    if value:
                        domain = (
                            find_domain(path, base) if self.domain is None else row[self.domain]
                        )
                        yield Piece(
                            value, f"{place} of {name}", True, "" if domain is None else str(domain)
                        )
                    else:
                        left[EMPTY_TEXTS] += 1

    @property
    def _columns(self) -> list[str]:
        return [column for column in (self.column, self.domain) if column is not None]

    def _check(self, name: str, known: list[str]) -> None:
        for column in self._columns:
            if column not in known:
                raise UserError(f"{name}: {unknown_name('column', column, known)}")

    def _read_jsonl(
        self, path: Path, name: str, left: Counter[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        known: dict[str, None] = {}
        for where, row in json_records(path, self.encoding, left):
            if not isinstance(row, dict):
                raise UserError(f"{where} must be a JSON object", self.column)
            known |= dict.fromkeys(row)
            yield (
                where.removesuffix(f" of {path.name}"),
                {name: row.get(name) for name in self._columns},
            )
        if known:
            self._check(name, list(known))

    def _read_csv(
        self, path: Path, name: str, left: Counter[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        rows = text_rows(path, name, self.encoding, self._choose_dialect(path), left)
        self._check(name, rows.names)
        for number, cells in enumerate(iterate_cells(rows), 1):
            yield f"row {number:,}", dict(zip(rows.names, cells, strict=True))
        left.update({EMPTY_LINES: rows.empty, TRIMMED: rows.trimmed})

    def _choose_dialect(self, path: Path) -> Dialect:
        return choose_dialect(path.name, self.delimiter, self.quote, self.escape)

    def _read_parquet(
        self, path: Path, name: str, left: Counter[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        import pyarrow
        import pyarrow.parquet

        # This imports pyarrow, which other kinds of files do not need.
        from genjax.data.text import (
            parquet as parquet_text,
        )

        try:
            file = pyarrow.parquet.ParquetFile(path)
            check_parquet(file.metadata, path.stat().st_size)
            if not self.synthetic:
                refuse_synthetic(file.schema_arrow, name)
            self._check(name, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(ROWS, columns=self._columns):
                for row in parquet_text.rows(batch):
                    number += 1
                    where = f"row {number:,} of {name}"
                    yield (
                        f"row {number:,}",
                        {
                            column: parquet_text.decoded(value, self.encoding, where, column)
                            for column, value in row.items()
                        },
                    )
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(
                f"{name} cannot be read as Parquet: {str(error).splitlines()[0]}"
            ) from error


def text_rows(
    path: Path, name: str, encoding: str, dialect: Dialect, left: Counter[str] | None = None
) -> DelimitedRows:
    """Read the rows of a CSV or TSV file, which messages call ``name``.

    ``left`` is as for ``decode_file``.

    Raises:
      UserError: the file has no header, or the names in it are not distinct.
    """
    try:
        return DelimitedRows(name, lines(path, encoding, left), dialect)
    except ValueError as error:
        raise UserError(str(error), str(path)) from None


def iterate_cells(rows: DelimitedRows) -> Iterator[list[str]]:
    """Yield the values of each row.

    Raises:
      UserError: a row has a fault; the message names file, row and line.
    """
    for row in rows:
        if row.fault is None:
            yield row.cells
        elif row.cells:
            raise UserError(
                f"row {row.number:,} of {rows.title} (line {row.ends:,}) {row.fault}: "
                "put values that contain the delimiter in quotes, or set the right delimiter",
                rows.title,
            )
        else:
            begins = "" if row.begins == row.ends else f" (the row starts at line {row.begins:,})"
            raise UserError(
                f"{rows.title} cannot be read as a table, near line {row.ends:,}{begins}: it "
                f"{row.fault}",
                rows.title,
            )


def detect_kind(path: Path) -> str:
    """Return the kind of a table file, by its suffix.

    Raises:
      UserError: the suffix is unknown.
    """
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() not in KINDS or (path.suffix == ".gz" and suffix.lower() == ".parquet"):
        raise UserError(
            f"{path.name} must end in {', '.join(KINDS)}, all but the last also with .gz"
        )
    return KINDS[suffix.lower()]
