"""Text to tokens and back. A codec without a vocabulary is fitted to the training text when a
source is opened.

``encode`` gives the tokens of a text alone; documents get their ``start`` and ``end`` where rows
are made of them.
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
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what represents a token that no text is known of
NOTHING = -1  # in a row of tokens, what follows a text that has stopped without a token for its end
RULE = "\n" + "-" * 40 + "\n"  # between samples of several lines


class TextCodec(Protocol):
    """What all codecs of text promise. Ids of special tokens are None if the codec has none."""

    @property
    def is_fitted(self) -> bool:
        """Whether there is a vocabulary."""

    @property
    def vocabulary(self) -> int:
        """Tokens are 0 .. vocabulary - 1."""

    @property
    def start(self) -> int | None:
        """Stands before a document that has a row, or a part of one, for itself."""

    @property
    def end(self) -> int | None:
        """Stands after every document."""

    @property
    def pad(self) -> int | None:
        """Fills rows up; 0 does where it is None, as padding never weighs anything."""

    @property
    def token_bytes(self) -> np.ndarray | None:
        """Bytes of UTF-8 text [V] int32 that a token represents; None for a codec that loses
        some of the text.
        """

    @property
    def unknown_token(self) -> int | None:
        """Stands for what is outside the vocabulary; None if that is refused, or nothing is."""

    @property
    def one_spelling(self) -> bool:
        """Whether a text is made of the same tokens wherever it stands, so that its tokens are
        found where it is.
        """

    @property
    def mask(self) -> int | None:
        """Stands for a token that is to be found out."""

    @property
    def token_kinds(self) -> np.ndarray:
        """Of each token [V] uint8 which of ``CONTINUES``, ``CONTINUED`` and ``SPECIAL`` hold,
        as one sum.
        """

    def fit(self, texts: Iterable[str]) -> Any:
        """The codec with the vocabulary of ``texts``."""

    def encode(self, text: str) -> np.ndarray:
        """Tokens [N] int32.

        Raises:
          Unencodable: for what is outside the vocabulary, unless a token represents that.
        """

    def decode(self, ids: np.ndarray) -> str: ...

    def until_end(self, ids: np.ndarray) -> np.ndarray: ...

    def write(self, samples: np.ndarray, stem: Path) -> Path: ...


class Unencodable(UserError):
    """Text outside the vocabulary: ``what`` it is, at which character ``at`` of the text."""

    def __init__(
        self, what: str, at: int, vocabulary: int, remedy: str, where: str = "the text"
    ) -> None:
        self._parts = what, vocabulary, remedy
        self.at = at
        super().__init__(
            f"{what} at character {at:,} of {where} is not in the vocabulary of {vocabulary:,}; "
            f"{remedy}"
        )

    def shift(self, offset: int, where: str) -> Unencodable:
        """The same, said of a longer text in which this one starts at ``offset``."""
        what, vocabulary, remedy = self._parts
        return Unencodable(what, self.at + offset, vocabulary, remedy, where)


class WritesText:
    """What all codecs of text have in common."""

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
        """The texts of samples [N, T] at ``stem`` + ".txt", which is returned; each up to its
        first ``end``.
        """
        path = stem.parent / f"{stem.name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        return disk.write(path, format_samples(self, samples).encode("utf-8", "replace"))


def format_samples(codec: Component, samples: np.ndarray) -> str:
    """What a file of samples [N, T] holds: each up to its first end, with rules between where
    there are lines.
    """
    texts = [codec.decode(codec.until_end(row)) for row in np.asarray(samples)]
    between = RULE if any("\n" in text for text in texts) else "\n"
    return between.join(texts) + "\n"


def cut_at_end(ids: np.ndarray, end: int | None) -> np.ndarray:
    """The tokens [M] before the first ``end`` or ``NOTHING`` of ids [N]; an end at the very
    start opens a document.
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
    """[N] uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def check_ids(ids: np.ndarray, vocabulary: int) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.size and not 0 <= ids.min() <= ids.max() < vocabulary:
        raise UserError(
            f"tokens are from 0 to {vocabulary - 1:,}, but there are some from {ids.min()} to "
            f"{ids.max()}"
        )
    return ids


@checks.frozen
class Characters(WritesText):
    """A token for each character. Special tokens come first, the characters after them.

    Attributes:
      characters: sorted and distinct; empty takes those of the training text.
      delimiter: one more token, 0, that is before and after every document.
      unknown: "refuse" what is not a known character, or let a "token" of its own represent it.
    """

    characters: str = ""
    delimiter: bool = False
    unknown: OnUnknown = "refuse"

    def __post_init__(self) -> None:
        if list(self.characters) != sorted(set(self.characters)):
            raise UserError(
                f"the characters of a codec are sorted and distinct, unlike {self.characters!r}"
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
        """A word is of letters, digits and underscores."""
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
            raise Unencodable(what, at, self.vocabulary, "unknown='token' keeps a place for such")
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
    """The bytes of UTF-8: nothing is outside the vocabulary, nothing must be fitted.

    Attributes:
      delimiter: one more token, 256, that is before and after every document.
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
        """A word is of letters, digits and underscores, and of all bytes that are not ASCII."""
        kinds = [
            (i > 127 or is_word_character(chr(i))) * (CONTINUES + CONTINUED) for i in range(256)
        ]
        return np.array(kinds + [SPECIAL] * self.delimiter, np.uint8)

    def fit(self, texts: Iterable[str]) -> Bytes:
        return self

    def encode(self, text: str) -> np.ndarray:
        """Half of a surrogate pair, which is not a character, is read as U+FFFD."""
        return np.frombuffer(HALF.sub(REPLACEMENT, text).encode(), np.uint8).astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        """What is not UTF-8, as samples may hold, becomes U+FFFD."""
        ids = check_ids(ids, self.vocabulary)
        return ids[ids < 256].astype(np.uint8).tobytes().decode("utf-8", "replace")


PAD, UNKNOWN, START, END = range(4)  # of Words
NAMED = 4


@checks.frozen
class Words(WritesText):
    """A token for each word and mark of ``genjax.data.text.words.split_words``.

    0 pads, 1 is any unknown word, 2 starts, 3 ends.

    Attributes:
      words: the most frequent first, then in alphabetical order; empty takes those of the training
        text.
      min_frequency: how often a word must come there to be known.
      lower: turn text to lower case first.
    """

    words: tuple[str, ...] = ()
    min_frequency: int = 1
    lower: bool = True

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "min_frequency")
        if len(set(self.words)) != len(self.words):
            raise UserError("the words of a codec are distinct")

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
        return False  # nor are the spaces between words tokens

    @property
    def token_kinds(self) -> np.ndarray:
        """Each token is a word."""
        kinds = np.zeros(self.vocabulary, np.uint8)
        kinds[[PAD, START, END]] = SPECIAL
        return kinds

    def split(self, text: str) -> list[str]:
        """The words and marks of a text."""
        return split_words(text.lower() if self.lower else text)

    def fit(self, texts: Iterable[str]) -> Words:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.split(text))
        frequent = [word for word, count in counts.items() if count >= self.min_frequency]
        if counts and not frequent:
            raise UserError(
                f"no word comes {self.min_frequency} times; min_frequency is too high for this text"
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
        """Words with a space between, but for marks of a sentence and what else hugs a word;
        "<unk>" for an unknown.
        """
        require_vocabulary(self)
        ids = check_ids(ids, self.vocabulary)
        kept = ids[(ids == UNKNOWN) | (ids >= NAMED)].tolist()
        return join_words("<unk>" if i == UNKNOWN else self.words[i - NAMED] for i in kept)
