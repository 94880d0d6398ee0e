"""Writers that meet, are killed, find a full disk, or may not write."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from genjax.__main__ import main
from genjax.errors import UserError
from genjax.store import engine as engines
from genjax.store.importing import import_file
from genjax.store.maintenance import check, hash_store
from genjax.store.opening import open_store
from genjax.store.records import Entity, Payload, Prompt

WRITE = """
import sys
from genjax.store.records import Entity
from genjax.store.opening import open_store
place, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open_store(place, user=name) as store:
    for first in range(0, count, 50):
        ids = (f"{name}-{number}" for number in range(first, first + 50))
        store.add(*(Entity(id=one, origin="real", name="x") for one in ids))
"""
IMPORT = """
import sys
from genjax.store.importing import import_file
from genjax.store.opening import open_store
print("ready", flush=True)
with open_store(sys.argv[1], user="importer") as store:
    import_file(store, sys.argv[2])
"""
KILLS = 12


def start(code, *words):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE)


def write_rows(path, count):
    rows = ({"prompt": f"question {i}", "completion": f"answer {i} " * 20} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.long
def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    place = tmp_path / "store.db"
    open_store(str(place), create=True).close()
    writers = [start(WRITE, place, name, 10_000) for name in ("ann", "bob")]
    assert [writer.wait(600) for writer in writers] == [0, 0]
    with open_store(str(place)) as store:
        assert store.count("id>=ann-0 id<ann.") == store.count("id>=bob-0 id<bob.") == 10_000
        assert store.count_outbox() == 20_000 and check(store) == []


@pytest.mark.long
def test_an_import_that_is_killed_goes_on_where_it_was(tmp_path):
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, 4_000)
    with open_store(str(tmp_path / "whole.db"), create=True, user="importer") as whole:
        began = time.perf_counter()
        import_file(whole, rows)
        took = time.perf_counter() - began
        wanted = {record.id for record in whole.select()}
    place = tmp_path / "store.db"
    open_store(str(place), create=True).close()
    rng, seen, early = random.Random(0), 0, 0
    for _ in range(KILLS):
        importer = start(IMPORT, place, rows)
        importer.stdout.readline()
        time.sleep(rng.random() * took / 3)  # rarely enough to finish what is left
        importer.send_signal(signal.SIGKILL)
        importer.wait()
        importer.stdout.close()
        with open_store(str(place)) as store:
            found = store.count()
            assert found >= seen and found % 2 == 0 and check(store) == []
            assert store.count_outbox() == found  # each once
            seen, early = found, early + (found < len(wanted))
        if found == len(wanted):
            break
    assert early > 1
    with open_store(str(place), user="importer") as store:
        import_file(store, rows)
        assert {record.id for record in store.select()} == wanted
        assert store.count_outbox() == len(wanted)


def test_a_write_that_fails_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    with open_store(str(tmp_path / "store.db"), create=True) as store:
        store.add(Entity(origin="real", name="x"))
        before = hash_store(store)

        def fail(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(type(store), "_note", fail)
        with pytest.raises(KeyboardInterrupt):
            store.add(Entity(origin="real", name="y"), Entity(origin="real", name="z"))
        monkeypatch.undo()
        assert hash_store(store) == before and store.count_outbox() == 1
        store.add(Entity(origin="real", name="y"))


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path):
    with open_store(str(tmp_path / "store.db"), create=True) as store:
        with store.writing() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        before = hash_store(store)

        def limit(connection, _):
            connection.execute(f"PRAGMA max_page_count = {pages + 20}")

        engines.event.listen(store.engine, "connect", limit)
        store.engine.dispose()
        with pytest.raises(UserError, match="full") as error:
            store.add(*(Prompt(origin="real", payload=Payload(text="x" * 9000)) for _ in range(50)))
        assert error.value.field == "store" and "\n" not in str(error.value)
        assert hash_store(store) == before


def test_a_store_that_can_only_be_read_is(tmp_path):
    place = tmp_path / "store.db"
    with open_store(str(place), create=True) as store:
        store.add(Entity(origin="real", name="x"))
    with open_store(str(place), read_only=True) as store:
        assert store.count() == 1
        with pytest.raises(UserError, match="can only be read") as error:
            store.add(Entity(origin="real", name="y"))
        assert error.value.field == "store"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become someone else")
def test_a_store_in_a_closed_folder_can_be_read():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        read_as_nobody(Path(folder) / "closed" / "store.db")


def read_as_nobody(place):
    with open_store(str(place), create=True) as store:
        store.add(Entity(origin="real", name="x"))
    for folder in (place.parent, place.parent.parent):
        folder.chmod(0o755)
    code = """
import os, sys
from genjax.errors import UserError
from genjax.store.records import Entity
from genjax.store.opening import open_store
os.setuid(65534)
with open_store(sys.argv[1]) as store:
    print(store.count())
    try:
        store.add(Entity(origin="real", name="y"))
    except UserError as error:
        print(error)
"""
    found = subprocess.run(
        [sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=False
    )
    lines = found.stdout.splitlines()
    assert lines and lines[0] == "1" and "can only be read" in lines[1], found.stderr


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "path or URL"),
        ("mysql://host/db", "sqlite:// or postgresql://"),
        ("nodb+x://host", "sqlite:// or postgresql://"),
        ("sqlite://", "name a file"),
        ("postgresql+nodriver://host/db", "no driver"),
        ("postgresql+psycopg2://host/db", "package psycopg2"),
        ("postgresql://nobody:secret@127.0.0.1:1/db", "is away"),
        ("missing.db", "does not exist"),
        ("missing/store.db", "does not exist"),
        ("text.db", "damaged, or not a store"),
        ("folder", "is a folder"),
        ("other.db", "store init"),
        ("a\0b", "path or URL"),
    ],
)
def test_a_store_that_cannot_be_opened_is_named(tmp_path, monkeypatch, url, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.db").write_text("this is a text that is not a database" * 100)
    (tmp_path / "folder").mkdir()
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE theirs (id)")
    with pytest.raises(UserError, match=what) as error:
        open_store(url)
    assert error.value.field == "store" and "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "other.db", "text.db"]


def test_commands_refuse_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["store", "init", "s.db"]) == 0
    capsys.readouterr()
    for words in (
        ["bake", "s.db"],
        ["show"],
        ["show", "s.db", "nobody"],
        ["show", "s.db", "--kind", "cake"],
        ["show", "s.db", "--filter", "a=(", "--kind", "prompt"],
        ["add", "s.db", "{"],
        ["add", "s.db", "{}"],
        ["add", "s.db", '{"kind": "entity", "origin": "real", "name": 5}'],
        ["import", "s.db"],
        ["import", "s.db", "--sql", "sqlite:///x"],
        ["import", "s.db", "x.jsonl", "--sql", "sqlite:///x", "--query", "SELECT 1"],
        ["export", "s.db", "out.csv"],
        ["export", "s.db", "out.jsonl", "--filter", "nothing=1"],
        ["lineage", "s.db", "nobody"],
        ["score", "s.db"],
        ["score", "s.db", "--reward", "nowhere:nothing"],
        ["tag", "s.db", "nobody", "--add", "x"],
        ["delete", "s.db", "nobody"],
        ["delete", "s.db", "x", "--undo", "--erase"],
        ["restore", "t.db", "s.db"],
        ["copy", "s.db", "s.db"],
        ["migrate", "missing.db"],
        ["backup", "s.db", "s.db"],
        ["init", "s.db", "--blobs", "elsewhere"],
        ["search", "s.db", ""],
    ):
        try:
            code = main(["store", *words])
        except SystemExit as stop:  # an option of another type
            code = stop.code
        assert code == 2, words
        if words[:1] != ["show"]:
            assert len(capsys.readouterr().err.splitlines()) == 1, words
        capsys.readouterr()
