"""Runs are read back through MLflow's own client; a store that fails stops none and loses
nothing.
"""

import importlib.util
import json
import math
import os
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from toy import ToyData, experiment

import genjax
from genjax.__main__ import main
from genjax.cli.options import TrainOptions
from genjax.cli.parsing import parse
from genjax.data.dataset import Origin
from genjax.errors import Diverged, UserError
from genjax.experiment import Every, Keep
from genjax.runs import tracking, writers
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.tracking import Link, Sender, Tracking, track_run

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed: the extra tracking"
)
EVERY = Every(log=2, evaluate=3, sample=3, checkpoint=3)


@dataclass(frozen=True)
class FromASet:
    """Toy data that say that they are of a prepared set.

    Attributes:
      manifest: of it.
    """

    manifest: str

    def open(self):
        return replace(
            ToyData().open(), origins=(Origin("words", "f" * 64, manifest=self.manifest),)
        )


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """Of a database whose tables are there."""
    found = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    client_of(found).search_experiments()
    return found


def client_of(uri):
    return tracking._mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)


def trained(run_dir, where, **changes):
    return genjax.train(
        experiment(**{"steps": 6, "every": EVERY} | changes), run_dir, quiet=True, tracking=where
    )


def read_back(where, run_dir):
    """(client, run): the only one of the run directory's name."""
    client = client_of(where.find_store(run_dir)[0])
    found = client.get_experiment_by_name(where.experiment)
    (run,) = client.search_runs([found.experiment_id], f"attributes.run_name = '{run_dir.name}'")
    return client, run


def history(client, run):
    """{(split, step): {name: value}}, and it is an error if a number is there twice."""
    rows: dict = {}
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            split, _, key = name.partition("/")
            row = rows.setdefault((split, metric.step), {})
            assert key not in row, (name, metric.step)
            row[key] = metric.value
    return rows


def rows_of(run_dir):
    rows = writers.read_rows(epath.Path(run_dir / "metrics.jsonl"))
    return {(row.pop("split"), row.pop("step")): row for row in rows}


@pytest.fixture(scope="module")
def whole(uri, tmp_path_factory):
    """A run of 6 steps on a prepared set, tracked: (what was requested, run, client, MLflow's
    run).
    """
    folder = tmp_path_factory.mktemp("whole")
    for name in ("manifest.json", "card.md"):
        (folder / name).write_text(f"the {name}")
    where = Tracking(uri, "whole")
    run = trained(folder / "run", where, data=FromASet(str(folder / "manifest.json")))
    return where, run, *read_back(where, folder / "run")


@needs_mlflow
@pytest.mark.long
def test_the_parameters_are_the_fields_of_the_config(whole):
    *_, found = whole
    params = found.data.params
    assert found.info.status == "FINISHED" and found.data.tags["data_fingerprint"] == "toy 0.0"
    assert {
        n: params[n]
        for n in ("family", "family.hidden", "optimizer.learning_rate", "data", "steps", "ema")
    } == {
        "family": "Toy",
        "family.hidden": "4",
        "optimizer.learning_rate": "Constant",
        "data": "FromASet",
        "steps": "6",
        "ema": "None",
    }
    assert params["optimizer.learning_rate.value"] == "0.01" and params["every.checkpoint"] == "3"
    assert (
        params["start_from.variables"] == "['^(batch_stats|spectral)/', '^(codebook|counts|sums)$']"
    )


@needs_mlflow
def test_the_metrics_are_those_of_every_row_at_its_step(whole):
    _, run, client, found = whole
    rows = rows_of(run.run_dir)
    assert history(client, found) == rows
    assert sorted(rows) == [("eval", 3), ("eval", 6), ("train", 2), ("train", 4), ("train", 6)]


@needs_mlflow
def test_the_artifacts_are_the_config_plots_samples_lineage_and_cards(whole, tmp_path):
    where, run, client, found = whole
    folder = Path(client.download_artifacts(found.info.run_id, "", str(tmp_path)))
    for name in (
        "config.json",
        "environment.json",
        "plots/loss.png",
        "samples/00000003.csv",
        "samples/00000006.csv",
    ):
        assert (folder / name).read_bytes() == (run.run_dir / name).read_bytes()
    assert (folder / "data" / "words" / "card.md").read_text() == "the card.md"
    assert (folder / "data" / "words" / "manifest.json").read_text() == "the manifest.json"
    told = (folder / "lineage.txt").read_text()
    assert (
        told.startswith(f"run {run.run_dir}, step 6, seed 0\n")
        and f"    real words: {'f' * 64}\n" in told
    )
    assert (Path(where.uri.removeprefix("sqlite:///")).parent / "mlartifacts").is_dir()


@needs_mlflow
def test_checkpoints_are_versions_that_genjax_opens(whole, tmp_path):
    _, run, client, found = whole
    with Checkpoints(run.run_dir, read_only=True) as checkpoints:
        best = checkpoints.find_best_step()
    for alias, step in (("latest", 6), ("best", best)):
        version = client.get_model_version_by_alias("run", alias)
        assert (version.tags["step"], version.run_id) == (str(step), found.info.run_id)
        place = client.download_artifacts(found.info.run_id, f"checkpoint_{step}", str(tmp_path))
        assert version.source.endswith(f"{found.info.run_id}/artifacts/checkpoint_{step}")
        again = genjax.load(place)
        assert again.step == step
        np.testing.assert_array_equal(again.sample(3), genjax.load(run.run_dir, step).sample(3))


@needs_mlflow
def test_a_run_that_goes_on_is_the_same_run(uri, tmp_path):
    where = Tracking(uri, "goes on", "walker")
    trained(tmp_path / "half", where)
    client, before = read_back(where, tmp_path / "half")
    trained(tmp_path / "half", where, steps=12)
    _, found = read_back(where, tmp_path / "half")
    assert found.info.run_id == before.info.run_id and found.info.status == "FINISHED"
    assert history(client, found) == rows_of(tmp_path / "half")
    assert (found.data.params["steps"], found.data.tags["now.steps"]) == ("6", "12")
    assert client.get_model_version_by_alias("walker", "latest").tags["step"] == "12"
    versions = client.search_model_versions("name = 'walker'")
    trained(tmp_path / "half", where, steps=12)  # which is finished, so that there is nothing new
    assert len(client.search_model_versions("name = 'walker'")) == len(versions)
    assert history(client, read_back(where, tmp_path / "half")[1]) == rows_of(tmp_path / "half")


@needs_mlflow
def test_rows_that_are_cut_and_written_once_more_are_there_once(uri, tmp_path):
    where = Tracking(uri, "cut")
    every = replace(EVERY, log=1)
    trained(tmp_path / "cut", where, every=every)
    client, first = read_back(where, tmp_path / "cut")
    before = history(client, first)
    epath.Path(
        tmp_path / "cut" / "checkpoints" / "6"
    ).rmtree()  # as if it had been killed before its end
    trained(tmp_path / "cut", where, every=every, steps=8)
    after = history(client, read_back(where, tmp_path / "cut")[1])
    assert {key: after[key] for key in before} == before
    rows = rows_of(tmp_path / "cut")
    assert after.keys() == rows.keys() and max(after)[1] == 8
    assert all(
        after[key]["loss"] == pytest.approx(row["loss"], rel=1e-6) for key, row in rows.items()
    )


@needs_mlflow
def test_rows_are_sent_as_they_come_whole_and_once(uri, tmp_path):
    where = Tracking(uri, "rows")
    trained(tmp_path / "rows", Tracking())
    path = tmp_path / "rows" / "metrics.jsonl"
    link = Link(where, tmp_path / "rows", Keep())
    assert link.new and link.try_send(Sender.send_rows) and not link.new

    def there():
        return sorted(
            step
            for split, step in history(*read_back(where, tmp_path / "rows"))
            if split == "train"
        )

    assert there() == [2, 4, 6]
    line = '{"step": 8, "split": "train", "loss": 1.5, "odd@name": null}\n'
    with path.open("a") as file:
        file.write(line[:30])
    assert link.try_send(Sender.send_rows) and there() == [2, 4, 6]
    with path.open("a") as file:
        file.write(line[30:])
    assert link.try_send(Sender.send_rows, Sender.send_rows) and there() == [2, 4, 6, 8]
    row = history(*read_back(where, tmp_path / "rows"))["train", 8]
    assert row["loss"] == 1.5 and math.isnan(row["odd_name"])
    writers.truncate_rows(epath.Path(path), 4)
    with path.open("a") as file:
        file.writelines(line.replace('"step": 8', f'"step": {step}') for step in range(5, 100))
    kept = [2, 4, *range(5, 100)]
    sent = link.try_send(Sender.send_rows)
    assert (sent and there() == [2, 4, 6, 8, *range(5, 100)]) or there() == kept


@needs_mlflow
def test_a_store_that_fails_costs_one_line_and_nothing_is_lost(uri, tmp_path, monkeypatch, capsys):
    where = Tracking(uri, "fails")
    monkeypatch.setattr(tracking, "EVERY", 0.01)
    monkeypatch.setattr(tracking, "AFTER", 0.01)
    client = tracking._mlflow().MlflowClient
    log_batch, down = client.log_batch, [False]

    def failing(self, run_id, metrics=(), params=(), tags=(), **others):
        if down[0] and metrics:
            raise OSError("the database\nis gone")
        return log_batch(self, run_id, metrics=metrics, params=params, tags=tags, **others)

    monkeypatch.setattr(client, "log_batch", failing)
    trained(tmp_path / "run", where, steps=3)
    down[0] = True
    run = trained(tmp_path / "run", where, steps=6)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "MLflow" in line]
    assert f"MLflow at {uri} failed (the database is gone); the run continues" in line
    assert run.step == 6 and ("train", 6) not in history(*read_back(where, tmp_path / "run"))
    down[0] = False
    trained(tmp_path / "run", where, steps=6)
    assert history(*read_back(where, tmp_path / "run")) == rows_of(tmp_path / "run")
    assert "MLflow" not in capsys.readouterr().err


@needs_mlflow
def test_rows_whose_answer_was_lost_are_there_once(uri, tmp_path, monkeypatch):
    where, client = Tracking(uri, "lost"), tracking._mlflow().MlflowClient
    trained(tmp_path / "lost", Tracking())
    link, log_batch = Link(where, tmp_path / "lost", Keep()), client.log_batch
    assert link.try_send()

    def lost(self, run_id, **sent):
        log_batch(self, run_id, **sent)
        raise TimeoutError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(client, "log_batch", lost)
        assert not link.try_send(Sender.send_rows) and "timed out" in link.trouble
    time.sleep(0.01)  # another time by the clock
    assert link.try_send(Sender.send_rows)
    assert history(*read_back(where, tmp_path / "lost")) == rows_of(tmp_path / "lost")


@pytest.fixture
def closed():
    """The URI of a port where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def impatient(monkeypatch):
    """An environment that waits for a second."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@needs_mlflow
def test_a_server_that_is_not_there_is_told_before_the_first_step(closed, impatient, tmp_path):
    begin = time.monotonic()
    with pytest.raises(
        UserError, match=rf"cannot be tracked: MLflow at {closed} failed .*refused\); correct"
    ):
        trained(tmp_path / "run", Tracking(closed))
    assert time.monotonic() - begin < 30
    assert (
        not (tmp_path / "run" / "checkpoints").exists()
        and not (tmp_path / "run" / "metrics.jsonl").exists()
    )


@needs_mlflow
def test_a_server_that_never_answers_is_given_up(impatient, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=r"timed out"):
            trained(tmp_path / "run", Tracking(uri))


@needs_mlflow
def test_a_tracked_run_goes_on_while_its_server_is_down(closed, impatient, tmp_path, capsys):
    trained(tmp_path / "run", Tracking(), steps=3)
    (tmp_path / "run" / "tracking.json").write_text(json.dumps({closed: "0" * 32}))
    assert trained(tmp_path / "run", Tracking(closed)).step == 6
    lines = [line for line in capsys.readouterr().err.splitlines() if " failed (" in line]
    assert len(lines) == 1


@needs_mlflow
def test_a_run_that_fails_and_one_that_is_stopped_say_so(uri, tmp_path):
    where = Tracking(uri, "status")
    with pytest.raises(Diverged):
        trained(
            tmp_path / "bad", where, family=replace(experiment().family, breaks_at=2, breaks_for=4)
        )
    assert read_back(where, tmp_path / "bad")[1].info.status == "FAILED"
    genjax.train(
        experiment(steps=500, every=EVERY),
        tmp_path / "cut",
        quiet=True,
        tracking=where,
        max_minutes=0,
    )
    client, run = read_back(where, tmp_path / "cut")
    assert (
        run.info.status == "KILLED"
        and client.get_model_version_by_alias("cut", "latest").run_id == run.info.run_id
    )


@needs_mlflow
def test_a_deleted_run_is_begun_anew_and_a_deleted_experiment_told(uri, tmp_path):
    where = Tracking(uri, "deleted")
    trained(tmp_path / "run", where)
    client, first = read_back(where, tmp_path / "run")
    client.delete_run(first.info.run_id)
    trained(tmp_path / "run", where, steps=12)
    _, again = read_back(where, tmp_path / "run")
    assert again.info.run_id != first.info.run_id and history(client, again) == rows_of(
        tmp_path / "run"
    )
    client.delete_experiment(again.info.experiment_id)
    with pytest.raises(UserError, match=r"the experiment deleted is deleted: restore it"):
        trained(tmp_path / "other", where)


@needs_mlflow
def test_the_command_tracks_in_a_file_beside_the_run(tmp_path):
    options = ("--tiny", "--devices.count", "1", "--run-dir", str(tmp_path / "runs" / "digits"))
    assert (
        main(
            [
                "train",
                "vae_digits",
                *options,
                "--tracking.uri",
                "sqlite",
                "--tracking.model",
                "faces",
            ]
        )
        == 0
    )
    where = Tracking("sqlite")
    client, run = read_back(where, tmp_path / "runs" / "digits")
    assert (tmp_path / "runs" / "mlflow.db").is_file() and (
        tmp_path / "runs" / "mlartifacts"
    ).is_dir()
    assert client.get_model_version_by_alias("faces", "latest").run_id == run.info.run_id
    assert "config.py" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install 'genjax-train\[tracking\]'"):
        trained(tmp_path / "run", Tracking("sqlite"))


def test_nothing_is_tracked_unasked_or_twice(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for where, active in ((Tracking(), True), (Tracking("sqlite"), False)):
        with track_run(where, epath.Path(tmp_path), 6, Keep(), active):
            pass
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(UserError, match=r"must be a local folder"),
        track_run(Tracking("sqlite"), epath.Path("gs://bucket/run"), 6, Keep()),
    ):
        pass


def test_mlflow_tells_nobody_and_waits_for_nobody_unless_the_environment_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", type(sys)("mlflow"))
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    tracking._mlflow()
    names = (
        "MLFLOW_DISABLE_TELEMETRY",
        "MLFLOW_HTTP_REQUEST_TIMEOUT",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    )
    assert [os.environ[name] for name in names] == ["true", "10", "4"]


def test_stores():
    folder = Path("/somewhere/runs/one")
    assert Tracking("sqlite").find_store(folder) == (
        "sqlite:////somewhere/runs/mlflow.db",
        "file:///somewhere/runs/mlartifacts",
    )
    assert Tracking("sqlite:////a/b.db").find_store(folder) == (
        "sqlite:////a/b.db",
        "file:///a/mlartifacts",
    )
    assert Tracking("http://host:5000").find_store(folder) == ("http://host:5000", None)


@pytest.mark.parametrize(
    "wrong", [{"uri": ""}, {"experiment": ""}, {"model": ""}, {"model": "a/b"}, {"model": "it's"}]
)
def test_names_that_are_none(wrong):
    with pytest.raises(UserError, match=r"tracking"):
        Tracking(**wrong)


def test_the_options_of_the_command():
    default = TrainOptions(experiment())
    told = (
        "--tracking.uri",
        "http://host:5000",
        "--tracking.experiment",
        "mine",
        "--tracking.model",
        "best",
    )
    assert default.tracking == Tracking()
    assert parse(default, "train", told).tracking == Tracking("http://host:5000", "mine", "best")
