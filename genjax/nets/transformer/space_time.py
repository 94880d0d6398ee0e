"""Factorised space-time attention over the patches of successive states, such as frames.

Attention over the places of a state, then over the states at a place: Bertasius et al. (divided
attention), arXiv 2102.05095; Ho et al., arXiv 2204.03458. Conditioning as in ``DiT``. Copies of the
last state under learned kernels: Finn et al., arXiv 1605.07157. Correlation of states over shifts:
Fischer et al. (FlowNet), arXiv 1504.06852.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.attention import FlatDense, SelfAttention, check_heads
from genjax.nets.transformer.dit import encode_positions, unpatchify

SURE = 1e-6  # probabilities of copied values stay this far from 0 and 1
SHARP = 100.0  # how much a mean squared difference of values in [0, 1] tells against a shift


def cut_patches(x: jax.Array, patch: int, margin: int = 0) -> jax.Array:
    """Cut images into square patches with a margin around each: [N, H, W, C] -> [N, S, (P + 2 M)^2
    C]; outside of the image are zeros.
    """
    n, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    span = np.arange(patch + 2 * margin)
    rows = np.arange(0, height, patch)[:, None] + span  # [H / P, P + 2 M]
    columns = np.arange(0, width, patch)[:, None] + span
    cut = x[:, rows][:, :, :, columns]  # [N, H / P, P + 2 M, W / P, P + 2 M, C]
    return cut.swapaxes(2, 3).reshape(n, len(rows) * len(columns), len(span) ** 2 * channels)


def shift_patches(states: jax.Array, patch: int, reach: int) -> jax.Array:
    """Cut states into patches, moved by each shift of up to ``reach`` pixels, row by row: [B, T, H,
    W, C] -> [B, T, S, (2 R + 1)^2, P * P * C]; what comes from outside is 0.
    """
    b, t, height, width, channels = states.shape
    windows = cut_patches(states.reshape(b * t, height, width, channels), patch, reach)
    side, shifts = patch + 2 * reach, range(2 * reach + 1)
    windows = windows.reshape(b, t, -1, side, side, channels)
    moved = [windows[..., i : i + patch, j : j + patch, :] for i in shifts for j in shifts]
    return jnp.stack([one.reshape(*one.shape[:3], -1) for one in moved], 3)


def match_shifts(states: jax.Array, patch: int, reach: int) -> jax.Array:
    """Say for each patch of a state which shift of the state before it resembles it: [B, T, H, W,
    C] in [0, 1] -> shares of shifts [B, T, S, (2 R + 1)^2]; of the first state, against zeros.
    """
    own = shift_patches(states, patch, 0)  # [B, T, S, 1, P * P * C]
    before = shift_patches(_delay(states, 1), patch, reach)
    return jax.nn.softmax(-SHARP * jnp.square(before - own).mean(-1))


def _modulate(x: jax.Array, vector: jax.Array | None, name: str) -> tuple[jax.Array, jax.Array]:
    """Normalise [B, T, S, D] over D, scaled and shifted by the vector [B, E] or by parameters;
    return it with the gate of what is computed from it.
    """
    width = x.shape[-1]
    if vector is None:
        return nn.LayerNorm(dtype=x.dtype, name=f"{name}_norm")(x), jnp.ones((), x.dtype)
    parts = FlatDense(3 * width, zero=True, name=f"{name}_modulation")(vector)
    shift, scale, gate = jnp.split(parts[:, None, None], 3, axis=-1)  # [B, 1, 1, D]
    x = nn.LayerNorm(use_bias=False, use_scale=False, epsilon=1e-6, dtype=x.dtype)(x)
    return x * (1 + scale) + shift, gate


class CausalAttention(nn.Module):
    """Multi-head self-attention in which each place attends to itself and those before it:
    [B, T, C] -> the same.
    """

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, t, c = x.shape
        q, k, v = jnp.split(FlatDense(3 * c, name="qkv")(x), 3, axis=-1)
        split = functools.partial(jnp.reshape, shape=(b, t, self.heads, c // self.heads))
        mixed = jax.nn.dot_product_attention(split(q), split(k), split(v), is_causal=True)
        return FlatDense(c, name="output")(mixed.reshape(b, t, c))


class SpaceTimeBlock(nn.Module):
    """Attention over space, attention over time and an MLP: [B, T, S, D], [B, E] or None -> [B, T,
    S, D].
    """

    heads: int
    ratio: int
    causal: bool

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array | None) -> jax.Array:
        b, t, s, d = x.shape
        y, gate = _modulate(x, vector, "space")
        y = SelfAttention(self.heads, name="space")(y.reshape(b * t, s, d))
        x = x + gate * y.reshape(x.shape)
        y, gate = _modulate(x, vector, "time")
        y = y.swapaxes(1, 2).reshape(b * s, t, d)
        over_time = CausalAttention if self.causal else SelfAttention
        y = over_time(self.heads, name="time")(y)
        x = x + gate * y.reshape(b, s, t, d).swapaxes(1, 2)
        y, gate = _modulate(x, vector, "mlp")
        y = nn.gelu(FlatDense(self.ratio * d, name="hidden")(y))
        return x + gate * FlatDense(d, name="output")(y)


class SpaceTimeNet(nn.Module):
    """The trunk of ``SpaceTime``: states [B, T, H, W, C], vector [B, E] or None, what tokens see
    besides [B, T, S, F] or None -> tokens [B, T, S, D].
    """

    sizes: SpaceTime
    causal: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, vector: jax.Array | None, besides: jax.Array | None = None
    ) -> jax.Array:
        sizes = self.sizes
        b, t, height, width, channels = x.shape
        cut = cut_patches(x.reshape(b * t, height, width, channels), sizes.patch, sizes.margin)
        cut = cut.reshape(b, t, *cut.shape[1:])
        if besides is not None:
            cut = jnp.concatenate([cut, besides], -1)
        y = FlatDense(sizes.width, name="stem")(cut)
        grid = height // sizes.patch, width // sizes.patch
        y = y + jnp.asarray(encode_positions(*grid, sizes.width), y.dtype)[None, None]
        times = self.param("times", nn.initializers.normal(0.02), (t, sizes.width))
        y = y + times.astype(y.dtype)[None, :, None]
        for i in range(sizes.depth):
            block = SpaceTimeBlock(sizes.heads, sizes.ratio, self.causal, name=f"block_{i}")
            y = block(y, vector)
        return _modulate(y, vector, "final")[0]


class SpaceTimeDenoiser(nn.Module):
    """The network of a diffusion: [B, H, W, T C], [B, E] -> [B, H, W, T C]."""

    sizes: SpaceTime

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, *, train: bool) -> jax.Array:
        """Return the prediction; ``train`` is ignored, as there is no dropout."""
        sizes = self.sizes
        states = split_states(x, sizes.channels)  # [B, T, H, W, C]
        tokens = SpaceTimeNet(sizes, causal=False, name="trunk")(states, vector)
        y = FlatDense(sizes.patch**2 * sizes.channels, zero=True, name="output")(tokens)
        return join_states(_place_patches(y, sizes.patch, states.shape))


class SpaceTimePredictor(nn.Module):
    """The network of a model of the next state: states [B, H, W, T C] -> outputs of the same shape,
    of which those of state t depend on the states before t.
    """

    sizes: SpaceTime

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return the outputs; ``train`` is ignored, as there is no dropout."""
        sizes = self.sizes
        states = split_states(x, sizes.channels)
        before = [_delay(states, lag) for lag in range(1, sizes.history + 1)]
        besides = None
        if sizes.matches:
            found = match_shifts((states + 1) / 2, sizes.patch, sizes.reach)
            lags = range(1, sizes.matches + 1)
            besides = jnp.concatenate([_delay(found, lag) for lag in lags], -1)
        trunk = SpaceTimeNet(sizes, causal=True, name="trunk")
        tokens = trunk(jnp.concatenate(before, -1), None, besides)
        y = FlatDense(sizes.patch**2 * sizes.channels, name="output")(tokens)
        if sizes.copies:
            y = Copying(sizes, name="copying")(tokens, before[0], y)
        return join_states(_place_patches(y, sizes.patch, states.shape))


class Copying(nn.Module):
    """Mixes what is predicted with copies of the last state, moved by kernels that each token
    chooses: tokens [B, T, S, D], the last state [B, T, H, W, C] in [-1, 1], logits [B, T, S, P * P
    * C] -> logits of the mixture.
    """

    sizes: SpaceTime

    @nn.compact
    def __call__(self, tokens: jax.Array, last: jax.Array, logits: jax.Array) -> jax.Array:
        sizes = self.sizes
        lead, pixels = logits.shape[:-1], logits.shape[-1]
        logits = logits.astype(jnp.float32)  # in fewer bits, 1 - SURE would be 1
        moved = shift_patches((last + 1) / 2, sizes.patch, sizes.reach)
        kernels = FlatDense(sizes.copies * moved.shape[-2], name="kernels")(tokens)
        kernels = jax.nn.softmax(kernels.reshape(*lead, sizes.copies, -1).astype(jnp.float32))
        copied = jnp.einsum("btsnk,btskp->btsnp", kernels, moved.astype(jnp.float32))
        everything = jnp.concatenate([copied, jax.nn.sigmoid(logits)[..., None, :]], -2)
        weights = FlatDense((sizes.copies + 1) * pixels, name="weights")(tokens)
        weights = weights.reshape(everything.shape).astype(jnp.float32)
        weights = jax.nn.softmax(weights, axis=-2)
        mixed = jnp.clip((weights * everything).sum(-2), SURE, 1 - SURE)
        return jnp.log(mixed) - jnp.log1p(-mixed)


def split_states(x: jax.Array, channels: int) -> jax.Array:
    """Split images whose channels are successive states: [B, H, W, T C] -> [B, T, H, W, C]."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], -1, channels), -2, 1)


def join_states(x: jax.Array) -> jax.Array:
    """Invert ``split_states``: [B, T, H, W, C] -> [B, H, W, T C]."""
    x = jnp.moveaxis(x, 1, -2)
    return x.reshape(*x.shape[:-2], -1)


def _delay(states: jax.Array, lag: int) -> jax.Array:
    """Return the states [B, T, ...] ``lag`` steps before; before the first are zeros."""
    lag = min(lag, states.shape[1])
    return jnp.concatenate([jnp.zeros_like(states[:, :lag]), states[:, : states.shape[1] - lag]], 1)


def _place_patches(y: jax.Array, patch: int, shape: tuple[int, ...]) -> jax.Array:
    """Place patches [B, T, S, P * P * C] in states of ``shape`` [B, T, H, W, C]."""
    return unpatchify(y.reshape(-1, *y.shape[2:]), patch, shape[2:]).reshape(shape)


@checks.frozen
class SpaceTime:
    """A transformer over the patches of successive states, with attention over space within a
    state and over time at a place.

    Examples are images whose channels are the states, one after another.

    Attributes:
      patch: side of the square patches; divides height and width.
      width: token width; a multiple of 4 and of ``heads``.
      depth: number of blocks.
      heads: attention heads.
      ratio: width of the MLP's hidden layer over ``width``.
      channels: numbers of a state at each place.
      margin: pixels around its patch that a token sees.
      history: as a predictor: last states that a token sees directly.
      copies: as a predictor of probabilities: moved copies of the last state, in [-1, 1], that are
        mixed with what is predicted; 0 for none.
      matches: as a predictor: pairs of successive last states, for each of which a token sees
        which shift of its patch fits best; 0 for none.
      reach: pixels that a copy, or a shift, may move.
    """

    patch: int = 4
    width: int = 128
    depth: int = 4
    heads: int = 4
    ratio: int = 4
    channels: int = 1
    margin: int = 0
    history: int = 1
    copies: int = 0
    matches: int = 0
    reach: int = 2

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "patch", "width", "depth", "ratio", "channels", "history", "reach")
        checks.at_least(self, 0, "margin", "copies", "matches")
        checks.depth(self, "depth")
        if self.width % 4:
            raise UserError(
                f"width must be a multiple of 4 (for its positions), got {self.width}", "width"
            )
        check_heads(self.width, self.heads)

    def denoiser(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the network of a diffusion: ``module(x [B, H, W, T C], vector [B, E], train=...)``
        -> [B, H, W, T C]; all states see each other.

        Raises:
          UserError: the shape is not whole patches or states.
        """
        self._check(shape)
        return SpaceTimeDenoiser(self)

    def predictor(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the network of a model of the next state: ``module(x [B, H, W, T C], train=...)``
        -> [B, H, W, T C], of which those of state t depend on the states before t.

        Raises:
          UserError: the shape is not whole patches or states.
        """
        self._check(shape)
        return SpaceTimePredictor(self)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise UserError(f"SpaceTime needs images [H, W, T C], got shape {list(shape)}")
        if shape[0] % self.patch or shape[1] % self.patch:
            raise UserError(
                f"patch must divide the size {shape[0]}x{shape[1]}, got {self.patch}", "patch"
            )
        if shape[2] % self.channels:
            raise UserError(
                f"channels must divide {shape[2]} (all channels of an example), got "
                f"{self.channels}",
                "channels",
            )
