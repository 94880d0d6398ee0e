"""Register checkpoints of a run in MLflow's model registry, and link them with the store."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from etils import epath

from genjax.errors import UserError
from genjax.runs import directory
from genjax.runs.tracking import Tracking, register_run
from genjax.store.blobs import SECRET
from genjax.store.records import Checkpoint
from genjax.store.runs import make_checkpoint, note_run
from genjax.store.store import Store

MLFLOW = "mlflow"  # in the metadata of a checkpoint's record


class Registered(NamedTuple):
    """A checkpoint in the registry.

    Attributes:
      record: id of its record in the store.
      step: its step.
      model: name of the registered model.
      version: its version there.
    """

    record: str
    step: int
    model: str
    version: str


def register(
    store: Store, run_dir: str | Path, tracking: Tracking, link: bool = False
) -> list[Registered]:
    """Register the best and the newest checkpoint of a run; return them, in order of steps.

    Registering again adds nothing.

    Args:
      store: the store, which gets records of the run and the checkpoints.
      run_dir: the run directory.
      tracking: place of MLflow, and name of the model.
      link: whether the registry names the run directory, instead of having a copy.

    Raises:
      UserError: the run has no checkpoint, or MLflow fails.
    """
    folder = Path(run_dir).expanduser().absolute()
    experiment = directory.load_experiment(epath.Path(folder))
    if experiment is None:
        raise UserError(f"run {run_dir} does not exist", "run")
    versions = register_run(tracking, folder, experiment.keep, link)
    if not versions:
        raise UserError(f"run {run_dir} has no checkpoint to register", "run")
    found = []
    uri = SECRET.sub("***@", tracking.find_store(folder)[0])
    for step, (model, version) in sorted(versions.items()):
        run = note_run(store, str(run_dir), step)
        one = make_checkpoint(run, step).id
        record = store.get(one, "any")
        assert isinstance(record, Checkpoint)
        place = {"uri": uri, "model": model, "version": version}
        if record.metadata.get(MLFLOW) != place:
            store.update(one, metadata={**record.metadata, MLFLOW: place})
        found.append(Registered(one, step, model, version))
    return found
