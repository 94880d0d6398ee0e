"""Keep the rules of alerts in a store."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError, unknown_name
from genjax.store import schema
from genjax.store.limits import check_text
from genjax.store.monitoring.rule import Rule
from genjax.store.rows import insert, now, to_time
from genjax.store.store import Store

LONGEST_NAME = 200


@dataclass(frozen=True)
class Kept:
    """A rule in a store.

    Attributes:
      name: name of the rule.
      rule: the rule.
      user: who added it.
      time: when it was added.
      seen: end of the last window that was compared for drift, in microseconds.
    """

    name: str
    rule: Rule
    user: str
    time: datetime
    seen: int | None


def add_rule(store: Store, name: str, rule: Rule) -> None:
    """Add a rule to a store.

    Raises:
      UserError: the name is empty, too long or known.
    """
    check_text(name, "rule", LONGEST_NAME)
    if not name.strip():
        raise UserError("rule must have a name, got ''", "rule")
    table = schema.alert_rules
    with store.writing() as connection:
        if connection.execute(sa.select(table.c.name).where(table.c.name == name)).first():
            raise UserError(f"rule {name!r:.80} is there already: remove it first", "rule")
        options = dataclasses.asdict(rule) | {"price": list(rule.price)}
        row = {"name": name, "user": store.user, "time": now(), "options": options}
        insert(connection, table, [row])


def list_rules(store: Store) -> list[Kept]:
    """Return the rules of a store, in the order of their names."""
    with store.reading() as connection:
        return read_rules(connection)


def read_rules(connection: sa.Connection) -> list[Kept]:
    """Return the rules within a transaction, see ``list_rules``."""
    table = schema.alert_rules
    rows = connection.execute(sa.select(table).order_by(table.c.name)).mappings()
    return [
        Kept(row["name"], _read(row["options"]), row["user"], to_time(row["time"]), row["seen"])
        for row in rows
    ]


def _read(options: Mapping[str, Any]) -> Rule:
    return Rule(**{**options, "price": tuple(options["price"])})


def remove_rule(store: Store, name: str) -> None:
    """Remove a rule; what it has found stays, and no longer lasts.

    Raises:
      UserError: there is no such rule.
    """
    table, alerts = schema.alert_rules, schema.alerts
    with store.writing() as connection:
        if not connection.execute(table.delete().where(table.c.name == name)).rowcount:
            raise unknown_name("rule", name, [kept.name for kept in read_rules(connection)])
        lasting = alerts.update().where(alerts.c.rule == name, alerts.c.ended.is_(None))
        connection.execute(lasting.values(ended=now()))
