"""What a decoder's outputs mean: distributions of data in model space, given those outputs."""

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
NARROWEST = (
    0.01  # standard deviation of a number in a table: where all are one, the density has no bound
)


@checks.frozen
class Bernoulli:
    """Each value in [-1, 1], mapped to [0, 1], is the probability of a 1.

    Attributes:
      binarize: draw 0 or 1 again each time an image is seen (dynamic binarisation), so that the
        bound is that of binary images; otherwise the intensities themselves are the targets.
    """

    binarize: bool = False
    outputs_per_dim = 1

    def check(self, spec: Spec) -> None:
        """Refuse data that this is not a likelihood of."""
        if spec.entry != "image":
            raise UserError(
                f"Bernoulli is for images in [-1, 1], and the data are {spec.entry}: take a "
                "Gaussian"
            )

    def of(self, variables: Variables) -> Bernoulli:
        """This likelihood for data of which a family keeps these variables; only that of
        tables depends on them.
        """
        return self

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
        """Return -log p(x | z) [B] in nats."""
        return bernoulli_nll(outputs, (x + 1) / 2)

    def mean(self, outputs: jax.Array) -> jax.Array:
        return 2 * jax.nn.sigmoid(outputs) - 1

    def draw(self, params: Params, key: jax.Array, outputs: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, jax.nn.sigmoid(outputs)), 1.0, -1.0)


@checks.frozen
class _LocationScale:
    """A distribution around the decoder's outputs, and how wide it is.

    Attributes:
      spread: "fixed" at ``value``; "shared", one learned number that starts there; "predicted" for
        each value of an example by the decoder.
      value: of the spread.
    """

    spread: Spread = "shared"
    value: float = 1.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "value")

    @property
    def outputs_per_dim(self) -> int:
        return 2 if self.spread == "predicted" else 1

    def check(self, spec: Spec) -> None:
        """Refuse data that this is not a likelihood of; any will do here."""

    def of(self, variables: Variables) -> Self:
        """This likelihood for data of which a family keeps these variables; only that of
        tables depends on them.
        """
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
        """Return a number, or one for each value [B, ...]."""
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
        error; "shared", one learned number that starts there; "predicted" for each value of an
        example by the decoder.
      value: of the variance.
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
    """Logistic distributions integrated over the bin of each level, so that bits per dimension are
    those of the stored images (Kingma et al., arXiv 1606.04934; Salimans et al., arXiv 1701.05517).

    Attributes:
      spread: the scale: "fixed" at ``value``; "shared", one learned number that starts there;
        "predicted" for each value of an example by the decoder.
      value: of the scale, where images span [-1, 1].
      levels: of a raw pixel.
    """

    value: float = 0.1
    levels: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.at_least(self, 2, "levels")

    def check(self, spec: Spec) -> None:
        if spec.levels != self.levels:
            has = "are continuous" if spec.levels is None else f"have {spec.levels}"
            raise UserError(f"family.likelihood.levels is {self.levels}, but the data {has}")

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
    """``Tabular`` for a table of this many columns.

    Attributes:
      std: of the numbers, where learning starts.
      numbers: columns of ``numeric``.
      sizes: how many values each column of ``categorical`` takes.
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
        """Return blocks hold probabilities."""
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
        """Return [1, Kn], to broadcast."""
        return jnp.maximum(params["log_std"].astype(jnp.float32), math.log(NARROWEST))[None]


@checks.frozen
class Tabular:
    """Rows of a table, the likelihood of TVAE (Xu et al., arXiv 1907.00503): a Gaussian around each
    number within its mode, and a probability for each mode and each category.

    Attributes:
      std: of the numbers within their mode, of which 1 is four standard deviations, where learning
        starts; each column learns its own, down to 0.01.
    """

    std: float = 0.1
    outputs_per_dim = 1

    def __post_init__(self) -> None:
        checks.at_least(self, NARROWEST, "std")

    def check(self, spec: Spec) -> None:
        """Refuse data that this is not a likelihood of."""
        if spec.categories is None:
            raise UserError(f"Tabular is for tables, and the data are {spec.entry}")

    def of(self, variables: Variables) -> RowLikelihood:
        """This likelihood for the columns that a family's variables tell of."""
        sizes = categories(variables)
        return RowLikelihood(self.std, variables["mean"].shape[0] - sum(sizes), sizes)


Likelihood = Bernoulli | Gaussian | DiscretizedLogistic
