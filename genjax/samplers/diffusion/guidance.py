"""Posterior means made of others: guided by a condition, or by pixels that are known."""

from __future__ import annotations

import jax

from genjax.errors import UserError
from genjax.samplers.diffusion.steps import Denoise


def guide(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """Return classifier-free guidance (arXiv 2207.12598): unconditional + scale (conditional -
    unconditional).

    Scale 1 is the conditional alone and 0 the unconditional, either evaluated alone; above 1
    samples are driven to what the condition makes likelier. It is the paper's 1 + w. Guidance in x0
    is the same as in the noise.
    """
    if scale == 1:
        return conditional
    if scale == 0:
        return unconditional

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        without = unconditional(x, t)
        return without + scale * (conditional(x, t) - without)

    return denoise


def fix_known(denoise: Denoise, image: jax.Array, mask: jax.Array) -> Denoise:
    """Return Inpainting: the estimate with the known pixels of ``image`` put in at every
    evaluation.

    A sampler's jump to the clean data returns them exactly.

    Args:
      image: of the samples' shape [B, ...].
      mask: 1 = known, 0 = to be filled in; as many axes as the image, each of its length or 1.

    Raises:
      UserError: the mask does not fit the image, or, as soon as it is sampled, the image not the
        samples.
    """
    if mask.ndim != image.ndim or any(
        m not in (1, n) for m, n in zip(mask.shape, image.shape, strict=True)
    ):
        raise UserError(
            f"a mask of shape {mask.shape} does not fit an image of shape {image.shape}"
        )

    def filled(x: jax.Array, t: jax.Array) -> jax.Array:
        if image.shape != x.shape:
            raise UserError(
                f"the known image has shape {image.shape}, but the samples have {x.shape}"
            )
        return mask * image + (1 - mask) * denoise(x, t)

    return filled
