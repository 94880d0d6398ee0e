"""Optimizers: small frozen dataclasses that build Optax transformations.

An optimizer computes a *direction*; ``UpdateRule`` applies the learning rate, so that it can be
logged, and so that a skipped update advances neither the schedule nor the moments.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax import checks, trees
from genjax.errors import UserError
from genjax.schedules import Constant, Schedule

Params = Any
Factor = float | tuple[float, ...]  # a tuple has one for each of the layers stacked by a scan
First = int | tuple[int, ...]
FLOAT32 = jnp.dtype("float32")

# An ``UpdateRule``, or a mapping of them by part.
Rules = Any


class OptState(NamedTuple):
    """The number of ``updates`` made so far, which the schedule counts, and the ``inner`` state of
    Optax.
    """

    updates: jax.Array
    inner: Any


@dataclass(frozen=True)
class UpdateRule:
    """A built optimizer, with all that ``gradient_step`` needs.

    Attributes:
      direction: Optax chain before the learning rate: moments, weight decay.
      learning_rate: resolved schedule over updates.
      clip: largest global norm of the gradient; None for no clipping.
      freeze: regular expressions on paths of parameters that are not trained.
      accumulate: number of microbatches that a batch is split into.
      ema: decay of the exponential moving average of the parameters; None for none.
      compute_dtype: dtype of the parameters in the loss; stored ones stay float32.
      repeats: updates per train step, each on its share of the batch.
      unfreeze: pairs of a regular expression on parameter paths and the update from which they are
        trained, as in ``Optimizer``.
      through: function from the trained parameters to those of the networks; None if they are the
        same.
    """

    direction: optax.GradientTransformation
    learning_rate: Schedule
    clip: float | None = None
    freeze: tuple[str, ...] = ()
    accumulate: int = 1
    ema: float | None = None
    compute_dtype: Any = FLOAT32
    repeats: int = 1
    unfreeze: tuple[tuple[str, First], ...] = ()
    through: Callable[[Params], Params] | None = None

    def init(self, params: Params) -> OptState:
        return OptState(jnp.zeros((), jnp.int32), self.direction.init(params))

    def cast_params(self, params: Params) -> Params:
        """Convert the trained parameters to those that networks compute with."""
        params = params if self.through is None else self.through(params)
        # Scalars (a learned variance) stay float32, as they belong to the loss, not to a network.
        return jax.tree.map(lambda p: p.astype(self.compute_dtype) if p.ndim else p, params)

    def mask_frozen(self, tree: Params, updates: jax.Array) -> Params:
        """Set gradients or directions of parameters that are still frozen at that update to 0.
        Moments are kept from the start, as Adam's first steps with zero moments would be several
        times too long.
        """
        for pattern, first in self.unfreeze:
            named = trees.match_paths((pattern,), tree)
            tree = jax.tree.map(
                lambda x, found, f=first: (
                    jnp.where(updates >= _broadcast_layers(f, x), x, 0) if found else x
                ),
                tree,
                named,
            )
        return tree

    def measure_norm(self, grads: Params) -> jax.Array:
        """Compute the global norm of the gradient, without frozen parameters."""
        frozen = jax.tree.leaves(trees.match_paths(self.freeze, grads))
        pairs = zip(jax.tree.leaves(grads), frozen, strict=True)
        return jnp.sqrt(sum(trees.sum_squares(g) for g, is_frozen in pairs if not is_frozen))

    def update(
        self, grads: Params, norm: jax.Array, state: OptState, params: Params
    ) -> tuple[Params, OptState]:
        """Take one step along the direction; return the new parameters and state. ``norm`` is that
        of ``grads``.
        """
        if self.clip is not None:
            scale = self.clip / jnp.maximum(norm, self.clip)
            grads = jax.tree.map(lambda g: g * scale, grads)
        direction, inner = self.direction.update(grads, state.inner, params)
        direction = self.mask_frozen(direction, state.updates)
        rate = self.learning_rate(state.updates)
        params = jax.tree.map(lambda p, d: (p - rate * d).astype(p.dtype), params, direction)
        return params, OptState(state.updates + 1, inner)


@checks.frozen
class Optimizer:
    """The base class of optimizers.

    Attributes:
      learning_rate: schedule over updates.
      clip: largest global norm of the gradient; None for no clipping.
      weight_decay: weight decay, decoupled from the gradient and multiplied by the learning rate
        (as in AdamW).
      decay: regular expressions on paths of parameters with weight decay; empty for all with two or
        more axes.
      freeze: regular expressions on paths of parameters that are not trained.
      accumulate: number of microbatches that each batch is split into, to save memory.
      rates: pairs of a regular expression on parameter paths and a factor on their learning rate,
        but not on weight decay; if several match, all factors apply. A tuple has a factor for each
        of the layers stacked by a scan.
      unfreeze: pairs of a regular expression on parameter paths and the update from which they are
        trained (gradual unfreezing, Howard & Ruder, arXiv 1801.06146). A tuple has an update for
        each stacked layer.
    """

    decays: ClassVar[tuple[str, ...]] = ()  # fields of at least 0 and below 1
    positives: ClassVar[tuple[str, ...]] = ()  # fields above 0

    learning_rate: Schedule = Constant(1e-3)
    clip: float | None = None
    weight_decay: float = 0.0
    decay: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    accumulate: int = 1
    rates: tuple[tuple[str, Factor], ...] = ()
    unfreeze: tuple[tuple[str, First], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.learning_rate, Schedule):
            raise UserError(
                f"learning_rate must be a schedule, such as Constant({self.learning_rate})",
                "learning_rate",
            )
        if (least := min(self.learning_rate.ends)) < 0:
            raise UserError(f"learning_rate must be at least 0, got {least}", "learning_rate")
        checks.at_least(self, 0, "weight_decay")
        checks.above(self, 0, "clip", *self.positives)
        checks.at_least(self, 1, "accumulate")
        checks.share(self, *self.decays)
        trees.check_syntax("optimizer.decay", self.decay)
        trees.check_syntax("optimizer.freeze", self.freeze)
        trees.check_syntax("optimizer.rates", self._rated)
        trees.check_syntax("optimizer.unfreeze", self._unfrozen)
        if any(
            not np.all((np.asarray(factor) > 0) & np.isfinite(factor)) for _, factor in self.rates
        ):
            raise UserError(
                f"rates must have factors > 0, got {self.rates}; use freeze for 0", "rates"
            )
        if any(not np.all(np.asarray(first) >= 0) for _, first in self.unfreeze):
            raise UserError(f"unfreeze must have updates >= 0, got {self.unfreeze}", "unfreeze")

    def scale(self) -> optax.GradientTransformation:
        """Build the transformation from gradients to a direction of ascent."""
        raise NotImplementedError

    def build(
        self, total_steps: int, ema: float | None = None, compute_dtype: Any = FLOAT32
    ) -> UpdateRule:
        """Resolve open schedules over ``total_steps`` and chain the transformations."""
        direction = self.scale()
        if self.rates:
            direction = optax.chain(direction, optax.stateless(self._multiply))
        if self.weight_decay:
            direction = optax.chain(
                direction, optax.add_decayed_weights(self.weight_decay, self._mask_decay)
            )
        if self.freeze:  # frozen parameters have no moments
            direction = optax.partition(
                {"train": direction, "freeze": optax.set_to_zero()}, self._label_params
            )
        rate = self.learning_rate.with_steps(total_steps)
        rule = UpdateRule(
            direction, rate, self.clip, self.freeze, self.accumulate, ema, compute_dtype
        )
        return dataclasses.replace(rule, unfreeze=self.unfreeze)

    def check(self, params: Params) -> None:
        """Refuse path patterns that match none of ``params``."""
        trees.check_patterns("optimizer.decay", self.decay, params)
        trees.check_patterns("optimizer.freeze", self.freeze, params)
        trees.check_patterns("optimizer.rates", self._rated, params)
        trees.check_patterns("optimizer.unfreeze", self._unfrozen, params)
        for pattern, values in (*self.rates, *self.unfreeze):
            for path, leaf in trees.named_leaves(params):
                if (
                    isinstance(values, tuple)
                    and re.search(pattern, path)
                    and leaf.shape[:1] != (len(values),)
                ):
                    raise UserError(
                        f"rates and unfreeze must have one value per layer, but {values} for "
                        f"{pattern!r} does not fit {path} of shape {list(leaf.shape)}",
                        "rates",
                    )

    @property
    def _rated(self) -> tuple[str, ...]:
        return tuple(pattern for pattern, _ in self.rates)

    @property
    def _unfrozen(self) -> tuple[str, ...]:
        return tuple(pattern for pattern, _ in self.unfreeze)

    def _multiply(self, direction: Params, params: Params) -> Params:
        for pattern, factor in self.rates:
            named = trees.match_paths((pattern,), direction)
            direction = jax.tree.map(
                lambda d, found, f=factor: _broadcast_layers(f, d) * d if found else d,
                direction,
                named,
            )
        return direction

    def _mask_decay(self, params: Params) -> Any:
        if self.decay:
            return trees.match_paths(self.decay, params)
        return jax.tree.map(lambda p: jnp.ndim(p) >= 2, params)

    def _label_params(self, params: Params) -> Any:
        return jax.tree.map(
            lambda frozen: "freeze" if frozen else "train", trees.match_paths(self.freeze, params)
        )


def _broadcast_layers(values: Factor | First, x: jax.Array) -> Any:
    """Shape one number for all of x, or one for each entry of its leading axis, to broadcast."""
    return (
        jnp.asarray(values).reshape(-1, *[1] * (x.ndim - 1))
        if isinstance(values, tuple)
        else values
    )


@checks.frozen
class SGD(Optimizer):
    """Gradient descent, optionally with momentum.

    Attributes:
      momentum: decay of the velocity.
      nesterov: whether to look ahead along the velocity.
    """

    decays = ("momentum",)
    momentum: float = 0.0
    nesterov: bool = False

    def scale(self) -> optax.GradientTransformation:
        return optax.trace(self.momentum, self.nesterov) if self.momentum else optax.identity()


@checks.frozen
class Adam(Optimizer):
    """Adam (Kingma & Ba, arXiv 1412.6980); with ``weight_decay`` AdamW.

    Attributes:
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
    """

    decays = ("b1", "b2")
    positives = ("eps",)
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def scale(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(self.b1, self.b2, self.eps)


@checks.frozen
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101)."""

    weight_decay: float = 0.01


@checks.frozen
class Lion(Optimizer):
    """Lion: the sign of an interpolated momentum (Chen et al., arXiv 2302.06675). It needs 3-10
    times Adam's weight decay, and a learning rate smaller by the same factor.

    Attributes:
      b1: interpolation between momentum and gradient.
      b2: decay of the momentum.
    """

    decays = ("b1", "b2")
    b1: float = 0.9
    b2: float = 0.99

    def scale(self) -> optax.GradientTransformation:
        return optax.scale_by_lion(self.b1, self.b2)


@checks.frozen
class Adafactor(Optimizer):
    """Adam with a factored second moment, sublinear in memory (Shazeer & Stern, arXiv 1804.04235).

    Attributes:
      min_dim_size_to_factor: smaller matrices keep a whole second moment.
      decay_rate: exponent of the second moment's decay.
      clipping_threshold: largest root mean square of an update; None for no clipping.
      multiply_by_parameter_scale: whether steps are relative to the scale of each parameter.
    """

    positives = ("min_dim_size_to_factor", "decay_rate", "clipping_threshold")
    min_dim_size_to_factor: int = 128
    decay_rate: float = 0.8
    clipping_threshold: float | None = 1.0
    multiply_by_parameter_scale: bool = True

    def scale(self) -> optax.GradientTransformation:
        factored = optax.adafactor(
            min_dim_size_to_factor=self.min_dim_size_to_factor,
            decay_rate=self.decay_rate,
            clipping_threshold=self.clipping_threshold,
            multiply_by_parameter_scale=self.multiply_by_parameter_scale,
        )
        return optax.chain(factored, optax.scale(-1.0))  # the alias descends; directions ascend


@checks.frozen
class Muon(Optimizer):
    """Muon: orthogonalised momentum for matrices (Jordan et al., 2024), Adam for other parameters.

    Updates have Adam's root mean square (0.2, Liu et al., arXiv 2502.16982), so that one schedule
    fits both; ``adam_rate`` sets Adam's rate separately. A convolution's kernel is one matrix,
    [height * width * in, out].

    Attributes:
      beta: decay of the momentum.
      b1: decay of Adam's first moment.
      b2: decay of Adam's second moment.
      adam: regular expressions on paths of matrices that Adam updates, such as embeddings and
        heads.
      stacked: regular expressions on paths of layers stacked by a scan and of experts, each of
        which is orthogonalised separately; a path has a leading axis for each that matches.
      adam_rate: factor on Adam's learning rate.
    """

    decays = ("beta", "b1", "b2")
    positives = ("adam_rate",)
    beta: float = 0.95
    b1: float = 0.9
    b2: float = 0.999
    adam: tuple[str, ...] = ("[Ee]mbed", "(^|[/_])[Hh]ead", "output")
    stacked: tuple[str, ...] = ("(^|/)layers/", "(^|/)experts/")
    adam_rate: float = 1.0

    def scale(self) -> optax.GradientTransformation:
        muon = optax.chain(
            optax.contrib.scale_by_muon(
                beta=self.beta, weight_dimension_numbers=self._find_matrices
            ),
            optax.stateless(self._match_adam),
        )
        # Not optax.contrib.muon, whose Adam part has Nesterov momentum.
        adam = optax.scale_by_adam(self.b1, self.b2)
        if self.adam_rate != 1:
            adam = optax.chain(adam, optax.scale(self.adam_rate))
        return optax.partition({"muon": muon, "adam": adam}, self._label_shapes)

    def _match_adam(self, updates: Params, params: Params) -> Params:
        """Scale updates to the root mean square of Adam's, about 0.2; an orthogonal [m, n] has 1 /
        sqrt(max(m, n)).
        """

        def scaled(update: jax.Array, axes: Any) -> jax.Array:
            rows = math.prod(update.shape[axis] for axis in axes.reduction_axis)
            return 0.2 * math.sqrt(max(rows, update.shape[-1])) * update

        return jax.tree.map(scaled, updates, self._find_matrices(updates))

    def _label_shapes(self, params: Params) -> Any:
        none = lambda axes: axes is None or isinstance(axes, optax.contrib.MuonDimensionNumbers)  # noqa: E731
        return jax.tree.map(
            lambda axes: "adam" if axes is None else "muon",
            self._find_matrices(params),
            is_leaf=none,
        )

    def _find_matrices(self, params: Params) -> Any:
        """Find the axes of each parameter that are a matrix's rows and columns; None if Adam
        updates it.
        """

        def axes(by_adam: bool, param: jax.Array, *stacked: bool) -> Any:
            first = sum(stacked)
            if by_adam or param.ndim < first + 2:
                return None
            last = param.ndim - 1
            return optax.contrib.MuonDimensionNumbers(tuple(range(first, last)), (last,))

        by_adam, *stacked = (
            trees.match_paths(patterns, params)
            for patterns in (self.adam, *((pattern,) for pattern in self.stacked))
        )
        return jax.tree.map(axes, by_adam, params, *stacked)


@checks.frozen
class Players:
    """Optimizers of a generator and a discriminator.

    Attributes:
      generator: optimizer of the generator.
      discriminator: optimizer of the discriminator.
      discriminator_steps: updates of the discriminator per update of the generator, each on its
          share of the batch: with 5, a batch of 320 is five of 64. Its schedule counts its own
          updates.
    """

    generator: Optimizer = Adam(Constant(2e-4), b1=0.5)
    discriminator: Optimizer = Adam(Constant(2e-4), b1=0.5)
    discriminator_steps: int = 1

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "discriminator_steps")

    @property
    def accumulate(self) -> int:
        """The number that must divide the batch of each device."""
        return self.discriminator_steps * math.lcm(
            self.generator.accumulate, self.discriminator.accumulate
        )

    def build(
        self, total_steps: int, ema: float | None = None, compute_dtype: Any = FLOAT32
    ) -> dict[str, UpdateRule]:
        """Build the rules of both; only the generator has an average, as only it is evaluated and
        sampled.
        """
        critic = self.discriminator.build(
            total_steps * self.discriminator_steps, None, compute_dtype
        )
        return {
            "generator": self.generator.build(total_steps, ema, compute_dtype),
            "discriminator": dataclasses.replace(critic, repeats=self.discriminator_steps),
        }

    def check(self, params: Params) -> None:
        """Refuse path patterns that match no parameter of a player, and a family without
        players.
        """
        if set(params) != {"generator", "discriminator"}:
            raise UserError(
                "optimizer=Players(...) needs a family with a generator and a discriminator",
                "optimizer",
            )
        self.generator.check(params["generator"])
        self.discriminator.check(params["discriminator"])
