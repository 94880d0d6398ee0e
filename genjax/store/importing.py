"""Import files and query results; a killed import can be repeated without duplicates.

The ids of a row's records are derived from the file's hash and the row's number, or for a query
from the row itself; records that exist already are skipped.
"""

from __future__ import annotations

import decimal
import hashlib
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy import exc

from genjax.data.synthetic import ORIGIN, SYNTHETIC
from genjax.data.text.documents import decode_file
from genjax.data.text.json_records import SUFFIXES, detect_encoding, parse_records
from genjax.errors import UserError
from genjax.serial.json_text import Json, parse
from genjax.store import engine as engines
from genjax.store.audit.deeds import note_deed
from genjax.store.formats import parquet
from genjax.store.formats.reading import read_row
from genjax.store.formats.turns import Reading
from genjax.store.limits import check_record
from genjax.store.records import Origin, Record
from genjax.store.store import Store

ROWS = 500  # rows of a transaction
STRUCTURED = ("messages", "conversations", "prompt", "completion", "chosen", "rejected")
Row = tuple[str, str, Json]  # its place, the prefix of its ids, and the row itself


@dataclass(frozen=True)
class Imported:
    """The numbers of records that were added and that existed already."""

    added: int
    known: int


def import_file(
    store: Store, path: str | Path, origin: Origin = "real", generator: str | None = None
) -> Imported:
    """Import a JSON or Parquet file, or a folder written by ``export``.

    Args:
      store: the store.
      path: path of the file or folder.
      origin: origin of records whose row has none.
      generator: generator of synthetic records.

    Raises:
      UserError: the file or a row is invalid, and nothing of it was written; or a record names a
        missing one.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"there is no file {place}", str(place))
    if place.is_dir():
        done = _add_records(store, parquet.read_records(place))
    elif place.suffix == ".parquet":
        _check_origin(place, origin)
        done = _import_rows(store, lambda: _read_parquet(place), origin, generator)
    else:
        done = _import_rows(store, lambda: _read_json(place), origin, generator)
    return _note(store, done, {"file": str(place.absolute())})


def import_query(
    store: Store, url: str, query: str, origin: Origin = "real", generator: str | None = None
) -> Imported:
    """Import the rows of a query in any database that SQLAlchemy opens; columns become members.

    Raises:
      UserError: the database cannot be opened, or the query or a row is invalid.
    """
    with tempfile.TemporaryDirectory(prefix="genjax_import_") as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in _run_query(url, query):
                file.write(json.dumps(row) + "\n")
        done = _import_rows(store, lambda: _read_spooled(path, url, query), origin, generator)
    return _note(store, done, {"query": query})


def _note(store: Store, done: Imported, what: dict[str, Json]) -> Imported:
    if done.added:
        said: dict[str, Json] = what | {"added": done.added, "known": done.known}
        note_deed(store, "import", said)
    return done


def _import_rows(
    store: Store, read: Callable[[], Iterator[Row]], origin: Origin, generator: str | None
) -> Imported:
    made = Reading("", lambda: "", origin, generator)
    for row in read():  # everything is read before anything is written
        _read_records(store, row, made)
    rows = read()
    added = known = 0
    while batch := list(itertools.islice(rows, ROWS)):
        records = [record for row in batch for record in _read_records(store, row, made)]
        found = store.add_new(records)
        added, known = added + found, known + len(records) - found
    return Imported(added, known)


def _read_records(store: Store, row: Row, made: Reading) -> list[Record]:
    where, prefix, value = row
    numbers = itertools.count()
    reading = replace(made, where=where, next_id=lambda: f"{prefix}{next(numbers):04x}")
    try:
        records = read_row(value, reading)
        records = [r if r.id else replace(r, id=reading.next_id()) for r in records]
        for record in records:
            check_record(record, store.limits)
    except UserError as error:
        said = str(error)
        raise UserError(said if where in said else f"{said} ({where})", error.field) from None
    return records


def _add_records(store: Store, records: list[Record]) -> Imported:
    for record in records:
        check_record(record, store.limits)
    starts = range(0, len(records), ROWS)
    added = sum(store.add_new(records[first : first + ROWS]) for first in starts)
    return Imported(added, len(records) - added)


def _make_prefix(digest: str, number: int) -> str:
    """Return the prefix of the ids of a row; prefixes sort like the rows."""
    row = f"{number:010x}"
    return f"{digest[:8]}-{row[:4]}-8{row[4:7]}-a{row[7:]}-{digest[8:16]}"


def _read_json(path: Path) -> Iterator[Row]:
    kind = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    if kind.lower() not in SUFFIXES:
        known = ", ".join((*SUFFIXES, ".parquet"))
        raise UserError(f"{path.name} is no file of records; known are {known}", str(path))
    digest = _hash_file(path)
    texts = decode_file(path, detect_encoding(path, "utf-8"), Counter())
    for number, (where, value) in enumerate(parse_records(texts, path.name)):
        yield where, _make_prefix(digest, number), value


def _read_parquet(path: Path) -> Iterator[Row]:
    digest = _hash_file(path)
    number = 0
    try:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(ROWS):
            for row in batch.to_pylist():
                where = f"row {number + 1:,} of {path.name}"
                yield where, _make_prefix(digest, number), _plain(row, where)
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no whole file of Parquet: {error!s:.100}", str(path)) from None


def _check_origin(path: Path, origin: Origin) -> None:
    """Refuse to import a file as real that is marked as synthetic."""
    try:
        marked = (pq.read_schema(path).metadata or {}).get(ORIGIN) == SYNTHETIC.encode()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no whole file of Parquet: {error!s:.100}", str(path)) from None
    if marked and origin == "real":
        raise UserError(f"origin: {path} holds synthetic records: say synthetic", "origin")


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_spooled(path: Path, url: str, query: str) -> Iterator[Row]:
    seen: Counter[str] = Counter()
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            digest = hashlib.sha256(f"{url}\n{query}\n{line}".encode()).hexdigest()
            yield (
                f"row {number:,} of the query",
                _make_prefix(digest, seen[digest]),
                json.loads(line),
            )
            seen[digest] += 1


def _run_query(url: str, query: str) -> Iterator[dict[str, Json]]:
    try:
        source = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        raise UserError("sql must be a URL of SQLAlchemy, this cannot be read", "sql") from None
    try:
        engine = sa.create_engine(source)
        with engine.connect() as connection:
            found = connection.execution_options(stream_results=True).exec_driver_sql(
                query, execution_options={"no_parameters": True}
            )
            if not found.returns_rows:
                raise UserError("query must give rows", "query")
            for number, row in enumerate(found.mappings(), 1):
                yield _plain(dict(row), f"row {number:,} of the query")
    except ModuleNotFoundError as error:
        cure = f"pip install {error.name}"
        raise UserError(f"sql: the package {error.name} is missing: {cure}", "sql") from None
    except exc.NoSuchModuleError:
        raise UserError(f"sql: no driver is known for {source.drivername}://", "sql") from None
    except exc.SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        place = engines.show(source)
        raise UserError(f"query of {place} failed: {said:.200}", "query") from None


def _plain(row: Mapping[str, Any], where: str) -> dict[str, Json]:
    """Return a row of a database or Parquet as JSON; empty columns are left out."""
    found = {}
    for name, value in row.items():
        if value is None:
            continue
        if isinstance(value, str) and name in STRUCTURED and value.lstrip()[:1] in ("[", "{"):
            found[name] = _parse(value, name, where)
        else:
            found[name] = _simplify(value, name, where)
    return found


def _parse(value: str, name: str, where: str) -> Json:
    """Parse messages that are written as a text; return other texts unchanged."""
    try:
        found = parse(value, where)
    except UserError:  # the text only begins like JSON
        return value
    said = isinstance(found, list) and all(isinstance(one, dict) and "role" in one for one in found)
    return found if said or name in ("messages", "conversations") else value


def _simplify(value: Any, name: str, where: str) -> Json:
    if isinstance(value, Mapping):
        return {k: _simplify(v, name, where) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_simplify(one, name, where) for one in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes | memoryview):
        raise UserError(f"{name} holds bytes, which rows cannot bring ({where})", name)
    return value if isinstance(value, str | int | float | bool) else str(value)
