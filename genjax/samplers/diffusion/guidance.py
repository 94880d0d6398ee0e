"""Posterior means guided by a condition, or by known pixels."""

from __future__ import annotations

import jax

from genjax.errors import UserError
from genjax.samplers.diffusion.steps import Denoise


def guide(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """Apply classifier-free guidance (arXiv 2207.12598): unconditional + scale (conditional -
    unconditional).

    ``scale`` is the guidance scale, the paper's 1 + w. At 1 only the conditional mean is evaluated,
    at 0 only the unconditional one; above 1, samples follow the condition more closely. Guiding x0
    is the same as guiding the noise.
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
    """Inpaint: replace the known pixels of every estimate by those of ``image``.

    The last step of a sampler returns the known pixels exactly.

    Args:
      image: known image, in the shape of the samples [B, ...].
      mask: 1 = known, 0 = to be filled in; broadcasts with the image, with as many axes.

    Raises:
      UserError: the mask does not fit the image, or, when sampling, the image does not fit the
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
