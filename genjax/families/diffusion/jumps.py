"""The conditions that make a network the flow map of its own flow.

A flow x_t = (1 - t) x0 + t noise moves along dx/dt = v(x, t), from noise at t = 1 to data at t = 0.
Its map from t to an end r is written with the mean velocity u over the way:

    X(x, t, r) = x + (r - t) u(x, t, r),        v(x, t) = u(x, t, t).

Three conditions hold of the map alone and of no other function with this v (Boffi et al., arXiv
2505.18825). Each gives a residual here, in units of velocity, whose square is a loss:

    Lagrangian    dX/dr = v(X, r)                       the end moves along the flow
    Eulerian      dX/dt + grad X . v(x, t) = 0          a start moved along the flow ends there, too
    progressive   X(x, t, r) = X(X(x, t, m), m, r)      two jumps are one

The Eulerian one is MeanFlow's (Geng et al., arXiv 2505.13447), for r = 0 that of consistency models
in continuous time (Song et al., arXiv 2303.01469); the progressive one, with m halfway, that of
shortcut models (Frans et al., arXiv 2410.12557). Times are [B] with arrays [B, ...].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from genjax.machine.target import in_plain_form

Form = Literal["lagrangian", "eulerian", "progressive"]
# x [B, ...], t [B] and r [B] to the mean velocity u [B, ...].
MeanVelocity = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
# x [B, ...] and t [B] to the velocity v [B, ...].
Velocity = Callable[[jax.Array, jax.Array], jax.Array]


def jump(mean: MeanVelocity, x: jax.Array, t: jax.Array, r: jax.Array) -> jax.Array:
    """Return X(x, t, r) [B, ...]."""
    return x + expand_times(r - t, x) * mean(x, t, r)


def lagrangian(
    mean: MeanVelocity,
    velocity: Velocity,
    x: jax.Array,
    t: jax.Array,
    r: jax.Array,
    detach: bool = True,
) -> jax.Array:
    """Return dX/dr - v(X, r) [B, ...], that is u + (r - t) du/dr - v(X, r)."""
    along = jnp.zeros_like(x), jnp.zeros_like(t), jnp.ones_like(r)
    u, rate = differentiate(mean, (x, t, r), along, detach)
    span = expand_times(r - t, x)
    return u + span * rate - _hold(velocity(_hold(x + span * u), r))


def eulerian(
    mean: MeanVelocity,
    x: jax.Array,
    t: jax.Array,
    r: jax.Array,
    start: jax.Array,
    detach: bool = True,
) -> jax.Array:
    """Return -(dX/dt + grad X . start) [B, ...], that is u - start - (r - t) du/dt along the flow.

    ``start`` [B, ...] is the velocity at x. Noise - x0 serves as well in the mean, as du/dt is
    linear in it: that is MeanFlow.
    """
    start = _hold(start)
    along = start, jnp.ones_like(t), jnp.zeros_like(r)
    u, rate = differentiate(mean, (x, t, r), along, detach)
    return u - start - expand_times(r - t, x) * rate


def progressive(
    mean: MeanVelocity,
    x: jax.Array,
    t: jax.Array,
    r: jax.Array,
    share: jax.Array | float = 0.5,
) -> jax.Array:
    """Return (X(X(x, t, m), m, r) - X(x, t, r)) / (t - r) [B, ...], where the first jump is a
    ``share`` [B] or [] of the way.
    """
    middle = t + share * (r - t)
    first = mean(x, t, middle)
    second = mean(_hold(x + expand_times(middle - t, x) * first), middle, r)
    share = expand_times(jnp.asarray(share, x.dtype), x)
    return mean(x, t, r) - _hold(share * first + (1 - share) * second)


def differentiate(
    mean: MeanVelocity,
    at: tuple[jax.Array, jax.Array, jax.Array],
    along: tuple[jax.Array, jax.Array, jax.Array],
    detach: bool,
) -> tuple[jax.Array, jax.Array]:
    """Return u and its derivative in a direction; without a gradient of the latter if ``detach``.

    Detached, u is computed apart, so that its gradient takes the fast forms of operations.
    """
    u, rate = jax.jvp(in_plain_form(mean), at, along)
    return (mean(*at), _hold(rate)) if detach else (u, rate)


def _hold(x: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(x)


def expand_times(t: jax.Array, x: jax.Array) -> jax.Array:
    """Append axes of length 1 to t [B] or [], so that it broadcasts with x [B, ...]."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t
