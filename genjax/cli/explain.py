"""Suggest components for a place where a config has one that does not fit."""

from __future__ import annotations

import dataclasses

from genjax import gx
from genjax.errors import UserError

SHOWN = 8  # most components listed


def explain_component(error: Exception) -> Exception:
    """If an error says that a component lacks a method, return one that lists those of ``gx`` that
    have it; otherwise return the error itself.
    """
    missing = error.__cause__ if isinstance(error, UserError) else error
    if not isinstance(missing, AttributeError) or missing.obj is None:
        return error
    value, name = missing.obj, missing.name or ""
    component = dataclasses.is_dataclass(value) and not isinstance(value, type)
    if not component and not isinstance(value, str | int | float | tuple | list | dict):
        return error
    kinds = {
        word: found
        for word in dir(gx)
        if word[:1].isupper() and isinstance(found := getattr(gx, word), type)
    }
    fitting = [word for word, kind in kinds.items() if callable(getattr(kind, name, None))]
    fitting = fitting or [word for word, kind in kinds.items() if hasattr(kind, name)]
    if not fitting:
        return error
    shown = f"{type(value).__name__}()" if component else repr(value)
    more = f" and {len(fitting) - SHOWN} more" if len(fitting) > SHOWN else ""
    explained = UserError(
        f"{shown} does not fit where the config has it, as it has no {name}; these have: "
        f"{', '.join(fitting[:SHOWN])}{more}",
        "config",
    )
    explained.__cause__ = error  # shown by --debug
    return explained
