"""Files of records: JSON, Parquet, and tables with a header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genjax.data.compressed import check_parquet
from genjax.data.synthetic import refuse_synthetic
from genjax.data.tables.delimited import choose_dialect
from genjax.data.tables.tables import iterate_cells, text_rows
from genjax.data.tally import EMPTY_LINES, TRIMMED
from genjax.data.text.json_records import SUFFIXES, json_records
from genjax.errors import UserError

TABLES = (".csv", ".tsv")
PARQUET = ".parquet"


def read_records(path: Path, left: Counter[str]) -> Iterator[tuple[str, Any]]:
    """Yield each record of a file or folder, preceded by its place.

    A file is JSON or a table with a header, plain or compressed (".gz"), or Parquet; a folder holds
    one such file, or the Parquet shards of one set, which are read in the order of their names.

    Args:
      path: path of the file or folder.
      left: counts of what was changed.

    Raises:
      UserError: the file is missing, damaged, synthetic or of an unknown kind, or the folder holds
        several sets.
    """
    for file in _files(path):
        kind = file.with_suffix("").suffix if file.suffix.lower() == ".gz" else file.suffix
        if kind.lower() == PARQUET:
            yield from _parquet(file)
        elif kind.lower() in TABLES:
            yield from _table(file, left)
        elif file.is_file() and kind.lower() not in SUFFIXES:
            raise UserError(
                f"{file.name} must end in {', '.join((*SUFFIXES, *TABLES))}, all also with .gz, or "
                f"{PARQUET}",
                str(file),
            )
        else:
            yield from json_records(file, left=left)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    known = (*SUFFIXES, *TABLES, PARQUET)
    found = sorted(
        file
        for file in path.iterdir()
        if file.is_file()
        and not file.name.startswith(".")
        and (file.with_suffix("") if file.suffix.lower() == ".gz" else file).suffix.lower() in known
    )
    shards = {file.name.split("-")[0] for file in found}
    if len(found) == 1 or (found and len(shards) == 1 and "-of-" in found[0].name):
        return found
    names = ", ".join(file.name for file in found[:8]) or "none"
    raise UserError(f"{path} is a folder: give one of its files; it has {names}", str(path))


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    from genjax.data.text import parquet

    try:
        check_parquet(pyarrow.parquet.read_metadata(path), path.stat().st_size)
        file = pyarrow.parquet.ParquetFile(path)
        refuse_synthetic(file.schema_arrow, path.name)
        number = 0
        for batch in file.iter_batches():
            for row in parquet.rows(batch):
                number += 1
                yield f"row {number:,} of {path.name}", row
    except (pyarrow.ArrowException, OSError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as Parquet: {why}", str(path)) from None


def _table(path: Path, left: Counter[str]) -> Iterator[tuple[str, Any]]:
    rows = text_rows(path, path.name, "utf-8", choose_dialect(path.name, None, None, None), left)
    for number, cells in enumerate(iterate_cells(rows), 1):
        yield f"row {number:,} of {path.name}", dict(zip(rows.names, cells, strict=True))
    left.update({EMPTY_LINES: rows.empty, TRIMMED: rows.trimmed})
