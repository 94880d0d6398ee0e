"""What runs draw goes into a store: samples, comparisons, evaluations and rollouts."""

import dataclasses
import json
import shutil
import subprocess
import sys
import wave

import numpy as np
import pyarrow.parquet as pq
import pytest

import genjax
from genjax.__main__ import main
from genjax.data.pictures import png_bytes
from genjax.data.sources import PreparedTexts, TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.evaluation.text.diversity import TextDiversity
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from genjax.store.lineage import read_lineage, show_lineage
from genjax.store.opening import open_store
from genjax.store.records import Payload, Prompt, Response
from genjax.store.training.datasets import write_dataset


def count_b(prompts, responses):
    return [float(response.count("b")) for response in responses]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two small models of letters, of seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "a.txt").write_text("a ban ana\nnab b\n" * 40)
    codec, split = Characters(" abn", delimiter=True), ByDocuments(test=0.2)
    data = TextFiles(str(folder), "*.txt", "lines", codec=codec, layout=Documents(11), split=split)
    family = Autoregressive(
        Transformer(layers=1, heads=2, width=8, context=12), sampler=Decoding(steps=8)
    )
    one = Experiment(
        family,
        data,
        Adam(Constant(0.03)),
        steps=10,
        batch_size=8,
        evaluators=(TextDiversity(samples=6),),
        every=Every(log=10, evaluate=0, sample=0, checkpoint=0),
        devices=Devices(count=1),
    )
    for seed in (0, 1):
        other = dataclasses.replace(one, seed=seed)
        genjax.train(other, folder / f"run_{seed}", quiet=True)
    return [str(folder / f"run_{seed}") for seed in (0, 1)]


@pytest.mark.long
def test_a_comparison_is_kept_with_scores_and_preferences(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "count_b_reward.py").write_text(
        "def score(prompts, responses):\n    return [float(r.count('b')) for r in responses]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["--num", "8", "--prompt", "a", "--prompt", "na", "--out", "out"]
    given = [*words, "--reward", "count_b_reward:score", "--store", "s.db"]
    assert main(["compare", *runs, *given]) == 0
    with open_store("s.db") as store:
        answers = list(store.select(kind="response", origin="any"))
        assert len(answers) == 16 and len({a.prompt for a in answers}) == 2
        assert len({a.run for a in answers}) == 2
        scores = {}
        for one in store.select("name=reward", kind="feedback"):
            scores[one.target] = one.value
            assert (one.source_kind, one.source_id) == ("CODE", "count_b_reward:score")
        assert scores == {a.id: float(a.payload.text.count("b")) for a in answers}
        pairs = {
            frozenset((r.subject, r.object)) for r in store.select(kind="relation", origin="any")
        }
        assert len(pairs) == 8 and len(frozenset().union(*pairs)) == 16
        preferred = list(store.select("name=preference", kind="feedback"))
        told = {frozenset((one.target, one.against)) for one in preferred}
        assert told == {p for p in pairs if len({scores[one] for one in p}) == 2}
        assert all(scores[p.target] - scores[p.against] == p.value > 0 for p in preferred)
        numbers = json.loads((tmp_path / "out" / "compare.json").read_text())["numbers"]
        b = {a.id for a in answers if store.get(a.run, "any").path == runs[1]}
        ties = len(pairs) - len(told)
        won = sum(p.target in b for p in preferred) + ties / 2
        assert numbers["win_rate"] == won / 8


def test_an_evaluation_is_kept_on_the_checkpoint(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", runs[0], "--store", "s.db"]) == 0
    found = json.loads((tmp_path / runs[0] / "eval.json").read_text())
    with open_store("s.db") as store:
        (checkpoint,) = store.select(kind="checkpoint")
        assert checkpoint.step == 10
        kept = {f.name: f.value for f in store.select(f"target={checkpoint.id}", kind="feedback")}
        assert kept and all(found[name] == value for name, value in kept.items())
        assert {"loss", "distinct_2"} <= kept.keys()
        answers = list(store.select(kind="response", origin="any"))
        assert len(answers) == 6 and {a.step for a in answers} == {10}
        tree = show_lineage(read_lineage(store, answers[0].id))
        assert f"checkpoint {checkpoint.id}" in tree and "run " in tree


def test_files_of_prompts_are_answered_into_the_store(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asked.jsonl").write_text('{"prompt": "a b"}\n{"prompt": "n"}\n{"prompt": "n"}\n')
    given = ["--prompts", "asked.jsonl", "--store", "s.db", "--out", "answers.jsonl"]
    assert main(["sample", runs[0], *given]) == 0
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    with open_store("s.db") as store:
        asked = {p.id: p.payload.text for p in store.select(kind="prompt")}
        assert sorted(asked.values()) == ["a b", "n"]
        answers = list(store.select(kind="response", origin="any", order="id"))
        told = [(asked[a.prompt], a.payload.text) for a in answers]
        assert told == [(row["prompt"], row["completion"]) for row in rows]


@pytest.mark.parametrize(
    ("config", "given", "kind"),
    [
        ("gan_digits", (), "image/png"),
        pytest.param(
            "diffusion_digits", ("--labels", "3", "7"), "image/png", marks=pytest.mark.long
        ),
        pytest.param("diffusion_tones", (), "audio/wav", marks=pytest.mark.long),
        ("gan_points", (), None),
        ("tabular_vae", (), None),
    ],
)
def test_pictures_sounds_and_rows_are_kept_with_their_lineage(
    tmp_path, monkeypatch, config, given, kind
):
    monkeypatch.chdir(tmp_path)
    run, few = "runs/one", ["--steps", "4", "--every.log", "4", "--devices.count", "1"]
    for name in ("evaluate", "sample", "checkpoint"):
        few += [f"--every.{name}", "0"]
    assert main(["train", config, "--tiny", "--run-dir", run, *few]) == 0
    count = ["--num", "2"] if not given else []
    assert main(["sample", run, *given, *count, "--store", "s.db", "--out", "o/x"]) == 0
    with open_store("s.db") as store:
        answers = list(store.select(kind="response", origin="any"))
        assert len(answers) == 2
        for answer in answers:
            assert answer.payload.media_type == kind
            if kind is None:
                assert answer.payload.data and answer.payload.blob is None
            else:
                content = store.read_blob(answer.payload)
                assert content.startswith(b"\x89PNG" if kind == "image/png" else b"RIFF")
        tree = show_lineage(read_lineage(store, answers[0].id))
        assert "checkpoint" in tree and run in tree
        said = {store.get(a.prompt).payload.text for a in answers}
        assert said == set(given[1:]) or not given
    if kind == "audio/wav":
        path = tmp_path / "one.wav"
        path.write_bytes(content)
        with wave.open(str(path)) as sound:
            assert sound.getnframes() > 0


@pytest.mark.long
def test_rollouts_are_kept_once_however_often_a_run_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    common = ["train", "ppo_positive", "--tiny", "--store", "s.db", "--every.checkpoint", "2"]
    common += ["--every.evaluate", "0", "--every.sample", "0", "--devices.count", "1"]
    assert main(common) == 0

    def read():
        with open_store("s.db") as store:
            answers = list(store.select(kind="response", origin="any", order="id"))
            scores = {f.target: f.value for f in store.select("name=reward", kind="feedback")}
        return answers, scores

    answers, scores = read()
    assert sorted((a.step, a.metadata["row"]) for a in answers) == [
        (step, row) for step in range(4) for row in range(8)
    ]
    path = tmp_path / "runs" / "ppo_positive_tiny" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    means = {row["step"]: row["reward"] for row in rows if row["split"] == "train"}
    for last, mean in means.items():  # a row of metrics is the mean of two steps
        own = [scores[a.id] for a in answers if last - 2 <= a.step < last]
        assert np.mean(own) == pytest.approx(mean, abs=1e-5)
    shutil.rmtree("runs/ppo_positive_tiny/checkpoints/4")  # as if it had been killed before
    assert main(common) == 0
    assert read() == (answers, scores)
    assert main([*common, "--steps", "6"]) == 0
    assert len(read()[0]) == 48


def test_only_rollouts_can_be_kept_while_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "vae_digits", "--tiny", "--store", "s.db"]) == 2
    assert "store must be left out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_training_imports_the_store_only_where_it_is_used():
    code = (
        "import sys, genjax.__main__, genjax.training; "
        "print([m for m in sys.modules if m.startswith('genjax.store') or m == 'sqlalchemy'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_filter_over_drawn_records_is_a_data_set(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, run in enumerate(runs):
        given = ["--num", "12", "--seed", str(number), "--prompt", "a", "--store", "s.db"]
        assert main(["sample", run, *given, "--out", "out/x"]) == 0
    command = ["store", "dataset", "s.db"]
    assert main([*command, "letters", "--filter", "text:b"]) == 0
    with open_store("s.db") as store:
        answers = list(store.select("text:b", kind="response", origin="synthetic"))
        wanted = {one.id: one.payload.text for one in answers}
        (noted,) = store.select("name=letters", kind="dataset")
        assert set(noted.parents) == set(wanted)
    folder = tmp_path / "prepared" / "letters"
    rows = [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["id"]: row["text"] for row in rows} == wanted
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["origin"] == "synthetic"
    assert manifest["generator"]["data_fingerprint"] == noted.fingerprint
    assert set(manifest["generator"]["inputs"]) == {f"response {one}" for one in wanted}
    assert {one["run"] for one in manifest["generator"]["parents"].values()} == set(runs)
    with pytest.raises(UserError, match="synthetic"):
        PreparedTexts("letters").open()  # nobody takes it for real
    assert main([*command, "letters"]) == 2  # the folder is there
    assert main([*command, "none", "--filter", "text:xyz"]) == 2
    assert "filter of store s.db passes no drawn text" in capsys.readouterr().err


def test_drawn_pictures_are_a_data_set_with_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [png_bytes(np.full((8, 8, 1), 20 * i, np.uint8)) for i in range(6)]
    with open_store("s.db", create=True) as store:
        for number, content in enumerate(made):
            label = Prompt(id=f"l{number}", origin="real", payload=Payload(text=str(number % 2)))
            drawn = Payload(content=content, media_type="image/png")
            given = {"origin": "synthetic", "generator": "unknown", "prompt": label.id}
            store.add(label, Response(id=f"i{number}", payload=drawn, **given))
        path, count = write_dataset(store, "squares", out="sets/squares")
    rows = [r for p in path.parent.glob("*.parquet") for r in pq.read_table(p).to_pylist()]
    assert count == 6 and {r["id"]: (r["image"], r["label"]) for r in rows} == {
        f"i{n}": (content, str(n % 2)) for n, content in enumerate(made)
    }
