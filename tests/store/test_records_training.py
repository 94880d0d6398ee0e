"""Records become training sets: frozen, with their lineage, and after a look at the raters."""

import dataclasses
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.__main__ import main
from genjax.config_files import load_config
from genjax.data.pictures import png_bytes
from genjax.data.sources import LabelledTexts, TextFiles
from genjax.data.text.codecs import Bytes, Words
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families import classifier
from genjax.families.classifier import Classifier
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from genjax.store.judging import prefer, score
from genjax.store.lineage import read_lineage, show_lineage
from genjax.store.opening import open_store
from genjax.store.records import Feedback, Payload, Prompt, Response
from genjax.store.training.agreement import (
    Vote,
    cohen_kappa,
    decide,
    describe_ratings,
    describe_votes,
    krippendorff_alpha,
    read_vote,
)
from genjax.store.training.classifying import categorise_by_run
from genjax.store.training.examples import RuleTalk
from genjax.store.training.sources import StoreInstructions, StorePreferences
from tests.store.test_records_contract import make_place, server, url  # noqa: F401  (fixtures)

# Krippendorff, "Computing Krippendorff's alpha-reliability", 2011: four observers, twelve units.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
PLAIN = {"codec": Bytes(delimiter=True), "length": 100, "split": ByDocuments(test=0.25)}


def add_talk(store, answers, prompt="p"):
    """A prompt and responses to it, of the ids and texts that are given."""
    records = [Prompt(id=prompt, origin="real", payload=Payload(text=f"say {prompt}"))]
    for one, text in answers.items():
        said = Payload(text=text)
        records.append(
            Response(id=one, origin="synthetic", generator="unknown", prompt=prompt, payload=said)
        )
    store.add(*records)


def vote(target, against, user, **more):
    given = {"origin": "real", "name": "preference", "value": 1.0, **more}
    return Feedback(target=target, against=against, user=user, **given)


def test_kappa_by_hand():
    # Of 50 proposals 20 and 15 are the same; chance is .5 * .6 + .5 * .4 (a known example).
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(a, b) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert cohen_kappa(["x", "y"], ["y", "x"]) == pytest.approx(-1)
    assert math.isnan(cohen_kappa(["x"], ["x"])) and math.isnan(cohen_kappa([], []))


def test_alpha_is_that_of_the_published_example():
    ratings = {
        str(rater): {
            str(unit): float(value) for unit, value in enumerate(row.split()) if value != "."
        }
        for rater, row in enumerate(OBSERVERS)
    }
    assert krippendorff_alpha(ratings) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(ratings, "interval") == pytest.approx(0.849, abs=5e-4)
    assert "alpha 0.849 (4 raters, 11 records" in describe_ratings("score", ratings)
    assert math.isnan(krippendorff_alpha({"a": {"1": 1.0}, "b": {"2": 1.0}}))
    assert math.isnan(krippendorff_alpha({"a": {"1": 1.0}, "b": {"1": 1.0}}))


def test_biases_by_hand():
    votes = [Vote("ann", "HUMAN", "long", f"short {i}", "first") for i in range(9)]
    votes += [Vote("bob", "HUMAN", "short 0", "long", "second")]
    lengths = {"long": 9} | {f"short {i}": 1 for i in range(9)}
    told = describe_votes(votes, lengths)
    assert told[0] == "preferences: 10 on 9 pairs, raters 2 HUMAN"
    assert "kappa not defined" in told[1] or "kappa 0.000" in told[1]
    assert told[2].startswith("length: the longer response is chosen in 90.0 % of 10")
    assert "a bias" in told[2] and "a bias" in told[3]
    assert told[3].startswith("position: the response shown first is chosen in 90.0 %")
    assert describe_votes(votes[:1], {"long": 9})[2:] == [
        "length: no two responses differ",
        "position: the response shown first is chosen in 100.0 % of 1 (95 % interval 21 to 100 %)",
    ]


def test_the_place_is_read_as_the_page_writes_it():
    sides = {"left": "x", "right": "y", "chosen": "right"}
    assert read_vote(vote("y", "x", "ann", metadata=sides)).position == "second"
    assert read_vote(vote("x", "y", "ann", metadata=sides)).position == "first"
    assert read_vote(vote("x", "y", "ann")).position is None
    assert read_vote(vote("x", None, "ann", label="tie")) is None
    assert read_vote(vote("x", "y", "ann", valid=False)) is None
    assert read_vote(vote("x", "x", "ann")) is None


def test_people_come_before_models_and_the_most_decide():
    ways = (("a", "xy"), ("b", "yx"), ("e", "xy"))
    ann, bob, eve = (Vote(name, "HUMAN", *way) for name, way in ways)
    model = Vote("m", "MODEL", "y", "x")
    assert decide([ann, bob, eve]) == ("x", "y") and decide([ann, bob]) is None
    assert decide([model, ann]) == ("x", "y") and decide([model]) == ("y", "x")
    assert decide([ann, Vote("a", "HUMAN", "y", "x")]) == ("y", "x")  # the last word counts


def test_a_store_becomes_pairs_by_its_raters(url, tmp_path):  # noqa: F811
    with open_store(url, create=True, blobs=str(tmp_path / "blobs")) as store:
        for number in range(8):
            ids = [f"{number}{side}" for side in "ab"]
            add_talk(store, {ids[0]: "good " * 3, ids[1]: "bad"}, f"p{number}")
            store.add(vote(*ids, "ann"))
            if number == 0:  # two people overrule the first
                store.add(vote("0b", "0a", "bob"), vote("0b", "0a", "eve"))
            if number == 1:  # a tie
                store.add(vote("1b", "1a", "bob"))
            if number == 2:  # what a function says counts for nothing beside a person
                for name in ("f", "g"):
                    given = {"source_kind": "CODE", "source_id": name}
                    store.add(vote("2b", "2a", None, **given))
        add_talk(store, {"empty": "  ", "full": "x"}, "q")
        store.add(vote("full", "empty", "ann"))
    with pytest.raises(UserError, match='origin="any"') as error:
        StorePreferences(url, **PLAIN).open()
    assert error.value.field == "filter"
    data = StorePreferences(url, origin="any", **PLAIN)
    chosen = data.freeze(None)
    rows = {row["prompt"]: row for row in chosen.snapshot.rows}
    assert len(rows) == 7 and "say p1" not in rows and "say q" not in rows
    assert rows["say p0"]["chosen"] == "bad" and rows["say p2"]["chosen"] == "good good good "
    said = "\n".join(chosen.snapshot.remarks)
    assert "1 pairs are left out" in said and "1 rows without a text" in said
    assert "Krippendorff's alpha" in said and "position: not recorded" in said
    assert chosen.snapshot.raters == {
        "HUMAN ann": 7,
        "HUMAN bob": 1,
        "HUMAN eve": 1,
        "CODE f": 1,
        "CODE g": 1,
    }
    opened = chosen.open()
    assert sum(map(len, opened.splits.values())) == 7
    only = StorePreferences(url, filter="user=eve", origin="any", **PLAIN).freeze(None)
    assert len(only.snapshot.rows) == 1


def test_responses_of_a_prompt_are_of_one_split(url, tmp_path):  # noqa: F811
    with open_store(url, create=True, blobs=str(tmp_path / "blobs")) as store:
        for number in range(12):
            texts = {f"{number}-{i}": f"answer {number} {i}" for i in range(5)}
            add_talk(store, texts, f"p{number}")
    data = StoreInstructions(url, origin="any", **PLAIN).open()
    said = {name: set() for name in data.splits}
    for name, split in data.splits.items():
        for number in range(len(split)):
            tokens = split.batch(np.array([number]))["tokens"][0]
            said[name].add(data.codec.decode(tokens).partition("say ")[2].split()[0])
    assert len(said["train"]) + len(said["test"]) == 12 and said["test"]
    assert sum(map(len, data.splits.values())) == 60


def test_what_nobody_has_judged_is_filled_in(tmp_path):
    with open_store(str(tmp_path / "s.db"), create=True) as store:
        for number in range(3):
            add_talk(store, {f"{number}a": "aa", f"{number}b": "b"}, f"p{number}")
        store.add(vote("0b", "0a", "ann"))
        given = {"name": "length", "origin": "real", "user": "ann", "value": 9.0}
        store.add(Feedback(target="1b", **given))

        def length(prompts, responses):
            return [float(len(response)) for response in responses]

        assert score(store, "length", length, origin="any", fill=True) == 5
        assert prefer(store, "length", origin="any", fill=True) == 2
        made = {f.target: f for f in store.select("name=preference", kind="feedback")}
        assert {one: f.source_kind for one, f in made.items()} == {
            "0b": "HUMAN",
            "1b": "CODE",
            "2a": "CODE",
        }
        assert prefer(store, "length", origin="any") == 1  # without it, the first prompt, too
        assert [f.source_kind for f in store.select("target=0a", kind="feedback")][-1:] == ["CODE"]


@pytest.mark.long
def test_a_run_resumes_on_its_rows_whatever_becomes_of_the_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--every.evaluate", "0", "--every.sample", "0", "--devices.count", "1"]
    common = ["train", "dpo_from_store", "--tiny", "--every.checkpoint", "2", *few]
    assert main([*common, "--every.log", "1"]) == 0
    said = capsys.readouterr().err
    assert "agreement on preferences: Krippendorff's alpha" in said and "position: the" in said
    run = tmp_path / "runs" / "dpo_from_store_tiny"
    whole = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    weights = genjax.load(run).state.params
    with open_store("runs/rule_talk_tiny.db") as store:
        found = {store.get(one.run).name: one for one in store.select(kind="checkpoint")}
        checkpoint = found["dpo_from_store_tiny"]
        tree = show_lineage(read_lineage(store, checkpoint.id))
        pairs = list(store.select("name=preference", kind="feedback", origin="any"))
        assert len(pairs) == 3 * 64 and all(one.id in tree for one in pairs)
        assert "by ann" in tree and "by eve" in tree
        assert all(one.id in tree for one in store.select(kind="prompt"))
        down = show_lineage(read_lineage(store, pairs[0].id, down=True))
        assert checkpoint.id in down
    assert main(["show", str(run), "--lineage"]) == 0
    shown = capsys.readouterr().out
    assert "store runs/rule_talk_tiny.db" in shown and "raw response" in shown
    shutil.rmtree(run / "checkpoints" / "4")
    for path in (tmp_path / "runs").glob("rule_talk_tiny.db*"):
        path.unlink()
    assert main([*common, "--every.log", "1"]) == 0
    assert not (tmp_path / "runs" / "rule_talk_tiny.db").exists()
    again = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    keep = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in whole]
    assert keep == [{k: v for k, v in row.items() if not k.startswith("time/")} for row in again]
    for one, other in zip(*map(_leaves, (weights, genjax.load(run).state.params)), strict=True):
        np.testing.assert_array_equal(one, other)
    snapshot = next(run.glob("snapshot_*.json"))
    snapshot.write_text(snapshot.read_text().replace("The room", "The Room", 1))
    assert main([*common, "--steps", "6"]) == 2
    assert "rows are not those that were kept" in capsys.readouterr().err


def _leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_the_generated_store_is_made_once_and_whole(tmp_path):
    make, place = RuleTalk(20), str(tmp_path / "talk.db")
    make(place)
    with open_store(place) as store:
        before = store.count(origin="any")
        assert before == 20 * (1 + 2 + 2 + 3)
        good = StoreInstructions(place, "score.positivity>0", "any", codec=Words(), length=64)
        texts = [row["completion"] for row in good.freeze(None).snapshot.rows]
        wanted = {f.target for f in store.select("name=positivity value>0", kind="feedback")}
        assert len(texts) == len(wanted) > 0
    make(place)
    with open_store(place) as store:
        assert store.count(origin="any") == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": ""}, "url"),
        ({"filter": "score.x>"}, "filter"),
        ({"filter": "nothing=1"}, "filter"),
        ({"origin": "both"}, "origin"),
        ({"make": 3}, "make"),
        ({"length": 0}, "length"),
        ({"url": "mysql://x/y"}, "store"),
        ({"url": "not_there.db"}, "store"),
    ],
)
@pytest.mark.parametrize("kind", [StoreInstructions, StorePreferences])
def test_mistakes_are_named(tmp_path, monkeypatch, kind, change, field):
    monkeypatch.chdir(tmp_path)
    RuleTalk(2)("s.db")
    with pytest.raises(UserError) as error:
        kind(**({"url": "s.db", "origin": "any"} | change)).open()
    assert error.value.field == field or f"({field})" in str(error.value)


def test_the_command_says_whether_raters_agree(tmp_path, capsys):
    RuleTalk(30)(str(tmp_path / "s.db"))
    assert main(["store", "agreement", str(tmp_path / "s.db"), "--origin", "any"]) == 0
    said = capsys.readouterr().out
    assert "preferences: 90 on 30 pairs, raters 3 CODE" in said
    assert "agreement on score positivity: no record has two raters" in said


def test_a_config_names_the_store_by_its_own_component():
    data = load_config("dpo_from_store", tiny=True)[0].data
    assert isinstance(data, StorePreferences) and data.make == RuleTalk(64)


def test_a_classifier_of_texts_labels_records(url, tmp_path, capsys):  # noqa: F811
    words = {"sea": "ship wave sail", "land": "road hill tree"}
    rng = np.random.default_rng(0)
    for name, text in words.items():
        (tmp_path / "texts" / name).mkdir(parents=True)
        lines = (" ".join(rng.choice(text.split(), 5)) for _ in range(60))
        (tmp_path / "texts" / name / "a.txt").write_text("\n".join(lines))
    split, layout = ByDocuments(test=0.2), Documents(7)
    texts = TextFiles(
        str(tmp_path / "texts"), "*/*.txt", "lines", codec=Words(), layout=layout, split=split
    )
    net = Transformer(layers=1, heads=2, width=16, context=8, causal=False)
    experiment = Experiment(
        Classifier(TokenBackbone(net)),
        LabelledTexts(texts),
        Adam(Constant(0.03)),
        steps=30,
        batch_size=16,
        every=Every(log=10, evaluate=0, sample=0, checkpoint=0),
        devices=Devices(count=1),
    )
    run = genjax.train(experiment, tmp_path / "run", quiet=True)
    with open_store(url, create=True, blobs=str(tmp_path / "blobs")) as store:
        said = {"s1": "wave sail ship", "l1": "tree hill road", "s2": "ship " * 20, "none": " "}
        add_talk(store, said)
        done = categorise_by_run(store, str(run.run_dir), kind="response", origin="any")
        assert (done.labelled, done.unread) == (3, 0)
        found = {f.target: f for f in store.select("name=category", kind="feedback")}
        assert {one: f.label for one, f in found.items()} == {
            "s1": "sea",
            "l1": "land",
            "s2": "sea",
        }
        for one in found.values():
            assert one.source_kind == "MODEL" and one.source_id.endswith("step 30")
            assert 0.8 < one.value <= 1
        again = categorise_by_run(store, str(run.run_dir), kind="response", origin="any")
        assert again.labelled == 0
        assert store.count("score.category>0.5", kind="response", origin="any") == 3
    place = tmp_path / "plain.db"
    with open_store(str(place), create=True) as store:
        add_talk(store, {"a": "road"}, "ship")
    command = ["store", "categorise", str(place), "--run", str(run.run_dir), "--origin", "any"]
    assert main([*command, "--name", "theme"]) == 0
    assert "labelled  2 records" in capsys.readouterr().out  # the prompt, too: "say ship"
    assert main([*command[:4], str(tmp_path / "nothing")]) == 2


def test_a_classifier_of_pictures_labels_payloads(tmp_path):
    base, _ = load_config("classifier_digits", tiny=True)
    every = Every(log=4, evaluate=0, sample=0, checkpoint=0)
    small = dataclasses.replace(base, steps=4, every=every, evaluators=(), devices=Devices(count=1))
    run = genjax.train(small, tmp_path / "run", quiet=True)
    images = base.data.open().splits["test"].batch(np.arange(5))["image"]
    pictures = [png_bytes(image) for image in run.codec.decode(images)]
    with open_store(str(tmp_path / "s.db"), create=True) as store:
        records = [
            Prompt(id=f"p{i}", origin="real", payload=Payload(content=c, media_type="image/png"))
            for i, c in enumerate([*pictures, b"no picture"])
        ]
        store.add(*records, Prompt(id="text", origin="real", payload=Payload(text="not seen")))
        done = categorise_by_run(store, str(run.run_dir))
        assert (done.labelled, done.unread) == (5, 1)
        log_p = classifier.predict(run.family, run.eval_state, {"image": jnp.asarray(images)})
        found = {f.target: f for f in store.select("name=category", kind="feedback")}
        for number, row in enumerate(np.exp(np.asarray(log_p))):
            judged = found[f"p{number}"]
            assert judged.value == pytest.approx(float(row.max()), abs=0.02)
        other, _ = load_config("vae_digits", tiny=True)
        family = dataclasses.replace(other, steps=4, every=every, devices=Devices(count=1))
        made = genjax.train(
            dataclasses.replace(family, evaluators=()), tmp_path / "vae", quiet=True
        )
        with pytest.raises(UserError) as error:
            categorise_by_run(store, str(made.run_dir))
        assert error.value.field == "run"
