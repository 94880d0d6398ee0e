"""Measures what a language model gains from a longer context."""

from __future__ import annotations

import math
from typing import ClassVar

import jax
import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import Batch, State


@checks.frozen
class LossByPosition(Evaluator):
    """Measures the loss by position, in nats per token.

    The loss of a model that uses its context falls with the position; where the curve is flat, a
    longer context gains nothing. Numbers: ``loss_first_tenth`` and ``loss_last_tenth`` of the
    positions. In packed rows positions count within each document.

    Attributes:
      limit: number of rows, evenly spaced; None for the whole split.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    limit: int | None = 2000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "limit")

    def __call__(self, subject: Subject) -> Findings:
        nll, weight, position = subject.collect(_predict, limit=self.limit)
        size = int(position.max()) + 1
        total, count = (
            np.bincount(position.ravel(), x.ravel(), size) for x in (nll * weight, weight)
        )
        tenth = max(1, len(np.flatnonzero(count)) // 10)
        seen = np.flatnonzero(count)
        first, last = (
            total[part].sum() / count[part].sum() for part in (seen[:tenth], seen[-tenth:])
        )
        return Findings(
            {"loss_first_tenth": float(first), "loss_last_tenth": float(last)},
            {
                "loss_by_position": _picture(
                    seen + 1, total[seen] / count[seen], total.sum() / count.sum()
                )
            },
            f"{len(nll):,} rows of {subject.split}, each prediction by the number of tokens before "
            "it; the first "
            f"{tenth} and the last {tenth} of {len(seen)} positions",
        )


def _predict(
    family: Autoregressive, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return -log p, weight and position of each prediction, [B, T]; position 0 has one token
    before it.
    """
    found = family.predict(state.params, batch)
    positions = (
        batch["positions"][:, :-1]
        if "positions" in batch
        else _count_positions(batch["tokens"][:, :-1])
    )
    return found.nll, found.weight, positions


def _count_positions(tokens: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(np.int32, tokens.shape, 1)


def _picture(tokens: np.ndarray, loss: np.ndarray, mean: float) -> np.ndarray:
    """Draw the loss over the number of tokens before, and its mean over all predictions."""
    figure = new_figure(6, 3.8)
    axes = figure.add_subplot()
    axes.plot(tokens, loss, color="tab:blue")
    axes.axhline(
        mean, color="0.6", linewidth=0.8, label=f"mean {mean:.3f}, perplexity {math.exp(mean):.4g}"
    )
    axes.set(xlabel="tokens to predict from", ylabel="nats per token")
    axes.legend()
    return figure_pixels(figure)
