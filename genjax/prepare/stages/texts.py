"""Stages for texts: standard form, and filters of bad text.

The rules on repetition are those of Gopher (Rae et al., arXiv 2112.11446, table A1).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter

import pyarrow as pa

from genjax import checks
from genjax.data.text.words import normalise_spelling, phrases, word_count
from genjax.errors import UserError
from genjax.prepare.stage import Changes, RowStage, get_texts, replace_column

BLANKS = re.compile(r"[^\S\n]+")
EMPTY_LINES = re.compile(r"\n{3,}")
LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # those of str.splitlines
# Control and zero-width characters; none of them is a blank.
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\u200b\u2060]")
DASHES = re.compile(r"(\w)-\n(\w)")


@checks.frozen
class StandardText(RowStage):
    r"""Converts texts to one form: Unicode NFC, "\n" after lines, no control characters, single
    spaces, no surrounding blanks.

    Every Unicode line end becomes "\n" and every other blank a space, so that words never merge.
    Zero-width characters are removed (zero width space, word joiner, byte order mark) except
    joiners, which some scripts and emoji need. Texts that are then empty are dropped.

    Attributes:
      of: columns of texts.
      join_hyphenated: whether words divided by a hyphen at the end of a line are joined.
      keep_lines: whether line feeds are kept, at most two in a row; otherwise they become spaces.
    """

    of: tuple[str, ...] = ("text",)
    join_hyphenated: bool = False
    keep_lines: bool = True

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        empty = [False] * len(table)
        changes = Changes(len(table))
        for column in self.of:
            texts = get_texts(table, column)
            found = [self._standardise(text or "", row, changes) for row, text in enumerate(texts)]
            table = replace_column(table, column, found)
            empty = [e or not text for e, text in zip(empty, found, strict=True)]
        return changes.beside(table), ["empty" if e else None for e in empty]

    def _standardise(self, text: str, row: int, changes: Changes) -> str:
        if not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
            changes.add(row, "texts converted to Unicode NFC")
        text, count = LINE_ENDS.subn("\n", text)
        changes.add(row, "line ends of other kinds replaced", count)
        text, count = CONTROL.subn("", text)
        changes.add(row, "control characters removed", count)
        if self.join_hyphenated:
            text, count = DASHES.subn(r"\1\2", text)
            changes.add(row, "divided words joined", count)
        found = self._spaced(text)
        changes.add(row, "texts whose blanks were replaced or removed", found != text)
        return found

    def _spaced(self, text: str) -> str:
        if not self.keep_lines:
            return " ".join(text.split())
        lines = (line.strip() for line in BLANKS.sub(" ", text).split("\n"))
        return EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip()


class TextFilter(RowStage):
    """Base class of filters that drop texts with a fault; subclasses have ``column``."""

    column: str

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        return table, [self.find_fault(text or "") for text in get_texts(table, self.column)]

    def find_fault(self, text: str) -> str | None:
        raise NotImplementedError


@checks.frozen
class Length(TextFilter):
    """Drops texts that are too short or too long.

    Attributes:
      least: fewest characters, or words.
      most: most characters, or words; None for no limit.
      words: whether words are counted; in scripts without spaces each character is one.
      column: column of the text.
    """

    least: int = 1
    most: int | None = None
    words: bool = False
    column: str = "text"

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "least")
        checks.ordered(self, "least", "most")

    def find_fault(self, text: str) -> str | None:
        length = word_count(text) if self.words else len(text)
        if length < self.least:
            return "too short"
        return "too long" if self.most is not None and length > self.most else None


@checks.frozen
class Repetition(TextFilter):
    """Drops texts that repeat themselves.

    Words are separated by white space, so texts in scripts without spaces are only judged by their
    lines.

    Attributes:
      lines: largest fraction of repeated lines among those that are not empty.
      ngram: words in an n-gram.
      top: largest fraction of all characters in the commonest n-gram, if it is repeated.
      repeated: largest fraction of all words in repeated n-grams.
      column: column of the text.
    """

    lines: float = 0.3
    ngram: int = 3
    top: float = 0.18
    repeated: float = 0.5
    column: str = "text"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "ngram")
        checks.between(self, 0, 1, "lines", "top", "repeated")

    def find_fault(self, text: str) -> str | None:
        lines = [line for line in text.split("\n") if line.strip()]
        if lines and 1 - len(set(lines)) / len(lines) > self.lines:
            return "repeated lines"
        words = text.split()
        grams = [tuple(words[i : i + self.ngram]) for i in range(len(words) - self.ngram + 1)]
        counts = Counter(grams)
        if not counts:
            return None
        # Of equally common n-grams the longest counts, so that their order does not matter.
        gram, count = max(counts.items(), key=lambda item: (item[1], sum(map(len, item[0]))))
        letters = sum(map(len, words))
        if count > 1 and count * sum(map(len, gram)) / letters > self.top:
            return "one n-gram everywhere"
        within: set[int] = set()
        for start, each in enumerate(grams):
            if counts[each] > 1:
                within.update(range(start, start + self.ngram))
        return "repeated n-grams" if len(within) / len(words) > self.repeated else None


@checks.frozen
class SymbolRatio(TextFilter):
    """Drops texts with too few letters.

    Attributes:
      most: largest fraction of characters, without blanks, that are not letters, marks or digits.
      digits: largest fraction of digits.
      column: column of the text.
    """

    most: float = 0.3
    digits: float = 0.5
    column: str = "text"

    def __post_init__(self) -> None:
        checks.between(self, 0, 1, "most", "digits")

    def find_fault(self, text: str) -> str | None:
        kinds = Counter(unicodedata.category(letter)[0] for letter in text if not letter.isspace())
        whole = kinds.total()
        if not whole:
            return None
        if 1 - (kinds["L"] + kinds["M"] + kinds["N"]) / whole > self.most:
            return "too many symbols"
        return "too many digits" if kinds["N"] / whole > self.digits else None


@checks.frozen
class BlockedWords(TextFilter):
    """Drops texts with listed words, as whole words, in any case and Unicode spelling of accents.

    In scripts without spaces between words, a word is found anywhere.

    Attributes:
      words: words, or phrases of several words.
      allowed: how many of them a text may contain.
      column: column of the text.
    """

    words: tuple[str, ...]
    allowed: int = 0
    column: str = "text"

    def __post_init__(self) -> None:
        if not self.words or not all(word.strip() for word in self.words):
            raise UserError("words must not be empty", "words")

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        return phrases(self.words)

    def find_fault(self, text: str) -> str | None:
        return (
            "blocked words"
            if len(self._pattern.findall(normalise_spelling(text))) > self.allowed
            else None
        )
