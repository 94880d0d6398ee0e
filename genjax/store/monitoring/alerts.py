"""Alerts: what rules found, once for as long as it lasts, until somebody acknowledges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.index.encoders import Encoder
from genjax.store.monitoring.measuring import Measurement, measure
from genjax.store.monitoring.rules import Kept, list_rules
from genjax.store.rows import insert, make_ids, now, to_time
from genjax.store.store import Store


@dataclass(frozen=True)
class Alert:
    """What a rule found.

    Attributes:
      id: id of the alert.
      rule: name of the rule.
      time: when it began.
      value: value that was too much, the last while it lasts.
      said: the value in words.
      ended: when it ended; None while it lasts.
      acknowledged: when somebody acknowledged it.
      user: who did.
    """

    id: str
    rule: str
    time: datetime
    value: float | None
    said: str
    ended: datetime | None
    acknowledged: datetime | None
    user: str | None


@dataclass(frozen=True)
class Checked:
    """A rule after a check.

    Attributes:
      kept: the rule.
      value: what it saw; None if there was too little to see, or nothing new.
      said: that in words.
      lasts: whether an alert lasts.
      is_new: whether this check began it.
    """

    kept: Kept
    value: float | None
    said: str
    lasts: bool
    is_new: bool


def check_alerts(
    store: Store,
    waiting: int = 0,
    open_encoder: Callable[[], Encoder | None] = lambda: None,
    at: datetime | None = None,
) -> list[Checked]:
    """Measure what all rules watch, and keep what is too much as alerts.

    An alert lasts while the rule's value stays above; it is not repeated. Where there is too little
    to say anything, an alert neither begins nor ends. Times do not decide that: a clock that jumps
    neither repeats nor loses an alert.

    Args:
      store: the store.
      waiting: number of exchanges that wait for the store.
      open_encoder: opens the encoder if a rule needs it.
      at: time up to which is looked; None for now.
    """
    at = at or datetime.now(UTC)
    found = []
    encoders: list[Encoder | None] = []
    for kept in list_rules(store):
        if kept.rule.on == "drift" and not encoders:
            encoders.append(open_encoder())
        try:
            seen = measure(store, kept, at, waiting, encoders[0] if encoders else None)
        except UserError as error:
            seen = Measurement(None, str(error))
        found.append(_keep(store, kept, seen))
    return found


def _keep(store: Store, kept: Kept, seen: Measurement | None) -> Checked:
    """Begin, continue or end the alert of a rule, as one transaction."""
    table, rules = schema.alerts, schema.alert_rules
    lasting = sa.select(table.c.id).where(table.c.rule == kept.name, table.c.ended.is_(None))
    if seen is None:
        with store.reading() as connection:
            lasts = connection.execute(lasting).first() is not None
        return Checked(kept, None, "nothing new", lasts, False)
    with store.writing() as connection:
        there = sa.select(rules.c.name).where(rules.c.name == kept.name)
        if connection.execute(there).first() is None:  # removed meanwhile
            return Checked(kept, seen.value, seen.said, False, False)
        if seen.seen is not None:
            mark = rules.update().where(rules.c.name == kept.name)
            connection.execute(mark.values(seen=seen.seen))
        one = connection.execute(lasting).scalar()
        if seen.value is None:
            return Checked(kept, None, seen.said, one is not None, False)
        if seen.value <= kept.rule.above:
            if one is not None:
                connection.execute(table.update().where(table.c.id == one).values(ended=now()))
            return Checked(kept, seen.value, seen.said, False, False)
        if one is not None:
            new = {"value": seen.value, "said": seen.said}
            connection.execute(table.update().where(table.c.id == one).values(new))
            return Checked(kept, seen.value, seen.said, True, False)
        row = {"id": make_ids(1)[0], "rule": kept.name, "time": now()}
        insert(connection, table, [row | {"value": seen.value, "said": seen.said}])
        return Checked(kept, seen.value, seen.said, True, True)


def list_alerts(store: Store, lasting: bool = False, limit: int = 200) -> list[Alert]:
    """Return the newest alerts, or only those that last."""
    table = schema.alerts
    query = sa.select(table).order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)
    if lasting:
        query = query.where(table.c.ended.is_(None))
    with store.reading() as connection:
        return [_read(row) for row in connection.execute(query).mappings()]


def _read(row: sa.RowMapping) -> Alert:
    times: dict[str, Any] = {
        name: None if row[name] is None else to_time(row[name])
        for name in ("time", "ended", "acknowledged")
    }
    return Alert(**{**row, **times})


def acknowledge(store: Store, one: str) -> None:
    """Note that the store's user has seen an alert; the first who did stays.

    Args:
      store: the store.
      one: id of the alert, or the name of a rule whose alert lasts.

    Raises:
      UserError: there is no such alert.
    """
    table = schema.alerts
    which = sa.or_(table.c.id == one, sa.and_(table.c.rule == one, table.c.ended.is_(None)))
    with store.writing() as connection:
        found = connection.execute(sa.select(table.c.id).where(which)).scalars().all()
        if not found:
            raise UserError(f"alert must be an alert or a rule with one, got {one!r:.80}", "alert")
        first = table.update().where(table.c.id.in_(found), table.c.acknowledged.is_(None))
        connection.execute(first.values(acknowledged=now(), user=store.user))
