"""Count the requests of a store: tokens, times, errors and cost, by run, user, day or route."""

from __future__ import annotations

import dataclasses
from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import numpy as np
import sqlalchemy as sa

from genjax.store import schema
from genjax.store.monitoring.prices import Price, find_price
from genjax.store.rows import now, to_number, to_time
from genjax.store.store import Store

By: TypeAlias = Literal["run", "user", "day", "route", "whole"]
DAY = 86_400_000_000  # microseconds
BATCH = 10_000  # rows in memory at once
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


@dataclass
class _Sums:
    """Sums over the requests of a run with one status."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    milliseconds: float = 0.0


class _Group:
    """The requests of a key: sums by run and status, and the times of answers."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str | None, int], _Sums] = defaultdict(_Sums)
        self.whole_ms, self.first_ms = array("d"), array("d")

    def add(
        self,
        run: str | None,
        status: int,
        tokens_in: int | None,
        tokens_out: int | None,
        whole: float | None,
        first: float | None,
    ) -> None:
        sums = self.sums[run, status]
        sums.requests += 1
        sums.tokens_in += tokens_in or 0
        sums.tokens_out += tokens_out or 0
        sums.milliseconds += whole or 0.0
        if status < FAILED:
            if whole is not None:
                self.whole_ms.append(whole)
            if first is not None:
                self.first_ms.append(first)

    def count_errors(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for (_, status), sums in self.sums.items():
            if status >= FAILED:
                found[status] = found.get(status, 0) + sums.requests
        return dict(sorted(found.items()))

    def count_cost(self, prices: Mapping[str, Price]) -> float | None:
        cost = 0.0
        for (run, _), sums in self.sums.items():
            if run is None:
                continue  # refused before a run was found: nothing was used
            price = find_price(prices, run)
            if price is None:
                return None
            cost += price.count(sums.tokens_in, sums.tokens_out, sums.milliseconds)
        return cost


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
    groups = _read_groups(store, by, since, until)
    return [
        Usage(
            key,
            sum(one.requests for one in group.sums.values()),
            group.count_errors(),
            sum(one.tokens_in for one in group.sums.values()),
            sum(one.tokens_out for one in group.sums.values()),
            _rank(group.first_ms),
            _rank(group.whole_ms),
            None if prices is None else group.count_cost(prices),
        )
        for key, group in sorted(groups.items())
    ]


def read_whole(store: Store, since: datetime | None, until: datetime | None) -> Usage | None:
    """Return the usage of all requests of a time; None if there were none."""
    found = read_usage(store, "whole", since, until)
    return found[0] if found else None


def count_cost(
    store: Store, prices: Mapping[str, Price], since: datetime, until: datetime
) -> float | None:
    """Return the cost of all requests of a time; None if a run has no price."""
    group = _read_groups(store, "whole", since, until).get("whole")
    return 0.0 if group is None else group.count_cost(prices)


def count_future(store: Store) -> int:
    """Return the number of requests with a time in the future, as of a clock that was wrong."""
    table = schema.requests
    query = sa.select(sa.func.count()).where(table.c.time > now())
    return int(store.browse(lambda connection: connection.execute(query).scalar_one()))


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


def _read_groups(
    store: Store, by: By, since: datetime | None, until: datetime | None
) -> dict[str, _Group]:
    """Read the requests of a time row by row, and sum them up for each key."""
    table = schema.requests
    joined, name = join_runs()
    columns: dict[By, sa.ColumnElement[Any]] = {
        "run": name,
        "user": table.c.user,
        "day": table.c.time,
        "route": table.c.route,
        "whole": sa.literal("whole", sa.Text),
    }
    numbers = ("status", "tokens_in", "tokens_out", "milliseconds", "first_ms")
    query = sa.select(columns[by], name, *(table.c[one] for one in numbers)).select_from(joined)
    query = query.where(bound(since, until))

    def read(connection: sa.Connection) -> dict[Any, _Group]:
        found: dict[Any, _Group] = defaultdict(_Group)
        streamed = connection.execution_options(stream_results=True).execute(query)
        for rows in streamed.partitions(BATCH):
            for key, *row in rows:
                found[key // DAY if by == "day" else key].add(*row)
        return found

    return {_name(by, key): group for key, group in store.browse(read).items()}


def _name(by: By, key: Any) -> str:
    if by == "day":
        return f"{to_time(int(key) * DAY):%Y-%m-%d}"
    return UNKNOWN if key is None else str(key)


def _rank(values: array[float]) -> tuple[float | None, float | None]:
    """Return the percentiles of values, each that of the nearest rank."""
    if not values:
        return None, None
    ordered = np.sort(np.frombuffer(values))
    low, high = (float(ordered[(len(ordered) * p + 99) // 100 - 1]) for p in PERCENT)
    return low, high
