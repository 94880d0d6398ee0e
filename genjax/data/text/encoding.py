"""Encode many pieces of text on all cores, in order and with bounded memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from genjax.data.text.codecs import TextCodec
from genjax.data.text.documents import Piece
from genjax.errors import UserError
from genjax.machine.children import count_cores, spread

BATCH = 2**21  # characters for each core that are encoded together
ALONE = 20_000_000  # characters that this process encodes by itself before it starts children

Encoded = tuple[list[Piece], list[np.ndarray] | None]


@runtime_checkable
class EncodesAll(Protocol):
    """A codec that encodes several texts at once on all cores."""

    def encode_all(self, texts: list[str]) -> list[np.ndarray]:
        """Return what ``encode`` returns for each text."""
        ...


@dataclass(frozen=True)
class _EachText:
    """Encodes the pieces of a batch; None if one of them cannot be encoded."""

    codec: TextCodec

    def __call__(self, batch: list[Piece]) -> Encoded:
        try:
            return batch, [self.codec.encode(piece.text) for piece in batch]
        except UserError:  # it is encoded again, where the error can be placed
            return batch, None


def encode_pieces(
    pieces: Iterable[Piece], codec: TextCodec
) -> Generator[tuple[Piece, np.ndarray | None], None, None]:
    """Yield each piece with its tokens [N] int32; None instead of the tokens of a batch in which a
    piece cannot be encoded.

    ``encode_all`` works while the next batch is read. Other codecs work in this process at first,
    and for long texts in child processes.
    """
    each = _EachText(codec)
    if isinstance(codec, EncodesAll):
        encoded = _encode_ahead(_batch(pieces, BATCH * count_cores()), codec)
    else:
        pieces = iter(pieces)
        first: Iterator[Encoded] = map(each, ([piece] for piece in _take(pieces, ALONE)))
        encoded = itertools.chain(first, _spread_later(each, _batch(pieces, BATCH)))
    for batch, tokens in encoded:
        for number, piece in enumerate(batch):
            yield piece, None if tokens is None else tokens[number]


def _take(pieces: Iterator[Piece], characters: int) -> Iterator[Piece]:
    """Yield the first pieces until they have so many characters."""
    for piece in pieces:
        yield piece
        characters -= len(piece.text)
        if characters <= 0:
            return


def _spread_later(each: _EachText, batches: Iterator[list[Piece]]) -> Iterator[Encoded]:
    """Encode the remaining batches in children, which start only if there are any."""
    for batch in batches:
        with contextlib.closing(spread(each, itertools.chain([batch], batches))) as found:
            yield from found


def _encode_ahead(batches: Iterator[list[Piece]], codec: EncodesAll) -> Iterator[Encoded]:
    """Encode a batch in a thread while the next one is read."""

    def encode(batch: list[Piece]) -> Encoded:
        try:
            return batch, codec.encode_all([piece.text for piece in batch])
        except UserError:
            return batch, None

    with ThreadPoolExecutor(1, "encoding") as pool:
        waiting: Future[Encoded] | None = None
        for batch in batches:
            later = pool.submit(encode, batch)
            if waiting is not None:
                yield waiting.result()
            waiting = later
        if waiting is not None:
            yield waiting.result()


def _batch(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """Yield lists of pieces of about ``size`` characters."""
    batch: list[Piece] = []
    characters = 0
    for piece in pieces:
        batch.append(piece)
        characters += len(piece.text) + 1
        if characters >= size:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
