"""The same change of many records, by few statements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.limits import check_record
from genjax.store.records import Record
from genjax.store.rows import Row, insert, load, name_kind, now, split, to_rows
from genjax.store.store import Store

Change = Callable[[Record], Record]


def change_all(store: Store, connection: sa.Connection, ids: Sequence[str], change: Change) -> int:
    """Change records within a transaction, as ``Store.change`` does one; returns how many are
    others now.

    Args:
      store: that they are in.
      connection: of the transaction.
      ids: of the records.
      change: gives a record as it is to be; the bytes of it, and the records that it names, stay.

    Raises:
      UserError: a record would be wrong.
    """
    count, time = 0, now()
    for part in split(ids):
        past: list[Row] = []
        updates: dict[tuple[sa.Table, tuple[str, ...]], list[Row]] = {}
        for before in load(connection, part):
            after = change(before)
            check_record(after, store.limits)
            old, new = to_rows(before), to_rows(after)
            fields: Row = {}
            own = schema.KINDS[name_kind(before)]
            for table, was, is_ in ((schema.records, old[0], new[0]), (own, old[1], new[1])):
                changed = {name: value for name, value in is_.items() if was[name] != value}
                if changed:
                    row = {"one": before.id} | {f"new_{k}": v for k, v in changed.items()}
                    updates.setdefault((table, tuple(changed)), []).append(row)
                fields |= {name: [was[name], value] for name, value in changed.items()}
            if fields:
                past.append({"record": before.id, "changes": fields})
        for (table, names), rows in updates.items():
            values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
            update = table.update().where(table.c.id == sa.bindparam("one")).values(values)
            connection.execute(update, rows)
        shared = {"user": store.user, "time": time, "action": "update"}
        insert(connection, schema.history, [row | shared for row in past])
        follows = [{"record": row["record"], "action": "upsert"} for row in past]
        insert(connection, schema.outbox, follows)
        count += len(past)
    return count
