"""Non-leaking augmentation: the model gets it as a condition, so that samples do not show it.

Karras et al., arXiv 2206.00364, appendix F.2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.data.dataset import Spec
from genjax.errors import UserError

# Two flips, 1 - cosine and sine of the rotation, two shifts, and whether anything was done.
SIZE = 7


@checks.frozen
class NonLeaking:
    """Random flips, quarter turns and shifts of images, which the network gets as a condition.

    All are exact, without interpolation; shifts repeat the border pixels.

    Attributes:
      prob: probability of each of the three; 0 for no augmentation.
      shift: largest shift in each direction, in pixels.
    """

    prob: float = 0.0
    shift: int = 2

    def __post_init__(self) -> None:
        checks.share(self, "prob")
        checks.at_least(self, 0, "shift")

    @property
    def size(self) -> int:
        """The number of conditions per image; 0 without augmentation."""
        return SIZE if self.prob else 0

    def check(self, spec: Spec) -> None:
        """Refuse data that cannot be augmented, with a ``UserError``."""
        if self.prob and (spec.entry != "image" or spec.shape[0] != spec.shape[1]):
            raise UserError(
                f"augment needs square images, got {spec.entry} of shape {spec.shape}", "augment"
            )

    def make_null(self, n: int) -> jax.Array | None:
        """Return the conditions [n, size] of ``n`` unaugmented images; None without
        augmentation.
        """
        return jnp.zeros((n, SIZE)) if self.prob else None

    def __call__(self, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Augment images [B, H, H, C]; return them and their conditions [B, size]."""
        if not self.prob:
            return x, None
        return jax.vmap(self._augment_image)(jax.random.split(key, len(x)), x)

    def _augment_image(self, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 4)
        flips = jax.random.bernoulli(keys[0], self.prob, (2,))
        turned, shifted = jax.random.bernoulli(keys[1], self.prob, (2,))
        turns = jnp.where(turned, jax.random.randint(keys[2], (), 0, 4), 0)
        by = jnp.where(shifted, jax.random.randint(keys[3], (2,), -self.shift, self.shift + 1), 0)
        x = jnp.where(flips[0], x[:, ::-1], x)
        x = jnp.where(flips[1], x[::-1], x)
        x = jax.lax.switch(turns, [lambda x, k=k: jnp.rot90(x, k) for k in range(4)], x)
        rows, columns = (
            jnp.clip(jnp.arange(n) - d, 0, n - 1) for n, d in zip(x.shape[:2], by, strict=True)
        )
        x = x[rows][:, columns]
        angle = jnp.pi / 2 * turns
        done = jnp.stack([*flips, 1 - jnp.cos(angle), jnp.sin(angle), *by / max(1, self.shift)])
        return x, jnp.append(done, jnp.any(done != 0))
