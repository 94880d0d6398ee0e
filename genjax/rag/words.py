"""Words of questions and texts: their stems, those that say little, and how rare each is."""

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

KEPT = 100_000  # stems of words that were seen
LONGEST = 100  # letters of a word that are looked at

_WORD = re.compile(r"\w+")
# Scripts without blanks between words: their words are pairs of letters.
_JOINED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
# What a question or statement is put together with, and what it is not about.
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
    """The words of a text in order, as small letters."""
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
    """Compares words by their stems.

    Attributes:
      name: of the language, as Snowball calls it.
      stem: gives the stem of a word in small letters.
      function_words: which say little of what a text is about.
    """

    name: str
    stem: Callable[[str], str] = field(repr=False)
    function_words: Set[str] = field(repr=False)

    def find_stems(self, text: str) -> list[str]:
        """The stems of all words of a text, in order."""
        return [self.stem(word) for word in split_words(text)]

    def find_content(self, text: str) -> list[str]:
        """The stems of the words of a text that say what it is about, in order."""
        return [self.stem(w) for w in split_words(text) if w not in self.function_words]


def open_language(name: str = "english") -> Language:
    """A language of Snowball's stemmers.

    Raises:
      UserError: there is none of this name.
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
        with lock:  # a stemmer keeps the word that it works on in itself
            return str(stemmer.stemWord(word[:LONGEST]))

    return Language(name, stem, FUNCTION_WORDS.get(name, frozenset()))


@dataclass(frozen=True)
class Rarity:
    """How much a word says, by how few of some texts have it.

    Attributes:
      count: of the texts.
      having: how many of them have a stem.
    """

    count: int
    having: Mapping[str, int]

    @staticmethod
    def of(texts: Iterable[Set[str]]) -> Rarity:
        """Count the texts, each a set of stems, that have each stem."""
        having: Counter[str] = Counter()
        count = 0
        for stems in texts:
            having.update(stems)
            count += 1
        return Rarity(count, having)

    def weigh(self, stem: str) -> float:
        """The weight of a stem: that of BM25, always above 0."""
        there = self.having.get(stem, 0)
        return math.log(1 + (self.count - there + 0.5) / (there + 0.5))

    def cover(self, wanted: Sequence[str], there: Set[str]) -> float:
        """The share, by weight, of wanted stems that are there, from 0 to 1."""
        weights = {stem: self.weigh(stem) for stem in wanted}
        total = sum(weights.values())
        return sum(w for stem, w in weights.items() if stem in there) / total if total else 0.0
