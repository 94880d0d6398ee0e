"""Votes on the page become a data set, and the run that learns it wins by their rule."""

import shutil

import pytest

pytest.importorskip("fastapi", reason="pip install '.[serve,store]'")
from benchmarks.circle import go_round
from genjax.store.opening import open_store


@pytest.mark.long
def test_what_is_voted_on_the_page_is_learned(tmp_path):
    found = go_round(tmp_path, votes=200, steps=100, samples=300)
    assert found["votes"] == 200
    # It was 0.86 with 500 samples, 95 % from 0.83 to 0.89.
    assert found["win_rate"] >= 0.8
    with open_store(tmp_path / "circle.db") as store:
        votes = list(store.select("name=preference value=1", kind="feedback", origin="any"))
        assert len(votes) == 200
        assert {vote.source_kind for vote in votes} == {"HUMAN"}
        answer = store.get(votes[0].target, "any")
        assert store.get(answer.run, "any").name in ("gpt_rule", "sft_rule")
    shutil.rmtree(tmp_path / "runs")
