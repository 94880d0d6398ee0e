"""Checks the fields of a config against their annotations, and sizes against the available
memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib.util
import math
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np

from genjax.errors import UserError, unknown_name

MAX_SEED = 2**32 - 1  # JAX would silently truncate larger ones

T = TypeVar("T")
# A frozen dataclass in a config, whose class may be a user's own.
Component = Any
DRIVERS = {"gs": "gcsfs", "s3": "s3fs"}  # the package that opens each scheme
# The annotation of a field whose default is infinite.
ENDLESS = Annotated[float, "infinity is allowed"]
DEEPEST = 256  # layers
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))


@typing.dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a frozen dataclass whose fields are checked against their annotations before its
    ``__post_init__`` runs.

    So a rule such as ``steps < 1`` only sees integers, and errors about NaN and infinity name their
    field. Lists become tuples, NumPy numbers Python ones. An infinite default allows both
    infinities.

    Raises:
      UserError: when an instance is created with a field of the wrong type.
    """
    rules = getattr(cls, "__post_init__", None)

    def __post_init__(self: Any) -> None:
        for field, hint in _hints(type(self)).items():
            old = getattr(self, field)
            try:
                new = convert(old, hint, field, deep=False)
            except UserError as error:
                raise UserError(f"{error} ({type(self).__name__})", error.field) from None
            if new is not old:
                object.__setattr__(self, field, new)
        if rules is not None:
            rules(self)

    typing.cast(Any, cls).__post_init__ = __post_init__
    made: Any = dataclasses.dataclass(frozen=True)(cls)
    init = made.__init__

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **fields: Any) -> None:
        known = [field.name for field in dataclasses.fields(made) if field.init]
        for name in fields.keys() - known if type(self) is made else ():
            raise unknown_name(f"field of {made.__name__}", name, known)
        init(self, *args, **fields)

    made.__init__ = __init__
    return made


def convert(value: Any, hint: Any, name: str, deep: bool = True) -> Any:
    """Convert a value to its annotation: lists to tuples, NumPy numbers to Python ones, whole
    floats to ints.

    Components are checked field by field, and rebuilt only if something was converted; without
    ``deep`` they are not checked.

    Raises:
      UserError: the value has another type, or is a number that is not finite.
    """
    if isinstance(value, np.generic) or (
        isinstance(value, np.ndarray) and not value.ndim and hint is not np.ndarray
    ):
        value = value.item()
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is ENDLESS:
        return (
            value
            if isinstance(value, float) and math.isinf(value)
            else convert(value, float, name, deep)
        )
    if origin is typing.Annotated:
        return convert(value, inner[0], name, deep)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, inner, name, deep)
    if origin is Literal:
        return (
            value
            if type(value) in map(type, inner) and value in inner
            else _unlisted(name, inner, value)
        )
    if hint in (bool, int, float, str, type(None)):
        return _convert_plain(value, hint, name)
    if hint is tuple or origin is tuple:
        return _tuple(value, inner, name, deep)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and not isinstance(value, hint):
        kinds = ", ".join(sorted(kind.__name__ for kind in hint.__subclasses__()))
        _refuse(name, f"a {hint.__name__}{kinds and f' ({kinds})'}", value)
    return _component(value, name, deep)


def _convert_plain(value: Any, hint: type, name: str) -> Any:
    if hint is int:
        return _convert_int(value, name)
    if hint is float:
        return _convert_float(value, name)
    words = {bool: "True or False", str: "a string", type(None): "None"}
    return value if isinstance(value, hint) else _refuse(name, words[hint], value)


def component(value: Any, name: str, *methods: str, such: str = "") -> None:
    """Refuse a value that is not an instance of a dataclass with these methods.

    Args:
      value: value of the field.
      name: name of the field.
      methods: names of required methods.
      such: examples of valid values, for the message.
    """
    if isinstance(value, type):
        _refuse(name, f"an instance: write {value.__name__}(...)", value)
    if not dataclasses.is_dataclass(value) or not all(
        callable(getattr(value, m, None)) for m in methods
    ):
        rule = f"a component with {' and '.join(f'{m}()' for m in methods)}"
        _refuse(name, f"{rule}, such as {such}" if such else rule, value)


def check_size(
    size: float, what: str, field: str, available: float | None = None, cure: str = ""
) -> None:
    """Refuse a size larger than the memory of this machine, or than ``available`` bytes of its
    devices.
    """
    there = room(available)
    if size > there:
        numbers = f"{_format_size(size)}, of {_format_size(there)} of memory"
        raise UserError(
            f"{field} is too large: {what} need at least {numbers}{cure and f': {cure}'}", field
        )


def room(available: float | None = None) -> float:
    """Return the ``available`` memory in bytes; by default that of this machine, or of its
    container.
    """
    if available is not None:
        return available
    machine = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):
        return min(machine, float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return machine


def check_path(path: str, field: str) -> None:
    """Refuse a path that no file system can have, and a URL whose scheme is not supported or lacks
    its driver.
    """
    if not path or "\0" in path:
        raise UserError(f"{field} must be a path, got {path!r}", field)
    if any(len(os.fsencode(part)) > 255 for part in path.split("/")):
        _refuse(field, "a path whose parts are of at most 255 bytes", path)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", path)
    if scheme is None:
        return
    driver = DRIVERS.get(scheme[1])
    if driver is None:
        known = " or ".join(f"{known}://" for known in DRIVERS)
        raise UserError(f"{field} must be a local path or {known}, got {path!r}", field)
    if importlib.util.find_spec(driver) is None:
        raise UserError(f"{field} {path!r} needs the package {driver}: pip install {driver}", field)


def beneath(path: str, field: str, folder: bool) -> None:
    """Refuse a path below a file, and for a ``folder`` one that is a file."""
    whole = Path(path).expanduser()
    for place in ([whole] if folder else []) + list(whole.parents):
        if place.exists():
            if not place.is_dir():
                _refuse(
                    field,
                    f"{'a folder' if place == whole else 'below folders'}, {str(place)!r} is a "
                    "file",
                    path,
                )
            return


def _unlisted(name: str, known: tuple[Any, ...], value: Any) -> Any:
    word = value if isinstance(value, str) else ""
    near = difflib.get_close_matches(word, map(str, known), n=1, cutoff=0.42)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(
        f"{name} must be one of {', '.join(map(repr, known))}, got {_shown(value)}{hint}", name
    )


def _refuse(name: str, rule: str, value: Any, owner: Any = None) -> Any:
    where = "" if owner is None else f" ({type(owner).__name__})"
    raise UserError(f"{name} must be {rule}, got {_shown(value)}{where}", name)


def _shown(value: Any) -> str:
    try:
        shown = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    except Exception:  # the repr of a user's class, or of an integer with too many digits
        shown = f"an object of type {type(value).__name__}"
    return shown if len(shown) < 200 else f"{shown[:200]}..."


def _convert_int(value: Any, name: str) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(name, "a whole number", value)
    if not -(2**63) <= value < 2**63:
        _refuse(name, "a whole number of 64 bits", value)
    return int(value)


def _convert_float(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(name, "a number", value)
    if not abs(value) <= sys.float_info.max:  # also true for NaN
        _refuse(name, "finite", value)
    return float(value) if isinstance(value, float) else value


def _convert_union(value: Any, hints: tuple[Any, ...], name: str, deep: bool) -> Any:
    if value is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    # An exact type comes first, so that float | int keeps the type of the value.
    for hint in sorted(hints, key=lambda hint: hint is not type(value)):
        try:
            return convert(value, hint, name, deep)
        except UserError as error:
            last = error
    if len(hints) > 1 and all(map(_is_component, hints)):
        _refuse(name, " or ".join(f"a {hint.__name__}" for hint in hints), value)
    raise last


def _is_component(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _tuple(value: Any, inner: tuple[Any, ...], name: str, deep: bool) -> tuple[Any, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, tuple | list):
        _refuse(name, "a tuple: write (...,)", value)
    if not inner:
        inner = (Any, ...)
    if inner[-1] is not Ellipsis and len(inner) != len(value):
        _refuse(name, f"a tuple of {len(inner)}", value)
    hints = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
    found = tuple(
        convert(v, h, f"{name}.{i}", deep)
        for i, (v, h) in enumerate(zip(value, hints, strict=True))
    )
    same = isinstance(value, tuple) and all(a is b for a, b in zip(found, value, strict=True))
    return value if same else found


def _component(value: Any, name: str, deep: bool) -> Any:
    if isinstance(value, type) and dataclasses.is_dataclass(value):
        _refuse(name, f"an instance: write {value.__name__}(...)", value)
    if isinstance(value, float):
        return _convert_float(value, name)
    if not deep or not dataclasses.is_dataclass(value):
        return value
    changed = {}
    cls: Any = type(value)
    for field, hint in _hints(cls).items():
        old = getattr(value, field)
        new = convert(old, hint, f"{name}.{field}")
        if new is not old:
            changed[field] = new
    return dataclasses.replace(typing.cast(Any, value), **changed) if changed else value


def _hints(cls: Any) -> Mapping[str, Any]:
    """Return the annotations of the fields that a constructor takes."""
    try:
        return _resolved(cls)
    except (NameError, TypeError):
        # An annotation is only for type checkers, or its class is defined further below.
        return {}


@functools.cache
def _resolved(cls: Any) -> Mapping[str, Any]:
    known = typing.get_type_hints(cls, include_extras=True)
    fields = [f for f in dataclasses.fields(cls) if f.init]
    endless = {f.name for f in fields if isinstance(f.default, float) and math.isinf(f.default)}
    return {f.name: ENDLESS if f.name in endless else known[f.name] for f in fields}


def _format_size(size: float) -> str:
    for unit, name in SIZES:
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size:,.0f} bytes"


def at_least(owner: Any, least: float, *names: str) -> None:
    """Refuse fields below ``least``; each may be a number, a tuple of numbers, or None."""
    numbers(owner, names, f"at least {least}", lambda x: x >= least)


def above(owner: Any, bound: float, *names: str) -> None:
    """Refuse fields that are not above ``bound``."""
    numbers(owner, names, f"above {bound}", lambda x: x > bound)


def between(owner: Any, low: float, high: float, *names: str) -> None:
    """Refuse fields below ``low`` or above ``high``."""
    numbers(owner, names, f"from {low} to {high}", lambda x: low <= x <= high)


def share(owner: Any, *names: str) -> None:
    """Refuse fields below 0, or 1 and above."""
    numbers(owner, names, "at least 0 and below 1", lambda x: 0 <= x < 1)


def inside(owner: Any, low: float, high: float, *names: str) -> None:
    """Refuse fields that are not strictly between ``low`` and ``high``."""
    numbers(owner, names, f"above {low} and below {high}", lambda x: low < x < high)


def some(owner: Any, *names: str) -> None:
    """Refuse fields that are empty."""
    for name in names:
        if not getattr(owner, name):
            _refuse(name, "at least one, not empty", getattr(owner, name), owner)


def depth(owner: Any, *names: str) -> None:
    """Refuse more layers than can be traced one by one in a reasonable time."""
    numbers(owner, names, f"at most {DEEPEST:,}", lambda x: x <= DEEPEST)


def most(owner: Any, bound: float, *names: str) -> None:
    """Refuse fields above ``bound``."""
    numbers(owner, names, f"at most {bound:,}", lambda x: x <= bound)


def ordered(owner: Any, lower: str, upper: str, strictly: bool = False) -> None:
    """Refuse an upper field below the lower one, or with ``strictly`` equal to it; None is
    skipped.
    """
    low, high = getattr(owner, lower), getattr(owner, upper)
    if low is not None and high is not None and (high < low or (strictly and high == low)):
        _refuse(upper, f"{'above' if strictly else 'at least'} {low} ({lower})", high, owner)


def numbers(owner: Any, names: tuple[str, ...], rule: str, holds: Callable[[float], bool]) -> None:
    """Refuse fields with a number that violates a rule; NaN violates all, None is skipped."""
    for name in names:
        value = getattr(owner, name)
        for i, item in enumerate(value if isinstance(value, tuple) else (value,)):
            if item is not None and not (isinstance(item, int | float) and holds(item)):
                _refuse(f"{name}.{i}" if isinstance(value, tuple) else name, rule, item, owner)
