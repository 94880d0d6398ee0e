"""Find the sentence that best answers a question, and the few words in it that do.

The score of a sentence is a weighted sum: the share of the question's words in it, with rare words
counting more; the same share for the sentences next to it; its cosine with the question; and the
score and rank of its passage.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genjax import checks
from genjax.rag.library import Library, Passage
from genjax.rag.quotes import find_citations
from genjax.rag.sentences import split_sentences
from genjax.rag.spans import find_span
from genjax.rag.words import Rarity

_WORD = re.compile(r"\w")


@checks.frozen
class Weights:
    """The weights of the parts of a sentence's score.

    Attributes:
      words: the weight of the share of the question's words in the sentence.
      beside: the weight of the same share for the better of the sentences next to it.
      meaning: the weight of the cosine between sentence and question.
      passage: the weight of the passage's score.
      place: the weight of the inverse rank of the passage.
    """

    words: float = 1.0
    beside: float = 0.2
    meaning: float = 0.5
    passage: float = 0.3
    place: float = 0.3

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "words", "beside", "meaning", "passage", "place")


@dataclass(frozen=True)
class Extract:
    """A sentence that may answer a question.

    Attributes:
      passage: the passage of the sentence.
      sentence: the sentence, word for word.
      answer: the words of the sentence that answer the question.
      score: the score; higher is better.
    """

    passage: Passage
    sentence: str
    answer: str
    score: float


def extract(
    library: Library,
    question: str,
    passages: Sequence[Passage],
    weights: Weights = Weights(),
) -> list[Extract]:
    """Return the sentences of passages, the best first, without headings and those that cite."""
    language = library.language
    ids = {passage.id for passage in passages}
    rows: list[tuple[int, str]] = []
    for number, passage in enumerate(passages):
        for start, end in split_sentences(passage.text):
            sentence = passage.text[start:end]
            heading = sentence.startswith("#")
            if not heading and not find_citations(sentence, ids) and _WORD.search(sentence):
                rows.append((number, sentence))
    if not rows:
        return []
    stems = [set(language.find_stems(sentence)) for _, sentence in rows]
    rarity = Rarity.of(stems)
    wanted = language.find_content(question) or language.find_stems(question)
    shares = np.array([rarity.cover(wanted, one) for one in stems])
    near = np.zeros(len(rows))
    for at in range(len(rows)):
        for other in (at - 1, at + 1):
            if 0 <= other < len(rows) and rows[other][0] == rows[at][0]:
                near[at] = max(near[at], shares[other])
    vectors = library.encode([question, *(sentence for _, sentence in rows)])
    cosines = vectors[1:] @ vectors[0]
    passage_scores = np.array([passages[number].score for number, _ in rows])
    places = np.array([1 / (1 + number) for number, _ in rows])
    total = (
        weights.words * shares
        + weights.beside * near
        + weights.meaning * cosines
        + weights.passage * passage_scores
        + weights.place * places
    )
    order = np.argsort(-total, kind="stable")
    return [
        Extract(
            passages[rows[at][0]],
            rows[at][1],
            find_span(question, rows[at][1], language),
            float(total[at]),
        )
        for at in order.tolist()
    ]


def quote(sentence: str) -> str:
    """Return a sentence in quotation marks, without line breaks."""
    return f"“{' '.join(sentence.split())}”"
