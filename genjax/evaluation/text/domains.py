"""Measures how well a model predicts each domain of held-out text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import ClassVar, NamedTuple

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import HasDocuments
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import Batch, State

REST = "other domains"


@checks.frozen
class DomainPerplexity(Evaluator):
    """Measures perplexity by domain: folder, file or column of a table, depending on the source of
    the text.

    ``perplexity_<domain>`` is exp of the mean loss over the tokens of that domain's documents, with
    an interval from ``..._low`` to ``..._high``; ``bits_per_byte_<domain>`` compares domains with
    longer and shorter tokens. The intervals treat rows as independent (the delta method for a ratio
    of sums) and hold for all domains at once (Bonferroni).

    Attributes:
      limit: number of rows, evenly spaced; None for the whole split.
      shown: number of domains reported, those with the most tokens; the others are combined.
      confidence: confidence of all intervals together.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    limit: int | None = 2000
    shown: int = 20
    confidence: float = 0.95

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "limit")
        checks.at_least(self, 1, "shown")
        checks.inside(self, 0, 1, "confidence")

    def __call__(self, subject: Subject) -> Findings:
        part = subject.select_part(self.limit)
        whole: Component = part.whole
        if not isinstance(whole, HasDocuments) or whole.corpus.domain is None:
            raise UserError(
                "DomainPerplexity needs a source with domains of texts, which these data lack"
            )
        nll, weight, size = subject.collect(_predict, limit=self.limit)
        document = whole.documents(part.rows)[:, 1:]
        domain = np.where(weight > 0, np.asarray(whole.corpus.domain)[document], -1)
        names, domain = _select_domains(whole.corpus.domains, domain, self.shown)
        rows = np.broadcast_to(np.arange(len(nll))[:, None], nll.shape)
        total, count, size = (
            np.stack(
                [
                    np.bincount(rows[domain == d], x[domain == d], len(nll))
                    for d in range(len(names))
                ]
            )
            for x in (nll, weight, size)
        )
        z = NormalDist().inv_cdf(1 - (1 - self.confidence) / len(names) / 2)
        losses = [estimate_ratio(a, b, z) for a, b in zip(total, count, strict=True)]
        numbers: dict[str, float] = {}
        for name, loss, nats, in_bytes in zip(
            names, losses, total.sum(1), size.sum(1), strict=True
        ):
            numbers[f"perplexity_{name}"] = math.exp(loss.value)
            if not math.isnan(loss.low):
                numbers[f"perplexity_{name}_low"] = math.exp(loss.low)
                numbers[f"perplexity_{name}_high"] = math.exp(loss.high)
            if in_bytes:
                numbers[f"bits_per_byte_{name}"] = float(nats / math.log(2) / in_bytes)
        return Findings(
            numbers,
            {"perplexity_by_domain": _picture(names, losses)},
            f"{len(nll):,} rows of {subject.split}, {int(count.sum()):,} predictions in "
            f"{len(names)} domains; "
            f"intervals of {self.confidence:.0%} for all of them at once, rows taken for "
            "independent",
            make_remarks(names, total, count, z),
        )


class Interval(NamedTuple):
    """A mean and the ends of its interval, which are NaN if there is a single row."""

    value: float
    low: float
    high: float


def estimate_ratio(total: np.ndarray, weight: np.ndarray, z: float) -> Interval:
    """Estimate sum(total) / sum(weight) of independent rows [N] and its normal interval of ``z``
    standard errors; rows with weight 0 are ignored.
    """
    total, weight = total[weight > 0], weight[weight > 0]
    rows, value = len(weight), total.sum() / weight.sum()
    if rows < 2:
        return Interval(float(value), math.nan, math.nan)
    variance = np.square(total - value * weight).sum() * rows / (rows - 1) / weight.sum() ** 2
    half = z * math.sqrt(variance)
    return Interval(float(value), float(value - half), float(value + half))


def make_remarks(
    names: Sequence[str], total: np.ndarray, weight: np.ndarray, z: float
) -> tuple[str, ...]:
    """Write a sentence for each domain whose interval is above that of all others together; arrays
    are [K, N].
    """
    remarks = []
    for number, name in enumerate(names):
        if len(names) < 2:
            break
        rest = np.arange(len(names)) != number
        own = estimate_ratio(total[number], weight[number], z)
        others = estimate_ratio(total[rest].sum(0), weight[rest].sum(0), z)
        if own.low > others.high:
            remarks.append(
                f"{name} is harder than the other domains: perplexity {math.exp(own.value):.4g}, "
                f"{math.exp(others.value):.4g} over these"
            )
    return tuple(remarks)


def _predict(
    family: Autoregressive, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return -log p, weight and bytes of each prediction, [B, T]; all 0 where it does not count."""
    found = family.predict(state.params, batch)
    size = 0 * found.weight
    if "token_bytes" in state.variables:
        size = state.variables["token_bytes"][batch["tokens"][:, 1:]] * found.weight
    return found.nll * found.weight, found.weight, size


def _select_domains(
    names: Sequence[str], domain: np.ndarray, shown: int
) -> tuple[list[str], np.ndarray]:
    """Return the names of the ``shown`` domains with the most tokens, and each token's index among
    these [N, T], -1 for none.

    The other domains share the last index.
    """
    count = np.bincount(domain[domain >= 0], minlength=len(names))
    kept = [d for d in np.argsort(-count, kind="stable") if count[d]]
    place = np.full(len(names) + 1, min(shown, len(kept)))
    place[kept[:shown]] = np.arange(len(kept[:shown]))
    place[-1] = -1  # padding
    known = [names[d] or "unnamed" for d in kept[:shown]]
    return known + [REST] * (len(kept) > shown), place[domain]


def _picture(names: Sequence[str], losses: Sequence[Interval]) -> np.ndarray:
    """Draw perplexities with their intervals, the hardest domain on top."""
    order = sorted(range(len(names)), key=lambda i: losses[i].value)
    figure = new_figure(6, 1.2 + 0.3 * len(names))
    axes = figure.add_subplot()
    for at, i in enumerate(order):
        value, low, high = (math.exp(x) for x in losses[i])
        axes.plot([low, high], [at, at], color="tab:blue")
        axes.plot([value], [at], "o", color="tab:blue")
    axes.set_yticks(range(len(order)), [names[i][:40] for i in order])
    axes.set_xlabel("perplexity")
    return figure_pixels(figure)
