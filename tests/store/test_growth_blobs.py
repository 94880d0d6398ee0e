"""Blobs in a bucket: an S3 server of tests; and names of blobs that lead elsewhere."""

import json
import os
import sqlite3
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genjax.cli.store.command import store_command
from genjax.errors import UserError
from genjax.store.blobs import Blobs
from genjax.store.bulk import add_table, make_schema
from genjax.store.importing import import_file
from genjax.store.maintenance import backup, check, copy_store, restore
from genjax.store.opening import open_store
from genjax.store.records import Payload, Prompt

SECRET = "very-secret-key"
EVIL = [
    "../../etc/passwd",
    "..",
    "/etc/passwd",
    "a" * 63,
    "A" * 64,
    "a" * 64 + "/",
    "a" * 64 + "\n",
]


def put(store, content, **rest):
    payload = Payload(content=content, media_type="text/plain")
    (one,) = store.add(Prompt(origin="real", payload=payload, **rest))
    return one, store.get(one).payload


@pytest.fixture(scope="module")
def bucket():
    why = "a bucket needs pip install 's3fs' 'moto[server,s3]'"
    pytest.importorskip("s3fs", reason=why)
    moto = pytest.importorskip("moto.server", reason=why)
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def files(bucket, monkeypatch):
    """The file system of the bucket ``bkt``, which is empty."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": bucket,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    found = s3fs.S3FileSystem(use_listings_cache=False)
    if found.exists("bkt"):
        found.rm("bkt", recursive=True)
    found.mkdir("bkt")
    yield found
    s3fs.S3FileSystem.clear_instance_cache()


def test_bytes_in_a_bucket_are_kept_checked_and_removed(files, tmp_path):
    with open_store(str(tmp_path / "s.db"), create=True, blobs="s3://bkt/some/where") as store:
        one, payload = put(store, b"first")
        two, other = put(store, b"second" * 400_000)
        empty, nothing = put(store, b"")
        put(store, b"first")
        assert store.read_blob(payload) == b"first"
        assert store.read_blob(other) == b"second" * 400_000 and store.read_blob(nothing) == b""
        names = sorted([payload.blob, other.blob, nothing.blob])
        assert sorted(store.blobs.list()) == names
        root = "bkt/some/where"
        assert sorted(files.find(root)) == [f"{root}/{name[:2]}/{name}" for name in names]
        assert check(store) == []
        files.pipe_file(f"{root}/{payload.blob[:2]}/{payload.blob}", b"wrong")
        files.pipe_file(f"{root}/00/{'0' * 64}", b"stray")
        files.rm_file(f"{root}/{other.blob[:2]}/{other.blob}")
        faults = {fault.about: fault for fault in check(store, repair=True)}
        assert set(faults) == {payload.blob, other.blob} and not files.exists(
            f"{root}/00/{'0' * 64}"
        )
        with pytest.raises(UserError, match="damaged") as error:
            store.read_blob(payload)
        assert error.value.field == "blobs"
        with pytest.raises(UserError, match="lack"):
            store.read_blob(other)
        store.erase(two, empty)
        assert sorted(store.blobs.list()) == [payload.blob]  # one record still has it
        assert one


def test_a_store_with_a_bucket_is_backed_up_copied_and_restored(files, tmp_path):
    with open_store(str(tmp_path / "s.db"), create=True, blobs="s3://bkt/one") as store:
        one, payload = put(store, b"first")
        backup(store, tmp_path / "backup")
        with open_store(str(tmp_path / "t.db"), create=True, blobs="s3://bkt/two") as target:
            copy_store(store, target)
            assert files.cat_file(f"bkt/two/{payload.blob[:2]}/{payload.blob}") == b"first"
        files.rm("bkt/one", recursive=True)
    with open_store(str(tmp_path / "u.db"), create=True, blobs="s3://bkt/three") as target:
        restore(tmp_path / "backup", target)
        assert target.read_blob(target.get(one).payload) == b"first" and check(target) == []


def test_a_bucket_that_is_away_is_said_in_one_line(bucket, files, tmp_path, monkeypatch):
    import s3fs

    with open_store(str(tmp_path / "s.db"), create=True, blobs="s3://bkt/x") as store:
        one, payload = put(store, b"first")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        s3fs.S3FileSystem.clear_instance_cache()
        began = time.monotonic()
        for act in (
            lambda: store.read_blob(payload),
            lambda: put(store, b"second"),
            lambda: check(store),
            lambda: backup(store, tmp_path / "backup"),
        ):
            refuse(act)
        assert not (tmp_path / "backup").exists() and store.count() == 1
        refuse(lambda: store.erase(one))  # the bytes are left, and said to be
        assert store.count() == 0 and time.monotonic() - began < 60
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
        s3fs.S3FileSystem.clear_instance_cache()
        (fault,) = check(store)
        assert fault.about == payload.blob and fault.stray and check(store, repair=True) == []
        assert list(store.blobs.list()) == []


def refuse(act):
    with pytest.raises(UserError) as error:
        act()
    line = str(error.value)
    assert error.value.field == "blobs" and "\n" not in line and SECRET not in line, line
    return line


@pytest.mark.parametrize("missing", ["bucket", "keys"])
def test_wrong_buckets_and_keys_are_said_without_the_secret(files, tmp_path, monkeypatch, missing):
    import s3fs

    with open_store(str(tmp_path / "s.db"), create=True, blobs="s3://nowhere/x") as store:
        if missing == "keys":
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.delenv(name)
            monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
            s3fs.S3FileSystem.clear_instance_cache()
        refuse(lambda: put(store, b"first"))
        assert store.count() == 0


def test_keys_that_are_refused_are_said_without_the_secret(bucket, files, tmp_path, monkeypatch):
    import requests

    with open_store(str(tmp_path / "s.db"), create=True, blobs="s3://bkt/x") as store:
        requests.post(f"{bucket}/moto-api/reset-auth", data="0", timeout=10)
        try:
            line = refuse(lambda: put(store, b"first"))
        finally:
            requests.post(f"{bucket}/moto-api/reset-auth", data="inf", timeout=10)
        assert "s3://bkt/x" in line and store.count() == 0


def test_a_password_in_the_place_of_blobs_is_refused(tmp_path, capsys):
    place = f"ftp://ann:{SECRET}@host/x"
    with pytest.raises(UserError) as error:
        store_command("init", [str(tmp_path / "s.db"), "--blobs", place])
    assert error.value.field == "blobs" and SECRET not in str(error.value)
    assert SECRET not in Blobs(place).place


@pytest.mark.parametrize("name", EVIL)
def test_names_of_blobs_that_are_not_hashes_lead_nowhere(tmp_path, name):
    target = tmp_path / "blobs" / name[:2] / name
    blobs = Blobs(str(tmp_path / "blobs"))
    for act in (blobs.read, blobs.remove, blobs.has, blobs.is_whole):
        with pytest.raises(UserError) as error:
            act(name)
        assert error.value.field == "payload.blob"
    with open_store(str(tmp_path / "s.db"), create=True) as store:
        with pytest.raises(UserError) as error:
            payload = Payload(blob=name, media_type="text/plain")
            store.add(Prompt(origin="real", payload=payload))
        assert error.value.field == "payload.blob"
        row = {"origin": ["real"], "role": [""], "blob": [name], "media_type": ["text/plain"]}
        table = pa.table(row)
        with pytest.raises(UserError):
            add_table(store, "prompt", table)
        (tmp_path / "set").mkdir()
        wanted = make_schema("prompt")
        columns = {field.name: [row.get(field.name, [None])[0]] for field in wanted}
        columns |= {"id": ["x"], "time": [0], "parents": [[]], "tags": [[]]}
        pq.write_table(pa.table(columns, schema=wanted), tmp_path / "set" / "prompt.parquet")
        line = {"kind": "prompt", "id": "x", "origin": "real", "payload": {"blob": name}}
        (tmp_path / "set.jsonl").write_text(json.dumps(line) + "\n")
        for path in ("set", "set.jsonl"):
            with pytest.raises(UserError):
                import_file(store, tmp_path / path, "real", None)
        assert store.count() == 0
    assert not target.exists() or os.path.isabs(name)


def test_a_backup_with_an_evil_name_is_refused(tmp_path):
    with open_store(str(tmp_path / "s.db"), create=True) as store:
        put(store, b"first")
        backup(store, tmp_path / "backup")
        store.close()
    with sqlite3.connect(tmp_path / "backup" / "records.db") as database:
        database.execute("UPDATE records SET blob = '../../../../../etc/passwd'")
    with open_store(str(tmp_path / "t.db"), create=True) as target:
        with pytest.raises(UserError):
            restore(tmp_path / "backup", target)
        with (
            open_store(str(tmp_path / "backup" / "records.db")) as evil,
            pytest.raises(UserError) as error,
        ):
            copy_store(evil, target)
        assert error.value.field == "payload.blob" and target.count() == 0
