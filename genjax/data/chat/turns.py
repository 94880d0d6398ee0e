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
