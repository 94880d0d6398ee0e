"""Measures the likelihood of the next frames, beside the floor that grey pixels set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.autoregressive.next_state import NextState
from genjax.families.likelihoods import Bernoulli
from genjax.family import Batch, State, select_modelled


@checks.frozen
class NextFrameLikelihood(Evaluator):
    """Measures -log p of each frame after the given ones, in nats summed over its pixels, given all
    true frames before it.

    With a ``Bernoulli`` whose targets are grey values p, even a perfect prediction pays their
    entropy: ``floor`` is the sum of -p log p - (1 - p) log(1 - p) over a frame's pixels, the mean
    over the frames, as in Kalchbrenner et al. (arXiv 1610.00527). Other numbers: ``per_frame``, the
    mean in nats; ``above_floor``, the difference; ``frame_1`` and ``frame_last``, those of the
    first and last predicted frame.

    Attributes:
      limit: clips, evenly spaced over the split; None for all.
    """

    judges: ClassVar[tuple[type, ...]] = (NextState,)
    images_only: ClassVar[bool] = True

    limit: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "limit")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if not isinstance(family.likelihood, Bernoulli) or family.likelihood.binarize:
            raise UserError(
                "NextFrameLikelihood needs likelihood=Bernoulli(), whose targets are grey values, "
                f"got {family.likelihood}",
                "likelihood",
            )

    def __call__(self, subject: Subject) -> Findings:
        nll, floor = subject.collect(_measure, limit=self.limit)  # [N, T] each
        given = subject.model.family.given
        nll, floor = nll[:, given:], floor[:, given:]
        per_frame, least = float(nll.mean()), float(floor.mean())
        numbers = {
            "per_frame": per_frame,
            "floor": least,
            "above_floor": per_frame - least,
            "frame_1": float(nll[:, 0].mean()),
            "frame_last": float(nll[:, -1].mean()),
        }
        error = float((nll - floor).mean(1).std() / math.sqrt(len(nll)))
        protocol = (
            f"{len(nll):,} clips of {subject.split}; frames {given + 1} to {given + nll.shape[1]}, "
            f"each given all true frames before it; nats, grey targets; standard error of "
            f"above_floor {error:.2f}"
        )
        return Findings(
            numbers, {"nats_by_frame": _draw(nll.mean(0), floor.mean(0), given)}, protocol
        )


def _measure(
    family: NextState, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the nats and the floor of each frame, [B, T] each."""
    x = select_modelled(batch)
    return family.nll(state.params, x), family.measure_floor(x)


def _draw(nll: np.ndarray, floor: np.ndarray, given: int) -> np.ndarray:
    """Draw nats and floor [T] by frame, uint8 [H, W, 3]."""
    figure = new_figure(5, 3)
    axes: Any = figure.add_subplot()
    number = given + 1 + np.arange(len(nll))
    axes.plot(number, nll, marker="o", markersize=3, label="model")
    axes.plot(number, floor, linestyle="--", color="black", label="floor")
    axes.set(xlabel="frame", ylabel="nats", ylim=(0, None))
    axes.legend()
    return figure_pixels(figure)
