"""Rows of tokens for preference pairs: two responses to a prompt, one preferred to the other.

Batches hold, for ``rejected`` as for ``chosen``,

  chosen_tokens [B, T] int32: the prompt as rendered by a chat template, the response, and the
    codec's end.
  chosen_mask [B, T] float32: 1 for a token, 0 for padding.
  chosen_response [B, T] float32: 1 for the tokens of the response and its end; in a response of
    several turns, only for the assistant's turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genjax.checks import Component
from genjax.data.chat.pairs import SIDES, ChatPair
from genjax.data.chat.template import ChatCodec, Template, Turn, conversation, whole_text
from genjax.data.chat.turns import Conversation, excess
from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.splits import digest
from genjax.data.storage import cache_folder
from genjax.data.text.corpus import fit_codec
from genjax.data.text.documents import StoredTexts
from genjax.errors import UserError

Long = Literal["drop", "cut"]
Equal = Literal["refuse", "drop"]
LEAST = 0.5  # smallest fraction of the pairs that must be left
ENOUGH = 0.95  # fraction of the pairs kept by the length that messages propose


@dataclass(frozen=True)
class PreferenceRows:
    """How pairs become rows.

    Attributes:
      length: tokens of a row, prompt and response together, T.
      long: what to do with pairs that do not fit: "drop" them, or "cut" the beginning of the prompt
        down to half of the row, and then the end of the responses.
      equal: what to do with pairs of equal rows, which teach nothing: "refuse" or "drop" them.
    """

    length: int
    long: Long
    equal: Equal


@dataclass(frozen=True)
class Side:
    """Tokens of one response to each prompt.

    Attributes:
      tokens: tokens of prompts and responses, one after another [N] int32.
      learned: bool [N], whether a token is in an assistant's turn or ends one.
      starts: index of the first token of each pair, then N, [P + 1] int64.
      prompts: number of prompt tokens of each pair [P] int64.
    """

    tokens: np.ndarray
    learned: np.ndarray
    starts: np.ndarray
    prompts: np.ndarray

    @classmethod
    def of(cls, answers: Sequence[tuple[Conversation, int]]) -> Side:
        """Return the side for conversations given with the lengths of their prompts."""
        return cls(
            np.concatenate([one.tokens for one, _ in answers]),
            np.concatenate([one.learned for one, _ in answers]),
            np.concatenate([[0], np.cumsum([len(one.tokens) for one, _ in answers])]),
            np.array([prompt for _, prompt in answers]),
        )

    @property
    def sizes(self) -> np.ndarray:
        """Number of tokens of each pair, [P] int64."""
        return np.diff(self.starts)

    def part(self, number: int, length: int) -> slice:
        """Return the slice of the first ``length`` tokens of a pair."""
        start = self.starts[number]
        return slice(start, min(self.starts[number + 1], start + length))

    def get_row(self, number: int, length: int) -> np.ndarray:
        """Return the first ``length`` tokens [M] of a pair."""
        return self.tokens[self.part(number, length)]

    def answers(self, number: int, length: int) -> np.ndarray:
        """Return which of these tokens belong to the response, bool [M]."""
        learned = self.learned[self.part(number, length)]
        return learned & (np.arange(len(learned)) >= self.prompts[number])


@dataclass(frozen=True)
class PreferencePairs:
    """A split of pairs.

    Attributes:
      chosen: the preferred responses.
      rejected: the other responses to the same prompts.
      rows: indices of the pairs in the split, [N] int64.
      length: tokens of a row, T.
      pad: token that fills rows.
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
            answers, _ = pad_rows(
                [side.answers(number, self.length) for number in numbers], self.length, 0
            )
            found |= {
                f"{name}_tokens": tokens,
                f"{name}_mask": mask,
                f"{name}_response": answers.astype(np.float32),
            }
        return found


def pad_rows(rows: Sequence[np.ndarray], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad rows to [B, length] int32; the second result, float32, is 1 for tokens and 0 for
    padding.
    """
    tokens, mask = (
        np.full((len(rows), length), pad, np.int32),
        np.zeros((len(rows), length), np.float32),
    )
    for number, row in enumerate(rows):
        tokens[number, : len(row)], mask[number, : len(row)] = row, 1
    return tokens, mask


def encode_answer(
    codec: ChatCodec, prompt: tuple[Turn, ...], answer: tuple[Turn, ...], where: str
) -> tuple[Conversation, int]:
    """Tokenise a prompt with its answer; also return the number of prompt tokens.

    Raises:
      UserError: the answer is empty, or text is outside the vocabulary.
    """
    found = conversation(codec, codec.template, (*prompt, *answer), where)
    found = found.truncate(len(found.tokens))  # a template may write more after the end
    said = [number for number, (role, _) in enumerate(prompt) if role == codec.template.assistant]
    if not said:
        return found, int(found.learned.argmax())
    before = conversation(codec, codec.template, prompt[: said[-1] + 1], where)
    # The end of the last answer in the prompt.
    over = len(before.truncate(len(before.tokens)).tokens)
    return found, over + int(found.learned[over:].argmax())


def single_prompt(
    template: Template, prompt: str, response: str
) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Return a prompt and a response as one turn each."""
    return (Turn(template.user, prompt),), (Turn(template.assistant, response),)


def fit_answer(
    codec: ChatCodec, answer: Conversation, prompt: int, room: int, longest: int | None = None
) -> tuple[Conversation, int]:
    """Cut the beginning of a prompt so that its answer fits into a row.

    Args:
      codec: codec of the conversation.
      answer: tokens of prompt and answer.
      prompt: number of prompt tokens.
      room: tokens of a row.
      longest: tokens of the longest answer to the prompt; None for this one.

    Returns:
      The shortened conversation and its number of prompt tokens.
    """
    lead = starts_row(codec, answer)
    size = len(answer.tokens) - prompt if longest is None else longest
    skip = excess(prompt, size, room, lead)
    return answer.shorten(skip, lead), prompt - skip


def starts_row(codec: ChatCodec, answer: Conversation) -> bool:
    """Return whether the first token is the codec's start."""
    return codec.template.starts(codec.tokens) and answer.tokens[0] == codec.start


def preference_dataset(
    pairs: Sequence[ChatPair],
    parts: Mapping[str, np.ndarray],
    codec: Component,
    template: Template,
    rows: PreferenceRows,
    cache: str | None,
) -> Dataset:
    """Return the ``Dataset`` of pairs; a text codec without a vocabulary is fitted to "train".

    Args:
      pairs: pairs of all splits.
      parts: indices [N] of the pairs of each split.
      codec: codec of the text.
      template: chat template.
      rows: layout of the rows.
      cache: folder for a fitted codec; None for ~/.cache/genjax.

    Raises:
      UserError: a response is empty, both rows of a pair are equal, most pairs would be dropped, or
        a split has none left.
    """
    texts = {
        name: _texts([pairs[number] for number in numbers], template)
        for name, numbers in parts.items()
    }
    chat = ChatCodec(fit_codec(codec, texts["train"], cache_folder(cache)), template)
    answers = {side: _encode(pairs, chat, side) for side in SIDES}
    sizes = np.array([[len(one.tokens) for one, _ in answers[side]] for side in SIDES]).max(0)
    over = sizes > rows.length
    if over.any():
        _note_length(answers, over, rows)
    chosen, rejected = _sides(answers, chat, rows)
    kept = ~over if rows.long == "drop" else np.ones(len(pairs), bool)
    kept &= _different(pairs, chosen, rejected, rows, kept)
    _check_left(kept, sizes, rows)
    splits = {}
    for name, numbers in parts.items():
        splits[name] = PreferencePairs(
            chosen, rejected, numbers[kept[numbers]], rows.length, chat.pad or 0
        )
        if not len(splits[name]):
            raise UserError(
                f"none of the {len(numbers):,} pairs of {name} is left: hold out another part, or "
                "increase length",
                "length",
            )
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


def _texts(pairs: Sequence[ChatPair], template: Template) -> StoredTexts:
    """Return both sides of the pairs as rendered by the template."""
    documents = []
    for pair in pairs:
        for side, answer in zip(SIDES, (pair.chosen, pair.rejected), strict=True):
            where = _where(pair, side)
            documents.append((where, whole_text(template, (*pair.prompt, *answer), where)))
    return StoredTexts("the preferences", tuple(documents))


def _encode(
    pairs: Sequence[ChatPair], codec: ChatCodec, side: str
) -> list[tuple[Conversation, int]]:
    """Tokenise one side of the pairs; also return the number of prompt tokens of each."""
    return [
        encode_answer(
            codec,
            pair.prompt,
            pair.chosen if side == "chosen" else pair.rejected,
            _where(pair, side),
        )
        for pair in pairs
    ]


def _where(pair: ChatPair, side: str) -> str:
    return f"the {side} side of {pair.where}"


def _sides(
    answers: Mapping[str, list[tuple[Conversation, int]]], codec: ChatCodec, rows: PreferenceRows
) -> tuple[Side, Side]:
    """Return the chosen and the rejected side, with each prompt cut alike on both."""
    fitted: dict[str, list[tuple[Conversation, int]]] = {side: [] for side in SIDES}
    for both in zip(*(answers[side] for side in SIDES), strict=True):
        longest = max(len(one.tokens) - prompt for one, prompt in both)
        for side, (one, prompt) in zip(SIDES, both, strict=True):
            fitted[side].append(fit_answer(codec, one, prompt, rows.length, longest))
    return Side.of(fitted["chosen"]), Side.of(fitted["rejected"])


def _note_length(
    answers: Mapping[str, list[tuple[Conversation, int]]], over: np.ndarray, rows: PreferenceRows
) -> None:
    """Print how many pairs are too long, and what happens to them."""
    counted = (
        f"{int(over.sum()):,} of {len(over):,} pairs are longer than {rows.length} tokens and are"
    )
    if rows.long == "drop":
        note(f"{counted} dropped")
        return
    half = rows.length // 2
    both = list(zip(*(answers[side] for side in SIDES), strict=True))
    longest = [max(len(one.tokens) - prompt for one, prompt in pair) for pair in both]
    prompts = np.array([pair[0][1] for pair in both])
    left = prompts > np.maximum(rows.length - np.array(longest), half)
    right = np.minimum(prompts, np.where(left, half, prompts)) + longest > rows.length
    note(
        f"{counted} cut: {int((left & over).sum()):,} lose the beginning of their prompt, "
        f"{int((right & over).sum()):,} the end of a response"
    )


def _check_left(kept: np.ndarray, sizes: np.ndarray, rows: PreferenceRows) -> None:
    """Refuse to train if most pairs would be dropped."""
    if kept.mean() >= LEAST:
        return
    over = int((sizes > rows.length).sum())
    why = [f"{over:,} are longer than {rows.length} tokens"] if over else []
    same = len(kept) - int(kept.sum()) - (over if rows.long == "drop" else 0)
    why += [f"{same:,} have the same text on both sides"] if same else []
    need = int(np.quantile(sizes, ENOUGH, method="higher"))
    cures = [f"length={need:,} keeps {ENOUGH:.0%} of them whole"] if over else []
    cures += ['long="cut" cuts them'] if over and rows.long == "drop" else []
    cures = cures or ["leave the equal ones out of the file if the others are enough"]
    raise UserError(
        f"{len(kept) - int(kept.sum()):,} of {len(kept):,} pairs would be dropped: "
        f"{', '.join(why)} (length); {', or '.join(cures)}",
        "length",
    )


def _different(
    pairs: Sequence[ChatPair],
    chosen: Side,
    rejected: Side,
    rows: PreferenceRows,
    kept: np.ndarray,
) -> np.ndarray:
    """Return which pairs have two different rows, bool [P]; True for pairs that are not kept."""
    same = np.zeros(len(pairs), bool)
    for number in np.flatnonzero(kept).tolist():
        same[number] = np.array_equal(
            chosen.get_row(number, rows.length), rejected.get_row(number, rows.length)
        )
    if same.any():
        line = (
            f"{int(same.sum()):,} of {len(pairs):,} pairs have the same text on both sides in rows "
            f"of {rows.length} tokens"
        )
        if rows.equal == "refuse":
            raise UserError(
                f"{line}, the first is {pairs[int(same.argmax())].where}; equal='drop' leaves them "
                "out"
            )
        note(f"{line} and are dropped")
    return ~same
