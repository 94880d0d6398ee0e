"""Formats in and out: records survive a round trip, and broken files change nothing."""

import gzip
import json
import random
import sqlite3
import string
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genjax.__main__ import main
from genjax.cli.store.command import ACTIONS
from genjax.errors import UserError
from genjax.store.exporting import export
from genjax.store.formats.plain import read_plain, write_plain
from genjax.store.formats.writing import Export
from genjax.store.importing import import_file, import_query
from genjax.store.maintenance import check, hash_store
from genjax.store.opening import open_store
from genjax.store.records import (
    KINDS,
    Checkpoint,
    Chunk,
    DataSet,
    Document,
    Entity,
    Feedback,
    Payload,
    Prompt,
    Relation,
    Response,
    Run,
    Session,
)

CHAT = [
    {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": [{"type": "text", "text": "add 1 and 2"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "type": "function"}]},
            {"role": "tool", "content": "3", "tool_call_id": "t"},
            {"role": "assistant", "content": "3"},
            {"role": "assistant", "content": "anything else?"},
        ],
        "tools": [{"type": "function"}],
    },
    {"messages": [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": ""}]},
]
USER, GOOD, BAD = (
    [{"role": role, "content": content}]
    for role, content in (("user", "q"), ("assistant", "good"), ("assistant", "bad"))
)
SFT = [
    {"prompt": "2+2=", "completion": "4"},
    {"prompt": USER, "completion": GOOD, "source": "book"},
    {"prompt": USER, "completion": [*GOOD, *USER, *BAD]},
    {"prompt": "plain", "completion": GOOD},
    {"prompt": USER, "completion": "plain"},
]
PAIRS = [
    {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2.5},
    {"prompt": USER, "chosen": GOOD, "rejected": BAD},
    {"chosen": [*USER, *GOOD], "rejected": [*USER, *BAD]},
    {"chosen": "a", "rejected": "b"},
]
PROMPTS = [{"prompt": "p", "answer": 4}, {"prompt": USER}]
TEXTS = [{"text": "one"}, {"text": "two\n", "url": "u"}]


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store.db"), create=True, user="ann") as store:
        yield store


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
@pytest.mark.parametrize(
    ("form", "rows"),
    [("messages", CHAT), ("sft", SFT), ("preferences", PAIRS), ("prompts", PROMPTS),
     ("texts", TEXTS)],
)  # fmt: skip
def test_a_round_trip_is_exact(store, tmp_path, form, rows, name):
    import_file(store, write(tmp_path / "in.jsonl", rows))
    found = export(store, tmp_path / name, Export(form))
    assert found.rows == len(rows) and read(tmp_path / name) == rows
    assert check(store) == []


def test_rows_of_parquet_are_those_that_went_out(store, tmp_path):
    import_file(store, write(tmp_path / "in.jsonl", PAIRS[:2]))
    export(store, tmp_path / "pairs", Export("preferences"))
    card = (tmp_path / "pairs" / "README.md").read_text()
    assert card.startswith("---\nconfigs:\n- config_name: default\n  data_files: train.parquet\n")
    with open_store(str(tmp_path / "other.db"), create=True) as other:
        import_file(other, tmp_path / "pairs" / "train.parquet")
        export(other, tmp_path / "again.jsonl", Export("preferences"))
    assert read(tmp_path / "again.jsonl") == PAIRS[:2]


def test_an_import_that_is_repeated_doubles_nothing(store, tmp_path):
    path = write(tmp_path / "in.jsonl", [*CHAT, *PAIRS, *CHAT])
    first = import_file(store, path)
    before = hash_store(store)
    path.rename(tmp_path / "renamed.jsonl")
    again = import_file(store, tmp_path / "renamed.jsonl")
    assert (again.added, again.known) == (0, first.added)
    assert hash_store(store) == before
    assert store.count(kind="session") == 4


def test_share_gpt_comes_in(store, tmp_path):
    rows = [
        {
            "system": "be kind",
            "conversations": [
                {"from": "human", "value": "hi"},
                {"from": "gpt", "value": "hello", "weight": 1},
            ],
            "id": "x1",
        }
    ]
    import_file(store, write(tmp_path / "in.json", rows))
    export(store, tmp_path / "out.jsonl", Export("messages"))
    assert read(tmp_path / "out.jsonl") == [
        {
            "messages": [
                {"role": "system", "content": "be kind"},
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "hello", "weight": 1},
            ],
            "id": "x1",
        }
    ]


def make_span():
    """A trace as an instrumented program writes it."""
    said = [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    answer = [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "hello"}],
            "finish_reason": "stop",
        }
    ]
    attributes = {
        "gen_ai.operation.name": {"stringValue": "chat"},
        "gen_ai.provider.name": {"stringValue": "openai"},
        "gen_ai.conversation.id": {"stringValue": "talk"},
        "gen_ai.request.model": {"stringValue": "m"},
        "gen_ai.request.seed": {"intValue": "5"},
        "gen_ai.request.temperature": {"doubleValue": 0.5},
        "gen_ai.usage.output_tokens": {"intValue": "9"},
        "gen_ai.system_instructions": {
            "stringValue": json.dumps([{"type": "text", "content": "be kind"}])
        },
        "gen_ai.input.messages": {"stringValue": json.dumps(said)},
        "gen_ai.output.messages": {"stringValue": json.dumps(answer)},
    }
    judged = {
        "gen_ai.evaluation.name": {"stringValue": "helpful"},
        "gen_ai.evaluation.score.value": {"doubleValue": 0.75},
        "gen_ai.evaluation.score.label": {"stringValue": "good"},
        "gen_ai.evaluation.explanation": {"stringValue": "kind"},
    }
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat m",
        "kind": 3,
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000000250000000",
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
        "events": [
            {
                "name": "gen_ai.evaluation.result",
                "timeUnixNano": "1700000000300000000",
                "attributes": [{"key": key, "value": value} for key, value in judged.items()],
            }
        ],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "app"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}


def test_traces_come_in_and_go_out(store, tmp_path):
    import_file(store, write(tmp_path / "in.jsonl", [make_span()]), "synthetic", "unknown")
    (answer,) = store.select(kind="response", origin="any")
    assert (answer.seed, answer.tokens, answer.milliseconds) == (5, 9, 250.0)
    assert answer.sampler == {"temperature": 0.5} and answer.origin == "synthetic"
    assert answer.time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    (judged,) = store.select(kind="feedback")
    assert (judged.value, judged.label, judged.rationale) == (0.75, "good", "kind")
    export(store, tmp_path / "out.jsonl", Export("otlp", origin="any"))
    (row,) = read(tmp_path / "out.jsonl")
    (was,) = make_span()["resourceSpans"][0]["scopeSpans"][0]["spans"]
    (is_,) = row["resourceSpans"][0]["scopeSpans"][0]["spans"]
    for name in ("traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano"):
        assert is_[name] == was[name]
    here, there = ({one["key"]: one["value"] for one in span["attributes"]} for span in (was, is_))
    for name in here.keys() - {"gen_ai.conversation.id"}:
        values = [
            json.loads(side[name]["stringValue"]) if name.endswith(("messages", "instructions"))
            else side[name]
            for side in (here, there)
        ]  # fmt: skip
        assert values[0] == values[1], name
    with open_store(str(tmp_path / "other.db"), create=True) as other:
        import_file(other, tmp_path / "out.jsonl", "synthetic", "unknown")
        export(other, tmp_path / "again.jsonl", Export("otlp", origin="any"))
        assert other.count(origin="any") == store.count(origin="any")


def test_what_needs_synthetic_records_is_left_out_unless_asked_for(store, tmp_path):
    import_file(store, write(tmp_path / "in.jsonl", PAIRS), "synthetic", "unknown")
    assert export(store, tmp_path / "a.jsonl", Export("preferences")) == export(
        store, tmp_path / "a.jsonl", Export("preferences")
    )
    found = export(store, tmp_path / "a.jsonl", Export("preferences"))
    assert (found.rows, found.hidden) == (0, 4) and read(tmp_path / "a.jsonl") == []
    assert export(store, tmp_path / "any", Export("sft", origin="any")).rows == 8
    metadata = pq.read_schema(tmp_path / "any" / "train.parquet").metadata
    assert metadata[b"genjax.origin"] == b"synthetic"
    with pytest.raises(UserError) as error:
        import_file(store, tmp_path / "any" / "train.parquet")
    assert error.value.field == "origin"


def test_duplicates_are_left_out_and_the_set_is_noted(store, tmp_path):
    long = " ".join(f"word{i}" for i in range(200))
    texts = ["One text.", "one  text", long, f"{long} more", "another"]
    import_file(store, write(tmp_path / "in.jsonl", [{"text": text} for text in texts]))
    found = export(store, tmp_path / "out.jsonl", Export("texts"), dedup=True, name="books")
    assert (found.rows, found.duplicates) == (3, 2)
    (noted,) = store.select("name=books", kind="dataset")
    assert len(noted.parents) == 3 and noted.manifest["rows"] == 3


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages.0"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "a\0"}]}, "payload.text"),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, "payload.text"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "p", "completion": 5}, "completion"),
        ({"prompt": "p", "chosen": None, "rejected": "b"}, "chosen"),
        ({"conversations": [{"from": "martian", "value": "x"}]}, "conversations.0.from"),
        ({"resourceSpans": [5]}, "resourceSpans"),
        ({"kind": "entty", "origin": "real"}, "kind"),
        ({"kind": "entity", "origin": "real", "nam": "x"}, "nam"),
        ({"kind": "entity", "origin": "real", "time": "noon"}, "time"),
        ({"kind": "entity", "origin": "fake"}, "origin"),
        ({"text": 5}, "text"),
        ({"nothing": 1}, "row"),
        ([1], "row"),
    ],
)
def test_a_broken_row_is_named_and_nothing_is_written(store, tmp_path, row, field):
    path = write(tmp_path / "in.jsonl", [*TEXTS, row])
    with pytest.raises(UserError) as error:
        import_file(store, path)
    assert error.value.field == field and "line 3 of in.jsonl" in str(error.value)
    assert store.count() == 0


@pytest.mark.parametrize("content", [b'{"text": "a"}\n{"text', b"\xff\xfe\xfa", b'{"a": NaN}'])
def test_a_broken_file_is_refused(store, tmp_path, content):
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(UserError):
        import_file(store, tmp_path / "in.jsonl")
    assert store.count() == 0


def test_a_query_is_a_source(store, tmp_path):
    place = tmp_path / "theirs.db"
    with sqlite3.connect(place) as source:
        source.execute("CREATE TABLE logs (prompt TEXT, completion TEXT, score REAL)")
        rows = [("100%:x", "a", 1.5), ('[{"role":"user","content":"q"}]', "b", None)]
        source.executemany("INSERT INTO logs VALUES (?, ?, ?)", rows)
    url, query = f"sqlite:///{place}", "SELECT * FROM logs WHERE prompt LIKE '%' AND ':x' = ':x'"
    assert import_query(store, url, query).added == 4
    assert import_query(store, url, query).added == 0
    answers = list(store.select(kind="response"))
    assert sorted(a.metadata.get("columns", {}).get("score", 0) for a in answers) == [0, 1.5]
    with sqlite3.connect(place) as source:
        source.execute("INSERT INTO logs VALUES ('new', 'c', 0)")
    assert import_query(store, url, query).added == 2
    for bad, asked, field in (
        ("sqlite:///" + str(place), "SELECT nothing FROM logs", "query"),
        ("sqlite:///" + str(place), "DELETE FROM logs", "query"),
        ("nodb://x", "SELECT 1", "sql"),
        ("oracle://x/y", "SELECT 1", "sql"),
        ("what", "SELECT 1", "sql"),
    ):
        with pytest.raises(UserError) as error:
            import_query(store, bad, asked)
        assert error.value.field == field
    with sqlite3.connect(place) as source:
        assert source.execute("SELECT count(*) FROM logs").fetchone() == (3,)


def make_text(rng):
    letters = string.printable + "äß語🙂\u200b\ufeff"
    return "".join(rng.choice(letters) for _ in range(rng.randrange(0, 30)))


def make_json(rng, depth=0):
    kind = rng.randrange(6 if depth < 3 else 4)
    if kind < 4:
        return [make_text(rng), rng.randrange(-(2**62), 2**62), rng.random(), None][kind]
    inner = [make_json(rng, depth + 1) for _ in range(rng.randrange(3))]
    return inner if kind == 4 else {make_text(rng): one for one in inner}


def make_records(rng):
    """Records of every kind with random values, each after those that it names."""
    made = []

    def ids(kind):
        return [record.id for record in made if isinstance(record, kind)]

    def shared(number):
        synthetic = rng.random() < 0.4
        runs = [*ids(Run), "unknown"]
        known = [record.id for record in made]
        return {
            "id": f"{rng.random()}-{number}",
            "origin": "synthetic" if synthetic else "real",
            "generator": rng.choice(runs) if synthetic else None,
            "parents": tuple(rng.sample(known, min(len(known), rng.randrange(3)))),
            "time": datetime(2020, 1, 1, tzinfo=UTC)
            + timedelta(microseconds=rng.randrange(10**15)),
            "tags": tuple({make_text(rng) or "x" for _ in range(rng.randrange(3))}),
            "metadata": {make_text(rng): make_json(rng) for _ in range(rng.randrange(3))},
        }

    def maybe(value):
        return value if rng.random() < 0.7 else None

    def payload():
        if rng.random() < 0.3:
            return Payload(content=rng.randbytes(rng.randrange(9)), media_type="image/png")
        return Payload(text=maybe(make_text(rng)), data=maybe({"d": make_json(rng)}))

    makers = [
        lambda s: Run(**s, name=maybe(make_text(rng)), path=maybe("runs/x")),
        lambda s: Session(**s, name=maybe(make_text(rng))),
        lambda s: Prompt(**s, session=ids(Session)[0], role=make_text(rng), payload=payload()),
        lambda s: Response(
            **s, prompt=rng.choice(ids(Prompt)), payload=payload(), run=maybe(ids(Run)[0]),
            step=maybe(rng.randrange(2**62)), sampler=maybe({"t": make_json(rng)}), seed=maybe(0),
            milliseconds=maybe(rng.random()),
        ),
        lambda s: Prompt(**s, parent=rng.choice(ids(Response)), payload=payload()),
        lambda s: Document(**s, source=maybe(make_text(rng)), payload=payload()),
        lambda s: Chunk(**s, document=ids(Document)[0], start=0, end=rng.randrange(9)),
        lambda s: Feedback(
            **s, target=rng.choice(made).id, against=maybe(made[0].id), name=make_text(rng),
            value=maybe(rng.random()), rationale=maybe(make_text(rng)), valid=rng.random() < 0.5,
        ),
        lambda s: Checkpoint(**s, run=ids(Run)[0], step=rng.randrange(9), payload=payload()),
        lambda s: DataSet(**s, manifest=maybe({"m": make_json(rng)})),
        lambda s: Entity(**s, name=make_text(rng), type=maybe(make_text(rng))),
        lambda s: Relation(**s, subject=made[0].id, predicate=make_text(rng), object=made[-1].id),
    ]  # fmt: skip
    for number, make in enumerate(makers * 2):
        made.append(make(shared(number)))
    return made


@pytest.mark.parametrize("form", ["folder", "records.jsonl"])
@pytest.mark.parametrize("seed", range(6))
def test_records_of_every_kind_survive(store, tmp_path, seed, form):
    records = make_records(random.Random(seed))
    assert {type(record) for record in records} == set(KINDS.values())
    store.add(*records)
    before = list(store.select(origin="any", order="id"))
    found = export(store, tmp_path / form, Export("records", origin="any"))
    assert found.rows == len(records)
    with open_store(str(tmp_path / "other.db"), create=True) as other:
        import_file(other, tmp_path / form)
        assert list(other.select(origin="any", order="id")) == before
        assert check(other) == []
        for record in before:
            payload = getattr(record, "payload", Payload())
            if payload.blob is not None:
                assert other.read_blob(payload) == store.read_blob(payload)


def test_plain_json_is_the_record():
    for record in make_records(random.Random(7)):
        row = json.loads(json.dumps(write_plain(record)))
        if getattr(record, "payload", Payload()).content is None:
            assert read_plain(row, "here") == record


def test_a_file_of_another_kind_is_refused_by_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("text")
    pq.write_table(pa.table({"image": [b"1"]}), tmp_path / "bytes.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    assert main(["store", "init", "s.db"]) == 0
    for name in ("x.txt", "missing.jsonl", "bytes.parquet", "broken.parquet", "."):
        assert main(["store", "import", "s.db", name]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_help_imports_nothing_of_the_store():
    code = "import sys, genjax.__main__ as m; m.main(['--help']); "
    code += "print('sqlalchemy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False" and "store    ACTION" in found.stdout


def test_the_page_of_actions_names_each_with_its_words(capsys):
    assert main(["store", "--help"]) == 0
    page = capsys.readouterr().out
    assert all(f"  {name} " in page and one.words in page for name, one in ACTIONS.items())
    assert main(["store"]) == 2
    assert capsys.readouterr().out == page
