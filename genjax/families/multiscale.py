"""A quantiser of several scales: a grid of vectors is the sum of its coarse form and ever finer
corrections, all of one codebook.

Tian et al., arXiv 2404.02905 (VAR), section 3.2 and algorithms 1 and 2. Different from there, the
codebook follows moving averages, and scales are reduced by exact means over areas.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.errors import UserError
from genjax.families.quantisers import Codebook, Quantised
from genjax.family import Metrics, Params, Variables, apply


@checks.frozen
class MultiscaleCodebook:
    """One codebook for all scales of a square grid, coarse to fine.

    What the scales so far leave of the grid is averaged over s x s areas, quantised, brought back
    to the grid by cubic interpolation, smoothed and subtracted; then comes the next scale. The
    smoothing is (1 - r) h + r conv(h), with a 3x3 convolution of its own for each scale. The codes
    are int32 [B, N], N the sum of s^2: one scale after another, each in raster order.

    ``commitment`` is the squared distance of the encoder's outputs from the sum so far, averaged
    over the grid and the scales. The loss of the ``VQVAE`` also has the same distance with weight
    1 and the outputs fixed, which trains the convolutions alone.

    Attributes:
      scales: sizes s of the scales, rising; the last is the size of the grid.
      codebook: the codes of all scales.
      smoothing: the share r of the convolutions; 0 for none of them.
    """

    learns: ClassVar[bool] = True
    cure: ClassVar[str] = (
        "raise family.quantiser.codebook.restart_below, or lower the learning rate"
    )
    revival: ClassVar[str] = (
        "a larger family.quantiser.codebook.restart_below, a smaller decay or a larger batch "
        "revive more of them, and fewer codes may do as well"
    )

    scales: tuple[int, ...] = (1, 2, 4, 7)
    codebook: Codebook = Codebook()
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        checks.some(self, "scales")
        checks.at_least(self, 1, "scales")
        if any(a >= b for a, b in zip(self.scales, self.scales[1:], strict=False)):
            raise UserError(f"scales must rise, got {self.scales}", "scales")
        checks.between(self, 0, 1, "smoothing")

    @property
    def codes(self) -> int:
        """Number of codes."""
        return self.codebook.codes

    @property
    def code_dim(self) -> int:
        """Dimensions of a code."""
        return self.codebook.code_dim

    @property
    def commitment(self) -> float:
        """Weight of the term that keeps the encoder near the codes."""
        return self.codebook.commitment

    @property
    def size(self) -> int:
        """Rows, and columns, of the grid."""
        return self.scales[-1]

    @property
    def length(self) -> int:
        """Number of codes of a grid, N."""
        return sum(scale**2 for scale in self.scales)

    def init(self, key: jax.Array) -> Variables:
        """Return the variables at step 0."""
        return self.codebook.init(key)

    def init_params(self, key: jax.Array, height: int, width: int) -> Params:
        """Return the parameters of the convolutions.

        Raises:
          UserError: the last scale is not the size of the grid.
        """
        if (height, width) != (self.size, self.size):
            raise UserError(
                f"family.quantiser.scales must end with the size of the grid, {height} x {width}, "
                f"got {self.scales}",
                "family.quantiser.scales",
            )
        if not self.smoothing:
            return {}
        example = jnp.zeros((1, height, width, self.code_dim))
        keys = jax.random.split(key, len(self.scales))
        return {
            f"scale_{number}": _make_convolution(self.code_dim).init(key, example)["params"]
            for number, key in enumerate(keys)
        }

    def bound(self, z: jax.Array) -> jax.Array:
        """Return the encoder's outputs [..., D] as they are quantised: unchanged."""
        return z

    def quantise(self, params: Params, variables: Variables, z: jax.Array) -> Quantised:
        """Quantise a grid z [B, h, w, D], from the coarsest scale to the finest."""
        fixed = jax.lax.stop_gradient(z)
        total = jnp.zeros_like(fixed)
        codes, compared, commitments, fits = [], [], [], []
        for number, scale in enumerate(self.scales):
            rest = self.shrink(jax.lax.stop_gradient(fixed - total), scale)  # [B, s, s, D]
            found = self.codebook.find(variables, rest)
            total = self.add_scale(params, variables, number, total, found)
            codes.append(found.reshape(len(z), -1))
            compared.append(rest.reshape(len(z), -1, self.code_dim))
            commitments.append(_measure_distance(z, jax.lax.stop_gradient(total)))
            fits.append(_measure_distance(fixed, total))
        return Quantised(
            total,
            jnp.concatenate(codes, 1),
            jnp.concatenate(compared, 1).reshape(-1, self.code_dim),
            jnp.stack(commitments).mean(0),
            jnp.stack(fits).mean(0) if self.smoothing else None,
        )

    def assemble(self, params: Params, variables: Variables, codes: jax.Array) -> jax.Array:
        """Return the grid [B, h, w, D] that codes int32 [B, N] stand for."""
        return self.accumulate(params, variables, codes)[-1]

    def accumulate(
        self, params: Params, variables: Variables, codes: jax.Array
    ) -> Sequence[jax.Array]:
        """Return the sum [B, h, w, D] of the scales up to each one, for codes int32 [B, N]."""
        total = jnp.zeros((len(codes), self.size, self.size, self.code_dim))
        totals = []
        for number, part in enumerate(self.split(codes)):
            total = self.add_scale(params, variables, number, total, part)
            totals.append(total)
        return totals

    def split(self, codes: jax.Array) -> Sequence[jax.Array]:
        """Split codes [B, N] into those of each scale: [B, s, s]."""
        ends = np.cumsum([scale**2 for scale in self.scales])
        parts = jnp.split(codes, ends[:-1], axis=1)
        return [
            part.reshape(-1, scale, scale) for part, scale in zip(parts, self.scales, strict=True)
        ]

    def add_scale(
        self,
        params: Params,
        variables: Variables,
        number: int,
        total: jax.Array,
        codes: jax.Array,
    ) -> jax.Array:
        """Add to a sum [B, h, w, D] what the codes int32 [B, s, s] of a scale, counted from 0,
        stand for.
        """
        grid = self.codebook.look_up(variables, codes)
        if codes.shape[1] < self.size:
            grid = _resize(_make_cubic(codes.shape[1], self.size), grid)
        if self.smoothing:
            smooth = apply(_make_convolution(self.code_dim), params[f"scale_{number}"], grid)
            grid = (1 - self.smoothing) * grid + self.smoothing * smooth
        return total + grid

    def shrink(self, grid: jax.Array, scale: int) -> jax.Array:
        """Average a grid [B, h, w, D] over s x s areas: [B, s, s, D]."""
        return grid if scale == self.size else _resize(_make_areas(self.size, scale), grid)

    def update(
        self,
        variables: Variables,
        z: jax.Array,
        seen: jax.Array,
        chosen: jax.Array,
        key: jax.Array,
        microbatches: int = 1,
        axis: str | None = None,
    ) -> tuple[Variables, Metrics]:
        """Move the codebook as ``Codebook`` does, by what the codes of all scales were found
        for.
        """
        return self.codebook.update(variables, z, seen, chosen, key, microbatches, axis)

    def moments(self, variables: Variables) -> tuple[jax.Array, jax.Array]:
        """Refuse: the codes are of corrections, whose moments are not those of their sum."""
        raise UserError(
            "autoencoder must be a run with a code for each place, but its quantiser is a "
            "MultiscaleCodebook",
            "autoencoder",
        )


def _make_convolution(channels: int) -> nn.Module:
    """Build the convolution of a scale: [B, h, w, D] -> the same."""
    return nn.Conv(channels, (3, 3))


def _measure_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the squared distance of vectors [B, h, w, D], averaged over the grid: [B]."""
    return jnp.square(a - b).sum(-1).reshape(len(a), -1).mean(-1)


def _resize(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """Apply a matrix [S, H] to rows and columns of x [B, H, H, D]: [B, S, S, D]."""
    rows = jnp.einsum("sh,bhwd->bswd", matrix, x, precision="highest")
    return jnp.einsum("tw,bswd->bstd", matrix, rows, precision="highest")


@functools.cache
def _make_areas(size: int, scale: int) -> np.ndarray:
    """Return the matrix [scale, size] that averages over areas of size / scale places, parts of
    places included.
    """
    edges = np.linspace(0, size, scale + 1)[:, None]
    first, last = np.arange(size)[None], np.arange(1, size + 1)[None]
    overlap = np.clip(np.minimum(edges[1:], last) - np.maximum(edges[:-1], first), 0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


@functools.cache
def _make_cubic(scale: int, size: int) -> np.ndarray:
    """Return the matrix [size, scale] of cubic interpolation from s places to the grid's."""
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.image.resize(jnp.eye(scale), (size, scale), "cubic"))
