"""The options of the actions that watch a store."""

from __future__ import annotations

from typing import Literal

import tyro

from genjax import checks
from genjax.cli.store.options import Asked, Options
from genjax.errors import UserError


@checks.frozen
class UsageOptions(Options):
    """Count requests, tokens, times, errors and cost of what servers wrote to the store.

    Attributes:
      by: what a line is of: a run, user, day or route.
      since: the first time: a date, a time, or as 30d, 12h or 5m ago.
      until: the time at which to stop.
      price: a run's price as RUN=IN,OUT or RUN=IN,OUT,SECOND, per million tokens read and drawn and
        per second of an answer; "*" is any other run. Or a JSON file of prices. May be given
        several times.
      json: print JSON instead of a table.
      otlp: a file to write the usage to as metrics of OpenTelemetry, in OTLP's JSON.
    """

    by: Literal["run", "user", "day", "route"] = "run"
    since: str | None = None
    until: str | None = None
    price: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    json: bool = False
    otlp: str | None = None


@checks.frozen
class FeedbackOptions(Options):
    """Show feedback over time: its number, mean and shares with 95 % intervals.

    Attributes:
      by: the span of time of a line.
      name: a criterion; all by default. May be given several times.
      since: the first time: a date, a time, or as 30d, 12h or 5m ago.
      until: the time at which to stop.
      json: print JSON instead of a table.
    """

    by: Literal["day", "week", "month"] = "week"
    name: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    since: str | None = None
    until: str | None = None
    json: bool = False


@checks.frozen
class DriftOptions(Options):
    """Find what has drifted between two windows of prompts or responses.

    Attributes:
      reference: a filter on the records of the reference window, such as "time<2026-11-01".
      window: a filter on the records of the recent window.
      kind: the kind of record.
      origin: the origin of the records; any by default, as answers of models are synthetic.
      alpha: the level of the tests after the correction for their number.
      correction: "holm" bounds the chance of any false alarm by alpha, "fdr" the expected share of
        false alarms among the alarms (Benjamini and Hochberg).
      draws: the number of random splits that the windows are compared with.
      seed: the random seed of the splits, and of the records drawn from large windows.
      most: the most records that are drawn from a window.
      encoder: the encoder of texts, as of the search index.
      json: print JSON instead of a table.
    """

    reference: str = ""
    window: str = ""
    kind: Literal["prompt", "response"] = "response"
    origin: Asked = "any"
    alpha: float = 0.05
    correction: Literal["holm", "fdr"] = "holm"
    draws: int = 999
    seed: int = 0
    most: int = 1000
    encoder: str = "wordllama"
    json: bool = False

    def __post_init__(self) -> None:
        checks.some(self, "reference", "window")
        checks.between(self, 1, 5_000, "most")
        if self.reference == self.window:
            raise UserError("window must be another than the reference", "window")
