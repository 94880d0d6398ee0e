"""Children answer in order, hand on errors, end with their work, and give up in one line."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from genjax.data.text.codecs import Characters, Unencodable
from genjax.errors import UserError
from genjax.machine.children import spread


def test_results_come_in_order_from_other_processes():
    assert list(spread(abs, range(-50, 0), 2)) == list(range(50, 0, -1))
    owners = set(spread(os.getpgid, [0, 0, 0, 0], 2))
    assert owners == {os.getpgid(0)}  # they get the terminal's signals with their parent
    assert len({os.getpid(), *spread(eval, ["__import__('os').getpid()"] * 8, 2)}) == 3


def test_items_are_taken_only_as_they_are_needed():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = spread(abs, items(), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 3 + 2 * 2
    results.close()


def test_what_the_function_raises_comes_back_whole():
    with pytest.raises(Unencodable) as error:
        list(spread(Characters("ab").encode, ["ab", "abca"], 1))
    assert error.value.at == 2 and error.value.shift(5, "here").at == 7
    with pytest.raises(ZeroDivisionError):
        list(spread(eval, ["1", "1 / 0"], 1))


def test_a_killed_child_is_one_clear_line():
    with pytest.raises(UserError, match="was killed"):
        list(spread(eval, ["1", "__import__('os').kill(__import__('os').getpid(), 9)"], 1))


def test_what_cannot_be_sent_is_computed_here():
    assert list(spread(lambda x: os.getpid(), [1, 2], 2)) == [os.getpid()] * 2


def test_what_a_function_prints_is_no_answer(capfd):
    assert list(spread(print, ["words"], 1)) == [None]
    assert "words" in capfd.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_children_end_with_their_parent(tmp_path: Path, how):
    script = tmp_path / "script.py"
    script.write_text(
        "import signal\n"
        "from genjax.machine.children import spread\n"
        # A shell's background job starts with SIGINT ignored, and so do its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "items = (\"__import__('os').getpid()\" for _ in range(10**9))\n"
        "for pid in spread(eval, items, 2):\n"
        "    print(pid, flush=True)\n",
        encoding="utf-8",
    )
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(how)
        late = threading.Timer(60, parent.kill)
        late.start()
        parent.stdout.read()
        late.cancel()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
