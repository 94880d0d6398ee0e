"""Runs that order passages again: a reward model's, or the features of a masked language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from genjax.errors import UserError
from genjax.posttrain.reward import RewardModel
from genjax.runs.rewards import RunReward
from genjax.runs.run import load
from genjax.runs.setup import load_family
from genjax.store.index.encoders import Encoder
from genjax.store.index.opening import open_encoder


class Reranker(Protocol):
    """Judges how well texts answer a question."""

    def score(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """A number for each text [N], the higher the better."""


@dataclass(frozen=True)
class ByReward:
    """Scores a passage as the answer to the question by a reward model's run."""

    reward: RunReward

    def score(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """See ``Reranker``."""
        return self.reward.score_prompts([question] * len(texts), list(texts))


@dataclass(frozen=True)
class ByEncoder:
    """Scores a passage by the cosine between its vector and that of the question."""

    encoder: Encoder

    def score(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """See ``Reranker``."""
        vectors = self.encoder.encode([question, *texts])
        return np.asarray(vectors[1:] @ vectors[0], np.float64)


def open_reranker(name: str) -> Reranker:
    """The run directory of a reward model or a masked language model, or a folder of a BERT.

    Raises:
      UserError: it is none of these.
    """
    try:
        family = load_family(name)
    except UserError:  # the folder of a BERT has no family, and says itself what it lacks
        return ByEncoder(_open(name))
    if isinstance(family, RewardModel):
        return ByReward(RunReward(load(name)))
    return ByEncoder(_open(name))


def _open(name: str) -> Encoder:
    try:
        return open_encoder(name)
    except UserError as error:
        raise UserError(f"rerank: {error}", "rerank") from None
