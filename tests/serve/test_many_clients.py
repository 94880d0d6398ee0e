"""Many at once: queues, models that come and go, the end of the server."""

import asyncio
import collections
import json
import os
import re
import signal
import subprocess
import sys

import pytest
import sqlalchemy as sa

from genjax import __main__ as command_line
from genjax.errors import UserError
from genjax.serve.limits import Limits
from genjax.serve.service import Service
from genjax.store import schema
from genjax.store.opening import open_store
from tests import serving

TEXT = {"model": "chat", "prompt": "a", "max_tokens": 24, "seed": 1}


async def post(port, body):
    """The status of an answer, 0 if the connection broke, and its body."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = json.dumps(body).encode()
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1]), answer
    except (OSError, IndexError):
        return 0, b""


@pytest.mark.long
def test_a_thousand_clients_get_an_answer_or_are_told_to_come_back(chat_run):
    with serving.Served([f"chat={chat_run}"], Limits(batch=16, queue=64)) as served:
        port = int(served.url.rpartition(":")[2])
        assert served.ask("/v1/completions", TEXT)[0] == 200

        async def all_at_once():
            return await asyncio.gather(*(post(port, TEXT) for _ in range(1000)))

        answers = asyncio.run(all_at_once())
        counts = collections.Counter(status for status, _ in answers)
        assert set(counts) == {200, 429} and counts[200] >= 64
        texts = {
            json.loads(body.partition(b"\r\n\r\n")[2])["choices"][0]["text"]
            for status, body in answers
            if status == 200
        }
        assert len(texts) == 1  # whoever was drawn beside it
        refused = next(body for status, body in answers if status == 429)
        assert b"retry-after: 1" in refused.lower() and b"rate_limit" in refused
        serving.wait_for(lambda: served.idle)
        assert served.ask("/healthz")[0] == 200


def test_runs_are_loaded_on_demand_and_the_idle_leave_when_there_is_no_room(chat_run):
    names = "abcdef"
    limits = Limits(batch=1, prefixes=8, memory=1)

    async def use_all(service):
        async with service.models.use("a") as held:
            for name in names[1:]:
                async with service.models.use(name) as model:
                    assert model.name == name and model.size < limits.memory_bytes
            loaded = [model.name for model in service.models.loaded]
            assert held.name in loaded  # it works
        async with service.models.use("b"):
            pass
        return loaded, [model.name for model in service.models.loaded]

    service = Service([f"{name}={chat_run}" for name in names], limits)
    assert not service.models.loaded
    first, last = asyncio.run(use_all(service))
    size = sum(model.size for model in service.models.loaded)
    service.close()
    assert first[0] == "a" and first[-1] == "f" and len(first) < len(names)
    assert last[-1] == "b" and size <= limits.memory_bytes


def test_a_run_that_has_no_room_at_all_is_refused(chat_run):
    limits = Limits(batch=1024, prefixes=0, memory=1)
    with serving.Served([f"chat={chat_run}"], limits) as served:
        status, _, said = served.ask("/v1/completions", TEXT)
        assert status == 503 and "MB" in json.loads(said)["error"]["message"]


def test_a_token_is_asked_for(chat_run):
    with serving.Served([f"chat={chat_run}"], Limits(batch=1), token="sesame") as served:
        status, _, said = served.ask("/v1/models")
        assert status == 401 and json.loads(said)["error"]["type"] == "authentication_error"
        assert served.ask("/v1/models", headers={"Authorization": "Bearer sesame"})[0] == 200
        assert served.ask("/healthz")[0] == 200


def test_what_is_counted_can_be_scraped(served):
    served.ask("/v1/completions", TEXT)
    said = served.ask("/metrics")[2].decode()
    found = re.search(r'genjax_requests_total\{path="/v1/completions",status="200"\} (\S+)', said)
    assert float(found[1]) >= 1 and "genjax_slots_active 0" in said


def test_two_runs_of_one_name_are_refused(chat_run):
    with pytest.raises(UserError) as error:
        Service([str(chat_run), str(chat_run)])
    assert error.value.field == "run"


def start(chat_run, *options):
    """A server in a process of its own, and its port."""
    command = [sys.executable, "-m", "genjax", "serve", f"chat={chat_run}", "--port", "0"]
    process = subprocess.Popen(
        [*command, *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    assert "serving chat" in line, process.communicate(timeout=300)
    return process, int(re.search(r":(\d+)/v1", line)[1])


@pytest.mark.long
def test_a_signal_ends_the_server_after_what_it_is_doing(chat_run, tmp_path):
    process, port = start(chat_run, "--store", tmp_path / "talk.db")
    try:

        async def end_during_an_answer():
            assert (await post(port, TEXT))[0] == 200
            long = asyncio.create_task(post(port, TEXT | {"max_tokens": 4000}))
            while b"genjax_slots_active 1" not in (await scrape(port)):
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            refused = await post(port, TEXT)
            return await long, refused

        (status, body), (refused, said) = asyncio.run(end_during_an_answer())
        assert process.wait(300) == 0
    finally:
        process.kill()
    answer = json.loads(body.partition(b"\r\n\r\n")[2])
    assert status == 200 and answer["stored"] is True
    assert refused == 503 and b"the server ends" in said
    with open_store(str(tmp_path / "talk.db")) as store:
        record = store.get(answer["choices"][0]["record"], "any")
        assert record.payload.text == answer["choices"][0]["text"]


async def scrape(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return await reader.read()


async def ask_and_leave(port, number, stored):
    """Ask, and leave in the middle of some answers; ids that are said to be stored are added."""
    body = {"model": "chat", "prompt": f"request {number}", "max_tokens": 1 + number % 40}
    if number % 3:
        status, answer = await post(port, body)
        if status == 200:
            found = json.loads(answer.partition(b"\r\n\r\n")[2])
            if found["stored"]:
                said = found["choices"][0]["text"].replace("\0", "\N{REPLACEMENT CHARACTER}")
                stored[found["choices"][0]["record"]] = said
        return
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        data = json.dumps(body | {"stream": bool(number % 2)}).encode()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        await asyncio.sleep(0.002 * (number % 50))
        writer.close()
    except OSError:
        pass


def be_chaotic(chat_run, folder, requests):
    """Requests of which a third leave early, to a server that is killed in the middle; checks that
    no exchange that was said to be stored is lost, or doubled.
    """
    store, stored = folder / "talk.db", {}

    async def ask(port, numbers, process, killed_at):
        gate = asyncio.Semaphore(20)

        async def one(number):
            async with gate:
                if number == killed_at:
                    process.kill()
                await ask_and_leave(port, number, stored)

        await asyncio.gather(*(one(number) for number in numbers))

    for numbers, kill in ((range(requests // 2), True), (range(requests // 2, requests), False)):
        process, port = start(chat_run, "--store", store)
        try:
            asyncio.run(ask(port, numbers, process, requests // 4 if kill else None))
            if not kill:
                process.send_signal(signal.SIGTERM)
                assert process.wait(300) == 0
        finally:
            process.kill()
            process.wait()
    with open_store(str(store)) as opened:
        found = {r.id: r.payload.text for r in opened.select(kind="response", origin="any")}
        rows = opened.count(kind="response", origin="any")
        with opened.reading() as connection:
            kept = connection.execute(sa.select(schema.requests.c.record)).scalars().all()
    assert len(stored) > requests // 8 and rows == len(found)
    assert {one: found.get(one) for one in stored} == stored
    records = [one for one in kept if one is not None]
    assert sorted(records) == sorted(found)  # a request for each, no more, nor fewer


@pytest.mark.long
def test_a_thousand_requests_and_a_kill_lose_nothing(chat_run, tmp_path):
    be_chaotic(chat_run, tmp_path, 1000)


def leak_nothing(chat_run, requests, growth):
    """A third of the requests leave early; after a quarter of them the process keeps its number of
    threads and files, and grows by little more.
    """
    process, port = start(chat_run, "--batch", 16)

    def count(folder):
        return len(os.listdir(f"/proc/{process.pid}/{folder}"))

    def measure():
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            memory = int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) / 1024
        return memory, count("task"), count("fd")

    async def ask(numbers):
        gate = asyncio.Semaphore(24)

        async def one(number):
            async with gate:
                await ask_and_leave(port, number, {})

        await asyncio.gather(*(one(number) for number in numbers))
        while b"genjax_slots_active 0.0" not in (said := await scrape(port)) or (
            b"genjax_waiting 0.0" not in said
        ):
            await asyncio.sleep(0.05)

    try:
        asyncio.run(ask(range(requests // 4)))
        memory, threads, files = measure()
        asyncio.run(ask(range(requests // 4, requests)))
        after, threads_after, files_after = measure()
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
    finally:
        process.kill()
    said = {"MiB": (memory, after), "threads": (threads, threads_after)}
    said["files"] = (files, files_after)
    print(said)
    executor = (os.cpu_count() or 1) + 4  # threads that asyncio starts one by one, and keeps
    assert after < growth * memory + 20, said
    assert threads_after <= threads + executor and files_after <= files + 4, said


@pytest.mark.long
def test_five_hundred_requests_leak_nothing(chat_run):
    leak_nothing(chat_run, 500, growth=1.3)  # some programs are still compiled


@pytest.mark.slow
def test_ten_thousand_requests_leak_nothing(chat_run):
    leak_nothing(chat_run, 10_000, growth=1.1)


def test_the_command_checks_itself(chat_run, capsys):
    command = ["serve", f"chat={chat_run}", "--port", "0", "--check"]
    assert command_line.main(command) == 0
    assert '{"status":"ok"}' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--port", "70000"], "port"),
        (["--batch", "0"], "batch"),
        (["--queue", "0"], "queue"),
        (["--wait-ms", "-1"], "wait_ms"),
        (["--token", "no/such/file"], "token"),
        (["--host", "256.0.0.1"], "host"),
    ],
)
def test_wrong_options_are_one_line(chat_run, capsys, options, word):
    assert command_line.main(["serve", f"chat={chat_run}", *options]) == 2
    said = capsys.readouterr().err
    assert word in said and said.count("\n") == 1


def test_a_folder_that_is_not_a_run_is_refused(tmp_path, capsys):
    assert command_line.main(["serve", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
