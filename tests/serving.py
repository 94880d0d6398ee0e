"""A server in this process for tests, and tiny runs for it to serve."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import faulthandler
import itertools
import json
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request

import genjax
from genjax import gx
from genjax.config_files import load_config
from genjax.experiment import Every, Experiment
from genjax.parallel import Devices
from genjax.serve.app import make_app
from genjax.serve.limits import Limits
from genjax.serve.running import Server, make_config
from genjax.serve.service import Service
from tests.toy import Pictures

CONTEXT = 224
FIRST_SEED = 1000


def train_tiny(experiment, run_dir):
    """A run of two steps."""
    every = Every(log=1, evaluate=0, sample=0, checkpoint=0)
    changed = dataclasses.replace(
        experiment, steps=2, batch_size=8, every=every, evaluators=(), devices=Devices(count=1)
    )
    genjax.train(changed, run_dir, quiet=True)


def train_chat(run_dir):
    """A run of conversations in bytes, after Alpaca's template."""
    net = gx.Transformer(layers=1, heads=2, width=16, context=CONTEXT)
    codec = gx.Bytes(delimiter=True)
    train_tiny(
        Experiment(
            family=gx.Autoregressive(net, sampler=gx.Decoding(steps=24, temperature=0.9)),
            data=gx.RuleResponses(size=32, test_size=16, length=CONTEXT, codec=codec),
            optimizer=gx.SGD(gx.Constant(0.01)),
            steps=2,
            batch_size=8,
        ),
        run_dir,
    )


def train_pictures(run_dir):
    """A run that draws pictures of 16 pixels."""
    train_tiny(
        Experiment(
            family=gx.VAE(latent_dim=2, coder=gx.MLPCoder(hidden=(8,))),
            data=Pictures(),
            optimizer=gx.SGD(gx.Constant(0.01)),
            steps=2,
            batch_size=8,
        ),
        run_dir,
    )


def train_config(name, run_dir):
    """The tiny form of a config."""
    train_tiny(load_config(name, tiny=True)[0], run_dir)


class Served:
    """A server on a free port; ``url`` is its own."""

    def __init__(self, places, limits=Limits(), recorder=None, token=None, drafts=(), find=None):
        self.service = Service(places, limits, recorder, token, drafts, find)
        self.service.choose_seed = self._choose_seed
        self.restart_seeds()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = Server(make_config(make_app(self.service)))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started)

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])

    def restart_seeds(self):
        """Number requests without a seed from the start, so that chance repeats in each test."""
        self._seeds = itertools.count(FIRST_SEED)

    def _choose_seed(self, seed):
        return next(self._seeds) if seed is None else seed

    def close(self):
        self._server.should_exit = True
        self._thread.join(60)
        if self._thread.is_alive():
            raise AssertionError(f"the server does not end: {self._describe()}")

    def _describe(self):
        """What all threads and the server's tasks are doing."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            for task in asyncio.all_tasks(self._loop):
                task.print_stack(file=file)
            file.seek(0)
            return file.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def idle(self):
        """Whether nothing is drawn, or waits."""
        engines = [model.engine for model in self.service.models.loaded if model.engine]
        users = sum(model.users for model in self.service.models.loaded)
        return not users and not self.service.open and not any(e.busy for e in engines)

    @property
    def active(self):
        """Texts that are being drawn."""
        return sum(m.engine.active for m in self.service.models.loaded if m.engine)

    def ask(self, path, body=None, headers=None, method=None):
        """The status, headers and body of an answer; a body is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json", **(headers or {})}
        )
        request.method = method or request.get_method()
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                return error.code, dict(error.headers), error.read()


def wait_for(holds, seconds=60):
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it does not come to hold"
        time.sleep(0.01)
