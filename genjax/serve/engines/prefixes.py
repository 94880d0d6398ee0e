"""The keys and values of recent prompts are kept, so that a shared system prompt is read only
once.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from genjax.serve.engines.slots import Slots

LEAST = 16  # fewest shared tokens that are reused


@dataclass(frozen=True, eq=False)
class Kept:
    """A prompt that was read: its tokens and its row [1]."""

    tokens: np.ndarray
    row: Slots


class Prefixes:
    """A cache of the most recently used prompts; the least recently used is dropped first.

    Args:
      most: maximum number of prompts; 0 for none.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._numbers = itertools.count()
        self.hits = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, prompt: np.ndarray) -> tuple[Kept | None, int]:
        """Return the kept prompt that shares the longest prefix with ``prompt``, and the length of
        that prefix in tokens; the last token of a prompt is never part of it.
        """
        best, shared = None, LEAST - 1
        for number, kept in self._kept.items():
            count = min(len(kept.tokens), len(prompt) - 1)
            differ = np.flatnonzero(kept.tokens[:count] != prompt[:count])
            common = int(differ[0]) if len(differ) else count
            if common > shared:
                best, shared = number, common
        if best is None:
            return None, 0
        self._kept.move_to_end(best)
        return self._kept[best], shared

    def keep(self, prompt: np.ndarray, row: Slots) -> None:
        """Keep a prompt that was read; it replaces kept prompts that are prefixes of it."""
        if not self.most or len(prompt) < LEAST:
            return
        for number, kept in list(self._kept.items()):
            size = len(kept.tokens)
            if size <= len(prompt) and (kept.tokens == prompt[:size]).all():
                del self._kept[number]
        self._kept[next(self._numbers)] = Kept(prompt, row)
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
