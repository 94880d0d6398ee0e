"""Rows whose first part is given and whose rest is predicted, for prefix LMs and for prompts with
answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from genjax import checks
from genjax.data.dataset import Batch, Split
from genjax.data.images.decode import note
from genjax.data.text.codecs import TextCodec, Unencodable
from genjax.data.text.corpus import Corpus
from genjax.data.text.layouts import Documents, Packed, RowLayout
from genjax.errors import UserError


@checks.frozen
class Prefixed:
    """Gives each document of another layout a prefix that is not predicted.

    Without ``until`` the prefix of a document of M tokens, or of a row that does not tell documents
    apart, has a uniformly random length of 1 to M - 1 tokens (Raffel et al., arXiv 1910.10683,
    section 3.2.3). The length is a function of ``seed`` and the row, the same in every epoch;
    ``RandomWindows`` shows each token in many rows.

    With ``until`` a document is a prompt and its answer, and the prefix ends with the first
    occurrence of that text. A document without it has no prefix.

    Attributes:
      layout: layout of the rows; with ``until`` it must be ``Documents`` or ``Packed`` with
        long="drop", because a part of a document may lack its prompt.
      until: text that ends a prompt, such as a new line; None for random lengths.
      seed: seed of the random lengths.
    """

    prefixed: ClassVar[bool] = True

    layout: Any = Packed()
    until: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if getattr(self.layout, "prefixed", True):
            raise UserError(
                "Prefixed.layout must be RandomWindows, Blocks, Documents or Packed, got "
                f"{self.layout}",
                "layout",
            )
        checks.at_least(self, 0, "seed")
        if self.until == "":
            raise UserError(f"Prefixed.until must be a text or None, got {self.until!r}", "until")
        if self.until is not None and not (
            isinstance(self.layout, Documents | Packed) and self.layout.long == "drop"
        ):
            raise UserError(
                "Prefixed.layout must be Documents or Packed with long='drop' to use until, got "
                f"{self.layout}",
                "layout",
            )

    @property
    def length(self) -> int:
        return self.layout.length

    @property
    def packed(self) -> bool:
        return self.layout.packed

    @property
    def held_out(self) -> RowLayout:
        return Prefixed(self.layout.held_out, self.until, self.seed)

    def split(self, corpus: Corpus, codec: TextCodec, title: str = "the text") -> PrefixedRows:
        """Lay out rows with prefixes.

        Raises:
          UserError: ``until`` is outside the vocabulary, or in no document.
        """
        ending = () if self.until is None else _ending(self.until, corpus, codec, title)
        return PrefixedRows(corpus, self.layout.split(corpus, codec, title), ending, self.seed)


@dataclass(frozen=True)
class PrefixedRows:
    """Rows with a ``prefix_mask``.

    Attributes:
      corpus: corpus of the tokens.
      rows: rows of the layout, without prefixes.
      ending: tokens that end a prefix; () for random lengths.
      seed: seed of the random lengths.
    """

    corpus: Corpus
    rows: Split
    ending: tuple[int, ...]
    seed: int

    @property
    def in_memory(self) -> bool:
        return self.rows.in_memory

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Batch:
        batch = self.rows.batch(indices)
        segments, positions = _split_segments(batch)
        rows = np.broadcast_to(np.arange(len(segments))[:, None], segments.shape)
        if self.ending:
            sizes = self._find_prefixes(batch["tokens"], segments, positions, rows)
        else:
            sizes = self._draw_prefixes(np.asarray(indices), segments, rows)
        prefix = (positions < sizes[rows, segments]) & (segments > 0)
        loss_mask = batch["loss_mask"] * ~prefix
        return {
            **batch,
            "loss_mask": loss_mask.astype(np.float32),
            "prefix_mask": prefix.astype(np.float32),
        }

    def _draw_prefixes(
        self, indices: np.ndarray, segments: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Draw the prefix length of each segment [B, S], with a column for padding."""
        count = int(segments.max()) + 1
        tokens = np.zeros((len(segments), count), np.int64)
        np.add.at(tokens, (rows, segments), 1)
        # Each row has its own generator, so that its prefixes do not depend on the rest of the
        # batch.
        shares = [
            np.random.default_rng((self.seed, int(index))).random(segments.shape[1])
            for index in indices
        ]
        return 1 + np.floor(np.stack(shares)[:, :count] * (tokens - 1)).astype(np.int64)

    def _find_prefixes(
        self, tokens: np.ndarray, segments: np.ndarray, positions: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Return the prefix length of each segment [B, S], up to the ending; 0 without one."""
        last = len(self.ending) - 1
        found = segments > 0
        for back, token in enumerate(reversed(self.ending)):
            found &= (np.roll(tokens, back, 1) == token) & (np.roll(segments, back, 1) == segments)
        found &= positions >= last
        never = segments.shape[1] + 1
        sizes = np.full((len(segments), int(segments.max()) + 1), never)
        np.minimum.at(sizes, (rows[found], segments[found]), positions[found] + 1)
        return np.where(sizes == never, 0, sizes)


def _split_segments(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return the segment of each token, 0 for padding, and its position there, int [B, T + 1]."""
    if "segment_ids" in batch:
        return batch["segment_ids"], batch["positions"]
    # Up to the last token that is predicted.
    real = np.cumsum(batch["loss_mask"][:, ::-1], 1)[:, ::-1] > 0
    return real.astype(np.int32), np.broadcast_to(np.arange(real.shape[1]), real.shape)


def _ending(until: str, corpus: Corpus, codec: TextCodec, title: str) -> tuple[int, ...]:
    """Return the tokens of the text that ends a prompt; print how many documents lack it."""
    try:
        ending = tuple(codec.encode(until).tolist())
    except Unencodable as error:
        raise error.shift(0, "Prefixed.until") from None
    except TypeError:
        raise UserError(
            f"Prefixed.until must be None for {type(codec).__name__}, which does not encode text",
            "until",
        ) from None
    if not ending:
        raise UserError(
            f"Prefixed.until must be at least one token of {type(codec).__name__}, got {until!r}",
            "until",
        )
    begins = np.flatnonzero(corpus.tokens == ending[0])
    for ahead, token in enumerate(ending[1:], 1):
        begins = begins[begins + ahead < len(corpus.tokens)]
        begins = begins[corpus.tokens[begins + ahead] == token]
    document = np.searchsorted(corpus.starts, begins, "right") - 1
    document = document[begins + len(ending) <= corpus.starts[document + 1]]
    without = len(corpus) - len(np.unique(document))
    if without == len(corpus):
        raise UserError(
            f"Prefixed.until must occur in a document of {title}, got {until!r}", "until"
        )
    if without:
        note(
            f"{title}: {without:,} of {len(corpus):,} documents do not contain {until!r} and have "
            "no prefix"
        )
    return ending
