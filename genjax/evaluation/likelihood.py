"""Tighter bounds on the likelihood than the one that was trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax

from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families.vae import VAE
from genjax.family import Batch, Metrics, State


@dataclass(frozen=True)
class ImportanceBound(Evaluator):
    """-log p(x) of a VAE by the importance-weighted bound (Burda et al., arXiv 1509.00519), which falls to it as the
    number of samples grows.

    Attributes:
      samples: an example; 5,000 is what the literature reports.
      limit: judge the first so many examples alone; None for the whole split.
    """

    judges: ClassVar[tuple[type, ...]] = (VAE,)

    samples: int = 5000
    limit: int | None = None
    while_training: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.samples < 1 or (self.limit is not None and self.limit < 1):
            raise UserError(f"ImportanceBound needs samples and limit of at least 1, not {self.samples}, {self.limit}")

    def __call__(self, subject: Subject) -> Findings:
        found = subject.metrics(_bound, self.samples, limit=self.limit)
        total = len(subject.splits[subject.split])
        names = {"loss": f"nll_{self.samples}", "bits_per_dim": f"bits_per_dim_{self.samples}"}
        return Findings(
            {name: found[metric] for metric, name in names.items()},
            protocol=f"importance-weighted bound, {self.samples:,} samples an example, "
            f"{min(self.limit or total, total):,} examples of {subject.split}",
        )


def _bound(family: VAE, state: State, batch: Batch, key: jax.Array, samples: int) -> Metrics:
    return family.importance_bound(state.params, state.variables, batch, key, samples)
