"""The server ends in bounded time, whatever its clients, the device or the store are doing."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from genjax.errors import UserError
from genjax.serve import service as services
from genjax.serve.device import Device
from genjax.serve.limits import Limits
from genjax.serve.models import Models
from genjax.serve.recording import Recorder
from genjax.serve.service import Service
from genjax.store.opening import open_store
from tests import serving

WITHIN = 10  # seconds in which the server must have ended
LONG = {"model": "chat", "prompt": "a", "max_tokens": 4096, "seed": 1}


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(services, "ENDING", 1.0)


def write(body, extra=b""):
    data = json.dumps(body).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(data) + data + extra


CLIENTS = {
    "silent": b"",
    "half a line": b"POST /v1/comp",
    "half a head": b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n",
    "half a body": write(LONG)[:-20],
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "waits for its answer": write(LONG),
    "does not read its stream": write(LONG | {"n": 8, "stream": True, "logprobs": 20}),
    "many texts": write(LONG | {"n": 100}),
    "two at once": write(LONG) + write(LONG | {"stream": True}),
    "keeps alive": b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
}


def end(served):
    """The seconds until the server has ended."""
    begin = time.monotonic()
    served.close()
    return time.monotonic() - begin


def test_the_server_ends_with_clients_that_neither_read_nor_leave(chat_run):
    served = serving.Served([f"chat={chat_run}"], Limits(batch=4, patience=60))
    assert served.ask("/v1/completions", LONG | {"max_tokens": 2})[0] == 200
    address = ("127.0.0.1", int(served.url.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        for said in CLIENTS.values():
            client = stack.enter_context(socket.create_connection(address))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(said)
        serving.wait_for(lambda: served.active == 4)
        assert end(served) < WITHIN
    assert not served.service.device._thread.is_alive()


class Stuck:
    """A run that does not finish loading before ``go`` is set."""

    def __init__(self):
        self.go, self.began = threading.Event(), threading.Event()

    def open(self, models, name):
        self.began.set()
        self.go.wait(60)
        raise UserError("it never came", "run")


def test_the_server_ends_while_a_run_is_loading(chat_run, monkeypatch):
    stuck = Stuck()
    monkeypatch.setattr(Models, "open", lambda *given: stuck.open(*given))
    served = serving.Served([f"chat={chat_run}"], Limits(batch=1))
    thread = threading.Thread(target=ask, args=(served, LONG))
    thread.start()
    assert stuck.began.wait(120)
    assert end(served) < WITHIN
    stuck.go.set()
    thread.join(60)
    assert not thread.is_alive()


def ask(served, body):
    with contextlib.suppress(OSError, ValueError):
        served.ask("/v1/completions", body)


def test_the_server_ends_when_a_thread_cannot_wake_its_loop(chat_run, monkeypatch):
    """As when other code of the process has closed the loop's own descriptor."""
    served = serving.Served([f"chat={chat_run}"], Limits(batch=1))
    monkeypatch.setattr(served._loop, "_write_to_self", lambda: None)
    assert end(served) < WITHIN


def test_the_server_ends_while_the_device_is_at_work(chat_run, impatient, capfd):
    served = serving.Served([f"chat={chat_run}"], Limits(batch=1))
    release = threading.Event()
    running = served.service.device.submit(lambda: release.wait(60))
    waiting = served.service.device.submit(lambda: 1)
    try:
        thread = threading.Thread(target=ask, args=(served, LONG))
        thread.start()
        assert end(served) < WITHIN
        assert "still at work" in capfd.readouterr().err
        with pytest.raises(RuntimeError, match="the server ends"):
            served.service.device.submit(lambda: 2).result(1)
    finally:
        release.set()
    assert running.result(10) and served.service.device.close(10)
    assert waiting.cancelled()
    thread.join(60)


class Away:
    """A store that takes what it is given, and never returns."""

    def __init__(self, store):
        self._store, self.called, self.go = store, threading.Event(), threading.Event()

    def writing(self):
        self.called.set()
        self.go.wait(60)
        return self._store.writing()

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_the_server_ends_while_the_store_does_not_answer(chat_run, tmp_path, impatient, capfd):
    with open_store(str(tmp_path / "talk.db"), create=True) as store:
        away = Away(store)
        served = serving.Served([f"chat={chat_run}"], Limits(batch=1), Recorder(away))
        try:
            said = json.loads(served.ask("/v1/completions", LONG | {"max_tokens": 2})[2])
            assert said["stored"] is False and away.called.is_set()
            assert end(served) < WITHIN
            assert "the store does not answer" in capfd.readouterr().err
        finally:
            away.go.set()


def test_a_service_may_be_closed_twice(chat_run, tmp_path):
    recorder = Recorder(open_store(str(tmp_path / "talk.db"), create=True))
    service = Service([f"chat={chat_run}"], Limits(batch=1), recorder)
    begin = time.monotonic()
    service.close()
    service.close()
    assert time.monotonic() - begin < WITHIN


class Failing:
    """An engine that can neither draw nor clean up."""

    busy = True

    def __init__(self):
        self.steps = 0

    def step(self):
        self.steps += 1
        raise RuntimeError("no memory")

    def fail(self, error):
        raise RuntimeError("no memory for that either")


def test_an_engine_that_cannot_clean_up_does_not_end_the_device(capfd):
    device, engine = Device(), Failing()
    device.attach(engine)
    assert device.submit(lambda: 3).result(10) == 3
    assert device.submit(lambda: 4).result(10) == 4
    assert engine.steps == 1 and device.close(10)
    assert "no memory for that either" in capfd.readouterr().err


class Waiting:
    """An engine that is busy until it fails."""

    def __init__(self):
        self.failed = Future()

    @property
    def busy(self):
        return not self.failed.done()

    def step(self):
        time.sleep(0.001)

    def fail(self, error):
        self.failed.set_result(error)


def test_rows_that_are_left_at_the_end_fail(chat_run):
    device, engine = Device(), Waiting()
    device.attach(engine)
    assert device.close(10) and "ends" in str(engine.failed.result(0))

    async def generate(service):
        async with service.models.use("chat") as model, service.generate(model, [], None):
            pass

    service = Service([f"chat={chat_run}"], Limits(batch=1))
    service.close()
    with pytest.raises(Exception, match="the server ends"):
        asyncio.run(asyncio.wait_for(generate(service), 60))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_runs_are_loaded_ends_the_command(chat_run, number):
    command = [sys.executable, "-m", "genjax", "serve", f"chat={chat_run}", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--warm", "--batch", "64"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        loaded = Path(f"/proc/{process.pid}/maps")
        while (
            process.poll() is None
            and loaded.exists()
            and "jaxlib" not in loaded.read_text(encoding="utf-8", errors="replace")
        ):
            time.sleep(0.05)  # until it is past Python's own start, however busy the machine is
        time.sleep(2)
        process.send_signal(number)
        said, error = process.communicate(timeout=300)
    finally:
        process.kill()
    assert "Traceback" not in error, error
    assert re.fullmatch(r"(serving .*\n)?", said)
