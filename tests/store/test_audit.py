"""The audit trail: sound stores hold, and every change by other hands is found."""

import itertools
import json
import random

import pytest
import sqlalchemy as sa

from genjax.__main__ import main
from genjax.errors import UserError
from genjax.store import rows, schema
from genjax.store.audit import chain
from genjax.store.audit.anchors import anchor, check_anchors, compare_anchors
from genjax.store.audit.chain import note
from genjax.store.audit.forgetting import forget
from genjax.store.audit.forms import hash_item
from genjax.store.audit.verifying import compare, verify
from genjax.store.exporting import export
from genjax.store.formats.writing import Export
from genjax.store.importing import import_file
from genjax.store.judging import categorise
from genjax.store.maintenance import backup, copy_store, restore
from genjax.store.opening import open_store
from genjax.store.records import Entity, Feedback, Payload, Prompt, Response, Session
from tests.store.test_records_contract import (  # noqa: F401  (fixtures)
    fill,
    make_place,
    server,
    store,
    url,
)

TAMPERINGS = 200
HISTORIES = 20


def live(store, rng, steps=25):  # noqa: F811
    """Do things at random, as users do."""
    ids = [f"s{rng.random()}"]
    store.add(Session(id=ids[0], origin="real", user="bob"))
    prompts = []
    for _ in range(steps):
        act = rng.randrange(9)
        there = [one.id for one in store.select(kind="entity", origin="any", limit=50)]
        one = rng.choice(there) if there else None
        if act == 0 or not prompts:
            prompts.append(f"p{rng.random()}")
            numbers = {"n": rng.choice([1, 2.0, 1e18, 0.1, -0.0, 1234567890123456789])}
            said = Payload(text="ä \x7f words", data={"a": [None, True, numbers]})
            store.add(
                Prompt(id=prompts[-1], origin="real", session=ids[0], payload=said),
                Response(origin="real", prompt=prompts[-1], seed=3, milliseconds=0.25),
            )
        elif act == 1:
            made = (Entity(origin="real", name=f"e{n}", tags=("a",)) for n in range(3))
            store.add(*made)
        elif act == 2 and one:
            store.tag(one, add=(f"t{rng.randrange(5)}",))
        elif act == 3 and one:
            store.update(one, name="other", parents=tuple(prompts[:2]), metadata={"x": 3e17})
        elif act == 4 and one:
            store.delete(one)
        elif act == 5:
            hidden = store.reading()
            with hidden as connection:
                query = sa.select(schema.records.c.id).where(schema.records.c.deleted.is_not(None))
                gone = connection.execute(query.limit(1)).scalars().all()
            store.undelete(*gone)
        elif act == 6 and one:
            store.erase(one)
        elif act == 7:
            categorise(store, {f"c{rng.randrange(3)}": "role!=x"}, kind="prompt")
        else:
            with store.writing() as connection:
                note(connection, "grant role", "ann", {"to": "bob", "role": "admin"}, token="t1")


def test_sound_stores_are_never_accused(store, monkeypatch):  # noqa: F811
    for seed in range(HISTORIES if not store.is_postgres else 4):
        rng = random.Random(seed)
        if seed % 4 == 1:  # a clock that jumps
            drift = rng.randrange(-(10**13), 10**13)
            real = rows.now
            monkeypatch.setattr(chain, "now", lambda drift=drift, real=real: real() + drift)
        live(store, rng, 12)
        monkeypatch.undo()
        found = verify(store)
        assert found.flaws == (), (seed, found.flaws)
        assert found.records == store.count(origin="any") + _count_hidden(store)


def _count_hidden(store):  # noqa: F811
    with store.reading() as connection:
        query = sa.select(sa.func.count()).where(schema.records.c.deleted.is_not(None))
        return connection.execute(query).scalar_one()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lived(request, tmp_path_factory):
    """A store with a history, and an anchor of its last but one link."""
    folder = tmp_path_factory.mktemp("lived")
    place = make_place(request.param, request, folder)
    with open_store(place, create=True, blobs=str(folder / "blobs"), user="ann") as store:  # noqa: F811
        fill(store)
        for seed in range(3):
            live(store, random.Random(seed), 9)
        store.delete("e")
        forget(store, ids=["s"], say=lambda line: None)
        live(store, random.Random(9), 9)
        anchor(store, folder / "anchors.jsonl")
        with store.writing() as connection:
            note(connection, "export", "ann", {"out": "x"})
        anchor(store, folder / "anchors.jsonl")
        yield store, folder / "anchors.jsonl"


class Tampering:
    """Changes that somebody who may write the database makes."""

    def __init__(self, connection, rng):
        self.connection, self.rng = connection, rng
        self.last = chain.read_head(connection).link

    def pick(self, table, *terms):
        keys = list(table.primary_key.columns)
        found = self.connection.execute(sa.select(*keys).where(*terms).order_by(*keys)).all()
        row = self.rng.choice(found)
        return sa.and_(*(key == value for key, value in zip(keys, row, strict=True)))

    def run(self, statement):
        assert self.connection.execute(statement).rowcount

    def change_link(self):
        column = self.rng.choice(
            ["time", "behind", "action", "count", "items", "content", "previous", "hash", "user"]
        )
        table = schema.audit
        number = isinstance(table.c[column].type, sa.BigInteger)
        wrong = table.c[column] + 1 if number else self.rng.choice(["0" * 64, "mallory"])
        self.run(
            table.update()
            .where(self.pick(table, table.c.salt.is_not(None)))
            .values({column: wrong})
        )

    def change_details(self):
        table = schema.audit
        known = self.pick(table, table.c.details.is_not(None))
        self.run(table.update().where(known).values(details={"role": "reader"}))

    def blank_words(self):
        table = schema.audit
        known = self.pick(table, table.c.salt.is_not(None))
        nothing = dict.fromkeys(("user", "token", "details", "salt"))
        self.run(table.update().where(known).values(nothing))

    def forge_erasure(self):
        """Say of a link's words that they were erased."""
        table = schema.audit
        row = self.connection.execute(
            sa.select(table).where(table.c.salt.is_not(None), self.pick(table))
        ).first()
        if row is None:
            return self.forge_erasure()
        self.run(
            table.update()
            .where(table.c.link == row.link)
            .values(dict.fromkeys(("user", "token", "details", "salt")))
        )
        made = {"link": row.link, "position": -1, "hash": row.content, "erasure": self.last}
        self.run(schema.audit_gone.insert().values(made))
        return None

    def remove_link(self):
        self.run(schema.audit.delete().where(self.pick(schema.audit)))

    def cut_end(self):
        keep = self.rng.randrange(1, self.last)
        self.run(schema.audit.delete().where(schema.audit.c.link > keep))

    def cut_end_cleanly(self):
        """Cut off the newest links, two notes, and what repeats them; an anchor finds it."""
        table = schema.audit
        self.run(table.delete().where(table.c.link >= self.last - 1))
        chain.keep_head(self.connection, chain.read_head(self.connection))

    def insert_link(self):
        row = dict(self._any_link())
        row["link"] = self.last + self.rng.choice([1, 5])
        self.run(schema.audit.insert().values(row))

    def repeat_link(self):
        """Append one that fits the newest, but for the head."""
        row = dict(self._any_link()) | {"link": self.last + 1}
        row["previous"] = chain.read_head(self.connection).hash
        row["hash"] = chain.hash_link(row)
        self.run(schema.audit.insert().values(row))

    def swap_links(self):
        a, b = self.rng.sample(range(1, self.last + 1), 2)
        table = schema.audit
        for old, new in ((a, -1), (b, a), (-1, b)):
            self.run(table.update().where(table.c.link == old).values(link=new))

    def rehash_link(self):
        row = dict(self._any_link(schema.audit.c.link < self.last)) | {"action": "harmless"}
        row["hash"] = chain.hash_link(row)
        self.run(schema.audit.update().where(schema.audit.c.link == row["link"]).values(row))

    def rehash_tail(self):
        """Change a link, and write all later ones again, so that they fit: an anchor finds it."""
        table, before = schema.audit, None
        said = (table.c.salt.is_not(None), table.c.count == 0)
        row = self._any_link(*said, table.c.link < self.last)  # that link is not anchored yet
        query = sa.select(table).where(table.c.link >= row["link"]).order_by(table.c.link)
        for link in self.connection.execute(query).mappings().all():
            new = dict(link)
            if before is None:
                new["details"] = {"nothing": "happened"}
                new["content"] = chain.hash_content(new)
            else:
                new["previous"] = before
            new["hash"] = before = chain.hash_link(new)
            self.run(table.update().where(table.c.link == link["link"]).values(new))
        chain.keep_head(self.connection, chain.read_head(self.connection))

    def _any_link(self, *terms):
        table = schema.audit
        query = sa.select(table).where(self.pick(table, *terms))
        return self.connection.execute(query).mappings().one()

    def change_record(self):
        table = schema.records
        column, value = self.rng.choice(
            [("time", 5), ("deleted", 5), ("text", "no"), ("tags", ["z"]), ("metadata", {"a": 7}),
             ("size", 99), ("media_type", "x/y")]
        )  # fmt: skip
        self.run(table.update().where(self.pick(table)).values({column: value}))

    def change_own(self):
        table, column, value = self.rng.choice(
            [(schema.KINDS["prompt"], "role", "system"), (schema.KINDS["response"], "seed", 77),
             (schema.KINDS["entity"], "name", "Eve"), (schema.KINDS["prompt"], "session", None)]
        )  # fmt: skip
        self.run(table.update().where(self.pick(table)).values({column: value}))

    def remove_record(self):
        table = schema.KINDS["response"]
        where = self.pick(table)
        (one,) = self.connection.execute(sa.select(table.c.id).where(where)).one()
        self.run(table.delete().where(where))
        if self.rng.random() < 0.5:
            self.run(schema.records.delete().where(schema.records.c.id == one))

    def insert_record(self):
        own = {"id": f"forged{self.rng.random()}"}
        shared = own | {"kind": "entity", "origin": "real", "time": 5}
        self.run(schema.records.insert().values(shared))
        self.run(schema.KINDS["entity"].insert().values(own | {"name": "Eve"}))

    def insert_parent(self):
        ids = self.connection.execute(sa.select(schema.records.c.id).limit(9)).scalars().all()
        made = {"child": ids[0], "position": 99, "parent": self.rng.choice(ids[1:])}
        self.run(schema.links.insert().values(made))

    def insert_own_row(self):
        query = sa.select(schema.KINDS["prompt"].c.id)
        one = self.rng.choice(self.connection.execute(query).scalars().all())
        self.run(schema.KINDS["session"].insert().values(id=one, name="Eve"))

    def change_history(self):
        table = schema.history
        column, value = self.rng.choice(
            [("user", "mallory"), ("time", 5), ("action", "adopt"), ("changes", {"a": [1, 2]}),
             ("after", "0" * 64), ("before", "0" * 64), ("salt", "0" * 32), ("position", 4711),
             ("record", "p"), ("link", None)]
        )  # fmt: skip
        table_row = self.pick(table, table.c[column].is_distinct_from(value))
        self.run(table.update().where(table_row).values({column: value}))

    def remove_history(self):
        self.run(schema.history.delete().where(self.pick(schema.history)))

    def insert_history(self):
        table = schema.history
        row = self.connection.execute(sa.select(table).where(self.pick(table))).mappings().one()
        row = {name: value for name, value in row.items() if name != "seq"}
        wrong = self.rng.choice(["position", "link", None])
        if wrong:
            row[wrong] = None if wrong == "link" else 4711
        self.run(table.insert().values(row))

    def rewrite_record(self):
        """Change a record and its last hash, but not the link."""
        table, past = schema.records, schema.history
        where = self.pick(table, table.c.kind == "prompt")
        self.run(table.update().where(where).values(text="rewritten"))
        (one,) = self.connection.execute(sa.select(table.c.id).where(where)).one()
        (shared, own, parents) = chain.read_rows(self.connection, [one])[one]
        query = sa.select(past).where(past.c.record == one).order_by(past.c.link.desc()).limit(1)
        row = dict(self.connection.execute(query).mappings().one())
        row["after"] = chain.hash_row(shared, own, parents, row["salt"])
        assert len(hash_item(row)) == 64
        self.run(past.update().where(past.c.seq == row["seq"]).values(after=row["after"]))

    def change_gone(self):
        table = schema.audit_gone
        column, value = self.rng.choice([("hash", "0" * 64), ("erasure", 1), ("position", 4711)])
        self.run(table.update().where(self.pick(table)).values({column: value}))

    def remove_gone(self):
        self.run(schema.audit_gone.delete().where(self.pick(schema.audit_gone)))


KINDS = [
    name for name in vars(Tampering) if not name.startswith("_") and name not in ("pick", "run")
]
ONLY_ANCHORS = {"cut_end_cleanly", "rehash_tail"}


class Undo(Exception):
    pass


def test_every_tampering_is_found(lived):
    store, anchors = lived  # noqa: F811
    assert verify(store).flaws == () and check_anchors(store, anchors) == []
    rng = random.Random(0)
    found = dict.fromkeys(KINDS, 0)
    count = TAMPERINGS // (4 if store.is_postgres else 1)
    for kind in itertools.islice(itertools.cycle(KINDS), count):
        with pytest.raises(Undo), store.writing() as connection:
            getattr(Tampering(connection, rng), kind)()
            flaws = compare(connection).flaws
            if kind in ONLY_ANCHORS:
                assert flaws == (), (kind, flaws)
                flaws = compare_anchors(connection, anchors)
            assert flaws, kind
            found[kind] += 1
            raise Undo
    assert sum(found.values()) == count and min(found.values()) >= count // len(KINDS) >= 1
    assert verify(store).flaws == ()


def test_the_first_bad_link_is_named(store):  # noqa: F811
    store.add(*(Entity(id=f"e{n}", origin="real", name="x") for n in range(3)))
    for n in range(3):
        store.tag(f"e{n}", add=("t",))
    table = schema.audit
    with store.writing() as connection:
        connection.execute(table.update().where(table.c.link == 3).values(action="nothing"))
        entity = schema.KINDS["entity"]
        connection.execute(entity.update().where(entity.c.id == "e0").values(name="y"))
    found = verify(store)
    assert found.flaws[0].link == 2 and "e0" in found.flaws[0].what
    assert {flaw.link for flaw in found.flaws} == {2, 3}
    assert found.records == 2


def test_hashes_tell_nothing_of_equal_values(store):  # noqa: F811
    """Two equal records have different hashes, and none that can be computed without the salt."""
    store.add(*(Feedback(origin="real", target=store.add(Entity(origin="real", name="x"))[0],
                         user="bob", label="yes") for _ in range(2)))  # fmt: skip
    with store.reading() as connection:
        past = connection.execute(sa.select(schema.history)).all()
    assert len({row.after for row in past}) == len({row.salt for row in past}) == len(past) == 4


def test_links_of_two_writers_take_turns(store, url):  # noqa: F811
    import threading

    def write(name):
        with open_store(url, user=name) as own:
            for n in range(15):
                own.add(Entity(id=f"{name}{n}", origin="real", name="x"))

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert verify(store).flaws == () and verify(store).links == 30


def test_a_clock_that_jumps_back_is_recorded(store, monkeypatch, capsys, url):  # noqa: F811
    store.add(Entity(id="a", origin="real", name="x"))
    real = rows.now
    monkeypatch.setattr("genjax.store.store.now", lambda: real() - 3_600_000_000)
    store.tag("a", add=("t",))
    store.add(Entity(id="b", origin="real", name="x"))
    found = verify(store)
    assert found.flaws == ()
    assert [link for link, _ in found.jumps] == [3]
    assert 3_590_000_000 < found.jumps[0][1] <= 3_600_000_000
    main(["store", "audit", "verify", url])
    assert "at link 3" in capsys.readouterr().out


def test_reads_and_imports_are_in_the_trail(store, tmp_path):  # noqa: F811
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(1200)))
    import_file(store, path)
    export(store, tmp_path / "out.jsonl", Export("texts", 'text:"7"', "real"))
    with store.reading() as connection:
        links = connection.execute(sa.select(schema.audit).order_by(schema.audit.c.link)).all()
    assert [(row.action, row.count) for row in links] == [
        ("add", 500), ("add", 500), ("add", 200), ("import", 0), ("export", 0),
    ]  # fmt: skip
    assert links[-1].details["rows"] == sum("7" in str(n) for n in range(1200))
    assert {row.user for row in links} == {"ann"} and verify(store).flaws == ()


def test_a_copy_takes_the_trail_along(store, tmp_path):  # noqa: F811
    fill(store)
    store.erase("r")
    anchor(store, tmp_path / "anchors")
    backup(store, tmp_path / "backup")
    with open_store(str(tmp_path / "other.db"), create=True) as other:
        restore(tmp_path / "backup", other)
        assert verify(other) == verify(store)
        assert check_anchors(other, tmp_path / "anchors") == []
        other.tag("p", add=("more",))
        assert verify(other).flaws == ()
    with open_store(str(tmp_path / "third.db"), create=True) as third:
        third.erase(*third.add(Entity(origin="real", name="x")))
        with pytest.raises(UserError, match="audit trail") as error:
            copy_store(store, third)
        assert error.value.field == "target"


def test_an_edited_file_of_anchors_is_found(store, tmp_path):  # noqa: F811
    path = tmp_path / "anchors.jsonl"
    for n in range(3):
        store.add(Entity(origin="real", name=f"{n}"))
        anchor(store, path)
    assert check_anchors(store, path) == []
    lines = path.read_bytes().splitlines(keepends=True)
    edited = [
        lines[:2], lines[1:], [lines[0], lines[2]], [lines[1], lines[0], lines[2]], [],
        [lines[0].replace(b'"link": 1', b'"link": 2'), *lines[1:]], [b"{}\n"], [b"\xff"],
        [*lines, lines[2]], [*lines, b"[" * 5000], [*lines, b"7\n"],
        [lines[0], lines[1].replace(b'"count": 2', b'"count": 3'), lines[2]],
    ]  # fmt: skip
    for number, some in enumerate(edited):
        path.write_bytes(b"".join(some))
        with pytest.raises(UserError) as error:
            check_anchors(store, path)
        assert error.value.field == "anchor", number
    with pytest.raises(UserError):
        anchor(store, path)
    with pytest.raises(UserError) as error:
        check_anchors(store, tmp_path / "none")
    assert error.value.field == "anchor"
    path.write_bytes(b"".join(lines))
    assert check_anchors(store, path) == []


def test_the_commands_say_what_holds(store, url, tmp_path, capsys):  # noqa: F811
    fill(store)
    place = str(tmp_path / "a.jsonl")
    main(["store", "audit", "anchor", url, "--to", place, "--user", "zoe"])
    main(["store", "audit", "verify", url, "--anchor", place])
    said = capsys.readouterr().out
    assert "links     6" in said and "records   13" in said
    main(["store", "audit", "show", url, "--limit", "1"])
    assert "zoe anchor" in capsys.readouterr().out
    with store.writing() as connection:
        connection.execute(schema.records.update().values(time=1))
    assert main(["store", "audit", "verify", url]) == 2
    captured = capsys.readouterr()
    assert "from link 2 on: 13 flaws" in captured.err and "Traceback" not in captured.err
