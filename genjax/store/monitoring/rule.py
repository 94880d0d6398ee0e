"""A rule of an alert: what is watched, over which time, and above which value it is too much. This
file needs no database, so that the command line may import it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from genjax import checks
from genjax.errors import UserError, unknown_name
from genjax.store.monitoring.prices import read_prices

Watched: TypeAlias = Literal["errors", "latency", "cost", "score", "drift", "behind"]
WATCHED: dict[Watched, str] = {  # and the unit of ``above``
    "errors": "share of requests that failed",
    "latency": "95th percentile of the milliseconds of answers",
    "cost": "cost within the hours",
    "score": "fall of a score's mean against the time before",
    "drift": "number of drifted tests",
    "behind": "records that the index or the store is behind",
}


@checks.frozen
class Rule:
    """A rule of an alert.

    Attributes:
      on: what is watched: "errors" (share of failed requests), "latency" (95th percentile, in
        milliseconds), "cost", "score" (how far its mean has fallen), "drift" (number of drifted
        tests) or "behind" (records that the index, or the store, lacks).
      above: the value above which the rule fires; for drift and score 0 is a good choice.
      hours: the time that is looked at, up to now; for drift whole windows of so many hours.
      score: the criterion whose mean falls.
      kind: the records that may drift: prompt or response.
      before: for score and drift, how many times as long the reference before the window is.
      least: the least number of requests or judgements that say something.
      alpha: the level of the tests of drift, and of the fall of a score.
      price: prices for cost, see ``read_prices``.
    """

    on: Watched = "errors"
    above: float = 0.0
    hours: float = 24.0
    score: str | None = None
    kind: Literal["prompt", "response"] = "response"
    before: int = 7
    least: int = 20
    alpha: float = 0.01
    price: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.on not in WATCHED:
            raise unknown_name("on", str(self.on), WATCHED)
        checks.at_least(self, 0, "above")
        checks.most(self, 1e15, "above")
        checks.above(self, 0, "hours")
        checks.most(self, 10_000, "hours")
        checks.between(self, 1, 100, "before")
        checks.between(self, 2, 1_000_000, "least")
        checks.above(self, 0, "alpha")
        checks.most(self, 0.5, "alpha")
        if (self.on == "score") != bool(self.score):
            raise UserError("score goes with on=score: give both or neither", "score")
        if (self.on == "cost") != bool(self.price):
            raise UserError("price goes with on=cost: give both or neither", "price")
        read_prices(self.price)
