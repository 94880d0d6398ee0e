"""Stages for texts: standard form, and filters of what is not good text.

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
# no blank among them
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\u200b\u2060]")
DASHES = re.compile(r"(\w)-\n(\w)")


@checks.frozen
class StandardText(RowStage):
    r"""Texts in one form: Unicode NFC, "\n" after lines, no control characters, single spaces, no
    blanks at the ends.

    Every line end that Unicode knows becomes "\n", every other blank a space, so that words never
    fuse. Characters of no width go without a blank (zero width space, word joiner, byte order
    mark), but joiners stay: scripts and emoji are written with them. What is empty then is dropped.

    Attributes:
      of: columns of texts.
      join_hyphenated: put words together again that a hyphen divides at the end of a line.
      keep_lines: leave line feeds, at most two in a row; otherwise they are spaces, too.
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
            changes.add(row, "texts brought to Unicode NFC")
        text, count = LINE_ENDS.subn("\n", text)
        changes.add(row, "line ends of other kinds replaced", count)
        text, count = CONTROL.subn("", text)
        changes.add(row, "control characters removed", count)
        if self.join_hyphenated:
            text, count = DASHES.subn(r"\1\2", text)
            changes.add(row, "divided words put together", count)
        found = self._spaced(text)
        changes.add(row, "texts whose blanks were replaced or removed", found != text)
        return found

    def _spaced(self, text: str) -> str:
        if not self.keep_lines:
            return " ".join(text.split())
        lines = (line.strip() for line in BLANKS.sub(" ", text).split("\n"))
        return EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip()


class TextFilter(RowStage):
    """Drops texts for a fault that ``find_fault`` finds; a subclass has ``column``."""

    column: str

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        return table, [self.find_fault(text or "") for text in get_texts(table, self.column)]

    def find_fault(self, text: str) -> str | None:
        raise NotImplementedError


@checks.frozen
class Length(TextFilter):
    """Drops texts that are too short or too long.

    Attributes:
      least: characters, or words.
      most: characters, or words; None for any number.
      words: count words, which white space separates, and each character of a script without
        spaces.
      column: of the text.
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
    """Drops texts that say the same again and again.

    Words are what white space separates: texts of scripts without spaces are judged by their lines
    alone.

    Attributes:
      lines: share of lines, empty ones aside, that are before already; more is too much.
      ngram: words of the n-grams that are looked at.
      top: share of all characters that the commonest n-gram may make up, where it stands more than
        once.
      repeated: share of all words that may be in n-grams which stand more than once.
      column: of the text.
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
        # Of several that are as common the longest tells, so that the order of the words does not.
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
      most: share of characters, blanks aside, that may be neither letters, marks nor digits.
      digits: share of them that may be digits.
      column: of the text.
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
    """Drops texts with words of a list, whole words in any case and in either spelling of an
    accent.

    Scripts that put no spaces between words have no whole words: there a word is found wherever it
    stands.

    Attributes:
      words: of the list, or phrases of several.
      allowed: how many of them a text may contain.
      column: of the text.
    """

    words: tuple[str, ...]
    allowed: int = 0
    column: str = "text"

    def __post_init__(self) -> None:
        if not self.words or not all(word.strip() for word in self.words):
            raise UserError("BlockedWords needs words")

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        return phrases(self.words)

    def find_fault(self, text: str) -> str | None:
        return (
            "blocked words"
            if len(self._pattern.findall(normalise_spelling(text))) > self.allowed
            else None
        )
