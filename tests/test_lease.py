"""One process at a time trains in a run directory; a dead one's place is taken at once."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from etils import epath

from genjax.errors import UserError
from genjax.runs import lease
from genjax.runs.lease import NAME, Holder, Lease
from tests.test_train import go, rows

HOLD = """
import sys, types
package = types.ModuleType("genjax")
package.__path__ = [sys.argv[2]]
sys.modules["genjax"] = package  # without all that it imports
from etils import epath
from genjax.errors import UserError
from genjax.runs.lease import Lease
sys.stdin.readline()  # all start together
try:
    with Lease(epath.Path(sys.argv[1])):
        print("holds", flush=True)
        sys.stdin.readline()
except UserError as error:
    print(error, flush=True)
"""


def holder(**changes):
    return dataclasses.replace(Holder.here(), **changes)


def plant(run_dir, content, age=0.0):
    run_dir.mkdir(exist_ok=True)
    text = (
        content if isinstance(content, bytes) else json.dumps(dataclasses.asdict(content)).encode()
    )
    (run_dir / NAME).write_bytes(text)
    os.utime(run_dir / NAME, (time.time() - age,) * 2)


def process(run_dir):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_dir), os.path.dirname(lease.__file__)], **pipes
    )


def say(to, line="\n"):
    to.stdin.write(line)
    to.stdin.flush()


def taken(run_dir):
    with Lease(epath.Path(run_dir)):
        return json.loads((run_dir / NAME).read_text())["pid"] == os.getpid()


def test_of_many_processes_at_once_one_holds_it_and_the_others_name_it(run_dir):
    """Also where a dead process has left its lease, and a second one that died while it took
    it over.
    """
    many = [process(run_dir) for _ in range(6)]
    try:
        for _ in range(2):
            dead, claimed = holder(pid=2**22 + 1), holder(pid=2**22 + 2)
            plant(run_dir, dead)
            (run_dir / f"{NAME}.{dead.token}").write_text(json.dumps(dataclasses.asdict(claimed)))
            for one in many:
                say(one)
            said = [one.stdout.readline().strip() for one in many]
            (first,) = (one for one, line in zip(many, said, strict=True) if line == "holds")
            others = [line for line in said if line != "holds"]
            assert all(f"process {first.pid} on {socket.gethostname()}" in line for line in others)
            assert len(others) == len(many) - 1
            assert sorted(os.listdir(run_dir)) == [NAME]
            first.kill()
            for one in many:
                one.wait()
            assert taken(run_dir)  # at once
            many = [process(run_dir) for _ in range(3)]
    finally:
        for one in many:
            one.kill()
            one.communicate()


@pytest.mark.parametrize(
    "changes",
    [{"pid": 2**22 + 1}, {"started": "1"}, {"pid": 10**30}],
    ids=["dead", "its number has gone to another process", "no number of a process"],
)
def test_a_dead_process_of_this_machine_is_followed_at_once(run_dir, changes):
    plant(run_dir, holder(**changes))
    assert taken(run_dir)
    assert not run_dir.joinpath(NAME).exists()


def test_a_process_that_nobody_has_waited_for_is_dead(run_dir):
    with subprocess.Popen(["sleep", "60"]) as child:
        started = lease._read_start_time(child.pid)
        child.kill()
        while lease._read_start_time(child.pid) == started:
            time.sleep(0.01)
        plant(run_dir, holder(pid=child.pid, started=started))
        assert taken(run_dir)


@pytest.mark.parametrize(
    "where", [{"boot": "another"}, {"host": "far", "boot": "another", "pid": 1}]
)
def test_that_of_another_machine_is_kept_for_60_seconds(run_dir, where):
    plant(run_dir, holder(**where), age=50)
    with pytest.raises(UserError, match=r"seen 50 s ago.*try again in 1\d s") as error:
        taken(run_dir)
    assert error.value.field == str(run_dir / NAME)
    plant(run_dir, holder(**where), age=61)
    assert taken(run_dir)


def test_a_renewal_from_the_future_counts_from_now_on(run_dir):
    far = holder(host="far", boot="another")
    plant(run_dir, far, age=-(10**6))
    with pytest.raises(UserError, match="try again in 60 s"):
        taken(run_dir)
    assert abs(time.time() - (run_dir / NAME).stat().st_mtime) < 10
    os.utime(run_dir / NAME, (1, time.time() - 61))
    assert taken(run_dir)


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "dangling"])
def test_what_is_no_file_in_the_place_of_a_lease_is_named_at_once(run_dir, kind):
    path = run_dir / NAME
    run_dir.mkdir()
    (run_dir / "precious").write_text("precious")
    make = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(run_dir / "precious"),
        "dangling": lambda: path.symlink_to(run_dir / "nowhere"),
    }
    make[kind]()
    with pytest.raises(UserError, match="move it away") as error:
        taken(run_dir)
    assert error.value.field == str(path) and (run_dir / "precious").read_text() == "precious"
    assert sorted(os.listdir(run_dir)) == [NAME, "precious"]


def test_a_container_of_this_machine_is_seen_to_live_by_the_lock_of_its_file(run_dir):
    """Its numbers of processes mean nothing here."""
    with Lease(epath.Path(run_dir)):
        held = json.loads((run_dir / NAME).read_text()) | {"pids": "pid:[1]"}
        (run_dir / NAME).write_text(json.dumps(held))  # the same file, still locked
        os.utime(run_dir / NAME, (1, 1))
        with pytest.raises(
            UserError, match="wait for its end"
        ):  # of its age alone it would be dead
            taken(run_dir)
    plant(run_dir, holder(pids="pid:[1]"))
    assert taken(run_dir)  # not locked: at once


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[" * 10**5, b"\xff\xfe", b'{"pid": 1}', b"5", b"\0" * 2**20]
)
def test_a_damaged_lease_blocks_nobody(run_dir, content, monkeypatch):
    monkeypatch.setattr(lease, "SETTLED", 0.05)
    plant(run_dir, content)
    assert taken(run_dir)


@pytest.mark.parametrize("field", ["token", "pid", "host"])
def test_a_lease_with_odd_values_blocks_nobody_and_names_no_other_file(run_dir, field, monkeypatch):
    monkeypatch.setattr(lease, "SETTLED", 0.05)
    (run_dir.parent / "lease.json.x").write_text("precious")
    plant(run_dir, json.dumps(dataclasses.asdict(holder()) | {field: ["../lease.json.x"]}).encode())
    assert taken(run_dir)
    plant(
        run_dir,
        json.dumps(dataclasses.asdict(holder(pid=2**22 + 1)) | {"token": "../../x"}).encode(),
    )
    assert taken(run_dir)
    assert (run_dir.parent / "lease.json.x").read_text() == "precious"


def test_what_was_made_for_the_lease_alone_is_gone_afterwards(tmp_path):
    assert taken(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_holder_notices_that_another_has_taken_over_or_that_someone_tidied_up(
    run_dir, monkeypatch
):
    monkeypatch.setattr(lease, "RENEWED", 0.05)
    with Lease(epath.Path(run_dir)) as mine:
        (run_dir / NAME).unlink()
        assert not mine.lost and (run_dir / NAME).exists()
        os.utime(run_dir / NAME, (1, 1))
        for _ in range(1200):
            if (run_dir / NAME).stat().st_mtime > 1:
                break
            time.sleep(0.05)
        assert time.time() - (run_dir / NAME).stat().st_mtime < 60  # renewed
        (run_dir / NAME).unlink()
        plant(run_dir, other := holder(host="far", boot="another"))
        assert mine.lost and f"taken over by process {other.pid} on far" in str(mine.make_error())
    assert Holder.read(epath.Path(run_dir / NAME)) == other  # the other's is left alone


def test_a_bucket_without_links_and_locks_has_one_holder_too(run_dir, monkeypatch):
    monkeypatch.setattr(lease, "SETTLED", 0.2)
    run_dir.mkdir()
    path, said = epath.Path(run_dir / NAME), []

    def take(number):
        mine = holder(host=str(number))
        try:
            lease._Object(path).take(mine)
            said.append("holds")
        except UserError as error:
            said.append(str(error))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("holds") == 1 and len(said) == 4
    with pytest.raises(UserError, match="is being trained by"):
        lease._Object(path).take(holder())
    path.write_text(path.read_text().rpartition("\n")[0].rpartition("\n")[0] + "\n1.0\n")
    with pytest.raises(UserError):
        lease._Object(path).take(holder())  # its process lives here
    path.write_text(json.dumps(dataclasses.asdict(holder(pid=2**22 + 1))) + f"\n{time.time()}\n")
    lease._Object(path).take(holder())


def test_a_run_that_is_trained_already_is_refused_and_left_alone(run_dir):
    go(run_dir)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with (
        Lease(epath.Path(run_dir)),
        pytest.raises(UserError, match=f"is being trained by process {os.getpid()} on"),
    ):
        go(run_dir, steps=24)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before
    assert go(run_dir, steps=24).step == 24


def test_a_run_whose_lease_is_taken_over_stops_and_writes_no_more(run_dir, monkeypatch):
    from genjax.runs.writers import Writers

    row = Writers.write_row

    def stolen(self, step, split, numbers):
        row(self, step, split, numbers)
        if step == 7:
            (run_dir / NAME).unlink()
            plant(run_dir, holder(host="far", boot="another"))

    monkeypatch.setattr(Writers, "write_row", stolen)
    with pytest.raises(UserError, match="was taken over by process .* on far"):
        go(run_dir)
    assert rows(run_dir)[-1]["step"] == 7
    assert not list((run_dir / "checkpoints").glob("[0-9]*"))
    assert Holder.read(epath.Path(run_dir / NAME)).host == "far"


def test_a_stopped_process_of_this_machine_keeps_it(run_dir):
    with process(run_dir) as one:
        say(one)
        assert one.stdout.readline().strip() == "holds"
        one.send_signal(signal.SIGSTOP)
        os.utime(run_dir / NAME, (1, 1))
        with pytest.raises(UserError, match=f"process {one.pid} on"):
            taken(run_dir)
        one.kill()
