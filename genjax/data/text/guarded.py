"""Encode a text that people wrote in part, so that their parts contain no special tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from genjax.data.text import aliases
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError

Span = tuple[int, int]  # first character, and the one after the last


class Tokens(NamedTuple):
    """A tokenised text.

    Attributes:
      ids: token ids int32 [N].
      offsets: span of characters of each token [N, 2].
      special: bool [N], whether a token is special, or added by a template.
    """

    ids: np.ndarray
    offsets: np.ndarray
    special: np.ndarray


def encode(codec: Subwords, text: str, people: Sequence[Span]) -> Tokens:
    """Encode a text as usual, except that special tokens in people's parts become plain letters.

    Args:
      codec: fitted codec.
      text: the whole text, the template's parts and people's.
      people: spans of people's parts, in order and disjoint.

    Raises:
      UserError: the text is outside the vocabulary, or the parts cannot be kept apart.
    """
    ids, places = codec.spell(aliases.opened(codec.tokenizer), text)
    offsets = _cores(text, places)
    inside = _within(offsets, people)
    control = _control(codec.tokenizer, ids[~inside])
    special = np.isin(ids, control)
    for place in np.flatnonzero(ids == aliases.unknown(codec.tokenizer)):
        first, last = offsets[place]
        special[place] &= text[first:last] == aliases.name(codec.tokenizer, ids[place])
    if not (special & inside).any():
        return Tokens(ids, offsets, special)
    return _encode_apart(codec, text, people, control)


def _within(offsets: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """Return which tokens share a character with one of the spans, bool [N]."""
    found = np.zeros(len(offsets), bool)
    for first, last in spans:
        found |= overlaps(offsets, first, last)
    return found


def overlaps(offsets: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return which tokens with ``offsets`` [N, 2] overlap the span from ``first`` to ``last``.

    An empty token, as some tokenizers put before a word, counts by its position.
    """
    begin, end = offsets.T
    empty = (begin == end) & (first <= begin) & (begin < last)
    return ((begin < last) & (end > first) & (begin < end)) | empty


def _control(tokenizer: str, written: np.ndarray) -> tuple[int, ...]:
    """Return the ids that people may not write: special tokens, and added tokens that a template
    writes.
    """
    added = aliases.added(tokenizer)
    known = {i for i, token in added.items() if token.special}
    ours = set(written.tolist()) & added.keys()
    return tuple(sorted(known | {i for i in ours if not added[i].content.isspace()}))


def _cores(text: str, offsets: Sequence[Span]) -> np.ndarray:
    """Return offsets [N, 2] without the blanks that some special tokens absorb."""
    cores = np.array(offsets, np.int64).reshape(-1, 2)
    for number, (first, last) in enumerate(offsets):
        if last - first > 1 and (text[first].isspace() or text[last - 1].isspace()):
            part = text[first:last]
            if part.strip():
                cores[number] = (
                    last - len(part.lstrip()),
                    first + len(part.rstrip()),
                )
    return cores


def _encode_apart(
    codec: Subwords,
    text: str,
    people: Sequence[Span],
    control: tuple[int, ...],
) -> Tokens:
    """Encode with a tokenizer whose special tokens have names that nobody can write.

    The text is encoded as a whole, so that the text around a piece affects it as usual.
    """
    guard, first = aliases.guarded(codec.tokenizer, control, text)
    places = list(_written(codec, text, people, control))
    parts, origin, at = [], [], 0
    for number, begin, end in places:
        alias = aliases.alias(first, number)
        parts += [text[at:begin], alias]
        origin += [*range(at, begin), *([begin] * len(alias))]
        at = end
    parts.append(text[at:])
    origin += [*range(at, len(text) + 1)]
    apart = "".join(parts)
    raw, spelt = codec.spell(guard.tokenizer, apart, guard.unknown)
    ids = np.array([guard.ids.get(i, i) for i in raw.tolist()], np.int32)
    special = np.isin(raw, sorted(guard.control))
    if [number for number, _, _ in places] != ids[special].tolist():
        raise UserError("what the template writes and what people write cannot be kept apart")
    where = np.array(origin, np.int64)
    offsets = where[_cores(apart, spelt)]
    offsets[special] = [(begin, end) for _, begin, end in places]
    return Tokens(ids, offsets, special)


def _written(
    codec: Subwords, text: str, people: Sequence[Span], control: tuple[int, ...]
) -> Iterator[tuple[int, int, int]]:
    """Yield the id and span of each special token in the parts that people did not write."""
    opened, unknown = aliases.opened(codec.tokenizer), aliases.unknown(codec.tokenizer)
    at = 0
    for begin, end in [*people, (len(text), len(text))]:
        part = text[at:begin]
        ids, places = codec.spell(opened, part)
        for number, (first, last) in zip(ids.tolist(), _cores(part, places), strict=True):
            said = number != unknown or part[first:last] == aliases.name(codec.tokenizer, number)
            if number in control and said:
                yield number, at + int(first), at + int(last)
        at = end
