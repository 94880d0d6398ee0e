"""Track runs with MLflow: parameters, metrics, artifacts, and checkpoints as versions of a model.

Everything is written to the run directory first. A thread reads it there, so that training never
waits for a server, and what could not be sent is sent later, by the same process or on resuming.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from etils import epath

from genjax import checks
from genjax.errors import UserError
from genjax.experiment import Keep
from genjax.machine import disk
from genjax.runs import lease, lineage, writers
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.checkpoint_files import newest_step

SQLITE = "sqlite"  # short for a file beside the run directory
RECORD = "tracking.json"  # in the run directory: the id of the run in MLflow, by URI
EVERY = 5.0  # seconds between checks of the run directory
AFTER = 30.0  # seconds until a silent server is tried again
# Timeouts of servers, unless set in the environment; MLflow's defaults wait for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}
MOST_METRICS, MOST_PARAMS = 1000, 100  # limits of one request
LONGEST = 6000  # most characters of a parameter


@checks.frozen
class Tracking:
    """Where a run is tracked with MLflow. This does not affect the run, so it is not in its config.

    Attributes:
      uri: "sqlite" for mlflow.db beside the run directory, another file such as
        sqlite:///mlflow.db, or a server such as http://localhost:5000; None tracks nothing.
      experiment: name of the experiment in MLflow.
      model: name of the registered model whose versions are the checkpoints; None for the name of
        the run directory.
    """

    uri: str | None = None
    experiment: str = "genjax"
    model: str | None = None

    def __post_init__(self) -> None:
        if self.uri == "" or not self.experiment or self.model == "":
            raise UserError(
                "tracking.uri, tracking.experiment and tracking.model must not be empty", "tracking"
            )
        if self.model is not None and not re.fullmatch(r"[\w. -]+", self.model):
            raise UserError(
                f"tracking.model must consist of letters, digits and . - _, got {self.model!r}",
                "tracking.model",
            )

    def find_store(self, run_dir: Path) -> tuple[str, str | None]:
        """Return the URI and the place of artifacts: beside an SQLite file, or None if the server
        decides.
        """
        uri = (
            f"sqlite:///{run_dir.absolute().parent / 'mlflow.db'}"
            if self.uri == SQLITE
            else str(self.uri)
        )
        if not uri.startswith("sqlite:///"):
            return uri, None
        return uri, (
            Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts"
        ).as_uri()


@contextlib.contextmanager
def track_run(
    tracking: Tracking, run_dir: epath.Path, steps: int, keep: Keep, active: bool = True
) -> Iterator[None]:
    """Track a run while it is trained; do nothing without a URI or if not ``active``.

    Raises:
      UserError: MLflow is not installed, the run directory is not local, or the store of a new run
        does not answer. If it stops answering later, there is only a warning, and nothing is lost.
    """
    if tracking.uri is None or not active:
        yield
        return
    if "://" in os.fspath(run_dir):
        raise UserError(
            f"run_dir must be a local folder to track the run, got {run_dir}", "run_dir"
        )
    _mlflow()
    link = Link(tracking, Path(run_dir), keep)
    if not link.try_send(Sender.send_rows) and link.new:
        raise UserError(
            f"the run cannot be tracked: {link.trouble}; correct tracking.uri, or leave it out",
            "tracking.uri",
        )
    over, status = threading.Event(), "FAILED"
    thread = threading.Thread(target=link.follow, args=(over,), name="tracking", daemon=True)
    thread.start()
    try:
        yield
        status = "FINISHED" if (newest_step(run_dir) or 0) >= steps else "KILLED"
    finally:
        over.set()
        thread.join()
        link.try_send(Sender.send_rows, Sender.send_files, lambda sender: sender.end(status))
        if status != "FAILED" and not link.trouble:
            link.try_send(Sender.send_versions)


def register_run(
    tracking: Tracking, run_dir: Path, keep: Keep, link: bool = False
) -> dict[int, tuple[str, str]]:
    """Register the best and the newest checkpoint of a run; return model and version by step.

    Args:
      link: whether a version names the run directory, instead of having a copy of its files.

    Raises:
      UserError: MLflow is not installed, or fails.
    """
    _mlflow()
    try:
        return Sender(tracking, run_dir, keep).send_versions(link)
    except UserError:
        raise
    except Exception as error:  # of MLflow, its network or its database
        raise UserError(f"mlflow: registering failed ({_cause(error)})", "mlflow") from error


class Link:
    """Sends a run to a store. If that does not answer, one line says so, and the rest is sent
    later.
    """

    def __init__(self, tracking: Tracking, run_dir: Path, keep: Keep) -> None:
        self._given = tracking, run_dir, keep
        self._sender: Sender | None = None
        self._uri = tracking.find_store(run_dir)[0]
        self.new = self._uri not in _ids(run_dir)
        self.trouble = ""

    def try_send(self, *steps: Callable[[Sender], object]) -> bool:
        """Try these steps; return whether all succeeded."""
        before, self.trouble = self.trouble, ""
        try:
            self._sender = self._sender or Sender(*self._given)
            for step in steps:
                step(self._sender)
        except Exception as error:
            # No error of MLflow, its network or its database may stop a run.
            self.trouble = f"MLflow at {self._uri} failed ({_cause(error)})"
            if not before and not self.new:
                line = (
                    f"{self.trouble}; the run continues, and the rest is sent later or by the "
                    "same command"
                )
                print(line, file=sys.stderr, flush=True)
            return False
        self.new = False
        return True

    def follow(self, over: threading.Event) -> None:
        """Send new rows and samples until ``over`` is set."""
        while not over.wait(AFTER if self.trouble else EVERY):
            self.try_send(Sender.send_rows, Sender.send_samples)


class Sender:
    """Writes one run to MLflow's store: the one recorded in the run directory, or a new one."""

    def __init__(self, tracking: Tracking, run_dir: Path, keep: Keep) -> None:
        self._tracking, self._run_dir, self._keep = tracking, run_dir, keep
        uri, artifacts = tracking.find_store(run_dir)
        self._client = _mlflow().MlflowClient(tracking_uri=uri, registry_uri=uri)
        run = self._start_run(uri, artifacts)
        self._id, self._artifacts = run.info.run_id, run.info.artifact_uri
        self._describe(run.data.params)
        # Rows that are there already: a resumed run repeats the steps after its checkpoint.
        history = {
            split: self._client.get_metric_history(self._id, f"{split}/loss")
            for split in ("train", "eval")
        }
        self._known = {
            (split, metric.step) for split, metrics in history.items() for metric in metrics
        }
        self._times: dict[
            tuple[str, int], int
        ] = {}  # of rows: what is sent once more must be the very same
        self._place, self._last = 0, b""  # position up to which rows are read, and the last row
        self._sent: dict[str, float] = {}  # samples with the time they were written

    def _start_run(self, uri: str, artifacts: str | None) -> Any:
        """Return the run, RUNNING."""
        client, name, ids = self._client, self._tracking.experiment, _ids(self._run_dir)
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise UserError(
                f"the experiment {name} is deleted: restore it, or set another tracking.experiment"
            )
        number = client.create_experiment(name, artifacts) if found is None else found.experiment_id
        runs = (
            client.search_runs([number], f"attributes.run_id = '{ids[uri]}'") if uri in ids else []
        )
        if runs:
            client.update_run(runs[0].info.run_id, status="RUNNING")
            return runs[0]
        run = client.create_run(number, run_name=self._run_dir.absolute().name)
        text = json.dumps({**ids, uri: run.info.run_id}, indent=2) + "\n"
        disk.write(epath.Path(self._run_dir / RECORD), text)
        return run

    def _describe(self, before: dict[str, str]) -> None:
        """Send parameters, and tags with the origin of the run.

        A parameter that has changed is sent as a tag.
        """
        entities = _mlflow().entities
        known = lineage.read_record(self._run_dir)
        config = json.loads((self._run_dir / "config.json").read_text(encoding="utf-8"))
        settings = dict(_settings(config["experiment"]))
        tags = {name: str(known[name]) for name in ("config", "data_fingerprint")}
        tags |= {"run_dir": str(self._run_dir), "commits": ", ".join(known["commits"])}
        tags |= {
            f"now.{name}": value
            for name, value in settings.items()
            if before.get(name, value) != value
        }
        params = [
            entities.Param(name, value) for name, value in settings.items() if name not in before
        ]
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + MOST_PARAMS])
        self._client.log_batch(
            self._id, tags=[entities.RunTag(name, value) for name, value in tags.items()]
        )
        self._client.log_artifact(self._id, str(self._run_dir / "config.json"))
        sets = [_dataset(origin) for origin in known["origins"]]
        if sets:
            self._client.log_inputs(self._id, datasets=sets)

    def send_rows(self) -> None:
        """Send new rows of metrics.jsonl."""
        path = self._run_dir / "metrics.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._place - len(self._last))
            # Rows were removed: start again from the first.
            begin = self._place if file.read(len(self._last)) == self._last else 0
            file.seek(begin)
            content = file.read()
        content = content[: content.rfind(b"\n") + 1]  # the last line may be incomplete
        batch: list[Any] = []
        several: list[tuple[str, int]] = []
        for row in writers.parse_rows(content):
            split, step = row.pop("split"), row.pop("step")
            if (split, step) in self._known:
                continue
            when = self._times.setdefault((split, step), time.time_ns() // 10**6)
            found = [_metric(f"{split}/{name}", value, when, step) for name, value in row.items()]
            if len(batch) + len(found) > MOST_METRICS:
                self._log(batch, several)
                batch, several = [], []
            batch, several = batch + found, [*several, (split, step)]
        self._log(batch, several)
        if content:
            self._place, self._last = begin + len(content), content.splitlines(keepends=True)[-1]

    def _log(self, batch: list[Any], several: list[tuple[str, int]]) -> None:
        if batch:
            self._client.log_batch(self._id, metrics=batch)
            self._known.update(several)

    def send_samples(self) -> None:
        """Send files of samples that are new or have changed."""
        for path in sorted((self._run_dir / "samples").glob("[!.]*.*")):
            written = path.stat().st_mtime
            if self._sent.get(path.name) != written:
                self._client.log_artifact(self._id, str(path), "samples")
                self._sent[path.name] = written

    def send_files(self) -> None:
        """Send all other files for people: config, plots, samples, lineage, data cards."""
        self.send_samples()
        for path in _list_files(self._run_dir):
            self._client.log_artifact(self._id, str(path))
        self._client.log_artifacts(self._id, str(self._run_dir / "plots"), "plots")
        known = lineage.read_record(self._run_dir)
        self._client.log_text(self._id, lineage.tree(known) + "\n", "lineage.txt")
        for origin in known["origins"]:
            manifest = Path(origin["manifest"])
            for path in (manifest, manifest.parent / "card.md"):
                if path.exists():
                    self._client.log_artifact(self._id, str(path), _place_data(origin["name"]))

    def send_versions(self, link: bool = False) -> dict[int, tuple[str, str]]:
        """Register the best and the newest checkpoint as versions of the model, whose artifacts
        ``genjax.load`` can open.

        The best gets the alias "best". The newest is registered last, because "latest" is MLflow's
        own alias of the version with the highest number.
        """
        with Checkpoints(epath.Path(self._run_dir), self._keep, read_only=True) as checkpoints:
            best, newest = checkpoints.find_best_step(), max(checkpoints.list_steps(), default=None)
        name = self._tracking.model or re.sub(r"[^\w. -]", "_", self._run_dir.absolute().name)
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        found = self._client.search_model_versions(f"name = '{name}'")
        there = {
            version.tags.get("step"): version for version in found if version.run_id == self._id
        }
        made = {}
        for step in dict.fromkeys((best, newest)):
            if step is not None:
                version = there.get(str(step)) or self._make_version(name, step, link)
                made[step] = (name, str(version.version))
                if step == best:
                    self._client.set_registered_model_alias(name, "best", version.version)

        return made

    def _make_version(self, name: str, step: int, link: bool) -> Any:
        tags = {"step": str(step), "run_dir": str(self._run_dir)}
        if link:
            source = self._run_dir.absolute().as_uri()
            return self._client.create_model_version(name, source, self._id, tags)
        place = f"checkpoint_{step}"
        for path in _list_files(self._run_dir):
            self._client.log_artifact(self._id, str(path), place)
        for folder in ("frozen", f"checkpoints/{step}"):
            if (self._run_dir / folder).exists():
                self._client.log_artifacts(
                    self._id, str(self._run_dir / folder), f"{place}/{folder}"
                )
        source = f"{self._artifacts}/{place}"
        return self._client.create_model_version(name, source, self._id, tags)

    def end(self, status: str) -> None:
        self._client.set_terminated(self._id, status)


def _mlflow() -> Any:
    for name, value in (PATIENCE | QUIET).items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ModuleNotFoundError:
        raise UserError("tracking needs MLflow: pip install 'genjax-train[tracking]'") from None
    for name in (
        "alembic",
        "mlflow.store",
        "urllib3.connectionpool",
    ):
        # They log each table and each retry.
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow


def _cause(error: BaseException) -> str:
    """Return the first cause of an error in one line, without the long messages of later ones."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split())[:200] or type(error).__name__


def _ids(run_dir: Path) -> dict[str, str]:
    """Return the id of a run in each store."""
    try:
        return dict(json.loads((run_dir / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _list_files(run_dir: Path) -> list[Path]:
    """Return the files directly in a run directory, such as the config."""
    return sorted(
        path
        for path in run_dir.iterdir()
        if path.is_file() and path.name not in (RECORD, lease.NAME)
    )


def _settings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of a stored config by dotted name; the field of a component has its
    class.
    """
    if isinstance(value, dict) and "class" in value:
        if path:
            yield path, value["class"].partition(":")[2]
        for name, item in value.items():
            if name != "class":
                yield from _settings(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _settings(item, f"{path}.{number}")
    else:
        yield path, str(value.get("function") if isinstance(value, dict) else value)[:LONGEST]


def _place_data(name: str) -> str:
    """Return the folder of a data set's files, whatever its name is: a store's is a path."""
    return "data/" + re.sub(r"[^\w. -]", "_", name)[:100]


def _dataset(origin: dict[str, Any]) -> Any:
    """Return a run's data in MLflow's form; its digest has at most 36 characters."""
    entities = _mlflow().entities
    said = json.dumps({"fingerprint": origin["fingerprint"], "manifest": origin["manifest"]})
    digest, name = str(origin["fingerprint"])[:36], str(origin["name"])[:500]
    made = entities.Dataset(name, digest, f"genjax {origin['kind']}", said)
    return entities.DatasetInput(made, [entities.InputTag("mlflow.data.context", "training")])


def _metric(name: str, value: float | None, time: int, step: int) -> Any:
    """Return a number in MLflow's form, with a valid name; None stands for NaN or infinity."""
    number = math.nan if value is None else value
    return _mlflow().entities.Metric(re.sub(r"[^\w. :/-]", "_", name), number, time, step)
