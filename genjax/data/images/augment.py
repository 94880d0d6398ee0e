"""Image augmentations for ``Experiment.augment``: frozen dataclasses, called as `augment(key,
batch) -> batch`.

A batch holds ``image`` [B, H, W, C] float32 in [-1, 1], which is replaced; all other entries are
unchanged. Every example gets its own random draw. A strength of 0 (``prob``, ``padding``,
``degrees``, ``size``, ``alpha``, the four of ``Color``) switches an augmentation off, also on the
command line: ``--augment.0.padding 0``. All run in the compiled step, in forms that are cheap even
on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import dm_pix
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.errors import UserError, unknown_name

Batch = Mapping[str, jax.Array]
CropMode = Literal["reflect", "edge", "constant"]
RotateMode = Literal["edge", "constant"]


class _PerImage:
    """An augmentation that changes each image independently."""

    @property
    def off(self) -> bool:
        """Whether the augmentation is switched off."""
        raise NotImplementedError

    def check(self, height: int, width: int, channels: int) -> None:
        """Refuse image shapes that this augmentation cannot handle."""

    def augment_image(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Augment one image [H, W, C]; the shape stays."""
        raise NotImplementedError

    def __call__(self, key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Return the batch with augmented images.

        Raises:
          UserError: the batch has no images, or images of an unsuitable shape.
        """
        image = _get_image(self, batch)
        if self.off:
            return dict(batch)
        self.check(*image.shape[1:])
        return {
            **batch,
            "image": jax.vmap(self.augment_image)(jax.random.split(key, len(image)), image),
        }


@checks.frozen
class Flip(_PerImage):
    """Mirrors images left to right.

    Attributes:
      prob: probability of mirroring an image.
    """

    prob: float = 0.5

    def __post_init__(self) -> None:
        checks.between(self, 0, 1, "prob")

    @property
    def off(self) -> bool:
        return self.prob == 0

    def augment_image(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return dm_pix.random_flip_left_right(key, image, probability=self.prob)


@checks.frozen
class Crop(_PerImage):
    """Pads all four sides and crops the original size at a random position.

    Attributes:
      padding: pixels added on each side, fewer than the image has.
      mode: how they are filled: by reflection at the border pixels, by repeating them, or with
        ``fill``.
      fill: fill value in model space; -1 is black.
    """

    padding: int = 2
    mode: CropMode = "reflect"
    fill: float = -1.0

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "padding")
        _check_mode(self.mode, get_args(CropMode))
        checks.between(self, -1, 1, "fill")

    @property
    def off(self) -> bool:
        return self.padding == 0

    def check(self, height: int, width: int, channels: int) -> None:
        if self.padding >= min(height, width):
            raise UserError(
                f"Crop.padding must be < {min(height, width)} for images of {height}x{width} "
                f"pixels, got {self.padding}",
                "padding",
            )

    def augment_image(self, key: jax.Array, image: jax.Array) -> jax.Array:
        around = ((self.padding, self.padding), (self.padding, self.padding), (0, 0))
        constant = {"constant_values": self.fill} if self.mode == "constant" else {}
        return dm_pix.random_crop(key, jnp.pad(image, around, self.mode, **constant), image.shape)


@checks.frozen
class Rotate(_PerImage):
    """Rotates about the centre by an angle that is uniform between -degrees and degrees.

    Attributes:
      degrees: largest angle, up to 180.
      mode: how the outside is filled: by repeating the border pixels, or with ``fill``.
      fill: fill value in model space; -1 is black.
    """

    degrees: float = 10.0
    mode: RotateMode = "edge"
    fill: float = -1.0

    def __post_init__(self) -> None:
        checks.between(self, 0, 180, "degrees")
        _check_mode(self.mode, get_args(RotateMode))
        checks.between(self, -1, 1, "fill")

    @property
    def off(self) -> bool:
        return self.degrees == 0

    def augment_image(self, key: jax.Array, image: jax.Array) -> jax.Array:
        largest = math.radians(self.degrees)
        return rotate_image(
            image,
            jax.random.uniform(key, (), minval=-largest, maxval=largest),
            self.mode,
            self.fill,
        )


def rotate_image(
    image: jax.Array, angle: jax.Array | float, mode: RotateMode = "edge", fill: float = -1.0
) -> jax.Array:
    """Rotate an image [H, W, C] about its centre, counter-clockwise by ``angle`` in radians, with
    bilinear interpolation.

    ``dm_pix.rotate`` gives the same result, but also interpolates between channels and is 50 to 150
    times slower on a CPU.
    """
    height, width, _ = image.shape
    y = jnp.arange(height)[:, None] - (height - 1) / 2  # [H, 1]
    x = jnp.arange(width)[None] - (width - 1) / 2  # [1, W]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    if mode == "constant":
        # Padding is cheaper than checking for each neighbour whether it is outside.
        image = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=fill)
    middle = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    origin = [
        cos * y + sin * x + middle[0],
        cos * x - sin * y + middle[1],
    ]  # source coordinates of each pixel, 2 x [H, W]

    def turn(channel: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(channel, origin, order=1, mode="nearest")

    # The weights of the four neighbours are rounded and may not add up to exactly 1.
    return jnp.clip(jax.vmap(turn, in_axes=-1, out_axes=-1)(image), -1, 1)


@checks.frozen
class Color(_PerImage):
    """Changes colours, scaled to [0, 1] and clipped, in the order of the fields.

    Attributes:
      brightness: largest amount added or subtracted, up to 1.
      contrast: differences from each channel's mean are multiplied by 1 - contrast to 1 + contrast;
        up to 1.
      saturation: HSV saturation is multiplied by 1 - saturation to 1 + saturation; up to 1, RGB
        images only.
      hue: largest shift, in turns of the colour circle; up to 0.5, RGB images only.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            checks.between(self, 0, most, name)

    @property
    def off(self) -> bool:
        return not (self.brightness or self.contrast or self.saturation or self.hue)

    def check(self, height: int, width: int, channels: int) -> None:
        for name in ("saturation", "hue"):
            if getattr(self, name) and channels != 3:
                raise UserError(
                    f"Color.{name} must be 0 for images of {channels} channels, as it needs 3",
                    name,
                )

    def augment_image(self, key: jax.Array, image: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 4)
        unit = (image + 1) / 2
        if self.brightness:
            unit = dm_pix.random_brightness(keys[0], unit, self.brightness)
        if self.contrast:
            unit = dm_pix.random_contrast(keys[1], unit, 1 - self.contrast, 1 + self.contrast)
        if self.saturation or self.hue:
            # Saturation and hue share one conversion to HSV, the most expensive part.
            hue, saturation, value = jnp.moveaxis(dm_pix.rgb_to_hsv(jnp.clip(unit, 0, 1)), -1, 0)
            saturation *= jax.random.uniform(
                keys[2], (), minval=1 - self.saturation, maxval=1 + self.saturation
            )
            hue += jax.random.uniform(keys[3], (), minval=-self.hue, maxval=self.hue)
            unit = dm_pix.hsv_to_rgb(jnp.stack([hue, jnp.clip(saturation, 0, 1), value], axis=-1))
        return jnp.clip(2 * unit - 1, -1, 1)


@checks.frozen
class Cutout(_PerImage):
    """Blanks a square around a random pixel; at the borders part of the square is outside
    (https://arxiv.org/abs/1708.04552).

    Attributes:
      size: side of the square in pixels, at most that of the image.
      fill: fill value in model space; 0 is mid-grey.
      prob: probability of blanking a square in an image.
    """

    size: int = 8
    fill: float = 0.0
    prob: float = 1.0

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "size")
        checks.between(self, -1, 1, "fill")
        checks.between(self, 0, 1, "prob")

    @property
    def off(self) -> bool:
        return self.size == 0 or self.prob == 0

    def check(self, height: int, width: int, channels: int) -> None:
        if self.size > min(height, width):
            raise UserError(
                f"Cutout.size must be <= {min(height, width)} for images of {height}x{width} "
                f"pixels, got {self.size}",
                "size",
            )

    def augment_image(self, key: jax.Array, image: jax.Array) -> jax.Array:
        whether, at_row, at_column = jax.random.split(key, 3)
        height, width, _ = image.shape
        rows = self._mask_side(at_row, height)[:, None, None]
        columns = self._mask_side(at_column, width)[None, :, None]
        return jnp.where(
            rows & columns & jax.random.bernoulli(whether, self.prob), self.fill, image
        )

    def _mask_side(self, key: jax.Array, length: int) -> jax.Array:
        """Return which pixels along one side are blanked, bool [length]."""
        first = jax.random.randint(key, (), 0, length) - self.size // 2
        pixels = jnp.arange(length)
        return (pixels >= first) & (pixels < first + self.size)


@checks.frozen
class Mixup:
    """Mixes each image with that of another example: x + w (other - x), where 1 - w is drawn from
    Beta(alpha, alpha) (https://arxiv.org/abs/1710.09412).

    The other examples are a permutation of the batch, or of each device's part of it; every example
    has its own w. If the batch has ``label``, two entries are added: ``other_label`` [B] int32, the
    label of the other example, and ``other_weight`` [B] float32, its w. Where the other example has
    mask 0, w is 0.

    Attributes:
      alpha: parameter of the Beta distribution; small values give mixtures close to one of the two
        images. 0 mixes nothing, but still adds the two entries, with the example's own label and
        weight 0.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "alpha")

    def __call__(self, key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Return the batch with mixed images, other labels and weights.

        Raises:
          UserError: the batch has no images, or its labels were mixed before.
        """
        image = _get_image(self, batch)
        if "other_label" in batch:
            raise UserError(
                "augment must have at most one Mixup: a second would lose the labels of the first",
                "augment",
            )
        size = len(image)
        other, weight = jnp.arange(size), jnp.zeros(size)
        if self.alpha:
            order, draw = jax.random.split(key)
            other = jax.random.permutation(order, size)
            weight = 1 - jax.random.beta(draw, self.alpha, self.alpha, (size,))
            if "mask" in batch:
                weight = jnp.where(batch["mask"][other] > 0, weight, 0)
            image = image + weight[:, None, None, None] * (image[other] - image)
        labels = (
            {"other_label": batch["label"][other], "other_weight": weight}
            if "label" in batch
            else {}
        )
        return {**batch, "image": image, **labels}


def _get_image(augmentation: Component, batch: Batch) -> jax.Array:
    if "image" not in batch:
        name = type(augmentation).__name__
        raise UserError(
            f"{name} needs a batch with images, but these data have "
            f"{', '.join(sorted(batch)) or 'nothing'}"
        )
    return batch["image"]


def _check_mode(mode: str, known: tuple[str, ...]) -> None:
    if mode not in known:
        raise unknown_name("mode", mode, known)
