"""Chat templates: the text around a turn tells who speaks."""

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
    """The contract of chat templates: ``ChatTemplate`` and
    ``genjax.data.chat.jinja.JinjaTemplate``.
    """

    @property
    def user(self) -> str:
        """The role of prompts."""
        ...

    @property
    def assistant(self) -> str:
        """The role whose turns are learned."""
        ...

    def text(self, turns: tuple[Turn, ...]) -> str:
        """Return the text of a conversation; special tokens of the template appear by name."""
        ...

    def conversation(self, codec: Component, turns: tuple[Turn, ...]) -> Conversation:
        """Tokenise a conversation that ends with an answer."""
        ...

    def prompt_tokens(self, codec: Component, turns: tuple[Turn, ...]) -> np.ndarray:
        """Return the prompt tokens [N] int32 for an answer to these turns, without the codec's
        start.
        """
        ...

    def starts(self, codec: Component) -> bool:
        """Return whether the codec's start token begins a conversation."""
        ...

    def end(self, codec: Component) -> int | None:
        """Return the token that the template writes after each answer."""
        ...

    def ends(self, codec: Component) -> tuple[int, ...]:
        """Return all tokens that end an answer, ``end`` first."""
        ...


@checks.frozen
class ChatTemplate:
    """Writes fixed texts around the turns of each role; the defaults are those of Alpaca (Taori et
    al., 2023).

    Attributes:
      roles: name of each role, text before its turns, and text after them.
      user: role of prompts.
      assistant: role whose turns are learned; the codec's end follows each of them.
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
            raise UserError(f"roles must be distinct, got {', '.join(names)}", "roles")
        for role in (self.user, self.assistant):
            self._find_markers(role)

    def _find_markers(self, role: str) -> tuple[str, str]:
        for name, before, after in self.roles:
            if name == role:
                return before, after
        names = ", ".join(name for name, _, _ in self.roles)
        raise UserError(f"the chat template has no role {role!r}; its roles are {names}")

    def render_pieces(self, turns: tuple[Turn, ...]) -> list[tuple[str, bool]]:
        """Return the text of a conversation in pieces, each with whether it is learned.

        The text between two answers is one piece, because tokens may cross the borders of turns.

        Raises:
          UserError: the template does not have a role.
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
        """Return the text of a conversation, without the codec's start and ends."""
        return "".join(text for text, _ in self.render_pieces(turns))

    def prompt(self, turns: tuple[Turn, ...]) -> str:
        """Return the prompt for an answer to these turns as text."""
        return self.text((*turns, Turn(self.assistant, "")))

    def prompt_tokens(self, codec: Component, turns: tuple[Turn, ...]) -> np.ndarray:
        """Return the tokens [N] int32 of ``prompt``."""
        ids: np.ndarray = codec.encode(self.prompt(turns))
        return ids

    def conversation(self, codec: Component, turns: tuple[Turn, ...]) -> Conversation:
        """Tokenise turns piece by piece, so that a prompt has the same tokens without its answer.

        Raises:
          Unencodable: text is outside the vocabulary.
          UserError: the template does not have a role.
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
    """Wraps a text codec so that prompts become turns of a conversation.

    Attributes:
      tokens: codec of the text.
      template: chat template.
    """

    tokens: Component
    template: Template = ChatTemplate()

    @property
    def text(self) -> Any:
        return self.tokens

    @property
    def target(self) -> Any:
        """The codec of answers, as in a ``PairCodec``."""
        return self.tokens

    @property
    def end(self) -> int | None:
        """The token after an answer: the template's, or the codec's if the template has none."""
        end = self.template.end(self.tokens)
        own: int | None = self.tokens.end
        return own if end is None else end

    @property
    def ends(self) -> tuple[int, ...]:
        return self.template.ends(self.tokens) or ends_of(self.tokens)

    def encode_prompt(self, text: str) -> np.ndarray:
        """Return the prompt tokens [N] int32 for one turn of the user, without the codec's
        start.
        """
        return self.template.prompt_tokens(self.tokens, (Turn(self.template.user, text),))

    def whole_prompt(self, text: str) -> np.ndarray:
        """Return the tokens of ``encode_prompt``, after the codec's start if the template needs
        it.
        """
        lead = [self.tokens.start] if self.template.starts(self.tokens) else []
        return np.concatenate([np.array(lead, np.int32), self.encode_prompt(text)])

    def until_end(self, ids: np.ndarray) -> np.ndarray:
        """Return the tokens [M] of a sample ids [N] without the ends after it; an end inside it
        belongs to a turn of its prompt.
        """
        return ids[: 1 + int(np.flatnonzero(~np.isin(ids, (*self.ends, NOTHING))).max(initial=-1))]

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        return WritesText.write(self, samples, stem)


def ends_of(codec: Component) -> tuple[int, ...]:
    """Return all tokens that end a text by a codec, ``end`` first; () for a codec without one."""
    if isinstance(codec, ChatCodec):
        return codec.ends
    return () if codec.end is None else (codec.end,)


def before_end(codec: Component, ids: np.ndarray) -> np.ndarray:
    """Return the tokens [M] before the end of a sample ids [N], for any codec."""
    return codec.until_end(ids) if isinstance(codec, ChatCodec) else cut_at_end(ids, codec.end)


def _check_said(template: Template, turns: tuple[Turn, ...], where: str) -> None:
    """Raise ``UserError`` unless a conversation ends with an answer and no answer is empty."""
    if not turns or turns[-1].role != template.assistant:
        raise UserError(
            f"{where} must end with a turn of the {template.assistant}: there is no answer to learn"
        )
    if not all(text.strip() for role, text in turns if role == template.assistant):
        raise UserError(f"{where} has an empty response")


def whole_text(template: Template, turns: tuple[Turn, ...], where: str) -> str:
    """Return the text of a conversation that ends with an answer.

    Args:
      template: chat template.
      turns: turns of the conversation.
      where: place of the record, for messages.

    Raises:
      UserError: the conversation does not end with an answer, an answer is empty, or the template
        refuses it.
    """
    _check_said(template, turns, where)
    try:
        return template.text(turns)
    except UserError as error:
        raise UserError(f"{where}: {error}", error.field) from None


def conversation(
    codec: Component, template: Template, turns: tuple[Turn, ...], where: str
) -> Conversation:
    """Tokenise turns by a template.

    Args:
      codec: fitted codec of the text.
      template: chat template.
      turns: turns of the conversation.
      where: place of the record, for messages.

    Raises:
      UserError: the conversation does not end with an answer, an answer is empty, the template
        refuses it, or text is outside the vocabulary.
    """
    _check_said(template, turns, where)
    tokens = codec.tokens if isinstance(codec, ChatCodec) else codec
    try:
        return template.conversation(tokens, turns)
    except Unencodable as error:
        raise error.shift(0, where) from None
    except UserError as error:
        raise UserError(f"{where}: {error}", error.field) from None
