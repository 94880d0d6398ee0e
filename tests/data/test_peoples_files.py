"""The forms of files that users of TRL, diffusers and SDV have: each is read, or refused with what
to do. docs/data.md lists them.
"""

import csv
import json
from collections import Counter

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from genjax.data.chat.dialogue import split_dialogue
from genjax.data.chat.pairs import parse_pair
from genjax.data.chat.records import parse_turns
from genjax.data.chat.template import ChatTemplate
from genjax.data.sources import Instructions, Preferences, Table
from genjax.data.text.codecs import Bytes
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError

TEMPLATE = ChatTemplate()
ASK, YES, NO = (
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "assistant", "content": "5"},
)
SYSTEM = {"role": "system", "content": "Be exact."}
MORE = {"role": "user", "content": "Sure?"}
SHARE = [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]
HH = "\n\nHuman: 2+2?\n\nAssistant: "
LONGER = "\n\nHuman: Hi!\n\nAssistant: Hello. A note:\nHuman: no turn\n\nHuman: 2+2?\n\nAssistant: "
ALL = ByDocuments(test=0.0)

PAIRS = {
    "trl text": {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
    "trl messages": {"prompt": [ASK], "chosen": [YES], "rejected": [NO]},
    "trl implicit messages": {"chosen": [ASK, YES], "rejected": [ASK, NO]},
    "trl implicit text": {"chosen": "2+2? 4", "rejected": "2+2? 5"},
    "ultrafeedback": {
        "prompt": "2+2?",
        "chosen": [ASK, YES],
        "rejected": [ASK, NO],
        "score_chosen": 8.5,
    },
    "prompt messages, text sides": {"prompt": [ASK], "chosen": "4", "rejected": "5"},
    "one message a side": {"prompt": [ASK], "chosen": YES, "rejected": NO},
    "alpaca": {"instruction": "2+2?", "input": "", "chosen": "4", "rejected": "5"},
    "orca": {"question": "2+2?", "chosen": "4", "rejected": "5"},
    "sharegpt pair": {
        "conversations": SHARE[:1],
        "chosen": SHARE[1],
        "rejected": {"from": "gpt", "value": "5"},
    },
    "messages and sides": {"messages": [ASK], "chosen": YES, "rejected": NO},
    "openai": {
        "input": {"messages": [ASK], "tools": []},
        "preferred_output": [YES],
        "non_preferred_output": [NO],
    },
    "hh": {"chosen": f"{HH}4", "rejected": f"{HH}5"},
    "hh with its prompt": {"prompt": HH, "chosen": " 4", "rejected": " 5"},
    "guanaco marks": {
        "chosen": "### Human: 2+2?### Assistant: 4",
        "rejected": "### Human: 2+2?### Assistant: 5",
    },
    "messages as JSON in a cell": {
        "chosen": json.dumps([ASK, YES]),
        "rejected": json.dumps([ASK, NO]),
    },
}
LONG_PAIRS = {
    "several turns": (
        {"chosen": [ASK, NO, MORE, YES], "rejected": [ASK, NO, MORE, NO]},
        [("user", "2+2?"), ("assistant", "5"), ("user", "Sure?")],
    ),
    "a system message in the prompt": (
        {"prompt": [SYSTEM, ASK], "chosen": [ASK, YES], "rejected": [ASK, NO]},
        [("system", "Be exact."), ("user", "2+2?")],
    ),
    "a system text beside": (
        {"system": "Be exact.", "question": "2+2?", "chosen": "4", "rejected": "5"},
        [("system", "Be exact."), ("user", "2+2?")],
    ),
    "argilla": (
        {"system": "Be exact.", "input": "2+2?", "chosen": "4", "rejected": "5"},
        [("system", "Be exact."), ("user", "2+2?")],
    ),
    "hh of several turns": (
        {"chosen": f"{LONGER}4", "rejected": f"{LONGER}5"},
        [
            ("user", "Hi!"),
            ("assistant", "Hello. A note:\nHuman: no turn"),
            ("user", "2+2?"),
        ],
    ),
    "alpaca with an input": (
        {"instruction": "Add", "input": "2 2", "chosen": "4", "rejected": "5"},
        [("user", "Add|2 2")],
    ),
}
NO_PAIRS = {
    "kto": ({"prompt": "2+2?", "completion": "4", "label": True}, "are not pairs"),
    "scored answers": (
        {"instruction": "2+2?", "completions": [{"response": "4", "score": 5}]},
        "write the better of two answers as 'chosen'",
    ),
    "arena": (
        {"conversation_a": [ASK, YES], "conversation_b": [ASK, NO], "winner": "model_a"},
        "write the better of two answers as 'chosen'",
    ),
    "alpaca with two outputs": (
        {"instruction": "2+2?", "output": ["4", "5"]},
        "write the better of two answers as 'chosen'",
    ),
    "an answer alone": ({"chosen": "4", "rejected": "5"}, "no prompt: give it as 'prompt'"),
    "no turn in the prompt": ({"prompt": [], "chosen": "4", "rejected": "5"}, "an empty prompt"),
    "prompt and completion": ({"prompt": "2+2?", "completion": "4"}, "no 'chosen'"),
    "several chosen": (
        {"prompt": "2+2?", "chosen": ["4", "four"], "rejected": "5"},
        "must be a text or messages with role and content",
    ),
}
TURNS = {
    "openai messages": {"messages": [ASK, YES]},
    "sharegpt": {"conversations": SHARE},
    "sharegpt names in messages": {"messages": SHARE},
    "roles in capitals": {"messages": [ASK | {"role": "User"}, YES | {"role": "Assistant"}]},
    "one conversation": {"conversation": [ASK, YES]},
    "alpaca sft": {"instruction": "2+2?", "input": "", "output": "4", "text": "unused"},
    "trl prompt and completion": {"prompt": "2+2?", "completion": "4"},
    "trl conversational completion": {"prompt": [ASK], "completion": [YES]},
    "dolly": {"instruction": "2+2?", "context": "", "response": "4", "category": "math"},
    "question and answer": {"question": "2+2?", "answer": "4"},
    "guanaco": {"text": "### Human: 2+2?### Assistant: 4"},
    "hh sft": {"text": f"{HH}4"},
    "single lines": {"text": "User: 2+2?\nAssistant: 4"},
    "alpaca with an empty history": {"instruction": "2+2?", "output": "4", "history": []},
    "openai parts": {"messages": [ASK | {"content": [{"type": "text", "text": "2+2?"}]}, YES]},
    "columns that are null": {"prompt": None, "completion": None, "messages": [ASK, YES]},
}
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
EARLIER = [["Hi!", "Hello."], ["And?", "Well."]]
SAID = [("user", "Hi!"), ("assistant", "Hello."), ("user", "And?"), ("assistant", "Well.")]
EXACT = [("system", "Be exact.")]
LONG_TURNS = {
    "alpaca with a history": ({"instruction": "2+2?", "output": "4", "history": EARLIER}, SAID),
    "alpaca with a history as JSON and a system": (
        {"system": "Be exact.", "instruction": "2+2?", "output": "4"}
        | {"history": json.dumps(EARLIER)},
        EXACT + SAID,
    ),
    "sharegpt with a system": ({"system": "Be exact.", "conversations": SHARE}, EXACT),
    "sharegpt with a system turn": (
        {"conversations": [{"from": "system", "value": "Be exact."}, *SHARE]},
        EXACT,
    ),
    "openai with a developer": ({"messages": [SYSTEM | {"role": "developer"}, ASK, YES]}, EXACT),
}
NO_TURNS = {
    "a tool that is called": (
        {"messages": [ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}, YES]},
        "message 2 of here calls a tool.* leave such conversations out",
    ),
    "a tool beside a text": ({"messages": [ASK, YES | {"tool_calls": [CALL]}]}, "calls a tool"),
    "a function that is called": (
        {"messages": [ASK, {"role": "assistant", "function_call": CALL["function"]}]},
        "calls a tool",
    ),
    "a history of single texts": (
        {"instruction": "2+2?", "output": "4", "history": ["Hi!"]},
        "history of here must be pairs",
    ),
    "a pair": (
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        "read such records with the source Preferences",
    ),
    "plain text": ({"text": "Once upon a time"}, "read it with the source TextTables"),
    "kto sft": (
        {"prompt": "2+2?", "completion": "4", "label": False},
        "read such records with LabelledAnswers",
    ),
    "stepwise": (
        {"prompt": "2+2?", "completions": ["first", "4"], "labels": [True, True]},
        "several answers: give the one to learn",
    ),
    "a picture": (
        {"messages": [ASK | {"content": [{"type": "image"}]}, YES]},
        "must consist of texts, got 'image'",
    ),
    "prompt only": (
        {"prompt": "2+2?"},
        "must have messages, instruction and output, .*, got prompt",
    ),
}


@pytest.mark.parametrize("form", PAIRS)
def test_a_pair_of_any_form_is_the_same_pair(form):
    found = parse_pair(PAIRS[form], "here", TEMPLATE, "|", Counter())
    assert found == (
        (("user", "2+2?"),),
        (("assistant", "4"),),
        (("assistant", "5"),),
        "here",
    )


@pytest.mark.parametrize("form", LONG_PAIRS)
def test_the_prompt_of_a_pair_is_all_that_comes_before(form):
    record, prompt = LONG_PAIRS[form]
    found = parse_pair(record, "here", TEMPLATE, "|", Counter())
    assert list(found.prompt) == prompt
    assert (found.chosen, found.rejected) == ((("assistant", "4"),), (("assistant", "5"),))


@pytest.mark.parametrize("form", TURNS)
def test_a_conversation_of_any_form_is_the_same_conversation(form):
    found = parse_turns(TURNS[form], "here", TEMPLATE, "|", Counter())
    assert found == (("user", "2+2?"), ("assistant", "4"))


@pytest.mark.parametrize("form", LONG_TURNS)
def test_what_was_said_before_comes_before(form):
    record, before = LONG_TURNS[form]
    left = Counter()
    found = parse_turns(record, "here", TEMPLATE, "|", left)
    assert list(found) == [*before, ("user", "2+2?"), ("assistant", "4")] and not left


@pytest.mark.parametrize("form", NO_PAIRS)
def test_what_is_no_pair_is_refused_with_what_to_do(form):
    record, hint = NO_PAIRS[form]
    with pytest.raises(UserError, match=hint):
        parse_pair(record, "here", TEMPLATE, "|", Counter())


@pytest.mark.parametrize("form", NO_TURNS)
def test_what_is_no_conversation_is_refused_with_what_to_do(form):
    record, hint = NO_TURNS[form]
    with pytest.raises(UserError, match=hint):
        parse_turns(record, "here", TEMPLATE, "|", Counter())


def test_answers_to_different_prompts_are_counted_and_left_out():
    left = Counter()
    other = MORE | {"content": "3+3?"}
    for record in (
        {"chosen": [ASK, YES], "rejected": [other, NO]},
        {"chosen": [ASK, NO, MORE, YES], "rejected": [ASK, NO, other, NO]},
    ):
        assert parse_pair(record, "here", TEMPLATE, "|", left) is None
    assert left == {"pairs that answer different prompts skipped": 2}


@pytest.mark.parametrize(
    "text", ["", "Human: alone", "Assistant: alone", "He said:\nHuman: x\nAssistant: y", "A: b"]
)
def test_a_text_without_both_sides_is_no_dialogue(text):
    assert split_dialogue(text, "user", "assistant") is None


def write_records(folder, records, name):
    path = folder / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif name.endswith(".jsonl"):
        path.write_text("\n".join(map(json.dumps, records)))
    else:
        with path.open("w", newline="") as file:
            delimiter = "\t" if name.endswith(".tsv") else ","
            rows = csv.DictWriter(file, list(records[0]), delimiter=delimiter)
            rows.writeheader()
            rows.writerows(records)
    return path


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.csv", "pairs.tsv", "pairs.parquet"])
@pytest.mark.parametrize("form", ["trl text", "trl messages", "hh"])
def test_files_of_any_kind_hold_the_same_pairs(tmp_path, name, form):
    record = PAIRS[form]
    if name.endswith(".csv"):
        record = {n: v if isinstance(v, str) else json.dumps(v) for n, v in record.items()}
    if name.endswith(".tsv"):
        record = {n: v.strip().replace("\n\n", "### ") for n, v in PAIRS["trl text"].items()}
    path = write_records(tmp_path, [record] * 4, name)
    data = Preferences(str(path), codec=Bytes(True), split=ALL, length=64).open()
    batch = data.splits["train"].batch(np.arange(4))
    for side, answer in (("chosen", "4"), ("rejected", "5")):
        said = batch[f"{side}_tokens"][0][batch[f"{side}_response"][0] > 0]
        assert data.codec.tokens.decode(said[:-1]) == answer and said[-1] == data.codec.end


def test_a_folder_of_shards_is_one_set_and_other_folders_are_refused(tmp_path):
    for part in range(2):
        record = {"prompt": f"ask {part}", "completion": "yes"}
        write_records(tmp_path, [record] * 2, f"train-{part:05}-of-00002.parquet")
    data = Instructions(str(tmp_path), codec=Bytes(True), split=ALL).open()
    assert data.splits["train"].questions() == ["ask 0"] * 2 + ["ask 1"] * 2
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(UserError, match=r"give one of its files; it has test.jsonl, tra"):
        Instructions(str(tmp_path), codec=Bytes(True), split=ALL).open()


def test_earlier_answers_are_of_the_prompt_and_later_questions_are_not_learned(tmp_path):
    chosen = [ASK, NO, MORE, YES, MORE, YES]
    rejected = [ASK, NO, MORE, NO, ASK, NO]
    path = write_records(tmp_path, [{"chosen": chosen, "rejected": rejected}] * 2, "a.jsonl")
    plain = ChatTemplate((("user", "?", "\n"), ("assistant", ">", "\n")))
    source = Preferences(str(path), template=plain, codec=Bytes(True), split=ALL, length=64)
    batch = source.open().splits["train"].batch(np.array([0]))
    for side, (first, second, asked) in (
        ("chosen", ("4", "4", "Sure?")),
        ("rejected", ("5", "5", "2+2?")),
    ):
        tokens, learned = batch[f"{side}_tokens"][0], batch[f"{side}_response"][0] > 0
        prompt = [256, *b"?2+2?\n>5", 256, *b"\n?Sure?\n>"]
        later = [*first.encode(), 256, *f"\n?{asked}\n>".encode(), *second.encode(), 256]
        assert tokens[: len(prompt + later)].tolist() == prompt + later
        wanted = [0] * len(prompt) + [1, 1] + [0] * (len(later) - 4) + [1, 1]
        assert learned[: len(wanted)].tolist() == [bool(one) for one in wanted]


def test_a_long_prompt_keeps_its_end_and_both_sides_the_same_of_it(tmp_path, capsys):
    letters = "".join(chr(97 + n % 26) for n in range(60))
    records = [
        {"prompt": letters, "chosen": "yes", "rejected": "n" * 8},
        {"prompt": letters, "chosen": "y" * 50, "rejected": "no"},
        {"prompt": "ask", "chosen": "y" * 50, "rejected": "no"},
        {"prompt": "ask", "chosen": "yes", "rejected": "no"},
    ]
    path = write_records(tmp_path, records, "a.jsonl")
    plain = ChatTemplate((("user", "", ""), ("assistant", ">", "")))
    source = Preferences(str(path), template=plain, codec=Bytes(True), split=ALL, length=32)
    batch = source.open().splits["train"].batch(np.arange(4))
    told = (
        "3 of 4 pairs are longer than 32 tokens and are cut: 2 lose the beginning of their prompt"
    )
    assert f"{told}, 2 the end of a response" in capsys.readouterr().err
    prompts = [
        [
            bytes(t for t in row[(mask > 0) & (learned == 0)].tolist() if t < 256).decode()
            for row, mask, learned in zip(
                batch[f"{side}_tokens"],
                batch[f"{side}_mask"],
                batch[f"{side}_response"],
                strict=True,
            )
        ]
        for side in ("chosen", "rejected")
    ]
    assert prompts[0] == prompts[1]
    # 32 less the 9 of the longer answer, and less the start, which stays; then half of the row
    assert prompts[0] == [f"{letters}>"[-22:], f"{letters}>"[-15:], "ask>", "ask>"]
    assert (batch["chosen_tokens"][:, 0] == 256).all()
    assert batch["chosen_response"].sum(1).tolist() == [4, 16, 27, 4]


def test_a_set_that_would_lose_most_of_its_pairs_is_refused_with_a_length_that_works(tmp_path):
    records = [{"prompt": "p" * (6 * n), "chosen": "yes", "rejected": "no"} for n in range(1, 101)]
    path = write_records(tmp_path, records, "a.jsonl")
    source = Preferences(str(path), codec=Bytes(True), split=ALL, long="drop")
    with pytest.raises(UserError, match=r"\d+ of 100 pairs would be dropped") as error:
        source.open()
    assert error.value.field == "length" and 'long="cut"' in str(error.value)
    length = int(str(error.value).split("length=")[1].split()[0])
    longer = Preferences(str(path), codec=Bytes(True), split=ALL, long="drop", length=length)
    assert len(longer.open().splits["train"]) == 96
    assert len(Preferences(str(path), codec=Bytes(True), split=ALL).open().splits["train"]) == 100


COLUMNS = {
    "guest_id": {"sdtype": "id", "regex_format": "[0-9]{4}"},
    "email": {"sdtype": "email", "pii": True},
    "room": {"sdtype": "categorical"},
    "checkin": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
    "paid": {"sdtype": "boolean"},
    "rewards": {"sdtype": "boolean"},
    "amount": {"sdtype": "numerical"},
    "nights": {"sdtype": "numerical"},
}
ONE_TABLE = {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", "columns": COLUMNS}
SDV_FORMS = {
    "single table": ONE_TABLE | {"primary_key": "guest_id"},
    "one table of several": {"tables": {"hotel": ONE_TABLE}, "relationships": []},
}


@pytest.fixture
def hotel(tmp_path):
    draw = np.random.default_rng(0)
    with (tmp_path / "hotel.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for n in range(200):
            guest = [f"{n:04}", f"guest{n}@a.org", draw.choice(["BASIC", "SUITE"])]
            stay = [f"2020-{draw.integers(1, 13):02}-{draw.integers(1, 29):02}"]
            paid = [draw.choice(["True", "False"]), "" if n % 9 == 0 else draw.integers(0, 2)]
            cost = [f"{draw.normal(100, 10):.2f}", "" if n % 7 == 0 else draw.integers(1, 9)]
            rows.writerow([*guest, *stay, *paid, *cost])
    return tmp_path / "hotel.csv"


@pytest.mark.parametrize("form", SDV_FORMS)
def test_the_metadata_of_sdv_says_which_fields_read_its_table(form, hotel, capsys):
    path = hotel.with_name("metadata.json")
    path.write_text(json.dumps(SDV_FORMS[form]), encoding="utf-8")
    with pytest.raises(UserError, match="it is metadata of SDV: give the table itself") as error:
        Table(str(path)).open()
    fields = eval(f"dict({str(error.value).split('itself, with ')[1]})")
    assert fields["drop"] == ("guest_id", "email")
    assert fields["categorical"] == ("room", "paid", "rewards")
    data = Table(str(hotel), test_fraction=0.2, **fields).open()
    assert [column.name for column in data.codec.numbers] == ["checkin", "amount", "nights"]
    assert [column.name for column in data.codec.categories] == ["room", "paid", "rewards"]
    assert "values are missing, 29 in 'nights'" in capsys.readouterr().err.replace(
        "23 in 'rewards', ", ""
    )


def test_ids_of_a_table_are_refused_by_name_and_other_json_is_no_table(hotel):
    with pytest.raises(UserError, match="column 'guest_id'"):
        Table(str(hotel)).open()
    other = hotel.with_name("rows.json")
    for content, message in (
        ({"rows": [1]}, "must end in .csv"),
        ({"tables": {"a": ONE_TABLE, "b": ONE_TABLE}}, "describes 2 tables: join them"),
    ):
        other.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            Table(str(other)).open()
