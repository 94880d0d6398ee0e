"""What of the exchanges comes into the store, and what happens where it is away."""

import dataclasses

import pytest

import genjax
from genjax.serve.exchanges import Answer, Exchange
from genjax.serve.recording import Recorder
from genjax.store.conversation import read_branch
from genjax.store.opening import open_store
from genjax.store.records import Payload

ASKED = [{"role": "user", "content": "How was it?"}]


def test_a_conversation_becomes_linked_records(client, store_path):
    first = client.chat.completions.create(
        model="chat", messages=ASKED, max_tokens=6, seed=1, n=2, metadata={"session": "talk"}
    )
    assert first.model_extra["stored"] is True
    record = first.choices[1].model_extra["record"]
    turn = [{"role": "user", "content": "And then?"}]
    second = client.chat.completions.create(
        model="chat",
        messages=turn,
        max_tokens=6,
        temperature=0.5,
        metadata={"session": "talk", "parent": record, "why": "a test"},
        user="ann",
    )
    with open_store(str(store_path)) as store:
        branch = read_branch(store, second.choices[0].model_extra["record"], "any")
        assert [one.payload.text for one in branch] == [
            "How was it?",
            first.choices[1].message.content,
            "And then?",
            second.choices[0].message.content,
        ]
        answer = branch[-1]
        assert answer.sampler["temperature"] == 0.5 and answer.metadata["why"] == "a test"
        assert answer.seed == second.model_extra["seed"] and answer.tokens <= 6
        assert store.get(branch[0].session).name == "talk"
        run = store.get(answer.run)
        assert run.name == "serve_chat" and answer.generator == run.id


def test_a_stream_says_that_it_is_stored(client, store_path):
    events = list(
        client.completions.create(model="chat", prompt="x", max_tokens=9, seed=8, stream=True)
    )
    last = events[-1].model_extra
    assert last["stored"] is True and last["seed"] == 8
    with open_store(str(store_path)) as store:
        record = store.get(last["records"][0], "any")
        assert record.payload.text == "".join(c.text for e in events for c in e.choices)


def test_an_exchange_may_be_left_out(client, store_path):
    with open_store(str(store_path)) as store:
        before = store.count(kind="response", origin="any")
        answer = client.chat.completions.create(
            model="chat", messages=ASKED, max_tokens=3, store=False
        )
        assert answer.model_extra["stored"] is False
        assert answer.choices[0].model_extra["record"] is None
        assert store.count(kind="response", origin="any") == before


def test_pictures_are_stored_as_bytes(client, store_path):
    found = client.images.generate(model="pictures", prompt="", extra_body={"seed": 3})
    with open_store(str(store_path)) as store:
        record = store.get(found.data[0].model_extra["record"], "any")
        assert store.read_blob(record.payload)[:4] == b"\x89PNG"


@pytest.fixture(scope="module")
def exchange(chat_run):
    run = genjax.load(chat_run)
    return lambda one, text="b": Exchange(
        run, [("user", "a")], [Answer(one, Payload(text=text), 1)], {}, 1.0
    )


def test_while_the_store_is_away_answers_go_on_and_are_written_later(
    tmp_path, exchange, monkeypatch, capsys
):
    path = tmp_path / "talk.db"
    recorder = Recorder(open_store(str(path), create=True))
    ids = recorder.make_ids(3)
    assert recorder.write(exchange(ids[0])).result(30) is True
    path.rename(tmp_path / "away.db")
    recorder.store.engine.dispose()
    (tmp_path / "talk.db").mkdir()
    assert recorder.write(exchange(ids[1])).result(30) is False
    assert recorder.behind == 1 and recorder.lost == 0
    assert "not stored for now" in capsys.readouterr().err
    (tmp_path / "talk.db").rmdir()
    (tmp_path / "away.db").rename(path)
    assert recorder.write(exchange(ids[2])).result(30) is True
    recorder.close()
    with open_store(str(path)) as store:
        found = [record.id for record in store.select(kind="response", origin="any")]
    assert sorted(found) == sorted(ids)


def test_what_no_store_takes_is_counted_as_lost_and_others_are_written(tmp_path, exchange, capsys):
    recorder = Recorder(open_store(str(tmp_path / "talk.db"), create=True))
    ids = recorder.make_ids(3)
    wrong = dataclasses.replace(exchange(ids[1]), metadata={"parent": "nobody"})
    written = [recorder.write(one) for one in (exchange(ids[0]), wrong, exchange(ids[2]))]
    assert [one.result(30) for one in written] == [True, False, True]
    assert recorder.lost == 1 and "nobody" in capsys.readouterr().err
    recorder.close()


def test_the_same_exchange_twice_is_one(tmp_path, exchange):
    recorder = Recorder(open_store(str(tmp_path / "talk.db"), create=True))
    (one,) = recorder.make_ids(1)
    assert all(recorder.write(exchange(one)).result(30) for _ in range(2))
    assert recorder.store.count(kind="response", origin="any") == 1
    recorder.close()


def test_texts_that_no_database_holds_are_mended(tmp_path, exchange):
    recorder = Recorder(open_store(str(tmp_path / "talk.db"), create=True))
    (one,) = recorder.make_ids(1)
    assert recorder.write(exchange(one, "a\0b\ud800")).result(30)
    assert recorder.store.get(one, "any").payload.text == "a\N{REPLACEMENT CHARACTER}b?"
    recorder.close()
