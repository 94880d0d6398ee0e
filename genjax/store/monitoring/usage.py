"""Count the requests of a store: tokens, times, errors and cost, by run, user, day or route."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.monitoring.prices import Price, find_price
from genjax.store.rows import now, to_number, to_time
from genjax.store.store import Store

By: TypeAlias = Literal["run", "user", "day", "route", "whole"]
DAY = 86_400_000_000  # microseconds
FAILED, LEFT = 400, 499  # statuses of errors start at the first; the second: the client left
PERCENT = (50, 95)
UNKNOWN = "-"  # the run or user of a request that has none


@dataclass(frozen=True)
class Usage:
    """The requests of one run, user, day or route.

    Attributes:
      key: its name.
      requests: number of requests.
      errors: number of errors by status; a client that left (499) counts as one, but not in
        ``error_rate``.
      tokens_in: tokens that were read.
      tokens_out: tokens that were drawn.
      first_ms: median and 95th percentile of the time to the first token of answers.
      whole_ms: median and 95th percentile of the time of whole answers.
      cost: by the prices given; None if one of the runs has no price.
    """

    key: str
    requests: int
    errors: Mapping[int, int]
    tokens_in: int
    tokens_out: int
    first_ms: tuple[float | None, float | None]
    whole_ms: tuple[float | None, float | None]
    cost: float | None

    @property
    def error_rate(self) -> float:
        """Return the share of requests that were refused or failed."""
        failed = sum(count for status, count in self.errors.items() if status != LEFT)
        return failed / self.requests if self.requests else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        errors = {str(status): count for status, count in self.errors.items()}
        own = dataclasses.asdict(self) | {"errors": errors, "error_rate": self.error_rate}
        for name in ("first_ms", "whole_ms"):
            own[name] = dict(zip((f"p{p}" for p in PERCENT), own[name], strict=True))
        return own


def read_usage(
    store: Store,
    by: By = "run",
    since: datetime | None = None,
    until: datetime | None = None,
    prices: Mapping[str, Price] | None = None,
) -> list[Usage]:
    """Return the usage by runs, users, days or routes, in the order of their names.

    Percentiles are of answers (status below 400), by nearest rank.

    Args:
      store: the store.
      by: what to group by; days are those of UTC, "whole" is all in one.
      since: time of the first request; None for all.
      until: time after the last request.
      prices: prices by the names of runs; None for no cost.
    """
    where = bound(since, until)
    with store.reading() as connection:
        counts = _read_counts(connection, by, where)
        first = _read_percentiles(connection, by, where, "first_ms")
        whole = _read_percentiles(connection, by, where, "milliseconds")
    found = []
    for key in sorted({row["key"] for row in counts}):
        rows = [row for row in counts if row["key"] == key]
        errors: dict[int, int] = {}
        for row in rows:
            if row["status"] >= FAILED:
                errors[row["status"]] = errors.get(row["status"], 0) + row["count"]
        found.append(
            Usage(
                key,
                sum(row["count"] for row in rows),
                dict(sorted(errors.items())),
                sum(row["tokens_in"] for row in rows),
                sum(row["tokens_out"] for row in rows),
                first.get(key, (None, None)),
                whole.get(key, (None, None)),
                None if prices is None else _count_cost(rows, prices),
            )
        )
    return found


def read_whole(store: Store, since: datetime | None, until: datetime | None) -> Usage | None:
    """Return the usage of all requests of a time; None if there were none."""
    found = read_usage(store, "whole", since, until)
    return found[0] if found else None


def count_cost(
    store: Store, prices: Mapping[str, Price], since: datetime, until: datetime
) -> float | None:
    """Return the cost of all requests of a time; None if a run has no price."""
    with store.reading() as connection:
        return _count_cost(_read_counts(connection, "route", bound(since, until)), prices)


def count_future(store: Store) -> int:
    """Return the number of requests with a time in the future, as of a clock that was wrong."""
    table = schema.requests
    with store.reading() as connection:
        query = sa.select(sa.func.count()).where(table.c.time > now())
        return int(connection.execute(query).scalar_one())


def _count_cost(rows: Sequence[Mapping[str, Any]], prices: Mapping[str, Price]) -> float | None:
    cost = 0.0
    for row in rows:
        if row["run"] is None:
            continue  # refused before a run was found: nothing was used
        price = find_price(prices, row["run"])
        if price is None:
            return None
        cost += price.count(row["tokens_in"], row["tokens_out"], row["milliseconds"])
    return cost


def bound(since: datetime | None, until: datetime | None) -> sa.ColumnElement[bool]:
    """Return the condition for requests of a time."""
    time = schema.requests.c.time
    return sa.and_(
        sa.true(),
        *(() if since is None else (time >= to_number(since),)),
        *(() if until is None else (time < to_number(until),)),
    )


def join_runs() -> tuple[sa.FromClause, sa.ColumnElement[Any]]:
    """Return the requests with the names of their runs, and that name."""
    table, runs = schema.requests, schema.KINDS["run"]
    name = sa.func.coalesce(runs.c.name, table.c.run)
    return table.outerjoin(runs, runs.c.id == table.c.run), name


def _key(by: By, name: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    table = schema.requests
    columns: dict[By, sa.ColumnElement[Any]] = {
        "run": sa.func.coalesce(name, UNKNOWN),
        "user": sa.func.coalesce(table.c.user, UNKNOWN),
        "day": table.c.time // sa.literal(DAY, sa.BigInteger),
        "route": table.c.route,
        "whole": sa.literal("whole", sa.Text),
    }
    return columns[by].label("key")


def _name(by: By, key: Any) -> str:
    return f"{to_time(int(key) * DAY):%Y-%m-%d}" if by == "day" else str(key)


def _read_counts(
    connection: sa.Connection, by: By, where: sa.ColumnElement[bool]
) -> list[dict[str, Any]]:
    """Read counts and sums for each key, run and status."""
    table = schema.requests
    joined, name = join_runs()
    inner = (
        sa.select(
            _key(by, name),
            name.label("run"),
            table.c.status,
            table.c.tokens_in,
            table.c.tokens_out,
            table.c.milliseconds,
        )
        .select_from(joined)
        .where(where)
        .subquery()
    )
    group = (inner.c.key, inner.c.run, inner.c.status)
    sums = (
        sa.func.coalesce(sa.func.sum(inner.c[one]), 0).label(one)
        for one in ("tokens_in", "tokens_out", "milliseconds")
    )
    query = sa.select(*group, sa.func.count().label("count"), *sums).group_by(*group)
    return [
        {
            **row,
            "key": _name(by, row["key"]),
            "tokens_in": int(row["tokens_in"]),
            "tokens_out": int(row["tokens_out"]),
            "milliseconds": float(row["milliseconds"]),
        }
        for row in connection.execute(query).mappings()
    ]


def _read_percentiles(
    connection: sa.Connection, by: By, where: sa.ColumnElement[bool], what: str
) -> dict[str, tuple[float | None, float | None]]:
    """Read the percentiles of a column for each key: the values at the nearest ranks."""
    table = schema.requests
    joined, name = join_runs()
    column = table.c[what]
    inner = (
        sa.select(_key(by, name), column.label("value"))
        .select_from(joined)
        .where(where, column.is_not(None), table.c.status < FAILED)
        .subquery()
    )
    ranked = sa.select(
        inner.c.key,
        inner.c.value,
        sa.func.row_number().over(partition_by=inner.c.key, order_by=inner.c.value).label("rank"),
        sa.func.count().over(partition_by=inner.c.key).label("total"),
    ).subquery()
    wanted = (
        sa.func.max(
            sa.case((ranked.c.rank == (ranked.c.total * percent + 99) // 100, ranked.c.value))
        )
        for percent in PERCENT
    )
    query = sa.select(ranked.c.key, *wanted).group_by(ranked.c.key)
    return {_name(by, key): (low, high) for key, low, high in connection.execute(query)}
