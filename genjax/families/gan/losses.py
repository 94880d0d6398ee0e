"""Adversarial losses ([B] in and [B] out), gradient penalties, and gauges of training.

Minimax and non-saturating: Goodfellow et al., arXiv 1406.2661. Wasserstein: Arjovsky et al., arXiv
1701.07875. Least squares: Mao et al., arXiv 1611.04076. Hinge: Lim & Ye, arXiv 1705.02894.
Relativistic: Jolicoeur-Martineau, arXiv 1807.00734, in the paired form of Huang et al., arXiv
2501.05441.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp

Gauges = Mapping[str, jax.Array]
GAUGED = ("logit", "swing", "variance", "real", "fake", "weight")
MEMORY = 0.99  # decay of the gauges per step: they average about 100 steps

GANLoss = Literal[
    "non_saturating", "minimax", "wasserstein", "hinge", "least_squares", "relativistic"
]


def discriminator_loss(
    loss: GANLoss, real: jax.Array, fake: jax.Array, smoothing: float = 0.0
) -> jax.Array:
    """Return the discriminator's loss for its logits on real and on fake examples.

    ``smoothing`` lowers the target of real examples to 1 - smoothing (one-sided: Salimans et al.,
    arXiv 1606.03498); it is for the two cross-entropy losses.
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
    """Return the generator's loss for the discriminator's logits on fakes; only the relativistic
    loss uses ``real``.
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
    """Return whether a single logit says real or fake; if not, only differences of logits have a
    meaning.
    """
    return loss not in ("wasserstein", "relativistic")


def hits(loss: GANLoss, real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return 1 where the discriminator is right, else 0, for each real and each fake example.

    Without a boundary, both are 1 where the real logit exceeds the fake one.
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
    """Return the squared norm [B / pack] of the gradient of each logit with respect to its examples
    x [B, ...].

    ``critic`` packs row i with rows i + B / pack, i + 2 B / pack, ...
    """
    gradient = jax.grad(lambda x: critic(x).sum())(x)
    return jnp.square(gradient).reshape(x.shape[0], -1).sum(-1).reshape(pack, -1).sum(0)


def gradient_penalty(squared_slope: jax.Array) -> jax.Array:
    """Return (slope - 1)^2, the gradient penalty (Gulrajani et al., arXiv 1704.00028)."""
    return jnp.square(jnp.sqrt(squared_slope + 1e-12) - 1)  # the root has no gradient at 0


def interpolate(key: jax.Array, real: jax.Array, fake: jax.Array, pack: int = 1) -> jax.Array:
    """Draw a point on the line from each fake [B, ...] to its real example, at the same fraction
    within a pack.
    """
    share = jax.random.uniform(key, (real.shape[0] // pack, *(1,) * (real.ndim - 1)))
    return fake + jnp.concatenate([share] * pack) * (real - fake)


def compute_penalty(
    critic: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    key: jax.Array,
    weights: tuple[float, float, float],
    pack: int = 1,
) -> jax.Array:
    """Return the penalty on the discriminator's loss, for each pack: [B / pack].

    Args:
      critic: logits of packs of examples, see ``squared_gradient_norm``.
      real: real examples, [B, ...].
      fake: fakes, [B, ...].
      key: random key of the points between them.
      weights: weights of the gradient penalty, R1 and R2; 0 for none.
      pack: examples per pack.
    """
    between, r1, r2 = weights
    total = jnp.zeros(len(real) // pack)
    slope = functools.partial(squared_gradient_norm, critic, pack=pack)
    if between:
        total += between * gradient_penalty(slope(interpolate(key, real, fake, pack)))
    for weight, x in ((r1, real), (r2, fake)):
        if weight:
            total += 0.5 * weight * slope(x)
    return total


def start_gauges() -> Gauges:
    """Return the gauges before the first step."""
    return {name: jnp.zeros(()) for name in GAUGED}


def update_gauges(
    gauges: Gauges, logit: jax.Array, square: jax.Array, real: jax.Array, fake: jax.Array
) -> Gauges:
    """Update the moving averages by one step.

    Args:
      logit: mean of the discriminator's logits on fakes.
      square: mean of their squares.
      real: accuracy on real examples.
      fake: accuracy on fakes.
    """
    weight = MEMORY * gauges["weight"] + (1 - MEMORY)
    away = logit - gauges["logit"]
    mean = gauges["logit"] + (1 - MEMORY) / weight * away
    # Welford's formula, from the old and the new mean: exactly 0 for constant logits, however
    # large.
    now = {
        "swing": away * (logit - mean),
        "variance": square - jnp.square(logit),
        "real": real,
        "fake": fake,
    }
    moved = {name: MEMORY * gauges[name] + (1 - MEMORY) * value for name, value in now.items()}
    return moved | {"logit": mean, "weight": weight}


def accuracies(gauges: Gauges) -> tuple[jax.Array, jax.Array]:
    """Return the discriminator's accuracy on real examples and on fakes over recent steps; 0 before
    the first.
    """
    weight = jnp.maximum(gauges["weight"], 1e-12)
    return gauges["real"] / weight, gauges["fake"] / weight


def oscillation(gauges: Gauges) -> jax.Array:
    """Measure how far the mean logit on fakes swings between steps, in standard deviations of
    logits within a batch.

    If the players chase each other around an equilibrium, the logits of all fakes change together
    and this is well above 1. In stable training it is about the error of a batch's mean, 1 /
    sqrt(B).
    """
    return jnp.sqrt(jnp.maximum(gauges["swing"], 0) / jnp.maximum(gauges["variance"], 1e-12))
