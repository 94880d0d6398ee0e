"""Codecs that convert text to tokens and back. A codec without a vocabulary is fitted to the
training text when a source is opened.

``encode`` returns only the tokens of the text; ``start`` and ``end`` are added when documents
become rows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import CONTINUED, CONTINUES, SPECIAL
from genjax.data.text.words import is_word_character, join_words, split_words
from genjax.errors import UserError
from genjax.machine import disk
from genjax.serial.json_text import HALF

OnUnknown = Literal["refuse", "token"]
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # shown for a token without known text
NOTHING = -1  # fills a row of tokens after a text that stopped without an end token
RULE = "\n" + "-" * 40 + "\n"  # between samples of several lines


class TextCodec(Protocol):
    """The contract of text codecs. The id of a special token is None if the codec has none."""

    @property
    def is_fitted(self) -> bool:
        """Whether the codec has a vocabulary."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens, which are 0 .. vocabulary - 1."""

    @property
    def start(self) -> int | None:
        """The token before a document that has its own row or segment."""

    @property
    def end(self) -> int | None:
        """The token after every document."""

    @property
    def pad(self) -> int | None:
        """The token that fills rows; if None, 0 does, as padding has no weight anyway."""

    @property
    def token_bytes(self) -> np.ndarray | None:
        """Bytes of UTF-8 text that each token represents, [V] int32; None if the codec is lossy."""

    @property
    def unknown_token(self) -> int | None:
        """The token for text outside the vocabulary; None if such text is refused or impossible."""

    @property
    def one_spelling(self) -> bool:
        """Whether a text has the same tokens wherever it occurs, so that it can be found by
        them.
        """

    @property
    def mask(self) -> int | None:
        """The token that replaces one to be predicted."""

    @property
    def token_kinds(self) -> np.ndarray:
        """Sum of the flags ``CONTINUES``, ``CONTINUED`` and ``SPECIAL`` of each token, [V]
        uint8.
        """

    def fit(self, texts: Iterable[str]) -> Any:
        """Return a codec with a vocabulary fitted to ``texts``."""

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens [N] int32 of a text.

        Raises:
          Unencodable: the text is outside the vocabulary, and there is no unknown token.
        """

    def decode(self, ids: np.ndarray) -> str: ...

    def until_end(self, ids: np.ndarray) -> np.ndarray: ...

    def write(self, samples: np.ndarray, stem: Path) -> Path: ...


class Unencodable(UserError):
    """Text is outside the vocabulary: ``what``, at character ``at`` of the text."""

    def __init__(
        self, what: str, at: int, vocabulary: int, remedy: str, where: str = "the text"
    ) -> None:
        self._parts = what, vocabulary, remedy
        self.at, self._where = at, where
        super().__init__(
            f"{what} at character {at:,} of {where} is not in the vocabulary of {vocabulary:,}; "
            f"{remedy}"
        )

    def shift(self, offset: int, where: str) -> Unencodable:
        """Return the same error for a longer text in which this one starts at ``offset``."""
        what, vocabulary, remedy = self._parts
        return Unencodable(what, self.at + offset, vocabulary, remedy, where)

    def __reduce__(self) -> tuple[Any, ...]:
        what, vocabulary, remedy = self._parts
        return Unencodable, (what, self.at, vocabulary, remedy, self._where)


class WritesText:
    """The parts that all text codecs share."""

    @property
    def shown(self) -> int:
        return 8

    @property
    def levels(self) -> None:
        return None

    @property
    def mask(self) -> int | None:
        return None

    @property
    def pad(self) -> int | None:
        return None

    @property
    def unknown_token(self) -> int | None:
        return None

    def until_end(self: Any, ids: np.ndarray) -> np.ndarray:
        return cut_at_end(ids, self.end)

    def write(self: Any, samples: np.ndarray, stem: Path) -> Path:
        """Write the texts of samples [N, T], each up to its first ``end``; return the file's
        path.
        """
        path = stem.parent / f"{stem.name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        return disk.write(path, format_samples(self, samples).encode("utf-8", "replace"))


def format_samples(codec: Component, samples: np.ndarray) -> str:
    """Return samples [N, T] as one text: each up to its first end, with rules between samples of
    several lines.
    """
    texts = [codec.decode(codec.until_end(row)) for row in np.asarray(samples)]
    between = RULE if any("\n" in text for text in texts) else "\n"
    return between.join(texts) + "\n"


def cut_at_end(ids: np.ndarray, end: int | None) -> np.ndarray:
    """Return the tokens [M] of ids [N] before the first ``end`` or ``NOTHING``.

    An end token at the very start begins a document, and is kept.
    """
    over = ids[1:] == NOTHING
    if end is not None:
        over |= ids[1:] == end
    stops = np.flatnonzero(over) + 1
    return ids[: stops[0]] if len(stops) else ids


def require_vocabulary(codec: Component) -> None:
    if not codec.is_fitted:
        raise UserError(f"{type(codec).__name__} has no vocabulary yet: fit it to a text")


def _code_points(text: str) -> np.ndarray:
    """Return the code points [N] uint32 of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def check_ids(ids: np.ndarray, vocabulary: int) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.size and not 0 <= ids.min() <= ids.max() < vocabulary:
        raise UserError(
            f"tokens must be from 0 to {vocabulary - 1:,}, got {ids.min()} to {ids.max()}"
        )
    return ids


@checks.frozen
class Characters(WritesText):
    """Encodes each character as a token. Special tokens come before the characters.

    Attributes:
      characters: the known characters, sorted and distinct; if empty, those of the training text.
      delimiter: whether a further token, 0, is placed before and after every document.
      unknown: what to do with unknown characters: "refuse" them, or use a "token" for them.
    """

    characters: str = ""
    delimiter: bool = False
    unknown: OnUnknown = "refuse"

    def __post_init__(self) -> None:
        if list(self.characters) != sorted(set(self.characters)):
            raise UserError(
                f"characters must be sorted and distinct, got {self.characters!r}", "characters"
            )

    @property
    def is_fitted(self) -> bool:
        return bool(self.characters)

    @property
    def vocabulary(self) -> int:
        return self._first + len(self.characters)

    @property
    def _first(self) -> int:
        """The id of the first character."""
        return int(self.delimiter) + (self.unknown == "token")

    @property
    def end(self) -> int | None:
        return 0 if self.delimiter else None

    @property
    def start(self) -> int | None:
        return self.end

    @property
    def token_bytes(self) -> np.ndarray | None:
        if self.unknown == "token":
            return None
        lengths = [len(character.encode("utf-8", "surrogatepass")) for character in self.characters]
        return np.array([0] * self._first + lengths, np.int32)

    @property
    def unknown_token(self) -> int | None:
        return self._first - 1 if self.unknown == "token" else None

    @property
    def one_spelling(self) -> bool:
        return self.unknown == "refuse"

    @property
    def token_kinds(self) -> np.ndarray:
        """Flags of each token [V] uint8; letters, digits and underscores make up words."""
        inside = [True] * (self.unknown == "token") + [
            is_word_character(character) for character in self.characters
        ]
        return np.array(
            [SPECIAL] * self.delimiter + [(CONTINUES + CONTINUED) * i for i in inside], np.uint8
        )

    def fit(self, texts: Iterable[str]) -> Characters:
        return dataclasses.replace(self, characters="".join(sorted(set().union(*map(set, texts)))))

    @functools.cached_property
    def _known(self) -> np.ndarray:
        return _code_points(self.characters)

    def encode(self, text: str) -> np.ndarray:
        require_vocabulary(self)
        points = _code_points(text)
        place = np.minimum(np.searchsorted(self._known, points), len(self._known) - 1)
        missing = self._known[place] != points
        if missing.any() and self.unknown == "refuse":
            at = int(missing.argmax())
            what = f"the character {text[at]!r} (U+{ord(text[at]):04X})"
            raise Unencodable(what, at, self.vocabulary, "unknown='token' adds a token for it")
        return np.where(missing, self._first - 1, place + self._first).astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        require_vocabulary(self)
        ids = check_ids(ids, self.vocabulary)
        special = [""] * self.delimiter + [REPLACEMENT] * (self.unknown == "token")
        return "".join(
            special[i] if i < self._first else self.characters[i - self._first]
            for i in ids.tolist()
        )


@checks.frozen
class Bytes(WritesText):
    """Encodes text as UTF-8 bytes: every text can be encoded, and nothing has to be fitted.

    Attributes:
      delimiter: whether a further token, 256, is placed before and after every document.
    """

    delimiter: bool = False

    @property
    def is_fitted(self) -> bool:
        return True

    @property
    def vocabulary(self) -> int:
        return 256 + self.delimiter

    @property
    def end(self) -> int | None:
        return 256 if self.delimiter else None

    @property
    def start(self) -> int | None:
        return self.end

    @property
    def token_bytes(self) -> np.ndarray:
        return np.array([1] * 256 + [0] * self.delimiter, np.int32)

    @property
    def one_spelling(self) -> bool:
        return True

    @property
    def token_kinds(self) -> np.ndarray:
        """Flags of each token [V] uint8; letters, digits, underscores and bytes beyond ASCII make
        up words.
        """
        kinds = [
            (i > 127 or is_word_character(chr(i))) * (CONTINUES + CONTINUED) for i in range(256)
        ]
        return np.array(kinds + [SPECIAL] * self.delimiter, np.uint8)

    def fit(self, texts: Iterable[str]) -> Bytes:
        return self

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens [N] int32 of a text; half of a surrogate pair is read as U+FFFD."""
        return np.frombuffer(HALF.sub(REPLACEMENT, text).encode(), np.uint8).astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        """Return the text of tokens [N]; what is not UTF-8, as in some samples, becomes U+FFFD."""
        ids = check_ids(ids, self.vocabulary)
        return ids[ids < 256].astype(np.uint8).tobytes().decode("utf-8", "replace")


PAD, UNKNOWN, START, END = range(4)  # of Words
NAMED = 4


@checks.frozen
class Words(WritesText):
    """Encodes each word and mark of ``genjax.data.text.words.split_words`` as a token.

    Token 0 pads, 1 is any unknown word, 2 starts and 3 ends a document.

    Attributes:
      words: the known words, the most frequent first; if empty, those of the training text.
      min_frequency: how often a word must occur in the training text to be known.
      lower: whether text is turned to lower case first.
    """

    words: tuple[str, ...] = ()
    min_frequency: int = 1
    lower: bool = True

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "min_frequency")
        if len(set(self.words)) != len(self.words):
            raise UserError("words must be distinct", "words")

    @property
    def is_fitted(self) -> bool:
        return bool(self.words)

    @property
    def vocabulary(self) -> int:
        return NAMED + len(self.words)

    @property
    def start(self) -> int:
        return START

    @property
    def end(self) -> int:
        return END

    @property
    def pad(self) -> int:
        return PAD

    @property
    def token_bytes(self) -> None:
        return None

    @property
    def unknown_token(self) -> int:
        return UNKNOWN

    @property
    def one_spelling(self) -> bool:
        return False  # spaces between words are not tokens

    @property
    def token_kinds(self) -> np.ndarray:
        """Flags of each token [V] uint8; each token is a word."""
        kinds = np.zeros(self.vocabulary, np.uint8)
        kinds[[PAD, START, END]] = SPECIAL
        return kinds

    def split(self, text: str) -> list[str]:
        """Split a text into words and marks."""
        return split_words(text.lower() if self.lower else text)

    def fit(self, texts: Iterable[str]) -> Words:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.split(text))
        frequent = [word for word, count in counts.items() if count >= self.min_frequency]
        if counts and not frequent:
            raise UserError(
                "min_frequency must not exceed the count of the commonest word, got "
                f"{self.min_frequency}",
                "min_frequency",
            )
        return dataclasses.replace(
            self, words=tuple(sorted(frequent, key=lambda word: (-counts[word], word)))
        )

    @functools.cached_property
    def _number(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, NAMED)}

    def encode(self, text: str) -> np.ndarray:
        require_vocabulary(self)
        number = self._number
        return np.array([number.get(word, UNKNOWN) for word in self.split(text)], np.int32)

    def decode(self, ids: np.ndarray) -> str:
        """Return the text of tokens [N], with spaces between words as written; "<unk>" if
        unknown.
        """
        require_vocabulary(self)
        ids = check_ids(ids, self.vocabulary)
        kept = ids[(ids == UNKNOWN) | (ids >= NAMED)].tolist()
        return join_words("<unk>" if i == UNKNOWN else self.words[i - NAMED] for i in kept)
