"""Filters on the fields of records, parsed from a short text into typed values.

A filter is a tree of ``Compare``, ``All``, ``Any_`` and ``Not``. Each engine translates the tree
into its own language with bound values, so that user input is never inserted into a query.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from genjax import checks
from genjax.errors import UserError

Value: TypeAlias = str | int | float | bool | datetime | None
Op: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", ":"]
LONGEST = 10_000  # most characters of a filter
DEEPEST = 30  # most nested brackets

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<op>!=|<=|>=|[=<>:])
    | (?P<bracket>[()])
    | "(?P<text>(?:[^"\\]|\\.)*)"
    | (?P<word>[^\s()=<>:!"]+)
    )""",
    re.VERBOSE,
)
_FIELD = re.compile(r"[A-Za-z_]\w*(\.[\w-]+)*")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}")


@checks.frozen
class Compare:
    """Compares a field with a value.

    Attributes:
      field: name of a field, or "metadata." and a key.
      op: "=", "!=", "<", "<=", ">", ">=", or ":" for a list or text that contains the value.
      value: value to compare with; None stands for a missing value, only with "=" and "!=". A
        missing field is unequal to every value, and neither above nor below one.
    """

    field: str
    op: Op
    value: Value

    def __post_init__(self) -> None:
        if not _FIELD.fullmatch(self.field):
            raise UserError(f"filter: {self.field!r} cannot be the name of a field", "filter")
        if not isinstance(self.value, str | int | float | datetime | None):
            kind = type(self.value).__name__
            raise UserError(f"filter: value must be a text, number or time, got {kind}", "value")
        if self.value is None and self.op not in ("=", "!="):
            raise UserError(f"filter: null goes with = and != alone, got {self.op!r}", "filter")


@dataclass(frozen=True)
class All:
    """Is true if every part is true, also without parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Any_:
    """Is true if at least one part is true; false without parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """Is true if its part is false."""

    part: Filter


Filter: TypeAlias = Compare | All | Any_ | Not


def parse_filter(text: str) -> Filter:
    """Parse a filter such as ``kind=response (tags:poem or score>=0.5) not metadata.lang=de``.

    Adjacent terms must all be true; "or" binds more weakly, "not" more strongly, brackets group. A
    value is a number, true, false, null, an ISO 8601 date or time (UTC by default), or a text, in
    double quotes if it contains a blank or sign or looks like one of the others.

    Raises:
      UserError: the filter is invalid; the message names the place.
    """
    if len(text) > LONGEST:
        raise UserError(f"filter must have at most {LONGEST} characters, got {len(text)}", "filter")
    return _Parser(text).parse()


class _Parser:
    """Reads one text by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []  # kind, text, place
        self._next, self._depth, at = 0, 0, 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise self._refuse("cannot be read", at)
            self._tokens.append((found.lastgroup, found[found.lastgroup], found.start()))
            at = found.end()

    def parse(self) -> Filter:
        if not self._tokens:
            return All(())
        result = self._read_or()
        if self._next < len(self._tokens):
            raise self._refuse("is one bracket too many", self._tokens[self._next][2])
        return result

    def _read_or(self) -> Filter:
        parts = [self._read_and()]
        while self._is_word("or"):
            self._next += 1
            parts.append(self._read_and())
        return parts[0] if len(parts) == 1 else Any_(tuple(parts))

    def _read_and(self) -> Filter:
        parts = [self._read_term()]
        while self._next < len(self._tokens) and not self._is_word("or"):
            if self._tokens[self._next][:2] == ("bracket", ")"):
                break
            self._next += self._is_word("and")
            parts.append(self._read_term())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _read_term(self) -> Filter:
        if self._is_word("not"):
            self._next += 1
            self._go_deeper()
            result: Filter = Not(self._read_term())
            self._depth -= 1
            return result
        if self._next < len(self._tokens) and self._tokens[self._next][:2] == ("bracket", "("):
            self._next += 1
            self._go_deeper()
            result = self._read_or()
            self._depth -= 1
            if self._take("a closing bracket")[:2] != ("bracket", ")"):
                raise self._refuse("misses a closing bracket", len(self._text))
            return result
        kind, field, at = self._take("the name of a field")
        if kind != "word" or not _FIELD.fullmatch(field):
            raise self._refuse("should be the name of a field", at)
        kind, op, at = self._take("one of = != < <= > >= :")
        if kind != "op":
            raise self._refuse("should be one of = != < <= > >= :", at)
        kind, value, at = self._take("a value")
        if kind not in ("text", "word"):
            raise self._refuse("should be a value", at)
        read = re.sub(r"\\(.)", r"\1", value) if kind == "text" else self._read_value(value, at)
        return Compare(field, op, read)  # type: ignore[arg-type]

    def _read_value(self, word: str, at: int) -> Value:
        if word in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[word]
        if _NUMBER.fullmatch(word):
            number = int(word) if re.fullmatch(r"[+-]?\d{1,18}", word) else float(word)
            if not math.isfinite(number):
                raise self._refuse("is beyond the largest number", at)
            return number
        if _TIME.match(word):
            return self._read_time(word, at)
        return word

    def _read_time(self, word: str, at: int) -> datetime:
        # The colons of a time were read as operators: join its parts again.
        while self._next + 1 < len(self._tokens) and self._tokens[self._next][1] == ":":
            word += ":" + self._tokens[self._next + 1][1]
            self._next += 2
        try:
            time = datetime.fromisoformat(word)
        except ValueError:
            raise self._refuse("is not a time of ISO 8601", at) from None
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)

    def _is_word(self, word: str) -> bool:
        return self._next < len(self._tokens) and self._tokens[self._next][:2] == ("word", word)

    def _take(self, wanted: str) -> tuple[str, str, int]:
        if self._next == len(self._tokens):
            raise self._refuse(f"misses {wanted}", len(self._text))
        self._next += 1
        return self._tokens[self._next - 1]

    def _go_deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UserError(f"filter: at most {DEEPEST} brackets within each other", "filter")

    def _refuse(self, what: str, at: int) -> UserError:
        place = self._text[at:].strip()[:30] or "its end"
        return UserError(f"filter: {place!r} {what}", "filter")
