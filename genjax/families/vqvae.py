"""Vector-quantised autoencoders (van den Oord et al., arXiv 1711.00937).

For the codes see ``genjax.families.quantisers``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.likelihoods import Gaussian, Likelihood
from genjax.families.multiscale import MultiscaleCodebook
from genjax.families.quantisers import FSQ, Codebook, Quantised, perplexity
from genjax.family import (
    Batch,
    Family,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    apply,
    gradient_step,
    select_modelled,
)
from genjax.nets.conv.spatial import SpatialCoder
from genjax.optim import Rules

Quantiser = Codebook | FSQ | MultiscaleCodebook
LEAST_PERPLEXITY = 1.5  # below it, the codebook counts as collapsed


@checks.frozen
class VQVAE(Family):
    """An image autoencoder whose latents are a grid of codes.

    Among its metrics, ``loss`` is ``reconstruction``, -log p(x | codes) in nats, plus the weighted
    ``commitment``, the squared distance between encoder output and code, averaged over the grid.
    With a ``MultiscaleCodebook`` the loss has a third term, see there. ``mse`` is per pixel and
    channel, for values in [-1, 1]. ``usage`` is the share of codes that a
    batch uses, ``perplexity`` the exponential of its codes' entropy, ``restarted`` the number of
    codes reset. With gradient accumulation the codebook moves after each microbatch.

    The codes are a learned codebook, of the fields from ``codes`` to ``restart_below``, unless
    ``quantiser`` gives others.

    Attributes:
      codes: number of codebook entries.
      code_dim: dimensions of an entry.
      coder: encoder and decoder networks, a ``SpatialCoder``.
      likelihood: p(x | codes), ``Gaussian``, ``Bernoulli`` or ``DiscretizedLogistic``.
      commitment: weight of the term that keeps the encoder near the codebook.
      decay: decay per step of the moving averages that form the codebook.
      restart_below: see ``Codebook``.
      quantiser: ``FSQ``, ``MultiscaleCodebook``, or a ``Codebook`` of its own fields, in place of
        the learned codebook of the fields above, which then stay as they are.
    """

    no_samples: ClassVar[str | None] = (
        "a VQ-VAE has no prior over its codes; an autoregressive prior trained on its codes draws "
        "samples"
    )

    codes: int = 256
    code_dim: int = 64
    coder: Component = SpatialCoder()
    likelihood: Likelihood = Gaussian()
    commitment: float = 0.25
    decay: float = 0.99
    restart_below: float = 0.1
    quantiser: Quantiser | None = None

    key_numbers: ClassVar[tuple[str, ...]] = ("perplexity", "reconstruction")

    def __post_init__(self) -> None:
        own = _codebook_fields(self)
        if self.quantiser is None:
            Codebook(**own)  # which checks them
            return
        for field in dataclasses.fields(Codebook):
            if own[field.name] != field.default:
                raise UserError(
                    f"{field.name} must be left out beside a quantiser, got {own[field.name]}",
                    field.name,
                )

    @property
    def grid_quantiser(self) -> Quantiser:
        """What turns the encoder's outputs into codes: ``quantiser``, or the codebook of the
        fields.
        """
        return Codebook(**_codebook_fields(self)) if self.quantiser is None else self.quantiser

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Report a codebook of which hardly more than one code is used."""
        found, quantiser = numbers.get("perplexity", math.inf), self.grid_quantiser
        if not found < min(LEAST_PERPLEXITY, quantiser.codes / 2):
            return {}
        return {
            "perplexity": f"the codebook has collapsed: its perplexity is {found:.3g} of "
            f"{quantiser.codes} codes, so nearly all places have the same code; {quantiser.cure}"
        }

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.entry != "image":
            raise UserError(f"a VQVAE needs images, but the data are {spec.entry}")
        self.likelihood.check(spec)
        encoder_key, decoder_key, codebook_key = jax.random.split(key, 3)
        quantiser = self.grid_quantiser
        x, mean = select_modelled(example), jnp.asarray(spec.mean)
        z, encoder = self._make_encoder().init_with_output(encoder_key, x)
        if z.ndim != 4:
            raise UserError(
                "family.coder must give a grid, as SpatialCoder does, got "
                f"{type(self.coder).__name__}",
                "family.coder",
            )
        params = {
            "encoder": encoder["params"],
            "decoder": self._decoder(mean.shape).init(decoder_key, jnp.zeros_like(z))["params"],
        }
        if shared := self.likelihood.init():
            params["likelihood"] = shared
        if own := quantiser.init_params(jax.random.fold_in(codebook_key, 1), *z.shape[1:3]):
            params["quantiser"] = own
        variables = {"mean": mean, **quantiser.init(codebook_key)}
        return params, variables

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        quantiser = self.grid_quantiser
        if optimizer.ema is not None and quantiser.learns:
            raise UserError(
                "ema must be None: the codebook of a VQVAE fits only the live parameters", "ema"
            )
        # gradient_step folds the device's number into its key, but all devices must reset codes
        # alike.
        key, restart_key = jax.random.split(state.step_key)

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            metrics, z, seen, chosen = self._compute_terms(params, variables, batch, key, axis)
            variables, more = quantiser.update(
                variables, z, seen, chosen, restart_key, optimizer.accumulate, axis
            )
            return metrics | more, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self._compute_terms(state.params, state.variables, batch, key)[0]

    def reconstruct(
        self, state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the model's input, and the mean of p(x | codes) at its codes: [B, H, W, C]
        each.
        """
        x = self.likelihood.prepare(key, select_modelled(batch))
        return x, decode_codes(self, state, encode_to_codes(self, state, x))

    def to_latents(
        self, params: Params, variables: Variables, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Encode images [B, H, W, C]: the encoder's outputs [B, h, w, D] before quantisation."""
        return self.encode(params, variables, self.likelihood.prepare(key, x))

    def decode_latents(self, params: Params, variables: Variables, z: jax.Array) -> jax.Array:
        """Return the mean of p(x | codes) [B, H, W, C] for the codes of z [B, h, w, D]."""
        return self.decode_codes(params, variables, self.quantise(params, variables, z).codes)

    def latent_moments(self, variables: Variables) -> tuple[jax.Array, jax.Array]:
        """Return the mean and standard deviation [1, 1, 1, D] of the codes: of a codebook weighted
        by their use, of ``FSQ`` evenly.
        """
        mean, deviation = self.grid_quantiser.moments(variables)
        return mean.reshape(1, 1, 1, -1), deviation.reshape(1, 1, 1, -1)

    def encode(self, params: Params, variables: Variables, x: jax.Array) -> jax.Array:
        """Return the encoder's outputs [B, h, w, D], before quantisation; those of ``FSQ`` are
        bounded to the range of its levels.
        """
        z = apply(self._make_encoder(), params["encoder"], x - variables["mean"][None])
        return self.grid_quantiser.bound(z)

    def quantise(self, params: Params, variables: Variables, z: jax.Array) -> Quantised:
        """Quantise the encoder's outputs [B, h, w, D]."""
        return self.grid_quantiser.quantise(params.get("quantiser", {}), variables, z)

    def assemble(self, params: Params, variables: Variables, codes: jax.Array) -> jax.Array:
        """Return the vectors [B, h, w, D] that codes, int32 [B, h, w] or [B, N], stand for."""
        return self.grid_quantiser.assemble(params.get("quantiser", {}), variables, codes)

    def decode_codes(self, params: Params, variables: Variables, codes: jax.Array) -> jax.Array:
        """Return the mean of p(x | codes) [B, H, W, C] for codes, int32 [B, h, w] or [B, N]."""
        outputs = self.decode(params, variables, self.assemble(params, variables, codes))
        return self.likelihood.mean(outputs)

    def decode(self, params: Params, variables: Variables, z: jax.Array) -> jax.Array:
        """Return the outputs that parametrise p(x | z), [B, H, W, ...], for the vectors of codes
        [B, h, w, D].
        """
        mean = variables["mean"]
        return (
            apply(self._decoder(mean.shape), params["decoder"], z)
            + self.likelihood.offset(mean)[None]
        )

    def _compute_terms(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
        axis: str | None = None,
    ) -> tuple[Metrics, jax.Array, jax.Array, jax.Array]:
        """Return the metrics, the vectors [N, D] that all N codes of the batch were found for,
        their mask [N] and the codes [N].
        """
        x, mask = self.likelihood.prepare(key, select_modelled(batch)), batch["mask"]
        z = self.encode(params, variables, x)
        rows, quantiser = len(x), self.grid_quantiser
        found = self.quantise(params, variables, z)
        chosen = found.codes.reshape(-1)
        seen = jnp.repeat(mask, len(chosen) // rows)
        # Straight-through estimator: the decoder sees the code, and the encoder gets the gradient
        # as if it were z.
        outputs = self.decode(params, variables, z + jax.lax.stop_gradient(found.vectors - z))
        reconstruction = self.likelihood.nll(params.get("likelihood"), outputs, x)
        loss = reconstruction + quantiser.commitment * found.commitment
        if found.fit is not None:
            loss = loss + found.fit
        error = (
            jnp.square(jax.lax.stop_gradient(self.likelihood.mean(outputs)) - x)
            .reshape(rows, -1)
            .mean(-1)
        )
        uses = jnp.zeros(quantiser.codes).at[chosen].add(seen)
        if axis is not None:
            uses = jax.lax.psum(uses, axis)
        values = {
            "loss": loss,
            "reconstruction": reconstruction,
            "commitment": found.commitment,
            "mse": error,
            # Of the whole batch, so its mean weights batches by their rows.
            "perplexity": jnp.broadcast_to(perplexity(uses), mask.shape),
            "usage": jnp.broadcast_to((uses > 0).mean(), mask.shape),
        }
        metrics = {name: Mean.of(value, mask) for name, value in values.items()}
        return metrics, found.compared, seen, chosen

    def _make_encoder(self) -> nn.Module:
        return self.coder.encoder(self.grid_quantiser.code_dim)

    def _decoder(self, shape: tuple[int, ...]) -> nn.Module:
        return self.coder.decoder(shape, self.likelihood.outputs_per_dim)


def encode_to_codes(family: VQVAE, state: State, x: jax.Array) -> jax.Array:
    """Encode images [B, H, W, C] in model space to codes, int32 [B, h, w], or [B, N] of several
    scales.
    """
    z = family.encode(state.params, state.variables, x)
    return family.quantise(state.params, state.variables, z).codes


def decode_codes(family: VQVAE, state: State, codes: jax.Array) -> jax.Array:
    """Decode codes, int32 [B, h, w] or [B, N], to the mean of p(x | codes): images [B, H, W, C] in
    model space.
    """
    return family.decode_codes(state.params, state.variables, codes)


def _codebook_fields(family: VQVAE) -> dict[str, Any]:
    """Return the fields of a family that are those of a ``Codebook``."""
    return {field.name: getattr(family, field.name) for field in dataclasses.fields(Codebook)}
