"""Hash records and statements so that the hashes tell nothing once their salts are gone.

Every hash is BLAKE2b keyed by 16 random bytes, the salt, which is kept beside what is hashed and
removed with it. Whoever guesses an erased value then has nothing to compare the guess with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.records import KINDS
from genjax.store.rows import Row, split

SALT = 32  # characters of a salt
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
JSONS = frozenset(column.name for column in schema.records.c if isinstance(column.type, sa.JSON))


def make_salts(count: int) -> list[str]:
    """Return new salts."""
    drawn = os.urandom(SALT // 2 * count).hex()
    return [drawn[first : first + SALT] for first in range(0, SALT * count, SALT)]


def hash_text(text: str, salt: str = "") -> str:
    """Return the hash of a text, keyed by a salt."""
    coded = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(coded, key=salt.encode(), digest_size=32).hexdigest()


def write_form(value: Any) -> str:
    """Return the canonical form of JSON: the same before and after any database."""
    return ENCODER.encode(settle(value))


def settle(value: Any) -> Any:
    """Return JSON with whole numbers as integers, since PostgreSQL gives 1e20 as one."""
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))
    if isinstance(value, Mapping):
        return {name: settle(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [settle(one) for one in value]
    return value


def hash_row(shared: Mapping[str, Any], own: Row, parents: Sequence[str], salt: str) -> str:
    """Return the hash of a record.

    Args:
      shared: its row of ``records``.
      own: its row of the kind's table.
      parents: ids of its parents, in their order.
      salt: salt of the hash.
    """
    # Columns without a value are left out, so that one more column changes no hash.
    form: Row = {
        name: settle(value) if name in JSONS else value
        for name, value in shared.items()
        if value is not None
    }
    for name, value in own.items():
        if value is not None and name != "id":
            plain = isinstance(value, str | bool | int)
            form[f"own {name}"] = value if plain else settle(value)
    if parents:
        form["parents"] = list(parents)
    return hash_text(ENCODER.encode(form), salt)


def hash_item(row: Mapping[str, Any] | sa.RowMapping) -> str:
    """Return the hash of a row of the history, which its link holds."""
    changes = row["changes"]
    form = (
        row["record"],
        row["time"],
        row["action"],
        None if changes is None else settle(changes),
        row["before"],
        row["after"],
    )
    return hash_text(ENCODER.encode(form), row["salt"])


def read_rows(
    connection: sa.Connection, ids: Sequence[str]
) -> dict[str, tuple[Row, Row, list[str]]]:
    """Return the rows of records, also of deleted ones: shared, own, and parents, by id."""
    found: dict[str, tuple[Row, Row, list[str]]] = {}
    records, links = schema.records, schema.links
    for part in split(ids):
        kinds: dict[str, list[str]] = {}
        for shared in connection.execute(sa.select(records).where(records.c.id.in_(part))):
            found[shared.id] = (dict(shared._mapping), {}, [])
            kinds.setdefault(shared.kind, []).append(shared.id)
        for kind, some in kinds.items():
            if kind not in KINDS:  # somebody has changed the table by hand
                continue
            own = schema.KINDS[kind]
            for row in connection.execute(sa.select(own).where(own.c.id.in_(some))):
                found[row.id] = (found[row.id][0], dict(row._mapping), found[row.id][2])
        query = sa.select(links).where(links.c.child.in_(part))
        for link in connection.execute(query.order_by(links.c.child, links.c.position)):
            if link.child in found:
                found[link.child][2].append(link.parent)
    return found
