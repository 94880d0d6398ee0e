"""The usage page shows how much is asked and answered, by whom, how fast, and how it is rated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from genjax.serve.pages.charts import Chart, draw_chart
from genjax.serve.pages.visit import Visit
from genjax.store import schema
from genjax.store.monitoring.usage import Usage, read_usage
from genjax.store.rows import to_number

DAY = 86_400_000_000  # microseconds
MOST = 12  # maximum number of bars for runs and users
SPANS = (7, 30, 90, 365)


@dataclass(frozen=True)
class Totals:
    """Sums over the days that are shown."""

    responses: int
    tokens: int
    milliseconds: float | None
    feedback: int


def show_usage(visit: Visit) -> Response:
    """Show charts of the last days."""
    days = visit.query.whole("days", 30, 1, 366)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=days - 1)
    asked = read_usage(visit.store, "day", since=since)
    routes = read_usage(visit.store, "route", since=since)
    with visit.store.reading() as connection:
        by_day = _read_days(connection, to_number(since))
        scores = _read_scores(connection, to_number(since))
        score = visit.query.one("score") or next(iter(scores), "")
        judged = _read_judged(connection, to_number(since), score)
        runs = _read_runs(connection, to_number(since))
        users = _read_users(connection, to_number(since))
    dates = [since + timedelta(days=i) for i in range(days)]
    keys = [to_number(date) // DAY for date in dates]
    labels = [date.strftime("%m-%d") for date in dates]

    def line(title: str, what: str, name: str, empty: float | None = None) -> Chart:
        values = [by_day[key][name] if key in by_day else empty for key in keys]
        return draw_chart(title, "Day", what, list(zip(labels, values, strict=True)))

    means = [judged[key][0] if key in judged else None for key in keys]
    charts = [
        line("Responses a day", "Responses", "count", 0),
        line("Tokens a day", "Tokens", "tokens", 0),
        line("Mean time of a response", "Milliseconds", "milliseconds"),
        draw_chart(
            f"Mean of {score or 'feedback'} a day",
            "Day",
            "Mean",
            list(zip(labels, means, strict=True)),
        ),
        draw_chart("Responses by run", "Run", "Responses", runs),
        draw_chart("Responses by user", "User", "Responses", users),
        *_draw_requests(asked, dates),
    ]
    timed = [(d["timed"], d["milliseconds"]) for d in by_day.values() if d["timed"]]
    total = sum(count for count, _ in timed)
    totals = Totals(
        sum(d["count"] for d in by_day.values()),
        sum(d["tokens"] for d in by_day.values()),
        sum(count * mean for count, mean in timed) / total if total else None,
        sum(scores.values()),
    )
    return visit.show(
        "usage.html",
        charts=charts,
        totals=totals,
        days=days,
        spans=SPANS,
        scores=list(scores)[:MOST],
        score=score,
        routes=routes,
    )


def _draw_requests(found: Sequence[Usage], dates: Sequence[datetime]) -> list[Chart]:
    """Draw the requests that servers wrote to the store, if there are any."""
    days = {one.key: one for one in found}
    if not days:
        return []

    def line(title: str, what: str, read: Callable[[Usage], float | None]) -> Chart:
        rows = []
        for date in dates:
            one = days.get(f"{date:%Y-%m-%d}")
            rows.append((f"{date:%m-%d}", None if one is None else read(one)))
        return draw_chart(title, "Day", what, rows)

    return [
        line("Requests a day", "Requests", lambda one: one.requests),
        line("Errors a day", "Errors", lambda one: sum(one.errors.values())),
        line("Tokens read a day", "Tokens", lambda one: one.tokens_in),
        line("95 % of first tokens within", "Milliseconds", lambda one: one.first_ms[1]),
        line("95 % of answers within", "Milliseconds", lambda one: one.whole_ms[1]),
    ]


def _of(kind: str, since: int) -> tuple[sa.Table, sa.FromClause, sa.ColumnElement[bool]]:
    own, table = schema.KINDS[kind], schema.records
    joined = own.join(table, table.c.id == own.c.id)
    return (
        own,
        joined,
        sa.and_(table.c.kind == kind, table.c.time >= since, table.c.deleted.is_(None)),
    )


def _day() -> sa.ColumnElement[Any]:
    return (schema.records.c.time // sa.literal(DAY, sa.BigInteger)).label("day")


def _read_days(connection: sa.Connection, since: int) -> dict[int, dict[str, Any]]:
    own, joined, which = _of("response", since)
    query = (
        sa.select(
            _day(),
            sa.func.count().label("count"),
            sa.func.coalesce(sa.func.sum(own.c.tokens), 0).label("tokens"),
            sa.func.avg(own.c.milliseconds).label("milliseconds"),
            sa.func.count(own.c.milliseconds).label("timed"),
        )
        .select_from(joined)
        .where(which)
        .group_by(sa.text("day"))
    )
    return {
        int(row["day"]): {**row, "tokens": int(row["tokens"])}
        for row in connection.execute(query).mappings()
    }


def _read_scores(connection: sa.Connection, since: int) -> dict[str, int]:
    """Return the names of numeric feedback, the most frequent first."""
    own, joined, which = _of("feedback", since)
    query = sa.select(own.c.name, sa.func.count(own.c.value).label("number")).select_from(joined)
    query = query.where(which, own.c.valid, own.c.value.is_not(None)).group_by(own.c.name)
    rows = connection.execute(query.order_by(sa.desc("number"), own.c.name))
    return {name: number for name, number in rows}


def _read_judged(connection: sa.Connection, since: int, score: str) -> dict[int, tuple[float, int]]:
    """Return for each day the mean of a score and its number of values."""
    own, joined, which = _of("feedback", since)
    query = (
        sa.select(_day(), sa.func.avg(own.c.value), sa.func.count(own.c.value))
        .select_from(joined)
        .where(which, own.c.valid, own.c.name == score, own.c.value.is_not(None))
        .group_by(sa.text("day"))
    )
    return {int(day): (mean, count) for day, mean, count in connection.execute(query)}


def _read_runs(connection: sa.Connection, since: int) -> Sequence[tuple[str, float]]:
    own, joined, which = _of("response", since)
    runs = schema.KINDS["run"]
    name = sa.func.coalesce(runs.c.name, own.c.run, "unknown").label("run_name")
    return _rank(connection, name, joined.outerjoin(runs, runs.c.id == own.c.run), which)


def _read_users(connection: sa.Connection, since: int) -> Sequence[tuple[str, float]]:
    """Count the responses by the user who added them, according to the history."""
    own, joined, which = _of("response", since)
    past = schema.history
    added = sa.and_(past.c.record == own.c.id, past.c.action == "add")
    return _rank(connection, past.c.user.label("run_name"), joined.join(past, added), which)


def _rank(
    connection: sa.Connection,
    name: sa.Label[Any],
    source: sa.FromClause,
    which: sa.ColumnElement[bool],
) -> Sequence[tuple[str, float]]:
    """Rank the names by their number of responses; the rest are summed up as "others"."""
    count = sa.func.count().label("number")
    query = sa.select(name, count).select_from(source).where(which).group_by(sa.text("run_name"))
    rows = connection.execute(query.order_by(sa.desc("number"), sa.text("run_name"))).all()
    shown = [(str(one), float(number)) for one, number in rows[:MOST]]
    rest = sum(number for _, number in rows[MOST:])
    return [*shown, ("others", float(rest))] if rest else shown
