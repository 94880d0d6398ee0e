"""Tokens of a text of which people wrote parts: special tokens come from the other parts alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from genjax.data.subwords import Subwords
from genjax.errors import UserError

Span = tuple[int, int]  # of characters, the second one excluded
BRACKETS = range(0xE000, 0xF8FF, 2)  # private-use characters; two of them stand around an alias
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")  # how an added token is found in a text


class Tokens(NamedTuple):
    """A text in tokens.

    Attributes:
      ids: int32 [N].
      offsets: of each token the characters [N, 2] that it is of.
      special: bool [N], whether it is a special token, or one of a template's own.
    """

    ids: np.ndarray
    offsets: np.ndarray
    special: np.ndarray


def encode(codec: Subwords, text: str, people: Sequence[Span]) -> Tokens:
    """The tokens of a text: those of the whole tokenizer where people write none of its special ones.

    Where they do, what they wrote is encoded as the letters that it is.

    Args:
      codec: with a vocabulary.
      text: template and people's parts together.
      people: the spans of people's parts, in order and disjoint.

    Raises:
      UserError: text outside the vocabulary, or that cannot be kept apart from the template's.
    """
    ids, places = codec.spell(_opened(codec.tokenizer), text)
    offsets = _cores(text, places)
    inside = _within(offsets, people)
    control = _control(codec.tokenizer, ids[~inside])
    special = np.isin(ids, control)
    forged = zip(ids[special & inside], offsets[special & inside], strict=True)
    if all(_stands_for_unknown(codec.tokenizer, i, text[a:b]) for i, (a, b) in forged):
        return Tokens(ids, offsets, special)
    return _encode_apart(codec, text, people, control)


def _within(offsets: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """Which tokens [N] share a character with one of the spans."""
    found = np.zeros(len(offsets), bool)
    for first, last in spans:
        found |= overlaps(offsets, first, last)
    return found


def overlaps(offsets: np.ndarray, first: int, last: int) -> np.ndarray:
    """Which tokens [N] of offsets [N, 2] are of characters from ``first`` to before ``last``.

    One of no character, as some tokenizers put before a word, is of the place where it stands.
    """
    begin, end = offsets.T
    empty = (begin == end) & (first <= begin) & (begin < last)
    return ((begin < last) & (end > first) & (begin < end)) | empty


def _control(tokenizer: str, written: np.ndarray) -> tuple[int, ...]:
    """The ids that people may not write: special tokens, and added ones that a template writes."""
    added = _added(tokenizer)
    known = {i for i, token in added.items() if token.special}
    ours = set(written.tolist()) & added.keys()
    return tuple(sorted(known | {i for i in ours if not added[i].content.isspace()}))


def _stands_for_unknown(tokenizer: str, number: int, said: str) -> bool:
    """Whether a token is there because the vocabulary cannot spell a text, not by its own name."""
    return number == _unknown(tokenizer) and said != _opened(tokenizer).id_to_token(number)


def _cores(text: str, offsets: Sequence[Span]) -> np.ndarray:
    """Offsets [N, 2] without the blanks that some special tokens take from beside them."""
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
    """As ``encode``, by a tokenizer in which special tokens have names that nobody can write.

    The text is encoded as a whole, so that what surrounds a piece has the effect that it has in
    any text.
    """
    free = iter(BRACKETS)
    first = next((p for p in free if chr(p) not in text and chr(p + 1) not in text), None)
    if first is None:
        raise UserError("the text holds all private-use characters: none is left to mark it with")
    guard = _guarded(codec.tokenizer, control, first)
    places = list(_written(codec, text, people, control))
    parts, origin, at = [], [], 0
    for number, begin, end in places:
        alias = _alias(first, number)
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
    """The special tokens of the parts between people's: of each its id and its characters."""
    opened = _opened(codec.tokenizer)
    at = 0
    for begin, end in [*people, (len(text), len(text))]:
        part = text[at:begin]
        ids, places = codec.spell(opened, part)
        for number, (first, last) in zip(ids.tolist(), _cores(part, places), strict=True):
            if number in control:
                yield number, at + int(first), at + int(last)
        at = end


class _Guard(NamedTuple):
    """A tokenizer whose special tokens nobody can write.

    Attributes:
      tokenizer: of ``tokenizers``.
      ids: the ids of the original, where they differ.
      control: the ids here of special tokens, but for what stands for the unknown.
      unknown: the id here of that, None where there is none.
    """

    tokenizer: Any
    ids: dict[int, int]
    control: frozenset[int]
    unknown: int | None


def _alias(first: int, number: int) -> str:
    return f"{chr(first)}{number:x}{chr(first + 1)}"


@functools.lru_cache(maxsize=4)
def _opened(tokenizer: str) -> Any:
    """The tokenizer as others use it: with special tokens, its offsets those of all characters."""
    from tokenizers import Tokenizer

    stored = json.loads(tokenizer)
    found = Tokenizer.from_str(json.dumps(stored | {"post_processor": None}))
    found.no_truncation()
    found.no_padding()
    return found


@functools.lru_cache(maxsize=4)
def _added(tokenizer: str) -> dict[int, Any]:
    """The added tokens, special and other, by their ids."""
    found: dict[int, Any] = _opened(tokenizer).get_added_tokens_decoder()
    return found


@functools.lru_cache(maxsize=4)
def _unknown(tokenizer: str) -> int | None:
    """The token that stands for what the vocabulary cannot spell; None where there is none."""
    model = json.loads(tokenizer)["model"]
    if model.get("unk_id") is not None:  # Unigram's
        return int(model["unk_id"])
    name = model.get("unk_token")
    return None if name is None else _opened(tokenizer).token_to_id(name)


@functools.lru_cache(maxsize=4)
def _guarded(tokenizer: str, control: tuple[int, ...], first: int) -> _Guard:
    """A tokenizer whose tokens ``control`` have aliases, also in the vocabulary of its model."""
    from tokenizers import AddedToken, Tokenizer

    added = _added(tokenizer)
    alias = {added[number].content: _alias(first, number) for number in control}
    stored = json.loads(tokenizer)
    _rename(stored["model"], alias)
    stored |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    found = Tokenizer.from_str(json.dumps(stored))
    ids: dict[int, int] = {}
    known: set[int] = set()
    for number in sorted(added):
        token = added[number]
        name = alias.get(token.content, token.content)
        flags = {flag: getattr(token, flag) for flag in FLAGS}
        found.add_tokens([AddedToken(name, special=token.special, **flags)])
        here: Any = found.token_to_id(name)
        ids[here] = number
        known |= {here} if number in control else set()
    unknown = stored["model"].get("unk_id")
    if unknown is None and stored["model"].get("unk_token") is not None:
        unknown = found.token_to_id(stored["model"]["unk_token"])
    return _Guard(found, ids, frozenset(i for i in known if i != unknown), unknown)


def _rename(model: dict[str, Any], alias: dict[str, str]) -> None:
    """Give tokens of a model, as its JSON has it, other names."""
    if isinstance(model["vocab"], list):  # Unigram: pairs of a token and its score
        model["vocab"] = [[alias.get(name, name), score] for name, score in model["vocab"]]
        return
    model["vocab"] = {alias.get(name, name): number for name, number in model["vocab"].items()}
    if model.get("unk_token") in alias:
        model["unk_token"] = alias[model["unk_token"]]
    if "merges" in model:
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [[a, b] for a, b in pairs if not {a, b, a + b} & alias.keys()]
