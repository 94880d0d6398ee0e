"""Processes meet before the first step; who is missing or differs is named, and nobody waits for
ever.
"""

import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from genjax.config_files import list_shared
from genjax.errors import UserError
from genjax.machine import joining, meeting
from genjax.machine.places import Place
from genjax.optim import Adam
from genjax.parallel import Devices
from tests import launched, toy

SAME = {"jax": "1.0"}


def meet(places, facts=None, seconds=3.0):
    """Let processes meet in threads; the error of each by its place in the list, or None."""
    errors = [None] * len(places)

    def run(i):
        try:
            meeting.meet(places[i], SAME if facts is None else facts[i], seconds)
        except UserError as error:
            errors[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(places))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return errors


@pytest.fixture
def address():
    return f"127.0.0.1:{launched.free_port()}"


def test_all_meet_and_the_port_is_free_again(address):
    for _ in range(2):
        assert meet([Place(address, 4, i) for i in (3, 0, 2, 1)]) == [None] * 4


def test_who_is_missing_is_named_by_number_and_host(address):
    hosts = ("a", "b", "c", "d")
    found = meet([Place(address, 4, i, hosts=hosts) for i in (0, 2)], seconds=1.0)
    assert {error.field for error in found} == {"devices.join_timeout"}
    assert all("processes 1 on b, 3 on d of 4 did not join" in str(error) for error in found)
    (error,) = meet([Place(address, 200, 0)], seconds=0.5)
    assert "processes 1, 2, 3, 4, 5, 6, 7, 8, 191 more of 200" in str(error)


def test_a_missing_process_0_is_named_with_its_address(address):
    (error,) = meet([Place(address, 2, 1)], seconds=0.5)
    assert (
        error.field == "devices.join_timeout"
        and f"process 0 did not answer at {address}" in str(error)
    )
    (error,) = meet([Place("no-such-host.invalid:9", 2, 1)], seconds=0.5)
    assert "no-such-host.invalid:9" in str(error)


def test_a_process_that_left_while_it_waited_is_missing_again(address):
    host, port = address.split(":")
    answers = []
    waiting = threading.Thread(target=lambda: answers.extend(meet([Place(address, 3, 0)])))
    waiting.start()
    end = time.monotonic() + 2
    while True:
        try:
            with socket.create_connection((host, int(port))) as left:
                left.sendall(json.dumps({"number": 1, "host": "x", "facts": {}}).encode())
            break
        except OSError:
            assert time.monotonic() < end
    assert meet([Place(address, 3, 1), Place(address, 3, 2)]) == [None, None]
    waiting.join()
    assert answers == [None]


def test_other_programs_do_not_disturb(address):
    host, port = address.split(":")
    talks = [b"GET / HTTP/1.1\r\n\r\n", b"\n", b"[]\n", b'{"number": true}\n', b"\xff" * 70_000]
    strangers = []

    def disturb():
        for talk in talks:
            for _ in range(100):
                try:
                    strangers.append(socket.create_connection((host, int(port))))
                    strangers[-1].sendall(talk)
                    break
                except OSError:
                    time.sleep(0.01)

    other = threading.Thread(target=disturb)
    other.start()
    places = [Place(address, 2, 0)]
    guest = threading.Timer(0.5, lambda: places.extend(meet([Place(address, 2, 1)])))
    guest.start()
    assert meet(places[:1]) == [None]
    guest.join()
    other.join()
    assert places[1:] == [None] and len(strangers) == len(talks)
    for stranger in strangers:
        stranger.close()


def test_a_port_with_another_program_is_named_on_both_sides(address, monkeypatch):
    monkeypatch.setattr(meeting, "TAKEN", 0.1)
    monkeypatch.setattr(meeting, "SLACK", 0.5)
    port = address.partition(":")[2]
    with socket.create_server(("", int(port))) as taken:
        threading.Thread(target=lambda: taken.accept()[0].close(), daemon=True).start()
        first, other = meet([Place(address, 2, 0), Place(address, 2, 1)], seconds=0.5)
    assert first.field == "devices.coordinator" and port in str(first)
    assert other.field == "devices.join_timeout"


@pytest.mark.parametrize(
    ("places", "facts", "field"),
    [
        ([(3, 0), (3, 1), (3, 1)], [SAME] * 3, "devices.process_id"),
        ([(3, 0), (2, 1), (3, 2)], [SAME] * 3, "devices.processes"),
        ([(2, 0), (9, 8)], [SAME] * 2, "devices.processes"),
        ([(2, 0), (2, 1)], [SAME, {"jax": "1.1"}], "jax"),
        ([(3, 0), (3, 1), (3, 2)], [SAME, SAME, {**SAME, "genjax": "dirty"}], "genjax"),
    ],
)
def test_who_differs_is_refused_at_once_with_the_same_words_on_all(places, facts, field, address):
    begin = time.monotonic()
    errors = [error for error in meet([Place(address, *p) for p in places], facts, 5.0) if error]
    assert len(errors) >= 2 and time.monotonic() - begin < 8
    # One that comes when process 0 has already ended finds nobody.
    found = {str(error): error.field for error in errors if error.field != "devices.join_timeout"}
    assert list(found.values()) == [field]


def test_versions_tell_two_checkouts_apart(tmp_path, monkeypatch):
    found = joining.list_versions()
    assert set(joining.PACKAGES) < set(found) and "missing" not in found.values()
    (tmp_path / "genjax" / "machine").mkdir(parents=True)
    (tmp_path / "genjax" / "machine" / "joining.py").write_text("other = 1\n")
    monkeypatch.setattr(joining, "__file__", str(tmp_path / "genjax" / "machine" / "joining.py"))
    assert joining.list_versions()["genjax"] != found["genjax"]


def test_fields_that_processes_must_share_leave_out_their_places():
    one = toy.experiment(devices=Devices(coordinator="a:1", processes=2, process_id=0))
    two = toy.experiment(
        devices=Devices(coordinator="a:1", processes=2, process_id=1, join_timeout=9.0),
        data=toy.ToyData(root="there"),
    )
    assert list_shared(one) == list_shared(two)
    three = list_shared(toy.experiment(devices=one.devices, optimizer=Adam(), data=toy.ToyData()))
    changed = {name for name in three if three[name] != list_shared(one).get(name)}
    assert "optimizer.class" in changed and not any(name.startswith("data") for name in changed)


@pytest.mark.long
@pytest.mark.parametrize(
    ("more", "field"),
    [
        (["--steps", "21"], "steps"),
        (["--run-dir", "elsewhere"], "run_dir"),
        (["--data.bias", "1.0"], "data.bias"),
    ],
)
def test_processes_with_other_options_are_refused(tmp_path, more, field):
    config, port = launched.write_config(tmp_path), launched.free_port()
    run = ["train", config, "--run-dir", tmp_path / "run", "--devices.coordinator"]
    run += [f"127.0.0.1:{port}", "--devices.processes", "2", "--devices.process-id"]
    both = [launched.start(*run, 0), launched.start(*run, 1, *more)]
    for said in launched.finish(both, 2, 2):
        (line,) = said.splitlines()
        assert line.startswith(f"genjax: {field} must be the same on all processes, got ")
        assert "on process 1" in line
    assert not (tmp_path / "run").exists()


OTHER = """
import sys
from genjax.__main__ import main
from genjax.machine import joining
real = joining.find_version
joining.find_version = lambda name: "0.0.1" if name == "optax" else real(name)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.long
def test_processes_with_other_versions_are_refused(tmp_path):
    config, port = launched.write_config(tmp_path), launched.free_port()
    run = ["train", config, "--run-dir", tmp_path / "run", "--devices.coordinator"]
    run += [f"127.0.0.1:{port}", "--devices.processes", "2", "--devices.process-id"]
    other = [sys.executable, "-c", OTHER, *map(str, run), "1"]
    second = subprocess.Popen(
        other, env=launched.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for said in launched.finish([launched.start(*run, 0), second], 2, 2):
        (line,) = said.splitlines()
        assert line.startswith("genjax: optax must be the same on all processes, got ")
        assert "and 0.0.1 on process 1" in line


@pytest.mark.long
def test_a_process_that_stays_alone_ends_in_time(tmp_path):
    config, port = launched.write_config(tmp_path), launched.free_port()
    run = ["train", config, "--run-dir", tmp_path / "run", "--devices.join-timeout", "1"]
    run += ["--devices.coordinator", f"127.0.0.1:{port}", "--devices.processes", "2"]
    (said,) = launched.finish([launched.start(*run, "--devices.process-id", 0)], 2)
    assert said.startswith(f"genjax: process 1 of 2 did not join at 127.0.0.1:{port} within 1 s")
    assert said.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.long
def test_processes_that_do_not_share_the_run_directory_are_refused(tmp_path):
    """A directory of the same name on each machine."""
    config, port = launched.write_config(tmp_path), launched.free_port()
    run = ["train", config, "--run-dir", "run", "--devices.coordinator"]
    run += [f"127.0.0.1:{port}", "--devices.processes", "2", "--devices.process-id"]
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    both = [launched.start(*run, i, folder=folder) for i, folder in enumerate(folders)]
    for said in launched.finish(both, 2, 2):
        (line,) = said.splitlines()
        assert line.startswith("genjax: run_dir must be the same on all processes, got run with ")
        assert "and run without a lease on process 1" in line
    assert not list(tmp_path.glob("*/run"))


@pytest.mark.long
def test_processes_with_other_data_are_refused(tmp_path):
    """The same config whose data lie at two places, where they differ."""
    config, port = launched.write_config(tmp_path), launched.free_port()
    text = config.read_text().replace("steps=20", "steps=20, data=Placed()")
    text += (
        "\nimport dataclasses\n\n@dataclasses.dataclass(frozen=True)\nclass Placed:\n"
        "    root: str = 'a'\n\n    def open(self):\n"
        "        return toy.ToyData(bias=float(self.root == 'b')).open()\n"
    )
    config.write_text(text)
    run = ["train", config, "--run-dir", tmp_path / "run", "--devices.coordinator"]
    run += [f"127.0.0.1:{port}", "--devices.processes", "2", "--devices.process-id"]
    both = [launched.start(*run, 0), launched.start(*run, 1, "--data.root", "b")]
    for said in launched.finish(both, 2, 2):
        (line,) = said.splitlines()
        assert line.startswith("genjax: data must be the same on all processes, got toy 0.0 on ")
        assert "and toy 1.0 on process 1" in line
