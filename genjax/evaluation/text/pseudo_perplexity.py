"""Measures how well a masked language model predicts each token of a text from all others."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any, ClassVar

import jax
import numpy as np
import scipy.stats

from genjax import checks
from genjax.data.dataset import Split
from genjax.data.text.augment import real_mask
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families.masked_lm import MaskedLM, pseudo_log_likelihood
from genjax.family import Batch, State


@checks.frozen
class PseudoPerplexity(Evaluator):
    """Computes exp of the mean -log p(token | all other tokens of its row), each masked in turn
    (arXiv 1910.14659).

    It is not the perplexity of a distribution over texts, and lower than that of a left-to-right
    model. Its standard error treats rows as independent (the delta method for a ratio of sums).
    ``unigram_nll`` is the baseline without context, the entropy of the frequencies of the split's
    ordinary tokens: the ``loss`` of a model that uses context is below it.

    Attributes:
      limit: number of rows, evenly spaced; each costs as many passes as it has tokens.
    """

    judges: ClassVar[tuple[type, ...]] = (MaskedLM,)

    limit: int = 64
    while_training: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "limit")

    def __call__(self, subject: Subject) -> Findings:
        log_likelihood, count = subject.collect(_score_rows, limit=self.limit)
        total = count.sum()
        if not total:
            raise UserError("PseudoPerplexity needs ordinary tokens, but these rows have none")
        nll = -float(log_likelihood.sum() / total)
        spread = np.square(-log_likelihood - nll * count).sum()
        error = math.sqrt(spread * len(count) / max(1, len(count) - 1)) / float(total)
        unigram, tokens = unigram_nll(
            subject.splits[subject.split], np.asarray(subject.model.state.variables["special"])
        )
        return Findings(
            {
                "pseudo_perplexity": math.exp(nll),
                "pseudo_nll": nll,
                "pseudo_nll_error": error,
                "unigram_nll": unigram,
            },
            protocol=f"{len(count):,} rows of {subject.split}, {int(total):,} tokens, each masked "
            "alone; unigrams of "
            f"all {tokens:,} tokens",
        )


def unigram_nll(split: Split, special: np.ndarray) -> tuple[float, int]:
    """Return the entropy, in nats, of the token frequencies of a split, without ``special`` [V]
    tokens, and the number of tokens.
    """
    counts = np.zeros(len(special), np.int64)
    for rows in np.array_split(np.arange(len(split)), -(-len(split) // 1024)):
        batch: Any = split.batch(rows)
        counts += np.bincount(batch["tokens"][np.asarray(real_mask(batch))], minlength=len(special))
    counts = counts[~special]
    return float(scipy.stats.entropy(counts)), int(counts.sum())


def _score_rows(
    family: MaskedLM, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return pseudo_log_likelihood(family, state, batch)
