"""Differentiable augmentation in front of the discriminator.

Zhao et al., arXiv 2006.10738; with an adaptive probability: Karras et al., arXiv 2006.06676.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError, unknown_name

Transform = Literal["flip", "rotation", "translation", "cutout", "color"]


@checks.frozen
class DiscriminatorAugment:
    """Augmentation of real and generated images before the discriminator sees them.

    Attributes:
      policy: transforms, in order: "flip" (horizontal), "rotation" (by right angles), "translation"
        (up to an eighth of the image), "cutout" (half of a side) and "color" (brightness, contrast,
        saturation); empty for none.
      prob: probability of each transform for each image; the initial one if it adapts.
      target: mean sign of the discriminator on real images above which the probability rises, and
        below which it falls; 0.6 in the paper. None keeps ``prob`` fixed.
      images: number of images over which an adaptive probability can go from 0 to 1.
    """

    policy: tuple[Transform, ...] = ()
    prob: float = 1.0
    target: float | None = None
    images: int = 500_000

    def __post_init__(self) -> None:
        for name in self.policy:
            if name not in get_args(Transform):
                raise unknown_name("transform", name, get_args(Transform))
        checks.between(self, 0, 1, "prob")
        if self.target is not None and not (self.policy and -1 < self.target < 1):
            raise UserError(
                f"augment.target must be between -1 and 1 and needs a policy, got {self.target}",
                "augment.target",
            )
        checks.at_least(self, 1, "images")

    def __call__(self, key: jax.Array, images: jax.Array, prob: jax.Array | float) -> jax.Array:
        """Apply each transform to each of images [B, H, W, C] with probability ``prob``."""
        if self.policy and images.ndim != 4:
            raise UserError(
                "augment.policy must be empty for data other than images", "augment.policy"
            )
        for number, name in enumerate(self.policy):
            whether, draw = jax.random.split(jax.random.fold_in(key, number))
            changed = jax.vmap(_TRANSFORMS[name])(jax.random.split(draw, len(images)), images)
            chosen = jax.random.bernoulli(whether, prob, (len(images), 1, 1, 1))
            images = jnp.where(chosen, changed, images)
        return images

    def adapt(self, prob: jax.Array, sign: jax.Array, images: int) -> jax.Array:
        """Return the probability after ``images`` more images with a mean sign of ``sign``."""
        if self.target is None:
            return prob
        return jnp.clip(prob + jnp.sign(sign - self.target) * images / self.images, 0, 1)


def _flip(key: jax.Array, image: jax.Array) -> jax.Array:
    return image[:, ::-1]


def _rotate(key: jax.Array, image: jax.Array) -> jax.Array:
    """Rotate by 90, 180 or 270 degrees; by 180 if the image is not square."""
    if image.shape[0] != image.shape[1]:
        return jnp.rot90(image, 2)
    turns = [lambda x, k=k: jnp.rot90(x, k) for k in (1, 2, 3)]
    return jax.lax.switch(jax.random.randint(key, (), 0, 3), turns, image)


def _translate(key: jax.Array, image: jax.Array) -> jax.Array:
    """Shift by whole pixels, filling with grey."""
    height, width, _ = image.shape
    reach = jnp.array([height, width]) // 8
    down, right = jax.random.randint(key, (2,), -reach, reach + 1)
    rows, columns = jnp.arange(height) - down, jnp.arange(width) - right
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    moved = jnp.roll(image, (down, right), axis=(0, 1))
    return jnp.where(inside[..., None], moved, 0.0)


def _cut_out(key: jax.Array, image: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    row, column = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    rows = jnp.abs(jnp.arange(height) - row) < height / 4
    columns = jnp.abs(jnp.arange(width) - column) < width / 4
    return jnp.where((rows[:, None] & columns[None])[..., None], 0.0, image)


def _change_color(key: jax.Array, image: jax.Array) -> jax.Array:
    brightness, saturation, contrast = jax.random.uniform(key, (3,))
    image = image + brightness - 0.5
    if image.shape[-1] > 1:
        grey = image.mean(-1, keepdims=True)
        image = grey + 2 * saturation * (image - grey)
    mean = image.mean()
    return mean + (contrast + 0.5) * (image - mean)


_TRANSFORMS: dict[Transform, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "flip": _flip,
    "rotation": _rotate,
    "translation": _translate,
    "cutout": _cut_out,
    "color": _change_color,
}
