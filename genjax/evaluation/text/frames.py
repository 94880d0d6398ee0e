"""The likelihood of music by steps of time, whatever number of tokens spells a step."""

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
    """-log p of a step of music in nats: the sum over all tokens that spell it, the one that ends
    it among them.

    Numbers: ``nll_per_frame``, the mean over all steps, the first of each piece among them, and
    ``nll_per_later_frame``, without the first ones, as models of each step from the steps before it
    are judged (Boulanger-Lewandowski et al., arXiv 1206.6392). The end of a piece is predicted,
    too, but counts in neither. The data's codec is a ``ChoraleCodec``, and no row starts within a
    piece.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        if not isinstance(codec, ChoraleCodec):
            raise UserError(
                "FrameLikelihood needs tokens that spell steps of time, unlike "
                f"{type(codec).__name__}'s"
            )
        nll, tokens, segment = subject.collect(_predict)
        step, inside = tokens == codec.step, (segment > 0) & (tokens != codec.end)
        done = np.cumsum(step, 1) - step  # steps of the row that ended before each token
        begins = np.diff(segment, axis=1, prepend=0) != 0
        before = np.maximum.accumulate(
            np.where(begins, done, 0), axis=1
        )  # steps of the row before its piece
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
    """Return sum of the tokens [N, T] that count, over the steps that end in them."""
    frames = int((step & counts).sum())
    return float(np.sum(nll, where=counts, dtype=np.float64) / frames) if frames else float("nan")


def _predict(
    family: Autoregressive, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return -log p, the token and the number of its piece, 0 where nothing is predicted; all [B,
    T].
    """
    found = family.predict(state.params, batch)
    piece = batch["segment_ids"][:, 1:] if "segment_ids" in batch else 1
    return found.nll, batch["tokens"][:, 1:], (piece * (found.weight > 0)).astype(np.int32)
