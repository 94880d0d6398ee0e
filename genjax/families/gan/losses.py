"""The losses of two players, [B] in and [B] out, the slope of a critic for penalties, and gauges of
a game.

Minimax and non-saturating: Goodfellow et al., arXiv 1406.2661. Wasserstein: Arjovsky et al., arXiv
1701.07875. Least squares: Mao et al., arXiv 1611.04076. Hinge: Lim & Ye, arXiv 1705.02894.
Relativistic: Jolicoeur-Martineau, arXiv 1807.00734, in the paired form of Huang et al., arXiv
2501.05441.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp

Gauges = Mapping[str, jax.Array]
GAUGED = ("logit", "swing", "variance", "real", "fake", "weight")
MEMORY = 0.99  # what the gauges keep of themselves in a step: they look back about 100 steps

GANLoss = Literal[
    "non_saturating", "minimax", "wasserstein", "hinge", "least_squares", "relativistic"
]


def discriminator_loss(
    loss: GANLoss, real: jax.Array, fake: jax.Array, smoothing: float = 0.0
) -> jax.Array:
    """What the discriminator pays for its logits on a real and a fake example each.

    ``smoothing`` lowers the target of real examples to 1 - smoothing (one-sided: Salimans et al.,
    arXiv 1606.03498); it is for the two losses of cross-entropy.
    """
    match loss:
        case "non_saturating" | "minimax":
            return (
                (1 - smoothing) * jax.nn.softplus(-real)
                + smoothing * jax.nn.softplus(real)
                + jax.nn.softplus(fake)
            )
        case "wasserstein":
            return fake - real
        case "hinge":
            return jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)
        case "least_squares":
            return 0.5 * (jnp.square(real - 1) + jnp.square(fake))
        case "relativistic":
            return jax.nn.softplus(fake - real)


def generator_loss(loss: GANLoss, fake: jax.Array, real: jax.Array) -> jax.Array:
    """What the generator pays for the discriminator's logits on its fakes; only the
    relativistic loss looks at real.
    """
    match loss:
        case "non_saturating":
            return jax.nn.softplus(-fake)
        case "minimax":
            return -jax.nn.softplus(fake)
        case "wasserstein" | "hinge":
            return -fake
        case "least_squares":
            return 0.5 * jnp.square(fake - 1)
        case "relativistic":
            return jax.nn.softplus(real - fake)


def has_boundary(loss: GANLoss) -> bool:
    """Return whether a logit by itself says real or fake; otherwise only the difference of two
    means anything.
    """
    return loss not in ("wasserstein", "relativistic")


def hits(loss: GANLoss, real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return whether the discriminator is right, 0 or 1, about each real and each fake example.

    Without a boundary that is whether it puts them in order, for both alike.
    """
    if not has_boundary(loss):
        ordered = (real > fake).astype(jnp.float32)
        return ordered, ordered
    boundary = 0.5 if loss == "least_squares" else 0.0
    return (real > boundary).astype(jnp.float32), (fake < boundary).astype(jnp.float32)


def measure_spread(fake: jax.Array, real: jax.Array, axis: str | None = None) -> jax.Array:
    """How much a batch of fakes [B, ...] varies beside one of real examples [B, ...]: the standard
    deviation over the batch, a mean over the entries, of one over that of the other. 0 is a
    generator that makes one example of all latents.
    """

    def average(x: jax.Array) -> jax.Array:
        """Over the batches of all devices that share a mapped ``axis``."""
        return x.mean(0) if axis is None else jax.lax.pmean(x.mean(0), axis)

    made, given = (jnp.sqrt(average(jnp.square(x - average(x)[None]))).mean() for x in (fake, real))
    return made / jnp.maximum(given, jnp.finfo(jnp.float32).tiny)


def squared_gradient_norm(
    critic: Callable[[jax.Array], jax.Array], x: jax.Array, pack: int = 1
) -> jax.Array:
    """Return squared norm [B / pack] of the gradient of each logit with respect to the examples x
    [B, ...] that it judges.

    ``critic`` packs row i with rows i + B / pack, i + 2 B / pack, ...
    """
    gradient = jax.grad(lambda x: critic(x).sum())(x)
    return jnp.square(gradient).reshape(x.shape[0], -1).sum(-1).reshape(pack, -1).sum(0)


def gradient_penalty(squared_slope: jax.Array) -> jax.Array:
    """Return (slope - 1)^2, the gradient penalty (Gulrajani et al., arXiv 1704.00028)."""
    return jnp.square(jnp.sqrt(squared_slope + 1e-12) - 1)  # a root has no slope of its own at 0


def interpolate(key: jax.Array, real: jax.Array, fake: jax.Array, pack: int = 1) -> jax.Array:
    """Return a random point on the line from each fake [B, ...] to its real example, the same share
    for all of a pack.
    """
    share = jax.random.uniform(key, (real.shape[0] // pack, *(1,) * (real.ndim - 1)))
    return fake + jnp.concatenate([share] * pack) * (real - fake)


def no_gauges() -> Gauges:
    """Before the first step."""
    return {name: jnp.zeros(()) for name in GAUGED}


def update_gauges(
    gauges: Gauges, logit: jax.Array, square: jax.Array, real: jax.Array, fake: jax.Array
) -> Gauges:
    """Return moving averages after one more step.

    Args:
      logit: the mean of the discriminator's logits on fakes.
      square: the mean of their squares.
      real: its accuracy on real examples.
      fake: and on fakes.
    """
    weight = MEMORY * gauges["weight"] + (1 - MEMORY)
    away = logit - gauges["logit"]
    mean = gauges["logit"] + (1 - MEMORY) / weight * away
    # From the old and the new mean, as Welford did: exactly 0 while nothing swings, however large
    # the logits are.
    now = {
        "swing": away * (logit - mean),
        "variance": square - jnp.square(logit),
        "real": real,
        "fake": fake,
    }
    moved = {name: MEMORY * gauges[name] + (1 - MEMORY) * value for name, value in now.items()}
    return moved | {"logit": mean, "weight": weight}


def accuracies(gauges: Gauges) -> tuple[jax.Array, jax.Array]:
    """Return the discriminator's accuracy on real examples and on fakes, over the last steps; 0
    before the first.
    """
    weight = jnp.maximum(gauges["weight"], 1e-12)
    return gauges["real"] / weight, gauges["fake"] / weight


def oscillation(gauges: Gauges) -> jax.Array:
    """How far the mean logit on fakes swings from step to step, in standard deviations of logits
    within a batch.

    Where two players chase each other around an equilibrium, the verdict on all fakes turns as one:
    well above 1. A game that holds still swings by no more than the error of a batch's mean, 1 /
    sqrt(B).
    """
    return jnp.sqrt(jnp.maximum(gauges["swing"], 0) / jnp.maximum(gauges["variance"], 1e-12))
