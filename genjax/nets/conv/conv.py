"""Strided and transposed convolutions, fast on every platform, and the encoder and decoder made of
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from genjax import checks
from genjax.errors import UserError
from genjax.machine.target import target_platform
from genjax.nets.mlp import Activation, activate, check_activation

Form = Literal["auto", "lax", "matmul"]
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def resolve_form(form: Form) -> Form:
    """Return how gradients are computed on the target platform: by XLA, or on a CPU by matrix
    products.
    """
    if form != "auto":
        return form
    # Time of a convolutional VAE's step over eager PyTorch's (28x28, batch 128, 2 cores): matmul
    # 1.03, four parity convolutions for the transposed one 1.34, XLA's own transposed form about
    # 2.3.
    return "matmul" if target_platform() == "cpu" else "lax"


def down_lax(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve with stride 2: [B, H, W, C], [K, K, C, F] (K even) -> [B, ceil(H/2), ceil(W/2), F].

    Padding is K/2 - 1 on each side, and one more at the end of an odd axis.
    """
    p = kernel.shape[0] // 2 - 1
    padding = [(p, p + size % 2) for size in x.shape[1:3]]
    return lax.conv_general_dilated(x, kernel, (2, 2), padding, dimension_numbers=_LAYOUT)


def up_lax(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Apply a transposed convolution of stride 2: [B, h, w, C], [K, K, C, F] (K even) -> [B, 2h,
    2w, F].

    As in ``lax.conv_transpose`` the kernel is not flipped; PyTorch's ConvTranspose2d(K, 2, K/2 - 1)
    flips it in both spatial axes.
    """
    pad = kernel.shape[0] // 2
    return lax.conv_transpose(x, kernel, (2, 2), [(pad, pad)] * 2, dimension_numbers=_LAYOUT)


def _windows(x: jax.Array, size: int) -> jax.Array:
    """Return the windows that ``down_lax`` sees: [B, H, W, C] -> [B, h, w, K*K*C], taps ordered as
    in ``_flat``.
    """
    t, p = size // 2, size // 2 - 1
    x = jnp.pad(x, ((0, 0), (p, p + x.shape[1] % 2), (p, p + x.shape[2] % 2), (0, 0)))
    b, height, width, c = x.shape
    x = x.reshape(b, height // 2, 2, width // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    # Each 2x2 block becomes one pixel, which makes the stride 1.
    x = x.reshape(b, height // 2, width // 2, 4 * c)
    h, w = height // 2 - p, width // 2 - p
    return jnp.stack([x[:, i : i + h, j : j + w] for i in range(t) for j in range(t)], 3).reshape(
        b, h, w, -1
    )


def _flat(kernel: jax.Array) -> jax.Array:
    """Map [K, K, C, F] -> [K*K*C, F], in the order of ``_windows``."""
    t, (c, f) = kernel.shape[0] // 2, kernel.shape[2:]
    return kernel.reshape(t, 2, t, 2, c, f).transpose(0, 2, 1, 3, 4, 5).reshape(-1, f)


def _chunks(f: Callable[..., Any], *arrays: jax.Array) -> Any:
    """Map ``f`` over at most 32 rows at a time and stack the results: [B, ...] -> [chunks, ...].

    The windows of a whole batch (K*K/4 times its input) do not fit in the cache, and from 32 MB on
    the memory is mapped again in every step.
    """
    batch = arrays[0].shape[0]
    rows = max(d for d in range(1, 33) if batch % d == 0)
    rows = rows if rows >= 8 else batch  # a prime batch
    pieces = tuple(a.reshape(-1, rows, *a.shape[1:]) for a in arrays)
    # Outside a loop XLA computes common subexpressions once.
    unroll = batch // rows <= 4
    return lax.scan(lambda _, a: (None, f(*a)), None, pieces, unroll=unroll)[1]


def _input_gradient(g: jax.Array, kernel: jax.Array, hw: tuple[int, int]) -> jax.Array:
    """Return the gradient of ``down_lax`` for its input: [B, h, w, F] -> [B, H, W, C], overlaps
    added.
    """
    c = kernel.shape[2]

    def rows(g: jax.Array) -> jax.Array:
        cols = (g.reshape(-1, g.shape[-1]) @ _flat(kernel).T).reshape(*g.shape[:3], -1)
        image = jax.ShapeDtypeStruct((g.shape[0], *hw, c), cols.dtype)
        return jax.linear_transpose(lambda x: _windows(x, kernel.shape[0]), image)(cols)[0]

    return _chunks(rows, g).reshape(-1, *hw, c)


def _weight(x: jax.Array, g: jax.Array, size: int) -> jax.Array:
    """Return the gradient of ``down_lax`` for its kernel: [B, H, W, C], [B, h, w, F] -> [K, K, C,
    F].
    """
    return _kernel(_chunks(lambda x, g: _correlate(g, _windows(x, size)), x, g).sum(0), size)


def _correlate(g: jax.Array, windows: jax.Array) -> jax.Array:
    """Map [B, h, w, F], [B, h, w, K*K*C] -> [F, K*K*C], summed over all pixels.

    In this order, as a product that sums over rows transposes its first factor, and g is smaller.
    """
    return g.reshape(-1, g.shape[-1]).T @ windows.reshape(-1, windows.shape[-1])


def _kernel(flat: jax.Array, size: int) -> jax.Array:
    """Map [F, K*K*C], in the order of ``_windows``, -> [K, K, C, F]."""
    t, f = size // 2, flat.shape[0]
    return flat.reshape(f, t, t, 2, 2, -1).transpose(1, 3, 2, 4, 5, 0).reshape(size, size, -1, f)


def _adjoint(kernel: jax.Array) -> jax.Array:
    """Return the kernel of the adjoint: strided for a transposed convolution, and the reverse."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


@jax.custom_vjp
def down_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute ``down_lax``, its gradients by matrix products; reverse mode only."""
    return down_lax(x, kernel)


@jax.custom_vjp
def up_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute ``up_lax`` as the input gradient of a strided convolution; reverse mode only."""
    return _input_gradient(x, _adjoint(kernel), (2 * x.shape[1], 2 * x.shape[2]))


def _down_bwd(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _input_gradient(g, kernel, (x.shape[1], x.shape[2])), _weight(x, g, kernel.shape[0])


def _up_bwd(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    size, strided = kernel.shape[0], _adjoint(kernel)

    def rows(g: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        windows = _windows(g, size)
        return windows.reshape(-1, windows.shape[-1]) @ _flat(strided), _correlate(x, windows)

    to_x, to_kernel = _chunks(rows, g, x)
    return to_x.reshape(x.shape), _adjoint(_kernel(to_kernel.sum(0), size))


down_matmul.defvjp(lambda x, kernel: (down_lax(x, kernel), (x, kernel)), _down_bwd)
up_matmul.defvjp(lambda x, kernel: (up_matmul(x, kernel), (x, kernel)), _up_bwd)


class _Conv(nn.Module):
    features: int
    kernel: int = 4
    form: Form = "auto"
    taps = 1.0  # the share of the kernel that reaches one output

    def create_parameters(self, x: jax.Array) -> list[jax.Array]:
        """Return the input, kernel [K, K, C, F] and bias [F], in their common dtype."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        init = nn.initializers.variance_scaling(1 / self.taps, "fan_in", "truncated_normal")
        kernel = self.param("kernel", init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return promote_dtype(x, kernel, bias)


class DownConv(_Conv):
    """Convolution of stride 2 with an even kernel: [B, H, W, C] -> [B, ceil(H/2), ceil(W/2),
    features].
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel, bias = self.create_parameters(x)
        return (down_lax if resolve_form(self.form) == "lax" else down_matmul)(x, kernel) + bias[
            None, None, None
        ]


class UpConv(_Conv):
    """Transposed convolution of stride 2 with an even kernel: [B, h, w, C] -> [B, 2h, 2w,
    features].
    """

    taps = 0.25

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel, bias = self.create_parameters(x)
        return (up_lax if resolve_form(self.form) == "lax" else up_matmul)(x, kernel) + bias[
            None, None, None
        ]


class ConvEncoder(nn.Module):
    """Strided convolutions, then dense: [B, H, W, C] -> [B, outputs]."""

    channels: tuple[int, ...]
    outputs: int
    kernel: int = 4
    dense: int = 0
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        stage_sizes(x.shape[1:], len(self.channels))
        for i, features in enumerate(self.channels):
            x = activate(self.activation, DownConv(features, self.kernel, name=f"down_{i}")(x))
        x = x.reshape(x.shape[0], -1)
        if self.dense:
            x = activate(self.activation, nn.Dense(self.dense, name="dense")(x))
        return nn.Dense(self.outputs, name="output")(x)


class ConvDecoder(nn.Module):
    """Dense, then transposed convolutions, each cropped to the encoder's size: [B, Z] -> [B,
    *shape].

    The last convolution is named ``output``: its ``bias`` [C] can be overwritten after ``init``.
    """

    shape: tuple[int, ...]
    channels: tuple[int, ...]  # in the encoder's order
    kernel: int = 4
    dense: int = 0
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        *sizes, (h, w) = stage_sizes(self.shape, len(self.channels))
        if self.dense:
            z = activate(self.activation, nn.Dense(self.dense, name="dense")(z))
        z = nn.Dense(h * w * self.channels[-1], name="stem")(z)
        x = activate(self.activation, z).reshape(z.shape[0], h, w, -1)
        for i, features in enumerate(self.channels[-2::-1]):
            h, w = sizes[-1 - i]
            x = activate(
                self.activation, UpConv(features, self.kernel, name=f"up_{i}")(x)[:, :h, :w]
            )
        h, w = sizes[0]
        return UpConv(self.shape[-1], self.kernel, name="output")(x)[:, :h, :w]


def stage_sizes(shape: tuple[int, ...], stages: int) -> list[tuple[int, int]]:
    """Return (H, W) before each stage and after the last, halved and rounded up.

    Raises:
      UserError: the shape is not [H, W, C], or a stage would get a single pixel.
    """
    if len(shape) != 3 or math.prod(shape) == 0:
        raise UserError(
            f"a convolutional net needs images [H, W, C], got shape {tuple(shape)}: use an MLP"
        )
    sizes = [(shape[0], shape[1])]
    for stage in range(stages):
        h, w = sizes[-1]
        if h == w == 1:
            raise UserError(
                f"channels must have at most {stage} entries, as {shape[0]}x{shape[1]} is one "
                f"pixel after {stage} stages, got {stages}",
                "channels",
            )
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


@checks.frozen
class ConvCoder:
    """Encoder and decoder as strided convolutions, for images of any resolution.

    Attributes:
      channels: channels of the encoder's stages, each halving the resolution; the decoder reverses
        them.
      kernel: kernel size, even.
      dense: width of a dense layer next to the latents, 0 for none.
      activation: activation after each hidden layer.
    """

    channels: tuple[int, ...] = (32, 64)
    kernel: int = 4
    dense: int = 0
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        if self.kernel < 2 or self.kernel % 2:
            raise UserError(f"kernel must be even and >= 2, got {self.kernel}", "kernel")
        checks.some(self, "channels")
        checks.at_least(self, 1, "channels")
        checks.at_least(self, 0, "dense")
        check_activation(self.activation)

    def encoder(self, outputs: int) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, outputs]."""
        return ConvEncoder(self.channels, outputs, self.kernel, self.dense, self.activation)

    def decoder(self, shape: tuple[int, ...], outputs_per_dim: int = 1) -> nn.Module:
        """Build the network: [B, Z] -> [B, H, W, C * outputs_per_dim]."""
        stage_sizes(shape, len(self.channels))
        shape = (*shape[:-1], shape[-1] * outputs_per_dim)
        return ConvDecoder(shape, self.channels, self.kernel, self.dense, self.activation)
