"""The variational bound of a diffusion, and learned noise schedules (Kingma et al., arXiv
2107.00630).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.family import Params
from genjax.nets.monotone import MonotoneSchedule
from genjax.samplers.diffusion.processes import Process

ENDS = ("start", "gap")  # the parameters that set the two ends of a schedule


@dataclass(frozen=True)
class NoiseSchedule(Process):
    """A learned process with its parameters: gamma = -log SNR, variance preserving."""

    module: MonotoneSchedule
    params: Params

    def gamma(self, t: jax.Array) -> jax.Array:
        """Return gamma [...] at t [...]."""
        gamma: jax.Array = self.module.apply({"params": self.params}, t)  # type: ignore[assignment]
        return gamma

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        return alpha_sigma(self.gamma(t))

    def clock(self, t: jax.Array) -> jax.Array:
        """Return the relative progress of gamma from gamma(0) to gamma(1), in [0, 1]: [...]."""
        first, last = self.gamma(jnp.zeros(())), self.gamma(jnp.ones(()))
        return (self.gamma(t) - first) / (last - first)


@checks.frozen
class Learned:
    """A learned process: a monotone network gives gamma = -log SNR over time. Its ends are trained
    to lower the bound, the rest to lower its variance.

    Attributes:
      width: hidden units of the network.
      gamma_min: gamma(0) before training.
      gamma_max: gamma(1) before training.
    """

    width: int = 1024
    gamma_min: float = -13.3
    gamma_max: float = 5.0

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "width")
        checks.ordered(self, "gamma_min", "gamma_max", strictly=True)

    def init(self, key: jax.Array) -> Params:
        return self._make_module().init(key, jnp.zeros(()))["params"]

    def bind(self, params: Params) -> NoiseSchedule:
        """Return the process with these parameters."""
        return NoiseSchedule(self._make_module(), params)

    def _make_module(self) -> MonotoneSchedule:
        return MonotoneSchedule(self.gamma_min, self.gamma_max, self.width)

    def compute_low_variance_loss(
        self,
        loss: Callable[[Params, jax.Array, jax.Array, jax.Array], jax.Array],
        net: Params,
        params: Params,
        t: jax.Array,
    ) -> jax.Array:
        """Compute ``loss(net, gamma [B], dgamma/dt [B], clock [B])`` [B] at times t [B], with the
        paper's gradients.

        The network and the schedule's ends get the gradients of the loss. The rest of the schedule,
        which does not change the mean loss, gets those of its square, from the same backward pass.
        """

        def with_gradients_to(ends: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
            held = {
                n: p if (n in ENDS) == ends else jax.lax.stop_gradient(p) for n, p in params.items()
            }
            schedule = self.bind(held)
            return *jax.jvp(schedule.gamma, (t,), (jnp.ones_like(t),)), schedule.clock(t)

        return _apply_loss(loss, net, with_gradients_to(True), with_gradients_to(False))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply_loss(loss: Any, net: Params, ends: Any, rest: Any) -> jax.Array:
    return loss(net, *ends)


def _forward(loss: Any, net: Params, ends: Any, rest: Any) -> tuple[jax.Array, Any]:
    value, pull_back = jax.vjp(loss, net, *ends)
    return value, (value, pull_back)


def _backward(loss: Any, saved: Any, g: jax.Array) -> tuple[Params, Any, Any]:
    value, pull_back = saved
    net, *schedule = pull_back(g)
    # The gradient of the square is 2 L dL, divided by the mean loss to match the scale of the
    # others.
    scale = 2 * value / jnp.maximum(jnp.abs(value).mean(), 1e-12)
    return net, tuple(schedule), tuple(scale * s for s in schedule)


_apply_loss.defvjp(_forward, _backward)


def alpha_sigma(gamma: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return alpha and sigma [...] at gamma [...], with alpha^2 + sigma^2 = 1."""
    return jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma))


def prior_kl(process: Process, x0: jax.Array) -> jax.Array:
    """Return KL(q(x_1 | x0) || N(0, sigma(1)^2)) [B] in nats; samplers start from that Gaussian."""
    alpha, sigma = process.alpha_sigma(jnp.ones(()))
    return 0.5 * jnp.square(alpha / sigma * x0).reshape(len(x0), -1).sum(-1)


def reconstruction(
    process: Process, x0: jax.Array, noise: jax.Array, values: jax.Array | None
) -> jax.Array:
    """Return -log p(x0 | x_t) [B] in nats at the smallest time of the process.

    Args:
      noise: unit noise of x_t, [B, ...].
      values: levels [K] of the entries of x0, with probabilities proportional to N(x_t; alpha
          value, sigma^2); None for continuous data, with density N(x0; x_t / alpha, (sigma /
          alpha)^2).
    """
    alpha, sigma = process.alpha_sigma(jnp.full((), process.t_min))
    if values is None:
        nll = 0.5 * jnp.square(noise) + jnp.log(sigma / alpha) + 0.5 * jnp.log(2 * jnp.pi)
        return nll.reshape(len(x0), -1).sum(-1)

    def row(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        # Relative to the true level, (value - x0) alpha / sigma, so that small differences stay
        # exact.
        x, e = (a.reshape(-1, 1) for a in pair)
        away = (values[None] - x) * (alpha / sigma)
        logits = -0.5 * jnp.square(away - e)
        level = jnp.argmin(jnp.abs(values[None] - x), axis=-1)[:, None]
        chosen = jnp.take_along_axis(logits, level, -1)[:, 0]
        return (jax.nn.logsumexp(logits, axis=-1) - chosen).sum()

    return jax.lax.map(row, (x0, noise))
