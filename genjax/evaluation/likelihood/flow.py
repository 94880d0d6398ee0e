"""Computes the likelihood of a diffusion model by its probability-flow ODE."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.diffusion.applications import log_prob
from genjax.families.diffusion.diffusion import Diffusion
from genjax.family import Batch, State, select_modelled
from genjax.samplers.diffusion.adaptive import check_tolerance


@checks.frozen
class FlowLikelihood(Evaluator):
    """Computes -log p(x) of the deterministic sampler, by the change of variables along its ODE
    (Song et al., arXiv 2011.13456).

    For continuous data it is the density in model space: ``ode_nll`` in nats per example,
    ``ode_bits_per_dim`` the same over D log 2. Raw pixels with K levels are w = 2 / (K - 1) apart
    in [-1, 1], and the probability of a pixel is the integral of the density over a width w around
    it. With x' drawn uniformly from there, -log p(x') - D log w is reported: in expectation an
    upper bound on the negative log-probability of the raw image (Theis et al., arXiv 1511.01844),
    in bits per raw pixel as in the literature. ``..._error`` are standard errors of the mean over
    examples.

    The density is that of data with the noise of the process's ``t_min``, see
    ``genjax.samplers.log_density``. For a conditional model it is that of the unconditional one.

    Attributes:
      examples: number of examples, evenly spaced over the split.
      probes: number of probes of Hutchinson's estimate of the divergence, which is unbiased in
        nats; None for the exact trace, which costs as many products with the Jacobian as an example
        has entries.
      rtol: relative tolerance of the ODE solver.
      atol: absolute tolerance.
      batch: examples per batch, which takes as many steps as its hardest example; rounded up to a
        multiple of the devices.
    """

    judges: ClassVar[tuple[type, ...]] = (Diffusion,)

    examples: int = 500
    probes: int | None = 1
    rtol: float = 1e-4
    atol: float = 1e-4
    batch: int = 50
    while_training: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "examples")
        checks.at_least(self, 1, "batch", "probes")
        check_tolerance(self.rtol, self.atol)

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if not family.noise.gaussian:
            raise UserError("family.noise must be Gaussian for FlowLikelihood", "family.noise")
        if family.conditioned and not family.drop_label:
            raise UserError(
                "family.drop_label must be > 0 for FlowLikelihood, which needs the unconditional "
                "model",
                "family.drop_label",
            )

    def __call__(self, subject: Subject) -> Findings:
        spec = subject.model.spec
        # The same number on each device.
        batch = -(-self.batch // subject.layout.mesh.size) * subject.layout.mesh.size
        settings = (spec.levels, self.probes, self.rtol, self.atol)
        nll = dataclasses.replace(subject, batch_size=batch).collect(
            _nll, *settings, limit=self.examples
        )
        failed = int((~np.isfinite(nll)).sum())
        if failed:
            raise UserError(
                f"FlowLikelihood has no density for {failed:,} of {len(nll):,} examples: either "
                "the ODE needs more steps than its solver takes (raise rtol and atol), or the "
                "network's output is not finite"
            )
        mean, error = (
            float(nll.mean(dtype=np.float64)),
            float(nll.std(dtype=np.float64, ddof=1) / math.sqrt(len(nll))),
        )
        bits = math.prod(spec.shape) * math.log(2)
        kind = "density in model space"
        if spec.levels is not None:
            kind = (
                f"upper bound for raw values of {spec.levels} levels, uniform dequantisation "
                "about each"
            )
        trace = (
            "exact divergence"
            if self.probes is None
            else f"{self.probes} Hutchinson probe(s) an example"
        )
        judged = "; the unconditional model" if subject.model.family.conditioned else ""
        return Findings(
            {
                "ode_nll": mean,
                "ode_nll_error": error,
                "ode_bits_per_dim": mean / bits,
                "ode_bits_per_dim_error": error / bits,
            },
            protocol=f"probability-flow ODE, rtol {self.rtol:g}, atol {self.atol:g}, {trace}; "
            f"{kind}; "
            f"{len(nll):,} examples of {subject.split}{judged}",
        )


def _nll(
    family: Diffusion,
    state: State,
    batch: Batch,
    key: jax.Array,
    levels: int | None,
    probes: int | None,
    rtol: float,
    atol: float,
) -> jax.Array:
    """Compute -log p [B] in nats, of raw values if they have levels."""
    x = select_modelled(batch)
    noise_key, probe_key = jax.random.split(key)
    volume = 0.0
    if levels is not None:
        width = 2 / (levels - 1)
        x = x + width * (jax.random.uniform(noise_key, x.shape) - 0.5)
        volume = math.prod(x.shape[1:]) * math.log(width)
    return -log_prob(family, state, probe_key, x, probes, rtol, atol) - volume
