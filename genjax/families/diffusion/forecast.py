"""Forecasts: a diffusion or flow of the next states given the last ones, and its roll-outs.

The given states enter the network clean, beside the noisy next ones, as the known frames of
conditional diffusion do (Ho et al., arXiv 2204.03458; for flows of physics: Kohl et al., arXiv
2309.01745). Roll-outs feed the forecasts back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.continuing import GIVEN
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.family import (
    Batch,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    conditions,
    find_input,
    labels,
    select_modelled,
)


@checks.frozen
class Rollout(Denoising):
    """Sampling options of a forecast.

    Attributes:
      length: states of a trajectory, or channels of a sequence of images, with those given; None
        for as many as in a training example.
      start: the given states in the units of the data, one after another; None starts from the
        first training example. All samples start from it: an ensemble.
    """

    length: int | None = None
    start: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.at_least(self, 2, "length")

    @property
    def runs(self) -> Mapping[str, str]:
        """No other run is needed."""
        return {}

    def encode(self, codec: Component, others: Mapping[str, Any]) -> Rollout:
        """Return the options with the start in model space.

        Raises:
          UserError: the start does not consist of whole states.
        """
        if self.start is None:
            return self
        width = len(codec.mean)
        if not self.start or len(self.start) % width:
            raise UserError(
                f"sampler.start must be states of {width} numbers ({', '.join(codec.columns)}), "
                f"got {len(self.start)} numbers",
                "sampler.start",
            )
        states = codec.encode(np.reshape(self.start, (-1, width)))
        return dataclasses.replace(self, start=tuple(map(float, states.ravel())))


@checks.frozen
class Forecast(Diffusion):
    """A diffusion of the states that follow ``given`` ones, for signals [T, C], or images whose
    channels are successive states.

    The network is that of a whole example; its given part is shown clean, and the loss is that of
    the rest, per entry. Modelled is the change since the last given state, divided by ``change``,
    or with ``change`` None the following states themselves.

    Attributes:
      given: time steps of a signal, or channels of an image, that are given. With a ``change``, the
        channels that follow are one state, so that ``given`` is a multiple of their number.
      change: typical size of a change, in model space; None for states whose change is no smaller
        than themselves, such as frames of moving objects.
      sampler: sampling options.
    """

    given: int = 1
    change: float | None = 1.0
    sampler: Rollout = Rollout()

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.at_least(self, 1, "given")
        checks.above(self, 0, "change")
        if self.augment.size:
            raise UserError("augment must be off for a forecast", "augment")

    def check_sampler(self, options: Denoising) -> None:
        """Refuse sampling options that this model does not support, with a ``UserError``."""
        super().check_sampler(options)
        if options.clip:
            raise UserError("sampler.clip must be False for a forecast", "sampler.clip")
        length = options.length if isinstance(options, Rollout) else None
        if length is not None and length <= self.given:
            raise UserError(
                f"sampler.length must be > {self.given} (given), got {length}", "sampler.length"
            )

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.entry not in ("signal", "image"):
            raise UserError(f"a forecast needs a signal or image, but the data are {spec.entry}")
        axis = _axis(len(spec.shape))
        new = spec.shape[axis] - self.given
        if new < 1 or (axis and self.change is not None and self.given % new):
            raise UserError(
                f"given must leave something to forecast of {spec.shape[axis]}, and be a multiple "
                f"of an image's new channels unless change is None, got {self.given}",
                "given",
            )
        params, variables = super().init(key, example, spec)
        given, following = self.split(select_modelled(example))
        kept = {"mean": jnp.zeros(following.shape[1:]), "start": given[0]}
        return params, variables | kept

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Split examples [B, ...] into the given part and the change that follows."""
        axis = _axis(x.ndim - 1)
        given, following = jnp.split(x, [self.given], axis + 1 if axis == 0 else -1)
        if self.change is None:
            return given, following
        return given, (following - self._last(given, following)) / self.change

    def select_given(self, x: jax.Array) -> jax.Array:
        """Return the given part of examples [B, ...]."""
        return self.split(x)[0]

    def join(self, given: jax.Array, change: jax.Array) -> jax.Array:
        """Return the states [B, ...] that follow the given ones with this change."""
        if self.change is None:
            return change
        return self._last(given, change) + self.change * change

    def sample(self, state: State, key: jax.Array, n: int, options: Denoising) -> jax.Array:
        """Draw ``n`` trajectories: the given part, then forecasts."""
        self.check_sampler(options)
        given = find_input(state, GIVEN)
        start, length = state.variables["start"], None
        if isinstance(options, Rollout):
            length = options.length
            if options.start is not None:
                start = self._place_start(options.start, start)
        if given is None:
            given = jnp.broadcast_to(start, (n, *start.shape))
        return self.roll_out(state, key, given, options, length)

    def roll_out(
        self,
        state: State,
        key: jax.Array,
        given: jax.Array,
        options: Denoising,
        length: int | None = None,
    ) -> jax.Array:
        """Continue the given states [B, ...] to ``length`` in all, of which the given are the
        first.
        """
        axis = _axis(given.ndim - 1)
        axis = 1 if axis == 0 else given.ndim - 1
        new = state.variables["mean"].shape[axis - 1]
        length = self.given + new if length is None else length
        steps = -(-(length - self.given) // new)

        def step(given: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            following = self.forecast(state, key, given, options)
            whole = jnp.concatenate([given, following], axis)
            return jax.lax.slice_in_dim(whole, new, None, axis=axis), following

        parts = jax.lax.scan(step, given, jax.random.split(key, steps))[1]  # [steps, B, ...]
        whole = jnp.concatenate([given, *parts], axis) if steps < 4 else _lay(given, parts, axis)
        return jax.lax.slice_in_dim(whole, 0, length, axis=axis)

    def forecast(
        self, state: State, key: jax.Array, given: jax.Array, options: Denoising
    ) -> jax.Array:
        """Draw the states that follow the given ones [B, ...]."""
        change = self.draw_from_noise(state, key, len(given), options, given=given)
        return self.join(given, change)

    def _compute_metrics(
        self, params: Params, variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> Metrics:
        label = labels(batch) if self.conditional else None
        text = conditions(batch) if self.text is not None else None
        given, change = self.split(select_modelled(batch))
        seen = variables | {GIVEN: given}
        terms = self.compute_terms(params, seen, change, label, key, train, text)
        return {name: Mean.of(values, batch["mask"]) for name, values in terms.items()}

    def _apply_net(
        self,
        net: Params,
        params: Params,
        x: jax.Array,
        clock: jax.Array,
        inputs: Any,
        key: jax.Array | None,
    ) -> jax.Array:
        """Apply the network to the given part and x, and return what it predicts for x."""
        given = inputs[GIVEN]
        axis = 1 if _axis(x.ndim - 1) == 0 else x.ndim - 1
        others = {name: value for name, value in inputs.items() if name != GIVEN}
        whole = jnp.concatenate([given.astype(x.dtype), x], axis)
        outputs = super()._apply_net(net, params, whole, clock, others, key)
        return jax.lax.slice_in_dim(outputs, given.shape[axis], None, axis=axis)

    def _last(self, given: jax.Array, following: jax.Array) -> jax.Array:
        """Return the last given state, which broadcasts with what follows."""
        return given[:, -1:] if given.ndim == 3 else given[..., -following.shape[-1] :]

    def _place_start(self, start: tuple[float, ...], like: jax.Array) -> jax.Array:
        if len(start) != like.size:
            raise UserError(
                f"sampler.start must have {like.size} numbers, got {len(start)}", "sampler.start"
            )
        return jnp.reshape(jnp.asarray(start, jnp.float32), like.shape)


def _axis(rank: int) -> int:
    """Return the axis of an example that runs over time: the first of signals [T, C], the channels
    of images.
    """
    return 0 if rank == 2 else -1


def _lay(given: jax.Array, parts: jax.Array, axis: int) -> jax.Array:
    """Lay parts [S, B, ...] one after another behind the given [B, ...]."""
    parts = jnp.moveaxis(parts, 0, axis)
    shape = list(given.shape)
    shape[axis] = -1
    return jnp.concatenate([given, parts.reshape(shape)], axis)
