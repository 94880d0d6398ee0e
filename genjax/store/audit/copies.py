"""Find copies of records outside the store, in exports and run directories, and take them away."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from etils import epath

from genjax.errors import UserError
from genjax.machine import disk
from genjax.serial.json_text import Json
from genjax.store import schema
from genjax.store.formats.writing import Export
from genjax.store.records import OUT, DataSet, Run
from genjax.store.rows import load, split
from genjax.store.store import Store
from genjax.store.training.snapshots import Snapshot, hash_rows, read_snapshot

SNAPSHOTS = "snapshot_*.json"
MARKS = ("README.md", "manifest.json")  # of the folders that exports and data sets write
Line = Callable[[str], bool]


@dataclass(frozen=True)
class Copy:
    """A file or folder that was written from the store.

    Attributes:
      path: its path.
      form: the form of the export; "dataset" of a data set.
      filter: filter of its records.
      origin: origin of its records.
      sure: whether the store knows that it holds records which go.
    """

    path: str
    form: str
    filter: str
    origin: str
    sure: bool

    def to_json(self) -> dict[str, Json]:
        """Return the fields as JSON."""
        return dict(vars(self))


def find_copies(
    connection: sa.Connection, ids: Sequence[str], learned: Sequence[str]
) -> list[Copy]:
    """Return the files that hold records, and those that may: exports that were given no name.

    Args:
      connection: a connection that reads.
      ids: ids of the records.
      learned: ids of data sets that have them as parents.
    """
    table, found = schema.audit, dict[str, Copy]()
    query = sa.select(table.c.action, table.c.details, table.c.link).order_by(table.c.link)
    sets = [one for one in load(connection, learned) if isinstance(one, DataSet)]
    sure = {str(one.manifest[OUT]) for one in sets if one.manifest and OUT in one.manifest}
    oldest = _find_oldest(connection, ids)
    for action, said, link in connection.execute(
        query.where(table.c.action.in_(("export", "dataset")))
    ):
        if not isinstance(said, dict) or link < oldest:
            continue
        path, form = str(said[OUT]), str(said.get("form", action))
        listed = said.get("name") is not None  # then its data set says what it holds
        if (path in sure or not listed) and Path(path).exists():
            filter, origin = str(said.get("filter", "")), str(said.get("origin", "any"))
            found[path] = Copy(path, form, filter, origin, path in sure)
    return list(found.values())


def _find_oldest(connection: sa.Connection, ids: Sequence[str]) -> int:
    """Return the link that added the first of these records: what was written before lacks them."""
    past = schema.history
    oldest = sa.func.min(past.c.link)
    found = (
        connection.execute(sa.select(oldest).where(past.c.record.in_(part))).scalar()
        for part in split(ids)
    )
    return min((one for one in found if one is not None), default=0)


def clean_copy(store: Store, copy: Copy, ids: Sequence[str]) -> str:
    """Take erased records out of a file, or remove it; return what was done, "" for nothing."""
    path = Path(copy.path)
    if path.is_dir():
        if not copy.sure and not _holds(path, ids):
            return ""
        if not any((path / mark).is_file() for mark in MARKS):
            raise UserError(f"exports {path} is not a folder that genjax wrote: look", "exports")
        shutil.rmtree(path)
        return f"{path} removed"
    if not path.is_file():
        return ""
    lines = _read_lines(path)
    keeps = _keep_ids(ids) if copy.form == "records" else _keep_rows(store, copy)
    kept = [line for line in lines if keeps(line)]
    if len(kept) == len(lines):
        return ""
    coded = b"".join(line.encode() + b"\n" for line in kept)
    disk.write(path, gzip.compress(coded) if path.suffix == ".gz" else coded)
    return f"{path} written again without {len(lines) - len(kept):,} rows"


def _holds(path: Path, ids: Sequence[str]) -> bool:
    """Return whether a folder of Parquet has one of these ids, or no ids at all."""
    import pyarrow.parquet as pq

    gone = set(ids)
    for part in path.rglob("*.parquet"):
        names = pq.read_schema(part).names
        if "id" not in names:
            return True
        if not gone.isdisjoint(pq.read_table(part, columns=["id"])["id"].to_pylist()):
            return True
    return False


def _read_lines(path: Path) -> list[str]:
    coded = path.read_bytes()
    text = (gzip.decompress(coded) if path.suffix == ".gz" else coded).decode()
    return text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")


def _keep_ids(ids: Sequence[str]) -> Line:
    gone = set(ids)

    def keeps(line: str) -> bool:
        row = json.loads(line)
        named = (row.get(name) for name in ("id", "prompt", "document", "target", "session"))
        return gone.isdisjoint(one for one in named if isinstance(one, str))

    return keeps


def _keep_rows(store: Store, copy: Copy) -> Line:
    """Return a test for the rows that the store would still write."""
    wanted: Any = Export(copy.form, copy.filter, copy.origin)  # type: ignore[arg-type]
    known = {json.dumps(row.value, ensure_ascii=False) for row in wanted.rows(store)}
    return lambda line: line in known


def find_snapshots(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the files of rows in run directories that hold records, with the id of their run."""
    table, gone = schema.KINDS["run"], set(ids)
    query = sa.select(table.c.id).where(table.c.path.is_not(None)).order_by(table.c.id)
    runs = list(connection.execute(query).scalars())
    found = {}
    for run in load(connection, runs):
        for path, snapshot in _list_snapshots(run if isinstance(run, Run) else None):
            if not gone.isdisjoint(one for row in snapshot.records for one in row):
                found[str(path)] = run.id
    return found


def _list_snapshots(run: Run | None) -> Iterator[tuple[epath.Path, Snapshot]]:
    place = None if run is None or run.path is None else epath.Path(run.path)
    if place is not None and place.exists():
        for path in sorted(place.glob(SNAPSHOTS)):
            yield path, read_snapshot(path)


def clean_snapshot(path: str, ids: Sequence[str], names: Sequence[str]) -> None:
    """Take records out of the rows that a run has kept, if it still has them."""
    place, gone = epath.Path(path), set(ids)
    if not place.exists():
        return
    found = read_snapshot(place)
    kept = [
        (row, records)
        for row, records in zip(found.rows, found.records, strict=True)
        if gone.isdisjoint(records)
    ]
    inputs = {
        name: digest for name, digest in found.inputs.items() if name.partition(" ")[2] not in gone
    }
    raters = {
        name: count for name, count in found.raters.items() if name.partition(" ")[2] not in names
    }
    rows, records = tuple(row for row, _ in kept), tuple(one for _, one in kept)
    print_ = hash_rows(rows, inputs)
    Snapshot(found.place, print_, rows, records, inputs, raters, found.remarks).write(place)
