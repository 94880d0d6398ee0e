"""3-tap convolutions over any number of spatial axes, with gradients that are fast on every
platform.
"""

from __future__ import annotations

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from genjax.machine.children import count_cores
from genjax.machine.target import is_split
from genjax.nets.conv import winograd
from genjax.nets.conv.conv import Form, resolve_form

WINDOWS = 2**19  # numbers in the windows of a block: 2 MB in float32, which fit in the cache
CHANNELS = 32  # from this many in and out, Eigen's convolution is faster


def conv_lax(x: jax.Array, kernel: jax.Array, padding: int, extra: int = 0) -> jax.Array:
    """Convolve with stride 1: [B, *S, C], [K, ..., C, F] -> [B, *(S + 2 padding - K + 1), F], zeros
    around.

    ``extra`` more zeros pad the end of the first spatial axis; their outputs are cut off.
    """
    axes = "HWD"[: x.ndim - 2]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    around = [(padding, padding + extra), *[(padding, padding)] * (len(axes) - 1)]
    y = lax.conv_general_dilated(x, kernel, (1,) * len(axes), around, dimension_numbers=layout)
    return y[:, : y.shape[1] - extra]


def _conv_cpu(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """Compute ``conv_lax`` in a form that uses all cores of a CPU.

    XLA gives a 2-D convolution whose output is larger than its input to Eigen, which splits it over
    places, and others to YNNPACK, which splits over channels and so runs 64 of them on one core: 64
    to 64 channels at 32x32, 16 images, take 13 ms on two cores there and 7 with Eigen. With few
    channels, or on small maps, YNNPACK is faster. Where Winograd's form is, it is taken instead.
    """
    if _is_winograd(x, kernel, padding):
        block = winograd.choose_output_block(x.shape, kernel.shape[-1], count_cores())
        if block:
            return winograd.convolve(x, kernel, block)
    extra = max(0, kernel.shape[0] - 2 * padding)
    few = min(kernel.shape[-2:]) < CHANNELS or x.shape[1] < 8 * extra
    return conv_lax(x, kernel, padding, 0 if x.ndim != 4 or few else extra)


def _is_winograd(x: jax.Array, kernel: jax.Array, padding: int) -> bool:
    """Whether Winograd's form applies: its sums would lose too much in bfloat16, and its loop over
    images needs all of them on one device.
    """
    is_3x3 = kernel.ndim == 4 and kernel.shape[0] == 3 and padding == 1
    return is_3x3 and x.dtype == jnp.float32 and not is_split()


def _windows(x: jax.Array, taps: int, size: tuple[int, ...], *, mirrored: bool) -> jax.Array:
    """Return the windows of the padded x, one per output: [B, *S, C] -> [B * prod(size), taps^n *
    C].
    """
    starts = itertools.product(range(taps)[:: -1 if mirrored else 1], repeat=len(size))
    shifted = [
        x[(slice(None), *(slice(s, s + length) for s, length in zip(start, size, strict=True)))]
        for start in starts
    ]
    return jnp.concatenate(shifted, -1).reshape(len(x) * math.prod(size), -1)


def _weight(x: jax.Array, g: jax.Array, taps: int, padding: int) -> jax.Array:
    """Return the gradient of ``conv_lax`` for its kernel: [B, *S, C], [B, *S', F] -> [K, ..., C,
    F].

    Windows are made of the side with fewer channels, a few images at a time.
    """
    axes, c, f = x.ndim - 2, x.shape[-1], g.shape[-1]
    of_g = f <= c
    size = x.shape[1:-1] if of_g else g.shape[1:-1]
    around = taps - 1 - padding if of_g else padding
    pad = ((0, 0), *((around, around),) * axes, (0, 0))
    row = math.prod(size) * taps**axes * min(c, f)
    rows = max(
        m for m in range(1, len(x) + 1) if len(x) % m == 0 and (m == 1 or m * row <= WINDOWS)
    )

    def add(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        # Sliced from the whole arrays, as XLA would copy scanned ones to another layout.
        some_x, some_g = (lax.dynamic_slice_in_dim(a, start, rows) for a in (x, g))
        if of_g:
            left, right = (
                some_x.reshape(-1, c),
                _windows(jnp.pad(some_g, pad), taps, size, mirrored=True),
            )
        else:
            left, right = (
                _windows(jnp.pad(some_x, pad), taps, size, mirrored=False),
                some_g.reshape(-1, f),
            )
        return total + jnp.matmul(left.T, right, preferred_element_type=jnp.float32), None

    shape = (c, taps**axes * f) if of_g else (taps**axes * c, f)
    total, _ = lax.scan(add, jnp.zeros(shape, jnp.float32), jnp.arange(0, len(x), rows))
    if of_g:
        total = total.reshape(c, -1, f).swapaxes(0, 1)
    return total.reshape(*(taps,) * axes, c, f).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_matmul(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """Compute ``conv_lax``, its kernel's gradient by matrix products; reverse mode only."""
    return _conv_cpu(x, kernel, padding)


def _conv_fwd(
    x: jax.Array, kernel: jax.Array, padding: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv_cpu(x, kernel, padding), (x, kernel)


def _conv_bwd(
    padding: int, saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    block = 0
    if _is_winograd(x, kernel, padding):
        block = winograd.choose_kernel_block(x.shape, g.shape[-1], count_cores())
    # The input gradient is a convolution with the mirrored kernel, at which XLA is fast.
    mirrored = jnp.flip(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2)
    for_kernel = (
        winograd.differentiate_kernel(x, g, block).astype(x.dtype)
        if block
        else _weight(x, g, kernel.shape[0], padding)
    )
    return _conv_cpu(g, mirrored, kernel.shape[0] - 1 - padding), for_kernel


conv_matmul.defvjp(_conv_fwd, _conv_bwd)


def double_size(x: jax.Array) -> jax.Array:
    """Repeat each place twice along every spatial axis: [B, *S, C] -> [B, *2S, C]."""
    for axis in range(1, x.ndim - 1):
        x = x.repeat(2, axis)
    return x


def up_lax(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Upsample by nearest neighbour, then convolve: [B, *S, C], [3, ..., C, F] -> [B, *2S, F]."""
    return conv_lax(double_size(x), kernel, 1)


def up_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute ``up_lax`` with half its products (in 2-D): a two-tap convolution for each parity of
    the outputs.

    Two of three taps on a doubled map always see the same place, so their weights add up.
    """
    axes, f = x.ndim - 2, kernel.shape[-1]
    for axis in range(axes):
        first, middle, last = jnp.split(kernel, 3, axis)
        even, odd = (
            jnp.concatenate([first, middle + last], axis),
            jnp.concatenate([first + middle, last], axis),
        )
        # Outputs are ordered by the parities of later axes first.
        kernel = jnp.concatenate([even, odd], -1)
    y = conv_matmul(x, kernel, 1)  # [B, *(S + 1), 2^n * F]
    for axis in range(axes, 0, -1):
        y = y.reshape(*y.shape[:-1], 2, -1)
        size = y.shape[axis] - 1
        even, odd = (
            lax.slice_in_dim(y[..., 0, :], 0, size, axis=axis),
            lax.slice_in_dim(y[..., 1, :], 1, None, axis=axis),
        )
        pair = jnp.stack([even, odd], axis + 1)
        y = pair.reshape(*pair.shape[:axis], 2 * size, *pair.shape[axis + 2 :])
    assert y.shape[-1] == f
    return y


class Conv3(nn.Module):
    """Convolution with three taps an axis: [B, *S, C] -> [B, *S, features].

    Attributes:
      features: output channels.
      zero: whether the kernel starts at 0.
      up: whether nearest-neighbour upsampling comes first, which doubles the size.
      form: XLA's own gradients, or matrix products.
    """

    features: int
    zero: bool = False
    up: bool = False
    form: Form = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        axes = x.ndim - 2
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (*(3,) * axes, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias)
        lax_form = resolve_form(self.form) == "lax"
        if self.up:
            return (up_lax if lax_form else up_matmul)(x, kernel) + bias.reshape(
                *(1,) * (axes + 1), -1
            )
        return (conv_lax if lax_form else conv_matmul)(x, kernel, 1) + bias.reshape(
            *(1,) * (axes + 1), -1
        )
