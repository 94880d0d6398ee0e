"""Turns of a conversation, and a conversation in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Turn(NamedTuple):
    """What one side says: ``role`` and ``text``."""

    role: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """A conversation in tokens.

    Attributes:
      tokens: int32 [N], from the codec's start on where it has one.
      learned: bool [N], the assistant's turns and the end after each of them.
    """

    tokens: np.ndarray
    learned: np.ndarray

    def truncate(self, room: int) -> Conversation:
        """Up to the last token that is learned of the first ``room``, at least one of which is."""
        last = int(np.flatnonzero(self.learned[:room])[-1]) + 1
        return Conversation(self.tokens[:last], self.learned[:last])

    def shorten(self, skip: int, lead: bool) -> Conversation:
        """Without so many tokens of its beginning; a ``lead``, the codec's start, stays first."""
        kept = np.r_[: int(lead and skip > 0), skip + int(lead and skip > 0) : len(self.tokens)]
        return Conversation(self.tokens[kept], self.learned[kept])


def excess(prompt: int, answer: int, room: int, lead: bool) -> int:
    """How many tokens a prompt loses at its beginning so that an answer fits into a row after it.

    A prompt keeps half of the row at least, so that a long answer leaves it something; then the
    answer loses its end.

    Args:
      prompt: its tokens.
      answer: those of the answer.
      room: those of the row.
      lead: whether the first token of the prompt is the codec's start, which stays.
    """
    kept = max(room - answer, room // 2, int(lead))
    return max(prompt - kept, 0)
