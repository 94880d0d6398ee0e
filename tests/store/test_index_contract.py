"""What every engine of the index must do alike; where one cannot, it says so by name."""

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from genjax.errors import UserError
from genjax.store.filters import parse_filter
from genjax.store.index.bridge import Embeddings, open_bridge
from genjax.store.index.facts import compile_filter, encode_all, holds
from genjax.store.index.index import EngineIndex, Entry, Query
from genjax.store.index.opening import open_index
from tests.store.servers import run_postgres
from tests.store.words import Words

D = Words.dimension
ENGINES = ("lance", "milvus", "faiss", "postgres", "bridge", "bridge-milvus")
SEARCHES = ("lance", "milvus", "postgres")  # keywords and hybrids
THEIRS = "a vector store of LangChain's"  # whose scores are of any kind
FILTERS = (*SEARCHES, "bridge", "bridge-milvus")


Opener = Callable[..., EngineIndex]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with run_postgres() as url:
        yield url


@pytest.fixture
def opener(request: pytest.FixtureRequest, tmp_path) -> Iterator[Opener]:
    """Opens the same index each time it is called."""
    kind, opened = request.param, []
    pytest.importorskip("lancedb", reason="the engines are an extra: pip install '.[store]'")
    urls = {
        "lance": str(tmp_path / "lance"),
        "milvus": str(tmp_path / "m.db"),
        "faiss": f"faiss:{tmp_path / 'f.npz'}",
    }
    brought: dict[str, object] = {}

    def open_it(encoder: object = Words(), **options: object) -> EngineIndex:
        for index in opened:
            index.close()
        if kind == "bridge":
            found = _bring_memory(encoder, tmp_path, brought, options)
        elif kind == "bridge-milvus":
            found = _bring_milvus(encoder, tmp_path, options)
        else:
            url = request.getfixturevalue("server") if kind == "postgres" else urls[kind]
            found = open_index(url, encoder, **options)
        opened.append(found)
        return found

    yield open_it
    if kind == "postgres":
        url = request.getfixturevalue("server")
        import psycopg

        with psycopg.connect(url) as connection:
            connection.execute("DROP TABLE IF EXISTS genjax_entries, genjax_index_state")
    for index in opened:
        index.close()


def _bring_memory(encoder, tmp_path, brought, options) -> EngineIndex:
    vectorstores = pytest.importorskip(
        "langchain_core.vectorstores", reason="the bridge's tests need langchain-core"
    )
    embeddings = brought.setdefault("embeddings", Embeddings(encoder))
    store = brought.setdefault("store", vectorstores.InMemoryVectorStore(embeddings))
    theirs = embeddings if embeddings.encoder == encoder else Embeddings(encoder)
    return open_bridge(store, theirs, tmp_path / "bridge.json", **options)


def _bring_milvus(encoder, tmp_path, options) -> EngineIndex:
    theirs = pytest.importorskip(
        "langchain_milvus", reason="the bridge's tests need langchain-milvus"
    )
    embeddings = Embeddings(encoder)
    store = theirs.Milvus(
        embeddings,
        connection_args={"uri": str(tmp_path / "theirs.db")},
        index_params={"index_type": "FLAT", "metric_type": "L2"},
        consistency_level="Strong",
    )
    return open_bridge(store, embeddings, tmp_path / "bridge.json", **options)


def each(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("opener", kinds, indirect=True)


def at_angle(degrees: float) -> np.ndarray:
    """A vector at an angle to the first axis."""
    found = np.zeros(D, np.float32)
    found[0], found[1] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return found


def ids(hits) -> list[str]:
    return [hit.id for hit in hits]


START = datetime(2026, 1, 1, tzinfo=UTC)
NASTY = 'it\'s "so" %_\\ ; DROP TABLE x -- é\n{x}'
ENTRIES = [
    Entry(
        f"r{i:02d}",
        f"the cat number {i} runs" if i % 2 else f"a dog's bones, {i} of them",
        kind="response" if i % 3 else "document",
        origin="synthetic" if i % 4 else "real",
        vector=at_angle(4 * i),
        time=START + timedelta(days=i) if i != 5 else None,
        fields={
            "score": i / 8,
            "big": 2**60 + i,
            "sign": -i,
            "metadata.lang": "de" if i % 5 else "en",
            "metadata.a-b": NASTY if i == 7 else "plain",
            "tags": ("poem", f"n{i}") if i % 2 else ("prose, poem",),
            "good": i % 2 == 0,
            **({"metadata.mixed": i} if i % 2 else {"metadata.mixed": str(i)}),
            **({"rare": "x"} if i == 3 else {}),
        },
    )
    for i in range(20)
]
PASSES = [
    "kind=response",
    "kind!=response",
    "kind=respons",
    "origin=real kind=document",
    "score=0.5",
    "score!=0.5",
    "score<0.5",
    "score<=0.5",
    "score>1",
    "score>=1 score<2",
    "sign<-2 sign>=-10",
    "sign=-0",
    "big=1152921504606846980",
    "big>1152921504606846990",
    "good=true",
    "good!=true",
    "good>false",
    "time>=2026-01-06",
    "time<2026-01-03T12:00:00+02:00",
    "time=null",
    "not time=null",
    "rare=null",
    "rare!=null",
    "rare!=x",
    "rare<y",
    "not rare<y",
    "unknown=1",
    "unknown!=1",
    "tags:poem",
    'tags:"prose, poem"',
    "tags:n3 or tags:n5",
    "tags:po",
    "kind:resp",
    "kind:RESP",
    "kind:%",
    "kind:_",
    'kind:"r.s"',
    "id=r03 or id=r04",
    "id>r17",
    "text:cat",
    'text:"dog\'s"',
    "text>b",
    "text=1",
    "metadata.lang=en (score<1 or not good=true)",
    "metadata.mixed=3",
    'metadata.mixed="4"',
    "metadata.mixed>2",
    'metadata.mixed<"2"',
    'metadata.a-b:"it\'s \\"so\\" %_"',
    'metadata.a-b:"DROP TABLE"',
    "score<1e300",
]


@each(*ENGINES)
def test_the_nearest_come_first_with_their_cosine(opener):
    index = opener()
    assert index.upsert(ENTRIES) == 20
    hits = index.search(Query(vector=3 * at_angle(0), mode="vector", limit=4))
    assert ids(hits) == ["r00", "r01", "r02", "r03"]
    if (
        "bridge" not in index.stats().engine
        and index.stats().engine != "a vector store of LangChain's"
    ):
        cosines = [np.cos(np.radians(4 * i)) for i in range(4)]
        np.testing.assert_allclose([hit.score for hit in hits], cosines, atol=1e-5)
    assert index.stats().rows == 20 and index.stats().dimension == D


@each(*ENGINES)
def test_pages_are_parts_of_one_order_and_equals_come_by_id(opener):
    index = opener()
    names = [f"e{(7 * i) % 150:03d}" for i in range(150)]
    index.upsert(
        Entry(name, "same", vector=at_angle(30 * (i >= 140))) for i, name in enumerate(names)
    )
    far = sorted(names[140:])
    query = Query(vector=at_angle(0), mode="vector", limit=150)
    whole = ids(index.search(query))
    assert whole == [name for name in sorted(names) if name not in far] + far
    pages = [index.search(dataclasses.replace(query, limit=7, offset=i)) for i in range(0, 154, 7)]
    assert list(itertools.chain(*map(ids, pages))) == whole


@each(*ENGINES)
def test_upsert_replaces_delete_removes_and_reopening_keeps(opener):
    index = opener()
    index.upsert(ENTRIES)
    index.upsert([dataclasses.replace(ENTRIES[0], vector=at_angle(170), text="zebra")])
    assert index.stats().rows == 20
    assert index.delete(["r01", "r01", "x' OR '1'='1", '"] or id != "']) == 3
    index.mark(42)
    again = opener()
    assert again.stats().rows == 19 and again.read_state().seq == 42
    hits = ids(again.search(Query(vector=at_angle(0), mode="vector", limit=20)))
    assert hits[0] == "r02" and hits[-1] == "r00" and len(hits) == 19
    again.maintain()
    assert ids(again.search(Query(vector=at_angle(0), mode="vector", limit=20))) == hits
    again.rebuild(ENTRIES[:3], seq=50)
    found = opener()
    assert found.stats().rows == 3 and found.read_state().seq == 50
    assert found.read_state().complete


@each(*ENGINES)
def test_another_encoder_is_refused_with_the_command(opener):
    index = opener()
    assert index.search(Query(vector=at_angle(0), mode="vector")) == ()  # nothing there yet
    index.upsert(ENTRIES[:2])
    index.mark(1)
    for other in (Words("other"), Words(dimension=D + 1)):
        with pytest.raises(UserError, match="genjax store rebuild") as error:
            opener(other)
        assert error.value.field == "encoder"
    rebuilt = opener(Words("other"), rebuild=True)
    rebuilt.rebuild(ENTRIES[:1])
    assert opener(Words("other")).stats().encoder == "other"


@each(*FILTERS)
def test_filters_agree_with_their_meaning(opener):
    index = opener()
    index.upsert(ENTRIES)
    for text in PASSES:
        where = parse_filter(text)
        wanted = []
        for entry in ENTRIES:
            own = {"id": entry.id, "kind": entry.kind, "origin": entry.origin, "time": entry.time}
            facts = encode_all({**entry.fields, **own})
            wanted += [entry.id] if holds(compile_filter(where), entry.text, facts) else []
        hits = index.search(Query(vector=at_angle(0), filter=where, mode="vector", limit=50))
        assert ids(hits) == wanted, text


@each(*FILTERS)
def test_a_far_vector_that_passes_is_found_and_a_near_one_that_does_not_is_not(opener):
    index = opener()
    near = [Entry(f"n{i}", "cat", vector=at_angle(0), kind="no") for i in range(300)]
    index.upsert([*near, Entry("far", "a cat", vector=at_angle(179), kind="yes")])
    where = parse_filter("kind=yes")
    modes = (
        ("vector",)
        if index.stats().engine.endswith("LangChain's")
        else ("vector", "hybrid", "keyword")
    )
    for mode in modes:
        query = Query("cat", at_angle(0), where, mode, limit=5)
        assert ids(index.search(query)) == ["far"], mode


@each(*FILTERS)
def test_hostile_values_are_values(opener):
    index = opener()
    texts = ["' OR '1'='1", '" or id != "', "a\\", "%", "_", "{x}", "$1", "%s", "s", "é\n", "\x1f"]
    index.upsert(
        Entry(f"h{i}", "x", vector=at_angle(i), fields={"f": text, "l": (text,), "g": f"-{text}-"})
        for i, text in enumerate(texts)
    )
    for i, text in enumerate(texts):
        quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for name, holding in (
            (f"f={quoted}", [f"h{i}"]),
            (f"g:{quoted}", [f"h{j}" for j, other in enumerate(texts) if text in f"-{other}-"]),
            (f"f!={quoted}", [f"h{j}" for j in range(len(texts)) if j != i]),
        ):
            query = Query(vector=at_angle(0), filter=parse_filter(name), mode="vector", limit=20)
            assert ids(index.search(query)) == holding, name


@each(*SEARCHES)
def test_words_are_stemmed_and_any_of_them_matches(opener):
    index = opener()
    index.upsert(ENTRIES)
    hits = index.search(Query("Running CATS", mode="keyword", limit=20))
    assert ids(hits) == [f"r{i:02d}" for i in range(1, 20, 2)]
    hits = index.search(Query("cat bone 3", mode="keyword", limit=30))
    assert hits[0].id == "r03" and len(hits) == 20
    assert all(hit.parts == {"keyword": hit.score} and hit.score > 0 for hit in hits)
    assert index.search(Query("giraffe", mode="keyword")) == ()
    where = parse_filter("score<1")
    hits = index.search(Query("bones", filter=where, mode="keyword", limit=30))
    assert sorted(ids(hits)) == ["r00", "r02", "r04", "r06"]


@each(*SEARCHES)
@pytest.mark.parametrize(
    "text", ["cat' OR 1=1 --", 'cat" AND "x', "cat & ! | ( :*", "cat \\", "AND OR NOT cat", "cat*"]
)
def test_hostile_queries_are_words(opener, text):
    index = opener()
    index.upsert(ENTRIES)
    assert len(index.search(Query(text, mode="keyword", limit=30))) >= 10
    assert len(index.search(Query(text, mode="hybrid", limit=30))) == 20
    assert index.search(Query("!? ::", mode="keyword")) == ()


@each(*SEARCHES)
def test_hybrid_finds_what_either_side_finds(opener):
    index = opener()
    index.upsert(Entry(f"x{i}", "nothing to see", vector=at_angle(90 + i)) for i in range(30))
    index.upsert(
        [
            Entry("word", "a rare zebra", vector=at_angle(100)),
            Entry("near", "y", vector=at_angle(1)),
        ]
    )
    hits = index.search(Query("zebra", at_angle(0), limit=32))
    assert set(ids(hits[:2])) == {"word", "near"} and len(hits) == 32
    assert "keyword" in hits[ids(hits).index("word")].parts
    assert "keyword" not in hits[ids(hits).index("near")].parts
    pages = [index.search(Query("zebra", at_angle(0), limit=5, offset=i)) for i in range(0, 35, 5)]
    assert [hit for page in pages for hit in page] == list(hits)


@each("faiss", "bridge")
def test_what_an_engine_cannot_do_is_refused_by_name(opener):
    index = opener()
    index.upsert(ENTRIES[:2])
    for mode in ("keyword", "hybrid"):
        with pytest.raises(UserError, match=f"{index.stats().engine} has no keyword") as error:
            index.search(Query("cat", mode=mode))
        assert error.value.field == "mode"


@each("faiss")
def test_faiss_refuses_filters(opener):
    index = opener()
    index.upsert(ENTRIES[:2])
    with pytest.raises(UserError, match="FAISS cannot filter") as error:
        index.search(Query("cat", filter=parse_filter("kind=x"), mode="vector"))
    assert error.value.field == "filter"


@each("lance")
def test_a_lost_folder_is_built_again(opener, tmp_path):
    index = opener()
    index.upsert(ENTRIES)
    index.mark(20)
    shutil.rmtree(tmp_path / "lance")
    with pytest.raises(UserError, match="rebuild") as error:
        index.search(Query("cat", mode="keyword"))
    assert error.value.field == "index"
    again = opener()
    assert again.search(Query("cat")) == () and again.read_state().seq == 0
    again.rebuild(ENTRIES, seq=20)
    assert opener().stats().rows == 20


@each("lance")
def test_a_table_that_another_process_is_making_is_not_there_yet(opener, tmp_path):
    writer = opener()
    writer.upsert(ENTRIES[:1])
    made = tmp_path / "lance" / "state.lance"
    made.rename(tmp_path / "aside")
    (made / "data").mkdir(parents=True)  # as while its writer has not written its first version
    reader = opener()
    assert reader.search(Query("cat")) == () and reader.read_state().seq == 0
    shutil.rmtree(made)
    (tmp_path / "aside").rename(made)
    assert reader.search(Query(ENTRIES[0].text, mode="keyword")) != ()


@each("lance", "milvus", "faiss")
def test_a_place_that_cannot_be_an_index_is_refused(opener, tmp_path):
    for name in ("lance", "m.db", "f.npz"):
        (tmp_path / name).write_text("not an index")
    with pytest.raises(UserError) as error:
        opener().upsert(ENTRIES[:1])
    assert error.value.field == "index"


@each("lance", "faiss")
def test_a_query_without_tokens_finds_nothing(opener):
    index = opener()
    index.upsert(ENTRIES)
    assert index.search(Query(vector=np.zeros(D), mode="vector")) == ()


@each("lance", "faiss")
def test_bad_entries_are_refused_before_anything_is_written(opener):
    index = opener()
    index.upsert(ENTRIES[:2])
    for vector in (np.zeros(D + 1), np.full(D, np.nan), np.zeros((1, D))):
        with pytest.raises(UserError) as error:
            index.upsert([Entry("x", "x", vector=vector)])
        assert error.value.field == "vector"
    for value in (object(), {"a": 1}, None.__class__):
        with pytest.raises(UserError) as error:
            index.upsert([Entry("x", "x", fields={"field": value})])
        assert error.value.field == "field"
    assert index.stats().rows == 2


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Query(""), "query"),
        (lambda: Query("  \n"), "query"),
        (lambda: Query("a\0b"), "query"),
        (lambda: Query("\ud800"), "query"),
        (lambda: Query("a" * 100_001), "query"),
        (lambda: Query("a", mode="fuzzy"), "mode"),
        (lambda: Query("a", limit=0), "limit"),
        (lambda: Query("a", limit=True), "limit"),
        (lambda: Query("a", offset=-1), "offset"),
        (lambda: Query("a", offset=95), "pool"),
        (lambda: Entry("", "a"), "id"),
        (lambda: Entry("a" * 501, "a"), "id"),
        (lambda: Entry("a\0", "a"), "id"),
        (lambda: Entry("a", "a\0"), "text"),
        (lambda: Entry("a", "\udc80"), "text"),
        (lambda: Entry("a", "a" * 1_000_001), "text"),
        (lambda: encode_all({"a": "\0"}), "a"),
        (lambda: encode_all({"a\0": "x"}), "field"),
        (lambda: compile_filter(parse_filter('a="\0"')), "filter"),
        (lambda: compile_filter(parse_filter('a="\ud800"')), "filter"),
        (lambda: open_index("gopher://x", Words()), "index"),
        (lambda: open_index("", Words()), "index"),
    ],
)
def test_mistakes_name_their_field(make, field):
    with pytest.raises(UserError) as error:
        make()
    assert error.value.field == field and field in str(error.value)
