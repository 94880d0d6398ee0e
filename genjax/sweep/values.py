"""Read the values of the options of a sweep: a list for each field of the config."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from genjax.errors import UserError, unknown_name

Words = Sequence[str]
PLAIN = (bool, int, float, str)
RULES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def list_fields(component: Any, prefix: str = "") -> dict[str, Any]:
    """Return the annotation of every field of a component, also of those in it, by dotted name.

    Only fields that hold no component are listed; elements of a tuple are named by their index.
    """
    if isinstance(component, tuple):
        parts = {str(i): (value, None) for i, value in enumerate(component)}
    else:
        hints = _read_hints(type(component))
        parts = {
            f.name: (getattr(component, f.name), hints.get(f.name))
            for f in dataclasses.fields(component)
            if f.init
        }
    found: dict[str, Any] = {}
    for name, (value, hint) in parts.items():
        if _is_component(value):
            found |= list_fields(value, f"{prefix}{name}.")
        elif hint is not None:
            found[f"{prefix}{name}"] = hint if hint is not Any or value is None else type(value)
    return found


def _is_component(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_component, value))
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _read_hints(cls: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError):  # of a class that is only imported for type checkers
        return {}


def split_options(words: Words, own: Sequence[str]) -> tuple[list[str], list[tuple[str, Words]]]:
    """Part the words of a command line into those of the command's ``own`` options, and the others:
    their names and words, in order.

    Raises:
      UserError: a word comes before any option.
    """
    mine: list[str] = []
    others: list[tuple[str, Words]] = []
    for option, values in _group(words):
        name = option.removeprefix("--").replace("-", "_")
        if name.removeprefix("no_") in own:
            mine += [option, *values]
        else:
            others.append((name, values))
    return mine, others


def _group(words: Words) -> Iterator[tuple[str, list[str]]]:
    """Yield each option with the words after it; ``--name=word`` is the same as ``--name word``."""
    option, values = "", list[str]()
    for word in words:
        if not word.startswith("--"):
            values.append(word)
            continue
        if option:
            yield option, values
        option, equals, value = word.partition("=")
        values = [value] if equals else []
        if not option.strip("-"):
            raise UserError(f"an option has a name, got {word!r}", "options")
    if option:
        yield option, values
    elif values:
        raise UserError(f"{values[0]!r} must follow an option, such as --seeds", "options")


def read_lists(
    component: Any, options: Sequence[tuple[str, Words]], own: Sequence[str] = ()
) -> dict[str, list[Words]]:
    """Return the words of each value of the fields that options name, in the order given.

    Commas separate the values of a field that takes one word; a field of text or of several words
    gets another value each time that its option is repeated.

    Args:
      component: the component with the fields.
      options: names and words, see ``split_options``.
      own: other names, to suggest for a misspelled one.

    Raises:
      UserError: there is no such field, its list is empty, or a comma is ambiguous.
    """
    fields = list_fields(component)
    found: dict[str, list[Words]] = {}
    for option, words in options:
        name, words = _resolve_flag(option, words, fields)
        if name not in fields:
            if any(known.startswith(f"{name}.") for known in fields):
                raise UserError(
                    f"{name} is a component, which a config file sets: sweep its fields, such as "
                    f"{next(known for known in fields if known.startswith(f'{name}.'))}",
                    name,
                )
            raise UserError(str(unknown_name("field", name, [*fields, *own])), name)
        found.setdefault(name, []).extend(_split_list(words, fields[name], name))
    return found


def _resolve_flag(name: str, words: Words, fields: Mapping[str, Any]) -> tuple[str, Words]:
    """Read ``--x`` and ``--no-x`` of a field that is true or false, as ``train`` does."""
    folder, dot, last = name.rpartition(".")
    positive = f"{folder}{dot}{last.removeprefix('no_')}"
    if name not in fields and fields.get(positive) is bool and not words:
        return positive, ["false"]
    return name, ["true"] if fields.get(name) is bool and not words else words


def _split_list(words: Words, hint: Any, name: str) -> list[Words]:
    flag = name.replace("_", "-")
    if not words or not any(word.strip() for word in words):
        raise UserError(f"{name} must have a value, got an empty list", name)
    kinds = set(list_kinds(hint))
    if not kinds:
        raise UserError(f"{name} must be set in a config file: no word can name its value", name)
    if tuple in kinds or str in kinds:
        if any(re.search(r"(?<!\\),", word) for word in words):
            several = "several words" if tuple in kinds else "text"
            raise UserError(
                f"{name} takes {several}, so a comma is ambiguous: repeat the option for another "
                f"value (--{flag} ... --{flag} ...), and write \\, for a comma in one",
                name,
            )
        return [[word.replace("\\,", ",") for word in words]]
    if len(words) > 1 and not any("," in word for word in words):
        raise UserError(
            f"{name} takes one word: separate its values by commas ({','.join(words)})", name
        )
    pieces = [piece.strip() for piece in " ".join(words).split(",")]
    if not all(pieces):
        raise UserError(f"{name} must have a value between commas, got {' '.join(words)!r}", name)
    return [[piece] for piece in pieces]


def list_kinds(hint: Any) -> Iterator[Any]:
    """Yield what the words of a field may be: plain types, Literal or tuple."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for one in inner:
            yield from list_kinds(one)
    elif origin is typing.Annotated:
        yield from list_kinds(inner[0])
    elif origin is Literal:
        yield Literal
    elif origin is tuple:
        if any(True for one in inner if one is not Ellipsis for _ in list_kinds(one)):
            yield tuple
    elif hint in PLAIN:
        yield hint


def read_value(words: Words, hint: Any, name: str) -> Any:
    """Return the value that words name, of the type of a field's annotation.

    Raises:
      UserError: they name none; the message has field, rule and words.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return read_value(words, inner[0], name)
    if origin in (typing.Union, types.UnionType):
        return _read_union(words, inner, name)
    if origin is tuple:
        return _read_tuple(words, inner, name)
    if len(words) != 1:
        raise UserError(f"{name} must be one word, got {' '.join(words)!r}", name)
    (word,) = words
    if origin is Literal:
        for one in inner:
            if word == str(one):
                return one
        known = ", ".join(map(str, inner))
        raise UserError(f"{name} must be one of {known}, got {word!r}", name)
    return _read_plain(word, hint, name)


def _read_union(words: Words, inner: Sequence[Any], name: str) -> Any:
    if type(None) in inner and [word.lower() for word in words] == ["none"]:
        return None
    # Text takes any word, and a float takes a whole number: they come last.
    hints = [one for one in inner if set(list_kinds(one))]
    hints.sort(key=lambda one: (one is str, one is float))
    for one in hints:
        try:
            return read_value(words, one, name)
        except UserError as error:
            last = error
    raise last


def _read_tuple(words: Words, inner: Sequence[Any], name: str) -> tuple[Any, ...]:
    if inner[-1] is not Ellipsis and len(inner) != len(words):
        raise UserError(f"{name} must be {len(inner)} words, got {' '.join(words)!r}", name)
    hints = [inner[0]] * len(words) if inner[-1] is Ellipsis else inner
    return tuple(read_value([word], one, name) for word, one in zip(words, hints, strict=True))


def _read_plain(word: str, hint: Any, name: str) -> Any:
    if hint is bool and word.lower() in ("true", "false"):
        return word.lower() == "true"
    if hint in (int, float):
        try:
            return hint(word)
        except ValueError:
            pass
    elif hint is str:
        return word
    raise UserError(f"{name} must be {RULES[hint]}, got {word!r}", name)
