"""Quantisers of a grid of vectors: a learned codebook, or the levels of finite scalar quantisation.

The codebook is a moving average of the encoder's outputs: van den Oord et al., arXiv 1711.00937
(appendix A.1), and Razavi et al., arXiv 1906.00446. Unused codes are reset to outputs of the
encoder: Dhariwal et al., arXiv 2005.00341, section 3.1. Finite scalar quantisation: Mentzer et al.,
arXiv 2309.15505.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.errors import UserError
from genjax.family import Mean, Metrics, Params, Variables

SMOOTHING = 1e-5  # of the codes' counts, in uses per batch
TINY = 1e-30  # keeps a batch of only masked rows from giving NaN
MARGIN = 1e-3  # by which the range of tanh exceeds the outermost levels, so that all are reached
MOST_CODES = 2**24


class Quantised(NamedTuple):
    """What a quantiser makes of a grid of vectors z [B, h, w, D].

    Attributes:
      vectors: [B, h, w, D], what the codes stand for.
      codes: int32 [B, h, w], or [B, N] of several scales.
      compared: [B * N, D], the N vectors of each grid that codes were found for, without gradient.
      commitment: [B], squared distance of z from its codes, averaged over the grid.
      fit: [B], the same with z fixed, for parameters of the quantiser; None if it has none.
    """

    vectors: jax.Array
    codes: jax.Array
    compared: jax.Array
    commitment: jax.Array
    fit: jax.Array | None = None


class Placewise:
    """A quantiser that gives each place of a grid a code of its own."""

    def find(self, variables: Variables, z: jax.Array) -> jax.Array:
        """Find the code of each of z [..., D]: int32 [...]."""
        raise NotImplementedError

    def look_up(self, variables: Variables, codes: jax.Array) -> jax.Array:
        """Return the vectors [..., D] of codes int32 [...]."""
        raise NotImplementedError

    def init_params(self, key: jax.Array, height: int, width: int) -> Params:
        """Return the parameters that are trained by gradients, for a grid of this size: none."""
        return {}

    def quantise(self, params: Params, variables: Variables, z: jax.Array) -> Quantised:
        """Quantise a grid z [B, h, w, D]."""
        fixed = jax.lax.stop_gradient(z)
        codes = self.find(variables, fixed)
        vectors = self.look_up(variables, codes)
        commitment = jnp.square(z - vectors).sum(-1).reshape(len(z), -1).mean(-1)
        return Quantised(vectors, codes, fixed.reshape(-1, z.shape[-1]), commitment)

    def assemble(self, params: Params, variables: Variables, codes: jax.Array) -> jax.Array:
        """Return the vectors [B, h, w, D] that codes int32 [B, h, w] stand for."""
        return self.look_up(variables, codes)


@checks.frozen
class Codebook(Placewise):
    """Learned vectors that follow the encoder's outputs; a place gets the nearest one.

    Attributes:
      codes: number of entries.
      code_dim: dimensions of an entry.
      commitment: weight of the term that keeps the encoder near the codebook.
      decay: decay per step of the moving averages that form the codebook.
      restart_below: share of the average code's moving count below which a code is reset to a
          random encoder output; 0 resets none. At step 0 all counts are 0, so the first batch sets
          most codes.
    """

    learns: ClassVar[bool] = True  # by averages that fit only the live parameters
    cure: ClassVar[str] = "raise family.restart_below, or lower the learning rate"
    revival: ClassVar[str] = (
        "a larger family.restart_below, a smaller family.decay or a larger batch revive more of "
        "them, and fewer family.codes may do as well"
    )

    codes: int = 256
    code_dim: int = 64
    commitment: float = 0.25
    decay: float = 0.99
    restart_below: float = 0.1

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "codes")
        checks.at_least(self, 1, "code_dim")
        checks.at_least(self, 0, "commitment")
        checks.share(self, "decay")
        checks.share(self, "restart_below")

    def init(self, key: jax.Array) -> Variables:
        """Return the variables at step 0."""
        return {
            "codebook": jax.random.normal(key, (self.codes, self.code_dim)) * self.code_dim**-0.5,
            "counts": jnp.zeros(self.codes),
            "sums": jnp.zeros((self.codes, self.code_dim)),
        }

    def bound(self, z: jax.Array) -> jax.Array:
        """Return the encoder's outputs [..., D] as they are compared with codes: unchanged."""
        return z

    def find(self, variables: Variables, z: jax.Array) -> jax.Array:
        """Find the code of each of z [..., D]: int32 [...]."""
        flat = z.reshape(-1, z.shape[-1])
        return find_nearest(variables["codebook"], flat).reshape(z.shape[:-1])

    def look_up(self, variables: Variables, codes: jax.Array) -> jax.Array:
        """Return the vectors [..., D] of codes int32 [...]."""
        return variables["codebook"][codes]

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
        """Move the codebook towards z [N, D] with codes ``chosen`` [N], where ``seen`` [N] is 1,
        and reset unused codes; also return their number as ``restarted``.
        """
        # The decay of a whole step does not depend on the number of microbatches.
        decay = self.decay ** (1 / microbatches)
        variables = update_codebook(variables, z, seen, chosen, decay, axis)
        variables, number = restart_codes(variables, z, seen, key, self.restart_below, axis)
        return variables, {"restarted": Mean(number, jnp.ones(()))}

    def moments(self, variables: Variables) -> tuple[jax.Array, jax.Array]:
        """Return the mean and standard deviation [D] of the codes, weighted by their use."""
        share = (variables["counts"] / jnp.maximum(variables["counts"].sum(), TINY))[:, None]
        mean = (share * variables["codebook"]).sum(0, keepdims=True)
        variance = (share * jnp.square(variables["codebook"] - mean)).sum(0)
        return mean[0], jnp.sqrt(jnp.maximum(variance, TINY))


@checks.frozen
class FSQ(Placewise):
    """Finite scalar quantisation: each dimension is bounded and rounded to a few levels.

    The codes are all combinations of levels, so nothing is learned, and no term keeps the encoder
    near them. A code is a number whose digit d, from the lowest, counts the levels of dimension d:
    level k of L is at (k - L // 2) / (L // 2).

    Attributes:
      levels: number of levels of each dimension. The paper advises at least 5: (8, 6, 5) for about
        256 codes, (8, 5, 5, 5) for about 1,024, (7, 5, 5, 5, 5) for about 4,096.
    """

    learns: ClassVar[bool] = False
    commitment: ClassVar[float] = 0.0
    cure: ClassVar[str] = "lower the learning rate"
    revival: ClassVar[str] = "fewer family.quantiser.levels may do as well"

    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        checks.some(self, "levels")
        checks.at_least(self, 3, "levels")
        if self.codes > MOST_CODES:
            raise UserError(
                f"levels must have a product of at most {MOST_CODES:,}, got {self.codes:,}",
                "levels",
            )

    @property
    def codes(self) -> int:
        """Number of codes: the product of the levels."""
        return math.prod(self.levels)

    @property
    def code_dim(self) -> int:
        """Dimensions of a code."""
        return len(self.levels)

    def init(self, key: jax.Array) -> Variables:
        """Return the variables: none."""
        return {}

    def bound(self, z: jax.Array) -> jax.Array:
        """Squash the encoder's outputs [..., D] to the range of the levels; 0 stays 0."""
        count, half, _ = self._along(z.ndim)
        reach = (count - 1) * (1 + MARGIN) / 2
        # The range of an even number of levels is centred between two of them.
        offset = np.where(count % 2 == 0, 0.5, 0.0).astype(np.float32)
        return (jnp.tanh(z + np.arctanh(offset / reach)) * reach - offset) / half

    def find(self, variables: Variables, z: jax.Array) -> jax.Array:
        """Find the code of each of z [..., D], which is bounded: int32 [...]."""
        count, half, places = self._along(z.ndim)
        digits = jnp.clip(jnp.round(z * half) + half, 0, count - 1).astype(jnp.int32)
        return (digits * places).sum(-1)

    def look_up(self, variables: Variables, codes: jax.Array) -> jax.Array:
        """Return the vectors [..., D] of codes int32 [...]."""
        count, half, places = self._along(codes.ndim + 1)
        digits = (codes[..., None] // places) % count.astype(np.int32)
        return (digits - half) / half

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
        """Return the variables as they are: nothing is learned."""
        return variables, {}

    def moments(self, variables: Variables) -> tuple[jax.Array, jax.Array]:
        """Return the mean and standard deviation [D] of codes that are used evenly."""
        count, half, _ = self._along(1)
        mean = ((count - 1) / 2 - half) / half
        return jnp.asarray(mean), jnp.asarray(np.sqrt((count**2 - 1) / 12) / half)

    def _along(self, ndim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the number of levels of each dimension, half of it rounded down, and what its
        digit of a code counts, for the last of ``ndim`` axes: [1, ..., D] each.
        """
        count = np.asarray(self.levels, np.float32).reshape(*(1,) * (ndim - 1), -1)
        places = np.cumprod([1, *self.levels[:-1]]).astype(np.int32).reshape(count.shape)
        return count, count // 2, places


def find_nearest(codebook: jax.Array, z: jax.Array) -> jax.Array:
    """Find the nearest entry of a codebook [K, D] to each of z [N, D]: int32 [N]."""
    # |z - e|^2 minus |z|^2, which is the same for all entries.
    product = jnp.dot(z, codebook.T, precision="highest")
    return jnp.argmin(jnp.square(codebook).sum(-1)[None] - 2 * product, axis=-1).astype(jnp.int32)


def update_codebook(
    variables: Variables,
    z: jax.Array,
    seen: jax.Array,
    chosen: jax.Array,
    decay: jax.Array | float,
    axis: str | None = None,
) -> Any:
    """Update the codebook by z [N, D] with codes ``chosen`` [N], where the mask ``seen`` [N] is 1.

    An entry is the moving sum of its encoder outputs over their moving count, with Laplace
    smoothing.
    """
    uses = jax.nn.one_hot(chosen, len(variables["counts"])) * seen[:, None]  # [N, K]
    batch = uses.sum(0), jnp.dot(uses.T, z, precision="highest")
    if axis is not None:
        batch = jax.lax.psum(batch, axis)
    counts, sums = (
        decay * old + (1 - decay) * new
        for old, new in zip((variables["counts"], variables["sums"]), batch, strict=True)
    )
    total = counts.sum()
    smoothed = (counts + SMOOTHING) / (total + len(counts) * SMOOTHING) * total
    means = sums / jnp.maximum(smoothed, TINY)[:, None]
    # Entries that were never used stay.
    codebook = jnp.where(counts[:, None] > 0, means, variables["codebook"])
    return variables | {"codebook": codebook, "counts": counts, "sums": sums}


def restart_codes(
    variables: Variables,
    z: jax.Array,
    seen: jax.Array,
    key: jax.Array,
    below: float,
    axis: str | None = None,
) -> tuple[Any, jax.Array]:
    """Reset codes with a count below a share of the average to random rows of z [N, D] where
    ``seen`` [N] is 1.

    They get the count of an average code. ``key`` must be the same on all devices; so are the
    results.

    Returns:
      The variables, and the number of codes reset.
    """
    counts = variables["counts"]
    average = counts.mean()
    whole = seen if axis is None else jax.lax.all_gather(seen, axis, tiled=True)
    dead = (counts < below * average) & (whole.sum() > 0)
    rows = _draw_rows(key, whole, len(counts))
    if axis is None:
        fresh = z[rows]
    else:  # each device sends the rows that it holds, far less than all of z
        rows = rows - jax.lax.axis_index(axis) * len(z)
        here = (rows >= 0) & (rows < len(z))
        fresh = jax.lax.psum(jnp.where(here[:, None], z[jnp.clip(rows, 0, len(z) - 1)], 0.0), axis)
    new = {
        "codebook": jnp.where(dead[:, None], fresh, variables["codebook"]),
        "counts": jnp.where(dead, average, counts),
        "sums": jnp.where(dead[:, None], average * fresh, variables["sums"]),
    }
    return variables | new, dead.sum()


def perplexity(counts: jax.Array) -> jax.Array:
    """Return exp(entropy) of the distribution with counts [K]: K for even counts, 1 for a single
    code.
    """
    share = counts / jnp.maximum(counts.sum(), TINY)
    return jnp.exp(jax.scipy.special.entr(share).sum())


def _draw_rows(key: jax.Array, seen: jax.Array, n: int) -> jax.Array:
    """Draw ``n`` indices [n] of rows where ``seen`` [N] is 1; they repeat only if there are fewer
    than ``n``.
    """
    score = jnp.where(seen > 0, jax.random.uniform(key, seen.shape), -1.0)
    best = jax.lax.top_k(score, min(n, len(seen)))[1]
    available = jnp.clip(jnp.count_nonzero(seen), 1, len(best))
    return best[jnp.arange(n) % available]
