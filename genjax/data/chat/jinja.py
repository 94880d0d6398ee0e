"""Chat templates in Jinja, as published with the tokenizers of other models.

A conversation gets the same tokens as with ``apply_chat_template`` of ``transformers``, except that
people's text never becomes a special token. To tell their text from the template's, the
conversation is rendered a second time with private-use characters around each message.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from genjax.checks import Component
from genjax.data.chat.render import Job, render
from genjax.data.chat.turns import Conversation, Turn
from genjax.data.text import guarded
from genjax.data.text.guarded import Span
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError

PLANES = (0xF0000, 0x100000)  # planes of private-use characters; an unused one marks messages
GENERATION = 32_000  # the number whose marks enclose ``{% generation %}`` blocks
# Roles that templates know by convention; other roles must occur in the template's source.
ROLES = frozenset({"system", "user", "assistant", "developer", "tool", "function", "ipython"})
PROBE = (Turn("user", "a"), Turn("assistant", "b"))


class Rendered(NamedTuple):
    """A conversation as text.

    Attributes:
      text: the whole text.
      said: span of each message without surrounding blanks; None for an empty message.
      generated: spans of the ``{% generation %}`` blocks.
    """

    text: str
    said: tuple[tuple[Span, ...], ...]
    generated: tuple[Span, ...]

    @property
    def people(self) -> list[Span]:
        """Spans that people wrote, in order."""
        return sorted(span for spans in self.said for span in spans)


@dataclass(frozen=True)
class JinjaTemplate:
    """A chat template in Jinja, as in a Hugging Face model folder.

    It is rendered in Jinja's sandbox by a child process with limits on time, memory and output.

    Attributes:
      source: source of the template.
      names: variables that it may read, such as ("bos_token", "<s>").
      stops: names of tokens that end an answer, besides the one that the template writes after it.
      date: date that ``strftime_now`` returns, in ISO 8601; it is fixed for a run.
      file: file of the template, for messages.
    """

    user: ClassVar[str] = "user"
    assistant: ClassVar[str] = "assistant"

    source: str
    names: tuple[tuple[str, str], ...] = ()
    stops: tuple[str, ...] = ()
    date: str | None = None
    file: str = field(default="the chat template", repr=False, compare=False)

    def text(self, turns: tuple[Turn, ...]) -> str:
        """Return the text of a conversation.

        Raises:
          UserError: the template refuses it or does something forbidden; the field is ``file``.
        """
        return self._rendered(turns, ())[0].text

    def prompt(self, turns: tuple[Turn, ...]) -> str:
        """Return the prompt for an answer to these turns as text; errors are those of ``text``."""
        return self._rendered(turns, (), prompt=True)[0].text

    def prompt_tokens(self, codec: Component, turns: tuple[Turn, ...]) -> np.ndarray:
        """Return the tokens [N] int32 of ``prompt``; errors are those of ``text``."""
        return self._encode(codec, self._rendered(turns, (), prompt=True)[0]).ids

    def conversation(self, codec: Component, turns: tuple[Turn, ...]) -> Conversation:
        """Tokenise turns; answers and the special token after each are learned.

        If the template has ``{% generation %}`` blocks, these are learned instead.

        Raises:
          UserError: see ``text``; or a prompt's tokens change when its answer follows.
        """
        answers = [i for i, turn in enumerate(turns) if turn.role == self.assistant and i]
        whole, *prompts = self._rendered(turns, [turns[:i] for i in answers])
        found = self._encode(codec, whole)
        given = [self._given(codec, whole, found.ids, prompt) for prompt in prompts]
        learned = np.zeros(len(found.ids), bool)
        for first, last in whole.generated:
            learned |= guarded.overlaps(found.offsets, first, last)
        if whole.generated:
            return Conversation(found.ids, learned)
        sizes = [len(prompt.text) for prompt in prompts]
        starts = dict(zip(answers, zip(sizes, given, strict=True), strict=True))
        end = self.end(codec)
        for number, turn in enumerate(turns):
            if turn.role == self.assistant:
                ((first, last),) = whole.said[number]
                size, tokens = starts.get(number, (first, 0))
                begin = size if not whole.text[size:first].strip() else first
                after = (span[0] for span in whole.people if span[0] >= last)
                over = self._end_after(found, last, next(after, len(whole.text)), end)
                spoken = guarded.overlaps(found.offsets, begin, over)
                learned |= spoken & (np.arange(len(learned)) >= tokens)
        return Conversation(found.ids, learned)

    def end(self, codec: Component) -> int | None:
        """Return the special token that the template writes after an answer; None if it has
        none.
        """
        return _end_of_turn(self, self._checked(codec))

    def ends(self, codec: Component) -> tuple[int, ...]:
        """Return all tokens that end an answer, the template's first."""
        named = (codec.token(name) for name in self.stops)
        found = (self.end(codec), *named)
        return tuple(dict.fromkeys(i for i in found if i is not None))

    def starts(self, codec: Component) -> bool:
        """Return False: the template itself writes the start of a conversation."""
        return False

    def _checked(self, codec: Component) -> Subwords:
        if not isinstance(codec, Subwords):
            raise UserError(
                f"{self.file}: codec must be Subwords for a chat template in Jinja, got "
                f"{type(codec).__name__}",
                "codec",
            )
        return codec

    def _encode(self, codec: Component, rendered: Rendered) -> guarded.Tokens:
        return guarded.encode(self._checked(codec), rendered.text, rendered.people)

    def _given(self, codec: Component, whole: Rendered, ids: np.ndarray, prompt: Rendered) -> int:
        """Return the number of prompt tokens, which begin the conversation."""
        found = self._encode(codec, prompt).ids
        if whole.text.startswith(prompt.text) and np.array_equal(found, ids[: len(found)]):
            return len(found)
        raise UserError(
            f"{self.file}: the tokens of a prompt change when its answer follows, because of the "
            "template or of blanks at the beginning of the answer",
            self.file,
        )

    @staticmethod
    def _end_after(found: guarded.Tokens, last: int, limit: int, end: int | None) -> int:
        """Return the character after the ``end`` token that follows ``last``, else ``last``."""
        begin, after = found.offsets.T
        places = np.flatnonzero(found.special & (begin >= last) & (after <= limit))
        if len(places) and found.ids[places[0]] == end:
            return int(after[places[0]])
        return last

    def _rendered(
        self,
        turns: tuple[Turn, ...],
        prompts: Sequence[tuple[Turn, ...]],
        prompt: bool = False,
    ) -> list[Rendered]:
        """Render a conversation, and the prompts of the answers in it."""
        named = ROLES | set(re.findall(r"""["']([\w.-]+)["']""", self.source))
        for role, _ in turns:
            if role not in named:
                raise UserError(
                    f"{self.file}: the template does not name the role {role!r}", self.file
                )
        base = _plane(self.source, turns)
        marks = (chr(base + 2 * GENERATION), chr(base + 2 * GENERATION + 1))
        jobs = [Job(_messages(turns), prompt), Job(_messages(turns, base), prompt, marks)]
        jobs += [Job(_messages(turns[: len(part)], base), True, marks) for part in prompts]
        blanks = any(text != text.strip() for _, text in turns)
        stripped = tuple(Turn(role, text.strip()) for role, text in turns)
        jobs += [Job(_messages(stripped, base), prompt, marks)] * blanks
        plain, *texts = render(self.source, self.names, self.date, jobs, self.file)
        found = [_parsed(text, base, len(turns)) for text in texts]
        if found[0] is None or found[0].text != plain or None in found:
            raise UserError(
                f"{self.file}: the template changes or cuts the text of a message, so that "
                "people's text cannot be told from its own",
                self.file,
            )
        whole = found[0]
        for number, (role, text) in enumerate(turns):
            count = len(whole.said[number])
            if text.strip() and (not count or (role == self.assistant and count > 1)):
                what = "repeats" if count else "leaves out"
                raise UserError(
                    f"{self.file}: the template {what} message {number + 1}, of the role {role}",
                    self.file,
                )
        rest = [part for part in found[1 : 1 + len(prompts)] if part is not None]
        if blanks and found[-1] is not None:
            whole = _with_blanks(whole, found[-1], turns)
        return [whole, *rest]


def _plane(source: str, turns: tuple[Turn, ...]) -> int:
    """Return the first code point of a private-use plane that neither template nor turns use."""
    if len(turns) >= GENERATION:
        raise UserError(f"a conversation must have < {GENERATION:,} messages, got {len(turns):,}")
    whole = "".join((source, *(text for _, text in turns)))
    for base in PLANES:
        if not re.search(f"[{chr(base)}-{chr(base + 0xFFFF)}]", whole):
            return base
    raise UserError("a conversation must not use private-use characters of both planes")


def _messages(turns: tuple[Turn, ...], base: int | None = None) -> list[dict[str, str]]:
    """Return turns as templates read them; with a ``base``, marks surround each content."""
    found = []
    for number, (role, text) in enumerate(turns):
        core = text.strip()
        if base is not None and core:
            first = len(text) - len(text.lstrip())
            before, after = text[:first], text[first + len(core) :]
            marks = chr(base + 2 * number), chr(base + 2 * number + 1)
            text = f"{before}{marks[0]}{core}{marks[1]}{after}"
        found.append({"role": role, "content": text})
    return found


def _parsed(marked: str, base: int, messages: int) -> Rendered | None:
    """Remove the marks from a text and return what they enclosed; None if they are out of order."""
    said: list[list[Span]] = [[] for _ in range(messages)]
    generated: list[Span] = []
    opened: dict[int, int] = {}
    parts, at, size = [], 0, 0
    for mark in re.finditer(f"[{chr(base)}-{chr(base + 0xFFFF)}]", marked):
        parts.append(marked[at : mark.start()])
        size += mark.start() - at
        at = mark.end()
        number, closes = divmod(ord(mark[0]) - base, 2)
        if not closes and number not in opened and not opened.keys() - {GENERATION}:
            opened[number] = size
        elif closes and number in opened:
            spans = generated if number == GENERATION else said[number]
            spans.append((opened.pop(number), size))
        else:
            return None
    text = "".join((*parts, marked[at:]))
    if opened:
        return None
    return Rendered(text, tuple(map(tuple, said)), tuple(generated))


def _with_blanks(whole: Rendered, bare: Rendered, turns: tuple[Turn, ...]) -> Rendered:
    """Extend the span of each message by its surrounding blanks, if the template keeps them.

    Args:
      whole: the rendered conversation.
      bare: the conversation rendered without these blanks.
      turns: turns with these blanks.
    """
    order, gaps = _gaps(whole)
    other, bare_gaps = _gaps(bare)
    if [i for _, i in order] != [i for _, i in other]:
        return whole
    lead = [text[: len(text) - len(text.lstrip())] for _, text in turns]
    trail = [text[len(text.rstrip()) :] for _, text in turns]
    grown = [list(span) for span, _ in order]
    for place, (gap, bare_gap) in enumerate(zip(gaps, bare_gaps, strict=True)):
        after = trail[order[place - 1][1]] if place else ""
        before = lead[order[place][1]] if place < len(order) else ""
        for left, right in itertools.product((after, ""), (before, "")):
            if left + bare_gap + right == gap:
                if place:
                    grown[place - 1][1] += len(left)
                if place < len(order):
                    grown[place][0] -= len(right)
                break
    said: list[list[Span]] = [[] for _ in turns]
    for (first, last), (_, number) in zip(grown, order, strict=True):
        said[number].append((first, last))
    return whole._replace(said=tuple(map(tuple, said)))


def _gaps(rendered: Rendered) -> tuple[list[tuple[Span, int]], list[str]]:
    """Return the spans and numbers of the messages in order, and the texts around them."""
    order = sorted((span, i) for i, spans in enumerate(rendered.said) for span in spans)
    edges = [0, *itertools.chain(*(span for span, _ in order)), len(rendered.text)]
    return order, [rendered.text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


@functools.lru_cache(maxsize=8)
def _end_of_turn(template: JinjaTemplate, codec: Subwords) -> int | None:
    """Return the first special token that a template writes after the last answer, or None."""
    rendered = template._rendered(PROBE, ())[0]
    found = guarded.encode(codec, rendered.text[rendered.said[1][0][1] :], ())
    special = found.ids[found.special].tolist()
    return special[0] if special else None
