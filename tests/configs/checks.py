"""What is asked of every config: its whole form is sound, its tiny form trains, samples and is
judged.
"""

import dataclasses
import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import genjax
from genjax.config_files import dumps, load_config, loads
from genjax.continued import wrap_family
from genjax.data.audio.spectrograms import MelSpectrograms
from genjax.data.dataset import Dataset, Spec
from genjax.errors import UserError
from genjax.family import Family, Trained
from genjax.parallel import Devices
from genjax.runs.setup import initial_state
from genjax.serial.config_places import configs_folder
from genjax.start_from import StartFrom
from tests import toy
from tests.trained import TrainedRuns

QUICK = {"ddpm_mnist", "gan_digits", "gpt_docs", "lora_gpt", "reward_rule", "vae_digits"}


def configs(folder: str) -> list[str]:
    """The names of the configs of a folder."""
    return sorted(path.stem for path in configs_folder().glob(f"{folder}/*.py"))


def quick_ones_first(names: list[str]) -> list:
    """The names as parameters; training all but one of a kind makes a long test."""
    return [pytest.param(n, marks=() if n in QUICK else pytest.mark.long) for n in names]


def opened(data, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The config's data; without those of $GENJAX_DATA where they are not there whole."""
    if isinstance(data, MelSpectrograms):
        pytest.importorskip("librosa", reason="it is of an extra: pip install '.[audio]'")
    try:
        return data.open()
    except UserError as error:
        if "GENJAX_DATA" not in os.environ:
            raise
        print(f"on generated stand-ins: {error}")
        monkeypatch.delenv("GENJAX_DATA")
        return data.open()


def tiny_run(run_dir: str, trained: TrainedRuns) -> str:
    """A shared run of the tiny form of the config that a run directory is named after."""
    name = Path(run_dir).name.removesuffix("_tiny")

    def train(folder: Path) -> None:
        experiment, path = load_config(name, tiny=True)
        experiment = dataclasses.replace(
            experiment,
            family=on_tiny_runs(experiment.family, trained),
            start_from=from_tiny_run(experiment.start_from, trained),
            data=toy.Shortened(experiment.data),
            devices=Devices(count=1),
        )
        genjax.train(experiment, folder, source=path, quiet=True)

    data = "real" if "GENJAX_DATA" in os.environ else "generated"
    return str(trained.once(f"{name}_{data}", train))


def on_tiny_runs(family: Family, trained: TrainedRuns) -> Family:
    """The family on tiny runs of the configs that it names."""
    return dataclasses.replace(
        family, **{role: tiny_run(run, trained) for role, run in wrap_family(family).runs.items()}
    )


def from_tiny_run(start: StartFrom, trained: TrainedRuns) -> StartFrom:
    """The start on a tiny run of the config that it names."""
    return (
        start if start.run is None else dataclasses.replace(start, run=tiny_run(start.run, trained))
    )


def check_whole_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It survives its JSON, is documented, and its state can be made with its data and
    prerequisites.
    """
    experiment, path = load_config(name)
    assert loads(dumps(experiment)) == experiment
    assert path.read_text().startswith('"""'), "a config's docstring is its lab note"
    data = opened(experiment.data, monkeypatch)
    wanted = {
        role: load_config(Path(run_dir).name)[0]
        for role, run_dir in wrap_family(experiment.family).runs.items()
    }
    specs = {
        role: base_spec(opened(base.data, monkeypatch).spec, data.spec)
        for role, base in wanted.items()
    }
    others = {role: Trained(role, base.family, specs[role]) for role, base in wanted.items()}
    experiment = dataclasses.replace(
        experiment, family=wrap_family(experiment.family).resolve(others, data.spec)
    )
    state = jax.eval_shape(initial_state(experiment, data.spec, others))
    experiment.optimizer.check(state.params)


def base_spec(base: Spec, own: Spec) -> Spec:
    """The spec of a prerequisite, as if its codec had taken the place of the config's own."""
    if base.entry == own.entry:
        return own
    if base.vocabulary is None or own.vocabulary is None:
        return base
    return dataclasses.replace(base, vocabulary=own.vocabulary, token_bytes=own.token_bytes)


def check_tiny_form(
    name: str, trained: TrainedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trains, loads, samples what it sampled before, and is judged on held-out data as it
    was while training.
    """
    experiment, path = load_config(name, tiny=True)
    data = opened(experiment.data, monkeypatch)
    family = on_tiny_runs(experiment.family, trained)
    start = from_tiny_run(experiment.start_from, trained)
    experiment = dataclasses.replace(
        experiment, family=family, data=toy.Shortened(experiment.data), start_from=start
    )
    experiment = dataclasses.replace(experiment, devices=Devices(count=1))
    run = genjax.train(experiment, tmp_path / "run", source=path, quiet=True)
    assert run.step == int(run.state.step) == experiment.steps

    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(row["loss"] is not None for row in rows)
    held_out = "test" if "test" in data.splits else "train"  # all examples may train
    assert {row["split"] for row in rows} == {"train"} | ({"eval"} if held_out == "test" else set())
    suffixes = {path.suffix for path in (tmp_path / "run" / "samples").iterdir()}
    texts = data.spec.entry.endswith("tokens") and experiment.family.no_samples is None
    assert suffixes & ({".txt", ".mid", ".abc"} if texts else {".png"})

    loaded = genjax.load(tmp_path / "run")
    if experiment.family.no_samples is None:
        samples = loaded.sample(num=3)
        tokens = data.spec.entry.endswith(
            "tokens"
        )  # of texts a prompt and the sampler decide the length
        assert (
            samples.shape == (3, *(samples.shape[1:] if tokens else data.spec.shape))
            and np.isfinite(samples).all()
        )
        np.testing.assert_array_equal(samples, run.sample(num=3))
    else:
        with pytest.raises(UserError, match=re.escape(experiment.family.no_samples)):
            loaded.sample(num=3)
    found = loaded.evaluate(held_out)
    assert np.isfinite(found.numbers["loss"])
    if "validation" not in data.splits and held_out == "test":
        last = [row for row in rows if row["split"] == "eval"][-1]
        np.testing.assert_allclose(found.numbers["loss"], last["loss"], rtol=1e-6)
