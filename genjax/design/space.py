"""The latent space of a trained autoencoder, in which designs are searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.families.vae import VAE
from genjax.family import State
from genjax.runs.run import Run

CHUNK = 256  # latents that are decoded at once


@dataclass(frozen=True)
class Space:
    """Latents [N, Z] with a standard normal prior, and the images that they decode to.

    Attributes:
      run: run of a ``VAE`` over images.
    """

    run: Run

    @property
    def dim(self) -> int:
        """The number of latents Z."""
        return int(self.run.family.latent_dim)

    def draw(self, seed: int, count: int) -> np.ndarray:
        """Draw latents [count, Z] from the prior."""
        return np.asarray(jax.random.normal(jax.random.key(seed), (count, self.dim)))

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode latents [N, Z] to images [N, H, W, C] in [-1, 1]."""
        decode = self.run.layout.compile_evaluation(_decode_images, static_argnums=(0,))
        size, parts = min(len(latents), CHUNK), []
        for start in range(0, len(latents), size):
            rows = np.arange(start, start + size) % len(latents)  # one compiled size
            z = jnp.asarray(latents[rows], jnp.float32)
            parts.append(np.asarray(decode(self.run.family, self.run.eval_state, z)))
        return np.concatenate(parts)[: len(latents)]

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the mean latents [N, Z] of images [N, H, W, C]."""
        encode = self.run.layout.compile_evaluation(_encode_images, static_argnums=(0,))
        return np.asarray(encode(self.run.family, self.run.eval_state, jnp.asarray(images)))


def open_space(run: Run) -> Space:
    """Return the latent space of a run.

    Raises:
      UserError: the run is not an unconditional ``VAE`` of one layer over images.
    """
    family = run.family
    if not isinstance(family, VAE) or run.spec.entry != "image":
        raise UserError(
            f"a search needs a run of a VAE over images, but {run.run_dir} is a "
            f"{type(family).__name__} over {run.spec.entry}"
        )
    if family.conditional or family.upper:
        kind = "conditional" if family.conditional else "of several layers"
        raise UserError(f"a search needs a plain VAE, but that of {run.run_dir} is {kind}")
    return Space(run)


def _decode_images(family: VAE, state: State, z: jax.Array) -> jax.Array:
    """Decode latents z [N, Z] to images [N, H, W, C], clipped to [-1, 1]."""
    return jnp.clip(family.decode_latents(state.params, state.variables, z), -1, 1)


def _encode_images(family: VAE, state: State, x: jax.Array) -> jax.Array:
    prepared = family.likelihood.of(state.variables).prepare(jax.random.key(0), x)
    return family.encode(state.params, state.variables, prepared)[0].mean


def measure_excess(latents: Any) -> Any:
    """Return how much farther from 0 than typical latents [N, Z] are: [N], 0 up to the radius
    sqrt(Z) of the prior's mass, and 1 at twice that radius.
    """
    radius = ((latents * latents).sum(-1) / latents.shape[-1] + 1e-12) ** 0.5
    return (radius - 1) * (radius > 1)


def interpolate(start: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` latents [count, Z] from one [Z] to another along the sphere, where the prior
    has its mass (Shoemake, SIGGRAPH 1985; for latents White, arXiv 1609.04468).

    The angle and the logarithm of the radius change evenly.
    """
    radii = [max(float(np.linalg.norm(z)), 1e-12) for z in (start, end)]
    a, b = start / radii[0], end / radii[1]
    angle = float(np.arccos(np.clip(a @ b, -1, 1)))
    t = np.linspace(0, 1, count)[:, None]
    if np.sin(angle) < 1e-6:  # the same direction, or opposite ones, with no shortest arc
        way = (1 - t) * a + t * b
    else:
        way = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return way * radii[0] ** (1 - t) * radii[1] ** t
