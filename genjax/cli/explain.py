"""Say which components could stand where a config has one that does not fit."""

from __future__ import annotations

import dataclasses

from genjax import gx
from genjax.errors import UserError

SHOWN = 8  # components that are listed


def explain_component(error: Exception) -> Exception:
    """Return the error for a component, or a plain value, without a method that its place needs,
    with those of ``gx`` that have it; the error itself where it is something else.
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
    explained.__cause__ = error  # which --debug shows
    return explained
