"""Feedback over time: for each criterion, run and week its number, mean and shares."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
import sqlalchemy as sa
from scipy import stats

from genjax.store import schema
from genjax.store.rows import to_number, to_time
from genjax.store.store import Store

Span: TypeAlias = Literal["day", "week", "month"]
CONFIDENCE = 0.95
GOOD = 0.5  # least value of what counts as good


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; one value has none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Rating:
    """The valid feedback on one run's records under one name in one span of time.

    Attributes:
      name: the criterion.
      run: name of the run whose response was judged; "-" for other records.
      since: first day of the span.
      count: number of judgements, with those that have no finite number.
      mean: mean of the values, with Student's interval; None without values.
      good: share of values of at least 0.5, with Wilson's interval.
      labels: share of each label among those with a label, with Wilson's interval.
    """

    name: str
    run: str
    since: str
    count: int
    mean: Interval | None
    good: Interval | None
    labels: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self)


def read_ratings(
    store: Store,
    span: Span = "week",
    since: datetime | None = None,
    until: datetime | None = None,
    names: Sequence[str] = (),
) -> list[Rating]:
    """Return the feedback by name, run and span of time.

    Args:
      store: the store.
      span: day, week (from Monday) or month, in UTC, of the time of the judgement.
      since: time of the first judgement; None for all.
      until: time after the last judgement.
      names: criteria; none for all.
    """
    groups: dict[tuple[str, str, str], list[tuple[float | None, str | None]]] = defaultdict(list)
    for name, run, time, value, label in _read(store, since, until, names):
        groups[name, run, _begin(to_time(time), span)].append((value, label))
    return [
        Rating(
            name,
            run,
            first,
            len(judged),
            average([v for v, _ in judged if v is not None]),
            _share_good([v for v, _ in judged if v is not None and math.isfinite(v)]),
            _share_labels([label for _, label in judged if label is not None]),
        )
        for (name, run, first), judged in sorted(groups.items())
    ]


def read_values(
    store: Store, name: str, since: datetime | None, until: datetime | None
) -> list[float]:
    """Return the finite values of valid feedback under a name, of a time."""
    found = _read(store, since, until, [name])
    return [v for _, _, _, v, _ in found if v is not None and math.isfinite(v)]


def average(values: Sequence[float]) -> Interval | None:
    """Return the mean of the finite values with Student's interval; None without any."""
    kept = np.array([value for value in values if math.isfinite(value)], np.float64)
    if not len(kept):
        return None
    mean = float(kept.mean())
    if len(kept) == 1:
        return Interval(mean, None, None)
    error = float(kept.std(ddof=1)) / math.sqrt(len(kept))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(kept) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def share(count: int, total: int) -> Interval:
    """Return a share with Wilson's interval; ``total`` is at least 1."""
    found = stats.binomtest(count, total).proportion_ci(CONFIDENCE, "wilson")
    return Interval(count / total, float(found.low), float(found.high))


def _share_good(values: Sequence[float]) -> Interval | None:
    return share(sum(v >= GOOD for v in values), len(values)) if values else None


def _share_labels(labels: Sequence[str]) -> dict[str, Interval]:
    counts = sorted(Counter(labels).items())
    return {label: share(count, len(labels)) for label, count in counts}


def _begin(time: datetime, span: Span) -> str:
    day = time.date()
    if span == "week":
        day -= timedelta(days=day.weekday())
    return str(day.replace(day=1) if span == "month" else day)


def _read(
    store: Store, since: datetime | None, until: datetime | None, names: Sequence[str]
) -> list[Any]:
    records, judged = schema.records, schema.KINDS["feedback"]
    answers, runs = schema.KINDS["response"], schema.KINDS["run"]
    query = (
        sa.select(
            judged.c.name,
            sa.func.coalesce(runs.c.name, answers.c.run, "-"),
            records.c.time,
            judged.c.value,
            judged.c.label,
        )
        .select_from(
            judged.join(records, records.c.id == judged.c.id)
            .outerjoin(answers, answers.c.id == judged.c.target)
            .outerjoin(runs, runs.c.id == answers.c.run)
        )
        .where(judged.c.valid.is_(sa.true()), records.c.deleted.is_(None))
    )
    if since is not None:
        query = query.where(records.c.time >= to_number(since))
    if until is not None:
        query = query.where(records.c.time < to_number(until))
    if names:
        query = query.where(judged.c.name.in_(names))
    with store.reading() as connection:
        return list(connection.execute(query))
