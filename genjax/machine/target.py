"""The platform that a program is compiled for; nets choose the form of an operation by it."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")
_TARGET: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


def target_platform() -> str:
    """Return the platform that the traced function is compiled for: "cpu", "gpu" or "tpu".

    A layout sets it for what it compiles; otherwise it is the platform of this process.
    """
    return _TARGET.get() or jax.default_backend()


def trace_for(platform: str, function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that it sees ``platform`` as its target whenever it is traced."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _TARGET.set(platform)
        try:
            return function(*args, **kwargs)
        finally:
            _TARGET.reset(token)

    return traced
