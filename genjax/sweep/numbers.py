"""Numbers of a step that can be arrays, so that runs which differ in them train together."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.optim import Rules
from genjax.runs.setup import make_step, update_rule

T = TypeVar("T")
# The schedule of an optimizer, or of one of several players: its part, and the path in it.
RATE = re.compile(r"optimizer\.(?:(\w+)\.)?learning_rate\.(.+)")
HOLDERS = ("optimizer.", "family.")
TRACING = (
    jax.errors.JAXTypeError,
    jax.errors.JAXIndexError,
    TypeError,
    ValueError,
    UserError,
)


def check_together(values: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> None:
    """Refuse runs that cannot train together, by the values of their fields.

    Args:
      values: values of the fields of each run.
      varied: fields besides the seed that differ.

    Raises:
      UserError: a field is not a number of the step; it is named.
    """
    for name in varied:
        numbers = all(isinstance(one[name], float) for one in values)
        if not numbers or not name.startswith(HOLDERS):
            raise UserError(
                f"vmapped runs may differ in the seed and in numbers of the optimizer and the "
                f"family, such as a learning rate; {name} changes the program: leave --vmapped "
                "out, or sweep each of its values by itself",
                name,
            )


def put_number(component: T, name: str, value: Any) -> T:
    """Return the component with one field, by dotted name, replaced by an array, unchecked."""
    first, _, rest = name.partition(".")
    if isinstance(component, tuple):
        items = list(component)
        items[int(first)] = put_number(items[int(first)], rest, value) if rest else value
        return tuple(items)  # type: ignore[return-value]
    made = object.__new__(type(component))  # without what the component keeps of its old number
    for field in dataclasses.fields(component):  # type: ignore[arg-type]
        object.__setattr__(made, field.name, getattr(component, field.name))
    inner = put_number(getattr(component, first), rest, value) if rest else value
    object.__setattr__(made, first, inner)
    return made


def build_step(experiment: Experiment, numbers: Mapping[str, jax.Array]) -> Any:
    """Return the step of an experiment, see ``make_step``, with arrays in the place of numbers.

    Args:
      experiment: the experiment.
      numbers: arrays by the dotted name of a field of the optimizer or the family.
    """
    rates = {name: x for name, x in numbers.items() if RATE.fullmatch(name)}
    for name, x in numbers.items():
        if name not in rates:
            experiment = put_number(experiment, name, x)
    # A schedule is resolved before its numbers are arrays, which its checks would refuse.
    rules: Rules = update_rule(experiment)
    for name, x in rates.items():
        found = RATE.fullmatch(name)
        assert found is not None
        part, path = found.groups()
        if part is None:
            rules = put_number(rules, f"learning_rate.{path}", x)
        else:
            rules = {**rules, part: put_number(rules[part], f"learning_rate.{path}", x)}
    return make_step(experiment, rules)


def check_numbers(experiment: Experiment, names: Sequence[str], state: Any, batch: Any) -> None:
    """Refuse numbers that a step needs to know before it is compiled.

    Args:
      experiment: the experiment.
      names: their dotted names.
      state: shapes and types of a state.
      batch: shapes and types of a batch.

    Raises:
      UserError: there is such a number; it is named.
    """
    number = jax.ShapeDtypeStruct((), jnp.float32)
    for name in names:

        def step(state: Any, batch: Any, x: jax.Array, name: str = name) -> Any:
            return build_step(experiment, {name: x})(state, batch, None)[0]

        try:
            found = jax.eval_shape(step, state, batch, number)
        except TRACING as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"vmapped runs may not differ in {name}, which decides how the step is compiled "
                f"({reason}): leave --vmapped out, or sweep each of its values by itself",
                name,
            ) from None
        same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), found, state)
        if not all(jax.tree.leaves(same)):
            raise UserError(f"vmapped runs may not differ in {name}: it changes the state", name)
