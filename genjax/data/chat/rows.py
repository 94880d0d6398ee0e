"""Conversations as rows of tokens: what the assistant says is predicted, all else is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.template import (
    ChatCodec,
    Conversation,
    Template,
    Turn,
    conversation,
    whole_text,
)
from genjax.data.chat.turns import excess
from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.splits import digest
from genjax.data.storage import cache_folder
from genjax.data.text.corpus import fit_codec
from genjax.data.text.documents import StoredTexts
from genjax.data.text.layouts import best_fit
from genjax.errors import UserError

LongChat = Literal["drop", "cut"]


class Record(NamedTuple):
    """A conversation as it was read: ``where``, for messages, and its ``turns``."""

    where: str
    turns: tuple[Turn, ...]


@checks.frozen
class ChatLayout:
    """How conversations become rows.

    A conversation that is longer than a row is dropped with long="drop", of which most may not be;
    with "cut" the prompt of its first answer loses its beginning, where it fills more than half of
    the row, and then the conversation its end.

    Attributes:
      length: predictions in a row, T.
      packed: train on rows of several conversations, distinguished; held-out ones have a row each.
      long: "drop" conversations of more than T + 1 tokens, or "cut" them.
    """

    length: int = 256
    packed: bool = False
    long: LongChat = "drop"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "length")

    def select_fitting(
        self, records: Sequence[Record], codec: Component, template: Template, part: str
    ) -> dict[int, Conversation]:
        """The conversations that have room, by the number of their record; what is left out or cut
        is reported.

        Raises:
          UserError: most would be dropped.
        """
        room = self.length + 1
        if not records:
            raise UserError(f"{part}: none is left, 0 of 0 conversations", part)
        chats = [conversation(codec, template, turns, where) for where, turns in records]
        sizes = np.array([len(chat.tokens) for chat in chats])
        over = int((sizes > room).sum())
        if self.long == "drop":
            if 2 * over > len(chats):
                need = int(np.quantile(sizes, 0.95, method="higher")) - 1
                raise UserError(
                    f"{part}: {over:,} of {len(chats):,} conversations are longer than {room:,} "
                    f"tokens and would be dropped; length={need:,} keeps 95% of them, or "
                    'long="cut" cuts them',
                    "length",
                )
            if over:
                note(
                    f"{part}: {over:,} of {len(chats):,} conversations are longer than {room:,} "
                    "tokens and are dropped"
                )
            return {n: chat for n, chat in enumerate(chats) if sizes[n] <= room}
        fitted = {n: _fit(chat, codec, template, room) for n, chat in enumerate(chats)}
        if over:
            shorter = sum(len(fitted[n][0].tokens) < sizes[n] for n in fitted if fitted[n][1])
            note(
                f"{part}: {over:,} of {len(chats):,} conversations are longer than {room:,} tokens "
                f"and are cut: {shorter:,} lose the beginning of their prompt, "
                f"{sum(int(sizes[n]) - fitted[n][1] > room for n in fitted):,} their end"
            )
        return {n: chat for n, (chat, _) in fitted.items()}


def _fit(
    chat: Conversation, codec: Component, template: Template, room: int
) -> tuple[Conversation, int]:
    """A conversation in so many tokens, and how many were taken from its beginning."""
    if len(chat.tokens) <= room:
        return chat, 0
    first = int(chat.learned.argmax())
    said = int((~np.append(chat.learned[first:], False)).argmax())  # tokens of the first answer
    lead = template.starts(codec) and chat.tokens[0] == codec.start
    skip = excess(first, said, room, lead)
    return chat.shorten(skip, lead).truncate(room), skip


@dataclass(frozen=True)
class ChatRows:
    """Rows of one or more conversations.

    Attributes:
      tokens: of all conversations, one after another, [N] int32.
      learned: bool [N].
      starts: where each conversation starts, and N, [C + 1] int64.
      members: the numbers of the conversations, row after row, [C] int64.
      first: the first member of each row and their number, [R + 1] int64.
      length: predictions in a row, T.
      pad: fills rows up.
      packed: whether batches tell conversations apart.
      answers: the first of each conversation, as it is written, [C].
      asked: what the user says before it, [C].
    """

    tokens: np.ndarray
    learned: np.ndarray
    starts: np.ndarray
    members: np.ndarray
    first: np.ndarray
    length: int
    pad: int
    packed: bool
    answers: tuple[str, ...]
    asked: tuple[str, ...]

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.first) - 1

    def batch(self, indices: np.ndarray) -> Batch:
        shape = len(indices), self.length + 1
        kinds = {
            "loss_mask": np.float32,
            "prefix_mask": np.float32,
            "segment_ids": np.int32,
            "positions": np.int32,
        }
        batch = {"tokens": np.full(shape, self.pad, np.int32)} | {
            n: np.zeros(shape, k) for n, k in kinds.items()
        }
        for row, number in enumerate(np.asarray(indices).tolist()):
            at = 0
            for segment, member in enumerate(
                self.members[self.first[number] : self.first[number + 1]].tolist(), 1
            ):
                part = slice(self.starts[member], self.starts[member + 1])
                learned = self.learned[part]
                place = row, slice(at, at + len(learned))
                position = np.arange(len(learned))
                batch["tokens"][place] = self.tokens[part]
                batch["loss_mask"][place] = learned & (position > 0)
                batch["prefix_mask"][place] = position < learned.argmax()
                batch["segment_ids"][place] = segment
                batch["positions"][place] = position
                at += len(learned)
        unpacked = () if self.packed else ("segment_ids", "positions")
        return {name: array for name, array in batch.items() if name not in unpacked}

    def references(self) -> list[str]:
        """The answers to the prompts of the rows, in their order, as they are written.

        Raises:
          UserError: a row has several prompts.
        """
        self._check_single()
        return list(self.answers)

    def questions(self) -> list[str]:
        """What the user says before the first answer of each row, as it is written; the same
        errors.
        """
        self._check_single()
        return list(self.asked)

    def _check_single(self) -> None:
        if len(self) != len(self.answers):
            raise UserError(
                "rows of several conversations have no answer each: judge a held-out split, or "
                "packed=False"
            )


def chat_dataset(
    parts: Mapping[str, Sequence[Record]],
    codec: Component,
    template: Template,
    layout: ChatLayout,
    cache: str | None,
) -> Dataset:
    """The ``Dataset`` of conversations. A codec without a vocabulary is fitted to the text of
    "train".

    Batches hold ``tokens`` int32 [B, T + 1], ``loss_mask`` float32 [B, T + 1], 1 for what the
    assistant says and the end after it, and ``prefix_mask`` float32 [B, T + 1], 1 for the prompt of
    the first answer. Packed ones have ``segment_ids`` and ``positions`` int32 [B, T + 1], too.

    Raises:
      UserError: a conversation without an answer, text outside the vocabulary, or a codec without
        an end.
    """
    texts = {part: _texts(part, records, template) for part, records in parts.items()}
    codec = fit_codec(codec, texts["train"], cache_folder(cache))
    if template.end(codec) is None:
        if codec.end is not None:
            raise UserError(
                "the chat template must write a special token of the tokenizer after an answer: it "
                "ends it"
            )
        raise UserError(
            "the codec of conversations needs a token for the end: it says when an answer is over"
        )
    splits = {
        part: _rows(part, records, codec, template, layout) for part, records in parts.items()
    }
    shape = (layout.length + 1,)
    token_bytes = codec.token_bytes
    spec = Spec(
        "tokens",
        shape,
        np.zeros(shape, np.float32),
        vocabulary=codec.vocabulary,
        packed=layout.packed,
        prefixed=True,
        token_bytes=None if token_bytes is None else tuple(token_bytes.tolist()),
        token_kinds=tuple(codec.token_kinds.tolist()),
        mask_token=codec.mask,
    )
    chat_codec = ChatCodec(codec, template)
    contents = [f"{part} {text.fingerprint}" for part, text in sorted(texts.items())]
    return Dataset(
        splits,
        spec,
        chat_codec,
        digest(part.encode("utf-8", "surrogatepass") for part in (*contents, repr(chat_codec))),
    )


def _texts(part: str, records: Sequence[Record], template: Template) -> StoredTexts:
    """The whole text of each conversation."""
    documents = tuple((where, whole_text(template, turns, where)) for where, turns in records)
    return StoredTexts(f"the conversations of {part}", documents)


def _rows(
    part: str, records: Sequence[Record], codec: Component, template: Template, layout: ChatLayout
) -> ChatRows:
    found = layout.select_fitting(records, codec, template, part)
    chats = list(found.values())
    sizes = np.array([len(chat.tokens) for chat in chats], np.int64)
    row = (
        best_fit(sizes, layout.length + 1)
        if layout.packed and part == "train"
        else np.arange(len(chats))
    )
    members = np.argsort(row, kind="stable")
    return ChatRows(
        np.concatenate([chat.tokens for chat in chats]),
        np.concatenate([chat.learned for chat in chats]),
        np.concatenate([[0], np.cumsum(sizes)]),
        members,
        np.searchsorted(row[members], np.arange(row.max() + 2)),
        layout.length,
        codec.pad or 0,
        layout.packed,
        tuple(_answer(records[number].turns, template) for number in found),
        tuple(_question(records[number].turns, template) for number in found),
    )


def _answer(turns: tuple[Turn, ...], template: Template) -> str:
    """The first, which is that to the prompt of a row."""
    return next(text for role, text in turns if role == template.assistant)


def _question(turns: tuple[Turn, ...], template: Template) -> str:
    """The last turn of the user's before the first answer; "" where there is none."""
    first = next(number for number, (role, _) in enumerate(turns) if role == template.assistant)
    return next((text for role, text in reversed(turns[:first]) if role == template.user), "")
