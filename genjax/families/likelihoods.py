"""Likelihoods p(x | z): distributions of data in model space, given a decoder's outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.data.dataset import Spec
from genjax.data.tables.vectors import blocks, categories
from genjax.errors import UserError
from genjax.family import Variables
from genjax.losses import bernoulli_nll, cross_entropy, discretized_logistic_nll, gaussian_nll

Params = Any
Spread = Literal["fixed", "shared", "predicted"]
# Least standard deviation of a number in a table; that of a constant column would go to 0.
NARROWEST = 0.01


@checks.frozen
class Bernoulli:
    """Independent Bernoullis: each value in [-1, 1], mapped to [0, 1], is the probability of a 1.

    Attributes:
      binarize: whether 0 or 1 is drawn each time an image is seen (dynamic binarisation), so that
          the bound is that of binary images; if not, the intensities are the targets.
    """

    binarize: bool = False
    outputs_per_dim = 1

    def check(self, spec: Spec) -> None:
        """Refuse data that this likelihood does not fit, with a ``UserError``."""
        if spec.entry != "image":
            raise UserError(
                f"Bernoulli is for images in [-1, 1], got {spec.entry} data: take a Gaussian"
            )

    def of(self, variables: Variables) -> Bernoulli:
        """Return the likelihood for a family's variables; only ``Tabular`` depends on them."""
        return self

    def init(self) -> Params:
        return {}

    def prepare(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Return the input and target of the model for a batch, of the same shape."""
        if not self.binarize:
            return x
        return jnp.where(jax.random.uniform(key, x.shape) < (x + 1) / 2, 1.0, -1.0)

    def offset(self, mean: jax.Array) -> jax.Array:
        """Return the offset of the decoder's outputs that makes it start at the data's mean."""
        probability = jnp.clip((mean + 1) / 2, 1e-3, 1 - 1e-3)
        return jnp.log(probability) - jnp.log1p(-probability)

    def nll(self, params: Params, outputs: jax.Array, x: jax.Array) -> jax.Array:
        """Return -log p(x | z) [B] in nats."""
        return bernoulli_nll(outputs, (x + 1) / 2)

    def mean(self, outputs: jax.Array) -> jax.Array:
        return 2 * jax.nn.sigmoid(outputs) - 1

    def draw(self, params: Params, key: jax.Array, outputs: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, jax.nn.sigmoid(outputs)), 1.0, -1.0)


@checks.frozen
class _LocationScale:
    """A distribution around the decoder's outputs with a spread.

    Attributes:
      spread: "fixed" at ``value``; "shared", one learned number that starts there; "predicted" by
          the decoder for each value of an example.
      value: spread, or its initial value.
    """

    spread: Spread = "shared"
    value: float = 1.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "value")

    @property
    def outputs_per_dim(self) -> int:
        return 2 if self.spread == "predicted" else 1

    def check(self, spec: Spec) -> None:
        """Refuse data that this likelihood does not fit; this one fits all."""

    def of(self, variables: Variables) -> Self:
        """Return the likelihood for a family's variables; only ``Tabular`` depends on them."""
        return self

    def init(self) -> Params:
        return {"log_spread": jnp.log(jnp.float32(self.value))} if self.spread == "shared" else {}

    def prepare(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return x

    def offset(self, mean: jax.Array) -> jax.Array:
        if self.spread != "predicted":
            return mean
        return jnp.concatenate([mean, jnp.full_like(mean, math.log(self.value))], axis=-1)

    def mean(self, outputs: jax.Array) -> jax.Array:
        return jnp.split(outputs, self.outputs_per_dim, axis=-1)[0]

    def log_spread(self, params: Params, outputs: jax.Array) -> jax.Array:
        """Return log spread: one number, or one for each value [B, ...]."""
        match self.spread:
            case "fixed":
                return jnp.log(jnp.float32(self.value))
            case "shared":
                return params["log_spread"].astype(jnp.float32)
            case "predicted":
                return jnp.split(outputs, 2, axis=-1)[1]


@checks.frozen
class Gaussian(_LocationScale):
    """Independent Gaussians, as a density in model space.

    Attributes:
      spread: the variance: "fixed" at ``value``, which makes the reconstruction a mean squared
        error; "shared", one learned number that starts there; "predicted" by the decoder for each
        value of an example.
      value: variance, or its initial value.
    """

    spread: Spread = "fixed"

    def nll(self, params: Params, outputs: jax.Array, x: jax.Array) -> jax.Array:
        return gaussian_nll(self.mean(outputs), self.log_spread(params, outputs), x)

    def draw(self, params: Params, key: jax.Array, outputs: jax.Array) -> jax.Array:
        mean = self.mean(outputs)
        return mean + jnp.exp(0.5 * self.log_spread(params, outputs)) * jax.random.normal(
            key, mean.shape
        )


@checks.frozen
class DiscretizedLogistic(_LocationScale):
    """Logistic distributions integrated over the bin of each level, which gives bits per dimension
    of the stored images (Kingma et al., arXiv 1606.04934; Salimans et al., arXiv 1701.05517).

    Attributes:
      spread: the scale: "fixed" at ``value``; "shared", one learned number that starts there;
        "predicted" by the decoder for each value of an example.
      value: scale, or its initial value, for images in [-1, 1].
      levels: number of values of a raw pixel.
    """

    value: float = 0.1
    levels: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.at_least(self, 2, "levels")

    def check(self, spec: Spec) -> None:
        if spec.levels != self.levels:
            has = "are continuous" if spec.levels is None else f"have {spec.levels}"
            raise UserError(
                f"family.likelihood.levels must fit the data, which {has}, got {self.levels}",
                "family.likelihood.levels",
            )

    def nll(self, params: Params, outputs: jax.Array, x: jax.Array) -> jax.Array:
        return discretized_logistic_nll(
            self.mean(outputs), self.log_spread(params, outputs), x, self.levels
        )

    def draw(self, params: Params, key: jax.Array, outputs: jax.Array) -> jax.Array:
        mean = self.mean(outputs)
        x = mean + jnp.exp(self.log_spread(params, outputs)) * jax.random.logistic(key, mean.shape)
        half = (self.levels - 1) / 2
        return jnp.clip(jnp.round((x + 1) * half) / half - 1, -1, 1)


@dataclass(frozen=True)
class RowLikelihood:
    """``Tabular`` for a table with these columns.

    Attributes:
      std: initial standard deviation of the numbers.
      numbers: number of ``numeric`` columns.
      sizes: number of values of each ``categorical`` column.
    """

    std: float
    numbers: int
    sizes: tuple[int, ...]

    def init(self) -> Params:
        return {"log_std": jnp.full(self.numbers, math.log(self.std))}

    def prepare(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return x

    def offset(self, mean: jax.Array) -> jax.Array:
        numbers, shares = blocks(mean, self.sizes)
        return jnp.concatenate([numbers, *(jnp.log(jnp.maximum(share, 1e-3)) for share in shares)])

    def nll(self, params: Params, outputs: jax.Array, x: jax.Array) -> jax.Array:
        """Return -log p(x | z) [B] in nats."""
        (mean, logits), (numbers, hot) = blocks(outputs, self.sizes), blocks(x, self.sizes)
        nll = gaussian_nll(mean, 2 * self._log_std(params), numbers)
        return sum((cross_entropy(a, b.argmax(-1)) for a, b in zip(logits, hot, strict=True)), nll)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return the mean of each number and the probabilities of each category."""
        mean, logits = blocks(outputs, self.sizes)
        return jnp.concatenate([mean, *(jax.nn.softmax(each) for each in logits)], axis=-1)

    def draw(self, params: Params, key: jax.Array, outputs: jax.Array) -> jax.Array:
        mean, logits = blocks(outputs, self.sizes)
        key, *keys = jax.random.split(key, 1 + len(logits))
        numbers = mean + jnp.exp(self._log_std(params)) * jax.random.normal(key, mean.shape)
        drawn = (jax.random.categorical(k, each) for k, each in zip(keys, logits, strict=True))
        hot = [jax.nn.one_hot(each, size) for each, size in zip(drawn, self.sizes, strict=True)]
        return jnp.concatenate([numbers, *hot], axis=-1)

    def _log_std(self, params: Params) -> jax.Array:
        """Return log standard deviations [1, Kn], to broadcast."""
        return jnp.maximum(params["log_std"].astype(jnp.float32), math.log(NARROWEST))[None]


@checks.frozen
class Tabular:
    """The likelihood of table rows in TVAE (Xu et al., arXiv 1907.00503): a Gaussian for each
    number within its mode, and probabilities of modes and categories.

    Attributes:
      std: initial standard deviation of the numbers within their mode, in units of four standard
          deviations of the mode; each column learns its own, down to 0.01.
    """

    std: float = 0.1
    outputs_per_dim = 1

    def __post_init__(self) -> None:
        checks.at_least(self, NARROWEST, "std")

    def check(self, spec: Spec) -> None:
        """Refuse data that this likelihood does not fit, with a ``UserError``."""
        if spec.categories is None:
            raise UserError(f"Tabular is for tables, got {spec.entry} data")

    def of(self, variables: Variables) -> RowLikelihood:
        """Return the likelihood for the columns that a family's variables describe."""
        sizes = categories(variables)
        return RowLikelihood(self.std, variables["mean"].shape[0] - sum(sizes), sizes)


Likelihood = Bernoulli | Gaussian | DiscretizedLogistic
