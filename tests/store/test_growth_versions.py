"""Named states in training, in MLflow and in files of DVC; checkpoints in MLflow's registry."""

import dataclasses
import hashlib
import importlib.util
import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import genjax
from genjax.cli.store.command import store_command
from genjax.data.text.codecs import Bytes
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.experiment import Every
from genjax.runs.tracking import Tracking
from genjax.store.growth.dvc import write_dvc
from genjax.store.growth.states import tag_state
from genjax.store.lineage import read_lineage, show_lineage
from genjax.store.opening import open_store
from genjax.store.records import Payload, Prompt, Response
from genjax.store.training.snapshots import note_snapshot, read_snapshot
from genjax.store.training.sources import StoreInstructions, StorePreferences
from tests.store.test_records_contract import make_place, server, url  # noqa: F401  (fixtures)
from tests.toy import ToyData, experiment

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed: the extra tracking"
)
PAGE = Path(genjax.__file__).parent.parent / "docs" / "growth.md"
PLAIN = {"codec": Bytes(delimiter=True), "length": 100, "split": ByDocuments(test=0.25)}


def fill(place):
    """A store with a state "v1", and what was changed, deleted and erased since."""
    with open_store(place, create=True) as store:
        for i in range(20):
            text = Payload(text=f"question {i}")
            store.add(Prompt(id=f"p{i}", origin="real", payload=text))
            answer = Payload(text=f"answer {i}")
            store.add(Response(id=f"r{i}", origin="real", prompt=f"p{i}", payload=answer))
        state = tag_state(store, "v1")
        store.update("r0", payload=Payload(text="changed"))
        store.delete("r1")
        store.add(Response(id="new", origin="real", prompt="p3", payload=Payload(text="new")))
    return state


def texts(source):
    return {row["completion"] for row in source.freeze(None).snapshot.rows}


def test_training_reads_a_state(url):  # noqa: F811
    state = fill(url)
    then, now = StoreInstructions(url, at="v1", **PLAIN), StoreInstructions(url, **PLAIN)
    assert texts(then) == {f"answer {i}" for i in range(20)}
    assert texts(now) == texts(then) - {"answer 0", "answer 1"} | {"changed", "new"}
    taken = then.freeze(None).snapshot
    assert taken.state == state.fingerprint and "at v1" in taken.place and taken.remarks == ()
    (origin,) = then.open().origins[:1]
    assert state.fingerprint in origin.name and origin.fingerprint == taken.fingerprint
    with open_store(url) as store:
        store.erase("r2")
    again = then.freeze(None).snapshot
    assert len(again.rows) == 19 and "1 records of the state v1 were erased" in again.remarks[0]
    for kind in (StoreInstructions, StorePreferences):
        for name, field in (("v2", "state"), ("", "at")):
            with pytest.raises(UserError) as error:
                kind(url, at=name, codec=Bytes()).open()
            assert error.value.field == field


def test_a_run_keeps_the_rows_of_its_state(tmp_path):
    place = str(tmp_path / "s.db")
    fill(place)
    source = StoreInstructions(place, at="v1", **PLAIN)
    run_dir = genjax.runs.directory.epath.Path(tmp_path / "run")
    run_dir.mkdir()
    source.freeze(run_dir).keep(run_dir)
    (path,) = run_dir.glob("snapshot_*.json")
    with open_store(place) as store:
        store.delete("r5")
        kept = read_snapshot(path)
        assert source.freeze(run_dir).snapshot == kept and len(kept.rows) == 20
        (data,) = store.select(kind="dataset")
        tree = show_lineage(read_lineage(store, data.id))
        assert "response r4" in tree and "response r1 " not in tree  # which is deleted now
        note_snapshot(place, dataclasses.replace(kept, fingerprint="0" * 64), run_dir, None)
        assert store.count(kind="dataset") == 2


def test_a_file_of_dvc_describes_an_export(tmp_path, capsys):
    place, out = str(tmp_path / "s.db"), tmp_path / "it's: #1.jsonl"
    state = fill(place)
    store_command("at", [place, "v1", "export", str(out), "--as", "sft", "--dvc"])
    assert str(out) + ".dvc" in capsys.readouterr().out
    found = yaml.safe_load(Path(f"{out}.dvc").read_text(encoding="utf-8"))
    content = out.read_bytes()
    assert found == {
        "outs": [
            {
                "md5": hashlib.md5(content).hexdigest(),
                "size": len(content),
                "hash": "md5",
                "path": out.name,
            }
        ],
        "meta": {"genjax": {"store": place, "state": "v1", "fingerprint": state.fingerprint}},
    }
    store_command("export", [place, str(tmp_path / "all"), "--dvc"])
    (entry,) = yaml.safe_load((tmp_path / "all.dvc").read_text())["outs"]
    files = sorted((tmp_path / "all").iterdir())
    listed = [
        {"md5": hashlib.md5(one.read_bytes()).hexdigest(), "relpath": one.name} for one in files
    ]
    whole = hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    assert entry == {
        "md5": f"{whole}.dir",
        "size": sum(one.stat().st_size for one in files),
        "nfiles": len(files),
        "hash": "md5",
        "path": "all",
    }
    with open_store(place) as store, pytest.raises(UserError) as error:
        write_dvc(store, tmp_path / "nothing")
    assert error.value.field == "out"


@dataclass(frozen=True)
class FromAState:
    """Toy data that say that they are of a state of a store.

    Attributes:
      url: of the store.
    """

    url: str

    def open(self):
        origins = StoreInstructions(self.url, at="v1", **PLAIN).open().origins
        return dataclasses.replace(ToyData().open(), origins=origins)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """(store, run directory, MLflow's URI, state) of a run that is tracked."""
    folder = tmp_path_factory.mktemp("tracked")
    place, uri = str(folder / "s.db"), f"sqlite:///{folder / 'mlflow.db'}"
    state = fill(place)
    every = Every(log=2, evaluate=3, sample=0, checkpoint=3)
    made = experiment(steps=6, every=every, data=FromAState(place))
    genjax.train(made, folder / "run", quiet=True, tracking=Tracking(uri))
    return place, folder / "run", uri, state


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@needs_mlflow
def test_mlflow_knows_the_state_that_a_run_is_trained_on(tracked):
    _, run_dir, uri, state = tracked
    client = client_of(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("genjax").experiment_id])
    (data,) = [one.dataset for one in run.inputs.dataset_inputs]
    assert state.fingerprint in data.name and "at v1" in data.name
    said = json.loads(data.source)
    assert said["fingerprint"].startswith(data.digest) and len(said["fingerprint"]) == 64
    assert [one.path for one in client.list_artifacts(run.info.run_id) if one.path == "data"] or (
        said["manifest"] is None
    )
    assert run_dir.name == run.info.run_name


@needs_mlflow
@pytest.mark.parametrize("link", [False, True])
def test_checkpoints_are_registered_and_linked(tracked, link, capsys):
    place, run_dir, uri, _ = tracked
    model = f"model {link}"
    given = [place, str(run_dir), "--mlflow", uri, "--model", model, *(["--link"] * link)]
    store_command("register", given)
    first = capsys.readouterr().out
    store_command("register", given)
    assert capsys.readouterr().out == first  # once
    client = client_of(uri)
    versions = client.search_model_versions(f"name = '{model}'")
    steps = {version.tags["step"] for version in versions}
    assert "6" in steps and len(versions) == len(steps)
    best = client.get_model_version_by_alias(model, "best")
    assert best.tags["step"] in steps
    with open_store(place) as store:
        noted = {str(one.step): one for one in store.select(kind="checkpoint")}
        for version in versions:
            kept = noted[version.tags["step"]].metadata["mlflow"]
            assert kept == {"uri": uri, "model": model, "version": str(version.version)}
        assert noted["6"].id in first and "response r4" not in first
    newest = next(version for version in versions if version.tags["step"] == "6")
    if link:
        assert newest.source == run_dir.as_uri()
    source = newest.source.removeprefix("file://")
    assert genjax.load(source).step == 6


@needs_mlflow
def test_what_cannot_be_registered_is_said(tracked, tmp_path):
    place, run_dir, _, _ = tracked
    for words, field in (
        ([place, str(tmp_path / "nothing"), "--mlflow", f"sqlite:///{tmp_path}/m.db"], "run"),
        ([place, str(run_dir), "--mlflow", "nowhere://x"], "mlflow"),
        ([place, str(run_dir), "--mlflow", ""], "tracking"),
    ):
        with pytest.raises(UserError) as error:
            store_command("register", words)
        assert error.value.field == field and "\n" not in str(error.value)


@needs_mlflow
def test_the_commands_of_the_page_work(tracked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with open_store("talk.db", create=True) as store:
        store.add(Prompt(id="p", origin="real", payload=Payload(text="before")))
    Path("more.jsonl").write_text(
        json.dumps({"prompt": "a", "completion": "b"}) + "\n", encoding="utf-8"
    )
    Path("runs").mkdir()
    shutil.copytree(tracked[1], "runs/gpt_docs")
    part = PAGE.read_text(encoding="utf-8").partition("## Replicas")[0]
    lines = [shlex.split(line) for line in part.splitlines() if line.startswith("genjax store")]
    assert len(lines) == 8
    for _, _, name, *words in lines:
        store_command(name, words)
    said = capsys.readouterr().out
    assert "added     2" in said and said.count("version 1") >= 1
    assert len(Path("then.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    assert (
        yaml.safe_load(Path("then.jsonl.dvc").read_text(encoding="utf-8"))["meta"]["genjax"][
            "state"
        ]
        == "v1"
    )
