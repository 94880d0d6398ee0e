"""Computes a tighter bound on the likelihood than the trained one."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import ClassVar

import jax

from genjax import checks
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families.vae import VAE
from genjax.families.vdvae import VDVAE
from genjax.family import Batch, Metrics, State


@checks.frozen
class ImportanceBound(Evaluator):
    """Computes an upper bound on -log p(x) of a VAE or VDVAE by importance weighting (Burda et al.,
    arXiv 1509.00519), which tightens as the number of samples grows.

    Attributes:
      samples: importance samples per example; 5,000 in the literature.
      limit: number of examples, evenly spaced; None for the whole split.
      chunk: samples decoded at once; None uses the family's own.
    """

    judges: ClassVar[tuple[type, ...]] = (VAE, VDVAE)

    samples: int = 5000
    limit: int | None = None
    chunk: int | None = None
    while_training: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples", "limit", "chunk")

    def __call__(self, subject: Subject) -> Findings:
        found = subject.compute_metrics(_bound, self.samples, self.chunk, limit=self.limit)
        total = len(subject.splits[subject.split])
        names = {"loss": f"nll_{self.samples}", "bits_per_dim": f"bits_per_dim_{self.samples}"}
        return Findings(
            {name: found[metric] for metric, name in names.items()},
            protocol=f"importance-weighted bound, {self.samples:,} samples an example, "
            f"{min(self.limit or total, total):,} examples of {subject.split}",
        )


def _bound(
    family: VAE | VDVAE, state: State, batch: Batch, key: jax.Array, samples: int, chunk: int | None
) -> Metrics:
    family = family if chunk is None else dataclasses.replace(family, chunk=chunk)
    return family.importance_bound(state.params, state.variables, batch, key, samples)
