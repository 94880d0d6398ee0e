"""Decode text for display while it is being generated."""

from __future__ import annotations

import numpy as np

from genjax.checks import Component
from genjax.data.text.codecs import REPLACEMENT


def decode_settled(codec: Component, ids: np.ndarray, stop: tuple[str, ...] = ()) -> str:
    """Return the part of the text of tokens ids [N] that no later token can change.

    It leaves out the bytes of an incomplete character; the last word, if the codec does not spell
    tokens one after another (words, WordPiece); and what may be the start of a ``stop`` text.
    """
    text = codec.decode(ids)
    if codec.token_bytes is None:
        text = text[: text.rfind(" ") + 1]
    text = text.rstrip(REPLACEMENT)
    held = max((n for one in stop for n in range(1, len(one)) if text.endswith(one[:n])), default=0)
    return text[: len(text) - held]
