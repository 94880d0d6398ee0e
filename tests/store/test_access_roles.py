"""Every role against every action, by every way in; tokens; inputs that ask for too much."""

import contextlib
import dataclasses
import io
import itertools
import json
import re
import shutil
import typing

import psycopg
import pyarrow.parquet as pq
import pytest

from genjax.__main__ import main
from genjax.errors import UserError
from genjax.rag.answers import Asking
from genjax.rag.asking import ask
from genjax.rag.library import open_library
from genjax.rag.retrieval import Retrieval
from genjax.store import schema
from genjax.store.access import tokens as kept_tokens
from genjax.store.access.entering import VARIABLE, open_as
from genjax.store.access.principal import Principal
from genjax.store.access.rates import Rates
from genjax.store.access.role_table import add_role, remove_role
from genjax.store.access.roles import BUILT_IN, parse_rule
from genjax.store.access.tokens import (
    authenticate,
    create_token,
    has_tokens,
    list_tokens,
    open_for,
    revoke_tokens,
)
from genjax.store.access.walls import secure
from genjax.store.audit.verifying import verify
from genjax.store.exporting import export
from genjax.store.formats.writing import As, Export
from genjax.store.lineage import read_lineage
from genjax.store.maintenance import check
from genjax.store.opening import open_store
from genjax.store.records import Feedback, Payload, Prompt, Response
from genjax.store.searching import open_search, rebuild, search
from genjax.store.training.datasets import write_dataset
from genjax.store.training.snapshots import take_snapshot
from tests.store.access_cases import SECRET, fill_secrets, make_injections
from tests.store.test_records_contract import make_place, server  # noqa: F401

OWN = ("read,export tag=public", "judge,tag,add tag=public")
ROLES = {  # of each role the actions that it may do
    "reader": {"read"},
    "annotator": {"read", "judge", "tag"},
    "trainer": {"read", "export", "train", "add", "generate"},
    "admin": {"read", "export", "train", "judge", "tag", "add", "change", "delete", "erase",
              "generate", "manage"},
    "own": {"read", "export", "judge", "tag", "add"},
    "admin:read": {"read", "export", "train"},
    "admin:write": {"read", "judge", "tag", "add", "change", "delete", "erase"},
    "trainer:generate": {"generate"},
}  # fmt: skip
FRESH = itertools.count()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request, tmp_path_factory):
    """A store with secrets, its index, and a file with a token of each role."""
    folder = tmp_path_factory.mktemp("roles")
    place = make_place(request.param, request, folder)
    with open_store(place, create=True, blobs=str(folder / "blobs"), user="ann") as store:
        shown, hidden = fill_secrets(store)
        index = open_search(store, str(folder / "index"))
        rebuild(store, index)
        with store.writing() as connection:
            add_role(connection, "own", [parse_rule(rule) for rule in OWN])
        files = {}
        for name in ROLES:
            role, _, scope = name.partition(":")
            user = name.replace(":", "-")
            token, _ = create_token(store, user, role, scopes=[scope] if scope else None)
            files[name] = folder / f"token-{user}"
            files[name].write_text(token)
        yield store, place, index, files, shown, hidden
        index.close()


def by_python(place, token, action, one, folder):
    """Do an action on a record through the library."""
    with open_as(place, token=token) as store:
        match action:
            case "read":
                assert store.get(one, "any") and list(store.select(origin="any"))
                assert store.count(origin="any") and read_lineage(store, one)
            case "judge":
                who = store.user
                store.add(Feedback(origin="real", target=one, user=who, source_id=who, value=1.0))
            case "tag":
                store.tag(one, add=("seen",))
            case "add":
                store.add(Prompt(origin="real", payload=Payload(text="new"), tags=("public",)))
            case "change":
                store.update(one, metadata={"a": 1})
            case "delete":
                store.delete(one)
            case "erase":
                store.erase(one)
            case "export":
                export(store, folder / f"{next(FRESH)}.jsonl", Export("records", "", "any"))
            case "train":
                store.read_for("train")
            case "generate":
                store.access.require("generate")
            case "manage":
                check(store)
                assert list_tokens(store)


def by_command(place, token, action, one, folder):
    """Do an action on a record by the command line."""
    out = folder / f"{next(FRESH)}.jsonl"
    judged = {"kind": "feedback", "origin": "real", "target": one, "value": 1.0,
              "user": token.name.removeprefix("token-")}  # fmt: skip
    new = {"kind": "prompt", "origin": "real", "tags": ["public"], "payload": {"text": "new"}}
    words = {
        "read": [["show", place, one, "--origin", "any"], ["lineage", place, one], ["show", place]],
        "judge": [["add", place, json.dumps(judged)]],
        "tag": [["tag", place, one, "--add", "seen"]],
        "add": [["add", place, json.dumps(new)]],
        "delete": [["delete", place, one]],
        "erase": [["delete", place, one, "--erase"]],
        "export": [["export", place, str(out), "--origin", "any"]],
        "manage": [["check", place], ["token", "list", place], ["role", "list", place]],
    }[action]
    for some in words:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            ended = main(["store", *some, "--token", str(token)])
        if ended:
            assert ended == 2 and said.getvalue().count("\n") == 1
            raise UserError(said.getvalue(), "role")


WAYS = {
    by_python: ("read", "judge", "tag", "add", "change", "delete", "erase", "export", "train",
                "generate", "manage"),
    by_command: ("read", "judge", "tag", "add", "delete", "erase", "export", "manage"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_do_what_the_table_says(shared, tmp_path, capsys, role, way):
    store, place, _, files, *_ = shared
    allowed = ROLES[role] | ({"judge"} if "add" in ROLES[role] else set())  # it is adding feedback
    for action in WAYS[way]:
        one = f"fresh-{next(FRESH)}"
        store.add(Prompt(id=one, origin="real", payload=Payload(text="x"), tags=("public",)))
        before = store.count(origin="any"), store.history(one)
        if action in allowed:
            way(place, files[role], action, one, tmp_path)
        else:
            with pytest.raises(UserError) as error:
                way(place, files[role], action, one, tmp_path)
            assert error.value.field == "role" and "may not" in str(error.value), action
            assert (store.count(origin="any"), store.history(one)) == before
    said = capsys.readouterr().out
    assert files[role].read_text() not in said
    for file in tmp_path.glob("*.jsonl"):
        said += file.read_text()
    if role == "own":
        assert SECRET not in said and "hidden-" not in said


@pytest.mark.long
def test_asking_for_more_brings_nothing_more(shared):
    store, _, index, _, _, hidden = shared
    with store.reading() as connection:
        role = kept_tokens.list_roles(connection)["own"]
    seen = open_for(store, Principal("eve", role))
    every = make_injections()
    ways = {
        "get": lambda text: seen.get(text, "any"),
        "filter": lambda text: list(seen.select(text, origin="any", limit=5)),
        "count": lambda text: seen.count(text, origin="any") <= seen.count(origin="any"),
        "order": lambda text: list(seen.select(order=text, origin="any", limit=5)),
        "after": lambda text: list(seen.select(after=text, origin="any", limit=5)),
        "kind": lambda text: list(seen.select(kind=text, limit=5)),
        "lineage": lambda text: read_lineage(seen, text),
        "history": seen.history,
        "found": lambda text: search(seen, index, text, origin="any").hits,
        "narrowed": lambda text: search(seen, index, "said", filter=text, origin="any").hits,
        "reference": lambda text: seen.add(
            Response(origin="real", prompt=text, tags=("public",))
        ),
    }  # fmt: skip
    tried = 0
    for number, text in enumerate(every[:: 20 if store.is_postgres else 1]):
        for way in (*list(ways)[:7], list(ways)[7 + number % 4]):
            tried += 1
            said = [answer(ways[way], text, one) for one in ("hidden-prompt", "nobodys-prompt")]
            same = len({re.sub("hidden-prompt|nobodys-prompt", "", one) for one in said}) == 1
            assert same or way in ("order", "kind", "found"), (way, text)  # other words are typed
            assert SECRET not in said[0].replace(text, ""), (way, text)
            assert not [one for one in hidden if one in said[1].replace(text, "")], (way, text)
    assert tried >= (100 if store.is_postgres else 2_400)


def test_answers_exports_and_training_rows_come_from_what_a_role_sees(shared, tmp_path):
    store, place, _, files, *_ = shared
    with open_as(place, token=files["own"]) as seen:
        library = open_library(seen, str(files["own"].parent / "index"))
        for question in (f"What did {SECRET} say?", "What is plain?"):
            asking = Asking(Retrieval(origin="any", threshold=0.0, k=20), keep=False)
            found = ask(library, question, None, asking)
            said = f"{found.text} {found.passages}"
            assert SECRET not in said and "hidden-" not in said
        library.close()
        for form in typing.get_args(As):
            out = tmp_path / f"{form}.jsonl"
            export(seen, out, Export(form, "", "any"))
            assert SECRET not in out.read_text() and "hidden-" not in out.read_text(), form
        export(seen, tmp_path / "rows", Export("records", "", "any"))
        for file in (tmp_path / "rows").glob("*.parquet"):
            assert SECRET not in str(pq.read_table(file).to_pylist())
        with pytest.raises(UserError) as error:
            write_dataset(seen, "mine", "tags:public", tmp_path / "mine")
        assert error.value.field in ("role", "filter")
    role = dataclasses.replace(BUILT_IN["trainer"], rules=(parse_rule("read,train tag=public"),))
    rows = list(Export("sft", "", "any").rows(open_for(store, Principal("tom", role))))
    assert {row.used[-1].id for row in rows} >= {"shown-response", "mixed-response"}
    assert SECRET not in str(rows)


def answer(way, text, one):
    """All that a way says of a text in which an id stands."""
    try:
        said = str(way(text.replace("{id}", one)))
    except UserError as error:
        said = f"{error.field}: {error}"
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", said)


@pytest.fixture(params=["sqlite", "postgresql"])
def plain(request, tmp_path):
    place = make_place(request.param, request, tmp_path)
    with open_store(place, create=True, user="ann") as store:
        yield store, place


def refuse_token(store, token):
    with pytest.raises(UserError) as error:
        authenticate(store, token)
    assert error.value.field == "token" and str(error.value) == kept_tokens.UNKNOWN_TOKEN


def test_a_token_lets_in_until_it_ends(plain, monkeypatch):
    store, _ = plain
    assert not has_tokens(store)
    token, made = create_token(store, "bob", "annotator", days=1, rate=7)
    assert len(token) == 43 and has_tokens(store)
    who = authenticate(store, token)
    assert (who.name, who.role, who.token, who.rate) == ("bob", BUILT_IN["annotator"], made.id, 7)
    with store.reading() as connection:
        (row,) = connection.execute(schema.tokens.select()).mappings()
    assert token not in str(dict(row)) and row["digest"] == kept_tokens.hash_token(token)
    assert row["used"] is not None
    other, _ = create_token(store, "eve", "admin")
    for wrong in (token[:-1], token + "a", token.lower(), "", "x", f" {token}", token * 100,
                  row["digest"], made.id, "\0" * 43, "é" * 43, "\ud800" * 43):  # fmt: skip
        refuse_token(store, wrong)
    clock = [kept_tokens.now()]
    monkeypatch.setattr(kept_tokens, "now", lambda: clock[0])
    day = 86_400_000_000
    clock[0] += day - 10_000_000
    authenticate(store, token)
    clock[0] += 20_000_000
    authenticate(store, other)  # another one notes the time
    clock[0] -= 2 * day  # the clock jumps back
    refuse_token(store, token)
    assert authenticate(store, other).name == "eve"
    late, _ = create_token(store, "late", "reader", days=1)
    assert authenticate(store, late).name == "late"
    assert revoke_tokens(store, "eve") == 1
    assert verify(store).links == 4 and not verify(store).flaws
    refuse_token(store, other)
    with pytest.raises(UserError) as error:
        revoke_tokens(store, "eve")
    assert error.value.field == "token"
    for field, options in (
        ("user", {"user": "two words"}), ("role", {"role": "owner"}), ("days", {"days": 0}),
        ("days", {"days": float("nan")}), ("rate", {"rate": 0}), ("scopes", {"scopes": []}),
        ("scope", {"scopes": ["all"]}),
    ):  # fmt: skip
        with pytest.raises(UserError) as error:
            create_token(store, **({"user": "bob", "role": "reader"} | options))
        assert field in str(error.value)


def test_a_token_belongs_to_its_store_and_its_role(plain, tmp_path, monkeypatch):
    store, place = plain
    with store.writing() as connection:
        add_role(connection, "own", [parse_rule("read tag=public")])
    token, _ = create_token(store, "bob", "own")
    with open_store(str(tmp_path / "other.db"), create=True) as other:
        create_token(other, "bob", "reader")
        refuse_token(other, token)
    with pytest.raises(UserError) as error, store.writing() as connection:
        remove_role(connection, "own")
    assert error.value.field == "role" and "bob" in str(error.value)
    (tmp_path / "token").write_text(token + "\n")
    store.add(Prompt(origin="real"), Prompt(origin="real", tags=("public",)))
    with open_as(place, token=str(tmp_path / "token")) as seen:
        assert seen.count() == 1 and seen.user == "bob"
    monkeypatch.setenv(VARIABLE, token)
    with open_as(place, read_only=True) as seen:
        assert seen.count() == 1
    with pytest.raises(UserError) as error:
        take_snapshot(place, "sft", "", "any")
    assert error.value.field == "role"
    monkeypatch.setenv(VARIABLE, token[:-1])
    with pytest.raises(UserError) as error:
        open_as(place)
    assert error.value.field == "token" and token[:-1] not in str(error.value)
    for path in ("missing", str(tmp_path)):
        with pytest.raises(UserError) as error:
            open_as(place, token=path)
        assert error.value.field == "token"


@pytest.mark.parametrize("text", [
    "", "read,", "fly", "read kind=cat", "read origin=fake", "read tag=", "read tags=x", "read =x",
    "read kind", "read tag=!", "read tag=!*", "{", "{}", '{"actions": "read"}', "[1]",
    '{"actions": ["read"], "tag": ["x"]}', '{"actions": [1]}', "read tag='x",
])  # fmt: skip
def test_rules_that_are_none_are_refused(text):
    if text == "read,":
        assert parse_rule(text).actions == ("read",)
        return
    with pytest.raises(UserError):
        parse_rule(text)


def test_a_rule_reads_as_it_is_written():
    for text in ("read", "read,judge kind=prompt,response tag=!private", "* dataset=first"):
        rule = parse_rule(text)
        assert str(rule) == text and parse_rule(json.dumps(rule.to_json())) == rule
    assert parse_rule('read "tag=two words,!x"').tags == ("two words", "!x")


def test_a_token_makes_so_many_requests_a_minute():
    clock = [100.0]
    rates = Rates(60, lambda: clock[0])
    assert [rates.take("a") for _ in range(61)] == [None] * 60 + [1]
    assert rates.take("b") is None and rates.take("c", 1) is None and rates.take("c", 1) == 60
    clock[0] += 2.5
    assert [rates.take("a") for _ in range(3)] == [None, None, 1]
    assert all(Rates(0).take("a") is None for _ in range(1000))


def test_postgresql_itself_shows_a_role_its_rows(request, tmp_path):
    place = make_place("postgresql", request, tmp_path)
    with open_store(place, create=True, blobs=str(tmp_path / "blobs")) as store:
        shown, hidden = fill_secrets(store)
        with store.writing() as connection:
            add_role(connection, "own", [parse_rule(rule) for rule in OWN])
            add_role(connection, "odd", [parse_rule("read kind=prompt tag=!private")])
        create_token(store, "bob", "own")
        walls = secure(store)
        assert set(walls) == {"own", "odd"} and secure(store) == walls
        with store.reading() as connection:
            role = kept_tokens.list_roles(connection)["own"]
        seen = open_for(store, Principal("bob", role))
        assert {r.id for r in seen.select(origin="any")} == set(shown)
        with seen.reading() as connection:  # past the views
            rows = connection.exec_driver_sql("SELECT * FROM public.records").mappings()
            assert {row["id"] for row in rows} == set(shown)
            for table in schema.KINDS.values():
                names = connection.exec_driver_sql(f"SELECT id FROM public.{table.name}").scalars()
                assert set(names) <= set(shown)
            found = connection.exec_driver_sql("SELECT parent FROM public.links").scalars()
            assert set(found) <= set(shown)
            changed = connection.exec_driver_sql("SELECT record FROM public.history").scalars()
            assert set(changed) == set(shown)
        for text in ("SELECT changes FROM public.history", "SELECT * FROM public.tokens",
                     "SELECT * FROM public.settings", "SELECT * FROM public.roles"):  # fmt: skip
            with pytest.raises(UserError) as error, seen.reading() as connection:
                connection.exec_driver_sql(text)
            assert "permission denied" in str(error.value)
        with psycopg.connect(place) as raw, raw.transaction():
            raw.execute(f"SET LOCAL ROLE {walls['odd']}")
            assert {row[0] for row in raw.execute("SELECT id FROM records")} == {
                "shown-prompt", "mixed-prompt",
            }  # fmt: skip
        assert store.count(origin="any") == len(shown) + len(hidden)
        other = dataclasses.replace(role, rules=(parse_rule("read tag=private"),))
        with pytest.raises(UserError) as error:
            open_for(store, Principal("bob", other))
        assert error.value.field == "role" and "store secure" in str(error.value)
    shutil.rmtree(tmp_path / "blobs", ignore_errors=True)
