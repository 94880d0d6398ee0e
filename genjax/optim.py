"""Optimizers: small frozen dataclasses that build Optax transformations.

An optimizer gives a *direction*; the learning rate is applied in ``UpdateRule``, once, so that it
can be logged, and so that a skipped update moves neither the schedule nor the moments.
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
Factor = float | tuple[float, ...]  # several are of layers that a scan has stacked, one each
First = int | tuple[int, ...]
FLOAT32 = jnp.dtype("float32")

# An ``UpdateRule``, or a mapping of them by part.
Rules = Any


class OptState(NamedTuple):
    """``updates`` made so far, which is what the schedule counts; ``inner``: Optax's own state."""

    updates: jax.Array
    inner: Any


@dataclass(frozen=True)
class UpdateRule:
    """A built optimizer, and everything else that ``gradient_step`` does with a gradient.

    Attributes:
      direction: the Optax chain before the learning rate: moments, weight decay.
      learning_rate: resolved schedule over the count of updates.
      clip: the largest global norm of the gradient; None clips nothing.
      freeze: regular expressions on the paths of parameters that stand still.
      accumulate: microbatches that a batch is split into.
      ema: decay of the exponential moving average of the parameters; None keeps none.
      compute_dtype: what the parameters are cast to in the loss; the stored ones stay float32.
      repeats: updates that a train step makes, each on its share of the batch.
      unfreeze: pairs of a regular expression on parameter paths and the update from which those are
        moved, as in ``Optimizer``.
      through: from the trained parameters to those that the networks use; None if they are the
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
        """Return the parameters as networks compute with them."""
        params = params if self.through is None else self.through(params)
        # Single numbers (a learned variance) stay float32: they belong to the loss, not to a
        # network.
        return jax.tree.map(lambda p: p.astype(self.compute_dtype) if p.ndim else p, params)

    def mask_frozen(self, tree: Params, updates: jax.Array) -> Params:
        """Return gradients or directions, 0 for what is not yet moved at that update. Its moments
        are kept from the start: Adam's first steps along moments of 0 would be several times too
        long.
        """
        for pattern, first in self.unfreeze:
            named = trees.matches((pattern,), tree)
            tree = jax.tree.map(
                lambda x, found, f=first: (
                    jnp.where(updates >= _broadcast_layers(f, x), x, 0) if found else x
                ),
                tree,
                named,
            )
        return tree

    def measure_norm(self, grads: Params) -> jax.Array:
        """Return the global norm of the gradient, frozen parameters left out."""
        pairs = zip(
            jax.tree.leaves(grads), jax.tree.leaves(trees.matches(self.freeze, grads)), strict=True
        )
        # An inner product is a fast pass over the gradient on every platform, a sum of squares is
        # not.
        return jnp.sqrt(
            sum(jnp.vdot(g, g, precision="highest") for g, frozen in pairs if not frozen)
        )

    def update(
        self, grads: Params, norm: jax.Array, state: OptState, params: Params
    ) -> tuple[Params, OptState]:
        """Return new parameters and state after one step along the direction; ``norm`` is that of
        ``grads``.
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
    """What every optimizer has.

    Attributes:
      learning_rate: a schedule over the updates made.
      clip: the largest global norm of the gradient; None clips nothing.
      weight_decay: decoupled from the gradient and multiplied by the learning rate (AdamW's form).
      decay: regular expressions on parameter paths that are decayed; empty for all with two or more
        axes.
      freeze: regular expressions on parameter paths that are never moved.
      accumulate: microbatches that each batch is split into, to save memory.
      rates: pairs of a regular expression on parameter paths and what the learning rate of those is
        multiplied by, its weight decay not; where several match, all factors count. Several numbers
        are for the layers that a scan has stacked, one each.
      unfreeze: pairs of a regular expression on parameter paths and the update from which those are
        moved; until then they stand still (gradual unfreezing, Howard & Ruder, arXiv 1801.06146).
        Several updates are for stacked layers.
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
                f"learning_rate is a schedule, for example Constant({self.learning_rate})"
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
                f"the factors of rates are above 0, not {self.rates}; freeze holds parameters still"
            )
        if any(not np.all(np.asarray(first) >= 0) for _, first in self.unfreeze):
            raise UserError(
                f"the updates of unfreeze are whole numbers of at least 0, unlike {self.unfreeze}"
            )

    def scale(self) -> optax.GradientTransformation:
        """Return the part that differs: gradients to a direction of ascent."""
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
        if self.freeze:  # no moments are kept for what stands still
            direction = optax.partition(
                {"train": direction, "freeze": optax.set_to_zero()}, self._label_params
            )
        rate = self.learning_rate.with_steps(total_steps)
        rule = UpdateRule(
            direction, rate, self.clip, self.freeze, self.accumulate, ema, compute_dtype
        )
        return dataclasses.replace(rule, unfreeze=self.unfreeze)

    def check(self, params: Params) -> None:
        """Refuse path rules that match none of ``params``."""
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
                        f"the optimizer has {values} for {pattern!r}, one a layer, and {path} "
                        "other layers"
                    )

    @property
    def _rated(self) -> tuple[str, ...]:
        return tuple(pattern for pattern, _ in self.rates)

    @property
    def _unfrozen(self) -> tuple[str, ...]:
        return tuple(pattern for pattern, _ in self.unfreeze)

    def _multiply(self, direction: Params, params: Params) -> Params:
        for pattern, factor in self.rates:
            named = trees.matches((pattern,), direction)
            direction = jax.tree.map(
                lambda d, found, f=factor: _broadcast_layers(f, d) * d if found else d,
                direction,
                named,
            )
        return direction

    def _mask_decay(self, params: Params) -> Any:
        if self.decay:
            return trees.matches(self.decay, params)
        return jax.tree.map(lambda p: jnp.ndim(p) >= 2, params)

    def _label_params(self, params: Params) -> Any:
        return jax.tree.map(
            lambda frozen: "freeze" if frozen else "train", trees.matches(self.freeze, params)
        )


def _broadcast_layers(values: Factor | First, x: jax.Array) -> Any:
    """Return one number for all of x, or one for each of its leading axis."""
    return (
        jnp.asarray(values).reshape(-1, *[1] * (x.ndim - 1))
        if isinstance(values, tuple)
        else values
    )


@checks.frozen
class SGD(Optimizer):
    """Gradient descent, with momentum if it is above 0.

    Attributes:
      momentum: decay of the velocity.
      nesterov: look ahead along the velocity.
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
    """The sign of an interpolated momentum (Chen et al., arXiv 2302.06675). Wants 3-10 times Adam's
    decay and a learning rate as many times smaller.

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
      clipping_threshold: of the update's root mean square; None clips nothing.
      multiply_by_parameter_scale: steps relative to the size of each parameter.
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
        return optax.chain(factored, optax.scale(-1.0))  # the alias descends, a direction ascends


@checks.frozen
class Muon(Optimizer):
    """Orthogonalised momentum for matrices (Jordan et al., 2024), Adam for all else.

    Updates have Adam's root mean square (0.2, Liu et al., arXiv 2502.16982), so one schedule serves
    both; with ``adam_rate`` each has a rate of its own. A convolution's kernel is one matrix,
    [height * width * in, out].

    Attributes:
      beta: decay of the momentum.
      b1: Adam's.
      b2: Adam's.
      adam: regular expressions on the paths of matrices that Adam updates: embeddings and heads.
      stacked: regular expressions on the paths of layers stacked by a scan: each layer is
        orthogonalised alone.
      adam_rate: learning rate of what Adam updates over ``learning_rate``; the schedule is one.
    """

    decays = ("beta", "b1", "b2")
    positives = ("adam_rate",)
    beta: float = 0.95
    b1: float = 0.9
    b2: float = 0.999
    adam: tuple[str, ...] = ("[Ee]mbed", "[Hh]ead", "output")
    stacked: tuple[str, ...] = ("layers",)
    adam_rate: float = 1.0

    def scale(self) -> optax.GradientTransformation:
        muon = optax.chain(
            optax.contrib.scale_by_muon(
                beta=self.beta, weight_dimension_numbers=self._find_matrices
            ),
            optax.stateless(self._match_adam),
        )
        # Not optax.contrib.muon: that one gives its Adam part Nesterov's momentum.
        adam = optax.scale_by_adam(self.b1, self.b2)
        if self.adam_rate != 1:
            adam = optax.chain(adam, optax.scale(self.adam_rate))
        return optax.partition({"muon": muon, "adam": adam}, self._label_shapes)

    def _match_adam(self, updates: Params, params: Params) -> Params:
        """Return an orthogonal [m, n] has root mean square 1 / sqrt(max(m, n)); Adam's updates have
        about 0.2.
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
        """Which axes of each parameter are a matrix's rows and columns; None if Adam updates it."""

        def axes(by_adam: bool, stacked: bool, param: jax.Array) -> Any:
            first = 1 if stacked else 0
            if by_adam or param.ndim < first + 2:
                return None
            last = param.ndim - 1
            return optax.contrib.MuonDimensionNumbers(tuple(range(first, last)), (last,))

        return jax.tree.map(
            axes, trees.matches(self.adam, params), trees.matches(self.stacked, params), params
        )


@checks.frozen
class Players:
    """An optimizer for each of two players.

    Attributes:
      generator: its optimizer.
      discriminator: its optimizer.
      discriminator_steps: updates of the discriminator before each of the generator, each on its
        share of the batch: with 5 a batch of 320 is five of 64. Its schedule counts its own
        updates.
    """

    generator: Optimizer = Adam(Constant(2e-4), b1=0.5)
    discriminator: Optimizer = Adam(Constant(2e-4), b1=0.5)
    discriminator_steps: int = 1

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "discriminator_steps")

    @property
    def accumulate(self) -> int:
        """What the batch of each device must be divisible by."""
        return self.discriminator_steps * math.lcm(
            self.generator.accumulate, self.discriminator.accumulate
        )

    def build(
        self, total_steps: int, ema: float | None = None, compute_dtype: Any = FLOAT32
    ) -> dict[str, UpdateRule]:
        """Return the rules of both; the average is the generator's, the only one that is judged and
        sampled from.
        """
        critic = self.discriminator.build(
            total_steps * self.discriminator_steps, None, compute_dtype
        )
        return {
            "generator": self.generator.build(total_steps, ema, compute_dtype),
            "discriminator": dataclasses.replace(critic, repeats=self.discriminator_steps),
        }

    def check(self, params: Params) -> None:
        """Refuse path rules that match none of a player's parameters, and a family without
        players.
        """
        if set(params) != {"generator", "discriminator"}:
            raise UserError(
                "optimizer=Players(...) is for a family of two players, generator and discriminator"
            )
        self.generator.check(params["generator"])
        self.discriminator.check(params["discriminator"])
