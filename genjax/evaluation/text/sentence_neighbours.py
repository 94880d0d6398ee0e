"""Whether texts of one kind lie near each other where a masked language model embeds them."""

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
    """How often a row's nearest neighbour by the cosine of embeddings is of the same domain:
    folder, file or column.

    Embeddings are centred first, as all of a model's point much the same way (Mu & Viswanath, arXiv
    1702.01417). Rows next to each other in one document are not neighbours, as they continue each
    other. ``neighbours_chance`` is what neighbours drawn evenly from the rest would give,
    ``neighbours_error`` the standard error.

    Attributes:
      limit: rows, spread evenly.
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
                "SentenceNeighbours needs a source that names the domain of a text; these data do "
                "not"
            )
        first = whole.documents(part.rows)[:, 0]
        domain = np.asarray(whole.corpus.domain)[first]
        if len(np.unique(domain)) < 2:
            return Findings(
                remarks=("all held-out texts are of one domain: neighbours tell nothing",)
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
    """Return the share of rows [N, C] whose nearest other is of the same kind [N], and that of one
    drawn evenly.

    ``near`` [N, N] bool are pairs that do not count, a row with itself among them.
    """
    centred = embedded - embedded.mean(0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    cosine = np.where(near, -np.inf, unit @ unit.T)
    found = float((kind[cosine.argmax(1)] == kind).mean())
    alike = (kind[:, None] == kind[None]) & ~near
    return found, float((alike.sum(1) / np.maximum((~near).sum(1), 1)).mean())


def _embed(family: MaskedLM, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    return embed(family, state, batch)
