"""Families that continue other trained runs: fine-tuning, preferences, rewards, models of
another's latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.family import Batch, Family, Metrics, Params, State, Trained, Variables
from genjax.optim import Rules


@dataclass(frozen=True)
class Continued(Family):
    """A family that depends on other runs, or does more than a step while it trains.

    It lists their directories in ``runs``. Before anything is traced, ``resolve`` replaces each
    directory by that run's family; its arrays, {"params", "variables"}, go to ``State.frozen`` by
    role. Both are kept with the run, which from then on needs the others no more.

    ``collect(state, batch, key) -> batch`` runs on the host before a step: rollouts, rewards,
    pairings. ``precompute(state, batch) -> entries`` gives arrays [B, ...] that training examples
    get next to their own entries and that depend on ``frozen`` alone: they are computed once,
    before the first step. Most families have neither.
    """

    collect: ClassVar[Callable[..., Batch] | None] = None
    precompute: ClassVar[Callable[..., Batch] | None] = None

    @property
    def runs(self) -> Mapping[str, str]:
        """Directories of the runs that it depends on, by role."""
        return {}

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> Self:
        """Replace the directories of other runs by their families, for data of that spec.

        Raises:
          UserError: another run does not fit this family or the data.
        """
        return self

    def with_codec(self, codec: Component) -> Self:
        """Take the codec of the data, if text is decoded while it trains."""
        return self

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        """Refuse a batch that a step cannot use.

        Args:
          batch_size: rows of the whole batch.
          rows: that a step works on, a device's where it is mapped.
          accumulate: microbatches that they are divided into.

        Raises:
          UserError: the batch does not divide.
        """

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        """Return the parameters and variables to train, of a random state with the other runs in
        ``frozen``.
        """
        return state.params, state.variables

    @property
    def wrapped(self) -> Family:
        """The family that ``eval_state`` returns a state of, if this one is a way to train that."""
        return self

    def wrapped_spec(self, spec: Spec) -> Spec:
        """Return the data that ``wrapped`` is a family of, given those that this one trains on."""
        return spec

    @property
    def evaluated_as(self) -> Family:
        """The family whose metrics held-out data get: ``wrapped``, unless it cannot read data
        of that kind.
        """
        return self.wrapped

    def warnings(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        """Return lines for the reader about the means of training metrics in a row."""
        return ()


@dataclass(frozen=True)
class Alone(Continued):
    """A family that continues no other run, in the form of one that does.

    Attributes:
      family: the family.
    """

    family: Family

    @property
    def wrapped(self) -> Family:
        return self.family

    @property
    def key_numbers(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.family.key_numbers

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        return self.family.find_collapse(numbers)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        return self.family.init(key, example, spec)

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        return self.family.train_step(state, batch, optimizer=optimizer, axis=axis)

    def eval_state(self, state: State) -> State:
        return self.family.eval_state(state)


def wrap_family(family: Family) -> Continued:
    """Return the family with all members of ``Continued``, those of a family of its own at their
    defaults.
    """
    return family if isinstance(family, Continued) else Alone(family)


def with_codec(family: Family, codec: Component) -> Family:
    """Return the family with the codec of its data, if it decodes text while it trains."""
    return family.with_codec(codec) if isinstance(family, Continued) else family


def apply_initial_params(family: Continued, state: State) -> State:
    """Return a random state of step 0 with what the family continues in it, averages included."""
    params, variables = family.initial_params(state)
    ema = (
        None
        if state.ema is None
        else jax.tree.map(jnp.copy, {name: params[name] for name in state.ema})
    )
    return state.replace(params=params, ema=ema, variables=variables)
