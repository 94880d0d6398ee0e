"""Text that is shown while more of its tokens come."""

from __future__ import annotations

import numpy as np

from genjax.checks import Component
from genjax.data.text.codecs import REPLACEMENT


def decode_settled(codec: Component, ids: np.ndarray, stop: tuple[str, ...] = ()) -> str:
    """The start of the text of tokens ids [N] that no later token changes.

    Left out are the bytes of a character that is not whole yet; of a codec whose tokens are not
    spelled out one after another (words, WordPiece) the last word; and what may turn out to be the
    start of a ``stop``.
    """
    text = codec.decode(ids)
    if codec.token_bytes is None:
        text = text[: text.rfind(" ") + 1]
    text = text.rstrip(REPLACEMENT)
    held = max((n for one in stop for n in range(1, len(one)) if text.endswith(one[:n])), default=0)
    return text[: len(text) - held]
