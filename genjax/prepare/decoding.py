"""Decode bytes of raw files to text."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from genjax.data.tally import MARKS, whole
from genjax.errors import UserError


def decode_bytes(raw: bytes, encodings: tuple[str, ...], left: Counter[str]) -> str:
    """Decode bytes with the first encoding that fits, and remove a byte order mark.

    Args:
      raw: the bytes.
      encodings: encodings to try in turn.
      left: counts of byte order marks, and of texts in another encoding than the first.

    Raises:
      ValueError: no encoding fits.
    """
    for number, encoding in enumerate(encodings):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if number:
            left[
                f"texts read as {encoding}, as they are not {' or '.join(encodings[:number])}"
            ] += 1
        if text.startswith("\ufeff"):
            text = text.removeprefix("\ufeff")
            left[MARKS] += 1
        return whole(text, left)  # utf-7, for example, can spell half of a pair
    raise ValueError(f"not in {' or '.join(encodings)}")


def read_bytes(value: Any, encodings: tuple[str, ...], left: Counter[str]) -> Any:
    """Decode bytes in a value, also in lists and dicts; NaN becomes None, as it means missing.

    ``left`` counts both.

    Raises:
      ValueError: some bytes are not text.
    """
    if isinstance(value, bytes):
        return decode_bytes(value, encodings, left)
    if isinstance(value, float) and math.isnan(value):
        left["numbers that are NaN read as null"] += 1
        return None
    if isinstance(value, list | tuple):
        return [read_bytes(each, encodings, left) for each in value]
    if isinstance(value, dict):
        return {name: read_bytes(each, encodings, left) for name, each in value.items()}
    return value


def check_encodings(encodings: tuple[str, ...]) -> None:
    """Refuse encodings that Python does not know, or none at all, with a ``UserError``."""
    if not encodings:
        raise UserError("name at least one encoding")
    for encoding in encodings:
        try:
            b"a".decode(encoding, "replace")
        except LookupError:
            raise UserError(
                f"encodings must be ones that Python knows, such as utf-8 and cp1252, got "
                f"{encoding!r}",
                "encodings",
            ) from None
