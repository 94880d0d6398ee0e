"""Split texts into words, find their stems, and weigh words by their rarity."""

from __future__ import annotations

import functools
import math
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import snowballstemmer

from genjax.errors import UserError, unknown_name

KEPT = 100_000  # the number of words whose stems are cached
LONGEST = 100  # the most letters of a word that are used

_WORD = re.compile(r"\w+")
# Scripts without blanks between words, whose texts are split into pairs of letters.
_JOINED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
# The words that say little about the subject of a question or statement.
_ENGLISH = """
a about after all also an and any are as at be because been before between both but by can
could did do does during each either for from had has have he her his how i if in into is it
its many may might more most much must no nor not of on one or other our out over s shall
she should so some such t than that the their them then there these they this those through
to under until up upon was we were what when where whether which while who whom whose why
will with within would you your
"""
_GERMAN = """
aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bis da
damit dann das dass dem den denn der des die dies diese dieser dieses durch ein eine einem
einen einer eines er es für gab gibt hat hatte hatten haben ihr ihre ihrer im in ins ist
kann kein keine man mehr mit nach nicht noch nur ob oder sehr sein seine seiner sich sie
sind so über um und unter viel viele vom von vor wann war waren warum was welche welchem
welchen welcher welches wem wen wenn wer werden wessen wie wieso wird wo wurde wurden zu zum
zur zwischen
"""
FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    "english": frozenset(_ENGLISH.split()),
    "german": frozenset(_GERMAN.split()),
}


def split_words(text: str) -> list[str]:
    """Return the words of a text in order, in lower case."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    found = []
    for word in _WORD.findall(plain):
        if _JOINED.fullmatch(word) and len(word) > 2:
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found


@dataclass(frozen=True)
class Language:
    """A language with its stemmer.

    Attributes:
      name: the Snowball name of the language.
      stem: a function that returns the stem of a lower-case word.
      function_words: the words that say little about the subject of a text.
    """

    name: str
    stem: Callable[[str], str] = field(repr=False)
    function_words: Set[str] = field(repr=False)

    def find_stems(self, text: str) -> list[str]:
        """Return the stems of all words of a text, in order."""
        return [self.stem(word) for word in split_words(text)]

    def find_content(self, text: str) -> list[str]:
        """Return the stems of the words of a text except function words, in order."""
        return [self.stem(w) for w in split_words(text) if w not in self.function_words]


def open_language(name: str = "english") -> Language:
    """Open a language of Snowball's stemmers.

    Raises:
      UserError: the language is unknown.
    """
    if not isinstance(name, str):
        raise UserError(f"language must be a name, got {name!r:.80}", "language")
    known = snowballstemmer.algorithms()
    if name not in known:
        error = unknown_name("language", name[:80], known)
        raise UserError(f"language: {error}", "language")
    stemmer, lock = snowballstemmer.stemmer(name), threading.Lock()

    @functools.lru_cache(KEPT)
    def stem(word: str) -> str:
        with lock:  # a stemmer keeps its current word as state
            return str(stemmer.stemWord(word[:LONGEST]))

    return Language(name, stem, FUNCTION_WORDS.get(name, frozenset()))


@dataclass(frozen=True)
class Rarity:
    """The rarity of stems in a set of texts.

    Attributes:
      count: the number of texts.
      having: the number of texts that contain each stem.
    """

    count: int
    having: Mapping[str, int]

    @staticmethod
    def of(texts: Iterable[Set[str]]) -> Rarity:
        """Count the texts, each a set of stems, that contain each stem."""
        having: Counter[str] = Counter()
        count = 0
        for stems in texts:
            having.update(stems)
            count += 1
        return Rarity(count, having)

    def weigh(self, stem: str) -> float:
        """Return the weight of a stem as in BM25, always above 0."""
        there = self.having.get(stem, 0)
        return math.log(1 + (self.count - there + 0.5) / (there + 0.5))

    def cover(self, wanted: Sequence[str], there: Set[str]) -> float:
        """Return the share, by weight, of the wanted stems that are in ``there``, from 0 to 1."""
        weights = {stem: self.weigh(stem) for stem in wanted}
        total = sum(weights.values())
        return sum(w for stem, w in weights.items() if stem in there) / total if total else 0.0
