"""Measure what the rules of alerts watch."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from scipy import stats

from genjax.errors import UserError
from genjax.store import followers
from genjax.store.filters import All, Compare
from genjax.store.index.encoders import Encoder
from genjax.store.monitoring.drift import Testing, find_drift
from genjax.store.monitoring.prices import read_prices
from genjax.store.monitoring.ratings import read_values
from genjax.store.monitoring.rule import Rule
from genjax.store.monitoring.rules import Kept
from genjax.store.monitoring.samples import Sample, Window, check_apart, read_sample
from genjax.store.monitoring.usage import count_cost, read_whole
from genjax.store.rows import to_number, to_time
from genjax.store.store import Store

SAMPLED = 300  # records of a window that are compared for drift in the background


@dataclass(frozen=True)
class Measurement:
    """What a rule sees.

    Attributes:
      value: value that is compared with ``above``; None where there is too little to say anything.
      said: the value in words.
      seen: end of the window that was compared for drift, in microseconds.
    """

    value: float | None
    said: str
    seen: int | None = None


def measure(
    store: Store, kept: Kept, at: datetime, waiting: int = 0, encoder: Encoder | None = None
) -> Measurement | None:
    """Measure what a rule watches; None if nothing new can be said.

    Args:
      store: the store.
      kept: the rule.
      at: time up to which is looked.
      waiting: number of exchanges that wait for the store.
      encoder: encoder of texts for drift; None leaves their meaning out.
    """
    rule = kept.rule
    since = at - timedelta(hours=rule.hours)
    if rule.on == "drift":
        return _measure_drift(store, kept, at, encoder)
    if rule.on == "score":
        return _measure_score(store, rule, since, at)
    if rule.on == "behind":
        return _measure_behind(store, waiting)
    if rule.on == "cost":
        cost = count_cost(store, read_prices(rule.price), since, at)
        if cost is None:
            return Measurement(None, "a run has no price")
        return Measurement(cost, f"cost of {cost:,.4f} within {rule.hours:g} hours")
    whole = read_whole(store, since, at)
    if whole is None or whole.requests < rule.least:
        count = 0 if whole is None else whole.requests
        return Measurement(None, f"{count} requests within {rule.hours:g} hours: too few")
    if rule.on == "errors":
        of = f"of {whole.requests:,} requests within {rule.hours:g} hours"
        return Measurement(whole.error_rate, f"{whole.error_rate:.1%} {of} failed")
    slow = whole.whole_ms[1]
    said = "no answers" if slow is None else f"95 % of answers within {slow:,.0f} ms"
    return Measurement(slow, said)


def _measure_behind(store: Store, waiting: int) -> Measurement:
    newest = store.newest_change()
    held = followers.list_followers(store)
    behind = max((store.count_outbox(seq) for seq in held.values()), default=0)
    said = f"the index is {behind:,} changes behind {newest:,}, {waiting:,} exchanges wait"
    return Measurement(float(max(behind, waiting)), said)


def _measure_score(store: Store, rule: Rule, since: datetime, at: datetime) -> Measurement:
    """Measure how far a mean has surely fallen: the lower end of Welch's one-sided interval."""
    first = since - (at - since) * rule.before
    old = np.array(read_values(store, str(rule.score), first, since))
    new = np.array(read_values(store, str(rule.score), since, at))
    if min(len(old), len(new)) < rule.least:
        return Measurement(None, f"{len(old)} and {len(new)} values of {rule.score}: too few")
    fall = float(old.mean() - new.mean())
    parts = old.var(ddof=1) / len(old), new.var(ddof=1) / len(new)
    error = math.sqrt(sum(parts))
    surely = fall
    if error > 0:
        freedom = sum(parts) ** 2 / (
            parts[0] ** 2 / (len(old) - 1) + parts[1] ** 2 / (len(new) - 1)
        )
        surely = fall - float(stats.t.ppf(1 - rule.alpha, freedom)) * error
    said = f"mean {rule.score} {old.mean():.4g} → {new.mean():.4g}, a fall of {surely:.4g} at least"
    return Measurement(max(0.0, surely), said)


def _measure_drift(
    store: Store, kept: Kept, at: datetime, encoder: Encoder | None
) -> Measurement | None:
    """Compare the last whole window with the time before it, once."""
    rule = kept.rule
    size = round(rule.hours * 3_600_000_000)
    end = to_number(at) // size * size
    if kept.seen == end:
        return None
    bounds = [to_time(end - size * i) for i in (rule.before + 1, 1, 0)]
    old, new = (
        _read(store, rule, since, until, encoder) for since, until in itertools.pairwise(bounds)
    )
    try:
        check_apart(old, new)
        seed = zlib.crc32(f"{kept.name} {end}".encode())
        found = find_drift(old, new, Testing(alpha=rule.alpha, draws=1999, seed=seed))
    except UserError as error:
        return Measurement(None, str(error), end)
    names = ", ".join(f"{one.test} ({one.said})" for one in found.drifted)
    said = f"{rule.kind}s drifted: {names}" if names else f"no {rule.kind}s drifted"
    return Measurement(float(len(found.drifted)), said[:1000], end)


def _read(
    store: Store, rule: Rule, since: datetime, until: datetime, encoder: Encoder | None
) -> Sample:
    between = All((Compare("time", ">=", since), Compare("time", "<", until)))
    window = Window(between, rule.kind, most=SAMPLED, newest=True)
    return read_sample(store, window, encoder, 0)
