"""Check what a record holds: types, texts that every database can store, and sizes."""

from __future__ import annotations

import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, cast

from genjax import checks
from genjax.errors import UserError
from genjax.serial.json_text import DEEPEST
from genjax.store.blobs import DIGEST
from genjax.store.records import NAMES, UNKNOWN, Payload, Record

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of surrogate pairs
MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
WHOLE = 2**63  # whole numbers must be smaller


@checks.frozen
class Limits:
    """The largest records that a store accepts.

    Attributes:
      text: most characters of a text.
      data: most bytes of a JSON value.
      content: most bytes of a blob.
      name: most characters of an id, a name, a tag and the like.
      listed: most tags, and most parents, of a record.
    """

    text: int = 10_000_000
    data: int = 10_000_000
    content: int = 2**31
    name: int = 2_000
    listed: int = 100_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "text", "data", "content", "name", "listed")


LONG = frozenset({"rationale"})  # fields of text besides payloads


def check_record(record: Record, limits: Limits) -> None:
    """Refuse a record of an unknown kind, or with a field of another type or too large.

    Raises:
      UserError: the record is invalid; the message names the field.
    """
    if type(record) not in NAMES:
        raise UserError(f"record must be of a known kind, got {type(record).__name__}", "record")
    for name, hint in _hints(cast(Any, type(record))).items():
        _check(getattr(record, name), hint, name, limits)
    if record.time is not None and record.time.tzinfo is None:
        raise UserError("time must have a time zone, as UTC has one", "time")
    if record.origin == "real" and record.generator is not None:
        raise UserError("generator must be empty of a real record", "generator")
    if record.origin == "synthetic" and record.generator is None:
        cure = f"the id of a run, or {UNKNOWN!r} where nobody knows it"
        raise UserError(f"generator of a synthetic record must be {cure}", "generator")
    for name in ("prompt", "document", "target", "run", "subject", "object"):
        if getattr(record, name, None) == "":
            raise UserError(f"{name} must be the id of a record, got ''", name)
    start, end = getattr(record, "start", 0), getattr(record, "end", 0)
    if not 0 <= start <= end:
        raise UserError(f"end must be at least start, {start}, and neither below 0", "end")


def check_text(value: str, name: str, longest: int) -> None:
    """Refuse a text that is too long or has characters that cannot be stored."""
    if len(value) > longest:
        raise UserError(
            f"{name} must have at most {longest:,} characters, got {len(value):,}", name
        )
    if (bad := UNSTORABLE.search(value)) is not None:
        what = "NUL" if bad[0] == "\0" else "half of a surrogate pair"
        raise UserError(f"{name} must be text, but character {bad.start():,} is {what}", name)


def encode_json(value: Any, name: str, largest: int) -> str:
    """Encode a JSON value as text.

    Raises:
      UserError: it is not JSON, too large or nested too deeply, or has a text that cannot be
        stored.
    """
    _check_json(value, name)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text.encode()) > largest:
        raise UserError(f"{name} must be JSON of at most {largest:,} bytes", name)
    return text


def _check_json(value: Any, name: str) -> None:
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                below += [*map(_Key, one), *one.values()]
            elif isinstance(one, list | tuple):
                below += one
            else:
                _check_plain(one, name)
        if not below:
            return
        level = below
    raise UserError(f"{name} must be nested at most {DEEPEST} deep", name)


@dataclass(frozen=True)
class _Key:
    """The name of a member, which must be a text."""

    value: Any


def _check_plain(one: Any, name: str) -> None:
    if isinstance(one, _Key):
        if not isinstance(one.value, str):
            raise UserError(f"{name} must be JSON: the names of members are texts", name)
        one = one.value
    if isinstance(one, str):
        check_text(one, name, WHOLE)
    elif isinstance(one, int) and not -WHOLE <= one < WHOLE:
        raise UserError(f"{name} must have whole numbers of at most 64 bits", name)
    elif isinstance(one, float) and not math.isfinite(one):
        raise UserError(f"{name} must have finite numbers, got {one}", name)
    elif not isinstance(one, int | float | None):
        raise UserError(f"{name} must be JSON, but holds {type(one).__name__}", name)


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _check(value: Any, hint: Any, name: str, limits: Limits) -> None:
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        if value is None:
            return
        (hint,) = (one for one in typing.get_args(hint) if one is not type(None))
        origin = typing.get_origin(hint)
    if origin is typing.Literal:
        known = typing.get_args(hint)
        right = isinstance(value, str) and value in known
        _require(right, name, f"one of {', '.join(known)}", value)
    elif hint is Payload:
        _check_payload(value, name, limits)
    elif hint is str:
        _require(isinstance(value, str), name, "a text", value)
        check_text(value, name, limits.text if name in LONG else limits.name)
    elif hint in (int, float):
        _check_number(value, hint, name)
    elif hint in (bool, datetime):
        rule = "true or false" if hint is bool else "a time"
        _require(isinstance(value, hint), name, rule, value)
    elif origin is tuple:
        _check_list(value, name, limits)
    else:
        _require(isinstance(value, Mapping), name, "a JSON object", value)
        encode_json(value, name, limits.data)


def _check_number(value: Any, hint: type, name: str) -> None:
    if hint is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        _require(whole and -WHOLE <= value < WHOLE, name, "a whole number of 64 bits", value)
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    _require(number and abs(value) < 1e308, name, "a finite number", value)


def _check_list(value: Any, name: str, limits: Limits) -> None:
    _require(isinstance(value, tuple), name, "a tuple of texts", value)
    if len(value) > limits.listed:
        raise UserError(f"{name} must be at most {limits.listed:,}, got {len(value):,}", name)
    for one in value:
        _require(isinstance(one, str) and bool(one), name, "a tuple of texts", one)
        check_text(one, name, limits.name)
    _require(len(set(value)) == len(value), name, "a tuple without repetition", value)


def _check_payload(payload: Any, name: str, limits: Limits) -> None:
    _require(isinstance(payload, Payload), name, "a Payload", payload)
    if payload.text is not None:
        _require(isinstance(payload.text, str), f"{name}.text", "a text", payload.text)
        check_text(payload.text, f"{name}.text", limits.text)
    if payload.data is not None:
        _require(
            isinstance(payload.data, Mapping | list),
            f"{name}.data",
            "a JSON object or list",
            payload.data,
        )
        encode_json(payload.data, f"{name}.data", limits.data)
    if payload.content is not None:
        _require(isinstance(payload.content, bytes), f"{name}.content", "bytes", payload.content)
        if len(payload.content) > limits.content:
            most = f"at most {limits.content:,} bytes, got {len(payload.content):,}"
            raise UserError(f"{name}.content must be {most}", f"{name}.content")
    if payload.blob is not None:
        right = isinstance(payload.blob, str) and DIGEST.fullmatch(payload.blob) is not None
        _require(right, f"{name}.blob", "a SHA-256 in hexadecimal", payload.blob)
    if payload.media_type is not None:
        right = isinstance(payload.media_type, str)
        right = right and MEDIA_TYPE.fullmatch(payload.media_type) is not None
        _require(right, f"{name}.media_type", "as image/png", payload.media_type)
    has_bytes = payload.content is not None or payload.blob is not None
    if payload.size is not None:
        _check_number(payload.size, int, f"{name}.size")
        _require(payload.size >= 0 and has_bytes, f"{name}.size", "that of bytes", payload.size)
    if has_bytes and payload.media_type is None:
        raise UserError(f"{name}.media_type must be given with bytes", f"{name}.media_type")


def _require(right: bool, name: str, rule: str, value: Any) -> None:
    if not right:
        shown = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
        raise UserError(f"{name} must be {rule}, got {shown:.100}", name)
