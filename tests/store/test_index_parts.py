"""Fusion, facts, following and the metrics of retrieval, each by itself."""

import ast
import dataclasses
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from benchmarks import retrieval
from genjax.errors import UserError
from genjax.store.index import follow as following
from genjax.store.index.encoders import WordLlama
from genjax.store.index.facts import encode
from genjax.store.index.follow import Change, Followed
from genjax.store.index.fusion import ReciprocalRanks, ZScores
from genjax.store.index.index import Entry, Query, rank
from genjax.store.index.opening import open_encoder, open_index
from tests.store.words import Words


def test_values_sort_as_their_texts_do():
    draw = np.random.default_rng(0)
    numbers = [float(x) for x in draw.standard_normal(300) * 10.0 ** draw.integers(-30, 30, 300)]
    numbers += [0, 1, -1, 10, 100, -10, 99, 101, 2**60, 2**60 + 1, -(2**60), 0.5, 1e308, -1e308]
    numbers += [5e-324, -5e-324, math.inf, -math.inf, 1.5, 1.25, -1.5, -1.25, 10**4999]
    for one in numbers:
        for other in numbers:
            assert (encode(one) < encode(other)) == (one < other), (one, other)
            assert (encode(one) == encode(other)) == (one == other), (one, other)
    assert encode(1) == encode(1.0) != encode(True) and encode(0) == encode(-0.0)
    assert encode(math.nan) is None
    early = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert encode(early) < encode(datetime(2026, 1, 1, tzinfo=UTC)) == encode(datetime(2026, 1, 1))
    assert encode("a") < encode("b") and encode("Z") < encode("a")


def test_z_scores_by_hand():
    fused = ZScores(vector=2.0, keyword=1.0)({"a": 0.0, "b": 1.0}, {"b": 5.0})
    assert fused == pytest.approx({"a": -3.0, "b": 3.0})  # both sides have two known values
    # As many have a keyword score as one of the vectors: "a" may have one below the lowest.
    fused = ZScores(vector=0.0)({"a": 1.0, "b": 0.5}, {"b": 5.0, "c": 3.0})
    low, high = -1 / math.sqrt(2), math.sqrt(2)
    assert fused == pytest.approx({"a": low, "b": high, "c": low})
    assert ZScores()({}, {}) == {}
    assert ZScores()({"a": 0.3, "b": 0.3}, {}) == {"a": 0.0, "b": 0.0}


def test_reciprocal_ranks_by_hand():
    fused = ReciprocalRanks(60)({"a": 0.9, "b": 0.9, "c": 0.1}, {"c": 7.0})
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 61, "c": 1 / 63 + 1 / 61})
    for make in (lambda: ReciprocalRanks(-1), lambda: ZScores(vector=-1)):
        with pytest.raises(UserError):
            make()


def test_ranks_are_the_same_whatever_order_equals_come_in():
    scores = {f"n{i:04d}": float(i % 3) for i in range(3000)}

    def fetch(depth: int) -> list[tuple[str, float]]:
        mixed = sorted(scores, key=lambda name: (-scores[name], hash(name + str(depth))))
        return [(name, scores[name]) for name in mixed[:depth]]

    whole = sorted(scores, key=lambda name: (-scores[name], name))
    for k in (1, 10, 999, 1000, 1001, 2999, 3000, 5000):
        assert [name for name, _ in rank(fetch, k, 2**30)] == whole[:k]


def test_metrics_by_hand():
    found, relevant = ["a", "x", "b", "y"], {"a", "b", "c"}
    best = 1 + 1 / math.log2(3) + 1 / 2
    assert retrieval.ndcg(found, relevant) == pytest.approx((1 + 1 / 2) / best)
    assert retrieval.average_precision(found, relevant) == pytest.approx((1 + 2 / 3) / 3)
    assert retrieval.recall(found, relevant, 2) == pytest.approx(1 / 3)
    assert retrieval.reciprocal_rank(["x", "y", "b"], relevant) == pytest.approx(1 / 3)
    assert retrieval.reciprocal_rank(["x"] * 10 + ["b"], relevant) == 0.0
    for metric in retrieval.METRICS.values():
        assert metric(["a", "b"], {"a", "b"}) == 1.0
        assert metric([], {"a"}) == metric(["x"], {"a"}) == metric(["x"], set()) == 0.0


def test_the_page_about_search_is_true(tmp_path, monkeypatch):
    pytest.importorskip("lancedb", reason="the engines are an extra: pip install '.[store]'")
    page = Path(__file__).parents[2] / "docs" / "search.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    parsed = [block for block in blocks if block.startswith("# parsed only\n")]
    assert len(parsed) == 3 and len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        if block in parsed:
            lines = [line for line in ast.unparse(ast.parse(block)).splitlines() if line]
            assert len(lines) <= 5
        else:
            exec(block, names)
    assert names["embeddings"].embed_query("a cat") != [0.0] * 256


class Log:
    """An outbox of a dictionary of texts."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.lines: list[Change] = []
        self.gone = 0

    def put(self, name: str, text: str | None) -> None:
        self.texts.pop(name, None)
        if text is not None:
            self.texts[name] = text
        op = "delete" if text is None else "upsert"
        self.lines.append(Change(self.newest() + 1, name, op))

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        return [line for line in self.lines if line.seq > after][:limit]

    def entries(self, ids: Sequence[str]) -> Sequence[Entry]:
        return [Entry(name, self.texts[name]) for name in ids if name in self.texts]

    def newest(self) -> int:
        return self.lines[-1].seq if self.lines else 0

    def removed(self) -> int:
        return self.gone

    def ids(self, after: str, limit: int) -> Sequence[str]:
        return sorted(name for name in self.texts if name > after)[:limit]


class Killed(Exception):
    pass


def fill(log: Log, count: int = 30) -> None:
    for i in range(count):
        log.put(f"r{i:02d}", f"text number {i}")
    log.put("r03", None)
    log.put("r04", "changed")


def found(index) -> set[str]:
    return {hit.id for hit in index.search(Query("text", mode="vector", limit=100))}


@pytest.fixture
def url(tmp_path) -> str:
    pytest.importorskip("faiss", reason="the engines are an extra: pip install '.[store]'")
    return f"faiss:{tmp_path / 'index'}"


def test_an_index_follows_and_says_how_far_it_is_behind(url):
    log, index = Log(), open_index(url, Words())
    assert following.count_behind(index, log) == 0
    assert following.search(index, log, Query("a", mode="vector")).behind == 0
    fill(log)
    assert following.count_behind(index, log) == 30  # entries, not changes
    assert following.follow(index, log, batch=7).seq == 32
    assert found(index) == set(log.texts) and following.count_behind(index, log) == 0
    assert following.follow(index, log) == Followed(0, 0, 32)
    log.put("new", "text")
    assert following.search(index, log, Query("text", mode="vector")).behind == 1
    assert following.follow(index, log) == Followed(1, 0, 33)
    assert open_index(url, Words()).read_state().seq == 33


@pytest.mark.parametrize("batches", range(6))
def test_a_killed_follower_is_repaired(url, batches):
    log = Log()
    fill(log)

    def kill(name: str, left: list[int]):
        def call(*values: object, **options: object) -> object:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return method(*values, **options)

        index = open_index(url, Words())
        method = getattr(index, name)
        setattr(index, name, call)
        return index

    for name in ("mark", "upsert", "delete"):
        with pytest.raises(Killed):
            following.follow(kill(name, [batches % 4]), log, batch=7)
        with pytest.raises(Killed):
            following.rebuild(kill(name, [batches % 4]), log, batch=7)
    index = open_index(url, Words())
    assert not index.read_state().complete and following.count_behind(index, log) > 0
    assert following.follow(index, log).seq == 32
    assert found(index) == set(log.texts) and index.read_state().complete


def test_an_index_that_is_ahead_of_its_store_is_rebuilt(url):
    log = Log()
    fill(log)
    index = open_index(url, Words())
    following.follow(index, log)
    log.lines, log.texts = log.lines[:10], {f"r{i:02d}": "text" for i in range(10)}  # a backup
    assert following.count_behind(index, log) == 10
    following.follow(index, log)
    assert found(index) == set(log.texts) and index.read_state().seq == 10


def test_wordllama_is_a_mean_of_rows():
    pytest.importorskip("wordllama", reason="the default encoder is of the extra store")
    encoder = WordLlama()
    texts = ["A cat sat on a mat.", "A kitten lay on a rug.", "Interest rates rose again.", ""]
    vectors = encoder.encode(texts)
    assert vectors.shape == (4, 256) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1, rtol=1e-6)
    assert vectors[0] @ vectors[1] > 0.3 + vectors[0] @ vectors[2] and not vectors[3].any()
    np.testing.assert_array_equal(encoder.encode(texts[1:2])[0], vectors[1])


def test_unknown_encoders_are_refused(tmp_path):
    for name in ("wordlama", str(tmp_path / "nothing"), str(tmp_path)):
        with pytest.raises(UserError) as error:
            open_encoder(name)
        assert error.value.field == "encoder"


def test_a_damaged_state_is_refused(url, tmp_path):
    (tmp_path / "index").write_bytes(b"PK\x03\x04 not an index")
    with pytest.raises(UserError, match="damaged"):
        open_index(url, Words())


def test_entries_replace_within_one_call(url):
    index = open_index(url, Words())
    entry = Entry("a", "one")
    index.upsert([entry, dataclasses.replace(entry, text="two")])
    assert index.search(Query("two", mode="vector"))[0].score == pytest.approx(1)
