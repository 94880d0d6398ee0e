"""How documents become rows of tokens.

A row for T predictions holds T + 1 tokens: it is read without its last token and predicts itself
without its first.

Batches hold

  tokens [B, T + 1] int32.
  loss_mask [B, T + 1] float32: 1 for a token that is to be predicted from those before it in its
    row, 0 for padding and for what has nothing before it, the first token of a row or of a
    document. So the predictions of a row weigh loss_mask[:, 1:], and the column before is 0.
  segment_ids [B, T + 1] int32, packed rows only: 1, 2, … for the documents of a row, 0 for padding.
  positions [B, T + 1] int32, packed rows only: of a token within its document, or its piece of one.
  prefix_mask [B, T + 1] float32, of ``Prefixed`` and of conversations: 1 for what is given, which
    is not predicted.
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

STARTS = 2**22  # windows whose order takes 32 MB
Long = Literal["split", "drop"]


class RowLayout(Protocol):
    """A choice of rows; frozen dataclasses, as written in configs."""

    @property
    def length(self) -> int:
        """Predictions in a row."""
        ...

    @property
    def packed(self) -> bool:
        """Whether rows hold several documents, distinguished."""
        ...

    @property
    def prefixed(self) -> bool:
        """Whether ``prefix_mask`` tells what is given and not predicted."""
        ...

    @property
    def held_out(self) -> RowLayout:
        """How held-out text is laid out, so that each of its tokens is predicted once."""
        ...

    def split(self, corpus: Corpus, codec: TextCodec, title: str = "the text") -> Split: ...


def _check_length(length: int) -> None:
    if not isinstance(length, int) or length < 1:
        raise UserError(f"length is {length}; a row makes at least one prediction")


@checks.frozen
class RandomWindows:
    """Every window of T + 1 tokens is an example, so an epoch in shuffled order draws windows
    without repetition.

    Documents follow on each other. Of more than 2^22 windows those at every second, third, … token
    are taken, so that there are no more, but none farther apart than T. Held-out text comes in
    ``Blocks``.

    Attributes:
      length: predictions in a row, T.
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
                f"{title} is of {len(corpus.tokens):,} tokens, too short for windows of "
                f"{self.length + 1}"
            )
        stride = min(
            -(-starts // STARTS), self.length
        )  # no farther apart, so that no token is left out
        return Windows(corpus, self.length, stride, -(-starts // stride), codec.pad or 0)


@checks.frozen
class Blocks:
    """Rows that predict T tokens after another: each but the very first is predicted once, the last
    row is filled up.

    Documents follow on each other.

    Attributes:
      length: predictions in a row, T.
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
            raise UserError(f"{title} is of one token: there is nothing to predict")
        return Windows(
            corpus, self.length, self.length, -(-predictions // self.length), codec.pad or 0
        )


@dataclass(frozen=True)
class Windows:
    """Rows of tokens that lie ``stride`` tokens apart.

    Attributes:
      corpus: whose tokens.
      length: predictions in a row, T.
      stride: tokens from the start of a row to that of the next.
      count: rows.
      pad: fills up what lies beyond the last token.
    """

    corpus: Corpus
    length: int
    stride: int
    count: int
    pad: int = 0

    @property
    def in_memory(self) -> bool:
        return True  # or mapped, which needs no workers either

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
        """The document [B, T + 1] int64 that each token is of, -1 for padding."""
        place = np.asarray(indices, np.int64)[:, None] * self.stride + np.arange(self.length + 1)
        return np.where(place < len(self.corpus.tokens), self.corpus.documents(place), -1)


@checks.frozen
class Documents:
    """One document a row, from ``start`` to ``end`` where the codec has these, filled up with
    padding.

    Attributes:
      length: predictions in a row, T.
      long: "split" what does not fit over several rows, each starting with the last token of that
        before, or "drop" it.
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
    """Several documents a row, distinguished by ``segment_ids`` and ``positions``: no document is
    predicted from another.

    Documents are taken in their order, each into the row that it leaves the least room in.

    Attributes:
      length: predictions in a row that holds one document, T.
      long: "split" what does not fit into pieces, each starting with the last token of that
        before, or "drop" it.
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
        raise unknown_name("choice for long documents", long, get_args(Long))


@dataclass(frozen=True)
class Runs:
    """Runs of tokens that make one segment each.

    Attributes:
      begin: index of the first token [P] int64; of a run that ``leads`` that of the start token put
        before it.
      size: tokens [P] int64, a start token included.
      leads: bool [P], whether the codec's start token stands first.
    """

    begin: np.ndarray
    size: np.ndarray
    leads: np.ndarray

    def take(self, order: np.ndarray) -> Runs:
        return Runs(self.begin[order], self.size[order], self.leads[order])


def pieces(
    corpus: Corpus, length: int, start: int | None, long: Long, title: str = "the text"
) -> Runs:
    """The documents as runs of at most ``length`` + 1 tokens, in which each token is predicted
    once.

    Raises:
      UserError: nothing is left to predict.
    """
    lead = int(start is not None)
    size = np.diff(corpus.starts) + lead  # [D]
    keep = size > 1  # one token alone has nothing to be predicted from
    over = int((size > length + 1).sum())
    if over:
        fate = "are dropped" if long == "drop" else "are split"
        note(
            f"{title}: {over:,} of {len(size):,} documents are longer than {length + 1:,} tokens "
            f"and {fate}"
        )
    if long == "drop":
        keep &= size <= length + 1
    if not keep.any():
        why = (
            f"; all {over:,} are longer than {length + 1:,} tokens"
            if over and long == "drop"
            else ""
        )
        raise UserError(f"no document of {title} is left to predict{why}")
    begin, size = np.asarray(corpus.starts[:-1])[keep] - lead, size[keep]
    parts = -(-(size - 1) // length)  # [D]
    document = np.repeat(np.arange(len(size)), parts)
    offset = (np.arange(len(document)) - np.repeat(np.cumsum(parts) - parts, parts)) * length
    part_size = np.minimum(size[document] - offset, length + 1)
    return Runs(begin[document] + offset, part_size, (offset == 0) & bool(lead))


def best_fit(size: np.ndarray, room: int) -> np.ndarray:
    """The row [P] int64 of each item of ``size`` [P]: the fullest that still has room for it,
    else a new one.
    """
    rows = np.empty(len(size), np.int64)
    by_space: list[list[int]] = [[] for _ in range(room + 1)]
    spaces = 0  # bit s is set while some row has s free
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
      corpus: whose tokens.
      length: predictions in a full row, T.
      runs: in the order of the rows.
      first: the first run of each row and the number of runs, [R + 1] int64.
      start: the token that leads documents.
      pad: fills rows up.
      packed: whether segments are distinguished.
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
        nth = _count_within(count)  # place of each run in its row [P]
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
        """The document [B, T + 1] int64 that each token is of, -1 for padding."""
        found = np.full((len(indices), self.length + 1), -1)
        for row, number in enumerate(np.asarray(indices, np.int64).tolist()):
            runs = slice(self.first[number], self.first[number + 1])
            size = self.runs.size[runs]
            of_run = self.corpus.documents(self.runs.begin[runs] + self.runs.leads[runs])
            found[row, : size.sum()] = np.repeat(of_run, size)
        return found


def _count_within(sizes: np.ndarray) -> np.ndarray:
    """0, 1, … within each of groups of ``sizes`` [G], one group after another."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
