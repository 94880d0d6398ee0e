"""Preference pairs: rows are the template's text, splits are disjoint, the rule is exact, and
bad records are named.
"""

import dataclasses
import gzip
import json

import numpy as np
import pytest

from genjax.data.chat.template import ChatTemplate
from genjax.data.dataset import Spec
from genjax.data.sources.preferences import (
    COUNTS,
    NEGATIVE,
    NEUTRAL,
    OUTCOMES,
    POSITIVE,
    Preferences,
    RulePreferences,
    rule_reward,
)
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.json_records import json_records
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError

PLAIN = ChatTemplate((("user", "", "\n"), ("assistant", ">", "\n")))


def written(folder, records, name="pairs.json"):
    path = folder / name
    lines = "\n".join(
        record if isinstance(record, str) else json.dumps(record) for record in records
    )
    text = json.dumps(records) if ".json" in path.suffixes else lines
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def records(count=20):
    return [
        {"prompt": f"ask {i}", "chosen": f"yes {i}", "rejected": "no" * (1 + i % 3)}
        for i in range(count)
    ]


def source(root, **changes):
    settings = {
        "template": PLAIN,
        "codec": Bytes(delimiter=True),
        "length": 24,
        "split": ByDocuments(0.2),
    }
    return Preferences(root, **settings | changes)


def texts(split, side="chosen", codec=Bytes(delimiter=True)):
    batch = split.batch(np.arange(len(split)))
    rows = zip(batch[f"{side}_tokens"], batch[f"{side}_mask"] > 0, strict=True)
    return [codec.decode(tokens[mask]) for tokens, mask in rows]


def test_a_row_is_the_prompt_the_response_and_the_end(tmp_path):
    data = source(written(tmp_path, records())).open()
    batch = data.splits["train"].batch(np.array([0]))
    assert {name: (value.shape[1:], value.dtype) for name, value in batch.items()} == {
        name: (shape, np.dtype(kind))
        for name, (shape, kind) in data.spec.entries.items()
        if name != "mask"
    }
    number = int(texts(data.splits["train"])[0].split()[1].removesuffix(">yes"))
    for side, answer in (("chosen", f"yes {number}"), ("rejected", "no" * (1 + number % 3))):
        prompt = [256, *f"ask {number}\n>".encode()]
        response = [*answer.encode(), 256]
        padding = [0] * (24 - len(prompt) - len(response))
        tokens, mask, answered = (
            batch[f"{side}_{name}"][0].tolist() for name in ("tokens", "mask", "response")
        )
        assert tokens == prompt + response + padding
        assert mask == [1] * len(prompt + response) + padding
        assert answered == [0] * len(prompt) + [1] * len(response) + padding


def test_the_spec_names_every_entry_and_no_loss_mask():
    spec = Spec("chosen_tokens", (7,), np.zeros(7, np.float32), vocabulary=5, preferences=True)
    parts = {"tokens": np.int32, "mask": np.float32, "response": np.float32}
    wanted = {
        f"{side}_{part}": ((7,), kind)
        for side in ("chosen", "rejected")
        for part, kind in parts.items()
    }
    assert spec.entries == wanted | {"mask": ((), np.float32)}


def test_splits_are_disjoint_whole_and_of_the_seed(tmp_path):
    root = written(tmp_path, records(40))
    data = source(root, split=ByDocuments(0.2, 0.1, seed=3)).open()
    parts = {name: texts(split) for name, split in data.splits.items()}
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 28,
        "validation": 4,
        "test": 8,
    }
    assert sorted(text for part in parts.values() for text in part) == sorted(
        f"ask {i}\n>yes {i}" for i in range(40)
    )
    again = source(root, split=ByDocuments(0.2, 0.1, seed=3)).open()
    assert texts(again.splits["test"]) == parts["test"] and again.fingerprint == data.fingerprint
    other = source(root, split=ByDocuments(0.2, 0.1, seed=4)).open()
    assert texts(other.splits["test"]) != parts["test"] and other.fingerprint != data.fingerprint
    assert set(source(root, split=ByDocuments(0)).open().splits) == {"train"}


def test_records_of_one_prompt_are_of_one_split(tmp_path):
    twice = [{**record, "prompt": f"ask {i // 4}"} for i, record in enumerate(records(40))]
    data = source(written(tmp_path, twice), split=ByDocuments(0.3)).open()
    prompts = {
        name: {text.split("\n")[0] for text in texts(split)} for name, split in data.splits.items()
    }
    assert len(prompts["test"]) == 3 and len(prompts["train"]) == 7
    assert not prompts["test"] & prompts["train"]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.ndjson.gz", "pairs.json.gz"])
def test_all_kinds_of_files_say_the_same(tmp_path, name):
    wanted = source(written(tmp_path, records())).open()
    found = source(written(tmp_path, records(), name)).open()
    assert texts(found.splits["test"]) == texts(wanted.splits["test"])
    assert texts(found.splits["train"], "rejected") == texts(wanted.splits["train"], "rejected")


def test_an_alpaca_record_has_its_input_below_the_instruction(tmp_path):
    alike = {"chosen": "c", "rejected": "r"}
    pairs = [{"instruction": f"do {i}", "input": "with" * (i % 2), **alike} for i in range(10)]
    data = source(written(tmp_path, pairs), joint=" | ").open()
    found = sorted(text for split in data.splits.values() for text in texts(split))
    assert found == sorted(f"do {i}{' | with' * (i % 2)}\n>c" for i in range(10))


def test_the_codec_is_fitted_to_the_training_text_unless_it_is_fitted_already(tmp_path):
    root = written(tmp_path, records())
    codec = Characters(delimiter=True, unknown="token")
    data = source(root, codec=codec, cache=str(tmp_path / "cache")).open()
    written_there = "".join(
        t for side in ("chosen", "rejected") for t in texts(data.splits["train"], side, data.codec)
    )
    assert data.codec.tokens.characters == "".join(sorted(set(written_there)))
    assert data.codec.is_fitted and data.codec.template == PLAIN
    fitted = dataclasses.replace(codec, characters="".join(sorted(set("ask yesno>\n0123456789"))))
    assert source(root, codec=fitted).open().codec.tokens == fitted


def test_too_long_pairs_are_cut_without_an_end_or_dropped(tmp_path, capsys):
    pairs = [*records(19), {"prompt": "long", "chosen": "x" * 40, "rejected": "short"}]
    root = written(tmp_path, pairs)
    cut = source(root, split=ByDocuments(0)).open().splits["train"]
    assert "1 of 20 pairs are longer than 24 tokens and are cut" in capsys.readouterr().err
    assert len(cut) == 20 and texts(cut)[-1] == "long\n>" + "x" * 17
    batch = cut.batch(np.array([19]))
    assert batch["chosen_tokens"][0, -1] == ord("x") and batch["chosen_mask"].sum() == 24
    assert (
        batch["chosen_response"].sum() == 17
        and batch["rejected_response"].sum() == len("short") + 1
    )
    dropped = source(root, split=ByDocuments(0), long="drop").open().splits["train"]
    assert "1 of 20 pairs are longer than 24 tokens and are dropped" in capsys.readouterr().err
    assert texts(dropped) == texts(cut)[:-1]


def test_equal_pairs_are_counted_and_refused_or_dropped(tmp_path, capsys):
    pairs = records()
    for number in (4, 11):
        pairs[number] = {**pairs[number], "rejected": pairs[number]["chosen"]}
    root = written(tmp_path, pairs)
    told = (
        r"2 of 20 pairs have the same text on both sides in rows of 24 tokens, the first "
        r"is record 5 of pairs.json; equal='drop'"
    )
    with pytest.raises(UserError, match=told):
        source(root).open()
    data = source(root, equal="drop").open()
    assert (
        "2 of 20 pairs have the same text on both sides in rows of 24 tokens and are dropped"
        in capsys.readouterr().err
    )
    left = sorted(text for split in data.splits.values() for text in texts(split))
    assert left == sorted(f"ask {i}\n>yes {i}" for i in range(20) if i not in (4, 11))
    whole = source(written(tmp_path, records())).open()
    kept = [
        text for text in texts(whole.splits["test"]) if text.split("yes ")[1] not in ("4", "11")
    ]
    assert texts(data.splits["test"]) == kept, "what is dropped does not move the others"


def test_pairs_that_differ_behind_the_cut_alone_are_equal(tmp_path):
    same = {"prompt": "p", "chosen": "x" * 30 + "a", "rejected": "x" * 30 + "b"}
    with pytest.raises(
        UserError,
        match="1 of 21 pairs have the same text on both sides in rows of 24 tokens, the first",
    ):
        source(written(tmp_path, [*records(), same])).open()


GOOD = {"prompt": "p", "chosen": "c", "rejected": "r"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {**GOOD, "rejected": " \n"},
            "the rejected side of record 4 of pairs.json has an empty response",
        ),
        ({**GOOD, "chosen": ""}, "the chosen side of record 4 of pairs.json has an empty response"),
        (
            {"prompt": "p", "chosen": "c"},
            "record 4 of pairs.json has no 'rejected'; its fields are",
        ),
        ({"chosen": "c", "rejected": "r"}, "record 4 of pairs.json has no prompt"),
        (
            {**GOOD, "chosen": [{"role": "user"}]},
            "message 1 of record 4 of pairs.json must have role and content",
        ),
        (
            {"instruction": "i", "input": 3, "chosen": "c", "rejected": "r"},
            "'input' of record 4 of pairs.json must be a text, got int",
        ),
        ("text", "record 4 of pairs.json must be a JSON object"),
    ],
)
def test_bad_records_are_named(tmp_path, bad, message):
    with pytest.raises(UserError, match=message):
        source(written(tmp_path, [*records(3), bad, *records(3)])).open()


def test_bad_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no file .*none.json"):
        source(str(tmp_path / "none.json")).open()
    (tmp_path / "broken.json").write_text('[{"prompt": "p",\n "chosen": }]')
    with pytest.raises(UserError, match="line 2 of broken.json is not JSON: Expecting value"):
        source(str(tmp_path / "broken.json")).open()
    with pytest.raises(UserError, match="line 3 of pairs.jsonl is not JSON"):
        source(written(tmp_path, [*records(2), '{"prompt"'], "pairs.jsonl")).open()
    (tmp_path / "one.json").write_text("{}")
    with pytest.raises(UserError, match="line 1 of one.json has no 'chosen'"):
        source(str(tmp_path / "one.json")).open()
    with pytest.raises(UserError, match="pairs.json holds no records"):
        source(written(tmp_path, [])).open()
    (tmp_path / "pairs.csv").write_text("a,b")
    with pytest.raises(UserError, match="pairs.csv must end in .json, .jsonl, .ndjson"):
        list(json_records(tmp_path / "pairs.csv"))
    with pytest.raises(UserError, match="20 of 20 pairs would be dropped: 20 are longer than 9"):
        source(written(tmp_path, records()), length=9, long="drop").open()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"long": "keep"}, "long must be one of 'drop', 'cut'"),
        ({"equal": "keep"}, "equal must be one of 'refuse', 'drop'"),
        ({"length": 1}, "length must be >= 2, got 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Preferences(**settings)
    with pytest.raises(UserError, match="size must be from 1 to 1000000"):
        RulePreferences(size=0)
    with pytest.raises(UserError, match="unknown split 'validation'"):
        RulePreferences().make_examples("validation")


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("The soup was good.", 1),
        ("The soup was bad. The bed was dirty.", -2),
        ("The soup was Good. The soup was good! The guide was RUDE", 1),
        ("The room was red. The goodness was small.", 0),
        ("", 0),
        (" ".join(POSITIVE), 6),
        (" ".join((*NEGATIVE, *NEUTRAL)), -6),
    ],
)
def test_the_reward_of_the_rule_by_hand(text, reward):
    assert rule_reward(text) == reward


def test_the_chosen_response_has_the_higher_reward_whatever_its_length():
    pairs = RulePreferences(size=2000).make_examples("train")
    rewards = np.array([[rule_reward(pair.chosen), rule_reward(pair.rejected)] for pair in pairs])
    assert (rewards[:, 0] > rewards[:, 1]).all()
    assert len(OUTCOMES) == 31 and len(COUNTS) == 9  # of 81 ordered pairs 19 are ties
    assert (np.unique(rewards) == np.arange(-2, 3)).all()
    length = np.array([[pair.chosen.count("."), pair.rejected.count(".")] for pair in pairs])
    assert (np.unique(length) == np.arange(4, 9)).all()
    assert abs(np.corrcoef(rewards.ravel(), length.ravel())[0, 1]) < 4 / np.sqrt(4000)
    counts = np.bincount(length.ravel())[4:]
    assert abs(counts / 4000 - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 4000)


def test_an_example_depends_on_the_seed_and_its_number_alone():
    short, long = (RulePreferences(size=size, seed=5).make_examples("train") for size in (10, 30))
    assert long[:10] == short and len(set(long)) == 30
    assert RulePreferences(size=10, seed=6).make_examples("train") != short
    assert not {pair[:3] for pair in long} & {
        pair[:3] for pair in RulePreferences(seed=5).make_examples("test")
    }


def test_the_rule_opens_to_whole_rows(tmp_path, capsys):
    source = RulePreferences(size=60, test_size=20, cache=str(tmp_path))
    data = source.open()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 60, "test": 20}
    assert isinstance(data.codec.tokens, Words) and not capsys.readouterr().err
    batch = data.splits["test"].batch(np.arange(20))
    for side in ("chosen", "rejected"):
        wanted = [getattr(pair, side) for pair in source.make_examples("test")]
        tokens, response = batch[f"{side}_tokens"], batch[f"{side}_response"] > 0
        found = [data.codec.decode(row[mask]) for row, mask in zip(tokens, response, strict=True)]
        assert found == [text.lower() for text in wanted]
    assert (
        RulePreferences(60, 20, seed=1, cache=str(tmp_path)).open().fingerprint != data.fingerprint
    )
    shorter = dataclasses.replace(source, length=52).open()
    assert 0 < len(shorter.splits["train"]) < 60 and "and are dropped" in capsys.readouterr().err
