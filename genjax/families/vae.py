"""Variational autoencoders (Kingma & Welling, arXiv 1312.6114; beta: Higgins et al., ICLR 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.data.dataset import Spec
from genjax.errors import UserError, unknown
from genjax.family import Batch, Family, Mean, Metrics, Params, State, apply, gradient_step, modelled
from genjax.losses import bernoulli_nll, gaussian_nll, kl_to_standard_normal
from genjax.nets.mlp import MLPCoder
from genjax.schedules import Constant, Schedule


@dataclass(frozen=True)
class Bernoulli:
    """Each value in [-1, 1], mapped to [0, 1], is the probability of a 1.

    Attributes:
      binarize: draw 0 or 1 anew each time an image is seen (dynamic binarisation), so that the bound is that of
        binary images; otherwise the intensities themselves are the targets.
    """

    binarize: bool = False
    outputs_per_dim = 1

    def init(self) -> Params:
        return {}

    def prepare(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """What the model sees of the batch."""
        if not self.binarize:
            return x
        return jnp.where(jax.random.uniform(key, x.shape) < (x + 1) / 2, 1.0, -1.0)

    def offset(self, mean: jax.Array) -> jax.Array:
        """What is added to the decoder's outputs, so that it starts at the data's mean."""
        probability = jnp.clip((mean + 1) / 2, 1e-3, 1 - 1e-3)
        return jnp.log(probability) - jnp.log1p(-probability)

    def nll(self, params: Params, outputs: jax.Array, x: jax.Array) -> jax.Array:
        """-log p(x | z) [B] in nats."""
        return bernoulli_nll(outputs, (x + 1) / 2)

    def mean(self, outputs: jax.Array) -> jax.Array:
        return 2 * jax.nn.sigmoid(outputs) - 1

    def draw(self, params: Params, key: jax.Array, outputs: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, jax.nn.sigmoid(outputs)), 1.0, -1.0)


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians around the decoder's outputs, as a density in model space.

    Attributes:
      variance: "fixed" at ``value``, which makes the reconstruction a mean squared error; "shared", one learned
        number that starts there; "predicted" for each value by the decoder.
      value: of the variance.
    """

    variance: Literal["fixed", "shared", "predicted"] = "fixed"
    value: float = 1.0

    def __post_init__(self) -> None:
        if self.variance not in ("fixed", "shared", "predicted"):
            raise unknown("variance", self.variance, ("fixed", "shared", "predicted"))
        if not self.value > 0:
            raise UserError(f"a variance is above 0, not {self.value}")

    @property
    def outputs_per_dim(self) -> int:
        return 2 if self.variance == "predicted" else 1

    def init(self) -> Params:
        return {"log_variance": jnp.log(jnp.float32(self.value))} if self.variance == "shared" else {}

    def prepare(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return x

    def offset(self, mean: jax.Array) -> jax.Array:
        if self.variance != "predicted":
            return mean
        return jnp.concatenate([mean, jnp.full_like(mean, math.log(self.value))], axis=-1)

    def nll(self, params: Params, outputs: jax.Array, x: jax.Array) -> jax.Array:
        return gaussian_nll(self.mean(outputs), self._log_variance(params, outputs), x)

    def mean(self, outputs: jax.Array) -> jax.Array:
        return jnp.split(outputs, self.outputs_per_dim, axis=-1)[0]

    def draw(self, params: Params, key: jax.Array, outputs: jax.Array) -> jax.Array:
        mean = self.mean(outputs)
        return mean + jnp.exp(0.5 * self._log_variance(params, outputs)) * jax.random.normal(key, mean.shape)

    def _log_variance(self, params: Params, outputs: jax.Array) -> jax.Array:
        match self.variance:
            case "fixed":
                return jnp.log(jnp.float32(self.value))
            case "shared":
                return params["log_variance"].astype(jnp.float32)
            case "predicted":
                return jnp.split(outputs, 2, axis=-1)[1]


@dataclass(frozen=True)
class PriorSampler:
    """Decoded draws from the prior.

    Attributes:
      temperature: standard deviation of the latents; 1 is the prior, less is nearer to the typical.
      draw: draw from p(x | z) instead of taking its mean.
    """

    temperature: float = 1.0
    draw: bool = False

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise UserError(f"a temperature is not negative, but {self.temperature} is")


@dataclass(frozen=True)
class VAE(Family):
    """A variational autoencoder with Gaussian latents.

    Its metrics are in nats, and in bits per dimension: of the probabilities for a Bernoulli, for a Gaussian of the
    density in model space, where images span [-1, 1].

    Attributes:
      latent_dim: latent variables.
      coder: the networks of encoder and decoder, an ``MLPCoder`` or ``ConvCoder``.
      likelihood: p(x | z), ``Bernoulli`` or ``Gaussian``.
      beta: weight of the KL term in training, over the steps; the evaluation's bound has weight 1.
      sampler: how samples are drawn.
    """

    latent_dim: int = 32
    coder: Any = MLPCoder()
    likelihood: Bernoulli | Gaussian = Bernoulli()
    beta: Schedule = Constant(1.0)
    sampler: PriorSampler = PriorSampler()

    def __post_init__(self) -> None:
        if self.latent_dim < 1:
            raise UserError(f"latent_dim is at least 1, not {self.latent_dim}")
        self.beta.check_closed()

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Any]:
        encoder_key, decoder_key = jax.random.split(key)
        mean = jnp.asarray(spec.mean)
        params = {
            "encoder": self._encoder().init(encoder_key, modelled(example))["params"],
            "decoder": self._decoder(mean.shape).init(decoder_key, jnp.zeros((1, self.latent_dim)))["params"],
        }
        if shared := self.likelihood.init():
            params["likelihood"] = shared
        return params, {"mean": mean}

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Any, axis: str | None = None
    ) -> tuple[State, Metrics]:
        beta = self.beta(state.step)

        def loss(params: Params, variables: Any, batch: Batch, key: jax.Array) -> tuple[Metrics, Any]:
            metrics = self._bound(params, variables, batch, key, beta)
            return metrics | {"beta": Mean(beta, jnp.ones(()))}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self._bound(state.params, state.variables, batch, key, beta=1.0)

    def sample(self, state: State, key: jax.Array, n: int, options: PriorSampler) -> jax.Array:
        latent_key, draw_key = jax.random.split(key)
        z = options.temperature * jax.random.normal(latent_key, (n, self.latent_dim))
        outputs = self.decode(state.params, state.variables, z)
        if options.draw:
            return self.likelihood.draw(state.params.get("likelihood"), draw_key, outputs)
        return self.likelihood.mean(outputs)

    def encode(self, params: Params, variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance [B, Z] of q(z | x)."""
        outputs = apply(self._encoder(), params["encoder"], x - variables["mean"][None])
        mean, log_variance = jnp.split(outputs, 2, axis=-1)
        return mean, log_variance

    def decode(self, params: Params, variables: Any, z: jax.Array) -> jax.Array:
        """The outputs that parametrise p(x | z), [B, ...]."""
        mean = variables["mean"]
        outputs = apply(self._decoder(mean.shape), params["decoder"], z)
        return outputs + self.likelihood.offset(mean)[None]

    def elbo_terms(self, params: Params, variables: Any, x: jax.Array, key: jax.Array) -> Mapping[str, jax.Array]:
        """The two terms of the negative bound, [B] each, in nats, with one draw of the latents."""
        mean, log_variance = self.encode(params, variables, x)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        outputs = self.decode(params, variables, z)
        return {
            "reconstruction": self.likelihood.nll(params.get("likelihood"), outputs, x),
            "kl": kl_to_standard_normal(mean, log_variance),
        }

    def _bound(self, params: Params, variables: Any, batch: Batch, key: jax.Array, beta: jax.Array | float) -> Metrics:
        prepare_key, latent_key = jax.random.split(key)
        x = self.likelihood.prepare(prepare_key, modelled(batch))
        terms = self.elbo_terms(params, variables, x, latent_key)
        negative_elbo = terms["reconstruction"] + terms["kl"]
        values = {
            "loss": terms["reconstruction"] + beta * terms["kl"],
            **terms,
            "bits_per_dim": negative_elbo / (math.prod(x.shape[1:]) * math.log(2)),
        }
        return {name: Mean.of(value, batch["mask"]) for name, value in values.items()}

    def _encoder(self) -> nn.Module:
        return self.coder.encoder(2 * self.latent_dim)

    def _decoder(self, shape: tuple[int, ...]) -> nn.Module:
        return self.coder.decoder(shape, self.likelihood.outputs_per_dim)


def reconstruct(family: VAE, state: State, x: jax.Array) -> jax.Array:
    """The mean of p(x | z) at the mean of q(z | x): [B, ...] to [B, ...]."""
    mean, _ = family.encode(state.params, state.variables, x)
    return family.likelihood.mean(family.decode(state.params, state.variables, mean))


def interpolate(family: VAE, state: State, start: jax.Array, end: jax.Array, steps: int) -> jax.Array:
    """Decoded latents on straight lines between pairs of examples: [B, ...] twice to [B, steps, ...]."""
    a, _ = family.encode(state.params, state.variables, start)
    b, _ = family.encode(state.params, state.variables, end)
    fraction = jnp.linspace(0, 1, steps)[None, :, None]
    z = a[:, None] * (1 - fraction) + b[:, None] * fraction  # [B, steps, Z]
    outputs = family.decode(state.params, state.variables, z.reshape(-1, z.shape[-1]))
    return family.likelihood.mean(outputs).reshape(*z.shape[:2], *start.shape[1:])
