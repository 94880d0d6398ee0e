"""Forgetting a person leaves no byte of theirs: rows, history, index, blobs, exports, files."""

import gzip
import json
import lzma
import zlib
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from genjax.__main__ import main
from genjax.errors import UserError
from genjax.store import followers, schema
from genjax.store.audit import forgetting
from genjax.store.audit.forgetting import forget
from genjax.store.audit.retention import Rule, add_rule, list_rules, remove_rule, retain
from genjax.store.audit.verifying import verify
from genjax.store.bulk import add_table
from genjax.store.exporting import export
from genjax.store.formats.writing import Export
from genjax.store.growth.past import open_state
from genjax.store.growth.states import tag_state
from genjax.store.index.opening import open_index
from genjax.store.maintenance import check
from genjax.store.opening import open_store
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
from genjax.store.searching import follow, search
from genjax.store.training.snapshots import read_snapshot, take_snapshot
from tests.store.test_records_contract import (  # noqa: F401  (fixtures)
    make_place,
    server,
    store,
    url,
)
from tests.store.words import Words

PARTS = "alba bora cira dora elba fara gora hira iova jana kora luna mona"
WORDS = [f"zyx{part}quil" for part in PARTS.split(" ")]
BOB = "bobzyxquil"


def text(value, **rest):
    return Payload(text=value, **rest)


def plant(store):  # noqa: F811
    """Records of a user with rare words in every place, and those of another beside them."""
    (a, b, c, d, e, f, g, h, i, j, k, m, n) = WORDS
    real = {"origin": "real"}
    store.add(Run(id="run", **real, name="gpt", path="runs/none"))
    for who, words in (("b", WORDS), ("z", ["word"] * len(WORDS))):
        (a, b, c, d, e, f, g, h, i, j, k, m, n) = words
        user = BOB if who == "b" else "zoe"
        other = "zoe" if who == "b" else BOB
        with open_store_as(store, user) as own:
            own.add(
                Session(id=f"{who}-s", **real, name=f"about {a}", user=user),
                Prompt(id=f"{who}-p", **real, session=f"{who}-s", role="user",
                       payload=text(f"what is {b} of cats?"), tags=(c,), metadata={d: e}),
                Response(id=f"{who}-r", origin="synthetic", generator="run", prompt=f"{who}-p",
                         payload=text(f"it is {f}"), sampler={"stop": g}),
                Document(id=f"{who}-d", **real, name=h, source=f"/tmp/{h}.txt", hash=h,
                         payload=Payload(content=i.encode() * 50, media_type="text/plain")),
                Chunk(id=f"{who}-c", **real, document=f"{who}-d", end=9, payload=text(f"a {j} b")),
                Entity(id=f"{who}-e", **real, name=k, parents=(f"{who}-c",)),
                Feedback(id=f"{who}-f", **real, target=f"{who}-r", user=user, rationale=f"as {m}"),
            )  # fmt: skip
            own.update(f"{who}-p", payload=text(f"changed {n} of cats"))
        with open_store_as(store, other) as own:
            own.tag(f"{who}-d", add=("seen",))
    extra = [
        Prompt(id="b-p2", **real, session="b-s", parent="b-r", payload=text(f"and {WORDS[0]}?")),
        Feedback(id="z-f2", **real, target="b-r", user="zoe", rationale=f"zoe on {WORDS[1]}"),
        Feedback(id="b-f2", **real, target="z-r", user=BOB, label=WORDS[2]),
        Document(id="z-both", **real, payload=text("a digest"), parents=("b-d", "z-d")),
        Relation(id="z-q", **real, subject="z-e", predicate="knows", object="b-e"),
        Relation(id="z-q2", **real, subject="z-e", predicate="knows", object="z-d"),
        DataSet(id="set", **real, name="old set", parents=("b-r", "z-r"),
                manifest={"raters": {f"HUMAN {BOB}": 2, "HUMAN zoe": 1}}),
        Run(id="run2", **real, name="learner", path="runs/learner", parents=("set",)),
        Checkpoint(id="cp2", **real, run="run2", step=5),
    ]  # fmt: skip
    store.add(*extra)
    rows = [f"many cats and word{n}" for n in range(300)]
    add_table(store, "document", pa.table({"origin": ["real"] * 300, "text": rows}))
    store.update("z-q2", metadata={"rater": BOB})
    store.update("z-q2", metadata={"rater": "nobody"})


def open_store_as(store, user):  # noqa: F811
    place = store.url.render_as_string(hide_password=False)
    return open_store(place, user=user)


KEPT = {"run", "z-s", "z-p", "z-r", "z-d", "z-c", "z-e", "z-f", "z-both", "z-q2", "set", "run2",
        "cp2"}  # fmt: skip


def unpack(content):
    """The bytes as they are, and as much as can be decompressed of them."""
    yield content
    for opener in (gzip.decompress, zlib.decompress, lzma.decompress):
        try:
            yield opener(content)
        except (OSError, zlib.error, lzma.LZMAError, EOFError):
            continue
    for name in ("zstd", "lz4", "snappy"):
        try:
            yield pa.CompressedInputStream(pa.BufferReader(content), name).read()
        except (OSError, pa.ArrowException):
            continue
    if content[:4] == b"PAR1":
        yield str(pq.read_table(pa.BufferReader(content)).to_pylist()).encode()
    if content[:6] == b"ARROW1":
        yield str(pa.ipc.open_file(content).read_all().to_pylist()).encode()


def scan(*places):
    """The files below places that hold a rare word or the name, and which."""
    found = []
    for place in places:
        files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
        for path in files:
            try:
                whole = path.read_bytes()
            except FileNotFoundError:  # a server has removed it meanwhile
                continue
            for content in unpack(whole):
                for word in (*WORDS, BOB):
                    for form in (word.encode(), word.encode("utf-16-le"), word[:8].encode()):
                        if form in content:
                            found.append((path.name, word))
    return found


def make_index(kind, store, folder):  # noqa: F811
    if kind == "postgresql":
        return store.url.render_as_string(hide_password=False)
    names = {"lance": "store.index", "milvus": "words.db", "faiss": "faiss.npz"}
    return ("faiss:" if kind == "faiss" else "") + str(folder / names[kind])


@pytest.fixture
def made(request, tmp_path):
    """A store, its folder and the URL of its index."""
    pytest.importorskip("lancedb", reason="the engines are an extra: pip install '.[store]'")
    kind = "postgresql" if request.param == "postgresql" else "sqlite"
    place = make_place(kind, request, tmp_path)
    blobs = str(tmp_path / "store.blobs")
    with open_store(place, create=True, blobs=blobs, user="ann") as store:  # noqa: F811
        plant(store)
        index = make_index(request.param, store, tmp_path)
        searcher = open_index(index, Words())
        follow(store, searcher, index)
        store.tag("z-d", add=("later",))
        store.update("b-d", name=f"{WORDS[4]} again")
        follow(store, searcher, index)
        searcher.close()
        yield store, tmp_path, index


def find_places(store, folder):  # noqa: F811
    """The files of a store: its folder, and those of a server's tables."""
    if not store.is_postgres:
        return [folder]
    with psycopg.connect(store.url.set(drivername="postgresql").render_as_string(False)) as own:
        (data,) = own.execute("SHOW data_directory").fetchone()
        (number,) = own.execute(
            "SELECT oid FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    return [folder, Path(data) / "base" / str(number)]


def each(*kinds):
    return pytest.mark.parametrize("made", kinds, indirect=True)


@each("lance", "milvus", "faiss", "postgresql")
def test_nothing_of_a_forgotten_person_is_left(made, capsys):
    store, folder, index = made  # noqa: F811
    places = find_places(store, folder)
    if store.is_postgres:
        with psycopg.connect(
            store.url.set(drivername="postgresql").render_as_string(False), autocommit=True
        ) as own:
            own.execute("CHECKPOINT")
    assert {word for _, word in scan(*places)} == {*WORDS, BOB}
    assert verify(store).flaws == ()
    forget(store, user=BOB, say=print)
    said = capsys.readouterr().out
    assert scan(*places) == []
    with store.reading() as connection:
        ids = set(connection.execute(sa.select(schema.records.c.id)).scalars())
        kinds = sa.select(schema.records.c.id).where(schema.records.c.text.like("many cats%"))
        assert ids - set(connection.execute(kinds).scalars()) == KEPT
        for table in schema.metadata.sorted_tables:
            rows = str([tuple(row) for row in connection.execute(sa.select(table))])
            assert not [word for word in (*WORDS, BOB) if word in rows], table.name
        words = connection.execute(sa.select(schema.audit).where(schema.audit.c.salt.is_(None)))
        assert len(words.all()) == 3  # that he added, changed and tagged
    found = verify(store)
    assert found.flaws == () and found.records == len(KEPT) + 300
    assert check(store) == []
    assert store.get("z-both").parents == ("z-d",) and store.get("set").parents == ("z-r",)
    assert store.get("set").manifest["raters"] == {"HUMAN erased": 2, "HUMAN zoe": 1}
    for one in ("dataset set", "run run2", "checkpoint cp2"):
        assert f"learned   {one}" in said
    (last,) = [row.details for row in read_trail(store) if row.action == "forgotten"]
    assert any("cp2" in one for one in last["learned"]) and last["records"] == 11
    _check_index(store, index)
    with pytest.raises(UserError) as error:
        forget(store, user=BOB)
    assert error.value.field == "user"


def read_trail(store):  # noqa: F811
    with store.reading() as connection:
        return connection.execute(sa.select(schema.audit).order_by(schema.audit.c.link)).all()


def _check_index(store, index):  # noqa: F811
    searcher = open_index(index, Words())
    mode = "vector" if index.startswith("faiss:") else "keyword"
    query = dict(origin="any", mode=mode, limit=500)
    hits = {hit.id for word in (*WORDS, BOB) for hit in search(store, searcher, word, **query).hits}
    assert not {hit for hit in hits if hit.startswith("b-")} and (mode == "vector" or not hits)
    assert len(search(store, searcher, "cats word", **query).hits) > 300
    follow(store, searcher, index)
    assert len(search(store, searcher, "cats word", **query).hits) > 300
    if index.endswith(".index"):
        _check_lance(index)
    searcher.close()


def _check_lance(index):
    """Old versions hold nothing, and the dictionary of words none that begin alike."""
    import lancedb
    from lancedb.query import MatchQuery

    table = lancedb.connect(index).open_table("entries")
    for version in table.list_versions():
        table.checkout(version["version"])
        rows = str(table.to_arrow().to_pylist())
        assert not [word for word in WORDS if word in rows]
        for word in WORDS:
            fuzzy = MatchQuery(word, "text", fuzziness=2, max_expansions=1000)
            assert table.search(fuzzy, query_type="fts").limit(9).to_arrow().num_rows == 0
    dictionary = [p for p in Path(index).rglob("*") if "_indices" in str(p) and p.is_file()]
    assert dictionary and scan(*dictionary) == []


class Killed(BaseException):
    pass


@each("lance", "postgresql")
def test_an_erasure_that_is_killed_is_finished(made, monkeypatch, capsys):
    """Killed at each step in turn, the next run finishes and says so."""
    store, folder, index = made  # noqa: F811
    (index_, snapshot, vacuum) = "purge_index", "clean_snapshot", "purge_database"
    real = {name: getattr(forgetting, name) for name in (index_, snapshot, vacuum)}
    first = True
    for step in (index_, vacuum):
        for late in (False, True):

            def stop(*words, name=step, late=late, **options):
                if late:
                    real[name](*words, **options)
                raise Killed

            monkeypatch.setattr(forgetting, step, stop)
            with pytest.raises(Killed):
                if first:
                    forget(store, user=BOB)
                else:
                    forget(store)
            first = False
            monkeypatch.undo()
            assert store.count("id>=b- id<b.", origin="any") == 0
            assert verify(store).flaws == ()
    capsys.readouterr()
    main(["store", "forget", store.url.render_as_string(hide_password=False)])
    assert "an erasure was stopped" in capsys.readouterr().out
    assert scan(*find_places(store, folder)) == []
    main(["store", "forget", store.url.render_as_string(hide_password=False)])
    assert capsys.readouterr().out == ""
    _check_index(store, index)


def test_an_index_that_is_away_stops_an_erasure_until_it_is_given_up(store):  # noqa: F811
    plant(store)
    followers.trim(store, "http://127.0.0.1:9", 0)
    followers.trim(store, "moved", 0)
    said = []
    for _ in range(2):
        with pytest.raises(UserError) as error:
            forget(store, user=BOB, say=said.append)
        assert error.value.field == "index" and "maintain --forget http://" in str(error.value)
        assert store.count("id>=b- id<b.", origin="any") == 0
    assert any("index moved is not there" in line for line in said)
    followers.trim(store, "moved", 0, forget=["http://127.0.0.1:9"])
    forget(store, say=said.append)
    assert "is left as it is" in said[-2] and said[-1] == "forgotten 11 records"
    assert verify(store).flaws == ()


def test_a_dry_run_changes_nothing_and_names_what_goes(store, url, capsys):  # noqa: F811
    plant(store)
    before = verify(store)
    main(["store", "forget", url, "--user", BOB, "--dry-run"])
    said = capsys.readouterr().out
    assert verify(store) == before and store.count(origin="any") == 324
    for line in (
        "erase     1 session", "erase     2 prompt", "erase     3 feedback", "erase     1 entity",
        "erase     1 relation", "mend      z-both: parents becomes nothing",
        "mend      set: parents becomes nothing", "learned   checkpoint cp2",
    ):  # fmt: skip
        assert line in said, line


def test_records_are_forgotten_with_what_needs_them(store):  # noqa: F811
    plant(store)
    forget(store, ids=["z-p"], say=lambda line: None)
    with pytest.raises(UserError):
        store.get("z-r", "any")
    assert store.get("z-s").id == "z-s" and store.get("b-f").id == "b-f"
    with pytest.raises(UserError):
        store.get("b-f2")  # on an answer that is gone
    forget(store, ids=["run"], say=lambda line: None)
    assert store.get("b-r", "any").generator == "unknown"
    assert verify(store).flaws == () and check(store) == []
    history = [change.action for change in store.history("b-r")]
    assert history == ["add", "mend"]
    for user, ids in ((None, ["nobody"]), ("", []), ("nobody", [])):
        with pytest.raises(UserError) as error:
            forget(store, user=user, ids=ids)
        assert error.value.field == ("id" if user is None else "user")


def test_a_named_state_lacks_what_was_forgotten(store):  # noqa: F811
    plant(store)
    before = tag_state(store, "before")
    store.tag("z-p", add=("later",))
    forget(store, user=BOB, say=lambda line: None)
    assert verify(store).flaws == ()
    with open_state(store, "before") as opened:
        assert opened.missing == 11 and before.records == 324
        assert opened.store.get("z-both").parents == ("z-d",)
        assert opened.store.get("z-p").tags == ("word",)
        assert opened.store.count("text:zyx", origin="any") == 0
    tag_state(store, "after")
    assert verify(store).flaws == ()


def test_exports_are_written_again_or_removed(store, tmp_path):  # noqa: F811
    plant(store)
    out = {name: tmp_path / name for name in ("named.jsonl", "free.jsonl.gz", "all.jsonl", "rows")}
    asked = Export("sft", "", "any")
    export(store, out["named.jsonl"], asked, name="pairs")
    export(store, out["free.jsonl.gz"], asked)
    export(store, out["all.jsonl"], Export("records", "kind=prompt", "any"))
    export(store, out["rows"], asked, name="table")
    export(store, tmp_path / "texts.jsonl", Export("texts", "text:many", "any"))
    whole = (tmp_path / "texts.jsonl").read_bytes()
    for name, content in (("a.jsonl", b"\xff\n"), ("b.jsonl.gz", b"cut"), ("c.jsonl", b"[1]\n{")):
        export(store, tmp_path / name, Export("records", "kind=session", "any"))
        (tmp_path / name).write_bytes(content)  # by other hands
    plan = forget(store, user=BOB, dry_run=True, say=lambda line: None)
    sure = {Path(copy.path).name: copy.sure for copy in plan.copies}
    assert {name for name, known in sure.items() if known} == {"named.jsonl", "rows"}
    assert sure.keys() == {*out, "texts.jsonl", "a.jsonl", "b.jsonl.gz", "c.jsonl"}
    said = []
    forget(store, user=BOB, exports=True, say=said.append)
    assert scan(out["named.jsonl"], out["free.jsonl.gz"], out["all.jsonl"]) == []
    (left,) = [json.loads(line) for line in out["named.jsonl"].read_text().splitlines()]
    assert left["completion"] == "it is word" or "it is word" in str(left)
    assert not out["rows"].exists() and (tmp_path / "texts.jsonl").read_bytes() == whole
    assert sum("written again" in line for line in said) == 3
    assert sum("look at it" in line for line in said) == 3
    assert verify(store).flaws == ()


def test_the_rows_that_a_run_has_kept_are_cleaned(store, url, tmp_path):  # noqa: F811
    from etils import epath

    plant(store)
    folder = tmp_path / "learner3"
    folder.mkdir()
    snapshot = take_snapshot(url, "sft", "", "any")
    snapshot.write(epath.Path(folder / "snapshot_0.json"))
    damaged = folder / "snapshot_1.json"
    damaged.write_bytes((folder / "snapshot_0.json").read_bytes()[:-9])
    store.add(Run(id="run3", origin="real", path=str(folder)))
    store.add(Run(id="run4", origin="real", path="s3://nowhere/run"))
    assert scan(folder)
    said = []
    forget(store, user=BOB, say=said.append)
    assert scan(folder) == [] and not damaged.exists()
    left = read_snapshot(epath.Path(folder / "snapshot_0.json"))
    assert len(left.rows) == len(snapshot.rows) - 1 and left.fingerprint != snapshot.fingerprint
    assert any("learned   run run3" in line for line in said)


def test_who_erases_may_be_who_is_forgotten(url, store):  # noqa: F811
    with open_store(url, user="eve") as own:
        own.add(Session(id="s", origin="real", user="eve"))
        own.add(Entity(id="e", origin="real", name="x"))
        forget(own, user="eve", say=lambda line: None)
    with store.reading() as connection:
        for table in (schema.audit, schema.history):
            assert "eve" not in str(connection.execute(sa.select(table)).all())
    assert verify(store).flaws == ()


def retain_lines(store, **given):  # noqa: F811
    said = []
    return retain(store, say=said.append, **given), said


def test_rules_erase_what_is_old_and_respect_what_is_needed(store):  # noqa: F811
    plant(store)
    add_rule(store, Rule("prompts", kind="prompt", days=0, filter="text:cats"))
    add_rule(store, Rule("tagged", tag="seen", origin="real", dependants=True))
    add_rule(store, Rule("answers", kind="response", dependants=True))
    add_rule(store, Rule("old", kind="entity", days=30))
    reached, said = retain_lines(store)
    assert [one.rule.name for one in reached] == ["answers", "old", "prompts", "tagged"]
    assert [len(one.closure.ids) for one in reached] == [6, 0, 0, 9]
    assert set(reached[2].held) == {"b-p", "z-p"} and "z-r" in reached[2].held["z-p"]
    assert any("dangling: parents of set" in line for line in said)
    assert store.count(kind="chunk") == 2
    assert verify(store).flaws == ()
    retain_lines(store, do=True)
    assert store.count("tags:seen") == 0 and store.count(kind="chunk") == 0
    assert store.count(kind="prompt") == 3
    assert verify(store).flaws == () and check(store) == []
    remove_rule(store, "tagged")
    assert [rule.name for rule in list_rules(store)] == ["answers", "old", "prompts"]
    with pytest.raises(UserError):
        remove_rule(store, "tagged")


def test_wrong_rules_and_clocks_are_refused(store, monkeypatch, url, capsys):  # noqa: F811
    plant(store)
    for field, given in (
        ("all", {}), ("all", {"filter": "  "}), ("days", {"days": -1.0}), ("kind", {"kind": "cat"}),
        ("filter", {"filter": "a=("}), ("filter", {"filter": "nothing=1"}),
        ("days", {"days": float("nan")}), ("origin", {"origin": "cats"}),
    ):  # fmt: skip
        with pytest.raises(UserError) as error:
            add_rule(store, Rule("r", **given))
        assert error.value.field == field, given
    add_rule(store, Rule("everything", filter="time>1970-01-01"))
    with pytest.raises(UserError) as error:
        retain(store, do=True)
    assert error.value.field == "all" and store.count(origin="any") == 324
    remove_rule(store, "everything")
    add_rule(store, Rule("r", kind="entity", days=1))
    with pytest.raises(UserError) as error:
        add_rule(store, Rule("r", kind="entity", days=1))
    assert error.value.field == "name"
    real = retain.__globals__["now"]
    for jump in (10 * 365 * 86_400_000_000, -86_400_000_000):
        monkeypatch.setitem(retain.__globals__, "now", lambda jump=jump: real() + jump)
        with pytest.raises(UserError) as error:
            retain(store, do=True)
        assert error.value.field == "trust-clock" and store.count(kind="entity") == 2
    monkeypatch.undo()
    main(["store", "retain", "add", url, "all", "--all"])
    main(["store", "retain", "list", url])
    assert "name=all origin=any all=True" in capsys.readouterr().out
    main(["store", "retain", "run", url])
    assert "nothing was erased" in capsys.readouterr().out
    main(["store", "retain", "run", url, "--do"])
    assert store.count(origin="any") == 0 and verify(store).flaws == ()
