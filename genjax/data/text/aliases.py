"""Tokenizers whose special tokens are renamed, so that nobody can write them."""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

from genjax.errors import UserError

BRACKETS = range(0xE000, 0xF8FF, 2)  # private-use characters; two of them enclose an alias
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")  # how an added token is matched in a text


class Guard(NamedTuple):
    """A tokenizer whose special tokens nobody can write.

    Attributes:
      tokenizer: a tokenizer of ``tokenizers``.
      ids: original ids of the tokens whose ids differ.
      control: ids of special tokens in this tokenizer, except the unknown token.
      unknown: id of the unknown token in this tokenizer; None if there is none.
    """

    tokenizer: Any
    ids: dict[int, int]
    control: frozenset[int]
    unknown: int | None


def alias(first: int, number: int) -> str:
    """Return a name for a token, enclosed in two private-use characters."""
    return f"{chr(first)}{number:x}{chr(first + 1)}"


@functools.lru_cache(maxsize=4)
def opened(tokenizer: str) -> Any:
    """Load a tokenizer without its post-processor, truncation and padding."""
    from tokenizers import Tokenizer

    stored = json.loads(tokenizer)
    found = Tokenizer.from_str(json.dumps(stored | {"post_processor": None}))
    found.no_truncation()
    found.no_padding()
    return found


@functools.lru_cache(maxsize=4)
def added(tokenizer: str) -> dict[int, Any]:
    """Return the added tokens, special and other, by their ids."""
    found: dict[int, Any] = opened(tokenizer).get_added_tokens_decoder()
    return found


@functools.lru_cache(maxsize=4)
def unknown(tokenizer: str) -> int | None:
    """Return the id of the unknown token; None if there is none."""
    model = json.loads(tokenizer)["model"]
    if model.get("unk_id") is not None:  # Unigram's
        return int(model["unk_id"])
    name = model.get("unk_token")
    return None if name is None else opened(tokenizer).token_to_id(name)


@functools.lru_cache(maxsize=4)
def special(tokenizer: str) -> tuple[int, ...]:
    """Return the ids of special tokens, in order."""
    return tuple(sorted(i for i, token in added(tokenizer).items() if token.special))


def name(tokenizer: str, number: int) -> str:
    """Return the name of a token."""
    found: str = opened(tokenizer).id_to_token(int(number))
    return found


def guarded(tokenizer: str, control: tuple[int, ...], text: str) -> tuple[Guard, int]:
    """Return a tokenizer whose ``control`` tokens have aliases that do not occur in a text, and the
    character that starts them.

    Raises:
      UserError: the text holds all private-use characters.
    """
    free = (p for p in BRACKETS if chr(p) not in text and chr(p + 1) not in text)
    first = next(free, None)
    if first is None:
        raise UserError("the text must leave one private-use character free, but holds all of them")
    return _guarded(tokenizer, control, first), first


@functools.lru_cache(maxsize=4)
def _guarded(tokenizer: str, control: tuple[int, ...], first: int) -> Guard:
    """Return a tokenizer whose ``control`` tokens have aliases, in its model's vocabulary, too."""
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
    """Rename tokens in the JSON of a model."""
    if isinstance(model["vocab"], list):  # Unigram: pairs of a token and its score
        model["vocab"] = [[alias.get(name, name), score] for name, score in model["vocab"]]
        return
    model["vocab"] = {alias.get(name, name): number for name, number in model["vocab"].items()}
    if model.get("unk_token") in alias:
        model["unk_token"] = alias[model["unk_token"]]
    if "merges" in model:
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [[a, b] for a, b in pairs if not {a, b, a + b} & alias.keys()]
