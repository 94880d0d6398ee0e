"""Read and add many records of one kind at once, as Arrow tables."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from genjax.errors import UserError, unknown_name
from genjax.store import schema
from genjax.store.audit.chain import Rows, link_rows
from genjax.store.filters import All, Filter
from genjax.store.limits import Limits, encode_json
from genjax.store.lookups import find_known
from genjax.store.privacy.cleaning import find_cleaned
from genjax.store.privacy.columns import find_guard, find_plain, protect
from genjax.store.privacy.guard import Guard
from genjax.store.query import Query, sort
from genjax.store.records import KINDS, REFERS, UNKNOWN, SourceKind, Wanted, own_fields
from genjax.store.rows import make_ids, now, split
from genjax.store.store import Store

BATCH = 20_000  # rows in a batch
JSONS = ("metadata", "data", "tags", "sampler", "manifest")  # columns of JSON, as text
TIME = pa.timestamp("us", "UTC")
STRINGS = pa.list_(pa.string())
NUL = "\0"
JSON = ("metadata", "data", "sampler", "manifest")


def make_schema(kind: str) -> pa.Schema:
    """Return the columns of a kind: its fields and those of its payload, with JSON as text."""
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    fields = [
        pa.field("id", pa.string(), False),
        pa.field("origin", pa.string(), False),
        pa.field("generator", pa.string()),
        pa.field("parents", STRINGS),
        pa.field("time", TIME, False),
        pa.field("tags", STRINGS),
        pa.field("metadata", pa.string()),
    ]
    if any(f.name == "payload" for f in own_fields(kind)):
        fields += [
            pa.field(name, pa.int64() if name == "size" else pa.string()) for name in schema.PAYLOAD
        ]
    own = [column for column in schema.KINDS[kind].c if column.name != "id"]
    return pa.schema([*fields, *(pa.field(c.name, _type(c), bool(c.nullable)) for c in own)])


def _type(column: sa.Column[Any]) -> pa.DataType:
    if isinstance(column.type, sa.BigInteger):
        return pa.int64()
    if isinstance(column.type, sa.Boolean):
        return pa.bool_()
    return pa.float64() if isinstance(column.type, sa.Double) else pa.string()


def read_table(
    store: Store,
    kind: str,
    filter: Filter | str = All(()),
    *,
    origin: Wanted = "real",
    order: str = "time",
) -> Iterator[pa.RecordBatch]:
    """Records of a kind in batches, all of one state of the store; see ``Store.select``.

    Raises:
      UserError: the kind or the filter is wrong.
    """
    wanted = make_schema(kind)
    query = Query(filter, kind, origin, order)
    own, records = schema.KINDS[kind], schema.records
    columns = [_find_column(kind, name, store.guard) for name in wanted.names]
    statement, by, down = query.compile(*columns, postgres=store.is_postgres)
    found = statement.get_final_froms()[0]
    if own not in _tables(found):
        found = found.join(own, own.c.id == records.c.id)
    statement = sort(sa.select(*columns).select_from(found).where(*_terms(statement)), by, down)
    with store.reading() as connection:
        result = connection.execution_options(stream_results=True).execute(statement)
        for rows in result.partitions(BATCH):
            yield _make_batch(rows, wanted, connection)


def _tables(found: sa.FromClause) -> set[Any]:
    return set(found._from_objects)


def _terms(statement: sa.Select[Any]) -> tuple[Any, ...]:
    return () if statement.whereclause is None else (statement.whereclause,)


def _find_column(kind: str, name: str, guard: Guard) -> sa.ColumnElement[Any]:
    if name == "parents":
        return sa.literal(None, sa.Text).label(name)
    table = schema.records if name in schema.records.c else schema.KINDS[kind]
    column = table.c[name]
    text = isinstance(find_plain(column), sa.JSON) and name not in guard.sealed
    return sa.cast(column, sa.Text).label(name) if text else column.label(name)


def _make_batch(
    rows: Sequence[Any], wanted: pa.Schema, connection: sa.Connection
) -> pa.RecordBatch:
    columns = dict(zip(wanted.names, zip(*rows, strict=True), strict=True))
    sealed = find_guard(connection.dialect).sealed
    parents: dict[str, list[str]] = {}
    links = schema.links
    linked = sa.select(links.c.child, links.c.parent).order_by(links.c.child, links.c.position)
    if connection.execute(sa.select(links.c.child).limit(1)).first() is not None:
        for part in split(columns["id"]):
            for child, parent in connection.execute(linked.where(links.c.child.in_(part))):
                parents.setdefault(child, []).append(parent)
    arrays = []
    for field in wanted:
        values: Sequence[Any] = columns[field.name]
        if field.name == "parents":
            values = [parents.get(one, []) for one in columns["id"]]
        elif field.name == "tags":
            values = [json.loads(one) if one else [] for one in values]
        elif field.name in JSON and field.name in sealed:  # decrypted as values
            values = [
                None if one is None else json.dumps(one, ensure_ascii=False) for one in values
            ]
        array = pa.array(values, pa.int64() if field.type == TIME else field.type)
        arrays.append(array.cast(TIME) if field.type == TIME else array)
    return pa.record_batch(arrays, schema=wanted)


def add_table(store: Store, kind: str, table: pa.Table) -> list[str]:
    """Add records of a kind, all or none; return their ids.

    Args:
      store: the store.
      kind: kind of the records.
      table: table with the columns of ``make_schema``. Missing columns are empty; ids and times are
        generated, and bytes must be stored already.

    Raises:
      UserError: a column is unknown, has another type, is too large, or names a missing record.
    """
    wanted = make_schema(kind)
    table = _convert(table, wanted, kind)
    _check_values(store, table, kind)
    ids: list[str] = table["id"].to_pylist()
    with store.writing() as connection:
        if known := find_known(connection, ids) if table["id"].nbytes else None:
            raise UserError(f"id must be new, {min(known)!r:.80} is known", "id")
        _check_references(connection, table, kind)
        tags = [tuple(some or ()) for some in table["tags"].to_pylist()]
        blobs = table["blob"].to_pylist() if "blob" in table.column_names else ()
        rows = set(zip(table["origin"].to_pylist(), tags, strict=True))
        store.access.check_table(connection, kind, rows, {one for one in blobs if one})
        for batch in table.to_batches(BATCH):
            _insert(store, connection, kind, batch)
    return ids


def _convert(table: pa.Table, wanted: pa.Schema, kind: str) -> pa.Table:
    """Return the table with all columns of a kind, each of its type."""
    for name in table.column_names:
        if name not in wanted.names:
            raise unknown_name("column", name, wanted.names)
    count = len(table)
    arrays = {}
    for field in wanted:
        if field.name in table.column_names:
            try:
                arrays[field.name] = table[field.name].cast(field.type)
                arrays[field.name].validate(full=True)
            except pa.ArrowException as error:
                what = str(error).splitlines()[0][:150]
                raise UserError(
                    f"{field.name} must be of type {field.type}: {what}", field.name
                ) from None
        else:
            arrays[field.name] = pa.chunked_array([pa.nulls(count, field.type)])
    fill = {
        "id": pa.array(make_ids(count), pa.string()),
        "time": pa.array([now()] * count, pa.int64()).cast(TIME),
    }
    defaults: dict[str, Any] = {"role": "", "name": "feedback" if kind == "feedback" else None}
    defaults |= {"source_kind": "HUMAN", "valid": True}
    for name, array in arrays.items():
        if name in fill:
            arrays[name] = pc.if_else(pc.is_valid(array), array, pa.chunked_array([fill[name]]))
        elif not wanted.field(name).nullable and defaults.get(name) is not None:
            arrays[name] = pc.fill_null(array, defaults[name])
    return pa.table(arrays, schema=wanted.with_metadata(None))


def _check_values(store: Store, table: pa.Table, kind: str) -> None:
    """Refuse in whole columns what ``check_record`` refuses in records."""
    limits = store.limits
    for field in table.schema:
        _check_column(table[field.name], field, limits)
    synthetic = pc.equal(table["origin"], "synthetic")
    if not pc.all(pc.or_(synthetic, pc.equal(table["origin"], "real"))).as_py():
        raise UserError("origin must be one of real, synthetic", "origin")
    if not pc.all(pc.equal(synthetic, pc.is_valid(table["generator"]))).as_py():
        raise UserError(
            "generator must be given of synthetic records, and of no other", "generator"
        )
    _check_blobs(store, table)
    if kind == "feedback":
        judges = typing.get_args(SourceKind)
        if not pc.all(pc.is_in(table["source_kind"], pa.array(judges))).as_py():
            raise UserError(f"source_kind must be one of {', '.join(judges)}", "source_kind")


def _check_blobs(store: Store, table: pa.Table) -> None:
    """Refuse blobs that are not stored, or whose names are not hashes."""
    if "blob" not in table.column_names or table["blob"].null_count == len(table):
        return
    if store.blobs is None:
        raise UserError("blob: the store has no place for bytes", "blob")
    for one in pc.unique(table["blob"].drop_null()).to_pylist():
        if not store.blobs.has(one):
            raise UserError(f"blob {one:.80} is not stored", "blob")


def _check_column(column: pa.ChunkedArray, field: pa.Field, limits: Limits) -> None:
    if not field.nullable and column.null_count:
        raise UserError(f"{field.name} must be given for each record", field.name)
    if field.type == STRINGS:
        column = pc.list_flatten(column)
        if column.null_count:
            raise UserError(f"{field.name} must be lists of texts", field.name)
    if field.type not in (pa.string(), STRINGS):
        return
    json_like = field.name in JSON
    most = limits.text if field.name in ("text", "rationale") else limits.name
    most = limits.data if json_like else most
    longest = pc.max(pc.utf8_length(column)).as_py()
    if longest is not None and longest > most:
        raise UserError(
            f"{field.name} must have at most {most:,} characters, got {longest:,}", field.name
        )
    if pc.any(pc.match_substring(column, NUL)).as_py():
        raise UserError(f"{field.name} must be text, but holds NUL", field.name)
    if json_like:
        _check_json(column, field.name, limits.data)


def _check_json(column: pa.ChunkedArray, name: str, largest: int) -> None:
    for text in pc.unique(column).to_pylist():
        if text is None:
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise UserError(f"{name} must be JSON, got {text:.80}", name) from None
        if not isinstance(value, dict | list) or (name != "data" and isinstance(value, list)):
            raise UserError(f"{name} must be a JSON object, got {text:.80}", name)
        encode_json(value, name, largest)


def _check_references(connection: sa.Connection, table: pa.Table, kind: str) -> None:
    """Refuse ids of missing records; records of one table must not refer to each other."""
    records = schema.records
    fields = [*(f for f in own_fields(kind) if REFERS in f.metadata)]
    wanted: list[tuple[str, pa.ChunkedArray, tuple[str, ...]]] = [
        (f.name, table[f.name], f.metadata[REFERS]) for f in fields
    ]
    wanted += [
        ("generator", table["generator"], ("run",)),
        ("parents", pc.list_flatten(table["parents"]), ()),
    ]
    for name, column, kinds in wanted:
        ids = [one for one in pc.unique(column).to_pylist() if one not in (None, UNKNOWN)]
        known: dict[str, str] = {}
        for part in split(ids):
            query = sa.select(records.c.id, records.c.kind)
            query = query.where(records.c.id.in_(part), records.c.deleted.is_(None))
            known |= {one: found for one, found in connection.execute(query)}
        for one in ids:
            if one not in known or (kinds and known[one] not in kinds):
                what = " or ".join(kinds) or "record"
                raise UserError(f"{name} must be the id of a {what}, got {one!r:.80}", name)


def _insert(store: Store, connection: sa.Connection, kind: str, batch: pa.RecordBatch) -> None:
    columns: dict[str, Sequence[Any]] = {
        name: batch[name].to_pylist() for name in batch.schema.names if name not in ("time", "tags")
    }
    ids, count = columns["id"], len(batch)
    columns["time"] = batch["time"].cast(pa.int64()).to_pylist()
    columns["tags"] = [
        json.dumps(tags, ensure_ascii=False) if tags else None for tags in batch["tags"].to_pylist()
    ]
    columns["kind"] = [kind] * count
    _clean(store.guard, kind, columns)
    _name_users(store.guard, columns)
    _insert_columns(connection, schema.records, columns, count)
    _insert_columns(connection, schema.KINDS[kind], columns, count)
    links = [
        (child, position, parent)
        for child, parents in zip(ids, columns["parents"], strict=True)
        for position, parent in enumerate(parents or ())
    ]
    if links:
        parts = dict(zip(("child", "position", "parent"), zip(*links, strict=True), strict=True))
        _insert_columns(connection, schema.links, parts, len(links))
    made, token = _make_rows(kind, columns, count), store.access.token
    past = link_rows(connection, store.user, "add", ids, rows=made, token=token)
    by_name = {name: [row[name] for row in past] for name in past[0] if name != "changes"}
    _insert_columns(connection, schema.history, by_name, count)
    follow = {"record": ids, "action": ["upsert"] * count}
    _insert_columns(connection, schema.outbox, follow, count)


def _clean(guard: Guard, kind: str, columns: dict[str, Sequence[Any]]) -> None:
    """Remove personal data from columns, where the store says so."""
    if (clean := guard.cleaner) is None:
        return
    for name in find_cleaned(kind, columns):
        if name in JSON:
            columns[name] = [
                None if one is None else json.dumps(clean.json(json.loads(one)), ensure_ascii=False)
                for one in columns[name]
            ]
        else:
            columns[name] = [one and clean.text(one) for one in columns[name]]
    if "hash" in columns:
        texts = zip(columns["text"], columns["hash"], strict=True)
        columns["hash"] = [old and clean.hash(text, old) for text, old in texts]


def _name_users(guard: Guard, columns: dict[str, Sequence[Any]]) -> None:
    """Name users as the store keeps them, as the audit trail hashes what is kept."""
    if "user" in columns:
        columns["user"] = [one and guard.name_writer(one) for one in columns["user"]]
    if "source_id" in columns:
        judges = zip(columns["source_id"], columns["source_kind"], strict=True)
        columns["source_id"] = [
            guard.name_writer(one) if one and kind == "HUMAN" else one for one, kind in judges
        ]


def _make_rows(kind: str, columns: Mapping[str, Sequence[Any]], count: int) -> list[Rows]:
    """Return the rows as the audit trail hashes them."""
    read = {
        name: [None if one is None else json.loads(one) for one in values]
        if name in JSONS and any(one is not None for one in values)
        else values
        for name, values in columns.items()
    }
    tables = schema.records, schema.KINDS[kind]
    shared, own = ([column.name for column in table.c if column.name in read] for table in tables)
    parents = columns.get("parents") or [()] * count
    made = (
        [dict(zip(names, row, strict=True)) for row in zip(*(read[n] for n in names), strict=True)]
        for names in (shared, own)
    )
    return [(one, other, parts or ()) for one, other, parts in zip(*made, parents, strict=True)]


def _insert_columns(
    connection: sa.Connection, table: sa.Table, columns: Mapping[str, Sequence[Any]], count: int
) -> None:
    """Insert columns of values in the driver's types, with JSON as text."""
    names = [column.name for column in table.c if column.name in columns]
    dialect = connection.dialect
    kept = [protect(dialect, table.c[name], columns[name]) for name in names]
    rows = list(zip(*kept, strict=True))
    assert len(rows) == count
    quote = connection.dialect.identifier_preparer.quote
    listed = ", ".join(map(quote, names))
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        statement = f"COPY {quote(table.name)} ({listed}) FROM STDIN"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(names))
    connection.exec_driver_sql(f"INSERT INTO {quote(table.name)} ({listed}) VALUES ({marks})", rows)
