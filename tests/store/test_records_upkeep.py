"""Upkeep of a store: hashes of blobs, the outbox and those who follow it, lookups, searches."""

import random
import threading

import pytest

from genjax.errors import UserError
from genjax.store import followers, schema
from genjax.store.index.opening import open_index
from genjax.store.lookups import find_ids
from genjax.store.maintenance import analyse, check
from genjax.store.opening import open_store
from genjax.store.query import Query, sort
from genjax.store.records import (
    Chunk,
    DataSet,
    Document,
    Entity,
    Feedback,
    Payload,
    Prompt,
    Relation,
    Response,
    Run,
    Session,
)
from genjax.store.searching import Outbox, follow, rebuild, search
from tests.store.test_records_contract import (  # noqa: F401  (fixtures)
    make_place,
    server,
    store,
    url,
)
from tests.store.words import Words


def test_check_compares_hashes_unless_it_is_to_be_fast(store):  # noqa: F811
    payload = Payload(content=b"right", media_type="text/plain")
    (one,) = store.add(Prompt(origin="real", payload=payload))
    digest = store.get(one).payload.blob
    files, path = store.blobs._place(digest)
    assert check(store) == []
    files.pipe_file(path, b"wrong")  # of the same size
    assert check(store, fast=True) == []
    (fault,) = check(store)
    assert fault.about == digest and "another hash" in fault.what and not fault.stray


def fill(store, count=12):  # noqa: F811
    names = (f"number {i} of cats and dogs" for i in range(count))
    return store.add(*(Entity(id=f"e{i:02d}", origin="real", name=n) for i, n in enumerate(names)))


def open_words(folder, name):
    pytest.importorskip("faiss", reason="the engines are an extra: pip install '.[store]'")
    return open_index(f"faiss:{folder / name}", Words())


def find(store, index, **more):  # noqa: F811
    given = {"origin": "any", "mode": "vector", "limit": 100} | more
    return [hit.id for hit in search(store, index, "cats", **given).hits]


def test_the_outbox_keeps_what_the_slowest_needs(store, tmp_path):  # noqa: F811
    ids = fill(store)
    slow, quick = (open_words(tmp_path, name) for name in ("slow", "quick"))
    assert follow(store, slow, "slow").seq == 12
    assert store.count_outbox() == 1  # the newest, so that its number is known
    store.tag("e03", add=("x",))
    store.delete("e04")
    store.erase("e05")
    assert follow(store, quick, "quick").seq == 15  # built from the records: changes are gone
    assert followers.list_followers(store) == {"slow": 12, "quick": 15}
    assert store.count_outbox() == 3 and followers.read_removed(store) == 12 - 1 + 1
    wanted = sorted(set(ids) - {"e04", "e05"})
    assert sorted(find(store, quick)) == wanted
    done = follow(store, slow, "slow")
    assert (done.upserted, done.deleted, done.seq) == (1, 2, 15)
    assert sorted(find(store, slow)) == wanted and store.count_outbox() == 1
    assert follow(store, slow, "slow").seq == follow(store, quick, "quick").seq == 15
    store.add(Entity(id="new", origin="real", name="cats"))
    assert search(store, slow, "cats", origin="any", mode="vector").behind == 1
    follow(store, slow, "slow")
    assert [change.record for change in store.read_outbox()] == ["new"]  # which quick lacks
    with pytest.raises(UserError, match="quick") as error:
        follow(store, slow, "slow", forget=["quik"])
    assert "index to forget" in str(error.value)
    follow(store, slow, "slow", forget=["quick"])
    assert store.count_outbox() == 1 and followers.list_followers(store) == {"slow": 16}
    follow(store, quick, None)  # not named: it is built again, and holds nothing back
    assert sorted(find(store, quick)) == sorted([*wanted, "new"])
    assert "quick" not in followers.list_followers(store)


def test_an_index_without_a_name_leaves_the_outbox_alone(store, tmp_path):  # noqa: F811
    fill(store)
    index = open_words(tmp_path, "index")
    follow(store, index)
    rebuild(store, index)
    assert store.count_outbox() == 12 and followers.list_followers(store) == {}


def test_a_password_is_not_written_down():
    url = "postgresql://ann:secret@host/db"  # noqa: F811
    assert "secret" not in followers.name_index(url) and "ann" in followers.name_index(url)


def test_a_search_by_score_is_exact_on_every_page(store, tmp_path):  # noqa: F811
    pytest.importorskip("lancedb", reason="the engines are an extra: pip install '.[store]'")
    fill(store, 30)
    rng = random.Random(0)
    values = {f"e{i:02d}": rng.random() for i in range(30)}
    store.add(*(Feedback(origin="real", target=o, name="good", value=v) for o, v in values.items()))
    index = open_index(str(tmp_path / "lance"), Words())
    follow(store, index, "lance")
    given = {"origin": "any", "filter": "score.good>=0.5 kind=entity"}
    everything = find(store, index, limit=100, origin="any", filter="kind=entity")
    wanted = [one for one in everything if values[one] >= 0.5]
    assert 5 < len(wanted) < 25 and len(everything) == 30
    assert find(store, index, **given) == wanted
    pages = [find(store, index, **given, limit=4, offset=4 * page) for page in range(8)]
    assert [one for page in pages for one in page] == wanted
    hybrid = find(store, index, **given, mode="hybrid")
    pages = [find(store, index, **given, mode="hybrid", limit=5, offset=o) for o in range(0, 30, 5)]
    assert [one for page in pages for one in page] == hybrid and set(hybrid) == set(wanted)
    assert find(store, index, origin="any", filter="not score.good>=0.5 kind=entity") == [
        one for one in everything if values[one] < 0.5
    ]
    assert find(store, index, origin="any", filter="score=null kind=entity") == []
    assert find(store, index, origin="any", filter="media_type=null kind=entity") == everything
    with pytest.raises(UserError, match="nothing") as error:
        find(store, index, origin="any", filter="nothing=1")
    assert error.value.field == "filter"


def test_a_search_by_score_that_names_many_is_ranked_or_refused(store, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("lancedb", reason="the engines are an extra: pip install '.[store]'")
    fill(store, 30)
    store.add(*(Feedback(origin="real", target=f"e{i:02d}", value=1.0) for i in range(20)))
    index = open_index(str(tmp_path / "lance"), Words())
    follow(store, index, "lance")
    whole = find(store, index, filter="score=1")
    monkeypatch.setattr("genjax.store.searching.NAMED", 5)
    assert find(store, index, filter="score=1") == whole and len(whole) == 20
    assert find(store, index, filter="score=1", limit=7, offset=7) == whole[7:14]
    monkeypatch.setattr("genjax.store.searching.EXACT", 10)
    with pytest.raises(UserError, match="narrow it") as error:
        find(store, index, filter="score=1")
    assert error.value.field == "filter"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def many(request, tmp_path_factory):
    """A store of 300 records of each kind."""
    folder = tmp_path_factory.mktemp("many")
    with open_store(make_place(request.param, request, folder), create=True) as store:  # noqa: F811
        for n in range(300):
            ids = {
                kind: f"{kind[0]}{n:02d}" for kind in ("session", "prompt", "document", "entity")
            }
            of = {"origin": "real"}
            near = f"e{max(n - 1, 0):02d}"
            records = [
                Session(id=ids["session"], user=f"user {n}", **of),
                Prompt(id=ids["prompt"], session=ids["session"], **of),
                Run(id=f"run{n}", name=f"name {n}", **of),
                Response(id=f"r{n}", prompt=ids["prompt"], run=f"run{n}", **of),
                Document(id=ids["document"], source=f"file {n}", hash=f"hash {n}", **of),
                Chunk(document=ids["document"], end=1, hash=f"hash {n}", **of),
                Entity(id=ids["entity"], name=f"name {n}", **of),
                Feedback(target=f"r{n}", name=f"name {n}", user=f"user {n}", value=n / 300, **of),
                DataSet(fingerprint=f"print {n}", **of),
                Relation(subject=ids["entity"], predicate=f"is {n}", object=near, **of),
                Entity(origin="synthetic", generator=f"run{n}", name="drawn"),
            ]
            records += [Prompt(parent=ids["prompt"], **of)] if n % 2 else []
            store.add(*records)
        analyse(store)
        yield store


@pytest.mark.parametrize(
    ("kind", "filter", "name"),
    [
        ("feedback", "name=helpful", "feedback_by_name"),
        ("feedback", "target=e01 source_kind=CODE", "feedback_by_target"),
        ("feedback", "user=ann value>0.5", "feedback_by_user"),
        ("response", "prompt=e01", "responses_by_prompt"),
        ("response", "run=e01", "responses_by_run"),
        ("prompt", "session=e01", "prompts_by_session"),
        ("prompt", "parent=e01", "prompts_by_parent"),
        ("document", "source=e01", "documents_by_source"),
        ("document", 'hash="e01"', "documents_by_hash"),
        ("chunk", "document=e01", "chunks_by_document"),
        ("entity", "name=e01", "entities_by_name"),
        ("relation", "subject=e01", "relations_by_subject"),
        ("relation", 'predicate="is about"', "relations_by_predicate"),
        ("run", "name=e01", "runs_by_name"),
        ("dataset", "fingerprint=e01", "datasets_by_fingerprint"),
        ("session", "user=ann", "sessions_by_user"),
        (None, "generator=e01", "records_by_generator"),
        (None, "", "records_by_moment"),
        ("feedback", "", "records_by_time"),
    ],
)
def test_the_database_looks_up_what_filters_name(many, kind, filter, name):
    store = many  # noqa: F811
    with store.reading() as connection:
        if store.is_postgres:  # small tables are read whole otherwise
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        query, column, down = Query(filter, kind, "any").compile(
            schema.records.c.id, postgres=store.is_postgres
        )
        query = sort(query, column, down).limit(10)
        bound = query.compile(connection, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN" if store.is_postgres else "EXPLAIN QUERY PLAN"
        text = str(bound).replace("%%", "%")
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(f"{explain} {text}"))
    assert name in plan, plan


def test_a_missing_value_is_unequal_in_every_bracket(store):  # noqa: F811
    store.add(Entity(id="a", origin="real", name="x", type="t"), Entity(id="b", origin="real"))
    for filter, wanted in (
        ("type=t", "a"),
        ("type!=t", "b"),
        ("not type=t", "b"),
        ("not (type=t name=x)", "b"),
        ("not (type=t or name=x)", "b"),
        ("not (not type=t)", "a"),
        ("type>s or name=nobody", "a"),
        ("not (type>s or name=nobody)", "b"),
        ("not (not (type=t or type=u) name=x)", "ab"),
    ):
        with store.reading() as connection:
            found = find_ids(connection, Query(filter, "entity"), None)
        assert "".join(sorted(found)) == wanted, filter


def test_a_name_of_any_length_can_be_kept(store):  # noqa: F811
    name = "".join(chr(random.Random(i).randrange(0x4E00, 0x9FFF)) for i in range(2_000))
    store.add(Entity(id="long", origin="real", name=name), Entity(id="b", origin="real", name="b"))
    store.add(Feedback(origin="real", target="b", name=name, user=name))
    assert [one.id for one in store.select(f'name="{name}"', kind="entity")] == ["long"]


def test_no_change_is_skipped_by_a_follower_of_two_writers(store, url):  # noqa: F811
    """A writer that took a number and has not committed yet holds back all later numbers."""
    first = threading.Event()
    written: list[str] = []

    def write_second():
        with open_store(url, user="second") as own:
            first.wait(60)
            own.add(Entity(id="second", origin="real", name="x"))
            written.append("second")

    thread = threading.Thread(target=write_second)
    thread.start()
    with store.writing() as connection:
        store._note(connection, ["early"], "add")
        first.set()
        thread.join(0.5)
        assert written == []  # it waits for its turn
        seen = store.read_outbox() if store.is_postgres else []
        assert seen == []
    thread.join(60)
    assert [change.record for change in store.read_outbox()] == ["early", "second"]


def test_a_follower_that_reads_while_two_write_sees_every_change(store, url):  # noqa: F811
    done = threading.Barrier(3)
    seen: list[int] = []

    def write(name):
        with open_store(url, user=name) as own:
            done.wait(60)
            for number in range(25):
                own.add(Entity(id=f"{name}{number:02d}", origin="real", name="x"))

    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for writer in writers:
        writer.start()
    done.wait(60)
    outbox = Outbox(store)
    while any(writer.is_alive() for writer in writers) or outbox.changes(max(seen, default=0), 9):
        seen += [change.seq for change in outbox.changes(max(seen, default=0), 9)]
    for writer in writers:
        writer.join()
    every = [change.seq for change in store.read_outbox()]
    assert seen == every and len(every) == 50


def test_a_response_is_found_by_its_score_through_the_index(store):  # noqa: F811
    store.add(
        Prompt(id="p", origin="real", payload=Payload(text="x")),
        Response(id="r", origin="real", prompt="p", payload=Payload(text="y")),
        Feedback(origin="real", target="r", name="good", value=2.0),
    )
    assert [one.id for one in store.select("score.good>1.5")] == ["r"]
    assert store.count("value=2", kind="feedback") == 1
    assert store.count("value=2.0 name=good", kind="feedback") == 1
