"""Bytes of raw files to text."""

from __future__ import annotations

from typing import Any

from genjax.errors import UserError


def decoded(raw: bytes, encodings: tuple[str, ...]) -> str:
    """The text in the first encoding that fits; a ValueError tells that none does."""
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError(f"not in {' or '.join(encodings)}")


def read_bytes(value: Any, encodings: tuple[str, ...]) -> Any:
    """A value with text in the place of bytes, however deep they lie; a ValueError tells that some are no text."""
    if isinstance(value, bytes):
        return decoded(value, encodings).removeprefix("\ufeff")
    if isinstance(value, list | tuple):
        return [read_bytes(each, encodings) for each in value]
    if isinstance(value, dict):
        return {name: read_bytes(each, encodings) for name, each in value.items()}
    return value


def check_encodings(encodings: tuple[str, ...]) -> None:
    """Refuse encodings that Python does not know, or none at all, with a ``UserError``."""
    if not encodings:
        raise UserError("name at least one encoding")
    for encoding in encodings:
        try:
            b"a".decode(encoding, "replace")
        except LookupError:
            raise UserError(f"there is no encoding {encoding!r}; utf-8 and cp1252 are two") from None
