"""Cuts texts into chunks of tokens that overlap, at the ends of sentences where it can."""

from __future__ import annotations

import bisect
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from tokenizers import Tokenizer

from genjax import checks
from genjax.errors import UserError
from genjax.rag.sections import Section
from genjax.rag.sentences import split_sentences, strip_span
from genjax.store.index.encoders import TOKENIZER, WORDLLAMA
from genjax.store.index.engine import EXTRA

BLOCK = 20_000  # characters that are put into tokens at once
_BLANK = re.compile(r"\s+")


class Tokens(Protocol):
    """Puts texts into tokens."""

    def find_starts(self, text: str) -> Sequence[int]:
        """The character that each token begins with, in order; several may share one."""

    def count(self, text: str) -> int:
        """How many tokens a text has."""


class FileTokens:
    """The tokens of a ``tokenizer.json``."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library has no class of its own for it
            raise UserError(
                f"tokenizer {path} cannot be read: {error!s:.100}", "tokenizer"
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def find_starts(self, text: str) -> Sequence[int]:
        """See ``Tokens``."""
        found: list[int] = []
        for start, part in _split_blocks(text):
            coded = self._tokenizer.encode(part, add_special_tokens=False)
            found += (start + first for first, _ in coded.offsets)
        return np.maximum.accumulate(found).tolist() if found else []

    def count(self, text: str) -> int:
        """See ``Tokens``."""
        return len(self.find_starts(text))


def open_tokens(name: str = WORDLLAMA) -> Tokens:
    """The tokens of "wordllama", or of the path of a ``tokenizer.json``.

    Raises:
      UserError: there is no such file, or the package is missing.
    """
    if name != WORDLLAMA:
        return FileTokens(Path(name).expanduser())
    spec = importlib.util.find_spec(WORDLLAMA)
    if spec is None or spec.origin is None:
        raise UserError(f"tokenizer {name!r} needs the package {name}: {EXTRA}", "tokenizer")
    files = sorted(Path(spec.origin).parent.rglob(TOKENIZER))
    if not files:
        raise UserError(f"tokenizer: the package {name} lacks {TOKENIZER}", "tokenizer")
    return FileTokens(files[0])


class Cut(NamedTuple):
    """Characters of a text from ``start`` to before ``end``, and the headings above them."""

    start: int
    end: int
    headings: tuple[str, ...]


@checks.frozen
class Cutting:
    """How texts are cut.

    Attributes:
      chunk_tokens: of a chunk at most.
      overlap: tokens that a chunk repeats of the one before it, at most.
    """

    chunk_tokens: int = 200
    overlap: int = 40

    def __post_init__(self) -> None:
        checks.between(self, 8, 100_000, "chunk_tokens")
        checks.at_least(self, 0, "overlap")
        if 2 * self.overlap > self.chunk_tokens:
            raise UserError(
                f"overlap must be at most half of chunk_tokens, {self.chunk_tokens // 2}, "
                f"got {self.overlap}",
                "overlap",
            )

    def cut(self, text: str, sections: Sequence[Section], tokens: Tokens) -> list[Cut]:
        """Cut a text; its chunks hold all of it but blanks, none goes across a section's end.

        A chunk ends with a sentence where one ends in its second half, else with a word, else with
        a token. It begins with a sentence where one begins within the overlap, else with a word.
        """
        found = []
        for section in sections:
            part = text[section.start : section.end]
            for start, end in self._cut_part(part, tokens):
                start, end = strip_span(part, start, end)
                if start < end:
                    found.append(Cut(section.start + start, section.start + end, section.headings))
        return found

    def _cut_part(self, text: str, tokens: Tokens) -> Iterator[tuple[int, int]]:
        starts = [*tokens.find_starts(text), len(text)]
        sentences = [start for start, _ in split_sentences(text)]
        words = [match.end() for match in _BLANK.finditer(text)]
        first, begin = 0, 0
        while begin < len(text):
            last = min(first + self.chunk_tokens, len(starts) - 1)
            end = starts[last]
            if end < len(text):
                middle = starts[(first + last) // 2]
                end = _last(sentences, middle, end) or _last(words, middle, end) or end
            if end <= begin:  # one character of more tokens than a chunk may have
                end = next((start for start in starts if start > begin), len(text))
            yield begin, end
            if end >= len(text):
                return
            there = bisect.bisect_left(starts, end)
            back = max(starts[max(there - self.overlap, 0)], begin + 1)
            begin = _first(sentences, back, end) or _first(words, back, end) or min(back, end)
            begin = end if not self.overlap else begin
            first = bisect.bisect_left(starts, begin)


def _last(places: Sequence[int], after: int, until: int) -> int | None:
    """The last place above one and not above another."""
    at = bisect.bisect_right(places, until) - 1
    return places[at] if at >= 0 and places[at] > after else None


def _first(places: Sequence[int], since: int, before: int) -> int | None:
    """The first place not below one and below another."""
    at = bisect.bisect_left(places, since)
    return places[at] if at < len(places) and places[at] < before else None


def _split_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Parts of a text that begin with blanks, or are of ``BLOCK`` characters without any."""
    start = 0
    while start < len(text):
        end = start + BLOCK
        if end < len(text):
            cut = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = cut if cut > start else end
        yield start, text[start:end]
        start = end
