"""A signal ends a command in one line and at once; training remembers it until all is saved."""

import os
import signal
import subprocess
import sys
import time

import pytest

from genjax.errors import Signalled
from genjax.machine.ending import stop_promptly
from genjax.runs.stop import Stop

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in CODES}
    yield
    assert {number: signal.getsignal(number) for number in CODES} == before


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python calls the handler between two lines


@pytest.mark.parametrize("number", CODES)
def test_a_signal_is_one_line_and_a_second_one_changes_nothing(number, capfd):
    before = {n: signal.getsignal(n) for n in (number, signal.SIGINT)}
    for n, handler in before.items():
        if handler is signal.SIG_IGN:  # as under nohup, or in the background
            signal.signal(n, signal.default_int_handler if n == signal.SIGINT else signal.SIG_DFL)
    caught = []
    with stop_promptly() as ended:
        try:
            send(number)
        except (KeyboardInterrupt, Signalled) as error:
            caught.append(error)
        send(number)
        send(signal.SIGINT)
    for n, handler in before.items():
        signal.signal(n, handler)
    assert ended.code == CODES[number] and len(caught) == 1
    assert number == signal.SIGINT or caught[0].code == ended.code
    assert capfd.readouterr().err == f"genjax: ended by {number.name}; what is done is kept\n"


@pytest.mark.parametrize("heeding", [stop_promptly, Stop])
def test_a_hang_up_that_nohup_has_ignored_stays_so(heeding, capfd):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heeding() as stopped:
            send(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert (stopped.code if heeding is stop_promptly else stopped.signal) is None
    finally:
        signal.signal(signal.SIGHUP, before)
    assert capfd.readouterr().err == ""


@pytest.mark.long
@pytest.mark.parametrize(
    "numbers", [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)]
)
def test_a_preparation_ends_by_a_signal_at_any_time_and_goes_on(tmp_path, numbers):
    path = os.pathsep.join([os.getcwd(), *sys.path])
    command = [sys.executable, "-m", "genjax", "data", "prepare", "prepare_books", "--tiny"]
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": path}, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    stages = tmp_path / "prepared" / "prepare_books_tiny" / "stages"
    for stage in ("00", "03", "06"):
        process = subprocess.Popen(command, **options, **pipes)
        process.stdout.readline()  # it has started: from now on it heeds signals in its own way
        deadline = time.monotonic() + 300
        while not list(stages.glob(f"{stage}*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        for number in numbers:
            process.send_signal(number)
        _, said = process.communicate(timeout=300)
        assert process.returncode == CODES[numbers[0]], said
        lines = [line for line in said.splitlines() if "files skipped" not in line]
        assert lines == [f"genjax: ended by {numbers[0].name}; what is done is kept"]
        with pytest.raises(ProcessLookupError):  # no child of its group is left
            os.killpg(process.pid, 0)
    again = subprocess.run(command, **options, capture_output=True, check=True)
    assert "00_read: done before" in again.stdout and "manifest" in again.stdout
