"""A hierarchical VAE with a top-down path (Child, VDVAE, arXiv 2011.10650), of few layers.

A bottom-up net reads the image at falling resolutions. A top-down net starts from a learned map and
adds a layer of latents at a time: the prior p(z_l | z_<l) reads its state, the posterior
q(z_l | x, z_<l) its state and the bottom-up map of that resolution, and both nets of a layer's
distributions share all that came before. A ladder of this kind: Sønderby et al., arXiv 1602.02282.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.gaussian import Layer, Normal
from genjax.families.likelihoods import Bernoulli, Likelihood
from genjax.families.vae import LEAST_KL, PriorSampler
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
from genjax.nets.conv.attention import FlatDense
from genjax.nets.conv.conv import stage_sizes
from genjax.nets.conv.conv3 import Conv3, double_size
from genjax.nets.mlp import Activation, activate, check_activation
from genjax.optim import Rules
from genjax.schedules import Constant, Schedule


class Block(nn.Module):
    """A bottleneck: 1x1 down to ``middle`` channels, two 3x3, 1x1 up, an activation before each:
    [B, h, w, C] -> [B, h, w, outputs].

    Maps of one or two places across have 1x1 convolutions alone. ``scale`` is that of the last
    kernel's initial values.
    """

    middle: int
    outputs: int
    scale: float
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = FlatDense(self.middle, name="narrow")(activate(self.activation, x))
        for name in ("first", "second"):
            wide = min(x.shape[1:3]) > 2
            conv = Conv3(self.middle, name=name) if wide else FlatDense(self.middle, name=name)
            y = conv(activate(self.activation, y))
        kernel = self.param("widen", _scaled(self.scale), (self.middle, self.outputs))
        y = activate(self.activation, y)
        flat = y.reshape(-1, self.middle) @ kernel.astype(y.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.outputs,)).astype(y.dtype)
        return flat.reshape(*y.shape[:-1], -1) + bias.reshape(1, 1, 1, -1)


class BottomUp(nn.Module):
    """Residual blocks at falling resolutions: [B, H, W, C] -> a map [B, h, w, width] for each of
    them.
    """

    width: int
    middle: int
    layers: tuple[int, ...]
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        blocks = [max(1, count) for count in self.layers]
        scale, maps = sum(blocks) ** -0.5, []
        x = Conv3(self.width, name="stem")(x)
        for stage, count in enumerate(blocks):
            if stage:
                x = nn.avg_pool(x, (2, 2), (2, 2), "SAME", count_include_pad=False)
            for number in range(count):
                block = Block(
                    self.middle,
                    self.width,
                    scale,
                    self.activation,
                    name=f"block_{stage}_{number}",
                )
                x = x + block(x)
            maps.append(x)
        return tuple(maps)


class TopDown(nn.Module):
    """From the smallest map to the outputs that parametrise p(x | z), a layer of latents at a time.

    ``layers`` counts them at each resolution, from the data's down to the smallest.
    """

    shape: tuple[int, ...]  # of the outputs
    width: int
    middle: int
    latent_dim: int
    layers: tuple[int, ...]
    activation: Activation

    @nn.compact
    def __call__(
        self,
        *maps: jax.Array,
        key: jax.Array | None,
        rows: int = 0,
        temperature: float = 1.0,
    ) -> tuple[jax.Array, tuple[Layer, ...]]:
        """Return the outputs [B, H, W, C] and the layers from the top down.

        Args:
          maps: those of ``BottomUp``, for draws from the posterior; none, for the prior.
          key: random key of the draws; None for means.
          rows: number of draws from the prior.
          temperature: factor on the prior's standard deviations.
        """
        sizes = stage_sizes(self.shape, len(self.layers) - 1)
        rows = len(maps[0]) if maps else rows
        number, found = sum(self.layers), []
        x = jnp.zeros((rows, *sizes[-1], self.width), maps[0].dtype if maps else jnp.float32)
        for stage in reversed(range(len(self.layers))):
            h, w = sizes[stage]
            if stage < len(self.layers) - 1:
                x = double_size(x)[:, :h, :w]
            start = self.param(f"start_{stage}", nn.initializers.zeros, (1, h, w, self.width))
            x = x + jnp.broadcast_to(start.astype(x.dtype), x.shape)
            seen = maps[stage] if maps else None
            for _ in range(self.layers[stage]):
                number -= 1
                # The last layer has the key itself, as in a VAE with one.
                own = None if key is None else jax.random.fold_in(key, number) if number else key
                x, layer = self._add_layer(f"{number}", x, seen, own, temperature)
                found.append(layer)
            if not self.layers[stage]:
                x = x + self._block(self.width, self._scale(), f"block_{stage}")(x)
        x = activate(self.activation, x)
        return Conv3(self.shape[-1], zero=True, name="output")(x), tuple(found)

    def _add_layer(
        self,
        name: str,
        x: jax.Array,
        seen: jax.Array | None,
        key: jax.Array | None,
        temperature: float,
    ) -> tuple[jax.Array, Layer]:
        """Draw a layer of latents and return the state [B, h, w, width] with it, and the layer."""
        wanted = 2 * self.latent_dim
        of_prior = self._block(wanted + self.width, 0.0, f"prior_{name}")(x)
        prior = Normal.of(of_prior[..., :wanted])
        if seen is None:
            cooler = 2 * jnp.log(jnp.maximum(jnp.asarray(temperature, x.dtype), 1e-12))
            posterior = Normal(prior.mean, prior.log_variance + cooler)
        else:
            both = jnp.concatenate([x, seen], axis=-1)
            posterior = Normal.of(self._block(wanted, 1.0, f"posterior_{name}")(both))
        z = posterior.mean if key is None else posterior.draw(key)
        x = x + of_prior[..., wanted:]
        x = x + self._scale() * FlatDense(self.width, name=f"latents_{name}")(z.astype(x.dtype))
        x = x + self._block(self.width, self._scale(), f"after_{name}")(x)
        return x, Layer(posterior, prior, z)

    def _block(self, outputs: int, scale: float, name: str) -> Block:
        return Block(self.middle, outputs, scale, self.activation, name=name)

    def _scale(self) -> float:
        """Return the scale of what each layer adds, so that their sum keeps its size."""
        return sum(max(1, count) for count in self.layers) ** -0.5


@checks.frozen
class VDVAE(Family):
    """A VAE of images with many layers of latents, inferred from the top down.

    Metrics are in nats per example and in bits per dimension, as those of a ``VAE``. ``kl_HxW`` is
    the KL of the layers at that resolution.

    Attributes:
      width: channels of both nets.
      middle: channels of the 3x3 convolutions inside a residual block.
      latent_dim: channels of each layer of latents.
      layers: number of layers of latents at each resolution, from that of the patches down, each
        half of the one before, rounded up: (1, 2, 1) has them on 14x14, 7x7 and 4x4 for images of
        28x28 in patches of 2. A resolution may have 0, but not the last.
      patch: pixels along each side of the squares that are one place of the nets' largest maps.
      activation: activation before each hidden layer.
      likelihood: p(x | z): ``Bernoulli``, ``Gaussian`` or ``DiscretizedLogistic``.
      beta: weight of the KL term over the training steps; in evaluation it is 1.
      sampler: sampling options; the temperature is that of all layers.
      chunk: importance samples decoded at once, which bounds memory.
    """

    width: int = 32
    middle: int = 16
    latent_dim: int = 8
    layers: tuple[int, ...] = (1, 2, 1)
    patch: int = 2
    activation: Activation = "gelu"
    likelihood: Likelihood = Bernoulli()
    beta: Schedule = Constant(1.0)
    sampler: PriorSampler = PriorSampler()
    chunk: int = 16

    protocol: ClassVar[str] = "ELBO with one draw of the latents"
    key_numbers: ClassVar[tuple[str, ...]] = ("kl", "reconstruction")

    def __post_init__(self) -> None:
        check_activation(self.activation)
        checks.at_least(self, 1, "width", "middle", "latent_dim", "patch", "chunk")
        checks.at_least(self, 0, "layers")
        checks.depth(self, "layers")
        if not self.layers or not self.layers[-1]:
            raise UserError(
                "layers must end with at least one layer, at the smallest resolution, got "
                f"{self.layers}",
                "layers",
            )
        self.beta.check_closed()

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.entry != "image":
            raise UserError(f"a VDVAE needs images, but the data are {spec.entry}")
        self.likelihood.check(spec)
        if spec.shape[0] % self.patch or spec.shape[1] % self.patch:
            raise UserError(
                f"family.patch must divide the images of {spec.shape[0]}x{spec.shape[1]}, got "
                f"{self.patch}",
                "family.patch",
            )
        most = 1 + math.ceil(math.log2(max(self._patched(spec.shape)[:2])))
        if len(self.layers) > most:
            raise UserError(
                f"family.layers must have at most {most} entries for these images, whose last map "
                f"is one place, got {len(self.layers)}",
                "family.layers",
            )
        up_key, down_key = jax.random.split(key)
        maps, encoder = self._bottom_up().init_with_output(
            up_key, _to_patches(select_modelled(example), self.patch)
        )
        decoder = self._top_down(spec.shape).init(down_key, *maps, key=down_key)
        params = {"encoder": encoder["params"], "decoder": decoder["params"]}
        if shared := self.likelihood.init():
            params["likelihood"] = shared
        return params, {"mean": jnp.asarray(spec.mean)}

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        beta = self.beta(state.step)

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            metrics = self._elbo(params, variables, batch, key, beta)
            return metrics | {"beta": Mean(beta, jnp.ones(()))}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self._elbo(state.params, state.variables, batch, key)

    def sample(self, state: State, key: jax.Array, n: int, options: PriorSampler) -> jax.Array:
        if options.label is not None:
            raise UserError("sampler.label must be None: a VDVAE has no labels", "sampler.label")
        latent_key, draw_key = jax.random.split(key)
        outputs, _ = self._decode(
            state.params,
            state.variables,
            (),
            latent_key,
            rows=n,
            temperature=options.temperature,
        )
        if options.draw:
            return self.likelihood.draw(state.params.get("likelihood"), draw_key, outputs)
        return self.likelihood.mean(outputs)

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Report a KL near zero: the top-down net ignores the latents."""
        if not numbers.get("kl", math.inf) < LEAST_KL:
            return {}
        return {
            "kl": f"the latents have collapsed: their KL is {numbers['kl']:.3g} nats per example, "
            "so samples are alike; let family.beta rise from 0 over the first half of the steps"
        }

    def reconstruct(
        self, state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the model's input, and the mean of p(x | z) at the means of q(z | x): [B, H, W, C]
        each.
        """
        x = self.likelihood.prepare(key, select_modelled(batch))
        outputs, _ = self.infer(state.params, state.variables, x, None)
        return x, self.likelihood.mean(outputs)

    def infer(
        self, params: Params, variables: Variables, x: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, tuple[Layer, ...]]:
        """Return the outputs that parametrise p(x | z) [B, H, W, ...] and all layers from the top
        down, drawn from q(z | x), or at its means without a key.
        """
        return self._decode(params, variables, self._read(params, variables, x), key)

    def importance_bound(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
        samples: int,
    ) -> Metrics:
        """Compute -log of the mean importance weight of ``samples`` draws, ``chunk`` of them at a
        time (Burda et al., arXiv 1509.00519).
        """
        prepare_key, latent_key = jax.random.split(key)
        x = self.likelihood.prepare(prepare_key, select_modelled(batch))
        maps = self._read(params, variables, x)
        chunks = -(-samples // self.chunk)
        size = -(-samples // chunks)  # chunks of equal size discard the fewest draws
        again = tuple(jnp.repeat(each, size, axis=0) for each in maps)

        def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Return reconstruction and log q - log p of one chunk, [size, B] each."""
            outputs, layers = self._decode(params, variables, again, key)
            nll = self.likelihood.nll(
                params.get("likelihood"), outputs, jnp.repeat(x, size, axis=0)
            )
            ratio = jnp.sum(jnp.stack([layer.log_ratio() for layer in layers]), axis=0)
            return nll.reshape(-1, size).T, ratio.reshape(-1, size).T

        keys = jax.vmap(lambda number: jax.random.fold_in(latent_key, number))(jnp.arange(chunks))
        reconstruction, ratio = (
            terms.reshape(chunks * size, -1)[:samples] for terms in jax.lax.map(one, keys)
        )  # [K, B]
        bound = math.log(samples) - jax.nn.logsumexp(-reconstruction - ratio, axis=0)
        values = {"reconstruction": reconstruction.mean(0), "kl": ratio.mean(0)}
        return _compute_metrics(values, bound, batch["mask"], x.shape)

    def _elbo(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
        beta: jax.Array | float = 1.0,
    ) -> Metrics:
        """Compute the negative ELBO with one draw; ``beta`` weights the KL in ``loss`` alone."""
        prepare_key, latent_key = jax.random.split(key)
        x = self.likelihood.prepare(prepare_key, select_modelled(batch))
        outputs, layers = self.infer(params, variables, x, latent_key)
        reconstruction = self.likelihood.nll(params.get("likelihood"), outputs, x)
        values = {"reconstruction": reconstruction, "kl": jnp.zeros_like(reconstruction)}
        for layer in layers:
            kl = layer.kl().sum((1, 2, 3))
            name = f"kl_{layer.z.shape[1]}x{layer.z.shape[2]}"
            values[name] = values.get(name, 0) + kl
            values["kl"] += kl
        metrics = _compute_metrics(values, reconstruction + values["kl"], batch["mask"], x.shape)
        loss = reconstruction + beta * values["kl"]
        return metrics | {"loss": Mean.of(loss, batch["mask"])}

    def _read(self, params: Params, variables: Variables, x: jax.Array) -> tuple[jax.Array, ...]:
        """Return the bottom-up maps of images [B, H, W, C]."""
        x = _to_patches(x - variables["mean"][None], self.patch)
        return apply(self._bottom_up(), params["encoder"], x)

    def _decode(
        self,
        params: Params,
        variables: Variables,
        maps: tuple[jax.Array, ...],
        key: jax.Array | None,
        rows: int = 0,
        temperature: float = 1.0,
    ) -> tuple[jax.Array, tuple[Layer, ...]]:
        mean = variables["mean"]
        outputs, layers = apply(
            self._top_down(mean.shape),
            params["decoder"],
            *maps,
            key=key,
            rows=rows,
            temperature=temperature,
        )
        return _from_patches(outputs, self.patch) + self.likelihood.offset(mean)[None], layers

    def _patched(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the outputs of the top-down net, before patches are put together."""
        channels = shape[2] * self.likelihood.outputs_per_dim * self.patch**2
        return shape[0] // self.patch, shape[1] // self.patch, channels

    def _bottom_up(self) -> BottomUp:
        return BottomUp(self.width, self.middle, self.layers, self.activation)

    def _top_down(self, shape: tuple[int, ...]) -> TopDown:
        return TopDown(
            self._patched(shape),
            self.width,
            self.middle,
            self.latent_dim,
            self.layers,
            self.activation,
        )


def _to_patches(x: jax.Array, size: int) -> jax.Array:
    """Put the pixels of each square in the channels: [B, H, W, C] -> [B, H / P, W / P, P P C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // size, w // size, -1)


def _from_patches(x: jax.Array, size: int) -> jax.Array:
    """Undo ``_to_patches``."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, size, size, c // size**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * size, w * size, -1)


def _scaled(scale: float) -> nn.initializers.Initializer:
    """Return LeCun's initialiser times a factor, which may be 0."""
    if not scale:
        return nn.initializers.zeros
    return nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal")


def _compute_metrics(
    values: Mapping[str, jax.Array], bound: jax.Array, mask: jax.Array, shape: tuple[int, ...]
) -> Metrics:
    bits = bound / (math.prod(shape[1:]) * math.log(2))
    named = {"loss": bound, **values, "bits_per_dim": bits}
    return {name: Mean.of(value, mask) for name, value in named.items()}
