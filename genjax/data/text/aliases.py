"""Tokenizers whose special tokens have names that nobody can write."""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

from genjax.errors import UserError

BRACKETS = range(0xE000, 0xF8FF, 2)  # private-use characters; two of them are around an alias
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")  # how an added token is found in a text


class Guard(NamedTuple):
    """A tokenizer whose special tokens nobody can write.

    Attributes:
      tokenizer: of ``tokenizers``.
      ids: the ids of the original, where they differ.
      control: the ids here of special tokens, but for what represents the unknown.
      unknown: the id here of that, None if there is none.
    """

    tokenizer: Any
    ids: dict[int, int]
    control: frozenset[int]
    unknown: int | None


def alias(first: int, number: int) -> str:
    """The name of a token between two private-use characters."""
    return f"{chr(first)}{number:x}{chr(first + 1)}"


@functools.lru_cache(maxsize=4)
def opened(tokenizer: str) -> Any:
    """The tokenizer as others use it: with special tokens, its offsets those of all characters."""
    from tokenizers import Tokenizer

    stored = json.loads(tokenizer)
    found = Tokenizer.from_str(json.dumps(stored | {"post_processor": None}))
    found.no_truncation()
    found.no_padding()
    return found


@functools.lru_cache(maxsize=4)
def added(tokenizer: str) -> dict[int, Any]:
    """The added tokens, special and other, by their ids."""
    found: dict[int, Any] = opened(tokenizer).get_added_tokens_decoder()
    return found


@functools.lru_cache(maxsize=4)
def unknown(tokenizer: str) -> int | None:
    """The token that represents what the vocabulary cannot spell; None if there is none."""
    model = json.loads(tokenizer)["model"]
    if model.get("unk_id") is not None:  # Unigram's
        return int(model["unk_id"])
    name = model.get("unk_token")
    return None if name is None else opened(tokenizer).token_to_id(name)


@functools.lru_cache(maxsize=4)
def special(tokenizer: str) -> tuple[int, ...]:
    """The ids of special tokens, in order."""
    return tuple(sorted(i for i, token in added(tokenizer).items() if token.special))


def name(tokenizer: str, number: int) -> str:
    """The name of a token."""
    found: str = opened(tokenizer).id_to_token(int(number))
    return found


def guarded(tokenizer: str, control: tuple[int, ...], text: str) -> tuple[Guard, int]:
    """A tokenizer whose tokens ``control`` have aliases that a text lacks, and what starts them.

    Raises:
      UserError: the text holds all private-use characters.
    """
    free = (p for p in BRACKETS if chr(p) not in text and chr(p + 1) not in text)
    first = next(free, None)
    if first is None:
        raise UserError("the text holds all private-use characters: none is left to mark it with")
    return _guarded(tokenizer, control, first), first


@functools.lru_cache(maxsize=4)
def _guarded(tokenizer: str, control: tuple[int, ...], first: int) -> Guard:
    """A tokenizer whose tokens ``control`` have aliases, also in the vocabulary of its model."""
    from tokenizers import AddedToken, Tokenizer

    known = added(tokenizer)
    names = {known[number].content: alias(first, number) for number in control}
    stored = json.loads(tokenizer)
    _rename(stored["model"], names)
    stored |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    found = Tokenizer.from_str(json.dumps(stored))
    ids: dict[int, int] = {}
    ours: set[int] = set()
    for number, token in sorted(known.items()):
        name = names.get(token.content, token.content)
        flags = {flag: getattr(token, flag) for flag in FLAGS}
        found.add_tokens([AddedToken(name, special=token.special, **flags)])
        here: Any = found.token_to_id(name)
        ids[here] = number
        ours |= {here} if number in control else set()
    lost = stored["model"].get("unk_id")
    if lost is None and stored["model"].get("unk_token") is not None:
        lost = found.token_to_id(stored["model"]["unk_token"])
    return Guard(found, ids, frozenset(i for i in ours if i != lost), lost)


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
