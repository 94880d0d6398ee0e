"""Measures whether texts of one domain are close in the embeddings of a masked language model."""

from __future__ import annotations

import math
from typing import ClassVar

import jax
import numpy as np

from genjax import checks
from genjax.data.dataset import HasDocuments
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families.masked_lm import MaskedLM, embed
from genjax.family import Batch, State


@checks.frozen
class SentenceNeighbours(Evaluator):
    """Measures how often a row's nearest neighbour, by cosine of embeddings, is of the same domain:
    folder, file or column.

    Embeddings are centred first, as all of them share a direction (Mu & Viswanath, arXiv
    1702.01417). Adjacent rows of one document do not count as neighbours.
    ``neighbours_same_domain`` is the share, ``neighbours_error`` its standard error, and
    ``neighbours_chance`` the share for random neighbours.

    Attributes:
      limit: maximum number of rows, evenly spaced.
    """

    judges: ClassVar[tuple[type, ...]] = (MaskedLM,)

    limit: int = 1000

    def __post_init__(self) -> None:
        checks.at_least(self, 4, "limit")

    def __call__(self, subject: Subject) -> Findings:
        part = subject.select_part(self.limit)
        whole = part.whole
        if not isinstance(whole, HasDocuments) or whole.corpus.domain is None:
            raise UserError(
                "SentenceNeighbours needs a source with domains of texts, which these data lack"
            )
        first = whole.documents(part.rows)[:, 0]
        domain = np.asarray(whole.corpus.domain)[first]
        if len(np.unique(domain)) < 2:
            return Findings(
                remarks=("all held-out texts are of one domain, so neighbours mean nothing",)
            )
        embedded = subject.collect(_embed, limit=self.limit)
        near = (np.abs(part.rows[:, None] - part.rows[None]) <= 1) & (first[:, None] == first[None])
        same, chance = same_kind_share(embedded, domain, near)
        error = math.sqrt(same * (1 - same) / len(domain))
        return Findings(
            {
                "neighbours_same_domain": same,
                "neighbours_chance": chance,
                "neighbours_error": error,
            },
            protocol=f"nearest of {len(domain):,} rows of {subject.split} in "
            f"{len(np.unique(domain))} domains by the "
            "cosine of centred mean-pooled features",
        )


def same_kind_share(
    embedded: np.ndarray, kind: np.ndarray, near: np.ndarray
) -> tuple[float, float]:
    """Return the share of rows [N, C] whose nearest neighbour has the same kind [N], and that for a
    random neighbour.

    ``near``, bool [N, N], marks pairs that do not count, including a row with itself.
    """
    centred = embedded - embedded.mean(0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    cosine = np.where(near, -np.inf, unit @ unit.T)
    found = float((kind[cosine.argmax(1)] == kind).mean())
    alike = (kind[:, None] == kind[None]) & ~near
    return found, float((alike.sum(1) / np.maximum((~near).sum(1), 1)).mean())


def _embed(family: MaskedLM, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    return embed(family, state, batch)
