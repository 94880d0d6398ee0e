"""The base class of families that depend on other trained runs, such as fine-tuning and latent
models.
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
    """A family that depends on other runs, or does more than steps while training.

    It lists their directories in ``runs``. Before tracing, ``resolve`` replaces each directory by
    that run's family; its arrays, {"params", "variables"}, go to ``State.frozen`` by role. Both are
    stored with the run, which then no longer needs the others.

    ``collect(state, batch, key) -> batch`` runs on the host before a step: rollouts, rewards,
    pairings. ``precompute(state, batch) -> entries`` computes additional entries [B, ...] of
    training examples that depend only on ``frozen``; it runs once, before the first step. Most
    families have neither. ``shape_collected(state, batch)`` returns the shapes of what ``collect``
    returns, for a plan.
    """

    collect: ClassVar[Callable[..., Batch] | None] = None
    shape_collected: ClassVar[Callable[..., Batch] | None] = None
    precompute: ClassVar[Callable[..., Batch] | None] = None

    @property
    def runs(self) -> Mapping[str, str]:
        """The directories of the runs that the family depends on, by role."""
        return {}

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> Self:
        """Replace the directories of other runs by their families, for data of that spec.

        Raises:
          UserError: another run does not fit this family or the data.
        """
        return self

    def with_codec(self, codec: Component) -> Self:
        """Return the family with the codec of the data, if it decodes text while training."""
        return self

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        """Refuse a batch size that does not fit.

        Args:
          batch_size: rows of the global batch.
          rows: rows that a step works on, those of a device if steps are mapped.
          accumulate: microbatches that the rows are split into.

        Raises:
          UserError: the batch cannot be divided.
        """

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        """Return the initial parameters and variables, given a random state with the other runs in
        ``frozen``.
        """
        return state.params, state.variables

    @property
    def wrapped(self) -> Family:
        """The family of the states from ``eval_state``; another one if this family only trains
        it.
        """
        return self

    def wrapped_spec(self, spec: Spec) -> Spec:
        """Return the spec of the data of ``wrapped``, given that of the training data."""
        return spec

    @property
    def evaluated_as(self) -> Family:
        """The family that evaluates held-out data: ``wrapped``, unless it cannot read them."""
        return self.wrapped

    def warnings(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        """Return warnings about the training metrics of a row."""
        return ()


@dataclass(frozen=True)
class Alone(Continued):
    """Wraps a family that is not a ``Continued``.

    Attributes:
      family: wrapped family.
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
    """Return the family as a ``Continued``, wrapped if it is not one."""
    return family if isinstance(family, Continued) else Alone(family)


def with_codec(family: Family, codec: Component) -> Family:
    """Return the family with the codec of the data, if it decodes text while training."""
    return family.with_codec(codec) if isinstance(family, Continued) else family


def apply_initial_params(family: Continued, state: State) -> State:
    """Replace the random parameters of a state at step 0 by those that the family starts from,
    averages included.
    """
    params, variables = family.initial_params(state)
    ema = (
        None
        if state.ema is None
        else jax.tree.map(jnp.copy, {name: params[name] for name in state.ema})
    )
    return state.replace(params=params, ema=ema, variables=variables)
