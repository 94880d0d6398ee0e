"""Measures the likelihood of music per time step, however many tokens encode a step."""

from __future__ import annotations

from typing import ClassVar

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.audio.music import ChoraleCodec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import Batch, State


@checks.frozen
class FrameLikelihood(Evaluator):
    """Measures -log p of a time step of music, in nats: the sum over all its tokens, including the
    one that ends it.

    Numbers: ``nll_per_frame``, the mean over all steps, and ``nll_per_later_frame``, without the
    first step of each piece, as in the literature (Boulanger-Lewandowski et al., arXiv 1206.6392).
    The end of a piece counts in neither. The data's codec must be a ``ChoraleCodec``, and rows must
    start at the start of a piece.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        if not isinstance(codec, ChoraleCodec):
            raise UserError(f"FrameLikelihood needs a ChoraleCodec, got a {type(codec).__name__}")
        nll, tokens, segment = subject.collect(_predict)
        step, inside = tokens == codec.step, (segment > 0) & (tokens != codec.end)
        done = np.cumsum(step, 1) - step  # steps of the row that ended before each token
        begins = np.diff(segment, axis=1, prepend=0) != 0
        # Steps of the row before the piece of each token.
        before = np.maximum.accumulate(np.where(begins, done, 0), axis=1)
        later = inside & (done > before)
        numbers = {
            "nll_per_frame": _mean(nll, inside, step),
            "nll_per_later_frame": _mean(nll, later, step),
        }
        pieces, frames = int(begins[segment > 0].sum()), int((step & inside).sum())
        return Findings(
            numbers, protocol=f"{frames:,} steps of {pieces:,} pieces of {subject.split}, nats"
        )


def _mean(nll: np.ndarray, counts: np.ndarray, step: np.ndarray) -> float:
    """Divide the sum over the tokens [N, T] that count by the number of steps that end in them."""
    frames = int((step & counts).sum())
    return float(np.sum(nll, where=counts, dtype=np.float64) / frames) if frames else float("nan")


def _predict(
    family: Autoregressive, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return -log p, the token and the number of its piece, 0 where nothing is predicted: [B, T]
    each.
    """
    found = family.predict(state.params, batch)
    piece = batch["segment_ids"][:, 1:] if "segment_ids" in batch else 1
    return found.nll, batch["tokens"][:, 1:], (piece * (found.weight > 0)).astype(np.int32)
