"""Measure how well questions are answered from documents without generation, on XQuAD.

    GENJAX_DATA=… python -m benchmarks.rag [--languages en de] [--questions 1190] …

reads ``qa/xquad.LANGUAGE.json`` (240 paragraphs, 1,190 questions; English and German), ingests the
paragraphs into a store and prints a JSON line for each language and mode of search:

- recall@5: the share of questions whose own paragraph is among the first five;
- sentence: the share of questions whose quoted sentence contains a gold answer, word for word;
- em, f1: the exact matches and F1 of the extracted words, as in SQuAD (lower case, no articles or
  punctuation);
- known: the share of questions that are answered at the default threshold.

The baseline is the sentence with the highest BM25 in the paragraph with the highest BM25.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genjax.rag.documents import Source
from genjax.rag.extracting import extract
from genjax.rag.ingest import ingest_sources
from genjax.rag.library import Library, Passage, open_library
from genjax.rag.retrieval import Retrieval, retrieve
from genjax.rag.sections import Section
from genjax.rag.sentences import split_sentences
from genjax.store.opening import open_store
from genjax.store.searching import follow

LANGUAGES = {"en": "english", "de": "german"}
ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "de": r"\b(der|die|das|den|dem|des|ein|eine|einen|einem|einer|eines)\b",
}
K1, B = 1.2, 0.75  # the parameters of the baseline's BM25


@dataclass(frozen=True)
class Question:
    """A question with its gold answers and the place of its paragraph."""

    text: str
    gold: tuple[str, ...]
    place: str


def read_xquad(path: Path) -> tuple[list[Source], list[Question]]:
    """Return the paragraphs and questions of a file in SQuAD's form."""
    sources: list[Source] = []
    questions = []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            text, place = paragraph["context"], f"p{len(sources):03d}"
            sources.append(Source(place, place, text, (Section(0, len(text), ()),)))
            for asked in paragraph["qas"]:
                gold = tuple(answer["text"] for answer in asked["answers"])
                questions.append(Question(asked["question"], gold, place))
    return sources, questions


def simplify(text: str, language: str) -> str:
    """Return a text as SQuAD's measures compare it."""
    plain = "".join(c for c in text.lower() if not unicodedata.category(c).startswith("P"))
    return " ".join(re.sub(ARTICLES[language], " ", plain).split())


def measure_f1(found: str, gold: str, language: str) -> float:
    """Return the harmonic mean of precision and recall of words."""
    a, b = (simplify(text, language).split() for text in (found, gold))
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if common else 0.0


@dataclass(frozen=True)
class Baseline:
    """The BM25 statistics of all sentences, each a list of stems.

    Attributes:
      having: the number of sentences that contain each stem.
      count: the number of sentences.
      length: the mean number of stems in a sentence.
    """

    having: Mapping[str, int]
    count: int
    length: float

    @staticmethod
    def of(library: Library, sources: Sequence[Source]) -> Baseline:
        """Count the stems of all sentences."""
        rows = [
            library.language.find_stems(source.text[start:end])
            for source in sources
            for start, end in split_sentences(source.text)
        ]
        having = Counter(stem for row in rows for stem in set(row))
        return Baseline(having, len(rows), sum(map(len, rows)) / len(rows))

    def choose(self, library: Library, question: str, passage: Passage) -> str:
        """Return the sentence of a passage with the highest score."""
        asked = set(library.language.find_stems(question))
        spans = split_sentences(passage.text)
        sentences = [passage.text[start:end] for start, end in spans]
        return max(sentences, key=lambda one: self._score(library, asked, one), default="")

    def _score(self, library: Library, asked: set[str], sentence: str) -> float:
        stems = library.language.find_stems(sentence)
        counts, total = Counter(stems), 0.0
        for stem in asked & set(stems):
            there = self.having.get(stem, 0)
            weight = math.log(1 + (self.count - there + 0.5) / (there + 0.5))
            often = counts[stem]
            norm = K1 * (1 - B + B * len(stems) / self.length)
            total += weight * often * (K1 + 1) / (often + norm)
        return total


def evaluate(
    library: Library, questions: Sequence[Question], mode: str, baseline: Baseline | None
) -> Iterator[dict[str, str | float]]:
    """Yield the measures of the baseline, if there is one, and of one mode of search."""
    language = next(code for code, name in LANGUAGES.items() if name == library.language.name)
    named = dict.fromkeys(("recall@5", "known"), 0.0)
    measured, plain = (dict.fromkeys(("sentence", "em", "f1"), 0.0) for _ in range(2))
    since = time.perf_counter()
    for one in questions:
        found = retrieve(library, one.text, Retrieval(mode=mode, threshold=0)).passages
        named["recall@5"] += any(p.source == one.place for p in found)
        named["known"] += any(p.score >= Retrieval().threshold for p in found)
        best = extract(library, one.text, found)[:1]
        sentence, answer = (best[0].sentence, best[0].answer) if best else ("", "")
        _judge(measured, one, sentence, answer, language)
        if baseline is not None:
            sentence = baseline.choose(library, one.text, found[0]) if found else ""
            _judge(plain, one, sentence, sentence, language)
    took = {"ms_per_question": 1000 * (time.perf_counter() - since) / len(questions)}
    for way, counts in (("BM25 sentence", plain), (mode, measured)):
        if counts is measured or baseline is not None:
            means = {name: total / len(questions) for name, total in (named | counts).items()}
            yield {"way": way} | {name: round(x, 4) for name, x in (means | took).items()}


def _judge(
    counts: dict[str, float], asked: Question, sentence: str, answer: str, language: str
) -> None:
    counts["sentence"] += any(gold in sentence for gold in asked.gold)
    words = simplify(answer, language)
    counts["em"] += any(words == simplify(gold, language) for gold in asked.gold)
    counts["f1"] += max(measure_f1(answer, gold, language) for gold in asked.gold)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each language and mode of search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--languages", nargs="+", choices=tuple(LANGUAGES), default=["en", "de"])
    parser.add_argument("--questions", type=int, default=None, help="about so many, spread; all")
    parser.add_argument("--encoder", default="wordllama", help="a name, run or folder")
    options = parser.parse_args(arguments)
    data = os.environ.get("GENJAX_DATA")
    if not data:
        print("set GENJAX_DATA to the folder of qa/", file=sys.stderr)
        return 2
    for code in options.languages:
        sources, questions = read_xquad(Path(data) / "qa" / f"xquad.{code}.json")
        with tempfile.TemporaryDirectory() as folder:
            place = str(Path(folder) / "store.db")
            with open_store(place, create=True) as store:
                ingest_sources(store, sources)
                library = open_library(store, None, options.encoder, LANGUAGES[code])
                follow(store, library.index)
                plain = Baseline.of(library, sources)
                step = 1 if options.questions is None else len(questions) // options.questions
                chosen = questions[:: max(step, 1)]
                for mode, baseline in (("keyword", plain), ("vector", None), ("hybrid", None)):
                    for found in evaluate(library, chosen, mode, baseline):
                        setting = {"language": code, "questions": len(chosen)}
                        print(json.dumps(setting | found), flush=True)
                library.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
