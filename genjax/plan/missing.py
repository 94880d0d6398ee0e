"""Describe runs that are not there yet: a plan needs the shapes of their arrays, not the arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
from etils import epath

from genjax import parallel
from genjax.config_files import load_run_config
from genjax.continued import Continued
from genjax.experiment import Experiment
from genjax.runs import directory
from genjax.runs.setup import open_data


@contextlib.contextmanager
def describe_missing_runs(experiment: Experiment) -> Iterator[Experiment]:
    """Give the experiment on directories that describe the runs it depends on, where these are not
    there but are named after configs, as those that ``train`` would train first.

    The directories hold config and codec, but no checkpoint, and are removed at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield _replace_runs(experiment, Path(folder))


def _replace_runs(experiment: Experiment, folder: Path) -> Experiment:
    family, start = experiment.family, experiment.start_from
    if isinstance(family, Continued):
        described = {role: _describe(run, folder) for role, run in family.runs.items()}
        family = dataclasses.replace(family, **described)
    if start.run is not None:
        start = dataclasses.replace(start, run=_describe(start.run, folder))
    return dataclasses.replace(experiment, family=family, start_from=start)


def _describe(run_dir: str, folder: Path) -> str:
    """Return the directory of a run, or of its description if it is not there."""
    described = folder / Path(run_dir).name
    if described.exists():
        return str(described)
    found = load_run_config(run_dir)
    if found is None or (epath.Path(run_dir).expanduser() / "codec.json").exists():
        return run_dir
    experiment, source = found
    experiment = _replace_runs(experiment, folder)
    data = open_data(experiment)
    target = epath.Path(described)
    directory.check_claim(target, experiment, source).write()
    one = parallel.arrange(parallel.Devices(count=1), jax.devices("cpu"))
    directory.describe(target, data, one)
    return str(described)
