"""Text through the whole loop, with the smallest model of it: a table of which token follows
which.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.cli.show import describe
from genjax.data.order.curriculum import Lengths
from genjax.data.sources import TextFiles
from genjax.data.text.augment import TokenDropout
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Packed
from genjax.data.text.splits import ByDocuments
from genjax.experiment import Every, Experiment
from genjax.family import Family, Mean, gradient_step
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.runs.setup import set_up
from genjax.runs.writers import read_rows
from genjax.schedules import Constant


@dataclass(frozen=True)
class Bigrams(Family):
    """A table of logits [V, V]."""

    sampler: int = 12  # tokens of a sample

    def init(self, key, example, spec):
        assert example["tokens"].dtype == jnp.int32 and example["tokens"].shape == (1, *spec.shape)
        assert example.keys() == spec.entries.keys()
        return {"table": jnp.zeros((spec.vocabulary, spec.vocabulary))}, {}

    def loss(self, params, batch):
        tokens, weight = batch["tokens"], batch["loss_mask"][:, 1:] * batch["mask"][:, None]
        logits = jax.nn.log_softmax(params["table"])[batch.get("inputs", tokens)[:, :-1]]
        nll = -jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
        return Mean(jnp.sum(nll * weight), jnp.sum(weight))

    def train_step(self, state, batch, *, optimizer, axis=None):
        def loss(params, variables, batch, key):
            return {"loss": self.loss(params, batch)}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state, batch, key):
        return {"loss": self.loss(state.params, batch)}

    def sample(self, state, key, n, options):
        def draw(token, key):
            token = jax.random.categorical(key, state.params["table"][token])
            return token, token

        first = jnp.zeros(n, jnp.int32)  # the delimiter
        _, rest = jax.lax.scan(draw, first, jax.random.split(key, options))
        return jnp.concatenate([first[:, None], rest.T.astype(jnp.int32)], axis=1)


@pytest.fixture
def experiment(tmp_path):
    words = [
        "emma",
        "olivia",
        "ava",
        "isabella",
        "sophia",
        "charlotte",
        "mia",
        "amelia",
        "harper",
        "evelyn",
    ]
    (tmp_path / "names.txt").write_text("\n".join(words * 20))
    return Experiment(
        Bigrams(),
        TextFiles(
            str(tmp_path / "names.txt"),
            unit="lines",
            codec=Characters(delimiter=True),
            layout=Packed(23),
            split=ByDocuments(0.1),
            cache=str(tmp_path / "cache"),
        ),
        Adam(Constant(0.1)),
        steps=120,
        batch_size=8,
        every=Every(log=1, evaluate=60, sample=0, checkpoint=60),
        devices=Devices(count=1),
    )


def counted(split, vocabulary):
    """Counts [V, V] of which token follows which."""
    found = split.batch(np.arange(len(split)))
    real = found["loss_mask"][:, 1:] == 1
    counts = np.zeros((vocabulary, vocabulary))
    np.add.at(counts, (found["tokens"][:, :-1][real], found["tokens"][:, 1:][real]), 1)
    return counts


def test_a_table_comes_to_the_counts_and_a_copied_run_writes_text(experiment, run_dir, tmp_path):
    data = experiment.data.open()
    run = genjax.train(experiment, run_dir, quiet=True)
    first = read_rows(run_dir / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(math.log(data.spec.vocabulary), rel=1e-6)
    counts = counted(data.splits["train"], data.spec.vocabulary)
    law = np.where(
        counts.sum(1, keepdims=True), counts / np.maximum(counts.sum(1, keepdims=True), 1), 1
    )
    held_out = counted(data.splits["test"], data.spec.vocabulary)
    best = -(held_out * np.log(np.where(held_out, law, 1))).sum() / held_out.sum()
    assert run.evaluate("test").numbers["loss"] == pytest.approx(best, abs=0.06)

    copy = tmp_path / "elsewhere" / "run"
    shutil.move(run_dir, copy)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "names.txt").unlink()
    path = genjax.load(copy).write_samples(tmp_path / "out.txt", num=5)
    assert path.name == "out.txt"
    names = path.read_text().splitlines()
    assert len(names) == 5 and all(set(name) <= set("abcdefghijklmnopqrstuvwxyz") for name in names)
    assert "data: tokens [24]" in describe(experiment, set_up(experiment, data=data))


def test_lengths_and_augmentation_run_in_the_compiled_step(experiment, run_dir):
    changed = dataclasses.replace(
        experiment,
        augment=(TokenDropout(1, 0.5),),
        curriculum=Lengths((7, 23), (4,)),
        steps=8,
        every=Every(log=1, evaluate=0, sample=0, checkpoint=0),
    )
    genjax.train(changed, run_dir, quiet=True)
    assert [row["step"] for row in read_rows(run_dir / "metrics.jsonl")] == list(range(1, 9))
