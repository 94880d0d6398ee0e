"""Replace fields of nested frozen dataclasses by dotted name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from genjax.errors import UserError, unknown_name

T = TypeVar("T")


def replace_fields(component: T, changes: Mapping[str, Any]) -> T:
    """Return the component with changed fields, such as ``{"steps": 8, "family.coder.dense": 16}``.

    An element of a tuple is named by its index: ``"evaluators.0.samples"``. All changes are made
    before any component checks its fields, so that their order does not matter.

    Raises:
      UserError: there is no such field.
    """
    here: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, _, rest = name.partition(".")
        if rest:
            below.setdefault(first, {})[rest] = value
        else:
            here[first] = value
    parts = _parts(component)
    for name in (*here, *below):
        if name not in parts:
            raise unknown_name("field", name, parts)
        if name in here and name in below:
            raise UserError(f"{name} must not be changed both as a whole and by its fields", name)
    changed = here | {name: replace_fields(parts[name], inner) for name, inner in below.items()}
    if isinstance(component, tuple):
        return tuple(changed.get(name, value) for name, value in parts.items())  # type: ignore[return-value]
    return dataclasses.replace(component, **changed)  # type: ignore[type-var]


def get_field(component: Any, name: str) -> Any:
    """Return the field of a dotted name.

    Raises:
      UserError: there is no such field.
    """
    first, _, rest = name.partition(".")
    parts = _parts(component)
    if first not in parts:
        raise unknown_name("field", first, parts)
    return get_field(parts[first], rest) if rest else parts[first]


def _parts(component: Any) -> dict[str, Any]:
    if isinstance(component, tuple):
        return {str(number): value for number, value in enumerate(component)}
    if dataclasses.is_dataclass(component) and not isinstance(component, type):
        return {
            field.name: getattr(component, field.name)
            for field in dataclasses.fields(component)
            if field.init
        }
    return {}
