"""Every config: it builds, trains its tiny form, samples and judges; and the whole form is sound."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import genjax
from genjax import runs
from genjax.data.dataset import Dataset, Spec
from genjax.data.sources import (
    Chorales,
    Instructions,
    LabelledTexts,
    Preferences,
    PythonDocs,
    RulePreferences,
    SentencePairs,
    TextFiles,
    TextPairs,
)
from genjax.data.text_splits import ByDocuments
from genjax.errors import UserError
from genjax.experiment import configs_folder, dumps, load_config, loads
from genjax.family import Trained
from genjax.parallel import Devices
from tests import toy

CONFIGS = sorted(path.stem for path in configs_folder().glob("*/*.py") if path.parent.name != "prepare")
QUICK = {"ddpm_mnist", "gan_digits", "gpt_docs", "lora_gpt", "reward_rule", "vae_digits"}  # the others make a long test


def opened(data) -> tuple[object, Dataset]:
    """The config's data, or something like them in the place of a set that is not on this machine."""
    others: list = [dataclasses.replace(data, name="cifar10_jpeg")] if getattr(data, "name", "") == "cifar10" else []
    if isinstance(data, TextFiles):
        test = getattr(data.split, "test", 0.1)
        others = [PythonDocs(data.codec, data.layout, ByDocuments(test))]
    elif isinstance(data, Chorales | SentencePairs | TextPairs | Instructions):
        others = [dataclasses.replace(data, root=toy.sequences())]
    elif isinstance(data, Preferences):
        others = [RulePreferences(64, 32, template=data.template, codec=data.codec, length=data.length)]
    elif isinstance(data, LabelledTexts):  # which folder of genjax a paragraph of its source is from
        own = TextFiles(str(Path(genjax.__file__).parent), "*/*.py", "paragraphs", layout=data.source.layout)
        others = [LabelledTexts(dataclasses.replace(own, codec=data.source.codec, split=data.source.split))]
    for source in (data, *others):
        try:
            return source, source.open()
        except UserError as error:
            print(f"on other data: {error}")
    pictures = toy.Pictures(28 if "mnist" in getattr(data, "name", "") else 16)
    return pictures, pictures.open()


def tiny_run(run_dir, folder):
    """A run of the tiny form of the config that a run directory is named after."""
    experiment, path = load_config(Path(run_dir).name.removesuffix("_tiny"), tiny=True)
    source, _ = opened(experiment.data)
    experiment = dataclasses.replace(experiment, data=toy.Shortened(source), devices=Devices(count=1))
    return str(genjax.train(experiment, folder, source=path, quiet=True).run_dir)


def on_tiny_runs(family, folder):
    """The family on tiny runs of the configs that it names."""
    return dataclasses.replace(family, **{role: tiny_run(run, folder / role) for role, run in family.runs.items()})


def from_tiny_run(start, folder):
    """The start on a tiny run of the config that it names."""
    return start if start.run is None else dataclasses.replace(start, run=tiny_run(start.run, folder / "start"))


@pytest.mark.parametrize(
    ("name", "vocabulary", "source", "published"),
    [
        ("makemore_mlp", 27, None, 11_897),
        ("multi30k_de_en", 5893, 7853, 9_038_341),
        ("gpt2_124m", 50_257, None, 124_439_808),
        ("gpt_shakespeare_gpu", 65, None, 10_646_784 + 256 * 384),  # nanoGPT counts no positions: 10.65M
        ("gpt_shakespeare_char", 65, None, 795_904 + 64 * 128),  # 0.80M
    ],
)
def test_nets_have_the_published_sizes(name, vocabulary, source, published):
    family = load_config(name)[0].family
    spec = Spec("tokens", (9,), np.zeros(9, np.float32), vocabulary=vocabulary)
    if source is not None:
        spec = dataclasses.replace(spec, source_length=8, source_vocabulary=source)
    example = {entry: np.zeros((1, *shape), kind) for entry, (shape, kind) in spec.entries.items()}
    params, _ = jax.eval_shape(lambda: family.init(jax.random.key(0), example, spec))
    assert sum(p.size for p in jax.tree.leaves(params)) == published


def test_there_are_configs():
    assert {"vae_digits", "vae_mnist", "vae_fashion_mnist", "vae_points"} <= set(CONFIGS)
    assert {"classifier_digits", "classifier_mnist", "classifier_fashion_mnist"} <= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_whole_form_is_sound_and_survives_its_json(name):
    experiment, path = load_config(name)
    assert loads(dumps(experiment)) == experiment
    assert path.read_text().startswith('"""'), "a config's docstring is its lab note"
    _, data = opened(experiment.data)
    wanted = {role: load_config(Path(run_dir).name)[0] for role, run_dir in experiment.family.runs.items()}
    specs = {role: opened(base.data)[1].spec for role, base in wanted.items()}
    # Of data of the same kind the base has learned what is here: its codec would take the place of this one.
    specs = {role: data.spec if spec.entry == data.spec.entry else spec for role, spec in specs.items()}
    others = {role: Trained(role, base.family, specs[role]) for role, base in wanted.items()}
    experiment = dataclasses.replace(experiment, family=experiment.family.on(others, data.spec))
    state = jax.eval_shape(runs.initial_state(experiment, data.spec, others))
    experiment.optimizer.check(state.params)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in CONFIGS]
)
def test_the_tiny_form_trains_samples_and_is_judged(name, tmp_path):
    experiment, path = load_config(name, tiny=True)
    source, data = opened(experiment.data)
    family = on_tiny_runs(experiment.family, tmp_path)
    start = from_tiny_run(experiment.start_from, tmp_path)
    experiment = dataclasses.replace(experiment, family=family, data=toy.Shortened(source), start_from=start)
    experiment = dataclasses.replace(experiment, devices=Devices(count=1))
    run = genjax.train(experiment, tmp_path / "run", source=path, quiet=True)
    assert run.step == int(run.state.step) == experiment.steps

    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["loss"] is not None for row in rows)
    held_out = "test" if "test" in data.splits else "train"  # all examples may train
    assert {row["split"] for row in rows} == {"train"} | ({"eval"} if held_out == "test" else set())
    suffixes = {path.suffix for path in (tmp_path / "run" / "samples").iterdir()}
    texts = data.spec.entry.endswith("tokens") and experiment.family.no_samples is None
    assert suffixes & ({".txt", ".mid"} if texts else {".png"})

    loaded = genjax.load(tmp_path / "run")
    if experiment.family.no_samples is None:
        samples = loaded.sample(num=3)
        tokens = data.spec.entry.endswith("tokens")  # of texts a prompt and the sampler decide the length
        assert samples.shape == (3, *(samples.shape[1:] if tokens else data.spec.shape)) and np.isfinite(samples).all()
        np.testing.assert_array_equal(samples, run.sample(num=3))
    else:
        with pytest.raises(UserError, match=re.escape(experiment.family.no_samples)):
            loaded.sample(num=3)
    found = loaded.evaluate(held_out)
    assert np.isfinite(found.numbers["loss"])
    if "validation" not in data.splits and held_out == "test":
        last = [row for row in rows if row["split"] == "eval"][-1]
        np.testing.assert_allclose(found.numbers["loss"], last["loss"], rtol=1e-6)
