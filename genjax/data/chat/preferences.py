"""Pairs of responses to a prompt, of which one is preferred to the other, as rows of tokens.

Batches hold, of ``chosen`` and of ``rejected`` alike,

  chosen_tokens [B, T] int32: the prompt as a chat template has it, the response, and the codec's
    end.
  chosen_mask [B, T] float32: 1 for a token, 0 for padding.
  chosen_response [B, T] float32: 1 for a token of the response and for its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from genjax.checks import Component
from genjax.data.chat.template import ChatCodec, Template, Turn, conversation, whole_text
from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.splits import digest
from genjax.data.storage import cache_folder
from genjax.data.text.corpus import fit_codec
from genjax.data.text.documents import StoredTexts
from genjax.data.text.json_records import get_text, json_records, pass_over
from genjax.errors import UserError

Long = Literal["drop", "cut"]
Equal = Literal["refuse", "drop"]
SIDES = ("chosen", "rejected")


class Preference(NamedTuple):
    """A prompt, the response that is preferred, the one that is not, and ``where`` a person
    finds them.
    """

    prompt: str
    chosen: str
    rejected: str
    where: str


@dataclass(frozen=True)
class PreferenceRows:
    """How pairs become rows.

    Attributes:
      length: tokens of a row, prompt and response together, T.
      long: "drop" pairs of which one response does not fit, or "cut" it, then without an end.
      equal: "refuse" pairs of which both rows are the same, which teach nothing, or "drop" them.
    """

    length: int
    long: Long
    equal: Equal


@dataclass(frozen=True)
class Side:
    """One response to each prompt, in tokens.

    Attributes:
      tokens: of prompts and responses, one after another [N] int32.
      starts: where each begins, and N, [P + 1] int64.
      prompts: how many of each are the prompt's [P] int64.
    """

    tokens: np.ndarray
    starts: np.ndarray
    prompts: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each, [P] int64."""
        return np.diff(self.starts)

    def get_row(self, number: int, length: int) -> np.ndarray:
        """The first ``length`` tokens [M] of one."""
        start = self.starts[number]
        return self.tokens[start : min(self.starts[number + 1], start + length)]


@dataclass(frozen=True)
class PreferencePairs:
    """A split of pairs.

    Attributes:
      chosen: what is preferred.
      rejected: the other response to the same prompts.
      rows: the pairs [N] that make up the split.
      length: tokens of a row, T.
      pad: the token that fills rows up.
    """

    chosen: Side
    rejected: Side
    rows: np.ndarray
    length: int
    pad: int

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Batch:
        numbers = self.rows[np.asarray(indices)]
        found: Batch = {}
        for name, side in (("chosen", self.chosen), ("rejected", self.rejected)):
            tokens, mask = pad_rows(
                [side.get_row(number, self.length) for number in numbers], self.length, self.pad
            )
            answers = np.arange(self.length)[None] >= side.prompts[numbers, None]
            found |= {
                f"{name}_tokens": tokens,
                f"{name}_mask": mask,
                f"{name}_response": mask * answers,
            }
        return found


def pad_rows(rows: Sequence[np.ndarray], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens [B, length] int32, 1 for each that is real [B, length] float32) of rows that are
    no longer.
    """
    tokens, mask = (
        np.full((len(rows), length), pad, np.int32),
        np.zeros((len(rows), length), np.float32),
    )
    for number, row in enumerate(rows):
        tokens[number, : len(row)], mask[number, : len(row)] = row, 1
    return tokens, mask


def encode_answer(
    codec: ChatCodec, prompt: str, response: str, where: str
) -> tuple[np.ndarray, int]:
    """The tokens [N] int32 of a prompt and its response, and how many of them are the prompt's.

    Raises:
      UserError: the response is empty, or text is outside the vocabulary.
    """
    found = conversation(codec, codec.template, _turns(codec.template, prompt, response), where)
    found = found.truncate(len(found.tokens))  # a template may write more after the end
    return found.tokens, int(found.learned.argmax())


def check_room(prompt: int, length: int, where: str) -> None:
    """Refuses a prompt of so many tokens that a row of ``length`` holds none of its response."""
    if prompt >= length:
        raise UserError(
            f"the prompt of {where} is of {prompt} tokens, which leaves no room for a response in "
            f"a row of {length} "
            "(length)"
        )


def read_preferences(path: Path, joint: str, left: Counter[str]) -> list[Preference]:
    """The pairs of a file: records of ``chosen``, ``rejected`` and either ``prompt`` or
    ``instruction``.

    Args:
      path: as ``json_records`` reads it.
      joint: what is between an instruction and its ``input``, where that is not empty.
      left: counts what was changed or skipped.

    Raises:
      UserError: the file is missing, damaged or empty, or a record lacks a field; the record is
        named.
    """
    found = [
        _preference(record, where, joint, left) for where, record in json_records(path, left=left)
    ]
    if not found:
        raise UserError(f"{path} holds no records")
    return found


def preference_dataset(
    pairs: Sequence[Preference],
    parts: Mapping[str, np.ndarray],
    codec: Component,
    template: Template,
    rows: PreferenceRows,
    cache: str | None,
) -> Dataset:
    """The ``Dataset`` of pairs; a text codec without a vocabulary is fitted to those of "train".

    Args:
      parts: the numbers [N] of the pairs of each split.
      cache: the folder where a fitted codec is kept; None takes ~/.cache/genjax.

    Raises:
      UserError: a response is empty, a prompt fills its row, two rows are the same, or a split has
        no pair left.
    """
    texts = {
        name: _texts([pairs[number] for number in numbers], template)
        for name, numbers in parts.items()
    }
    chat = ChatCodec(fit_codec(codec, texts["train"], cache_folder(cache)), template)
    chosen, rejected = (_side(pairs, chat, side) for side in SIDES)
    kept = _fitting(pairs, chosen, rejected, rows)
    kept &= _different(pairs, chosen, rejected, rows, kept)
    splits = {}
    for name, numbers in parts.items():
        splits[name] = PreferencePairs(
            chosen, rejected, numbers[kept[numbers]], rows.length, chat.pad or 0
        )
        if not len(splits[name]):
            raise UserError(f"none of the {len(numbers):,} pairs of {name} is left")
    spec = Spec(
        entry="chosen_tokens",
        shape=(rows.length,),
        mean=np.zeros(rows.length, np.float32),
        vocabulary=chat.vocabulary,
        preferences=True,
    )
    contents = (f"{name} {part.fingerprint}" for name, part in sorted(texts.items()))
    fingerprint = digest(
        part.encode("utf-8", "surrogatepass") for part in (*contents, repr(rows), repr(chat))
    )
    return Dataset(splits, spec, chat, fingerprint)


def _turns(template: Template, prompt: str, response: str) -> tuple[Turn, Turn]:
    return Turn(template.user, prompt), Turn(template.assistant, response)


def _texts(pairs: Sequence[Preference], template: Template) -> StoredTexts:
    """Both sides of pairs, as the template has them."""
    documents = []
    for pair in pairs:
        for side in SIDES:
            where = _where(pair, side)
            turns = _turns(template, pair.prompt, getattr(pair, side))
            documents.append((where, whole_text(template, turns, where)))
    return StoredTexts("the preferences", tuple(documents))


def _side(pairs: Sequence[Preference], codec: ChatCodec, side: str) -> Side:
    found = [
        encode_answer(codec, pair.prompt, getattr(pair, side), _where(pair, side)) for pair in pairs
    ]
    starts = np.concatenate([[0], np.cumsum([len(tokens) for tokens, _ in found])])
    return Side(
        np.concatenate([tokens for tokens, _ in found]),
        starts,
        np.array([prompt for _, prompt in found]),
    )


def _where(pair: Preference, side: str) -> str:
    return f"the {side} side of {pair.where}"


def _fitting(
    pairs: Sequence[Preference], chosen: Side, rejected: Side, rows: PreferenceRows
) -> np.ndarray:
    """Which pairs are not too long to keep, bool [P]."""
    over = np.maximum(chosen.sizes, rejected.sizes) > rows.length
    if over.any():
        fate = "dropped" if rows.long == "drop" else "cut"
        note(
            f"{int(over.sum()):,} of {len(pairs):,} pairs are longer than {rows.length} tokens and "
            f"are {fate}"
        )
    if rows.long == "drop":
        return ~over
    for pair, prompt in zip(pairs, chosen.prompts.tolist(), strict=True):
        check_room(prompt, rows.length, pair.where)
    return np.ones(len(pairs), bool)


def _different(
    pairs: Sequence[Preference],
    chosen: Side,
    rejected: Side,
    rows: PreferenceRows,
    kept: np.ndarray,
) -> np.ndarray:
    """Which pairs have two rows that differ, bool [P]; those that are not kept anyway do."""
    same = np.zeros(len(pairs), bool)
    for number in np.flatnonzero(kept).tolist():
        same[number] = np.array_equal(
            chosen.get_row(number, rows.length), rejected.get_row(number, rows.length)
        )
    if same.any():
        told = (
            f"{int(same.sum()):,} of {len(pairs):,} pairs are twice the same text in rows of "
            f"{rows.length} tokens"
        )
        if rows.equal == "refuse":
            raise UserError(
                f"{told}, the first is {pairs[int(same.argmax())].where}; equal='drop' leaves them "
                "out"
            )
        note(f"{told} and are dropped")
    return ~same


def _preference(record: Any, where: str, joint: str, left: Counter[str]) -> Preference:
    if not isinstance(record, dict):
        raise UserError(f"{where} is no JSON object")
    asked = "prompt" if record.get("prompt") is not None else "instruction"
    names = (asked, "chosen", "rejected")
    prompt, chosen, rejected = (get_text(record, name, where, needed=True) for name in names)
    below = get_text(record, "input", where, left=left) if asked == "instruction" else ""
    pass_over(record, (*names, *(["input"] if asked == "instruction" else [])), "a record", left)
    return Preference(prompt + joint + below if below else prompt, chosen, rejected, where)
