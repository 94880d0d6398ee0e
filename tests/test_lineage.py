"""Where runs, samples and synthetic sets come from is recorded, and told when what they came
from is gone.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from etils import epath
from toy import Pictures, experiment

import genjax
from genjax import __main__ as command_line
from genjax.cli.as_dataset import write_dataset
from genjax.continued import Continued
from genjax.data.dataset import Origin, Spec
from genjax.data.images.decode import decode
from genjax.data.sources.prepared import PreparedTexts, Synthetic
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents
from genjax.errors import UserError
from genjax.experiment import Every, Experiment, Keep, find_runs
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.families.vae import PriorSampler
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.parallel import Devices
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Texts
from genjax.prepare.run import prepare
from genjax.prepare.stages.splits import Splits
from genjax.runs import directory, lineage
from genjax.schedules import Constant
from genjax.start_from import StartFrom


def cli(*arguments):
    """(code, printed, errors)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command_line.main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def written(steps, data, **changes):
    family = Autoregressive(
        Transformer(layers=1, heads=2, width=8, context=12), sampler=Decoding(steps=8)
    )
    every = Every(log=2, evaluate=0, sample=0, checkpoint=2)
    told = Experiment(
        family,
        data,
        SGD(Constant(0.01)),
        steps=steps,
        batch_size=8,
        every=every,
        devices=Devices(1),
    )
    return dataclasses.replace(told, **changes)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Raw words, runs/first on them, made drawn from it, and runs/second on both, begun with
    the first.
    """
    folder = tmp_path_factory.mktemp("chain")
    (folder / "words.txt").write_text("".join(f"a ban {number}\n" for number in range(60)))
    reader = Texts(("words.txt",), str(folder), "lines")
    with contextlib.chdir(folder):
        prepare(
            Preparation((reader,), (Splits(),)), "words", "prepared/words", say=lambda line: None
        )
        data = PreparedTexts(
            "words", codec=Characters(delimiter=True), layout=Documents(11), cache="cache"
        )
        first = genjax.train(written(4, data, seed=5), "runs/first", quiet=True)
        code, printed, err = cli(
            "sample", "runs/first", "--as-dataset", "made", "--num", 20, "--seed", 3
        )
        assert code == 0, err
        mixed = dataclasses.replace(data, synthetic=Synthetic("made", 0.1))
        second = written(2, mixed, start_from=StartFrom("runs/first"))
        genjax.train(second, "runs/second", quiet=True)
    return SimpleNamespace(folder=folder, first=first, printed=printed, data=data, second=second)


@pytest.fixture
def here(chain, tmp_path, monkeypatch):
    """A copy of all of it."""
    shutil.copytree(chain.folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def started(run_dir):
    return directory.starts(epath.Path(run_dir))


@pytest.mark.long
def test_a_run_records_the_sets_it_learned_from(chain, here):
    (start,) = started("runs/first")
    data = chain.data.open()
    (origin,) = start["origins"]
    assert start["data_fingerprint"] == data.fingerprint and start["parents"] == {}
    manifest = json.loads((here / "prepared" / "words" / "manifest.json").read_text())
    assert Origin(**origin) == data.origins[0] and origin["fingerprint"] == manifest["fingerprint"]
    made = started("runs/second")[0]["origins"][1]
    assert (made["name"], made["kind"]) == ("made", "synthetic")


@pytest.mark.long
def test_a_synthetic_set_is_that_of_its_run_and_leads_back_to_its_data(chain, here):
    assert chain.printed == "prepared/made/manifest.json\n"
    manifest = json.loads((here / chain.printed.strip()).read_text())
    generator, (start,) = manifest["generator"], started("runs/first")
    assert {
        name: generator[name] for name in ("run", "step", "seed", "training_seed", "drawn")
    } == {
        "run": "first",
        "step": 4,
        "seed": 3,
        "training_seed": 5,
        "drawn": 20,
    }
    config = (here / "runs" / "first" / "config.json").read_bytes()
    assert generator["config"] == hashlib.sha256(config).hexdigest()
    assert (
        generator["data_fingerprint"] == start["data_fingerprint"]
        and generator["origins"] == start["origins"]
    )
    rows = [
        row
        for path in (here / "prepared" / "made").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    texts = (
        genjax.load("runs/first")
        .write_samples(here / "texts", 20, 3)
        .read_text()
        .removesuffix("\n")
        .split("\n")
    )
    assert sorted(row["text"] for row in rows) == sorted(text for text in texts if text)
    assert {row["source"] for row in rows} == {"synthetic/first"}
    assert (here / "prepared" / "made" / "card.md").read_text().startswith("# SYNTHETIC: made\n")


def expected(first, second, words, made, raw):
    """The tree of the second run; each argument is what stands in it."""
    return f"""run runs/second, step 2, seed 0
  config {second["config"]}
  commit {", ".join(second["commits"]) or "not recorded"}
  data {second["data"]}
    real words: {words}
      {raw}
    synthetic made: {made}
      drawn with seed 3 from run first, step 4, seed 5
        config {first["config"]}
        commit {", ".join(first["commits"]) or "not recorded"}
        data {first["data"]}
          real words: {words}
            {raw}
  start_from: run runs/first, step 4, seed 5
    config {first["config"]}
    commit {", ".join(first["commits"]) or "not recorded"}
    data {first["data"]}
      real words: {words}
        {raw}
"""


def test_the_tree_leads_from_a_run_to_the_raw_files_and_stays_when_the_rest_is_gone(here):
    def known(name):
        config = hashlib.sha256((here / "runs" / name / "config.json").read_bytes()).hexdigest()
        (start,) = started(f"runs/{name}")
        commits = [start["commit"]] if start["commit"] else []
        return {"config": config, "commits": commits, "data": start["data_fingerprint"]}

    sets = [
        json.loads((here / "prepared" / name / "manifest.json").read_text())
        for name in ("words", "made")
    ]
    prints = [found["fingerprint"] for found in sets]
    told = known("first"), known("second"), *prints
    raw = f"raw words.txt: {hashlib.sha256((here / 'words.txt').read_bytes()).hexdigest()}"
    assert cli("show", "runs/second", "--lineage") == (0, expected(*told, raw), "")
    shutil.rmtree(here / "runs" / "first")
    shutil.rmtree(here / "prepared" / "made")
    assert cli("show", "runs/second", "--lineage") == (0, expected(*told, raw), "")
    manifest = here / "prepared" / "words" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(prints[0], "of other records"))
    lost = "raw files unknown: prepared/words/manifest.json is missing, or describes other records"
    assert cli("show", "runs/second", "--lineage") == (0, expected(*told, lost), "")


def test_a_run_that_goes_on_keeps_what_it_stood_on_when_it_began(chain, here):
    before = started("runs/second")[0]["parents"]
    shutil.rmtree(here / "runs" / "first")
    genjax.train(dataclasses.replace(chain.second, steps=4), "runs/second", quiet=True)
    starts = started("runs/second")
    assert len(starts) == 2 and starts[1]["parents"] == before == starts[0]["parents"]
    assert before["start_from"]["step"] == 4 and before["start_from"]["run"] == "runs/first"


def test_a_run_of_an_older_genjax_leads_to_the_runs_its_config_names(here):
    path = here / "runs" / "second" / "environment.json"
    starts = json.loads(path.read_text())
    for start in starts:
        del start["parents"], start["origins"]
    path.write_text(json.dumps(starts))
    found = lineage.read_record("runs/second")
    assert (
        found["parents"]["start_from"] == lineage.read_record("runs/first")
        and found["origins"] == []
    )
    shutil.rmtree(here / "runs" / "first")
    assert (
        "  start_from: run runs/first, which was not there\n"
        in cli("show", "runs/second", "--lineage")[1]
    )


@dataclasses.dataclass(frozen=True)
class Depends(Continued):
    base: str
    lost: str

    @property
    def runs(self):
        return {"base": self.base, "lost": self.lost}


def test_a_run_that_stands_on_others_records_them_by_role(tmp_path):
    genjax.train(experiment(steps=2, every=Every(1, 0, 0, 0)), tmp_path / "base", quiet=True)
    told = SimpleNamespace(
        family=Depends(str(tmp_path / "base"), str(tmp_path / "lost")),
        start_from=StartFrom(),
        curriculum=SimpleNamespace(score=SimpleNamespace(runs=(str(tmp_path / "base"),))),
    )
    found = lineage.parents(epath.Path(tmp_path / "new"), find_runs(told))
    assert sorted(found) == ["curriculum.0", "family.base", "family.lost"]
    assert found["family.base"] == lineage.read_record(tmp_path / "base") | {
        "run": str(tmp_path / "base")
    }
    assert found["family.base"]["step"] == 2 and found["family.lost"]["config"] is None


def test_a_start_from_the_best_checkpoint_names_its_step(tmp_path):
    every = Every(log=0, evaluate=2, sample=0, checkpoint=2)
    keep = Keep(best="loss", larger_is_better=True)  # the loss falls, so that is the first
    genjax.train(experiment(steps=6, every=every, keep=keep), tmp_path / "base", quiet=True)
    for best, step in ((True, 2), (False, 6)):
        start = experiment(start_from=StartFrom(str(tmp_path / "base"), best=best))
        found = lineage.parents(epath.Path(tmp_path / "new"), find_runs(start), best)
        assert found["start_from"]["step"] == step


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("points") / "run"
    return genjax.train(experiment(steps=2, every=Every(1, 0, 2, 0)), run_dir, quiet=True)


def test_a_file_of_samples_leads_back_to_its_run(points, tmp_path):
    path = points.write_samples(num=3, seed=9)
    (row,) = [json.loads(line) for line in (path.parent / "lineage.jsonl").read_text().splitlines()]
    known = lineage.read_record(points.run_dir)
    assert row == {
        "file": "00000002_seed_9.csv",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "run": str(points.run_dir),
        "step": 2,
        "seed": 9,
        "config": known["config"],
        "data_fingerprint": "toy 0.0",
    }
    code, printed, _ = cli("show", path)
    assert code == 0
    line = f"{path}: drawn from {points.run_dir}, step 2, with seed 9"
    assert printed == f"{line}\n{lineage.tree(known)}\n"
    elsewhere = points.write_samples(tmp_path / "mine", num=3, seed=4)
    assert cli("show", elsewhere)[1].startswith(
        f"{elsewhere}: drawn from {points.run_dir}, step 2, with seed 4\n"
    )
    elsewhere.write_text("changed")
    assert "with seed 4; it has changed since it was drawn\n" in cli("show", elsewhere)[1]


def test_a_sample_of_training_leads_back_to_its_step(points):
    path = points.run_dir / "samples" / "00000002.csv"
    assert cli("show", path)[1].startswith(
        f"{path}: drawn at step 2 while the run was trained\nrun {points.run_dir}, "
    )


def test_a_file_that_nothing_is_recorded_of_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    code, _, err = cli("show", tmp_path / "a.png")
    assert code == 2 and "the origin of" in err


def test_only_the_files_that_were_written_are_the_runs(points, tmp_path):
    (tmp_path / "a.csv").write_text("a table of somebody")
    (tmp_path / "lineage.jsonl").write_text('{"file": "old.png", "sha256": "0"}\nno row\n')

    def write():
        (tmp_path / "a.png").write_bytes(b"picture")
        (tmp_path / "a.wav").write_bytes(b"sound")
        return epath.Path(tmp_path / "a.wav")

    stem = epath.Path(tmp_path / "a")
    for _ in range(2):
        assert lineage.record_samples(points.run_dir, 2, 0, stem, write) == tmp_path / "a.wav"
        rows = [json.loads(line) for line in (tmp_path / "lineage.jsonl").read_text().splitlines()]
        assert [row["file"] for row in rows] == ["a.png", "a.wav", "old.png"]


def drawing(spec, codec, **family):
    """A run as ``as_dataset`` sees it."""
    plain = SimpleNamespace(sampler=PriorSampler(), **family)
    return SimpleNamespace(
        family=plain, run_dir=epath.Path("runs/lost"), step=3, spec=spec, codec=codec
    )


@pytest.mark.parametrize(
    ("names", "conditional", "label", "labels"),
    [
        (("cat", "dog", "owl"), True, None, ["cat", "dog", "owl", "cat", "dog"]),
        (("cat", "dog", "owl"), True, 1, ["dog"] * 5),
        (None, True, None, ["0", "1", "2", "0", "1"]),
        (("cat", "dog", "owl"), False, None, None),
    ],
)
def test_images_come_with_the_labels_they_were_asked_for(
    tmp_path, names, conditional, label, labels
):
    data = Pictures(4).open()
    samples = data.codec.encode(
        np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    )
    spec = dataclasses.replace(data.spec, classes=3, class_names=names)
    run, options = drawing(spec, data.codec, conditional=conditional), PriorSampler(label=label)
    manifest = json.loads(
        write_dataset(run, samples, "made", 8, options, out=tmp_path / "made").read_text()
    )
    (shard,) = manifest["shards"]
    table = pq.read_table(tmp_path / "made" / shard["name"]).to_pydict()
    assert table.get("label") == labels and manifest["generator"]["seed"] == 8
    assert manifest["generator"]["sampler"]["label"] == label
    found = np.stack([decode(image, None, 1) for image in table["image"]])
    np.testing.assert_array_equal(found, data.codec.decode(samples))


def test_what_is_neither_text_nor_image_makes_no_data_set(points, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = SimpleNamespace(end=1, decode=lambda ids: [()])
    music = drawing(Spec("tokens", (4,), np.zeros(4, np.float32), vocabulary=5), frames)
    for run, samples in ((points, points.sample(2)), (music, np.zeros((2, 4), np.int32))):
        with pytest.raises(UserError, match=r"draws neither texts nor images"):
            write_dataset(run, samples, "made", 0)
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--as-dataset", "made", "--stream"), "stream must be left out with as_dataset"),
        (
            ("--as-dataset", "a/b"),
            "as_dataset must be a name of letters, digits, _, - and dots within; "
            "out says where the data set goes, got 'a/b'",
        ),
    ],
)
def test_options_of_a_data_set_that_do_not_go_together(points, options, message):
    code, _, err = cli("sample", points.run_dir, *options)
    assert code == 2 and message in err
