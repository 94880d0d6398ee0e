"""Named states: what a tag keeps, what differs, and reading the past, over both databases."""

import json
import random
import re
from datetime import UTC, datetime

import pytest

from genjax.__main__ import main
from genjax.cli.store.command import store_command
from genjax.errors import UserError
from genjax.store import followers, schema
from genjax.store.growth import states
from genjax.store.growth.differences import diff_states
from genjax.store.growth.past import open_state
from genjax.store.growth.states import find_state, list_states, tag_state
from genjax.store.index.opening import open_index
from genjax.store.lineage import read_lineage, show_lineage
from genjax.store.maintenance import backup, check, copy_store, restore
from genjax.store.opening import open_store
from genjax.store.records import Entity, Feedback, Payload, Prompt, Response
from genjax.store.searching import follow
from tests.store.test_records_contract import (  # noqa: F401  (fixtures)
    fill,
    make_place,
    server,
    store,
    url,
)
from tests.store.words import Words

T = datetime(2026, 11, 29, 12, tzinfo=UTC)
NUMBERS = {"whole": 1.0, "large": 1e22, "zero": -0.0, "small": 1e-7, "deep": [2.0, {"x": 3.5}]}


def everything(store):  # noqa: F811
    return {record.id: record for record in store.select(origin="any")}


def add(store, *names):  # noqa: F811
    return store.add(*(Entity(id=name, origin="real", name=name) for name in names))


def test_a_state_is_read_as_it_was(store):  # noqa: F811
    made = fill(store)
    store.add(Prompt(id="deleted", origin="real", payload=Payload(text="hidden")))
    store.delete("deleted")
    before, tree = everything(store), show_lineage(read_lineage(store, "a"))
    tag_state(store, "v1")
    store.update("a", payload=Payload(text="changed"), tags=("new",), parents=("s",), seed=None)
    store.update("c", payload=Payload(content=b"other bytes", media_type="image/png"))
    store.delete("b")
    store.undelete("deleted")
    add(store, "later")
    after = everything(store)
    tag_state(store, "v2")
    assert "later" in after and "b" not in after and made
    with open_state(store, "v1") as past:
        assert past.missing == 0
        assert everything(past.store) == before
        assert show_lineage(read_lineage(past.store, "a")) == tree
        assert past.store.read_blob(past.store.get("c", "any").payload) == b"\0png"
        with pytest.raises(UserError, match="was deleted"):
            past.store.get("deleted")
        assert [change.action for change in past.store.history("deleted")] == ["add", "delete"]
        assert [fault for fault in check(past.store) if not fault.stray] == []
    assert not past.path.exists()
    with open_state(store, "v2") as past:
        assert everything(past.store) == after
    assert check(store) == []  # the bytes that only the past has are not stray


@pytest.mark.parametrize("seed", range(2))
def test_states_agree_with_what_was_seen_at_random_moments(store, seed):  # noqa: F811
    rng = random.Random(seed)
    seen = {}
    ids = list(add(store, *(f"e{i}" for i in range(20))))
    hidden: set[str] = set()
    for moment in range(4):
        for _ in range(10):
            one = rng.choice(ids)
            act = rng.choice(["update", "tag", "delete", "undelete", "add"])
            if act == "add":
                ids += add(store, f"n{len(ids)}")
            elif act == "undelete" and one in hidden:
                store.undelete(one)
                hidden.remove(one)
            elif one not in hidden and act == "delete":
                store.delete(one)
                hidden.add(one)
            elif one not in hidden and act in ("update", "tag"):
                store.update(one, metadata={"n": rng.random()}, tags=(f"t{rng.randrange(3)}",))
        seen[f"m{moment}"] = everything(store)
        tag_state(store, f"m{moment}")
    for name, records in seen.items():
        with open_state(store, name) as past:
            assert everything(past.store) == records
    for first in seen:
        for second in seen:
            found = diff_states(store, first, second)
            one, two = seen[first], seen[second]
            assert found.added.keys() == two.keys() - one.keys()
            assert found.removed.keys() == one.keys() - two.keys()
            assert found.changed.keys() == {k for k in one.keys() & two.keys() if one[k] != two[k]}


def test_a_fingerprint_is_that_of_the_content_in_any_database_and_order(tmp_path, request):
    prints = []
    for number, kind in enumerate(["sqlite", "postgresql", "sqlite"]):
        (tmp_path / str(number)).mkdir()
        place = make_place(kind, request, tmp_path / str(number))
        with open_store(place, create=True, blobs=str(tmp_path / "blobs")) as made:
            records = [
                Prompt(
                    id="p", origin="real", time=T, metadata=NUMBERS, payload=Payload(text="é\n")
                ),
                Response(id="r", origin="synthetic", generator="unknown", prompt="p", time=T),
                Feedback(id="f", origin="real", target="r", name="n", value=1e22, time=T),
            ]
            made.add(*records) if number else [made.add(record) for record in records]
            prints.append(tag_state(made, "v1").fingerprint)
            made.update("f", value=2.0)
            prints.append(tag_state(made, "v2").fingerprint)
            made.update("f", value=1e22)
            prints.append(tag_state(made, "v3").fingerprint)
    assert prints[0:3] == prints[3:6] == prints[6:9]
    assert prints[0] == prints[2] != prints[1]


def test_what_was_erased_is_said_to_be_missing(store, capsys):  # noqa: F811
    add(store, "a", "b", "c")
    tag_state(store, "v1")
    store.update("a", name="x")
    tag_state(store, "v2")
    store.erase("c")
    add(store, "c")  # another record of the same name
    with open_state(store, "v1") as past:
        assert past.missing == 1 and set(everything(past.store)) == {"a", "b"}
        assert past.store.get("a").name == "a"
    found = diff_states(store, "v1", "v2")
    assert found.erased == (1, 1) and dict(found.changed) == {"a": ("name",)} and not found.added
    assert find_state(store, "v1").records == 3


def test_a_history_that_was_changed_is_refused(store):  # noqa: F811
    add(store, "a")
    store.update("a", name="b")
    tag_state(store, "v1")
    store.update("a", name="c")
    past = schema.history
    with store.writing() as connection:
        newest = past.c.changes.is_not(None) & (past.c.record == "a")
        connection.execute(past.update().where(newest).values(changes={"name": ["forged", "c"]}))
    with pytest.raises(UserError, match="history was changed") as error, open_state(store, "v1"):
        pass
    assert error.value.field == "state"


@pytest.mark.parametrize("name", ["", " x", "-x", "a\0b", "n" * 5000, "x\ny "])
def test_bad_names_of_states_are_refused(store, name):  # noqa: F811
    with pytest.raises(UserError) as error:
        tag_state(store, name)
    assert error.value.field == "state" and list_states(store) == []


def test_states_have_names_of_their_own(store):  # noqa: F811
    with pytest.raises(UserError, match="tag") as error:
        find_state(store, "v1")
    assert error.value.field == "state"
    add(store, "v1", "state")
    one = tag_state(store, "v1")
    with pytest.raises(UserError, match="already") as error:
        tag_state(store, "v1")
    assert error.value.field == "state" and list_states(store) == [one]
    with pytest.raises(UserError, match="did you mean 'v1'"):
        find_state(store, "v2")
    store.erase("v1")
    assert list_states(store) == [one] and store.history("v1") == []


def test_an_empty_store_has_states_too(store):  # noqa: F811
    tag_state(store, "nothing")
    add(store, "a")
    tag_state(store, "a")
    with open_state(store, "nothing") as past:
        assert everything(past.store) == {}
    assert dict(diff_states(store, "a", "nothing").removed) == {"a": "entity"}


@pytest.mark.parametrize("trimmed", [False, True])
def test_what_changes_while_a_state_is_hashed_is_in_it(store, tmp_path, monkeypatch, trimmed):  # noqa: F811
    pytest.importorskip("faiss", reason="the engines are an extra: pip install '.[store]'")
    add(store, "a", "b", "c", "d")
    visible = states.read_visible

    def slow(connection):  # another process writes before this one has its turn
        yield from list(visible(connection))
        with open_store(place(store), user="eve") as other:
            other.update("a", name="changed")
            other.delete("b")
            other.erase("c")
            add(other, "e")
            if trimmed:  # changes are removed from the outbox
                follow(other, open_index(f"faiss:{tmp_path / 'index'}", Words()), "index")
                assert followers.read_removed(other) > 0

    monkeypatch.setattr(states, "read_visible", slow)
    found = tag_state(store, "v1")
    monkeypatch.undo()
    assert found.fingerprint == states.combine(
        {one: states.hash_content(record) for one, record in everything(store).items()}
    )
    assert found.records == 3


def place(store):  # noqa: F811
    return store.url.render_as_string(hide_password=False)


def test_states_come_along_in_copies_and_backups(store, tmp_path):  # noqa: F811
    fill(store)
    tag_state(store, "v1")
    store.update("a", payload=Payload(text="changed"))
    with open_store(str(tmp_path / "copy.db"), create=True, blobs=str(tmp_path / "b")) as copy:
        copy_store(store, copy)
        check_past(store, copy)
    backup(store, tmp_path / "backup")
    with open_store(str(tmp_path / "back.db"), create=True) as back:
        restore(tmp_path / "backup", back)
        check_past(store, back)


def check_past(store, copy):  # noqa: F811
    (one,), (other,) = list_states(store), list_states(copy)
    assert (other.name, other.time, other.fingerprint) == (one.name, one.time, one.fingerprint)
    with open_state(store, "v1") as past, open_state(copy, "v1") as copied:
        assert everything(past.store) == everything(copied.store)


def test_the_command_line_tags_lists_compares_and_reads(url, tmp_path, capsys):  # noqa: F811
    def run(*words):
        main(["store", *words])
        return capsys.readouterr()

    with open_store(url, create=True, blobs=str(tmp_path / "blobs")) as made:
        fill(made)
    out = tmp_path / "then.jsonl"
    run("export", url, str(out), "--origin", "any")
    tagged = run("tag", url, "--state", "v1").out
    with open_store(url) as made:
        made.update("a", payload=Payload(text="changed"))
        made.delete("b")
        add(made, "later")
    run("tag", url, "--state", "v2")
    listed = run("states", url).out.splitlines()
    assert [line.split()[0] for line in listed] == ["v1", "v2"]
    assert re.search("print +([0-9a-f]{64})", tagged)[1] in listed[0]
    said = run("diff", url, "v1", "v2").out
    for line in ("added     1", "removed   1", "changed   1", "+ later  entity", "- b  response"):
        assert line in said.splitlines()
    assert "~ a  text" in said
    assert "and 1 more" in run("diff", url, "v1", "v2", "--limit", "2").out
    run("at", url, "v1", "export", str(tmp_path / "now.jsonl"), "--origin", "any")
    assert sorted(out.read_text().splitlines()) == sorted(
        (tmp_path / "now.jsonl").read_text().splitlines()
    )
    assert json.loads(run("at", url, "v1", "show", "a", "--origin", "any").out)["payload"] == {
        "text": "fine"
    }
    with open_store(url) as made:
        made.erase("later")
    assert "1 of the" in run("at", url, "v2", "show").err


@pytest.mark.parametrize(
    "words, field",
    [
        (["at", "STORE", "v3", "show"], "state"),
        (["at", "STORE", "v1", "delete", "a"], "at"),
        (["at", "STORE", "v1"], "at"),
        (["at", "STORE", "v1", "export", "x.jsonl", "--name", "n"], "name"),
        (["at", "STORE", "v1", "export", "x.jsonl", "--name=n"], "name"),
        (["tag", "STORE"], "tag"),
        (["tag", "STORE", "a", "--state", "v2"], "tag"),
        (["tag", "STORE", "--state", "v2", "--add", "x"], "state"),
        (["tag", "STORE", "--state", "v1"], "state"),
        (["diff", "STORE", "v1", "v9"], "state"),
        (["shard", "STORE", "postgresql://h/d"], "store"),
        (["reshard", "STORE", "postgresql://h/d"], "store"),
        (["shard", "STORE", "sqlite:///x"], "server"),
        (["shard", "STORE", "postgresql://h/d", "postgresql://h:5432/d"], "server"),
    ],
)
def test_wrong_words_change_nothing(words, field, tmp_path):
    path = tmp_path / "store.db"
    with open_store(str(path), create=True) as made:
        add(made, "a")
        tag_state(made, "v1")
    before = path.read_bytes()
    with pytest.raises(UserError) as error:
        store_command(words[0], [str(path) if w == "STORE" else w for w in words[1:]])
    assert error.value.field == field and path.read_bytes() == before
