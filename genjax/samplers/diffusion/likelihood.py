"""The likelihood of data under the probability-flow ODE."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.samplers.diffusion.adaptive import check_tolerance, solve
from genjax.samplers.diffusion.processes import Process, velocity
from genjax.samplers.diffusion.steps import Denoise


def log_density(
    denoise: Denoise,
    process: Process,
    x: jax.Array,
    key: jax.Array,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    probes: int | None = 1,
    max_steps: int = 1000,
) -> jax.Array:
    """Return log p(x) [B] in nats of data x [B, ...], by the probability-flow ODE (arXiv
    2011.13456, section 4.3).

    The density is that of the data plus Gaussian noise of sigma / alpha at the process's ``t_min``
    (1e-3 for ``Straight``). x_1 is taken to be N(0, sigma(1)^2): where alpha(1) > 0 that is off by
    about |x_1| |mean of the data| alpha / sigma^2 at t = 1. Only reverse-mode derivatives are used,
    which every network supports.

    Args:
      denoise: the posterior mean.
      key: random key of the probes.
      rtol, atol: tolerances as in ``Adaptive``, for x and for log p.
      probes: number of random vectors of +-1 in Hutchinson's unbiased estimate of the divergence
          (arXiv 1810.01367), fixed along the path. None for the exact trace, which costs as many
          products with the Jacobian as x has entries.
      max_steps: limit on the solver's steps; if it is too low, log p is NaN.

    Raises:
      UserError: probes, tolerances or steps out of range.
    """
    check_tolerance(rtol, atol)
    for name, value in (("probes", probes), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be >= 1, got {value}", name)
    entries = math.prod(x.shape[1:])
    if probes is None:
        vectors = jnp.broadcast_to(
            jnp.eye(entries, dtype=x.dtype).reshape(entries, 1, *x.shape[1:]), (entries, *x.shape)
        )
    else:
        vectors = jax.random.rademacher(key, (probes, *x.shape), x.dtype)

    def ode(t: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rate, pull_back = jax.vjp(lambda x: velocity(process, denoise(x, t), x, t), carry[0])
        products = jax.vmap(lambda vector: pull_back(vector)[0])(vectors)  # [P, B, ...]
        traces = (vectors * products).reshape(len(vectors), len(x), -1).sum(-1)
        return rate, traces.sum(0) if probes is None else traces.mean(0)

    alpha, _ = process.alpha_sigma(jnp.asarray(process.t_min, x.dtype))
    start = (alpha * x, jnp.zeros(len(x), x.dtype))
    end, divergence = solve(ode, start, process.t_min, 1.0, rtol, atol, max_steps)
    _, sigma = process.alpha_sigma(jnp.ones((), x.dtype))
    squared = jnp.square(end / sigma).reshape(len(x), -1).sum(-1)
    prior = -0.5 * squared - entries * (jnp.log(sigma) + 0.5 * math.log(2 * math.pi))
    return prior + divergence + entries * jnp.log(alpha)
