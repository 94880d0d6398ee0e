"""Variational autoencoders (Kingma & Welling, arXiv 1312.6114) and their extensions.

beta: Higgins et al., ICLR 2017. Importance-weighted bound: Burda et al., arXiv 1509.00519. Several
stochastic layers with top-down inference: Sønderby et al., arXiv 1602.02282. Free bits: Kingma et
al., arXiv 1606.04934. Conditioning on labels: Sohn et al., NeurIPS 2015.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.vectors import constants
from genjax.errors import UserError
from genjax.families.diffusion import conditioning
from genjax.families.gaussian import Layer, Normal
from genjax.families.likelihoods import Bernoulli, Likelihood, Tabular
from genjax.family import (
    Batch,
    Family,
    Inputs,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    apply,
    gradient_step,
    select_modelled,
)
from genjax.nets.mlp import MLP, Activation, MLPCoder, check_activation
from genjax.optim import Rules
from genjax.schedules import Constant, Schedule

# Nats per example; below these, latents count as collapsed.
LEAST_KL, LEAST_LAYER_KL = 0.5, 0.05


@checks.frozen
class UpperLatents:
    """A layer of latents above those that the decoder sees, whose prior depends on it.

    Attributes:
      dim: number of latents.
      hidden: hidden widths of the MLPs up to it and down from it.
      activation: activation after each hidden layer.
    """

    dim: int = 32
    hidden: tuple[int, ...] = (128,)
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "dim", "hidden")
        check_activation(self.activation)


@checks.frozen
class PriorSampler:
    """Decoded draws from the prior.

    Attributes:
      temperature: standard deviation of the top latents; 1 is the prior, lower values give more
        typical samples. Layers below are drawn from their prior.
      draw: whether to draw from p(x | z) instead of taking its mean.
      label: label to draw in a class-conditional model, by number or name; None draws all in turn,
        starting over every 256 samples.
    """

    temperature: float = 1.0
    draw: bool = False
    label: int | str | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "temperature")


@checks.frozen
class VAE(Family):
    """A variational autoencoder with Gaussian latents: z1, or z1, z2, ... from the data up.

    Metrics are in nats per example and in bits per dimension: of probabilities for a Bernoulli or
    discretised likelihood, and for a Gaussian of the density in model space, where images are in
    [-1, 1].

    Attributes:
      latent_dim: number of latents z1, which the decoder sees.
      coder: encoder and decoder networks, an ``MLPCoder`` or ``ConvCoder``.
      likelihood: p(x | z1): ``Bernoulli``, ``Gaussian``, ``DiscretizedLogistic`` or, for tables,
        ``Tabular``.
      beta: weight of the KL term over the training steps; in evaluation it is 1.
      sampler: sampling options.
      importance_samples: draws of the latents per example, in training and evaluation: 1 for the
        ELBO with a closed-form KL, more for the tighter importance-weighted bound.
      chunk: importance samples decoded at once, which bounds memory.
      free_bits: nats per latent, averaged over the (micro)batch, below which its KL costs nothing.
      conditional: whether encoder and decoder see the label.
      upper: higher layers of latents, from z2 up.
    """

    latent_dim: int = 32
    coder: Component = MLPCoder()
    likelihood: Likelihood | Tabular = Bernoulli()
    beta: Schedule = Constant(1.0)
    sampler: PriorSampler = PriorSampler()
    importance_samples: int = 1
    chunk: int = 64
    free_bits: float = 0.0
    conditional: bool = False
    upper: tuple[UpperLatents, ...] = ()

    key_numbers: ClassVar[tuple[str, ...]] = ("kl", "reconstruction")

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "latent_dim", "importance_samples", "chunk")
        checks.at_least(self, 0, "free_bits")
        if self.free_bits and self.importance_samples > 1:
            raise UserError(
                "free_bits needs the closed-form KL: set importance_samples=1", "free_bits"
            )
        self.beta.check_closed()

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        self.likelihood.check(spec)
        mean = jnp.asarray(spec.mean)
        variables = {"mean": mean, **constants(spec)}
        params: dict[str, Any] = {}
        keys = (jax.random.fold_in(key, number) for number in range(3 + 2 * len(self.upper)))
        decoded = self.latent_dim
        if self.conditional:
            if spec.classes is None:
                raise UserError("family.conditional needs labels, but the data have none")
            params["label"] = 0.1 * jax.random.normal(next(keys), (spec.classes, *mean.shape))
            decoded += spec.classes
        params["encoder"] = self._make_encoder().init(
            next(keys), select_modelled(example, variables)
        )["params"]
        params["decoder"] = self._decoder(mean.shape).init(next(keys), jnp.zeros((1, decoded)))[
            "params"
        ]
        below = 2 * self.latent_dim
        for number, layer in enumerate(self.upper):
            up, down = self._up(number), self._down(number)
            params[f"up_{number}"] = up.init(next(keys), jnp.zeros((1, below)))["params"]
            params[f"down_{number}"] = down.init(next(keys), jnp.zeros((1, layer.dim)))["params"]
            below = 2 * layer.dim
        if shared := self.likelihood.of(variables).init():
            params["likelihood"] = shared
        return params, variables

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        beta = self.beta(state.step)
        if self.conditional and "other_label" in batch:
            raise UserError("a class-conditional VAE takes one label per example: no Mixup")

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            if self.importance_samples > 1:
                metrics = self.importance_bound(
                    params, variables, batch, key, self.importance_samples, beta
                )
            else:
                metrics = self._elbo(params, variables, batch, key, beta, axis)
            return metrics | {"beta": Mean(beta, jnp.ones(()))}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        if self.importance_samples > 1:
            return self.importance_bound(
                state.params, state.variables, batch, key, self.importance_samples
            )
        return self._elbo(state.params, state.variables, batch, key)

    def sample(self, state: State, key: jax.Array, n: int, options: PriorSampler) -> jax.Array:
        params = state.params
        classes = params["label"].shape[0] if self.conditional else 0
        label = conditioning.choose_labels(options.label, n, classes, state)
        latent_key, draw_key = jax.random.split(key)
        dims = [self.latent_dim, *(layer.dim for layer in self.upper)]
        z = options.temperature * jax.random.normal(latent_key, (n, dims[-1]))
        for number in reversed(range(len(self.upper))):
            z = self._make_prior(params, number, z).draw(jax.random.fold_in(latent_key, number))
        outputs = self.decode(params, state.variables, z, label)
        likelihood = self.likelihood.of(state.variables)
        if options.draw:
            return likelihood.draw(params.get("likelihood"), draw_key, outputs)
        return likelihood.mean(outputs)

    def describe_inputs(self, state: State, options: PriorSampler) -> Inputs:
        return conditioning.describe_label(self.conditional)

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Report a KL near zero: the decoder ignores the latents, or a layer of them."""
        found = {}
        if numbers.get("kl", math.inf) < LEAST_KL:
            found["kl"] = (
                f"the latents have collapsed: their KL is {numbers['kl']:.3g} nats per example, so "
                "the decoder ignores them and samples are alike; let family.beta rise from 0 over "
                "the first half of the steps, or set family.free_bits"
            )
        for number in range(1, 2 + len(self.upper)):
            if "kl" not in found and numbers.get(f"kl_z{number}", math.inf) < LEAST_LAYER_KL:
                found[f"kl_z{number}"] = (
                    f"layer {number} of the latents has collapsed: its KL is "
                    f"{numbers[f'kl_z{number}']:.3g} nats per example; let family.beta rise from 0 "
                    "over the first half of the steps, or leave the layer out"
                )
        return found

    @property
    def protocol(self) -> str:  # type: ignore[override]
        k = self.importance_samples
        return (
            "ELBO with one draw of the latents"
            if k == 1
            else f"importance-weighted bound with {k:,} samples"
        )

    def reconstruct(
        self, state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the model's input, and the mean of p(x | z) at the means of q(z | x): [B, ...]
        each.
        """
        likelihood = self.likelihood.of(state.variables)
        x = likelihood.prepare(key, select_modelled(batch, state.variables))
        z = self.infer_latents(state, batch, key)[0].z
        return x, likelihood.mean(self.decode(state.params, state.variables, z, batch.get("label")))

    def infer_latents(self, state: State, batch: Batch, key: jax.Array) -> tuple[Layer, ...]:
        """Return all layers, from z1 up, with posterior means instead of draws; the key is for
        binarisation.
        """
        x = self.likelihood.of(state.variables).prepare(
            key, select_modelled(batch, state.variables)
        )
        estimates = self.encode(state.params, state.variables, x, batch.get("label"))
        return self.top_down(state.params, estimates, None)

    def to_latents(
        self, params: Params, variables: Variables, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Draw z1 [B, Z] from q(z1 | x) for x [B, ...]."""
        prepare_key, latent_key = jax.random.split(key)
        estimates = self.encode(
            params, variables, self.likelihood.of(variables).prepare(prepare_key, x)
        )
        return self.top_down(params, estimates, latent_key)[0].z

    def decode_latents(self, params: Params, variables: Variables, z: jax.Array) -> jax.Array:
        """Return the mean of p(x | z1) [B, ...] for z1 [B, Z]."""
        return self.likelihood.of(variables).mean(self.decode(params, variables, z))

    def latent_moments(self, variables: Variables) -> tuple[jax.Array, jax.Array]:
        """Return the mean and standard deviation of z1 under the prior."""
        return jnp.zeros(()), jnp.ones(())

    def encode(
        self, params: Params, variables: Variables, x: jax.Array, label: jax.Array | None = None
    ) -> tuple[Normal, ...]:
        """Estimate each layer, from z1 up, from x alone. With one layer this is q(z | x)."""
        x = x - variables["mean"][None]
        if self.conditional:
            x = x + params["label"][_require_label(label)].astype(x.dtype)
        outputs = apply(self._make_encoder(), params["encoder"], x)
        estimates = [Normal.of(outputs)]
        for number in range(len(self.upper)):
            outputs = apply(self._up(number), params[f"up_{number}"], outputs)
            estimates.append(Normal.of(outputs))
        return tuple(estimates)

    def top_down(
        self, params: Params, estimates: tuple[Normal, ...], key: jax.Array | None
    ) -> tuple[Layer, ...]:
        """Infer all layers from the top down; return their posteriors, priors and draws from z1 up.

        Below the top the posterior is the product of the estimate from x and the prior from the
        layer above. Without a key, means replace the draws.
        """
        layers: list[Layer] = []
        for number in reversed(range(len(estimates))):
            posterior = estimates[number]
            prior = Normal(jnp.zeros_like(posterior.mean), jnp.zeros_like(posterior.mean))
            if layers:
                prior = self._make_prior(params, number, layers[0].z)
                posterior = posterior.multiply(prior)
            z = (
                posterior.mean
                if key is None
                else posterior.draw(jax.random.fold_in(key, number) if number else key)
            )
            layers.insert(0, Layer(posterior, prior, z))
        return tuple(layers)

    def decode(
        self, params: Params, variables: Variables, z: jax.Array, label: jax.Array | None = None
    ) -> jax.Array:
        """Return the outputs that parametrise p(x | z1), [B, ...]."""
        mean = variables["mean"]
        if self.conditional:
            z = jnp.concatenate(
                [z, jax.nn.one_hot(_require_label(label), params["label"].shape[0])], axis=-1
            )
        outputs = apply(self._decoder(mean.shape), params["decoder"], z)
        return outputs + self.likelihood.of(variables).offset(mean)[None]

    def _elbo(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
        beta: jax.Array | float | None = None,
        axis: str | None = None,
    ) -> Metrics:
        """Compute the negative ELBO with one draw; ``beta`` is None in evaluation, without weight
        or free bits.
        """
        prepare_key, latent_key = jax.random.split(key)
        likelihood, label, mask = self.likelihood.of(variables), batch.get("label"), batch["mask"]
        x = likelihood.prepare(prepare_key, select_modelled(batch, variables))
        layers = self.top_down(params, self.encode(params, variables, x, label), latent_key)
        outputs = self.decode(params, variables, layers[0].z, label)
        reconstruction = likelihood.nll(params.get("likelihood"), outputs, x)
        kls = [layer.kl() for layer in layers]  # [B, Z] each
        kl = jnp.sum(jnp.stack([each.sum(-1) for each in kls]), axis=0)
        values = {"reconstruction": reconstruction, "kl": kl}
        if self.upper:
            values |= {f"kl_z{number}": each.sum(-1) for number, each in enumerate(kls, 1)}
        metrics = self._compute_metrics(values, reconstruction + kl, mask, x.shape)
        if beta is None:
            return metrics
        metrics["loss"] = Mean.of(reconstruction + beta * kl, mask)
        if self.free_bits:
            rows, seen = mask.sum(), mask[:, None]
            free = sum(
                jnp.maximum(self.free_bits, _batch_mean(each, seen, axis)).sum() for each in kls
            )
            metrics["loss"] = Mean((reconstruction * mask).sum() + beta * free * rows, rows)
        return metrics

    def importance_bound(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
        samples: int,
        beta: jax.Array | float = 1.0,
    ) -> Metrics:
        """Compute -log of the mean importance weight of ``samples`` draws, ``chunk`` of them at a
        time.

        ``beta`` weights log q - log p. ``reconstruction`` and ``kl`` are means over the draws. The
        backward pass recomputes each chunk, so memory does not grow with ``samples``.
        """
        prepare_key, latent_key = jax.random.split(key)
        likelihood, label = self.likelihood.of(variables), batch.get("label")
        x = likelihood.prepare(prepare_key, select_modelled(batch, variables))
        estimates = self.encode(params, variables, x, label)
        chunks = -(-samples // self.chunk)
        size = -(-samples // chunks)  # chunks of equal size discard the fewest draws
        x_again = jnp.repeat(x, size, axis=0)
        label_again = None if label is None else jnp.repeat(label, size)

        @jax.checkpoint
        def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Return reconstruction and log q - log p of one chunk, [size, B] each."""
            layers = self.top_down(params, tuple(e.repeat(size) for e in estimates), key)
            outputs = self.decode(params, variables, layers[0].z, label_again)
            reconstruction = likelihood.nll(params.get("likelihood"), outputs, x_again)
            log_ratio = sum(layer.log_ratio() for layer in layers)
            return reconstruction.reshape(-1, size).T, jnp.reshape(log_ratio, (-1, size)).T

        keys = jax.vmap(lambda number: jax.random.fold_in(latent_key, number))(jnp.arange(chunks))
        reconstruction, log_ratio = (
            terms.reshape(chunks * size, -1)[:samples] for terms in jax.lax.map(one, keys)
        )  # [K, B]

        def negative_bound(beta: jax.Array | float) -> jax.Array:
            return math.log(samples) - jax.nn.logsumexp(-reconstruction - beta * log_ratio, axis=0)

        values = {"reconstruction": reconstruction.mean(0), "kl": log_ratio.mean(0)}
        metrics = self._compute_metrics(values, negative_bound(1.0), batch["mask"], x.shape)
        return metrics | {"loss": Mean.of(negative_bound(beta), batch["mask"])}

    def _compute_metrics(
        self,
        values: dict[str, jax.Array],
        bound: jax.Array,
        mask: jax.Array,
        shape: tuple[int, ...],
    ) -> Metrics:
        values = {
            "loss": bound,
            **values,
            "bits_per_dim": bound / (math.prod(shape[1:]) * math.log(2)),
        }
        return {name: Mean.of(value, mask) for name, value in values.items()}

    def _make_prior(self, params: Params, number: int, above: jax.Array) -> Normal:
        """Return p(z | layer above) of layer ``number``, 0 for z1."""
        return Normal.of(apply(self._down(number), params[f"down_{number}"], above))

    def _make_encoder(self) -> nn.Module:
        return self.coder.encoder(2 * self.latent_dim)

    def _decoder(self, shape: tuple[int, ...]) -> nn.Module:
        return self.coder.decoder(shape, self.likelihood.outputs_per_dim)

    def _up(self, number: int) -> nn.Module:
        layer = self.upper[number]
        return MLP(layer.hidden, 2 * layer.dim, layer.activation)

    def _down(self, number: int) -> nn.Module:
        layer = self.upper[number]
        below = self.latent_dim if number == 0 else self.upper[number - 1].dim
        return MLP(layer.hidden[::-1], 2 * below, layer.activation)


def interpolate(
    family: VAE, state: State, start: Batch, end: Batch, key: jax.Array, steps: int
) -> jax.Array:
    """Decode latents on straight lines between pairs of examples: [B, steps, ...].

    A class-conditional model keeps the label of the start.
    """
    a, b = (family.infer_latents(state, batch, key)[0].z for batch in (start, end))
    fraction = jnp.linspace(0, 1, steps)[None, :, None]
    z = a[:, None] * (1 - fraction) + b[:, None] * fraction  # [B, steps, Z]
    label = None if "label" not in start else jnp.repeat(start["label"], steps)
    outputs = family.decode(state.params, state.variables, z.reshape(-1, z.shape[-1]), label)
    return (
        family.likelihood.of(state.variables)
        .mean(outputs)
        .reshape(*z.shape[:2], *state.variables["mean"].shape)
    )


def _require_label(label: jax.Array | None) -> jax.Array:
    if label is None:
        raise UserError(
            "this split of the data has no labels, which a class-conditional model needs"
        )
    return label


def _batch_mean(values: jax.Array, seen: jax.Array, axis: str | None) -> jax.Array:
    """Return the mean of values [B, Z] over the rows of the whole batch, on all devices."""
    total, weight = (values * seen).sum(0), seen.sum()
    if axis is not None:
        total, weight = jax.lax.psum((total, weight), axis)
    return total / weight
