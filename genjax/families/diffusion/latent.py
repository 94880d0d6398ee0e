"""Diffusion in the latent space of a trained autoencoder (Rombach et al., arXiv 2112.10752)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.continued import Continued
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.family import (
    Batch,
    Inputs,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
    is_conditional,
    select_modelled,
)
from genjax.optim import Rules

AUTOENCODER = "autoencoder"


@runtime_checkable
class Autoencoder(Protocol):
    """What a latent diffusion needs from a ``VAE`` or ``VQVAE``."""

    def to_latents(
        self, params: Params, variables: Variables, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Return latents [B, ...] of x [B, ...], drawn if they are random."""
        ...

    def decode_latents(self, params: Params, variables: Variables, z: jax.Array) -> jax.Array:
        """Decode latents [B, ...] to the mean of p(x | z), [B, ...]."""
        ...

    def latent_moments(self, variables: Variables) -> tuple[jax.Array, jax.Array]:
        """Return the mean and standard deviation of latents, in a shape that broadcasts with
        them.
        """
        ...


@checks.frozen
class LatentDiffusion(Continued):
    """A diffusion over the standardised latents of a trained, frozen autoencoder.

    Latents of a VQ-VAE are taken before quantisation; samples are quantised when decoded. Metrics
    are those of the diffusion, per entry of the latents.

    Attributes:
      autoencoder: run directory of a ``VAE`` or ``VQVAE`` of the same data.
      diffusion: diffusion over the latents, with a network for their shape: images for a grid [h,
          w, D], points for a vector.
    """

    autoencoder: Component = "runs/vqvae_mnist"
    diffusion: Diffusion = Diffusion()

    def __post_init__(self) -> None:
        if self.diffusion.sampler.clip:
            raise UserError(
                "sampler.clip must be False for latents, which are not limited to [-1, 1]",
                "sampler.clip",
            )
        if self.diffusion.augment.size:
            raise UserError(
                "diffusion.augment must be off: it is for images, not latents; augment the "
                "autoencoder's training",
                "diffusion.augment",
            )

    @property
    def runs(self) -> Mapping[str, str]:
        return {AUTOENCODER: self.autoencoder}

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> LatentDiffusion:
        run_dir, family = others[AUTOENCODER].run_dir, others[AUTOENCODER].family
        if not isinstance(family, Autoencoder):
            raise UserError(
                f"autoencoder must be a run of a VAE or VQVAE, but {run_dir} is a "
                f"{type(family).__name__}",
                "autoencoder",
            )
        if is_conditional(family):
            raise UserError(
                f"autoencoder must not be conditional, but the latents of {run_dir} need labels",
                "autoencoder",
            )
        others[AUTOENCODER].check(spec)
        return dataclasses.replace(self, autoencoder=family)

    @property
    def sampler(self) -> Denoising:
        """The sampling options of the diffusion."""
        return self.diffusion.sampler

    @property
    def conditional(self) -> bool:
        """Whether the network sees the label."""
        return self.diffusion.conditional

    @property
    def text(self) -> Any:
        """The embedding of captions; None for a model without text."""
        return self.diffusion.text

    @property
    def key_numbers(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.diffusion.key_numbers

    @property
    def protocol(self) -> str:  # type: ignore[override]
        return f"of standardised latents; {self.diffusion.protocol}"

    def check_sampler(self, options: Denoising) -> None:
        """Refuse sampling options that this model does not support, with a ``UserError``."""
        if options.clip:
            raise UserError(
                "sampler.clip must be False for latents, which are not limited to [-1, 1]",
                "sampler.clip",
            )
        if options.fill is not None:
            raise UserError(
                "sampler.fill needs a diffusion over pixels; this one is over latents",
                "sampler.fill",
            )
        self.diffusion.check_sampler(options)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        def latents() -> jax.Array:
            params, variables = self.autoencoder.init(key, example, spec)
            self.autoencoder.latent_moments(variables)  # which codes of several scales refuse
            return self.autoencoder.to_latents(params, variables, select_modelled(example), key)

        shape = jax.eval_shape(latents).shape
        within = Spec(
            _entry(len(shape)),
            shape[1:],
            np.zeros(shape[1:], np.float32),
            spec.classes,
            condition=spec.condition,
        )
        return self.diffusion.init(key, self._replace_entry(example, jnp.zeros(shape)), within)

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        key = jax.random.fold_in(state.step_key, 1)
        if axis is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        return self.diffusion.train_step(
            state, self._encode_batch(state, batch, key), optimizer=optimizer, axis=axis
        )

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        latent_key, key = jax.random.split(key)
        return self.diffusion.evaluate(state, self._encode_batch(state, batch, latent_key), key)

    def sample(self, state: State, key: jax.Array, n: int, options: Denoising) -> jax.Array:
        self.check_sampler(options)
        frozen = state.frozen[AUTOENCODER]
        mean, deviation = self.autoencoder.latent_moments(frozen["variables"])
        z = mean + deviation * self.diffusion.sample(state, key, n, options)
        return self.autoencoder.decode_latents(frozen["params"], frozen["variables"], z)

    def describe_inputs(self, state: State, options: Denoising) -> Inputs:
        self.check_sampler(options)
        return self.diffusion.describe_inputs(state, options)

    def _encode_batch(self, state: State, batch: Batch, key: jax.Array) -> Batch:
        """Replace the data in the batch by their standardised latents."""
        frozen = state.frozen[AUTOENCODER]
        mean, deviation = self.autoencoder.latent_moments(frozen["variables"])
        z = self.autoencoder.to_latents(
            frozen["params"], frozen["variables"], select_modelled(batch), key
        )
        return self._replace_entry(batch, (z - mean) / deviation)

    def _replace_entry(self, batch: Batch, z: jax.Array) -> Batch:
        x = select_modelled(batch)
        return {name: value for name, value in batch.items() if value is not x} | {
            _entry(z.ndim): z
        }


def _entry(ndim: int) -> str:
    """Return the entry of a batch that holds latents with this many axes."""
    return "image" if ndim == 4 else "points"
