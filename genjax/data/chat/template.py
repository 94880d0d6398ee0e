"""Conversations as text: what is before and after a turn says who speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.turns import Conversation, Turn
from genjax.data.text.codecs import NOTHING, Unencodable, WritesText, cut_at_end
from genjax.data.text.wrapped import AroundText
from genjax.errors import UserError

__all__ = [
    "ChatCodec",
    "ChatTemplate",
    "Conversation",
    "Template",
    "Turn",
    "conversation",
    "whole_text",
]


class Template(Protocol):
    """What all chat templates promise: ``ChatTemplate`` and
    ``genjax.data.chat.jinja.JinjaTemplate``.
    """

    @property
    def user(self) -> str:
        """The role of the user, which a prompt is of."""
        ...

    @property
    def assistant(self) -> str:
        """The role that is learned."""
        ...

    def text(self, turns: tuple[Turn, ...]) -> str:
        """The text of a conversation, special tokens by their names if it writes such."""
        ...

    def conversation(self, codec: Component, turns: tuple[Turn, ...]) -> Conversation:
        """A conversation that ends with an answer in tokens."""
        ...

    def prompt_tokens(self, codec: Component, turns: tuple[Turn, ...]) -> np.ndarray:
        """The tokens [N] int32 that an answer to these turns follows, without the codec's start."""
        ...

    def starts(self, codec: Component) -> bool:
        """Whether the codec's start is before a conversation."""
        ...

    def end(self, codec: Component) -> int | None:
        """The token after each answer."""
        ...

    def ends(self, codec: Component) -> tuple[int, ...]:
        """All tokens that end an answer, ``end`` first."""
        ...


@checks.frozen
class ChatTemplate:
    """What is around the turns of each role; the defaults are those of Alpaca (Taori et al., 2023).

    Attributes:
      roles: of each its name, what is before a turn, and what after.
      user: the role of the user, which a prompt is of.
      assistant: the role that is learned; the codec's end is after each of its turns.
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
            self._find_markers(role)

    def _find_markers(self, role: str) -> tuple[str, str]:
        for name, before, after in self.roles:
            if name == role:
                return before, after
        names = ", ".join(name for name, _, _ in self.roles)
        raise UserError(f"the chat template has no role {role!r}; its roles are {names}")

    def render_pieces(self, turns: tuple[Turn, ...]) -> list[tuple[str, bool]]:
        """Pieces of the text of a conversation, in order, and of each whether it is learned.

        All that is between two answers is one piece: tokens may go across the borders of turns.

        Raises:
          UserError: a role that the template has no form of.
        """
        found: list[tuple[str, bool]] = []
        given = ""
        for role, text in turns:
            before, after = self._find_markers(role)
            if role == self.assistant:
                found += [(given + before, False), (text, True)]
                given = after
            else:
                given += before + text + after
        return found if turns and turns[-1].role == self.assistant else [*found, (given, False)]

    def text(self, turns: tuple[Turn, ...]) -> str:
        """The text of a conversation, without the codec's start and ends; the same errors."""
        return "".join(text for text, _ in self.render_pieces(turns))

    def prompt(self, turns: tuple[Turn, ...]) -> str:
        """The text that an answer to these turns follows."""
        return self.text((*turns, Turn(self.assistant, "")))

    def prompt_tokens(self, codec: Component, turns: tuple[Turn, ...]) -> np.ndarray:
        """The tokens [N] int32 of ``prompt``."""
        ids: np.ndarray = codec.encode(self.prompt(turns))
        return ids

    def conversation(self, codec: Component, turns: tuple[Turn, ...]) -> Conversation:
        """Turns in tokens; each piece is encoded for itself, so that a prompt is the same with and
        without its answer.

        Raises:
          Unencodable: text outside the vocabulary.
          UserError: a role that the template has no form of.
        """
        lead, end = ([] if token is None else [token] for token in (codec.start, codec.end))
        parts, flags = [np.array(lead, np.int32)], [np.zeros(len(lead), bool)]
        at = 0
        for text, learned in self.render_pieces(turns):
            try:
                ids = codec.encode(text) if text else np.zeros(0, np.int32)
            except Unencodable as error:
                raise error.shift(at, "the text") from None
            at += len(text)
            parts.append(np.append(ids, end if learned else []).astype(np.int32))
            flags.append(np.full(len(parts[-1]), learned))
        return Conversation(np.concatenate(parts), np.concatenate(flags))

    def starts(self, codec: Component) -> bool:
        return codec.start is not None

    def end(self, codec: Component) -> int | None:
        end: int | None = codec.end
        return end

    def ends(self, codec: Component) -> tuple[int, ...]:
        return () if codec.end is None else (codec.end,)


@checks.frozen
class ChatCodec(AroundText):
    """A codec of text whose prompts are turns of a conversation.

    Attributes:
      tokens: the codec of the text, of any kind.
      template: what is around a prompt.
    """

    tokens: Component
    template: Template = ChatTemplate()

    @property
    def text(self) -> Any:
        return self.tokens

    @property
    def target(self) -> Any:
        """What answers are written in, as of a ``PairCodec``."""
        return self.tokens

    @property
    def end(self) -> int | None:
        """What is after an answer; of a template that writes nothing there the codec's own."""
        end = self.template.end(self.tokens)
        own: int | None = self.tokens.end
        return own if end is None else end

    @property
    def ends(self) -> tuple[int, ...]:
        return self.template.ends(self.tokens) or ends_of(self.tokens)

    def encode_prompt(self, text: str) -> np.ndarray:
        """The tokens [N] of a turn of the user's and of what an answer follows, without the
        codec's start.
        """
        return self.template.prompt_tokens(self.tokens, (Turn(self.template.user, text),))

    def whole_prompt(self, text: str) -> np.ndarray:
        """``encode_prompt`` with the codec's start before it, where the template leaves it to the
        codec.
        """
        lead = [self.tokens.start] if self.template.starts(self.tokens) else []
        return np.concatenate([np.array(lead, np.int32), self.encode_prompt(text)])

    def until_end(self, ids: np.ndarray) -> np.ndarray:
        """The tokens [M] of a sample ids [N] without the ends after it; one within ends a turn
        of its prompt.
        """
        return ids[: 1 + int(np.flatnonzero(~np.isin(ids, (*self.ends, NOTHING))).max(initial=-1))]

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        return WritesText.write(self, samples, stem)


def ends_of(codec: Component) -> tuple[int, ...]:
    """All tokens that end a text by a codec; ``end`` first, none of a codec without one."""
    if isinstance(codec, ChatCodec):
        return codec.ends
    return () if codec.end is None else (codec.end,)


def before_end(codec: Component, ids: np.ndarray) -> np.ndarray:
    """The tokens [M] of a sample ids [N] of any codec before its end."""
    return codec.until_end(ids) if isinstance(codec, ChatCodec) else cut_at_end(ids, codec.end)


def _check_said(template: Template, turns: tuple[Turn, ...], where: str) -> None:
    """Refuse a conversation whose assistant says nothing, or not the last word, with a
    ``UserError``.
    """
    if not turns or turns[-1].role != template.assistant:
        raise UserError(
            f"{where} does not end with a turn of the {template.assistant}'s: there is no answer "
            "to learn"
        )
    if not all(text.strip() for role, text in turns if role == template.assistant):
        raise UserError(f"{where} has an empty response")


def whole_text(template: Template, turns: tuple[Turn, ...], where: str) -> str:
    """The text of a conversation that ends with an answer.

    Args:
      where: the record, for messages.

    Raises:
      UserError: the assistant says nothing, or not the last word, or the template has no form for
        it.
    """
    _check_said(template, turns, where)
    try:
        return template.text(turns)
    except UserError as error:
        raise UserError(f"{where}: {error}", error.field) from None


def conversation(
    codec: Component, template: Template, turns: tuple[Turn, ...], where: str
) -> Conversation:
    """Turns in tokens, as the template has them.

    Args:
      codec: of the text, with a vocabulary.
      where: the record, for messages.

    Raises:
      UserError: the assistant says nothing, or not the last word, the template has no form for it,
        or text is outside the vocabulary.
    """
    _check_said(template, turns, where)
    tokens = codec.tokens if isinstance(codec, ChatCodec) else codec
    try:
        return template.conversation(tokens, turns)
    except Unencodable as error:
        raise error.shift(0, where) from None
    except UserError as error:
        raise UserError(f"{where}: {error}", error.field) from None
