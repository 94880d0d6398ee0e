"""Turns of a conversation, and a conversation in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Turn(NamedTuple):
    """One message of a conversation: its ``role`` and its ``text``."""

    role: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """A tokenised conversation.

    Attributes:
      tokens: tokens int32 [N], including the codec's start if it has one.
      learned: bool [N], whether a token is in an assistant's turn or ends one.
    """

    tokens: np.ndarray
    learned: np.ndarray

    def truncate(self, room: int) -> Conversation:
        """Keep the first ``room`` tokens up to the last learned one; at least one must be
        learned.
        """
        last = int(np.flatnonzero(self.learned[:room])[-1]) + 1
        return Conversation(self.tokens[:last], self.learned[:last])

    def shorten(self, skip: int, lead: bool) -> Conversation:
        """Drop ``skip`` tokens at the beginning; with ``lead`` the codec's start stays first."""
        kept = np.r_[: int(lead and skip > 0), skip + int(lead and skip > 0) : len(self.tokens)]
        return Conversation(self.tokens[kept], self.learned[kept])


def excess(prompt: int, answer: int, room: int, lead: bool) -> int:
    """Return how many tokens to drop at the beginning of a prompt so that its answer fits in a row.

    A prompt keeps at least half of the row, even if the answer then loses its end.

    Args:
      prompt: number of tokens of the prompt.
      answer: number of tokens of the answer.
      room: number of tokens of a row.
      lead: whether the prompt begins with the codec's start, which stays.
    """
    kept = max(room - answer, room // 2, int(lead))
    return max(prompt - kept, 0)
