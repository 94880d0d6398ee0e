"""What a program is compiled for: the platform, by which nets choose the form of an operation, and
how rows are split over devices, which kernels must know.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")
Mapped = Callable[..., jax.Array]
COUNTED = "counted"


@dataclass(frozen=True)
class Target:
    """What the traced function is compiled for.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      split: maps a function of arrays [B, ...] over the devices that rows are split over; None if
        each device sees only its own rows.
      share: maps a function of rows, experts and the number of the first expert over the devices
        that rows, and experts, are split over, see ``map_experts``; None likewise.
      counted: whether its FLOPs are counted and it is not run, or it takes the plain form of every
        operation for another reason.
    """

    platform: str
    split: Callable[[Mapped], Mapped] | None = None
    share: Callable[[Mapped], Mapped] | None = None
    counted: bool = False


_TARGET: contextvars.ContextVar[Target | None] = contextvars.ContextVar("target", default=None)
_FORMS: contextvars.ContextVar[dict[str, None] | None] = contextvars.ContextVar(
    "forms", default=None
)


def target_platform() -> str:
    """Return the platform that the traced function is compiled for: "cpu", "gpu" or "tpu", or
    ``COUNTED`` for the plain form of every operation.

    A layout sets it for what it compiles; otherwise it is the platform of this process.
    """
    target = _TARGET.get()
    return COUNTED if target is not None and target.counted else run_platform()


def run_platform() -> str:
    """Return "cpu", "gpu" or "tpu" also where the FLOPs of a program are counted."""
    target = _TARGET.get()
    return jax.default_backend() if target is None else target.platform


def trace_for(
    platform: str,
    function: Callable[P, T],
    split: Callable[[Mapped], Mapped] | None = None,
    share: Callable[[Mapped], Mapped] | None = None,
    counted: bool = False,
) -> Callable[P, T]:
    """Wrap a function so that it sees such a ``Target`` whenever it is traced."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _TARGET.set(Target(platform, split, share, counted))
        try:
            return function(*args, **kwargs)
        finally:
            _TARGET.reset(token)

    return traced


def in_plain_form(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that every operation takes its plain form whenever it is traced, as
    ``jax.jvp`` needs: gradients that are written by hand have a reverse mode only.
    """

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> T:
        target = _TARGET.get() or Target(jax.default_backend())
        token = _TARGET.set(dataclasses.replace(target, counted=True))
        try:
            return function(*args, **kwargs)
        finally:
            _TARGET.reset(token)

    return traced


def map_rows(function: Mapped, *arrays: jax.Array) -> jax.Array:
    """Call a function of arrays [B, ...] that works on each row alone, as the kernels do that XLA
    cannot split: on every device for its own rows.
    """
    target = _TARGET.get()
    if target is None or target.split is None:
        return function(*arrays)
    return target.split(function)(*arrays)


def map_experts(function: Mapped, rows: Any, experts: Any) -> jax.Array:
    """Call ``function(rows, experts, first)``, which adds up what the given experts make of each
    row: on every device for its own rows and experts, and then summed over the experts.

    Args:
      function: its result is [B, ...]; ``first`` is the number of the first of the experts.
      rows: arrays [B, ...].
      experts: arrays [E, ...].
    """
    target = _TARGET.get()
    if target is None or target.share is None:
        return function(rows, experts, 0)
    return target.share(function)(rows, experts)


def is_split() -> bool:
    """Return whether the compiler splits rows over devices in the function that is being traced."""
    target = _TARGET.get()
    return target is not None and target.split is not None


@contextlib.contextmanager
def list_forms() -> Iterator[dict[str, None]]:
    """Collect what ``note_form`` says of the functions traced meanwhile, each once, in order."""
    found: dict[str, None] = {}
    token = _FORMS.set(found)
    try:
        yield found
    finally:
        _FORMS.reset(token)


def note_form(form: str) -> None:
    """Say which form an operation takes in the function that is being traced."""
    found = _FORMS.get()
    if found is not None:
        found[form] = None
