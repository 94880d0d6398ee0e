"""Cut texts into overlapping chunks of tokens, at the ends of sentences if possible."""

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

BLOCK = 20_000  # the most characters tokenized at once
_BLANK = re.compile(r"\s+")


class Tokens(Protocol):
    """A tokenizer of texts."""

    def find_starts(self, text: str) -> Sequence[int]:
        """Return the position where each token starts, in order; several tokens may share one."""

    def count(self, text: str) -> int:
        """Return the number of tokens in a text."""


class FileTokens:
    """A tokenizer read from a ``tokenizer.json`` file."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception
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
    """Open the tokenizer of "wordllama", or one at the path of a ``tokenizer.json`` file.

    Raises:
      UserError: the file or the package is missing, or the file is invalid.
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
    """The characters of a text from ``start`` to before ``end``, and the headings above them."""

    start: int
    end: int
    headings: tuple[str, ...]


@checks.frozen
class Cutting:
    """The options of cutting texts.

    Attributes:
      chunk_tokens: the most tokens in a chunk.
      overlap: the most tokens that a chunk repeats from the one before.
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
        """Cut a text into chunks that hold all of it but blanks, each within one section.

        A chunk ends at the end of a sentence if there is one in its second half, else at the end of
        a word, else of a token. It starts at the start of a sentence if there is one in the
        overlap, else at the start of a word, else of a token.
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
            if end <= begin:  # one character has more tokens than a chunk may have
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
    """Return the last place p with ``after < p <= until``, or None."""
    at = bisect.bisect_right(places, until) - 1
    return places[at] if at >= 0 and places[at] > after else None


def _first(places: Sequence[int], since: int, before: int) -> int | None:
    """Return the first place p with ``since <= p < before``, or None."""
    at = bisect.bisect_left(places, since)
    return places[at] if at < len(places) and places[at] < before else None


def _split_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield parts of a text of at most ``BLOCK`` characters, cut at blanks if possible."""
    start = 0
    while start < len(text):
        end = start + BLOCK
        if end < len(text):
            cut = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = cut if cut > start else end
        yield start, text[start:end]
        start = end
