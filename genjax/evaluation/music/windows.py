"""Overlapping windows of pieces that are longer than a row, so that all tokens have a past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genjax.data.dataset import Batch
from genjax.data.text.corpus import Corpus


@dataclass(frozen=True)
class PieceWindows:
    """Rows of T + 1 tokens of one piece each, of which only those count that no earlier row of the
    piece has.

    Batches hold ``tokens``, ``loss_mask`` and ``positions`` as layouts do; positions begin at 0 in
    each row.

    Attributes:
      corpus: the pieces, each with its end.
      length: predictions in a row, T.
      start: token that begins a piece.
      piece: number of the piece of each row [R] int64.
      begin: place of the row's first token in its piece, the start token at 0, [R] int64.
      counted: place in the row of the first token that counts, [R] int64.
    """

    corpus: Corpus
    length: int
    start: int
    piece: np.ndarray
    begin: np.ndarray
    counted: np.ndarray

    @classmethod
    def cut(cls, corpus: Corpus, length: int, stride: int, start: int) -> PieceWindows:
        """Cut pieces into rows that begin ``stride`` tokens apart, at most ``length``."""
        longer = np.maximum(np.diff(corpus.starts) - length, 0)  # tokens after the first row
        rows = 1 + -(-longer // stride)
        piece = np.repeat(np.arange(len(corpus)), rows)
        number = np.arange(len(piece)) - np.repeat(np.cumsum(rows) - rows, rows)
        counted = np.where(number == 0, 1, length - stride + 1)
        return cls(corpus, length, start, piece, number * stride, counted)

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.piece)

    def batch(self, indices: np.ndarray) -> Batch:
        rows = np.asarray(indices, np.int64)
        column = np.arange(self.length + 1)
        place = self.begin[rows, None] + column  # in the piece, [B, T + 1]
        begin, end = (self.corpus.starts[self.piece[rows] + after] for after in (0, 1))
        inside = place <= (end - begin)[:, None]
        stored = np.where(inside & (place > 0), begin[:, None] + place - 1, 0)
        tokens = np.where(place == 0, self.start, self.corpus.tokens[stored]).astype(np.int32)
        counts = inside & (column >= self.counted[rows, None])
        return {
            "tokens": np.where(inside, tokens, np.int32(self.start)),
            "loss_mask": counts.astype(np.float32),
            "positions": np.broadcast_to(column.astype(np.int32), place.shape).copy(),
        }
