"""Conversations as text: who speaks is told by what stands before and after each turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from genjax import checks
from genjax.data.around_text import AroundText
from genjax.data.text_codecs import Unencodable
from genjax.errors import UserError


class Turn(NamedTuple):
    """What one side says: ``role`` and ``text``."""

    role: str
    text: str


@checks.frozen
class ChatTemplate:
    """What stands around the turns of each role; the defaults are those of Alpaca (Taori et al., 2023).

    Attributes:
      roles: of each its name, what stands before a turn, and what after.
      user: the role of whoever asks, which a prompt is of.
      assistant: the role that is learned; the codec's end stands after each of its turns.
    """

    roles: tuple[tuple[str, str, str], ...] = (
        ("system", "", "\n\n"),
        ("user", "### Instruction:\n", "\n\n"),
        ("assistant", "### Response:\n", "\n\n"),
    )
    user: str = "user"
    assistant: str = "assistant"

    def __post_init__(self) -> None:
        names = [name for name, _, _ in self.roles]
        if len(set(names)) < len(names):
            raise UserError(f"the roles of a chat template are distinct, unlike {', '.join(names)}")
        for role in (self.user, self.assistant):
            self._around(role)

    def _around(self, role: str) -> tuple[str, str]:
        for name, before, after in self.roles:
            if name == role:
                return before, after
        names = ", ".join(name for name, _, _ in self.roles)
        raise UserError(f"the chat template has no role {role!r}; its roles are {names}")

    def pieces(self, turns: tuple[Turn, ...]) -> list[tuple[str, bool]]:
        """Pieces of the text of a conversation, in order, and of each whether it is learned.

        All that stands between two answers is one piece: tokens may go across the borders of turns.

        Raises:
          UserError: a role that the template has no form of.
        """
        found: list[tuple[str, bool]] = []
        given = ""
        for role, text in turns:
            before, after = self._around(role)
            if role == self.assistant:
                found += [(given + before, False), (text, True)]
                given = after
            else:
                given += before + text + after
        return found if turns and turns[-1].role == self.assistant else [*found, (given, False)]

    def prompt(self, turns: tuple[Turn, ...]) -> str:
        """The text that an answer to these turns follows."""
        return "".join(text for text, _ in self.pieces((*turns, Turn(self.assistant, ""))))


@checks.frozen
class ChatCodec(AroundText):
    """A codec of text whose prompts are turns of a conversation.

    Attributes:
      tokens: the codec of the text, of any kind.
      template: what stands around a prompt.
    """

    tokens: Any
    template: ChatTemplate = ChatTemplate()

    @property
    def text(self) -> Any:
        return self.tokens

    @property
    def target(self) -> Any:
        """What answers are written in, as of a ``PairCodec``."""
        return self.tokens

    def as_prompt(self, text: str) -> np.ndarray:
        """The tokens [N] of a turn of the user's and of what an answer follows."""
        return self.encode(self.template.prompt((Turn(self.template.user, text),)))


@dataclass(frozen=True)
class Conversation:
    """A conversation in tokens.

    Attributes:
      tokens: int32 [N], from the codec's start on where it has one.
      learned: bool [N], the assistant's turns and the end after each of them.
    """

    tokens: np.ndarray
    learned: np.ndarray

    def cut(self, room: int) -> Conversation:
        """Up to the last token that is learned of the first ``room``, at least one of which is."""
        last = int(np.flatnonzero(self.learned[:room])[-1]) + 1
        return Conversation(self.tokens[:last], self.learned[:last])


def said(template: ChatTemplate, turns: tuple[Turn, ...], where: str) -> list[tuple[str, bool]]:
    """The pieces of a conversation that ends with an answer.

    Args:
      where: the record, for messages.

    Raises:
      UserError: the assistant says nothing, or not the last word, or a role has no form.
    """
    if not turns or turns[-1].role != template.assistant:
        raise UserError(f"{where} does not end with a turn of the {template.assistant}'s: there is no answer to learn")
    if not all(text.strip() for role, text in turns if role == template.assistant):
        raise UserError(f"{where} has an empty response")
    try:
        return template.pieces(turns)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def conversation(codec: Any, template: ChatTemplate, turns: tuple[Turn, ...], where: str) -> Conversation:
    """Turns in tokens; each piece is encoded for itself, so that a prompt is the same with and without its answer.

    Args:
      codec: of the text, with a vocabulary.
      where: the record, for messages.

    Raises:
      UserError: the assistant says nothing, or not the last word, a role has no form, or text is outside the
        vocabulary.
    """
    lead, end = ([] if token is None else [token] for token in (codec.start, codec.end))
    parts, flags = [np.array(lead, np.int32)], [np.zeros(len(lead), bool)]
    at = 0
    for text, learned in said(template, turns, where):
        try:
            ids = codec.encode(text) if text else np.zeros(0, np.int32)
        except Unencodable as error:
            raise error.moved(at, where) from None
        at += len(text)
        parts.append(np.append(ids, end if learned else []).astype(np.int32))
        flags.append(np.full(len(parts[-1]), learned))
    return Conversation(np.concatenate(parts), np.concatenate(flags))
