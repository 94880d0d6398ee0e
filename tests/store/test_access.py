"""A principal sees and changes what the rules of its role allow, whatever way it takes."""

import dataclasses

import pyarrow as pa
import pytest
import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.access.tokens import create_token, list_tokens, revoke_tokens
from genjax.store.audit.verifying import verify
from genjax.store.bulk import add_table, read_table
from genjax.store.lineage import read_lineage
from genjax.store.maintenance import check, hash_store
from genjax.store.opening import open_store
from genjax.store.records import UNKNOWN, Feedback, Prompt, Response, references
from genjax.store.references import find_edges
from genjax.store.rows import load
from genjax.store.searching import open_search, rebuild, search
from tests.store.access_cases import RULES, SECRET, fill, fill_secrets, find_shown, make_role, see
from tests.store.test_records_contract import make_place, server  # noqa: F401


@pytest.fixture(scope="module")
def drawn(request, tmp_path_factory):
    """A store of records drawn at random, and the records."""
    place = make_place(request.param, request, tmp_path_factory.mktemp("drawn"))
    with open_store(place, create=True, user="ann") as store:
        yield store, fill(store, count=100 if store.is_postgres else 300)


LONG = pytest.mark.long  # PostgreSQL plans each of these statements for some time
QUICK = (RULES[0], RULES[8])
EACH = [("sqlite", rules) for rules in RULES] + [
    pytest.param("postgresql", rules, marks=() if rules in QUICK else LONG) for rules in RULES
]


@pytest.mark.parametrize(("drawn", "rules"), EACH, indirect=["drawn"])
def test_a_role_sees_what_its_rules_say_and_nothing_refers_beyond(drawn, rules):
    store, made = drawn
    few = 2 if store.is_postgres else 20
    seen, expected = see(store, rules), find_shown(made, make_role(rules))
    assert 0 < len(expected) < len(made)
    assert {record.id for record in seen.select(origin="any")} == expected
    assert seen.count(origin="any") == len(expected)
    with seen.reading() as connection:
        for name, table in schema.metadata.tables.items():
            rows = connection.execute(sa.select(table)).mappings().all()
            if name in ("roles", "tokens", "settings"):
                assert not rows
            for row in rows:
                for column, value in row.items():
                    known = isinstance(value, str) and value in made
                    assert not known or value in expected, (name, column)
        for record in load(connection, list(made)):
            assert {one for _, one, _ in references(record)} <= expected
            assert record.generator == made[record.id].generator or record.generator == UNKNOWN
        for up in (True, False):
            assert all({e.child, e.parent} <= expected for e in find_edges(connection, made, up))
    for one in sorted(expected)[:few]:
        for down in (True, False):
            node = read_lineage(seen, one, down)
            left = [node]
            while left:
                at = left.pop()
                assert at.kind == "raw" or at.id in expected
                left += at.next
    hidden = sorted(set(made) - expected)
    for one in hidden[:few]:
        for read in (seen.get, lambda i, o: read_lineage(seen, i)):
            said = []
            for name in (one, "nobody"):
                with pytest.raises(UserError) as error:
                    read(name, "any")
                said.append(str(error.value).replace(name, ""))
            assert said[0] == said[1]
        assert seen.history(one) == []


@pytest.fixture(params=["sqlite", "postgresql"])
def secret(request, tmp_path):
    """A store with shown and hidden records, and the ids of both."""
    place = make_place(request.param, request, tmp_path)
    with open_store(place, create=True, blobs=str(tmp_path / "blobs"), user="ann") as store:
        yield store, *fill_secrets(store)


PART = ("read,export,train tag=public", "judge,tag,add,change,delete,erase tag=public")


def test_a_part_is_a_whole_store(secret):
    store, shown, _ = secret
    seen = see(store, PART)
    assert {r.id for r in seen.select(origin="any")} == set(shown)
    assert {r.id for r in seen.select("not id=x", origin="any", order="-id")} == set(shown)
    one = seen.get("mixed-response", "any")
    assert (one.run, one.generator, one.parents) == (None, UNKNOWN, ("shown-checkpoint",))
    said = seen.get("mixed-prompt", "any")
    assert (said.session, said.parent) == (None, None)
    assert [change.fields for change in seen.history("shown-document")] == [{}, {}]
    assert len(next(iter(read_table(seen, "prompt")))) == 2
    assert not list(find_faults(seen, shown))
    store.delete("shown-entity")
    assert seen.count(kind="entity") == 0 and store.count(kind="entity") == 1


def find_faults(store, ids):
    """References of what is seen to what is not."""
    with store.reading() as connection:
        for record in load(connection, ids):
            yield from (one for _, one, _ in references(record) if one not in ids)


def test_nobody_writes_beyond_what_he_sees(secret):
    store, *_ = secret
    seen = see(store, PART)
    before = hash_store(store)
    public = {"origin": "real", "tags": ("public",)}
    with store.reading() as connection:
        bytes_ = load(connection, ["hidden-prompt"])[0].payload
    refused = [
        ("prompt", lambda: seen.add(Response(prompt="hidden-prompt", **public))),
        ("session", lambda: seen.add(Prompt(session="hidden-session", **public))),
        ("parents", lambda: seen.add(Prompt(parents=("hidden-chunk",), **public))),
        ("target", lambda: seen.add(Feedback(target="hidden-response", user="bob", **public))),
        ("payload.blob", lambda: seen.add(Prompt(payload=bytes_, **public))),
        ("payload.blob", lambda: seen.read_blob(bytes_)),
        ("role", lambda: seen.add(Prompt(origin="real"))),
        ("role", lambda: seen.add(Prompt(origin="real", tags=("private",)))),
        ("role", lambda: seen.update("shown-prompt", tags=("private",))),
        ("role", lambda: seen.tag("shown-prompt", remove=("public",))),
        ("id", lambda: seen.tag("hidden-prompt", add=("public",))),
        ("id", lambda: seen.update("hidden-prompt", tags=("public",))),
        ("id", lambda: seen.delete("hidden-prompt")),
        ("id", lambda: seen.undelete("hidden-prompt")),
        ("id", lambda: seen.erase("hidden-prompt")),
        ("id", lambda: seen.erase("shown-document")),
        ("parent", lambda: seen.update("shown-prompt", parent="hidden-response")),
        ("id", lambda: seen.add(Prompt(id="hidden-prompt", **public))),
        ("prompt", lambda: add_table(seen, "response", pa.table(
            {"origin": ["real"], "prompt": ["hidden-prompt"], "tags": [["public"]]}))),
        ("role", lambda: add_table(seen, "prompt", pa.table({"origin": ["real"]}))),
        ("role", lambda: check(seen)),
        ("role", lambda: hash_store(seen)),
        ("role", lambda: create_token(seen, "bob", "admin")),
        ("role", lambda: list_tokens(seen)),
        ("role", lambda: revoke_tokens(seen, "ann")),
    ]  # fmt: skip
    for number, (field, act) in enumerate(refused):
        with pytest.raises(UserError) as error:
            act()
        assert error.value.field == field, (number, str(error.value))
        said = str(error.value)
        assert SECRET not in said
        assert "hidden-score" not in said and "hidden-relation" not in said
    assert hash_store(store) == before
    own = Feedback(target="shown-response", user="bob", source_id="bob", value=1.0, origin="real")
    _, gone = seen.add(own, Prompt(**public))
    seen.update(gone, metadata={"a": 1})
    seen.tag("mixed-response", add=("more",))  # its row names what is hidden
    seen.delete(gone)
    seen.undelete(gone)
    seen.erase(gone)
    assert not verify(store).flaws  # the audit trail is over whole rows
    assert store.get("mixed-response", "any").run == "hidden-run"
    judge = see(store, ("read tag=public", "judge kind=response tag=public"))
    (said,) = judge.add(own)
    store.tag(said, add=("public",))
    judge.update(said, value=0.25)
    for other in (
        dataclasses.replace(own, user="eve"),
        dataclasses.replace(own, source_kind="CODE"),
        dataclasses.replace(own, target="shown-prompt"),
    ):
        with pytest.raises(UserError) as error:
            judge.add(other)
        assert error.value.field == "role"
    with pytest.raises(UserError):
        judge.update(said, target="mixed-response")


def test_a_statement_that_is_not_known_is_refused(secret):
    store, *_ = secret
    with see(store, PART).reading() as connection:
        for text in ("PRAGMA table_info(records)", "EXPLAIN SELECT * FROM records",
                     "DELETE FROM records", "COPY records TO STDOUT", "RESET ROLE"):  # fmt: skip
            with pytest.raises(UserError) as error:
                connection.exec_driver_sql(text)
            assert error.value.field == "role"


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_a_search_finds_what_it_would_without_the_hidden_records(secret, tmp_path, mode):
    store, shown, hidden = secret
    seen = see(store, PART)
    with open_store(str(tmp_path / "bare.db"), create=True, blobs=str(tmp_path / "b")) as bare:
        fill_secrets(bare)
        bare.erase(*hidden, *(one for one in shown if one.startswith("mixed")))
        alone = [open_search(bare, str(tmp_path / "bare.index")), bare]
        rebuild(bare, alone[0])
        index = open_search(store, str(tmp_path / "some.index"))
        rebuild(store, index)
        shared = {"origin": "any", "mode": mode}
        first, second = (
            search(s, i, "plain said", filter="kind=prompt or kind=chunk", limit=9, **shared)
            for s, i in ((seen, index), (see(bare, PART), alone[0]))
        )
        found = {hit.id for hit in first.hits}
        assert {hit.id for hit in second.hits} <= found <= set(shown)
        for text in (SECRET, f"{SECRET} said", "plain"):
            for filter in (
                "",
                "parents:hidden-chunk",
                "prompt=hidden-prompt",
                "metadata.word:quokka",
                "score.quokka>0",
                "media_type=text/plain",
            ):
                hits = search(seen, index, text, filter=filter, limit=50, **shared).hits
                assert {hit.id for hit in hits} <= set(shown)
                if "hidden" in filter or "quokka" in filter:
                    assert not hits
        store.update("hidden-chunk", tags=("private", "more"))
        assert search(seen, index, "plain", **shared).behind == 0
        store.update("shown-chunk", tags=("public", "private"))
        assert search(seen, index, "plain", **shared).behind == 1
        with pytest.raises(UserError):
            rebuild(seen, index)
        index.close(), alone[0].close()
