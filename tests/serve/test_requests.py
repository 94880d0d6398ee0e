"""Which requests the store keeps of a server: answered, refused and left, never their texts."""

import contextlib
import json
import time
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

import genjax
from genjax.serve.exchanges import Answer, Exchange, Noted
from genjax.serve.pages.serving import watch_alerts
from genjax.serve.recording import Recorder
from genjax.store import schema
from genjax.store.monitoring.measured import Measured
from genjax.store.monitoring.rule import Rule
from genjax.store.monitoring.rules import add_rule, remove_rule
from genjax.store.opening import open_store
from genjax.store.records import Payload
from tests.serving import wait_for

ASKED = [{"role": "user", "content": "How was it? (a secret)"}]


def read(path, user=None):
    """The requests of a store, as rows."""
    table = schema.requests
    query = sa.select(table).order_by(table.c.time)
    with open_store(str(path)) as store, store.reading() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return [row for row in rows if user is None or row["user"] == user]


def test_a_stored_answer_is_kept_with_its_request(client, store_path):
    answer = client.chat.completions.create(
        model="chat", messages=ASKED, max_tokens=5, user="nina", n=2
    )
    assert answer.model_extra["stored"] is True
    (row,) = read(store_path, "nina")  # at once, as it was committed with the exchange
    assert (row["route"], row["status"]) == ("/v1/chat/completions", 200)
    assert row["tokens_in"] == answer.usage.prompt_tokens
    assert row["tokens_out"] == answer.usage.completion_tokens
    assert row["record"] == answer.choices[0].model_extra["record"]
    assert 0 < row["first_ms"] <= row["milliseconds"] < 60_000
    assert abs(row["time"] / 1e6 - time.time()) < 60
    with open_store(str(store_path)) as store:
        assert store.get(row["run"]).name == "serve_chat"
    assert "secret" not in json.dumps(row)


def test_what_is_refused_left_out_or_streamed_is_kept_too(client, served, store_path):
    client.completions.create(
        model="chat", prompt="x", max_tokens=4, user="otto", extra_body={"store": False}, seed=1
    )
    list(client.completions.create(model="chat", prompt=["x", "y"], max_tokens=4, user="otto",
                                   stream=True, seed=1))  # fmt: skip
    body = {"model": "nobody", "messages": ASKED, "user": "otto"}
    assert served.ask("/v1/chat/completions", body)[0] == 404
    assert served.ask("/v1/chat/completions", {"model": "chat"})[0] == 400
    assert served.ask("/v1/nothing?user=otto", {})[0] == 404
    assert served.ask("/v1/embeddings", {"model": "encoder", "input": "x"})[0] == 200
    assert served.ask("/healthz")[0] == served.ask("/metrics")[0] == 200
    wait_for(lambda: any(row["route"] == "/v1/embeddings" for row in read(store_path)))
    alone, streamed, unknown = read(store_path, "otto")
    assert (alone["record"], alone["status"], alone["tokens_out"]) == (None, 200, 4)
    assert streamed["record"] and streamed["first_ms"] and streamed["tokens_out"] == 8
    assert (unknown["status"], unknown["run"], unknown["tokens_out"]) == (404, None, None)
    rest = [(row["route"], row["status"]) for row in read(store_path) if row["user"] is None]
    assert ("other", 404) in rest and ("/v1/chat/completions", 400) in rest
    assert not any("health" in route or "metrics" in route for route, _ in rest)


def test_a_client_that_leaves_a_stream_is_counted_as_gone(served, store_path):
    import http.client

    host = served.url.removeprefix("http://")
    with open_store(str(store_path)) as store:
        known = store.count(kind="response", origin="any")
    opened = http.client.HTTPConnection(host, timeout=30)
    body = {"model": "chat", "prompt": "x", "max_tokens": 4000, "stream": True, "user": "paul",
            "seed": 3}  # fmt: skip
    opened.request("POST", "/v1/completions", json.dumps(body),
                   {"Content-Type": "application/json"})  # fmt: skip
    opened.getresponse().read(50)
    opened.close()
    wait_for(lambda: read(store_path, "paul"))
    (row,) = read(store_path, "paul")
    with open_store(str(store_path)) as store:
        assert store.count(kind="response", origin="any") == known
    assert row["status"] == 499 and row["record"] is None and row["tokens_out"] < 4000


@pytest.fixture
def run(chat_run):
    return genjax.load(chat_run)


def make(run, ids, **more):
    noted = Noted("/v1/completions", run=run, user="\0ann\ud800")
    given = {"request": noted.measure(ids[1], 200, ids[0]), **more}
    return Exchange(run, [("", "a")], [Answer(ids[0], Payload(text="b"), 1)], {}, 1.0, **given)


def test_a_request_is_in_the_transaction_of_its_exchange(tmp_path, run, monkeypatch):
    """Where either cannot be written, neither is; written again, nothing doubles."""
    path = tmp_path / "talk.db"
    recorder = Recorder(open_store(str(path), create=True))
    exchange = make(run, recorder.make_ids(2))

    def fail(*_):
        raise OSError("the disk is away")

    with monkeypatch.context() as broken:
        broken.setattr("genjax.serve.recording.add_requests", fail)
        assert recorder.write(exchange).result(30) is False
        assert recorder.store.count(kind="response", origin="any") == 0 and read(path) == []
    assert recorder.write(exchange).result(30) is True  # with the one that waits
    recorder.close()
    (row,) = read(path)
    assert row["user"] == "\N{REPLACEMENT CHARACTER}ann?"


def test_a_request_of_a_lost_exchange_and_one_alone_are_written(tmp_path, run, capsys):
    path = tmp_path / "talk.db"
    recorder = Recorder(open_store(str(path), create=True))
    wrong = make(run, recorder.make_ids(2), metadata={"parent": "nobody"})
    assert recorder.write(wrong).result(30) is False
    (one,) = recorder.make_ids(1)
    recorder.note(Measured(one, datetime.now(UTC), "/v1/completions", 429), None)
    recorder.note(Measured(one, datetime.now(UTC), "/v1/completions", 429), None)
    recorder.close()
    assert recorder.lost == 1
    assert [(row["status"], row["record"], row["run"] is None) for row in read(path)] == [
        (200, None, False),
        (429, None, True),
    ]


def test_refused_requests_never_push_out_exchanges(tmp_path, run, monkeypatch):
    monkeypatch.setattr("genjax.serve.recording.KEPT", 3)
    monkeypatch.setattr("genjax.serve.recording.AGAIN", 0.02)
    recorder = Recorder(open_store(str(tmp_path / "talk.db"), create=True))
    with monkeypatch.context() as broken:
        broken.setattr(
            "genjax.serve.recording.add_requests", lambda *_: (_ for _ in ()).throw(OSError())
        )
        results = [recorder.write(make(run, recorder.make_ids(2))) for _ in range(3)]
        for one in recorder.make_ids(20):
            recorder.note(Measured(one, datetime.now(UTC), "/v1/completions", 429), None)
        assert not any(one.result(30) for one in results)
        wait_for(lambda: recorder.behind == 3)
        time.sleep(0.2)
    recorder.close()
    assert recorder.lost == 0 and recorder.behind == 0
    assert recorder.store.count(kind="response", origin="any") == 3
    statuses = [row["status"] for row in read(tmp_path / "talk.db")]
    assert statuses.count(200) == 3 and statuses.count(429) <= 3 + 20


def test_an_erased_answer_leaves_only_numbers(client, store_path):
    client.chat.completions.create(model="chat", messages=ASKED, max_tokens=3, user="quin")
    (row,) = read(store_path, "quin")
    with open_store(str(store_path)) as store:
        store.erase(row["record"])
    (left,) = read(store_path, "quin")
    assert left == row | {"record": None}


def test_a_server_shows_alerts_on_its_metrics_while_it_answers(client, served, store_path):
    with open_store(str(store_path)) as store:
        add_rule(store, "failing", Rule("errors", above=0.0, hours=1, least=2))
    for _ in range(2):
        assert served.ask("/v1/completions", {"model": "nobody", "prompt": "x"})[0] == 404

    def scrape():
        return served.ask("/metrics")[2]

    with contextlib.ExitStack() as stack:
        watch_alerts(served.service, str(store_path), 0.05, stack)
        wait_for(lambda: b'genjax_alert{rule="failing"} 1.0' in scrape())
        answers = [client.completions.create(model="chat", prompt="x", max_tokens=2)] * 3
        assert all(answer.model_extra["stored"] for answer in answers)
        with open_store(str(store_path)) as store:
            remove_rule(store, "failing")
        wait_for(lambda: b"failing" not in scrape())
    assert b'genjax_alert_checks_total{result="done"}' in scrape()
    assert b'result="failed"' not in scrape()
