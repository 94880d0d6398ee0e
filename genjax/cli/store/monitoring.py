"""The actions that watch a store: usage, feedback over time, drift and alerts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from genjax.cli.store import alerts
from genjax.cli.store.action import Action
from genjax.cli.store.monitoring_options import (
    DriftOptions,
    FeedbackOptions,
    TrimOptions,
    UsageOptions,
)
from genjax.cli.store.tables import clean, print_table
from genjax.errors import UserError


def _show_usage(name: str, words: Sequence[str], options: UsageOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.prices import read_prices
    from genjax.store.monitoring.spans import read_span
    from genjax.store.monitoring.usage import count_future, read_usage

    prices = read_prices(options.price) if options.price else None
    since, until = read_span(options.since, options.until)
    with open_as(words[0], token=options.token, user=options.user, read_only=True) as store:
        store.access.require_whole()
        if options.otlp is not None:
            from genjax.store.monitoring.otlp import write_metrics

            print(f"requests  {write_metrics(store, options.otlp, since, until):,}")
            print(f"out       {options.otlp}")
            return
        found = read_usage(store, options.by, since, until, prices)
        future = count_future(store)
    if options.json:
        print(json.dumps([one.to_json() for one in found], indent=2, ensure_ascii=False))
        return
    head = (options.by, "requests", "tokens in", "out", "first ms p50/p95", "whole ms p50/p95")
    rows = [
        (
            one.key,
            f"{one.requests:,}",
            f"{one.tokens_in:,}",
            f"{one.tokens_out:,}",
            _pair(one.first_ms),
            _pair(one.whole_ms),
            "-" if one.cost is None else f"{one.cost:,.4f}",
            ", ".join(f"{status}: {count:,}" for status, count in one.errors.items()) or "-",
        )
        for one in found
    ]
    print_table((*head, "cost", "errors"), rows)
    if future:
        print(f"note: {future:,} requests have a time in the future: a clock was wrong")


def _trim(name: str, words: Sequence[str], options: TrimOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.requests import remove_requests
    from genjax.store.monitoring.spans import read_moment

    before = read_moment(options.before, "before")
    assert before is not None
    with open_as(words[0], token=options.token, user=options.user) as store:
        store.access.require_all()
        print(f"removed   {remove_requests(store, before):,} requests")


def _pair(values: tuple[float | None, float | None]) -> str:
    return " / ".join("-" if value is None else f"{value:,.0f}" for value in values)


def _show_feedback(name: str, words: Sequence[str], options: FeedbackOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.ratings import Interval, read_ratings
    from genjax.store.monitoring.spans import read_span

    since, until = read_span(options.since, options.until)
    with open_as(words[0], token=options.token, user=options.user, read_only=True) as store:
        store.access.require_whole()
        found = read_ratings(store, options.by, since, until, options.name)
    if options.json:
        print(json.dumps([one.to_json() for one in found], indent=2, ensure_ascii=False))
        return

    def show(one: Interval | None) -> str:
        if one is None:
            return "-"
        return f"{one.value:.3g}" + ("" if one.low is None else f" [{one.low:.3g}, {one.high:.3g}]")

    rows = [
        (
            one.name,
            one.run,
            one.since,
            f"{one.count:,}",
            show(one.mean),
            show(one.good),
            ", ".join(f"{label[:30]} {show(share)}" for label, share in one.labels.items()) or "-",
        )
        for one in found
    ]
    print_table(("name", "run", options.by, "count", "mean", "share >= 0.5", "labels"), rows)


def _show_drift(name: str, words: Sequence[str], options: DriftOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.drift import Testing, find_drift
    from genjax.store.monitoring.samples import Window, check_apart, read_sample

    o = options
    testing = Testing(o.alpha, o.correction, o.draws, o.seed)
    encoder, lack = _open_encoder(o.encoder)
    with open_as(words[0], token=o.token, user=o.user, read_only=True) as store:
        store.access.require_whole()
        reference, window = (
            read_sample(
                store, Window(one, o.kind, o.origin, o.most, None, o.one_each), encoder, o.seed
            )
            for one in (o.reference, o.window)
        )
    check_apart(reference, window)
    found = find_drift(reference, window, testing)
    if o.json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    for what, (count, total) in (("reference", found.reference), ("window", found.window)):
        drawn = "" if count == total else f", drawn from {total:,}"
        print(f"{what:<11}{count:,} {o.kind}s{drawn}")
    rows = [
        (
            one.test[:60],
            f"{one.p:.4f}",
            f"{one.adjusted:.4f}",
            f"{one.effect:.4f}",
            "drifted" if one.drifted else "-",
            one.said or "-",
        )
        for one in found.findings
    ]
    print_table(("test", "p", "corrected", "effect", "", "change"), rows)
    for one in found.drifted:
        print(f"{clean(one.test[:60])}: most unlike the reference")
        print("\n".join(clean(f"  {record}  {text}") for record, text in one.examples))
    for test, why in found.skipped:
        print(f"left out   {clean(test[:60])}: {lack if test == 'embedding' and lack else why}")
    if reference.future or window.future:
        count = reference.future + window.future
        print(f"note: {count:,} records have a time in the future: a clock was wrong")


def _open_encoder(name: str) -> tuple[Any, str | None]:
    """Return the encoder; or None, and why, if the one that is used by default is not installed."""
    from genjax.store.index.encoders import WORDLLAMA
    from genjax.store.index.opening import open_encoder

    try:
        return open_encoder(name), None
    except UserError as error:
        if name != WORDLLAMA:
            raise
        return None, str(error)


ACTIONS: Mapping[str, Action] = {
    "usage": Action("STORE", "requests, tokens, times, errors and cost", UsageOptions, _show_usage),
    "trim": Action("STORE", "remove requests of long ago", TrimOptions, _trim),
    "feedback": Action(
        "STORE", "feedback over time, with intervals", FeedbackOptions, _show_feedback
    ),
    "drift": Action("STORE", "what has changed between two windows", DriftOptions, _show_drift),
    **alerts.ACTIONS,
}
