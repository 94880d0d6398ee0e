"""Parse JSON from untrusted sources: input that crashes Python's parser, or that it accepts
silently although it is invalid, is refused in one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from genjax.errors import UserError

DEEPEST = 100  # most levels of nested lists and objects
BLANKS = " \t\r\n"
# Half of a surrogate pair, which JSON can spell, but no text encoding can.
HALF = re.compile("[\ud800-\udfff]")
Json = Any  # a value of a JSON document


class _Wrong(ValueError):
    """A text that Python accepts as JSON is invalid."""


class Value(NamedTuple):
    """A value in a text: ``value`` itself, and the positions where it ``begins`` and ``ends``."""

    value: Any
    begins: int
    ends: int


def parse(text: str | bytes, where: str, finite: bool = True) -> Any:
    """Parse a JSON text with one value; it may start with a byte order mark.

    Args:
      text: the text, or its bytes in UTF-8, UTF-16 or UTF-32.
      where: name of the file, for messages and the ``field`` of errors.
      finite: whether NaN and Infinity, which are not JSON, are refused.

    Raises:
      UserError: the text is not JSON or nested too deeply, or an object has two members with the
        same name; the message names the line.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode(json.detect_encoding(text))
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where} is not JSON: byte {error.start:,} cannot be decoded", where
            ) from None
    text = text.removeprefix("\ufeff")
    found = next(values(text, where, finite), None)
    if found is None:
        raise UserError(f"{where} is empty, not JSON", where)
    if rest := text[found.ends :].strip(BLANKS):
        raise _json_error(
            where, text, len(text.rstrip(BLANKS)) - len(rest), "something follows the value"
        )
    return found.value


def values(text: str, where: str, finite: bool = True, line: int = 1) -> Iterator[Value]:
    """Yield consecutive values of a text, with blanks or nothing between them; errors are those of
    ``parse``.

    Args:
      text: the text.
      where: name of the file, for messages and the ``field`` of errors.
      finite: whether NaN and Infinity are refused.
      line: line of the file on which the text starts.
    """
    decoder = json.JSONDecoder(
        object_pairs_hook=_members, parse_constant=_refuse if finite else None
    )
    at = 0
    while at < len(text):
        if text[at] in BLANKS:
            at += 1
            continue
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise _json_error(where, text, error.pos, error.msg, line) from None
        except (
            _Wrong,
            RecursionError,
            ValueError,
        ) as error:
            # A plain ValueError: a number has too many digits.
            reason = str(error) if isinstance(error, _Wrong) else _reason(error)
            raise _json_error(where, text, at, reason, line) from None
        if (
            text.count("[", at, end) + text.count("{", at, end) > DEEPEST
            and _depth(value) > DEEPEST
        ):
            raise _json_error(where, text, at, _reason(RecursionError()), line)
        yield Value(value, at, end)
        at = end


def replace_halves(value: Any) -> tuple[Any, int]:
    """Replace each half of a surrogate pair in a value's texts by U+FFFD; also return how many."""
    if isinstance(value, str):
        return HALF.subn("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        items = [replace_halves(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        pairs = [(replace_halves(name), replace_halves(item)) for name, item in value.items()]
        return {name: item for (name, _), (item, _) in pairs}, sum(
            a + b for (_, a), (_, b) in pairs
        )
    return value, 0


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Wrong(f"an object has two members {twice[:60]!r}")
    return found


def _refuse(constant: str) -> None:
    raise _Wrong(f"{constant} is not a JSON value; write null")


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"it is nested more than {DEEPEST} deep"
    return "a number has too many digits"


def _depth(value: Any) -> int:
    """Return the number of nested levels of lists and objects, without recursion."""
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, list | dict)]:
        depth += 1
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
    return depth


def _json_error(where: str, text: str, at: int, reason: str, line: int = 1) -> UserError:
    number = line + text.count("\n", 0, min(at, len(text.rstrip())))
    return UserError(f"line {number:,} of {where} is not JSON: {reason}", where)
