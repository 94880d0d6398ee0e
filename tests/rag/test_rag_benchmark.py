"""Answers from real paragraphs hold the gold answers more often than not."""

import os
from pathlib import Path

import pytest

from benchmarks.rag import Baseline, evaluate, measure_f1, read_xquad, simplify
from genjax.rag.ingest import ingest_sources
from genjax.rag.library import open_library
from genjax.store.opening import open_store
from genjax.store.searching import follow

DATA = os.environ.get("GENJAX_DATA")


def test_measures_are_those_of_squad():
    assert simplify("The  “Red” cat's-eye, a.", "en") == "red catseye"
    assert simplify("Die Katze, das Tier!", "de") == "katze tier"
    assert measure_f1("a red cat", "the red dog", "en") == pytest.approx(0.5)
    assert measure_f1("dog", "cat", "en") == 0.0


@pytest.mark.long
@pytest.mark.skipif(not DATA, reason="reads the folder named by GENJAX_DATA")
@pytest.mark.parametrize(("code", "language"), [("en", "english"), ("de", "german")])
def test_most_sentences_hold_the_answer(code, language, tmp_path):
    sources, questions = read_xquad(Path(DATA) / "qa" / f"xquad.{code}.json")
    with open_store(str(tmp_path / "store.db"), create=True) as store:
        ingest_sources(store, sources)
        library = open_library(store, language=language)
        follow(store, library.index)
        baseline = Baseline.of(library, sources)
        plain, found = evaluate(library, questions[::10], "hybrid", baseline)
        library.close()
    assert plain["way"] == "BM25 sentence" and found["way"] == "hybrid"
    assert found["recall@5"] >= 0.9 and found["sentence"] >= 0.6
    assert found["f1"] > plain["f1"] and found["em"] > 0.1 and found["known"] > 0.9
