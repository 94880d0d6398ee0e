"""Change many records in the same way with few statements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.audit import chain
from genjax.store.limits import check_record
from genjax.store.records import Record
from genjax.store.rows import Row, insert, load, name_kind, now, split, to_rows
from genjax.store.store import Store

Change = Callable[[Record], Record]


def change_all(store: Store, connection: sa.Connection, ids: Sequence[str], change: Change) -> int:
    """Change records in a transaction, as ``Store.change`` does, and count those that differ.

    Args:
      store: the store of the records.
      connection: the connection of the transaction.
      ids: the ids of the records.
      change: a function that returns the changed record, with the same bytes and references.

    Raises:
      UserError: a changed record would be invalid.
    """
    count, time = 0, now()
    for part in split(list(dict.fromkeys(ids))):
        past: list[Row] = []
        updates: dict[tuple[sa.Table, tuple[str, ...]], list[Row]] = {}
        for before in load(connection, part):
            after = change(before)
            check_record(after, store.limits)
            after = store.guard.clean(after, store.cleans)
            store.access.check_change(connection, before, after)
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
        ids, changes = [row["record"] for row in past], [row["changes"] for row in past]
        token = store.access.token
        chain.record(connection, store.user, "update", ids, changes=changes, time=time, token=token)
        follows = [{"record": row["record"], "action": "upsert"} for row in past]
        insert(connection, schema.outbox, follows)
        count += len(past)
    return count
