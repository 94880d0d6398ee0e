"""Encode the fields of entries as texts that sort like their values, and filters as tests of them.

Each value becomes a text: a letter for its type, and a form that sorts like the values. So every
engine only needs six comparisons of texts and "contains", and all engines agree about integers,
floats, times, missing values and values of another type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, TypeAlias

from genjax.errors import UserError
from genjax.store.filters import All, Any_, Compare, Filter, Not

Scalar: TypeAlias = str | int | float | bool | datetime
FieldValue: TypeAlias = Scalar | tuple[Scalar, ...]
TestOp: TypeAlias = Literal["present", "=", "<", "<=", ">", ">=", "contains", "has"]
TEXT = "text"  # the field of the entry's text, which engines store unchanged, not as a fact
BETWEEN = "\x1f"  # around the items of a list
_MIDDLE = 5000  # added to exponents, so that they have four digits and one sign


@dataclass(frozen=True)
class Test:
    """Tests one fact; the test fails if the fact is missing.

    Attributes:
      field: its name; ``TEXT`` for the entry's text, whose value is compared as it is.
      op: a comparison with ``value`` by the order of code points; "contains" for a text that has
        the value within, "has" for a list that has the encoded value as an item, "present" for a
        fact that is there.
      value: an encoded value; of "contains" the plain text.
    """

    __test__ = False  # tells pytest that this is not a class of tests

    field: str
    op: TestOp
    value: str = ""


@dataclass(frozen=True)
class Every:
    """Is true if every part is true."""

    parts: tuple[Where, ...]


@dataclass(frozen=True)
class Some:
    """Is true if at least one part is true."""

    parts: tuple[Where, ...]


@dataclass(frozen=True)
class Except:
    """Is true if its part is false."""

    part: Where


Where: TypeAlias = Test | Every | Some | Except
NOWHERE = Some(())


def check_text(text: str, field: str) -> None:
    """Refuse a text that holds NUL or cannot be written as UTF-8."""
    if "\0" in text:
        raise UserError(f"{field} must not hold the character NUL, got {text[:40]!r}", field)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        part = text[max(error.start - 10, 0) : error.end + 10]
        raise UserError(f"{field} must be valid Unicode, got {part!r}", field) from None


def encode(value: FieldValue, field: str = "field") -> str | None:
    """Encode a value; None for NaN, which equals nothing and so counts as missing.

    Raises:
      UserError: the value has an unsupported type, or a text has NUL or is not valid Unicode.
    """
    if isinstance(value, bool):
        return "btrue" if value else "bfalse"
    if isinstance(value, int | float):
        return _encode_number(value)
    if isinstance(value, datetime):
        time = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return "t" + time.replace(tzinfo=None).isoformat(timespec="microseconds")
    if isinstance(value, str):
        check_text(value, field)
        return "s" + value
    if isinstance(value, tuple | list):
        items = [encode(item, field) for item in value]
        return f"l{BETWEEN}" + "".join(f"{_as_item(item)}{BETWEEN}" for item in items if item)
    raise UserError(
        f"{field} must be a text, number, truth value, time or tuple of them, got {value!r}", field
    )


def encode_all(fields: Mapping[str, FieldValue]) -> dict[str, str]:
    """Return the texts of all values that are not missing."""
    found = {name: encode(value, name) for name, value in fields.items() if value is not None}
    for name in found:
        check_text(name, "field")
    return {name: text for name, text in found.items() if text is not None}


def compile_filter(tree: Filter) -> Where:
    """Translate a filter into tests of encoded values.

    Raises:
      UserError: a value holds NUL or is not valid Unicode.
    """
    if isinstance(tree, All):
        return Every(tuple(map(compile_filter, tree.parts)))
    if isinstance(tree, Any_):
        return Some(tuple(map(compile_filter, tree.parts)))
    if isinstance(tree, Not):
        return Except(compile_filter(tree.part))
    if isinstance(tree.value, str):
        check_text(tree.value, "filter")
    if tree.value is None:
        there = Test(tree.field, "present")
        return Except(there) if tree.op == "=" else there
    if tree.op == "!=":
        return Except(_compile_compare(Compare(tree.field, "=", tree.value)))
    return _compile_compare(tree)


def holds(where: Where, text: str, facts: Mapping[str, str]) -> bool:
    """Return whether an entry passes the tests; every engine must agree with this."""
    if isinstance(where, Every):
        return all(holds(part, text, facts) for part in where.parts)
    if isinstance(where, Some):
        return any(holds(part, text, facts) for part in where.parts)
    if isinstance(where, Except):
        return not holds(where.part, text, facts)
    found = text if where.field == TEXT else facts.get(where.field)
    if found is None:
        return False
    if where.field != TEXT and where.op in ("contains", "has"):
        kind, found = found[:1], found[1:]
        if kind != ("s" if where.op == "contains" else "l"):
            return False
    value = as_member(where.value) if where.op == "has" else where.value
    tests = {
        "present": True,
        "=": found == value,
        "<": found < value,
        "<=": found <= value,
        ">": found > value,
        ">=": found >= value,
        "contains": value in found,
        "has": value in found,
    }
    return tests[where.op]


def as_member(value: str) -> str:
    """Return the form of an encoded value within an encoded list."""
    return f"{BETWEEN}{_as_item(value)}{BETWEEN}"


def _as_item(text: str) -> str:
    return text.replace(BETWEEN, "\ufffd")


def _compile_compare(compare: Compare) -> Where:
    value, op = compare.value, compare.op
    assert value is not None and op != "!="
    if compare.field == TEXT:
        if not isinstance(value, str):
            return NOWHERE
        return Test(TEXT, "contains" if op == ":" else op, value)
    coded = encode(value)
    if coded is None:
        return NOWHERE
    if op == ":":
        listed = Test(compare.field, "has", coded)
        within = Test(compare.field, "contains", value) if isinstance(value, str) else NOWHERE
        return Some((listed, within))
    if op == "=":
        return Test(compare.field, "=", coded)
    # Only values of the same type are ordered: their texts start with the same letter.
    kind = coded[0]
    if op in ("<", "<="):
        bound = Test(compare.field, ">=", kind)
    else:
        bound = Test(compare.field, "<", chr(ord(kind) + 1))
    return Every((Test(compare.field, op, coded), bound))


def _encode_number(value: int | float) -> str | None:
    """Return a text of digits in the order of the numbers: sign, exponent, digits.

    The digits of a negative number are taken from 9 and end in a sign above all digits.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "n3" if value > 0 else "n-"
    whole = isinstance(value, int) or value.is_integer()
    number = Decimal(int(value)) if whole else Decimal(repr(value))
    if not number:
        return "n1"
    if number.adjusted() >= _MIDDLE:  # has thousands of digits: treated as infinite
        return "n3" if value > 0 else "n-"
    digits = "".join(map(str, number.as_tuple().digits)).rstrip("0")
    positive = f"{number.adjusted() + _MIDDLE:04d}{digits}"
    if value > 0:
        return f"n2{positive}"
    return "n0" + "".join(str(9 - int(digit)) for digit in positive) + "~"
