"""How well a masked language model predicts each token of a text from all the others."""

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
    """exp of the mean -log p(token | all other tokens of its row), each masked in turn (arXiv
    1910.14659).

    It is not a perplexity of a distribution over texts, and lower than one of a model that reads
    from one side. Its standard error takes rows for independent (the delta method for a ratio of
    sums). ``unigram_nll`` is the floor for what looks at no context, the entropy of the frequencies
    of all the split's ordinary tokens: the ``loss`` of a model that has learned to read is below
    it.

    Attributes:
      limit: rows, evenly spaced; each costs as many passes as it has tokens.
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
            raise UserError("PseudoPerplexity: these rows hold no token but special ones")
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
    """Return the entropy in nats of how often each token of a split is there, ``special`` [V] ones
    aside, and their number.
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
