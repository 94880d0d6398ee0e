"""A key is replaced while others read and write, and a rotation that is killed goes on."""

import random
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from genjax.store.audit.verifying import verify
from genjax.store.maintenance import check
from genjax.store.opening import open_store
from genjax.store.privacy import rotation
from genjax.store.privacy.chunks import HEADER, read_key_id
from genjax.store.privacy.keys import VARIABLE, make_key, read_keys, write_key
from genjax.store.privacy.plan import Plan
from genjax.store.records import Document, Payload, Prompt
from tests.store.hashes import hash_records
from tests.store.test_privacy import garble, key, make_store, plant, refuse  # noqa: F401
from tests.store.test_records_contract import make_place, server, url  # noqa: F401  (fixtures)

SILENT = {"report": lambda line: None}
MOMENTS = 20


def fill(store, count=30):
    """Add prompts, changed ones, and blobs."""
    store.add(
        *(
            Prompt(
                id=f"p{i:04}", origin="real", payload=Payload(text=f"said {i}"), metadata={"n": i}
            )
            for i in range(count)
        ),
        *(
            Document(
                id=f"d{i:04}",
                origin="real",
                name=f"name {i}",
                payload=Payload(content=b"%d " % i * 900, media_type="text/plain"),
            )
            for i in range(count // 3)
        ),
    )
    for i in range(count // 6):
        store.update(f"p{i:04}", metadata={"n": -i})


def find_key_ids(store):
    """The ids of keys that stored values and blobs need, looked for in the raw rows."""
    found = set()
    with store.engine.connect() as connection:
        for query in (
            *("SELECT text FROM records", "SELECT metadata FROM records"),
            *("SELECT changes FROM history", "SELECT name FROM documents"),
            *("SELECT salt FROM history", "SELECT salt FROM audit"),
        ):
            for (value,) in connection.execute(sa.text(query)):
                if value is not None:
                    found.add(str(value).lstrip('"')[:8])
    for name in store.blobs.list():
        found.add(read_key_id(store.blobs.read_start(name, HEADER)))
    return found


def test_a_rotation_replaces_the_key_of_everything(url, tmp_path, monkeypatch, key):  # noqa: F811
    with make_store(url, tmp_path) as store:
        plant(store, tmp_path)
        fill(store)
        before, user = hash_records(store), store.get("s").user
        old = store.guard.plan.key
        assert find_key_ids(store) == {old}
    new = make_key()
    monkeypatch.setenv(VARIABLE, f"{new} {key}")
    with open_store(url) as store:
        done = rotation.rotate(store, **SILENT)
        assert find_key_ids(store) == {done.key} == {read_keys()[0].id}
        assert done.rows >= 60 and done.blobs == 11 and store.guard.plan.older == ()
        refuse(lambda: rotation.rotate(store), done.key, field="rotate")
    monkeypatch.setenv(VARIABLE, new)
    with open_store(url) as store:
        assert hash_records(store) == before and check(store) == []
        assert verify(store).flaws == ()
        assert store.guard.name_user("aardvark-user") and store.get("s").user == user
        assert store.read_blob(store.get("d0002").payload) == b"2 " * 900
        place = store.url.database
        if not store.is_postgres:  # nor does a free page of the file hold a value of the old key
            with open(place, "rb") as file:
                assert f"{old}:gAAAA".encode() not in file.read()


def test_a_rotation_without_a_new_key_is_refused(url, tmp_path, monkeypatch, key):  # noqa: F811
    with make_store(url, tmp_path) as store:
        refuse(lambda: rotation.rotate(store), "new one first", field="rotate")
        monkeypatch.setenv(VARIABLE, f"{key} {make_key()}")  # the old one is still first
        refuse(lambda: rotation.rotate(store), store.guard.plan.key, field="rotate")
        assert store.guard.plan.older == ()
    with make_store(str(tmp_path / "plain.db"), tmp_path / "plain", Plan()) as plain:
        refuse(lambda: rotation.rotate(plain), "no key", field="rotate")
    monkeypatch.setenv(VARIABLE, make_key())  # the old one is not given
    refuse(lambda: open_store(url), "cannot be read")


class Killed(BaseException):
    """Stands for the end of a process between two transactions."""


def test_a_rotation_goes_on_wherever_it_ended(tmp_path, monkeypatch, key):  # noqa: F811
    """It is stopped after each number of transactions; some values are of either key then."""
    place = str(tmp_path / "s.db")
    monkeypatch.setattr(rotation, "BATCH", 7)
    monkeypatch.setattr(rotation, "PAUSE", 0)
    with make_store(place, tmp_path) as store:
        fill(store, 24)
        before = hash_records(store)
    keys, mixed = [key], 0
    for moment in range(0, 15, 3):
        keys = [make_key(), *keys[:1]]
        monkeypatch.setenv(VARIABLE, " ".join(keys))
        with open_store(place) as store:
            count = iter(range(100))

            def stop(seconds, count=count, moment=moment):
                if next(count) == moment:
                    raise Killed

            with monkeypatch.context() as patched, pytest.raises(Killed):
                patched.setattr(rotation, "time", SimpleNamespace(sleep=stop))
                rotation.rotate(store, **SILENT)
            mixed += len(find_key_ids(store)) == 2
        with open_store(place) as store:
            assert hash_records(store) == before and store.guard.plan.older
            assert rotation.rotate(store, **SILENT).key == read_keys()[0].id
            assert find_key_ids(store) == {read_keys()[0].id} and hash_records(store) == before
    assert mixed >= 4
    monkeypatch.setenv(VARIABLE, keys[0])
    with open_store(place) as store:
        assert check(store) == []


def test_a_third_key_takes_over_an_unfinished_rotation(tmp_path, monkeypatch, key):  # noqa: F811
    place, second, third = str(tmp_path / "s.db"), make_key(), make_key()
    with make_store(place, tmp_path) as store:
        fill(store, 24)
        monkeypatch.setenv(VARIABLE, f"{second} {key}")
        garble(store, lambda old: old[:-4], one="p0007")
        refuse(lambda: rotation.rotate(store, **SILENT), field="rotate")
        monkeypatch.setenv(VARIABLE, f"{third} {second}")
        refuse(lambda: open_store(place), store.guard.plan.older[0])  # the first is still needed
        monkeypatch.setenv(VARIABLE, f"{third} {second} {key}")
        store.erase("p0007")
        rotation.rotate(store, **SILENT)
        monkeypatch.setenv(VARIABLE, third)
    with open_store(place) as store:
        assert find_key_ids(store) == {read_keys()[0].id} and check(store) == []
        assert store.count(kind="prompt") == 23


def test_who_has_the_store_open_goes_on_with_the_new_key(url, tmp_path, monkeypatch):  # noqa: F811
    path = tmp_path / "keys"
    write_key(path)
    monkeypatch.setenv(VARIABLE, f"file:{path}")
    with make_store(url, tmp_path) as store, open_store(url) as server_:
        fill(store)
        server_.add(Prompt(id="a", origin="real", payload=Payload(text="before")))
        write_key(path)
        rotation.rotate(store, **SILENT)
        assert server_.get("p0003").payload.text == "said 3"  # reads the file again
        server_.add(Prompt(id="b", origin="real", payload=Payload(text="after")))
        assert store.get("b").payload.text == "after" and len(find_key_ids(store)) == 1
        assert server_.read_blob(server_.get("d0001").payload) == b"1 " * 900


def test_who_lacks_the_new_key_writes_nothing(url, tmp_path, monkeypatch, key):  # noqa: F811
    with make_store(url, tmp_path) as store, open_store(url) as other:
        fill(store, 6)
        new = make_key()
        monkeypatch.setenv(VARIABLE, f"{new} {key}")
        rotation.rotate(store, **SILENT)
        monkeypatch.setenv(VARIABLE, key)
        before = store.newest_change()
        refuse(lambda: other.add(Prompt(origin="real", payload=Payload(text="late"))), "missing")
        refuse(lambda: other.get("p0001"), "needs key", field="metadata")
        assert store.newest_change() == before


def test_writers_and_readers_go_on_during_a_rotation(url, tmp_path, monkeypatch):  # noqa: F811
    path = tmp_path / "keys"
    write_key(path)
    monkeypatch.setenv(VARIABLE, f"file:{path}")
    monkeypatch.setattr(rotation, "BATCH", 5)
    faults, added, ended = [], [], threading.Event()
    with make_store(url, tmp_path) as store, open_store(url) as other:
        fill(store, 60)

        def work():
            try:
                while not ended.is_set() or len(added) < 20:
                    one = f"w{len(added):04}"
                    payload = Payload(text=one, content=one.encode(), media_type="text/plain")
                    other.add(Document(id=one, origin="real", payload=payload))
                    added.append(one)
                    assert other.get("p0005").payload.text == "said 5"
                    assert other.read_blob(other.get(one).payload) == one.encode()
            except Exception as error:
                faults.append(error)

        writer = threading.Thread(target=work)
        writer.start()
        write_key(path)
        rotation.rotate(store, **SILENT)
        assert added and not faults
        ended.set()
        writer.join()
        assert not faults and find_key_ids(store) == {read_keys()[0].id}
        assert check(store) == [] and store.count("id:w", kind="document") == len(added)


def test_a_damaged_value_is_said_and_the_old_key_stays(url, tmp_path, monkeypatch, key):  # noqa: F811
    with make_store(url, tmp_path) as store:
        fill(store)
        garble(store, lambda old: old[:-4], one="p0007")
        new, lines = make_key(), []
        monkeypatch.setenv(VARIABLE, f"{new} {key}")
        refuse(lambda: rotation.rotate(store, lines.append), "1 values", field="rotate")
        assert len(lines) == 1 and "p0007" in lines[0] and "text" in lines[0]
        assert store.get("p0008").payload.text == "said 8" and store.guard.plan.older
        store.erase("p0007")
        rotation.rotate(store, lines.append)
        assert len(lines) == 1 and store.guard.plan.older == ()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_rotation_killed_at_random_moments_loses_nothing(kind, tmp_path, monkeypatch, request):
    """Killed with SIGKILL at 20 moments, while a writer adds; each time it goes on to the end."""
    place = make_place(kind, request, tmp_path)
    path = tmp_path / "keys"
    write_key(path)
    monkeypatch.setenv(VARIABLE, f"file:{path}")
    draw, added, mixed, ended = random.Random(7), [], 0, threading.Event()
    faults: list[Exception] = []
    with make_store(place, tmp_path) as store, open_store(place) as other:
        fill(store, 500)
        before = {one.id: one for one in store.select(limit=5000)}

        def work():
            try:
                while not ended.is_set():
                    one = f"w{len(added):05}"
                    other.add(Prompt(id=one, origin="real", payload=Payload(text=one)))
                    added.append(one)
                    time.sleep(0.02)
            except Exception as error:
                faults.append(error)

        writer = threading.Thread(target=work)
        writer.start()
        try:
            for _ in range(MOMENTS):
                write_key(path)
                command = [sys.executable, "-m", "tests.store.rotating", place]
                process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                assert process.stdout.readline() == "begins\n"
                time.sleep(draw.uniform(0, 0.6))
                process.kill()
                process.wait()
                process.stdout.close()
                mixed += len(find_key_ids(store)) > 1
                newest = read_keys()[0].id
                with open_store(place) as again:
                    if again.guard.plan.key != newest or again.guard.plan.older:
                        rotation.rotate(again, **SILENT)
                assert not faults, faults
                assert find_key_ids(store) == {newest}
        finally:
            ended.set()
            writer.join()
        assert not faults and mixed >= MOMENTS // 2
        found = {one.id: one for one in store.select(limit=100_000)}
        assert {one: found[one] for one in before} == before
        assert all(found[one].payload.text == one for one in added) and len(added) > MOMENTS
        assert check(store) == []
