"""Rows of tokens for conversations: the assistant's text is predicted, the rest is given."""

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
    """A conversation as read: its ``turns``, and ``where`` they are, for messages."""

    where: str
    turns: tuple[Turn, ...]


@checks.frozen
class ChatLayout:
    """How conversations become rows.

    With long="drop" conversations longer than a row are dropped, but an error is raised if most
    are. With "cut" the prompt of the first answer loses its beginning, down to half of the row, and
    then the conversation loses its end.

    Attributes:
      length: number of predictions in a row, T.
      packed: whether training rows hold several conversations, told apart by ``segment_ids``;
        held-out conversations always have their own rows.
      long: what to do with conversations of more than T + 1 tokens: "drop" or "cut" them.
    """

    length: int = 256
    packed: bool = False
    long: LongChat = "drop"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "length")

    def select_fitting(
        self, records: Sequence[Record], codec: Component, template: Template, part: str
    ) -> dict[int, Conversation]:
        """Return the conversations that fit, by the index of their record, and print how many are
        dropped or cut.

        Raises:
          UserError: most would be dropped.
        """
        room = self.length + 1
        if not records:
            raise UserError(f"{part} must have a conversation, got none", part)
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
    """Cut a conversation to ``room`` tokens; also return how many its beginning lost."""
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
      tokens: tokens of all conversations, one after another, [N] int32.
      learned: bool [N], whether a token is predicted.
      starts: index of the first token of each conversation, then N, [C + 1] int64.
      members: indices of the conversations, row after row, [C] int64.
      first: index in ``members`` where each row starts, then their number, [R + 1] int64.
      length: number of predictions in a row, T.
      pad: token that fills rows.
      packed: whether batches tell conversations apart.
      answers: first answer of each conversation as text, [C].
      asked: the user's text before that answer, [C].
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
        """Return the reference answer to the prompt of each row.

        Raises:
          UserError: a row has several prompts.
        """
        self._check_single()
        return list(self.answers)

    def questions(self) -> list[str]:
        """Return the user's text before the first answer of each row; errors as for
        ``references``.
        """
        self._check_single()
        return list(self.asked)

    def _check_single(self) -> None:
        if len(self) != len(self.answers):
            raise UserError(
                "packed must be False for reference answers: a row must hold one conversation, as "
                "in held-out splits",
                "packed",
            )


def chat_dataset(
    parts: Mapping[str, Sequence[Record]],
    codec: Component,
    template: Template,
    layout: ChatLayout,
    cache: str | None,
) -> Dataset:
    """Return the ``Dataset`` of conversations; a codec without a vocabulary is fitted to "train".

    Batches hold ``tokens`` int32 [B, T + 1]; ``loss_mask`` float32 [B, T + 1], 1 for the
    assistant's text and the end after it; and ``prefix_mask`` float32 [B, T + 1], 1 for the prompt
    of the first answer. Packed rows also have ``segment_ids`` and ``positions`` int32 [B, T + 1].

    Raises:
      UserError: a conversation has no answer, text is outside the vocabulary, or the codec has no
        end token.
    """
    texts = {part: _texts(part, records, template) for part, records in parts.items()}
    codec = fit_codec(codec, texts["train"], cache_folder(cache))
    if template.end(codec) is None:
        if codec.end is not None:
            raise UserError(
                "the chat template must write a special token of the tokenizer after an answer"
            )
        raise UserError(
            "the codec must have an end token for conversations, which ends an answer", "codec"
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
    """Return the full text of each conversation."""
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
    """Return the first answer of a conversation."""
    return next(text for role, text in turns if role == template.assistant)


def _question(turns: tuple[Turn, ...], template: Template) -> str:
    """Return the user's last turn before the first answer; "" if there is none."""
    first = next(number for number, (role, _) in enumerate(turns) if role == template.assistant)
    return next((text for role, text in reversed(turns[:first]) if role == template.user), "")
