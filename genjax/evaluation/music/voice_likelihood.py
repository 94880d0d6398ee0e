"""Measures the likelihood of music in voices per token and per time step, as it is published."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.audio.notes import VOICES
from genjax.data.audio.voices import ORDER, VoiceCodec
from genjax.data.dataset import HasCorpus
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.evaluation.music.windows import PieceWindows
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.predictions import Attends
from genjax.family import Batch, State


@checks.frozen
class VoiceLikelihood(Evaluator):
    """Measures -log p of four-voiced music, in nats; the data's codec must be a ``VoiceCodec``.

    Numbers: ``nll_per_token``, the mean over all tokens, the end of each piece among them;
    ``accuracy``, the share of these that were thought the likeliest; ``nll_per_step``, the sum
    over the tokens of a step, which compares models with and without chord tokens;
    ``nll_per_token_later``, as TonicNet's code counts (Peracha, arXiv 1911.11775): without the
    first token of each piece, and the mean over rows' pieces of their means; ``nll_soprano`` and so
    on, per token of a voice.

    Attributes:
      stride: tokens by which the context moves on in a piece that is longer than a row, so that
        each token is predicted from at least the rest of a row before it. None reads such a piece
        in parts, the later of which know one token of the part before and count as pieces of their
        own.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    stride: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "stride")

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        if not isinstance(codec, VoiceCodec):
            raise UserError(f"VoiceLikelihood needs a VoiceCodec, got a {type(codec).__name__}")
        if self.stride is None:
            nll, hit, target, piece, place = subject.collect(_predict)
            rows = np.arange(len(piece))[:, None]
            piece = np.where(piece > 0, rows * (piece.max(initial=0) + 1) + piece, 0)
        else:
            nll, hit, target, piece, place = self._predict_windows(subject, codec)
        counts, ends = piece > 0, target == codec.end
        inside = counts & ~ends
        voice = (place - 1) % codec.per_step  # 0 is the chord, if there is one
        steps = int((inside & (voice == codec.per_step - 1)).sum())
        numbers = {
            "nll_per_token": _mean(nll, counts),
            "accuracy": _mean(hit, counts),
            "nll_per_step": float(np.sum(nll, where=inside, dtype=np.float64) / max(steps, 1)),
            "nll_per_token_later": _mean_of_pieces(nll, piece, counts & (place > 1)),
        }
        names = ["chord"] * codec.chords + [VOICES[column] for column in ORDER]
        for number, name in enumerate(names):
            numbers[f"nll_{name}"] = _mean(nll, inside & (voice == number))
        pieces = int(ends[counts].sum())
        protocol = (
            f"{int(counts.sum()):,} tokens, {codec.per_step} a step, of {pieces:,} pieces with "
            f"{steps:,} steps of {subject.split}, nats"
        )
        if self.stride is not None:
            protocol += f", a context that moves on by {self.stride:,}"
        return Findings(numbers, protocol=protocol)

    def _predict_windows(self, subject: Subject, codec: VoiceCodec) -> tuple[np.ndarray, ...]:
        """Return what ``_predict`` does, of windows; pieces and places are those of whole pieces.

        Raises:
          UserError: the stride does not fit the rows, the phases of the net or the split.
        """
        length, family = subject.model.spec.shape[0] - 1, subject.model.family
        period = math.lcm(*family.net.periods) if isinstance(family.net, Attends) else 1
        assert self.stride is not None
        if self.stride > length or self.stride % period:
            raise UserError(
                f"stride must be <= {length:,}, the predictions of a row, and a multiple of "
                f"{period:,}, the net's periods, got {self.stride:,}",
                "stride",
            )
        split = subject.splits[subject.split]
        if not isinstance(split, HasCorpus):
            raise UserError(f"the {subject.split} split has no pieces")
        rows = PieceWindows.cut(split.corpus, length, self.stride, codec.start)
        within = dataclasses.replace(subject, splits={subject.split: rows})
        nll, hit, target, counts, place = within.collect(_predict)
        piece = np.where(counts > 0, rows.piece[:, None] + 1, 0)
        return nll, hit, target, piece, place + rows.begin[:, None]


def _mean(values: np.ndarray, counts: np.ndarray) -> float:
    return float(np.mean(values, where=counts, dtype=np.float64)) if counts.any() else float("nan")


def _mean_of_pieces(nll: np.ndarray, piece: np.ndarray, counts: np.ndarray) -> float:
    """Return the mean over pieces, by their numbers [N, T], of the means of their tokens [N, T]."""
    number = piece[counts]
    total = np.bincount(number, nll[counts].astype(np.float64))
    count = np.bincount(number)
    return float((total[count > 0] / count[count > 0]).mean()) if count.any() else float("nan")


def _predict(
    family: Autoregressive, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, ...]:
    """Return -log p, whether the token was the likeliest, the token, the number of its piece (0
    where nothing is predicted) and its place in the piece: [B, T] each.
    """
    found, target = family.predict(state.params, batch), batch["tokens"][:, 1:]
    hit = (family.guess(state.params, batch) == target).astype(jnp.float32)
    counts = found.weight > 0
    piece = batch["segment_ids"][:, 1:] if "segment_ids" in batch else jnp.ones_like(target)
    if "positions" in batch:
        place = batch["positions"][:, 1:]
    else:
        place = jnp.broadcast_to(jnp.arange(1, target.shape[1] + 1)[None], target.shape)
    return found.nll, hit, target, jnp.where(counts, piece, 0), place
