"""Compare the speed of a served run with sampling without a server and with transformers.

    python -m benchmarks.serve RUN_DIR [--clients 1 4 16 64] [--requests 4] [--tokens 256]

prints a JSON line for each number of clients, each of which sends requests one after another:

- ``tokens_s``, the tokens per second of the server, ``sample_s``, those of the compiled loop of
  ``genjax sample`` at that batch size, and ``share``, the first divided by the second;
- ``first_p50_ms`` and ``first_p95_ms``, the time to the first token of a stream;
- ``peer_s``, the tokens per second of ``transformers.generate`` for a GPT-2 of the same size behind
  a Starlette application that handles one request at a time (torch, eager), and ``ratio``,
  ``peer_s`` divided by ``tokens_s``.

The first line gives the time that the server takes to start, and the last line its memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import jax

import genjax
from genjax.evaluation.judge import SAMPLES
from genjax.runs.run import Run

PROMPT = "The "
ROUNDS = 3


def main() -> None:
    """Measure the speeds and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, default=4, help="of each client")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        serve_peer(options.run, int(options.peer))
        return
    run = genjax.load(options.run)
    most = str(max(options.clients))
    command = ["-m", "genjax", "serve", f"run={options.run}", "--port", "0", "--warm"]
    begin = time.perf_counter()
    with started([*command, "--batch", most, "--queue", "1000"]) as (process, port):
        ask(port, 2)
        start_s = time.perf_counter() - begin
        print(json.dumps({"start_s": round(start_s, 1), "load": os.getloadavg()[0]}))
        found = {n: measure(port, n, options.requests, options.tokens) for n in options.clients}
        memory = read_memory(process.pid)
    peers: dict[int, float] = {}
    if not options.no_peer:
        with started(["-m", "benchmarks.serve", options.run, "--peer", "1"]) as (_, port):
            for n in options.clients[:3]:
                peers[n] = measure(port, n, 1, options.tokens)["tokens_s"]
    for n, row in found.items():
        row["sample_s"] = draw_without_server(run, n, options.tokens)
        row["share"] = row["tokens_s"] / row["sample_s"]
        if n in peers:
            row |= {"peer_s": peers[n], "ratio": peers[n] / row["tokens_s"]}
        print(json.dumps({"clients": n} | {k: round(v, 3) for k, v in row.items()}))
    print(json.dumps({"memory_mb": round(memory), "load": os.getloadavg()[0]}))


class started:
    """A context manager that runs a server in a separate process and returns it with its port."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __enter__(self) -> tuple[subprocess.Popen[str], int]:
        self._process = subprocess.Popen(
            [sys.executable, *self._command], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(r"http://127.0.0.1:(\d+)", line)
            if found:
                return self._process, int(found[1])
        raise RuntimeError("the server did not start")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


def ask(port: int, tokens: int, seed: int = 0, kept: HTTPConnection | None = None) -> float:
    """Request a text and return the seconds to its first token."""
    connection = kept or HTTPConnection("127.0.0.1", port)
    body = {"model": "run", "prompt": PROMPT, "max_tokens": tokens, "seed": seed, "stream": True}
    begin = time.perf_counter()
    connection.request(
        "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.readline()
    first = time.perf_counter() - begin
    answer.read()
    return first


def measure(port: int, clients: int, requests: int, tokens: int) -> dict[str, float]:
    """Measure the server with several clients that send requests one after another.

    Returns the tokens per second in the best round, and the milliseconds to the first token.
    """
    firsts: list[float] = []

    def loop(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        for i in range(requests):
            firsts.append(ask(port, tokens, number * requests + i, connection))
        connection.close()

    best = 0.0
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(loop, range(clients)))  # this compiles the loops
        firsts.clear()
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            list(pool.map(loop, range(clients)))
            took = time.perf_counter() - begin
            best = max(best, clients * requests * tokens / took)
    ordered = sorted(firsts)
    return {
        "tokens_s": best,
        "first_p50_ms": 1000 * statistics.median(ordered),
        "first_p95_ms": 1000 * ordered[int(0.95 * (len(ordered) - 1))],
    }


def draw_without_server(run: Run, rows: int, tokens: int) -> float:
    """Return the tokens per second of the compiled loop of ``genjax sample``."""
    sampler = dataclasses.replace(run.family.sampler, steps=tokens, stop=(), prompt=PROMPT)
    request, state = run.prepare_drawing(sampler)
    draw = run.layout.compile_evaluation(type(run.family).sample, static_argnums=(0, 3, 4))
    key = jax.random.fold_in(jax.random.key(0), SAMPLES)
    jax.block_until_ready(draw(run.family, state, key, rows, request))
    best = 0.0
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        jax.block_until_ready(draw(run.family, state, key, rows, request))
        best = max(best, rows * tokens / (time.perf_counter() - begin))
    return best


def read_memory(process: int) -> float:
    """Return the resident memory of a process, in MiB."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return 0.0 if found is None else int(found[1]) / 1024


def serve_peer(run_dir: str, threads: int) -> None:
    """Serve ``transformers.generate`` for a GPT-2 of the run's size, one request at a time."""
    import asyncio
    import socket

    import torch
    import transformers
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    run = genjax.load(run_dir)
    net, vocabulary = run.family.net, run.spec.vocabulary
    assert vocabulary is not None
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_positions=4096,
        n_embd=net.width,
        n_layer=net.layers,
        n_head=net.heads,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    lock = threading.Lock()

    def draw(tokens: int) -> None:
        given = torch.zeros((1, len(PROMPT)), dtype=torch.long)
        with lock, torch.no_grad():
            model.generate(given, do_sample=True, max_new_tokens=tokens, min_new_tokens=tokens)

    async def complete(request: Request) -> StreamingResponse:
        body = await request.json()
        await asyncio.to_thread(draw, body["max_tokens"])

        def events() -> Iterator[bytes]:
            yield b"data: {}\n\n"

        return StreamingResponse(events())

    opened = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{opened.getsockname()[1]}", flush=True)
    app = Starlette(routes=[Route("/v1/completions", complete, methods=["POST"])])
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[opened])


if __name__ == "__main__":
    main()
