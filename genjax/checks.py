"""Check what a config holds against the annotations of its dataclasses, and a size against the memory there is."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import os
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from genjax.errors import UserError

DRIVERS = {"gs": "gcsfs", "s3": "s3fs"}  # the package that opens each scheme
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))


def checked(value: Any, hint: Any, name: str) -> Any:
    """The value as its annotation wants it: lists as tuples, numpy's numbers as Python's, whole floats as ints.

    Components are checked field by field, and built again only where something was converted.

    Raises:
      UserError: it is of another type, or a number that is not finite.
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim and hint is not np.ndarray):
        value = value.item()
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return checked(value, inner[0], name)
    if origin in (typing.Union, types.UnionType):
        return _of_union(value, inner, name)
    if origin is Literal:
        return value if value in inner else _refuse(name, "one of " + ", ".join(map(repr, inner)), value)
    if hint is bool:
        return value if isinstance(value, bool) else _refuse(name, "True or False", value)
    if hint is int:
        return _whole(value, name)
    if hint is float:
        return _finite(value, name)
    if hint is str:
        return value if isinstance(value, str) else _refuse(name, "a string", value)
    if hint is type(None):
        return value if value is None else _refuse(name, "None", value)
    if hint is tuple or origin is tuple:
        return _tuple(value, inner, name)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and not isinstance(value, hint):
        _refuse(name, f"a {hint.__name__}", value)
    return _component(value, name)


def component(value: Any, name: str, *methods: str) -> None:
    """Refuse what is not an instance of a dataclass with these methods."""
    if isinstance(value, type):
        _refuse(name, f"an instance: write {value.__name__}(...)", value)
    if not dataclasses.is_dataclass(value) or not all(callable(getattr(value, m, None)) for m in methods):
        _refuse(name, f"a component with {' and '.join(f'{m}()' for m in methods)}", value)


def fits(size: float, what: str, field: str, available: float | None = None) -> None:
    """Refuse what alone is larger than the memory of this machine, or than ``available`` bytes of its devices."""
    room = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if available is None else available
    if size > room:
        raise UserError(f"{field} is too large: {what} need at least {_told(size)}, of {_told(room)} of memory", field)


def place(path: str, field: str) -> None:
    """Refuse a path that no file system here can hold, and a URL whose scheme is not supported or has no driver."""
    if not path or "\0" in path:
        raise UserError(f"{field} must be a path, got {path!r}", field)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", path)
    if scheme is None:
        return
    driver = DRIVERS.get(scheme[1])
    if driver is None:
        known = " and ".join(f"{known}://" for known in DRIVERS)
        raise UserError(f"{field} must be a folder or {known}, got {path!r}", field)
    if importlib.util.find_spec(driver) is None:
        raise UserError(f"{field} {path!r} needs the package {driver}: pip install {driver}", field)


def _refuse(name: str, rule: str, value: Any) -> Any:
    shown = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    shown = shown if len(shown) < 200 else f"{shown[:200]}..."
    raise UserError(f"{name} must be {rule}, got {shown}", name)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(name, "a whole number", value)
    return int(value)


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(name, "a number", value)
    if not math.isfinite(value):
        _refuse(name, "finite", value)
    return float(value) if isinstance(value, float) else value


def _of_union(value: Any, hints: tuple[Any, ...], name: str) -> Any:
    if value is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    # An exact type comes first, so that a float | int keeps what it was given.
    for hint in sorted(hints, key=lambda hint: hint is not type(value)):
        try:
            return checked(value, hint, name)
        except UserError as error:
            last = error
    raise last


def _tuple(value: Any, inner: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, tuple | list):
        _refuse(name, "a tuple: write (...,)", value)
    if not inner:
        inner = (Any, ...)
    if inner[-1] is not Ellipsis and len(inner) != len(value):
        _refuse(name, f"a tuple of {len(inner)}", value)
    hints = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
    found = tuple(checked(v, h, f"{name}.{i}") for i, (v, h) in enumerate(zip(value, hints, strict=True)))
    same = isinstance(value, tuple) and all(a is b for a, b in zip(found, value, strict=True))
    return value if same else found


def _component(value: Any, name: str) -> Any:
    if isinstance(value, type) and dataclasses.is_dataclass(value):
        _refuse(name, f"an instance: write {value.__name__}(...)", value)
    if isinstance(value, float):
        return _finite(value, name)
    if not dataclasses.is_dataclass(value):
        return value
    changed = {}
    cls: Any = type(value)
    for field, hint in _hints(cls):
        old = getattr(value, field)
        new = checked(old, hint, f"{name}.{field}")
        if new is not old:
            changed[field] = new
    return dataclasses.replace(typing.cast(Any, value), **changed) if changed else value


@functools.cache
def _hints(cls: Any) -> tuple[tuple[str, Any], ...]:
    """The annotations of the fields that a constructor takes; those with an infinite default may be anything."""
    try:
        known = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):  # an annotation that is there for type checkers alone
        known = {}
    fields = [f for f in dataclasses.fields(cls) if f.init]
    free = {f.name for f in fields if isinstance(f.default, float) and not math.isfinite(f.default)}
    return tuple((f.name, known.get(f.name, Any)) for f in fields if f.name not in free)


def _told(size: float) -> str:
    for unit, name in SIZES:
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size:,.0f} bytes"


def numbers(owner: Any, names: tuple[str, ...], rule: str, holds: Callable[[float], bool]) -> None:
    """Refuse fields whose number does not keep a rule; NaN and infinity keep none, None is left out."""
    for name in names:
        value = getattr(owner, name)
        if value is None:
            continue
        if isinstance(value, bool | str) or np.ndim(value) or not np.isreal(value):
            _refuse(name, "a number", value)
        if not (math.isfinite(value) and holds(value)):
            _refuse(name, rule, value)
