"""How documents become rows of tokens.

A row for T predictions holds T + 1 tokens: the model reads all but the last, and predicts all but
the first.

Batches hold

  tokens [B, T + 1] int32.
  loss_mask [B, T + 1] float32: 1 for a token to predict from those before it; 0 for padding and for
    the first token of a row or document, which has nothing before it. So predictions are weighted
    by loss_mask[:, 1:], and column 0 is always 0.
  segment_ids [B, T + 1] int32, packed rows only: 1, 2, … for the documents of a row, 0 for padding.
  positions [B, T + 1] int32, packed rows only: the position of a token in its document or piece.
  prefix_mask [B, T + 1] float32, for ``Prefixed`` and for conversations: 1 for tokens that are
    given and not predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

import numpy as np

from genjax import checks
from genjax.data.dataset import Batch, Split
from genjax.data.images.decode import note
from genjax.data.text.codecs import TextCodec
from genjax.data.text.corpus import Corpus
from genjax.errors import UserError, unknown_name

STARTS = 2**22  # most windows of a set; their order takes 32 MB
Long = Literal["split", "drop"]


class RowLayout(Protocol):
    """How documents are laid out in rows; a frozen dataclass, as written in configs."""

    @property
    def length(self) -> int:
        """Number of predictions in a row, T."""
        ...

    @property
    def packed(self) -> bool:
        """Whether rows hold several documents that are told apart."""
        ...

    @property
    def prefixed(self) -> bool:
        """Whether ``prefix_mask`` marks tokens that are given and not predicted."""
        ...

    @property
    def held_out(self) -> RowLayout:
        """The layout of held-out text, which predicts each token once."""
        ...

    def split(self, corpus: Corpus, codec: TextCodec, title: str = "the text") -> Split:
        """Return the rows of a corpus, which messages call ``title``."""
        ...


def _check_length(length: int) -> None:
    if not isinstance(length, int) or length < 1:
        raise UserError(f"length must be >= 1, got {length}", "length")


@checks.frozen
class RandomWindows:
    """Takes every window of T + 1 tokens as an example, so that an epoch draws random windows
    without repetition.

    Documents follow one another. If there are more than 2^22 windows, only those at every second,
    third, … token are taken, but at most T tokens apart. Held-out text is laid out in ``Blocks``.

    Attributes:
      length: number of predictions in a row, T.
    """

    length: int = 256

    prefixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_length(self.length)

    @property
    def packed(self) -> bool:
        return False

    @property
    def held_out(self) -> Blocks:
        return Blocks(self.length)

    def split(self, corpus: Corpus, codec: TextCodec, title: str = "the text") -> Windows:
        starts = len(corpus.tokens) - self.length
        if starts < 1:
            raise UserError(
                f"length must be < {len(corpus.tokens):,}, the tokens of {title}, got "
                f"{self.length:,}",
                "length",
            )
        # At most ``length`` tokens apart, so that no token is left out.
        stride = min(-(-starts // STARTS), self.length)
        return Windows(corpus, self.length, stride, -(-starts // stride), codec.pad or 0)


@checks.frozen
class Blocks:
    """Cuts the text into consecutive rows of T predictions; the last row is padded.

    Documents follow one another. Every token but the very first is predicted once.

    Attributes:
      length: number of predictions in a row, T.
    """

    length: int = 256

    prefixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_length(self.length)

    @property
    def packed(self) -> bool:
        return False

    @property
    def held_out(self) -> Blocks:
        return self

    def split(self, corpus: Corpus, codec: TextCodec, title: str = "the text") -> Windows:
        predictions = len(corpus.tokens) - 1
        if predictions < 1:
            raise UserError(f"{title} must have at least 2 tokens, got {predictions + 1}")
        return Windows(
            corpus, self.length, self.length, -(-predictions // self.length), codec.pad or 0
        )


@dataclass(frozen=True)
class Windows:
    """Rows of tokens that start ``stride`` tokens apart.

    Attributes:
      corpus: corpus of the tokens.
      length: number of predictions in a row, T.
      stride: tokens from the start of a row to the start of the next.
      count: number of rows.
      pad: token that fills positions beyond the end of the corpus.
    """

    corpus: Corpus
    length: int
    stride: int
    count: int
    pad: int = 0

    @property
    def in_memory(self) -> bool:
        return True  # or memory-mapped, which needs no workers either

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: np.ndarray) -> Batch:
        column = np.arange(self.length + 1)
        place = np.asarray(indices, np.int64)[:, None] * self.stride + column  # [B, T + 1]
        inside = place < len(self.corpus.tokens)
        tokens = self.corpus.tokens[np.where(inside, place, 0)].astype(np.int32)
        loss_mask = (inside & (column > 0)).astype(np.float32)
        return {"tokens": np.where(inside, tokens, np.int32(self.pad)), "loss_mask": loss_mask}

    def documents(self, indices: np.ndarray) -> np.ndarray:
        """Return the document of each token, [B, T + 1] int64; -1 for padding."""
        place = np.asarray(indices, np.int64)[:, None] * self.stride + np.arange(self.length + 1)
        return np.where(place < len(self.corpus.tokens), self.corpus.documents(place), -1)


@checks.frozen
class Documents:
    """Puts one document in a row, with the codec's ``start`` and ``end`` if it has them, and pads
    the row.

    Attributes:
      length: number of predictions in a row, T.
      long: what to do with a document that does not fit: "split" it over several rows, each
        starting with the last token of the one before, or "drop" it.
    """

    length: int = 64
    long: Long = "split"

    prefixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_length(self.length)
        _check_long(self.long)

    @property
    def packed(self) -> bool:
        return False

    @property
    def held_out(self) -> Documents:
        return self

    def split(self, corpus: Corpus, codec: TextCodec, title: str = "the text") -> Rows:
        runs = pieces(corpus, self.length, codec.start, self.long, title)
        return Rows(
            corpus,
            self.length,
            runs,
            np.arange(len(runs.begin) + 1),
            codec.start,
            codec.pad or 0,
            False,
        )


@checks.frozen
class Packed:
    """Puts several documents in a row, told apart by ``segment_ids`` and ``positions``: no document
    is predicted from another.

    Each document in turn goes to the row where it leaves the least room.

    Attributes:
      length: number of predictions in a row that holds a single document, T.
      long: what to do with a document that does not fit: "split" it into pieces, each starting with
        the last token of the one before, or "drop" it.
    """

    length: int = 256
    long: Long = "split"

    prefixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_length(self.length)
        _check_long(self.long)

    @property
    def packed(self) -> bool:
        return True

    @property
    def held_out(self) -> Packed:
        return self

    def split(self, corpus: Corpus, codec: TextCodec, title: str = "the text") -> Rows:
        runs = pieces(corpus, self.length, codec.start, self.long, title)
        row = best_fit(runs.size, self.length + 1)
        order = np.argsort(row, kind="stable")
        first = np.searchsorted(row[order], np.arange(row.max() + 2))
        return Rows(corpus, self.length, runs.take(order), first, codec.start, codec.pad or 0, True)


def _check_long(long: str) -> None:
    if long not in get_args(Long):
        raise unknown_name("long", long, get_args(Long))


@dataclass(frozen=True)
class Runs:
    """Runs of tokens, each of which becomes one segment.

    Attributes:
      begin: index of the first token [P] int64; if ``leads``, one less, for the start token.
      size: number of tokens [P] int64, including a start token.
      leads: bool [P], whether the run begins with the codec's start token.
    """

    begin: np.ndarray
    size: np.ndarray
    leads: np.ndarray

    def take(self, order: np.ndarray) -> Runs:
        return Runs(self.begin[order], self.size[order], self.leads[order])


def pieces(
    corpus: Corpus, length: int, start: int | None, long: Long, title: str = "the text"
) -> Runs:
    """Cut the documents into runs of at most ``length`` + 1 tokens, so that each token is predicted
    once.

    Raises:
      UserError: nothing is left to predict, or most documents would be dropped.
    """
    lead = int(start is not None)
    size = np.diff(corpus.starts) + lead  # [D]
    keep = size > 1  # a single token cannot be predicted from anything
    over = int((size > length + 1).sum())
    if long == "drop" and 2 * over > len(size):
        need = int(np.quantile(size, 0.95, method="higher")) - 1
        raise UserError(
            f"{title}: {over:,} of {len(size):,} documents are longer than {length + 1:,} tokens "
            f'and would be dropped; length={need:,} keeps 95% of them, or long="split" splits them',
            "length",
        )
    if over:
        fate = "are dropped" if long == "drop" else "are split"
        note(
            f"{title}: {over:,} of {len(size):,} documents are longer than {length + 1:,} tokens "
            f"and {fate}"
        )
    if long == "drop":
        keep &= size <= length + 1
    if not keep.any():
        raise UserError(f"{title} has no document that can be predicted")
    begin, size = np.asarray(corpus.starts[:-1])[keep] - lead, size[keep]
    parts = -(-(size - 1) // length)  # [D]
    document = np.repeat(np.arange(len(size)), parts)
    offset = (np.arange(len(document)) - np.repeat(np.cumsum(parts) - parts, parts)) * length
    part_size = np.minimum(size[document] - offset, length + 1)
    return Runs(begin[document] + offset, part_size, (offset == 0) & bool(lead))


def best_fit(size: np.ndarray, room: int) -> np.ndarray:
    """Return the row [P] int64 for each item of ``size`` [P]: the fullest row with enough room, or
    a new one.
    """
    rows = np.empty(len(size), np.int64)
    by_space: list[list[int]] = [[] for _ in range(room + 1)]
    spaces = 0  # bit s is set while some row has s tokens free
    count = 0
    for i, need in enumerate(size.tolist()):
        fitting = spaces >> need
        if fitting:
            space = need + (fitting & -fitting).bit_length() - 1
            row = by_space[space].pop()
            if not by_space[space]:
                spaces &= ~(1 << space)
        else:
            row, space, count = count, room, count + 1
        rows[i] = row
        if space > need:
            by_space[space - need].append(row)
            spaces |= 1 << (space - need)
    return rows


@dataclass(frozen=True)
class Rows:
    """Rows of one or more runs of tokens.

    Attributes:
      corpus: corpus of the tokens.
      length: number of predictions in a full row, T.
      runs: runs in the order of the rows.
      first: index of the first run of each row, then the number of runs, [R + 1] int64.
      start: token that begins documents; None if there is none.
      pad: token that fills rows.
      packed: whether batches tell segments apart.
    """

    corpus: Corpus
    length: int
    runs: Runs
    first: np.ndarray
    start: int | None
    pad: int
    packed: bool

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.first) - 1

    def batch(self, indices: np.ndarray) -> Batch:
        rows = np.asarray(indices, np.int64)
        count = self.first[rows + 1] - self.first[rows]  # runs of each row [B]
        nth = _count_within(count)  # position of each run in its row [P]
        run = np.repeat(self.first[rows], count) + nth
        size, row = self.runs.size[run], np.repeat(np.arange(len(rows)), count)
        position = _count_within(size)  # of each token in its run [N]
        filled = np.bincount(row, size, len(rows)).astype(np.int64)  # tokens of each row [B]
        place = np.repeat(np.arange(len(rows)), filled), _count_within(filled)
        leads = np.repeat(self.runs.leads[run], size) & (position == 0)
        token = self.corpus.tokens[
            np.where(leads, 0, np.repeat(self.runs.begin[run], size) + position)
        ]

        shape = len(rows), self.length + 1
        tokens, loss_mask = np.full(shape, self.pad, np.int32), np.zeros(shape, np.float32)
        tokens[place] = np.where(leads, 0 if self.start is None else self.start, token)
        loss_mask[place] = position > 0
        batch = {"tokens": tokens, "loss_mask": loss_mask}
        if self.packed:
            segment_ids, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
            segment_ids[place] = np.repeat(nth + 1, size)
            positions[place] = position
            batch |= {"segment_ids": segment_ids, "positions": positions}
        return batch

    def documents(self, indices: np.ndarray) -> np.ndarray:
        """Return the document of each token, [B, T + 1] int64; -1 for padding."""
        found = np.full((len(indices), self.length + 1), -1)
        for row, number in enumerate(np.asarray(indices, np.int64).tolist()):
            runs = slice(self.first[number], self.first[number + 1])
            size = self.runs.size[runs]
            of_run = self.corpus.documents(self.runs.begin[runs] + self.runs.leads[runs])
            found[row, : size.sum()] = np.repeat(of_run, size)
        return found


def _count_within(sizes: np.ndarray) -> np.ndarray:
    """Return 0, 1, … within each group, one group of ``sizes`` [G] after another."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
