"""What a store promises, over SQLite and PostgreSQL alike."""

import contextlib
import dataclasses
import itertools
import json
import threading
from datetime import UTC, datetime

import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.audit.verifying import verify
from genjax.store.bulk import add_table, make_schema, read_table
from genjax.store.conversation import read_branch, read_tree
from genjax.store.judging import categorise, score
from genjax.store.limits import Limits
from genjax.store.lineage import read_lineage, show_lineage
from genjax.store.maintenance import backup, check, copy_store, hash_store, restore
from genjax.store.opening import migrate_store, open_store
from genjax.store.records import (
    Checkpoint,
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
from tests.store.servers import run_postgres

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server():
    with run_postgres() as url:
        yield url


def make_place(kind, request, folder):
    """The URL of a store that is not there yet."""
    if kind == "sqlite":
        return str(folder / "store.db")
    server = request.getfixturevalue("server")
    name = f"records_{next(NUMBERS)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server.rpartition('/')[0]}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return make_place(request.param, request, tmp_path)


@pytest.fixture
def store(url, tmp_path):
    with open_store(url, create=True, blobs=str(tmp_path / "blobs"), user="ann") as store:
        yield store


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request, tmp_path_factory):
    """A store with a record of every kind that no test changes."""
    folder = tmp_path_factory.mktemp("filled")
    place = make_place(request.param, request, folder)
    limits = Limits(text=100, data=150, content=200, name=50, listed=10)
    with open_store(place, create=True, blobs=str(folder / "blobs"), limits=limits) as store:
        fill(store)
        yield store


def text(value, **rest):
    return Payload(text=value, **rest)


def fill(store):
    """A record of every kind; returns them by short names."""
    (run,) = store.add(Run(origin="real", name="gpt", path="runs/gpt"))
    made = {"origin": "synthetic", "generator": run}
    (source,) = store.add(
        Document(origin="real", name="book", source="books/a.txt", hash="0a", payload=text("abc"))
    )
    (base,) = store.add(
        DataSet(origin="real", name="set", manifest={"inputs": {"raw.gz": "ff"}}, parents=(source,))
    )
    store.update(run, parents=(base,))
    records = {
        "session": Session(id="s", origin="real", name="first", user="bob"),
        "prompt": Prompt(
            id="p", origin="real", session="s", role="user", payload=text("how are you?"),
            tags=("greeting", "short"), metadata={"lang": "en", "n": 3, "deep": {"list": [1, "x"]}},
        ),
        "answer": Response(
            id="a", **made, prompt="p", payload=text("fine"), run=run, step=7,
            sampler={"temperature": 0.5}, seed=1, tokens=2, milliseconds=1.5,
        ),
        "other": Response(id="b", **made, prompt="p", payload=text("bad"), run=run),
        "picture": Response(
            id="c", **made, prompt="p", payload=Payload(content=b"\0png", media_type="image/png")
        ),
        "chunk": Chunk(id="k", origin="real", document=source, start=0, end=2, payload=text("ab")),
        "feedback": Feedback(
            id="f", origin="real", target="a", against="b", user="bob", name="helpful", value=1,
            label="good", rationale="kind",
        ),
        "checkpoint": Checkpoint(id="cp", origin="real", run=run, step=7),
        "entity": Entity(id="e", origin="real", name="Ada", type="person"),
        "relation": Relation(id="r", origin="real", subject="a", predicate="is about", object="e"),
    }  # fmt: skip
    store.add(*records.values())
    return {name: record.id for name, record in records.items()} | {
        "run": run, "document": source, "dataset": base,
    }  # fmt: skip


def test_every_kind_is_read_as_it_was_written(store):
    ids = fill(store)
    for one in ids.values():
        record = store.get(one, "any")
        assert record.id == one and record.time.tzinfo is not None
    answer = store.get(ids["answer"], "synthetic")
    assert answer.sampler == {"temperature": 0.5} and answer.milliseconds == 1.5
    assert store.get("p").tags == ("greeting", "short")
    assert store.get("p").metadata["deep"] == {"list": [1, "x"]}
    picture = store.get("c", "any").payload
    assert (picture.size, picture.media_type) == (4, "image/png")
    assert store.read_blob(picture) == b"\0png"
    assert check(store) == []


def test_who_does_not_ask_for_synthetic_records_sees_none(store):
    fill(store)
    assert {record.origin for record in store.select()} == {"real"}
    assert store.count(kind="response") == 0 and store.count(kind="response", origin="any") == 3
    assert list(store.select("origin=synthetic")) == []
    assert not pa.Table.from_batches(read_table(store, "response"), make_schema("response"))
    with pytest.raises(UserError) as error:
        store.get("a")
    assert error.value.field == "origin"
    assert [turn.record.id for turn in read_tree(store, "s")] == ["p"]
    assert read_tree(store, "s")[0].next == ()


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("tags:greeting", "p"),
        ("tags:greet", ""),
        ("metadata.lang=en", "p"),
        ("metadata.n>2.5", "p"),
        ("metadata.n>3", ""),
        ('metadata.n>"2"', ""),
        ("metadata.deep.list:1", "p"),
        ("metadata.deep.list:x", "p"),
        ("metadata.lang:n", "p"),
        ("metadata.gone=null kind=prompt", "p"),
        ("metadata.lang!=de kind=prompt", "p"),
        ("text:how", "p"),
        ("text:'%'", ""),
        ("step>=7 kind=response", "a"),
        ("step=7.5", ""),
        ("step!=7 kind=response", "b c"),
        ("not step=7 kind=response", "b c"),
        ("score>0.5", "a"),
        ("score.helpful>=1 or id=b", "a b"),
        ("score.other>0", ""),
        ("score.helpful!=1 kind=response", "b c"),
        ("score=null kind=response", "b c"),
        ("valid=true", "f"),
        ("session=s (role=user or role=system)", "p"),
        ("size>3", "c"),
        ("sampler.temperature<1", "a"),
        ("time>2020-01-01 kind=entity", "e"),
        ("time<2020-01-01", ""),
        ("name=Ada", "e"),
    ],
)
def test_a_filter_finds(filled, filter, found):
    ids = [record.id for record in filled.select(filter, origin="any", order="id")]
    assert ids == found.split()
    assert filled.count(filter, origin="any") == len(ids)


@pytest.mark.parametrize(
    "filter",
    ["role=5", "step=seven", "time=5", "valid=1", "nothing=1", "step:7", "metadata.a>true",
     "text.deep=1", "parents=x", "deleted=1"],
)  # fmt: skip
def test_a_filter_of_another_type_is_refused(filled, filter):
    with pytest.raises(UserError) as error:
        filled.select(filter)
    assert error.value.field == "filter" and "filter" in str(error.value)


def test_values_are_bound_and_never_spliced(filled):
    evil = "x' OR 1=1; DROP TABLE records; --"
    for field in ("text", "metadata.lang", "tags", "name", "metadata.a.b", "id"):
        op = ":" if field == "tags" else "="
        quoted = evil.replace('"', '\\"')
        assert filled.count(f'{field}{op}"{quoted}"', origin="any") == 0
    assert filled.count(origin="any") == 13


def test_pages_are_exact_and_stable(store):
    prompts = [Prompt(origin="real", payload=text(str(i % 3)), role=str(i % 2)) for i in range(25)]
    ids = list(store.add(*prompts))
    for order in ("time", "-time", "role", "-role", "session", "text"):
        whole = [record.id for record in store.select(order=order)]
        assert sorted(whole) == sorted(ids)
        pages, after = [], None
        while page := [r.id for r in store.select(order=order, limit=4, after=after)]:
            pages += page
            after = page[-1]
        assert pages == whole
    assert [r.id for r in store.select()] == ids


def test_a_change_is_in_the_history_and_the_outbox(store):
    (one,) = store.add(Entity(origin="real", name="Ada"))
    seen = store.newest_change()
    with contextlib.closing(open_store(store.url.render_as_string(False), user="bob")) as other:
        other.update(one, name="Ada L.", metadata={"born": 1815})
        other.tag(one, add=["poet"])
        other.delete(one)
    past = store.history(one)
    assert [(c.user, c.action) for c in past] == [
        ("ann", "add"), ("bob", "update"), ("bob", "update"), ("bob", "delete"),
    ]  # fmt: skip
    assert past[1].fields == {"name": ["Ada", "Ada L."], "metadata": [None, {"born": 1815}]}
    assert [c.action for c in store.read_outbox(seen)] == ["upsert", "upsert", "delete"]
    assert store.count() == 0
    with pytest.raises(UserError, match="was deleted"):
        store.get(one)
    store.undelete(one)
    assert store.get(one).tags == ("poet",)


def test_what_is_erased_is_gone_with_its_bytes(store):
    fill(store)
    with pytest.raises(UserError, match="erase that first") as error:
        store.erase("a")
    assert error.value.field == "id" and store.count(origin="any") == 13
    payload = store.get("c", "any").payload
    (twin,) = store.add(
        Document(origin="real", payload=Payload(content=b"\0png", media_type="image/png"))
    )
    store.erase("c")
    assert store.read_blob(payload) == b"\0png"  # another record has it
    store.erase(twin)
    assert not store.blobs.has(payload.blob) and store.history("c") == []
    assert check(store) == []


def test_a_conversation_is_a_tree_with_branches(store):
    store.add(
        Session(id="s", origin="real"),
        Prompt(id="1", origin="real", session="s", role="user", payload=text("one")),
        Response(id="2", origin="real", prompt="1", payload=text("two")),
        Response(id="3", origin="real", prompt="1", payload=text("three")),
        Prompt(id="4", origin="real", session="s", parent="3", role="user", payload=text("four")),
        Response(id="5", origin="real", prompt="4", payload=text("five")),
    )
    (top,) = read_tree(store, "s")
    assert [turn.record.id for turn in top.next] == ["2", "3"]
    assert [turn.record.id for turn in top.next[1].next[0].next] == ["5"]
    assert [record.id for record in read_branch(store, "5")] == ["1", "3", "4", "5"]


def test_lineage_leads_to_raw_files_and_down_to_runs(store):
    ids = fill(store)
    up = show_lineage(read_lineage(store, "a"))
    for part in (ids["run"], ids["dataset"], "raw raw.gz (ff)", "raw books/a.txt (0a)"):
        assert part in up
    down = show_lineage(read_lineage(store, ids["document"], down=True))
    for part in (ids["dataset"], ids["run"], "generator: response a", "target: feedback f"):
        assert part in down


WRONG = {
    "payload.text": [text("a\0b"), text("\ud83d"), text(5), text("x" * 101)],
    "payload.data": [Payload(data=5), Payload(data={1: 2}), Payload(data=[float("nan")]),
                     Payload(data={"a": "\ud83d"}), Payload(data=["y" * 200])],
    "payload.content": [Payload(content="text", media_type="a/b"),
                        Payload(content=b"0" * 201, media_type="a/b")],
    "payload.media_type": [Payload(content=b"1"), Payload(content=b"1", media_type="png")],
    "payload.blob": [Payload(blob="zz", media_type="a/b"),
                     Payload(blob="0" * 64, media_type="a/b")],
    "payload.size": [Payload(size=5), Payload(content=b"1", media_type="a/b", size="1")],
    "payload": ["text"],
    "role": [None, 5, "\0", "r" * 51],
    "tags": [("a", "a"), ("",), ["a"], (1,), ("\ud800",)],
    "metadata": [{"a": float("inf")}, {"a": 2**63}, {"a": object()}, [1], {"\0": 1}, None],
    "time": [datetime(2020, 1, 1), "now"],
    "origin": ["fake", None],
    "generator": ["nobody", "unknown"],
    "parent": ["nobody", "me"],
    "session": ["nobody", 5],
    "parents": [("nobody",), "me", ("me",)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_by_its_name_and_nothing_is_written(filled, field, value):
    seen = filled.newest_change()
    name = "payload" if field.startswith("payload") else field
    right = Entity(origin="real", name="right")
    wrong = Prompt(**{"id": "me", "origin": "real", name: value})
    with pytest.raises(UserError) as error:
        filled.add(right, wrong)
    assert error.value.field == field and field in str(error.value)
    assert "\n" not in str(error.value)
    assert filled.count(origin="any") == 13 and filled.newest_change() == seen


def test_a_circle_is_refused(store):
    made = {"origin": "real", "name": "x"}
    with pytest.raises(UserError, match="circle") as error:
        store.add(Entity(id="a", parents=("b",), **made), Entity(id="b", parents=("a",), **made))
    assert error.value.field == "parents"
    store.add(Entity(id="a", **made), Entity(id="b", parents=("a",), **made))
    store.add(Entity(id="c", parents=("b",), **made))
    for parents in (("c",), ("a",)):
        with pytest.raises(UserError) as error:
            store.update("a", parents=parents)
        assert error.value.field == "parents"
    store.update("c", parents=("a",))
    store.delete("b")
    with pytest.raises(UserError, match="must not be deleted"):
        store.add(Entity(parents=("b",), **made))


def test_what_is_no_change_is_refused(store):
    (one,) = store.add(Entity(origin="real", name="x"))
    for changes, field in (
        ({"origin": "synthetic"}, "origin"),
        ({"id": "y"}, "id"),
        ({"nam": "y"}, "field"),
        ({"name": None}, "name"),
    ):
        with pytest.raises(UserError) as error:
            store.update(one, **changes)
        assert error.value.field == field
    with pytest.raises(UserError):
        store.add(Entity(id=one, origin="real", name="again"))
    assert [change.action for change in store.history(one)] == ["add"]


def test_arrow_in_is_arrow_out(store):
    ids = fill(store)
    rows = 2_000
    table = pa.table(
        {
            "origin": ["synthetic"] * rows,
            "generator": [ids["run"]] * rows,
            "parents": [["p"] if i % 2 else [] for i in range(rows)],
            "prompt": ["p"] * rows,
            "text": [f'tab\t"quoted" \\N {i} é' for i in range(rows)],
            "metadata": [json.dumps({"i": i}) for i in range(rows)],
            "tags": [["x", 'a"b'] if i % 3 else None for i in range(rows)],
            "seed": range(rows),
            "milliseconds": [i / 3 for i in range(rows)],
        }
    )
    added = add_table(store, "response", table)
    found = pa.Table.from_batches(
        read_table(store, "response", "seed!=null tokens=null", origin="any")
    )
    assert found["id"].to_pylist() == added
    for name in ("text", "seed", "milliseconds", "parents", "prompt"):
        assert found[name].to_pylist() == table[name].to_pylist()
    assert [json.loads(one) for one in found["metadata"].to_pylist()] == [
        {"i": i} for i in range(rows)
    ]
    assert store.get(added[1], "any").tags == ("x", 'a"b')
    assert store.get(added[1], "any").parents == ("p",)
    assert store.count("metadata.i>=1999", origin="any") == 1
    assert store.history(added[5])[0].user == "ann"
    assert len(store.read_outbox(limit=5000)) == 13 + 1 + rows


@pytest.mark.parametrize(
    ("column", "values"),
    [("prompt", ["nobody"]), ("prompt", [None]), ("text", ["a\0"]), ("origin", ["fake"]),
     ("metadata", ["[]"]), ("metadata", ["{"]), ("seed", ["x"]), ("column", [1]),
     ("run", ["p"]), ("generator", ["unknown"]), ("parents", [["nobody"]]), ("id", ["p"])],
)  # fmt: skip
def test_a_wrong_column_is_refused(filled, column, values):
    right = {"origin": ["real"], "prompt": ["p"], "text": ["fine"]}
    with pytest.raises(UserError) as error:
        add_table(filled, "response", pa.table(right | {column: values}))
    assert error.value.field == column
    assert filled.count(kind="response", origin="any") == 3


def test_a_copy_and_a_backup_are_the_store(store, tmp_path):
    fill(store)
    store.update("e", name="Ada L.")
    store.delete("r")
    with open_store(str(tmp_path / "copy.db"), create=True) as copy:
        assert copy_store(store, copy) == 13
        assert hash_store(copy) == hash_store(store)
        assert copy.read_blob(copy.get("c", "any").payload) == b"\0png"
        assert copy.history("e") == store.history("e")
        with pytest.raises(UserError) as error:
            copy_store(store, copy)
        assert error.value.field == "target"
    assert backup(store, tmp_path / "kept") == 13
    with open_store(str(tmp_path / "back.db"), create=True) as back:
        assert restore(tmp_path / "kept", back) == 13
        assert hash_store(back) == hash_store(store)
    blob = next((tmp_path / "kept").glob("records.blobs/*/*"))
    blob.write_bytes(b"broken")
    with (
        open_store(str(tmp_path / "bad.db"), create=True) as bad,
        pytest.raises(UserError, match="damaged"),
    ):
        restore(tmp_path / "kept", bad)


def test_check_finds_strays_and_what_is_missing(store):
    fill(store)
    store.blobs.write(b"nobody's")
    digest = store.get("c", "any").payload.blob
    store.blobs.remove(digest)
    found = {fault.what.partition(":")[0]: fault.stray for fault in check(store)}
    assert found == {"blob is missing": False, "blob that no record has": True}
    assert [fault.about for fault in check(store, repair=True)] == [digest]


def step_back(store, version):
    """Make a store one of an older genjax."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "genjax.store:migrations")
    scripts = ScriptDirectory.from_config(config)
    steps = EnvironmentContext(
        config, scripts, fn=lambda now, _: scripts._downgrade_revs(version, now)
    )
    with store.writing() as connection, steps:
        steps.configure(connection=connection, target_metadata=schema.metadata)
        steps.run_migrations()


def test_another_schema_is_refused_and_an_older_one_migrated(store, url):
    fill(store)

    def set_version(version):
        with store.writing() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")

    set_version("9999")
    for open_ in (open_store, migrate_store):
        with pytest.raises(UserError, match="newer") as error:
            open_(url)
        assert error.value.field == "store"
    set_version(schema.VERSION)
    step_back(store, "0001")
    with pytest.raises(UserError, match="genjax store migrate"):
        open_store(url)
    migrate_store(url)
    with open_store(url) as again:
        assert again.count(origin="any") == 13
        assert verify(again).flaws == ()


def test_the_migrated_tables_are_those_of_the_code(store):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_scores_and_categories(store):
    fill(store)

    def length(prompts, responses):
        return [float(len(text)) for text in responses]

    assert score(store, "length", length, origin="any") == 2  # the picture has no text
    assert score(store, "length", length, origin="any") == 0  # they have it
    (best,) = store.select("score.length>3", origin="any")
    assert best.id == "a"
    judged = next(iter(store.select("name=length", kind="feedback", limit=1)))
    assert (judged.source_kind, judged.source_id, judged.origin) == ("CODE", "length", "real")
    rules = {"nice": "text=fine", "long": "score.length>100"}
    assert categorise(store, rules, kind="response", origin="any") == 1
    assert categorise(store, lambda texts: ["q"] * len(texts), kind="prompt") == 1
    assert [r.id for r in store.select("tags:nice", origin="any")] == ["a"]
    assert store.get("p").tags == ("greeting", "short", "q")
    with pytest.raises(UserError, match="failed"):
        score(store, "broken", lambda prompts, responses: 1 / 0, origin="any")


def test_writers_in_threads_lose_nothing(store, url):
    def write(number):
        with open_store(url, user=f"writer {number}") as own:
            for i in range(20):
                own.add(Entity(id=f"{number}-{i}", origin="real", name="x"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count() == 80
    seqs = [change.seq for change in store.read_outbox()]
    assert len(seqs) == 80 and seqs == sorted(seqs)


def test_times_are_exact_and_in_utc(store):
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)
    (one,) = store.add(Entity(origin="real", name="x", time=moment))
    assert store.get(one).time == moment
    assert dataclasses.replace(store.get(one), time=None).time is None
    with store.reading() as connection:
        assert connection.execute(sa.select(schema.records.c.time)).scalar() == -1
