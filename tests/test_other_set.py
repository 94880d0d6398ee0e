"""A run is judged on another set than its own: in its form, and named with its fingerprint."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genjax
from genjax import gx
from genjax.errors import UserError
from tests import toy
from tests.test_main import cli, refused

EVERY = gx.Every(log=2, evaluate=0, sample=0, checkpoint=0)
NET = gx.Transformer(width=16, layers=1, heads=2, context=32)
WORDS = [
    "the",
    "old",
    "man",
    "went",
    "down",
    "to",
    "the",
    "sea",
    "and",
    "looked",
    "at",
    "the",
    "ships",
    "again",
]


def train(run_dir: Path, family, data, **changes):
    settings = {
        "optimizer": gx.SGD(gx.Constant(0.01)),
        "steps": 2,
        "batch_size": 8,
        "every": EVERY,
        "devices": gx.Devices(count=1),
    }
    genjax.train(gx.Experiment(family, data, **(settings | changes)), run_dir, quiet=True)
    return run_dir


def write_text(folder: Path, seed: int, words=WORDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    text = "\n".join(" ".join(draw.choice(words, 9)) for _ in range(80))
    (folder / "part.txt").write_text(text)
    return folder


def write_table(path: Path, seed: int, kinds=("oak", "elm"), extra="") -> Path:
    draw = np.random.default_rng(seed)
    rows = [f"height,kind{',note' if extra else ''}"]
    for _ in range(60):
        end = f",{extra}" if extra else ""
        rows.append(f"{draw.normal(10 * seed, 2):.2f},{draw.choice(kinds)}{end}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def write_images(folder: Path, classes: dict[str, int], size: int = 8, count: int = 12) -> Path:
    draw = np.random.default_rng(0)
    for name, grey in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(draw.normal(grey, 9, (size, size)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Four runs and the folder with their data."""
    folder = tmp_path_factory.mktemp("sets")
    text = gx.TextFiles(
        root=str(write_text(folder / "a", 0)), layout=gx.RandomWindows(16), cache=str(folder / "c")
    )
    train(folder / "text", gx.Autoregressive(NET), text)
    table = gx.Table(path=str(write_table(folder / "a.csv", 1)), target="kind", modes=2)
    vae = gx.VAE(latent_dim=2, coder=gx.MLPCoder(hidden=(8,)), likelihood=gx.Tabular())
    train(folder / "table", vae, table)
    images = write_images(folder / "images", {"ant": 40, "bee": 210, "cat": 120})
    net = gx.MLPBackbone(hidden=(16,))
    train(
        folder / "classes",
        gx.Classifier(net),
        gx.ImageFolder(root=str(images)),
        optimizer=gx.Adam(gx.Constant(0.01)),
        steps=150,
    )
    return folder


def test_text_of_another_folder_is_read_in_the_tokens_of_the_run(places):
    run = genjax.load(places / "text")
    other = write_text(places / "b", 7)
    result = cli("evaluate", places / "text", "--data.root", other, "--split", "all")
    assert result.code == 0, result.err
    found = json.loads((places / "text" / "eval.json").read_text())
    assert found["data"] == f"data.root '{other}'" and len(found["fingerprint"]) == 32
    assert f"data.root '{other}', fingerprint {found['fingerprint']}" in result.out
    tokens = len((other / "part.txt").read_text())
    # every token but the first is predicted once, whatever would be held out
    assert f"whole all split, {-(-(tokens - 1) // 16):,} examples" in found["protocols"]["loss"]
    assert found["loss"] == pytest.approx(
        run.evaluate("all", gx.TextFiles(root=str(other), layout=gx.Blocks(16))).numbers["loss"]
    )


def test_the_part_that_is_judged_is_named(places):
    other = write_text(places / "part", 3)
    result = cli("evaluate", places / "text", "--data.root", other)
    assert "--split all for every one" in result.out
    refused(cli("evaluate", places / "text", "--data.root", other, "--split", "tset"), "'test'")


def test_another_pattern_and_letters_that_the_run_does_not_know(places):
    (places / "a" / "more.md").write_text("the old sea\n" * 50)
    result = cli("evaluate", places / "text", "--data.pattern", "*.md")
    assert result.code == 0 and "data.pattern '*.md', fingerprint" in result.out
    (places / "a" / "more.md").unlink()
    strange = write_text(places / "strange", 1, ["q!", "£"])
    refused(cli("evaluate", places / "text", "--data.root", strange), "'q'")


def test_eval_json_keeps_every_split_and_set(places):
    run_dir = places / "text"
    other = write_text(places / "kept", 5)
    (run_dir / "eval.json").unlink(missing_ok=True)
    for options in ([], ["--split", "train"], ["--data.root", other], []):
        assert cli("evaluate", run_dir, *options).code == 0
    stored = json.loads((run_dir / "eval.json").read_text())
    kept = [(one["split"], one["data"]) for one in stored["judged"]]
    assert kept == [("train", ""), ("test", f"data.root '{other}'"), ("test", "")]
    newest = stored["judged"][-1]
    assert {name: stored[name] for name in newest} == newest
    assert len({one["fingerprint"] for one in stored["judged"]}) == 2


def test_a_table_is_encoded_by_the_columns_of_the_run(places, capsys):
    other = write_table(places / "b.csv", 3, extra="spare")
    run = genjax.load(places / "table")
    found = run.evaluate("all", gx.Table(path=str(other), target="kind", modes=2))
    assert "whole all split, 60 examples" in found.protocols["loss"]
    assert "left out, as the run does not have them: note" in capsys.readouterr().err
    same = gx.Table(path=str(places / "a.csv"), target="kind", modes=2, test_fraction=0.5)
    own = run.evaluate("all", same).numbers["loss"]
    # numbers 20 above the training rows are far from every mode
    assert found.numbers["loss"] > own + 5
    assert "the run may have been trained on some of" in str(run.evaluate("test", same).remarks)
    strange = write_table(places / "c.csv", 1, kinds=("oak", "palm"))
    refused(cli("evaluate", places / "table", "--data.path", strange), "'palm' in 'kind'")
    (places / "d.csv").write_text("height\n" + "1.5\n" * 30)
    refused(cli("evaluate", places / "table", "--data.path", places / "d.csv"), "'kind'")


def test_classes_are_matched_by_name_and_sizes_by_the_run(places):
    """Two of three classes, under numbers of their own, and of another size."""
    other = write_images(places / "two", {"bee": 210, "cat": 120}, size=12)
    run = genjax.load(places / "classes")
    found = run.evaluate("all", gx.ImageFolder(root=str(other)))
    assert found.numbers["accuracy"] == 1.0 and "24 examples" in found.protocols["loss"]
    strange = write_images(places / "strange_images", {"bee": 210, "dog": 120})
    refused(cli("evaluate", places / "classes", "--data.root", strange), "class 'dog'.*ant, bee")
    refused(cli("evaluate", places / "classes", "--data.channels", 3), "shape")


def test_evaluators_still_see_what_the_run_was_trained_on(tmp_path):
    run_dir = tmp_path / "run"
    experiment = toy.experiment(evaluators=(gx.GeneralisationGap(),))
    genjax.train(experiment, run_dir, quiet=True)
    run = genjax.load(run_dir)
    found = run.evaluate("test", toy.ToyData(bias=3.0))
    own = run.evaluate("test")
    assert "data.bias 3.0, fingerprint toy 3.0" in found.protocols["loss"]
    train = [report.numbers["train_loss"] for report in (found, own)]
    assert train[0] == train[1] != found.numbers["loss"]


def test_data_that_have_changed_are_judged_as_they_are_and_not_trained_on(tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    experiment = toy.experiment()
    genjax.train(experiment, run_dir, quiet=True)
    opened = toy.ToyData(bias=1.0).open()
    monkeypatch.setattr(toy.ToyData, "open", lambda self: opened)
    found = genjax.load(run_dir).evaluate()
    assert "the data as they are now, fingerprint toy 1.0" in found.protocols["loss"]
    assert "have changed since the run began" in found.remarks[0]
    with pytest.raises(UserError) as error:
        genjax.train(experiment, run_dir, quiet=True)
    assert error.value.field == "data"


def test_the_split_all_is_of_another_set(tmp_path):
    genjax.train(toy.experiment(), tmp_path / "run", quiet=True)
    with pytest.raises(UserError) as error:
        genjax.load(tmp_path / "run").evaluate("all")
    assert error.value.field == "split"


def test_what_training_may_not_change_stays_refused_there(tmp_path):
    genjax.train(toy.experiment(), tmp_path / "run", quiet=True)
    with pytest.raises(UserError):
        genjax.train(toy.experiment(data=toy.ToyData(bias=3.0)), tmp_path / "run", quiet=True)
