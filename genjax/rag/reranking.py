"""Rerank passages with a reward model, or with the features of a masked language model."""

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
    """A judge of how well texts answer a question."""

    def score(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """Return a score for each text, of shape (N,); higher is better."""


@dataclass(frozen=True)
class ByReward:
    """A reranker that scores each passage as an answer with the run of a reward model."""

    reward: RunReward

    def score(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """See ``Reranker``."""
        return self.reward.score_prompts([question] * len(texts), list(texts))


@dataclass(frozen=True)
class ByEncoder:
    """A reranker that scores each passage by its cosine with the question."""

    encoder: Encoder

    def score(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """See ``Reranker``."""
        vectors = self.encoder.encode([question, *texts])
        return np.asarray(vectors[1:] @ vectors[0], np.float64)


def open_reranker(name: str) -> Reranker:
    """Open a reranker.

    Args:
      name: the run directory of a reward model or masked language model, or the folder of a BERT.

    Raises:
      UserError: the directory is none of these.
    """
    try:
        family = load_family(name)
    except UserError:  # the folder of a BERT has no family
        return ByEncoder(_open(name))
    if isinstance(family, RewardModel):
        return ByReward(RunReward(load(name)))
    return ByEncoder(_open(name))


def _open(name: str) -> Encoder:
    try:
        return open_encoder(name)
    except UserError as error:
        raise UserError(f"rerank: {error}", "rerank") from None
