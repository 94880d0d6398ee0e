"""Of several processes one that is alone says so, and ends, in one line."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from genjax.machine import peers

SAYING = """
import ctypes, os, sys
from genjax.machine import peers
from genjax.machine import streams
streams.guard()
peers.Watch()
print("of Python", file=sys.stderr)
os.write(2, b"E1 preemption_sync_manager.cc:147] warns\\n")
os.write(2, b"of a library\\n")
"""
ABORTS = "ctypes.CDLL(None).abort()"
FATAL = (
    'os.write(2, b"F1 client.h:80] the JAX distributed service detected fatal errors\\nmore\\n")\n'
)
WAITS = """
from genjax import parallel
from genjax.machine import meeting
meeting.PATIENCE = 0.1
parallel.start(parallel.Devices(coordinator="127.0.0.1:{port}", processes=3, process_id={number}))
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def started(*command):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", *sys.path])}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True
    )


def ended(process, code):
    said = process.communicate(timeout=300)[1]
    assert process.returncode == code, said
    return said.splitlines()


def test_what_libraries_say_is_shown_unless_the_peers_are_gone():
    goes_on, alone = started("-c", SAYING), started("-c", SAYING + FATAL + ABORTS)
    shown = ["of Python", "of a library"]
    assert ended(goes_on, 0) == [*shown, "E1 preemption_sync_manager.cc:147] warns"]
    assert ended(alone, 2) == [*shown, f"genjax: {peers.LINE}"]


@pytest.mark.long
def test_an_abort_of_another_reason_keeps_what_it_said():
    said = ended(started("-c", SAYING + 'os.write(2, b"a fault\\n")\n' + ABORTS), -signal.SIGABRT)
    assert said == ["of Python", "of a library", "a fault"]


def test_who_is_started_alone_says_for_whom_it_waits():
    port = free_port()
    first, other = (started("-c", WAITS.format(port=port, number=number)) for number in (0, 2))
    try:
        assert f"{port} as process 0 of 3 for process" in first.stderr.readline()
        assert f"{port} as process 2 of 3 for process 0 and all others\n" in other.stderr.readline()
    finally:
        for process in (first, other):
            process.kill()
            process.communicate()


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_process_ends_the_other_in_one_line(tmp_path, victim):
    command = ["-m", "genjax", "train", "vae_digits", "--tiny", "--steps", "1000000"]
    command += ["--run-dir", str(tmp_path / "run"), "--devices.processes", "2"]
    command += ["--devices.coordinator", f"127.0.0.1:{free_port()}", "--devices.process-id"]
    processes = [started(*command, str(number)) for number in range(2)]
    rows, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 300
    while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[victim].kill()
    begin = time.monotonic()
    *before, last = ended(processes[1 - victim], 2)
    assert last == f"genjax: {peers.LINE}"
    usual = ("step ", "waiting at ")  # a busy machine starts the two more than 15 s apart
    assert not [line for line in before if not line.startswith(usual)]
    assert time.monotonic() - begin < 20
    processes[victim].communicate()
