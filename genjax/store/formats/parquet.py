"""Read and write folders of Parquet with a Hugging Face card: records of every kind, or rows."""

from __future__ import annotations

import dataclasses
import graphlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genjax.data.synthetic import mark_schema
from genjax.errors import UserError
from genjax.machine import disk
from genjax.serial.json_text import parse
from genjax.store import schema
from genjax.store.bulk import make_schema, read_table
from genjax.store.filters import All, Filter
from genjax.store.formats.turns import Object
from genjax.store.records import KINDS, Payload, Record, Wanted, own_fields, references
from genjax.store.store import Store

CARD = "README.md"
CONTENT = pa.field("content", pa.large_binary())  # the bytes of blobs
JSON = ("metadata", "data", "sampler", "manifest")


def write_records(
    store: Store, folder: Path, filter: Filter | str = All(()), origin: Wanted = "real"
) -> int:
    """Write records, one file per kind, and a card; return their number.

    Raises:
      UserError: the folder exists, or the filter is wrong.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: take another name, or remove it", str(folder))
    part = folder.with_name(f".{folder.name}{disk.PART}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    counts: dict[str, int] = {}
    try:
        for kind in KINDS:
            if store.count(filter, kind=kind, origin=origin) if _knows(kind, filter) else 0:
                counts[kind] = _write_kind(store, part / f"{kind}.parquet", kind, filter, origin)
        _write_card(part, {kind: f"{kind}.parquet" for kind in counts}, counts, origin)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sum(counts.values())


def _knows(kind: str, filter: Filter | str) -> bool:
    """Return whether a kind has the fields of a filter; otherwise none of its records match."""
    from genjax.store.query import Query

    try:
        Query(filter, kind, "any").compile(postgres=False)
    except UserError:
        Query(filter, None, "any").compile(postgres=False)
        return False
    return True


def _write_kind(store: Store, path: Path, kind: str, filter: Filter | str, origin: Wanted) -> int:
    wanted = make_schema(kind)
    with_bytes = any(f.name == "payload" for f in own_fields(kind))
    if with_bytes:
        wanted = wanted.append(CONTENT)
    if origin != "real":
        wanted = mark_schema(wanted)
    count = 0
    with pq.ParquetWriter(path, wanted) as writer:
        for batch in read_table(store, kind, filter, origin=origin):
            if with_bytes:
                batch = batch.append_column(CONTENT, _read_bytes(store, batch))
            writer.write_batch(batch.replace_schema_metadata(wanted.metadata))
            count += len(batch)
    return count


def _read_bytes(store: Store, batch: pa.RecordBatch) -> pa.Array:
    blobs = batch["blob"].to_pylist()
    bytes_ = [None if blob is None else store.read_blob(Payload(blob=blob)) for blob in blobs]
    return pa.array(bytes_, CONTENT.type)


def write_rows(path: Path, rows: Iterable[Object], synthetic: bool) -> int:
    """Write rows to a folder with a card, with one type per column; return their number."""
    listed = list(rows)
    if path.exists():
        raise UserError(f"{path} is there already: take another name, or remove it", str(path))
    part = path.with_name(f".{path.name}{disk.PART}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        table = _make_table(listed)
        if synthetic:
            table = table.cast(mark_schema(table.schema))
        pq.write_table(table, part / "train.parquet")
        origin: Wanted = "any" if synthetic else "real"
        _write_card(part, {"default": "train.parquet"}, {"row": len(listed)}, origin)
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(listed)


def _make_table(rows: Sequence[Object]) -> pa.Table:
    """Return a table with a column for each member; members of several types become JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            array = pa.array(values)
            exact = _without_none(array.to_pylist()) == _without_none(values)
        except pa.ArrowException:
            exact = False
        columns[name] = array if exact else pa.array([_spell(value) for value in values])
    return pa.table(columns)


def _spell(value: Any) -> str | None:
    return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(one) for name, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list) else value


def _write_card(
    folder: Path, files: dict[str, str], counts: dict[str, int], origin: Wanted
) -> None:
    lines = ["---", "configs:"]
    for name, file in files.items():
        lines += [f"- config_name: {name}", f"  data_files: {file}"]
    tags = ["- genjax", *(["- synthetic"] if origin != "real" else [])]
    listed = [f"- {count:,} {kind}{'s' * (count != 1)}" for kind, count in counts.items()]
    what = {
        "real": "All records are real.",
        "synthetic": "All records are synthetic: models drew them.",
        "any": "Some records may be synthetic: models drew them.",
    }[origin]
    lines += ["tags:", *tags, "---", "", "# Records of a genjax store", "", what, "", *listed]
    disk.write(folder / CARD, "\n".join(lines) + "\n")


def read_records(folder: Path) -> list[Record]:
    """Read the records of a folder, each after those it refers to.

    Raises:
      UserError: the folder has no records, or a damaged file.
    """
    found: dict[str, Record] = {}
    for kind in KINDS:
        path = folder / f"{kind}.parquet"
        if path.exists():
            for record in _read_kind(path, kind):
                found[record.id] = record
    if not found:
        raise UserError(
            f"{folder} holds no records: it has no {'.parquet, '.join(KINDS)}.parquet", str(folder)
        )
    graph = {r.id: [o for _, o, _ in references(r) if o in found] for r in found.values()}
    try:
        return [found[one] for one in graphlib.TopologicalSorter(graph).static_order()]
    except graphlib.CycleError:
        raise UserError(f"parents of records in {folder} close a circle", "parents") from None


def _read_kind(path: Path, kind: str) -> Iterator[Record]:
    wanted = [*make_schema(kind).names, CONTENT.name]
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no whole file of Parquet: {error!s:.100}", str(path)) from None
    for name in table.column_names:
        if name not in wanted:
            raise UserError(f"{name} of {path} is not a column of a {kind}", name)
    for number, row in enumerate(table.to_pylist(), 1):
        where = f"row {number:,} of {path.name}"
        try:
            yield _read_record(row, kind, where)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"{where} is not a {kind}: {error!s:.100}", kind) from None


def _read_record(row: dict[str, Any], kind: str, where: str) -> Record:
    for name in JSON:
        if isinstance(row.get(name), str):
            row[name] = parse(row[name], where)
    content = row.pop(CONTENT.name, None)
    payload = {name: row.pop(name, None) for name in schema.PAYLOAD}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in row.items()}
    time = values.get("time")
    values["metadata"] = values.get("metadata") or {}
    values["time"] = time.astimezone(tz=None) if isinstance(time, datetime) else None
    if any(f.name == "payload" for f in own_fields(kind)):
        payload["content"] = content
        values["payload"] = Payload(**payload)
    names = {f.name for f in dataclasses.fields(KINDS[kind])}
    known: dict[str, Any] = {name: v for name, v in values.items() if name in names}
    return KINDS[kind](**known)
