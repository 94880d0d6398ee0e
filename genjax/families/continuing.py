"""What families that continue given states have in common."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax

from genjax.family import State

GIVEN = "given"  # name of the input of known states that are continued


@runtime_checkable
class Continues(Protocol):
    """A family that continues given states, such as the first frames of a clip."""

    def select_given(self, x: jax.Array) -> jax.Array:
        """Return the part of examples [B, ...] that is given."""
        ...

    def roll_out(
        self, state: State, key: jax.Array, given: jax.Array, options: Any, length: int | None
    ) -> jax.Array:
        """Continue the given part to ``length`` in all, in entries of the axis that runs over
        time.
        """
        ...
