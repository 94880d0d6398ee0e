"""A store on several PostgreSQL servers: replicas and shards, each of which is killed."""

import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

import genjax
from genjax.cli.store.command import store_command
from genjax.errors import UserError
from genjax.store.audit.forgetting import forget
from genjax.store.audit.verifying import verify
from genjax.store.bulk import add_table, read_table
from genjax.store.engine import read_url
from genjax.store.exporting import export
from genjax.store.formats.writing import Export
from genjax.store.growth.past import open_state
from genjax.store.growth.replicas import find_replicas
from genjax.store.growth.resharding import name_server, plan_moves, reshard, shard_store
from genjax.store.growth.states import tag_state
from genjax.store.index.opening import open_index
from genjax.store.lineage import read_lineage, show_lineage
from genjax.store.maintenance import analyse, backup, check, copy_store
from genjax.store.opening import open_store
from genjax.store.privacy.keys import VARIABLE, make_key
from genjax.store.privacy.plan import Plan, parse_encrypted
from genjax.store.privacy.rotation import rotate
from genjax.store.records import Entity, Payload, Prompt, Relation, Response
from genjax.store.searching import follow, rebuild, search
from tests.store.hashes import hash_records
from tests.store.servers import Server, run_servers
from tests.store.test_forgetting import BOB, WORDS, plant, scan
from tests.store.test_records_contract import fill
from tests.store.words import Words

PAGE = Path(genjax.__file__).parent.parent / "docs" / "growth.md"


def add(store, *names):
    return store.add(*(Entity(id=name, origin="real", name=f"cat {name}") for name in names))


def ask(server, query):
    with psycopg.connect(server.url, autocommit=True) as connection:
        found = connection.execute(query)
        return found.fetchall() if found.description else []


def wait_until(what):
    for _ in range(200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 10 seconds")


# Replicas


@pytest.fixture(scope="module")
def pair():
    with run_servers(1) as servers:
        (primary,) = servers
        servers.append(Server(primary.folder.parent / "replica", primary.binaries, primary).start())
        yield servers


@pytest.fixture
def database(pair):
    """The URL of a new database on the primary, that the replica has too."""
    name = f"d{random.randrange(10**9)}"
    primary, replica = pair
    ask(primary, f"CREATE DATABASE {name}")
    wait_until(lambda: ask(replica, f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))
    return f"{primary.url.rpartition('/')[0]}/{name}"


def test_old_reads_go_to_the_replica_and_own_writes_are_seen(pair, database):
    _, replica = pair
    url = f"{database}?replica=127.0.0.1:{replica.port}"
    with open_store(url, create=True) as mine, open_store(url) as other:
        add(mine, "a")
        wait_until(lambda: other.count() == 1)
        ask(replica, "SELECT pg_wal_replay_pause()")
        paused = [("paused",)]  # only after what is being replayed
        wait_until(lambda: ask(replica, "SELECT pg_get_wal_replay_pause_state()") == paused)
        try:
            add(mine, "b")
            assert mine.count() == 2 and len(list(mine.select())) == 2  # from the primary
            assert other.count() == 1 and len(list(other.select())) == 1  # from the replica
            assert other.get("b").id == "b" and other.fresh().count() == 2
            with open_store(f"{url}&replica_lag=0") as strict:
                assert strict.count() == 2
        finally:
            ask(replica, "SELECT pg_wal_replay_resume()")
        wait_until(lambda: other.count() == 2)


def test_a_replica_gives_what_is_encrypted(pair, database, monkeypatch):
    key = make_key()
    monkeypatch.setenv(VARIABLE, key)
    _, replica = pair
    url = f"{database}?replica=127.0.0.1:{replica.port}"
    plan = Plan(parse_encrypted(["fields"]), pseudonyms=True)
    with open_store(url, create=True, privacy=plan) as mine, open_store(url) as other:
        add(mine, "a")
        wait_until(lambda: other.count() == 1)
        name = database.rpartition("/")[2]
        with psycopg.connect(f"{replica.url.rpartition('/')[0]}/{name}") as connection:
            assert "cat a" not in str(connection.execute("SELECT * FROM entities").fetchall())
        assert [one.name for one in other.select()] == ["cat a"]
        with pytest.raises(UserError, match="encrypted"):
            other.count('name="cat a"', kind="entity")
        monkeypatch.setenv(VARIABLE, f"{make_key()} {key}")
        rotate(mine, lambda line: None)
        wait_until(lambda: [one.name for one in other.select()] == ["cat a"])


def test_readers_survive_the_death_of_each_server(pair, database, capsys):
    primary, replica = pair
    with open_store(f"{database}?replica=127.0.0.1:{replica.port}", create=True) as store:
        add(store, "a", "b")
        wait_until(lambda: ask(replica, "SELECT pg_last_wal_replay_lsn()"))
        replica.kill()
        assert store.count() == 2
        replica.start()
        wait_until(lambda: len(ask(primary, "SELECT 1 FROM pg_stat_replication")) == 1)
        primary.kill()
        try:
            assert store.count() == 2 and store.get("a").id == "a" and store.history("a")
            assert (
                len([line for line in capsys.readouterr().err.splitlines() if "away" in line]) == 1
            )
            with pytest.raises(UserError, match="is away") as error:
                add(store, "c")
            assert error.value.field == "store" and "\n" not in str(error.value)
        finally:
            primary.start()
        add(store, "c")
        assert store.count() == 3


@pytest.mark.long
def test_a_replica_of_another_server_is_refused(pair, tmp_path):
    primary, _ = pair
    with run_servers(1) as (stranger,):
        name = f"d{random.randrange(10**9)}"
        ask(primary, f"CREATE DATABASE {name}")
        ask(stranger, f"CREATE DATABASE {name}")
        url = f"{primary.url.rpartition('/')[0]}/{name}?replica=127.0.0.1:{stranger.port}"
        with (
            open_store(url, create=True) as store,
            pytest.raises(UserError, match="follow") as error,
        ):
            store.count()
        assert error.value.field == "store"


@pytest.mark.parametrize(
    "rest",
    [
        "replica=a/b",
        "replica=h:x",
        "replica=u:secret@h:1",
        "replica=h:1;x",
        "replica=h:1&replica_lag=-1",
        "replica=h:1&replica_lag=nan",
        "replica=h:1&replica_lag=1&replica_lag=2",
    ],
)
def test_wrong_replicas_are_refused(rest):
    with pytest.raises(UserError) as error:
        find_replicas(read_url(f"postgresql://h/d?{rest}"))
    assert error.value.field == "store"


def test_only_postgresql_has_replicas(tmp_path):
    with pytest.raises(UserError, match="postgresql") as error:
        open_store(f"sqlite:///{tmp_path}/s.db?replica=h:1", create=True)
    assert error.value.field == "store"


class Load:
    """Writers and readers in threads, who note what was acknowledged and what went wrong."""

    def __init__(self, url, writers=2, readers=2):
        self.url, self.over = url, threading.Event()
        self.acknowledged, self.refused, self.reads = [], [], []
        self.wrong, self.lock = [], threading.Lock()
        self.threads = [threading.Thread(target=self.write, args=(i,)) for i in range(writers)]
        self.threads += [threading.Thread(target=self.read) for _ in range(readers)]

    def write(self, number):
        with open_store(self.url) as store:
            for i in range(10**6):
                if self.over.is_set():
                    return
                ids = [f"{number}-{i}-{k}" for k in range(3)]
                try:
                    add(store, *ids)
                    self.acknowledged.append((time.monotonic(), ids))
                except UserError as error:
                    self.refused.append((time.monotonic(), ids, str(error)))
                    time.sleep(0.02)
                except Exception as error:
                    self.wrong.append(repr(error))

    def read(self):
        with open_store(self.url) as store:
            while not self.over.is_set():
                began = time.monotonic()
                try:
                    store.count()
                    self.reads.append((began, time.monotonic() - began, ""))
                except UserError as error:
                    self.reads.append((began, time.monotonic() - began, str(error)))
                    time.sleep(0.02)
                except Exception as error:
                    self.wrong.append(repr(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(60)

    def check(self, store):
        """Nothing acknowledged is lost, and no write is there in part."""
        there = {record.id for record in store.fresh().select()}
        lost = [one for _, ids in self.acknowledged for one in ids if one not in there]
        parts = [ids for _, ids, _ in self.refused if 0 < len(there & set(ids)) < 3]
        assert not self.wrong and not lost and not parts
        assert all("\n" not in line for _, _, line in (*self.refused, *self.reads))
        return there


@pytest.mark.long
def test_nothing_acknowledged_is_lost_when_primary_and_replica_die_under_load(pair, database):
    primary, replica = pair
    url = f"{database}?replica=127.0.0.1:{replica.port}"
    with open_store(url, create=True) as store:
        with Load(url) as load:
            time.sleep(3)
            lags = []
            for _ in range(20):
                query = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn),"
                query += " coalesce(extract(epoch FROM replay_lag), 0) FROM pg_stat_replication"
                lags += [float(lag) for _, lag in ask(primary, query)]
                time.sleep(0.05)
            for server in (replica, primary, replica, primary):
                died = time.monotonic()
                server.kill()
                time.sleep(1)
                server.start()
                back = time.monotonic()
                time.sleep(2)
                down = [
                    took for began, took, _ in load.reads if died <= began + took and began < back
                ]
                print(
                    f"{'primary' if server is primary else 'replica'} away {back - died:.1f} s: "
                    f"{len(down)} reads in it, slowest {max(down, default=0):.2f} s"
                )
        failed = [line for _, _, line in load.reads if line]
        assert not failed, failed[:3]
        wait_until(lambda: ask(primary, "SELECT 1 FROM pg_stat_replication"))
        count = len(load.check(store))
        print(f"written {count}, refused {len(load.refused)}, reads {len(load.reads)}")
        middle, most = sorted(lags)[len(lags) // 2] * 1000, max(lags) * 1000
        print(f"replay lag: median {middle:.1f} ms, most {most:.1f} ms")
    assert load.refused  # while the primary was away


# Shards


@pytest.fixture(scope="module")
def four():
    with run_servers(4, "postgres_fdw") as servers:
        yield servers


def make_sharded(servers, count=3, blobs=None, coordinator=None):
    """A store whose records lie on the first servers, and whose coordinator is the last."""
    name = f"d{random.randrange(10**9)}"
    for server in servers:
        ask(server, f"CREATE DATABASE {name}")
    urls = [f"{server.url.rpartition('/')[0]}/{name}" for server in servers]
    with open_store(urls[-1], create=True, blobs=blobs) as store:
        shard_store(store, urls[:count])
    return urls


def make_one(server, blobs=None):
    """A store on one server."""
    name = f"d{random.randrange(10**9)}"
    ask(server, f"CREATE DATABASE {name}")
    url = f"{server.url.rpartition('/')[0]}/{name}"
    return open_store(url, create=True, blobs=blobs, user="ann")


def fill_both(one, url):
    """A store on one server, and one of shards with the same records, changes and deletions."""
    fill(one)
    rng = random.Random(0)
    ids = [f"e{i:03d}" for i in range(150)]
    one.add(*(Entity(id=i, origin="real", name=f"cat {rng.randrange(50)}") for i in ids))
    pairs = (rng.sample(ids, 2) for _ in range(100))
    one.add(*(Relation(origin="real", subject=a, predicate="likes", object=b) for a, b in pairs))
    for i in ids[:40]:
        one.update(i, tags=("t",), metadata={"n": rng.random()}, parents=(rng.choice(ids[40:]),))
    one.delete(*ids[:5])
    many = open_store(url, user="ann")
    copy_store(one, many)
    return one, many


def make_both(servers, folder):
    urls = make_sharded(servers, blobs=str(folder / "blobs"))
    one = make_one(servers[-1], str(folder / "blobs"))
    return (*fill_both(one, urls[-1]), urls)


@pytest.fixture
def both(four, tmp_path):
    one, many, urls = make_both(four, tmp_path)
    with one, many:
        yield one, many, urls


@pytest.fixture(scope="module")
def unchanged(four, tmp_path_factory):
    """The same for tests that end with what they began with."""
    one, many, urls = make_both(four, tmp_path_factory.mktemp("both"))
    with one, many:
        yield one, many, urls


QUERIES = [
    ("", None, "time"),
    ("", None, "-id"),
    ("", "entity", "-name"),
    ("metadata.n<0.5", "entity", "name"),
    ("tags:t metadata.n>0.3", None, "time"),
    ("score>0", None, "time"),
    ("predicate=likes", "relation", "-time"),
    ("not name=null", None, "name"),
]


@pytest.mark.long
def test_every_query_is_answered_as_from_one(unchanged, tmp_path):
    one, many, _ = unchanged
    assert hash_records(one) == hash_records(many) and check(many) == []
    for filter, kind, order in QUERIES:
        given = {"kind": kind, "origin": "any", "order": order}
        expected = list(one.select(filter, **given))
        assert list(many.select(filter, **given)) == expected, (filter, order)
        assert many.count(filter, kind=kind, origin="any") == len(expected)
        if order not in ("-id", "name"):
            continue
        paged, after = [], None
        while page := list(many.select(filter, **given, limit=17, after=after)):
            paged += page
            after = page[-1].id
        assert paged == expected
    for record in one.select(origin="any", limit=12):
        assert many.get(record.id, "any") == record
        assert many.history(record.id) == one.history(record.id)
        for down in (False, True):
            trees = [show_lineage(read_lineage(store, record.id, down)) for store in (one, many)]
            assert trees[0] == trees[1]
    for form in ("sft", "preferences", "prompts", "messages", "texts", "records"):
        paths = [tmp_path / f"{form}{number}.jsonl" for number in (0, 1)]
        for store, path in zip((one, many), paths, strict=True):
            export(store, path, Export(form, origin="any"))
        assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.long
def test_shards_hold_what_is_encrypted(four, monkeypatch):
    key = make_key()
    monkeypatch.setenv(VARIABLE, key)
    name = f"d{random.randrange(10**9)}"
    for server in four:
        ask(server, f"CREATE DATABASE {name}")
    urls = [f"{server.url.rpartition('/')[0]}/{name}" for server in four]
    plan = Plan(parse_encrypted(["fields"]), pseudonyms=True)
    with open_store(urls[-1], create=True, privacy=plan) as store:
        shard_store(store, urls[:3])
    names = [f"n{number:03}" for number in range(30)]
    with open_store(urls[-1], user="ann") as store:
        add(store, *names)
        store.update("n001", metadata={"note": "hidden"})
        monkeypatch.setenv(VARIABLE, f"{make_key()} {key}")
        rotate(store, lambda line: None)
        assert sorted(one.name for one in store.select()) == [f"cat {one}" for one in names]
        assert check(store) == [] and store.guard.plan.older == ()
        for url in urls:
            with psycopg.connect(url) as connection:
                tables = connection.execute(
                    "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT LIKE 'pg_%'"
                    " AND schemaname <> 'information_schema'"
                ).fetchall()
                for schema, table in tables:
                    rows = connection.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall()
                    assert "cat n" not in str(rows) and "hidden" not in str(rows), table


@pytest.mark.long
def test_every_change_does_what_it_does_to_one(both, tmp_path):
    one, many, _ = both
    for store in (one, many):
        store.update("e050", name="changed", parents=("e060", "a"))
        store.tag("e051", "e052", "p", add=("x",))
        store.delete("e070")
        store.undelete("e001")
        tag_state(store, "v1")
        store.update("e050", name="again")
        with pytest.raises(UserError, match="does not exist"):
            store.add(Relation(origin="real", subject="e001", predicate="p", object="missing"))
        with pytest.raises(UserError, match="must be new"):
            add(store, "new", "e080")
        with pytest.raises(UserError, match="circle"):
            store.update("e060", parents=("e050",))
        about = "subject=e030 or object=e030"
        relations = [r.id for r in store.select(about, kind="relation")]
        with pytest.raises(UserError, match="erase that first"):
            store.erase("e060")
        store.erase("e030", *relations)
        forget(store, ids=["e100"], say=lambda line: None)
    records = [
        {record.id: record for record in store.select(origin="any")} for store in (one, many)
    ]
    assert records[0] == records[1]
    with open_state(one, "v1") as past, open_state(many, "v1") as other:
        assert other.store.get("e050").name == "changed"
        assert past.missing == other.missing > len(relations) + 1
        assert past.state.fingerprint == other.state.fingerprint
    assert check(many) == [] and verify(many).flaws == ()
    backup(many, tmp_path / "backup")


@pytest.mark.long
def test_bulk_rows_come_in_and_out(both):
    one, many, _ = both
    table = pa.Table.from_batches(list(read_table(one, "entity")))
    names = pa.array([f"new {i}" for i in range(len(table))])
    table = table.set_column(table.schema.get_field_index("id"), table.schema.field("id"), names)
    for store in (one, many):
        add_table(store, "entity", table)
    found = [pa.Table.from_batches(list(read_table(store, "entity"))) for store in (one, many)]
    assert found[0] == found[1] and len(found[0]) == 2 * len(table) > 200


@pytest.mark.long
@pytest.mark.parametrize("engine", ["faiss", "milvus"])
def test_an_index_follows_and_finds(both, tmp_path, engine):
    package = {"faiss": "faiss", "milvus": "milvus_lite"}[engine]
    pytest.importorskip(package, reason="the engines are an extra: pip install '.[store]'")
    one, many, _ = both
    place = {"faiss": f"faiss:{tmp_path / 'faiss'}", "milvus": str(tmp_path / "vectors.db")}
    index, plain = (
        open_index(place[engine], Words()),
        open_index(f"faiss:{tmp_path / 'one'}", Words()),
    )
    rebuild(many, index)
    rebuild(one, plain)
    for store in (one, many):
        store.update("e050", name="dogs and birds")
        store.delete("e051")
        store.erase("c")
    follow(many, index)
    follow(one, plain)
    given = {"origin": "any", "mode": "vector", "limit": 400}
    found = [
        {hit.id for hit in search(s, i, "dogs", **given).hits}
        for s, i in ((many, index), (one, plain))
    ]
    assert found[0] == found[1] and len(found[0]) > 140 and "e051" not in found[0]
    index.close()


@pytest.mark.long
def test_a_shard_that_is_away_is_named(four, unchanged, tmp_path, capsys):
    one, many, urls = unchanged
    away = four[1]
    away.kill()
    try:
        kept, failed = [], set()
        for record in one.select(origin="any"):
            try:
                assert many.get(record.id, "any") == record
                kept.append(record)
            except UserError as error:
                failed.add(str(error))
                assert error.field == "store"
        assert 60 < len(kept) < one.count(origin="any")
        for act in (
            many.count,
            lambda: list(many.select()),
            lambda: add(many, *map(str, range(9))),
        ):
            with pytest.raises(UserError) as error:
                act()
            failed.add(str(error.value))
        assert all(f"shard 127.0.0.1:{away.port}/" in line and "\n" not in line for line in failed)
        assert "note" not in capsys.readouterr().err
        with open_store(f"{urls[-1]}?incomplete=yes") as rest:
            assert rest.count(origin="any") == len(kept)
            assert [r.id for r in rest.select(origin="any")] == [r.id for r in kept]
            said = capsys.readouterr().err
            assert said.count("incomplete") == 1 and str(away.port) in said
            for act in (
                lambda: add(rest, "x"),
                lambda: tag_state(rest, "x"),
                lambda: backup(rest, tmp_path / "backup"),
                lambda: follow(rest, open_index(f"faiss:{tmp_path / 'i'}", Words())),
            ):
                with pytest.raises(UserError, match="incomplete"):
                    act()
    finally:
        away.start()
    assert hash_records(one) == hash_records(many)


@pytest.mark.long
def test_a_write_that_one_shard_refuses_at_its_end_is_taken_back(four, unchanged):
    _, many, urls = unchanged
    folder = urls[0].rpartition("/")[2]
    before = hash_records(many)
    for server in four[:3]:  # whichever commits last, others have committed by then
        place = f"{server.url.rpartition('/')[0]}/{folder}"
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN RAISE 'no'; END$$"
            )
            query = "SELECT schemaname || '.' || tablename FROM pg_tables"
            query += " WHERE tablename ~ '^records_[0-9]+$'"
            tables = [name for (name,) in connection.execute(query)]
            for name in tables:
                connection.execute(
                    f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE OR DELETE ON {name}"
                    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
                )
            for act in (
                lambda: add(many, *(f"new{i}" for i in range(30))),
                lambda: many.tag(*(f"e{i:03d}" for i in range(20, 60)), add=("z",)),
                lambda: many.erase(*(r.id for r in many.select(kind="relation"))),
            ):
                with pytest.raises(UserError):
                    act()
            for name in tables:
                connection.execute(f"DROP TRIGGER refuse ON {name}")
            connection.execute("DROP FUNCTION refuse")
            add(many, "after")  # the next writer takes back what is there in part
            many.erase("after")
            assert hash_records(many) == before and check(many) == []
            assert verify(many).flaws == ()


@pytest.mark.long
def test_a_store_that_cannot_be_spread_is_as_before(four):
    name = f"d{random.randrange(10**9)}"
    for server in four[:2]:
        ask(server, f"CREATE DATABASE {name}")
    good, front = (f"{server.url.rpartition('/')[0]}/{name}" for server in four[:2])
    ask(four[0], "DROP ROLE IF EXISTS weak")
    ask(four[0], "CREATE ROLE weak LOGIN PASSWORD 'very-secret'")
    weak = good.replace("postgres@", "weak:very-secret@")
    with open_store(front, create=True) as store:
        for wrong in ("postgresql://postgres@127.0.0.1:1/x", weak):
            with pytest.raises(UserError) as error:
                shard_store(store, [good, wrong] if wrong != weak else [weak])
            line = str(error.value)
            assert error.value.field == "store" and "\n" not in line and "secret" not in line
        with psycopg.connect(good) as connection:
            query = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'genjax%'"
            assert connection.execute(query).fetchone() == (0,)
        add(store, "a")
        with pytest.raises(UserError, match="empty"):
            shard_store(store, [good])
        assert store.count() == 1


@pytest.mark.long
def test_nothing_of_a_forgotten_person_is_left_on_any_server(four, tmp_path):
    urls = make_sharded(four, blobs=str(tmp_path / "blobs"))
    with open_store(urls[-1], user="ann") as many:
        plant(many)
        analyse(many)
        places = [tmp_path]
        for server in four:
            ask(server, "CHECKPOINT")
            places.append(Path(ask(server, "SHOW data_directory")[0][0]) / "base")
        assert {word for _, word in scan(*places)} == {*WORDS, BOB}
        forget(many, user=BOB, say=lambda line: None)
        assert scan(*places) == [] and verify(many).flaws == () and check(many) == []


@pytest.mark.long
def test_servers_come_and_go(both):
    one, many, urls = both
    expected = hash_records(one)
    assert set(reshard(many, [urls[0], urls[3]]).values()) == {6}
    assert hash_records(many) == expected and check(many) == []
    assert set(reshard(many, urls[:3]).values()) == {4}
    assert hash_records(many) == expected
    with psycopg.connect(urls[3]) as connection:  # nothing of a bucket is left behind
        query = "SELECT count(*) FROM pg_tables WHERE schemaname LIKE 'genjax%'"
        assert connection.execute(query).fetchone() == (0,)
    add(many, "after")
    for act in (
        lambda: reshard(many, ["postgresql://postgres@127.0.0.1:1/x", urls[0]]),
        lambda: shard_store(many, urls[:2]),
        lambda: reshard(many, []),
    ):
        with pytest.raises(UserError) as error:
            act()
        assert "\n" not in str(error.value)
    assert many.get("after").id == "after"


def run_page(title, hosts):
    """Run the commands below a title of the page, on servers of the test."""
    part = PAGE.read_text(encoding="utf-8").partition(f"## {title}")[2].partition("## ")[0]
    for line in part.splitlines():
        if line.startswith("genjax store"):
            for name, server in hosts.items():
                line = line.replace(f"//{name}/", f"//postgres@127.0.0.1:{server.port}/")
                line = line.replace(f"={name}:5432", f"=127.0.0.1:{server.port}")
            _, _, action, *words = shlex.split(line.replace("s3://bucket/talk", "blobs"))
            store_command(action, words)
            yield action


@pytest.mark.long
def test_the_commands_of_the_page_on_shards_work(four, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with open_store("talk.db", create=True) as store:
        add(store, *map(str, range(20)))
    for server in four:
        ask(server, "CREATE DATABASE talk")
    # The last server is also the one in front.
    hosts = dict(zip(("one", "two", "three", "four"), four, strict=True)) | {"front": four[3]}
    assert len(list(run_page("Shards", hosts))) == 6
    said = capsys.readouterr().out
    assert said.count("20 real") == 2 and said.count("  4 buckets") == 6


def test_the_commands_of_the_page_on_replicas_work(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    primary, replica = pair
    ask(primary, "CREATE DATABASE talk")
    wait_until(lambda: ask(replica, "SELECT 1 FROM pg_database WHERE datname = 'talk'"))
    hosts = {"main": primary, "second": replica, "third": replica}
    assert len(list(run_page("Replicas", hosts))) == 3
    assert (tmp_path / "old.jsonl").read_text() == ""


@pytest.mark.parametrize("servers", range(1, 8))
def test_moves_are_few_and_even(servers):
    rng = random.Random(servers)
    names = [f"s{i}" for i in range(servers)]
    places = {bucket: rng.choice([*names, "gone"]) for bucket in range(12)}
    moves = plan_moves(places, names)
    after = places | moves
    counts = [list(after.values()).count(name) for name in names]
    assert sum(counts) == 12 and max(counts) - min(counts) <= 1
    held = [list(places.values()).count(name) for name in names]
    assert len(moves) == 12 - sum(map(min, sorted(held), sorted(counts)))
    assert plan_moves(after, names) == {}


CODE = """
import sys
from genjax.store.growth.resharding import reshard
from genjax.store.opening import open_store
with open_store(sys.argv[1]) as store:
    print("ready", flush=True)
    reshard(store, sys.argv[2:])
"""


def kill_while_resharding(urls, wanted, after):
    command = [sys.executable, "-c", CODE, urls[-1], *wanted]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.long
def test_moving_goes_on_after_a_kill(both):
    one, many, urls = both
    expected, rng = hash_records(one), random.Random(0)
    for number in range(8):
        wanted = urls[:3] if number % 2 else [urls[0], urls[3]]
        kill_while_resharding(urls, wanted, rng.random() * 1.5)
        assert hash_records(many) == expected
        reshard(many, wanted)
        assert hash_records(many) == expected and check(many) == []


@pytest.mark.long
def test_nothing_acknowledged_is_lost_when_each_shard_dies_under_load(four):
    urls = make_sharded(four)
    with Load(urls[-1]) as load:
        time.sleep(2)
        for server in four:
            died = time.monotonic()
            server.kill()
            time.sleep(1)
            server.start()
            back = time.monotonic()
            time.sleep(2)
            after = [at for at, _ in load.acknowledged if at > back]
            print(f"away {back - died:.1f} s; written again {min(after) - back:.2f} s later")
    with open_store(urls[-1]) as store:
        add(store, "last")
        count = len(load.check(store))
        assert check(store) == []
    print(f"written {count}, refused {len(load.refused)}, reads {len(load.reads)}")
    assert load.refused and count > 100


@pytest.mark.long
def test_figures_of_shards_and_one(four, tmp_path):
    urls = make_sharded(four)
    took = {}
    for title, store in (("one", make_one(four[-1])), ("shards", open_store(urls[-1]))):
        with store:
            began = time.monotonic()
            for part in range(10):
                prompts = [
                    Prompt(id=f"p{part}_{i}", origin="real", payload=Payload(text="x " * 50))
                    for i in range(500)
                ]
                answers = [
                    Response(origin="synthetic", generator="unknown", prompt=prompt.id)
                    for prompt in prompts
                ]
                store.add(*prompts, *answers)
            wrote = time.monotonic()
            assert len(list(store.select(origin="any"))) == 10_000
            read = time.monotonic()
            for i in range(200):
                store.get(f"p3_{i}")
            took[title] = (wrote - began, read - wrote, (time.monotonic() - read) / 200)
    print(took, [many / one for one, many in zip(took["one"], took["shards"], strict=True)])


def test_names_of_servers_differ():
    hosts = ["h", "x" * 80 + "1", "x" * 80 + "2", "é" * 40]
    names = [name_server(read_url(f"postgresql://u:secret@{host}:1/d")) for host in hosts]
    assert len(set(names)) == 4 and all(len(name.encode()) <= 63 for name in names)
    assert not any("secret" in name for name in names)


@pytest.mark.long
def test_only_a_store_with_shards_is_incomplete(tmp_path):
    with pytest.raises(UserError) as error:
        open_store(f"sqlite:///{tmp_path}/s.db?incomplete=yes", create=True)
    assert error.value.field == "store"
