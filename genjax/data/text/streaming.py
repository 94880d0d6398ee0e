"""Decode text for display while it is being generated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.checks import Component
from genjax.data.text.codecs import REPLACEMENT


def decode_settled(codec: Component, ids: np.ndarray, stop: tuple[str, ...] = ()) -> str:
    """Return the part of the text of tokens ids [N] that no later token can change.

    It leaves out the bytes of an incomplete character; the last word, if the codec does not spell
    tokens one after another (words, WordPiece); and what may be the start of a ``stop`` text.
    """
    return _settle(codec.decode(ids), codec.token_bytes is not None, stop)


class GrowingText:
    """The text of tokens that arrive a few at a time; each token is decoded about once, if the
    codec spells tokens one after another.

    Args:
      codec: codec of the tokens.
      spells: whether ``codec.token_bytes`` is known, which takes a while to find out.
      prompt: tokens [N] before the text.

    Attributes:
      text: text so far, without the prompt.
    """

    def __init__(self, codec: Component, spells: bool, prompt: np.ndarray) -> None:
        self.text = ""
        self._codec, self._spells = codec, spells
        before: str = codec.decode(prompt)
        self._ids = prompt.tolist()  # decoded together with what follows
        self._begin = len(before)  # characters of the prompt in their text
        self._done = ""  # text before them
        self._cut(before)

    def add(self, ids: Sequence[int]) -> None:
        """Add tokens to the text."""
        self._ids += ids
        text: str = self._codec.decode(np.array(self._ids, np.int32))
        self.text = self._done + text[self._begin :]
        self._cut(text)

    def settle(self, stop: tuple[str, ...] = ()) -> str:
        """Return the part of the text that no later token can change, see ``decode_settled``."""
        return _settle(self.text, self._spells, stop)

    def _cut(self, text: str) -> None:
        """Let go of tokens whose ``text`` cannot change."""
        if self._spells and not text.endswith(REPLACEMENT):
            self._ids, self._begin, self._done = [], 0, self.text


def _settle(text: str, spells: bool, stop: tuple[str, ...]) -> str:
    if not spells:
        text = text[: text.rfind(" ") + 1]
    text = text.rstrip(REPLACEMENT)
    held = max((n for one in stop for n in range(1, len(one)) if text.endswith(one[:n])), default=0)
    return text[: len(text) - held]
