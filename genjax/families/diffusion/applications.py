"""Other uses of a trained diffusion: inpainting, samples of given conditions, likelihoods."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.family import State
from genjax.samplers import fix_known, log_density


def fill_in(
    family: Diffusion,
    state: State,
    key: jax.Array,
    image: jax.Array,
    mask: jax.Array,
    options: Denoising,
) -> jax.Array:
    """Inpaint: draw samples [B, ...] that equal ``image`` [B, ...] where ``mask`` is 1.

    Raises:
      UserError: the mask does not fit the image, or the image or the sampler does not fit the
          model.
    """
    shape = state.variables["mean"].shape
    if image.shape[1:] != shape:
        raise UserError(
            f"image must have the shape of the model's samples, {shape}, got {image.shape[1:]}",
            "image",
        )
    start, way = jax.random.split(key)
    process = family.bind_process(state.params)
    x = process.alpha_sigma(jnp.ones(()))[1] * family.noise.draw(start, image.shape)
    return options.solver(
        fix_known(family.denoise(state, len(image), options), image, mask), process, x, way
    )


def sample_conditions(
    family: Diffusion, state: State, key: jax.Array, conditions: jax.Array, options: Denoising
) -> jax.Array:
    """Draw a sample [N, ...] for each of N prompts, embedded as ``conditions`` [N, D];
    ``options.prompt`` is ignored.

    Raises:
      UserError: the model is not conditioned on text alone, or its embeddings have another width.
    """
    if family.text is None or family.conditional or family.text.width != conditions.shape[-1]:
        raise UserError(
            "one sample for each prompt needs a model conditioned on text alone (family.text), "
            "of the width of the prompts",
            "family.text",
        )
    return family.draw_from_noise(state, key, len(conditions), options, conditions)


def log_prob(
    family: Diffusion,
    state: State,
    key: jax.Array,
    x: jax.Array,
    probes: int | None,
    rtol: float,
    atol: float,
) -> jax.Array:
    """Return log p(x) [B] in nats of x [B, ...] by the probability-flow ODE; see
    ``genjax.samplers.log_density``.

    For a conditional model it is that of the unconditional one.

    Raises:
      UserError: the model's noise is not Gaussian.
    """
    if not family.noise.gaussian:
        raise UserError("family.noise must be Gaussian for the density of the ODE", "family.noise")
    plain = Denoising(guidance_scale=0.0 if family.conditioned else 1.0)
    denoise = family.denoise(state, len(x), plain)
    return log_density(denoise, family.bind_process(state.params), x, key, rtol, atol, probes)
