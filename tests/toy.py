"""A family and data small enough to reason about: a linear autoencoder whose loss draws no
noise.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.codecs import ImageCodec, PointsCodec
from genjax.data.dataset import Dataset, Spec
from genjax.data.splits import Arrays, dataset
from genjax.experiment import Every, Experiment
from genjax.family import Family, Mean, gradient_step
from genjax.optim import SGD
from genjax.parallel import Devices
from genjax.schedules import Constant

DIM = 6


@dataclass(frozen=True)
class Toy(Family):
    """Squared error of x W V; with ``breaks_at`` the loss of that step and those after is NaN
    for a while.
    """

    hidden: int = 4
    breaks_at: int = -1
    breaks_for: int = 1
    sampler: int = 0

    def init(self, key, example, spec):
        a, b = jax.random.split(key)
        params = {
            "w": {"kernel": 0.5 * jax.random.normal(a, (spec.shape[0], self.hidden))},
            "v": {"kernel": 0.5 * jax.random.normal(b, (self.hidden, spec.shape[0]))},
        }
        return params, {"seen": jnp.zeros(())}

    def loss(self, params, batch):
        x = batch["points"]
        again = x @ params["w"]["kernel"] @ params["v"]["kernel"]
        return Mean.of(jnp.square(again - x).sum(-1), batch["mask"])

    def train_step(self, state, batch, *, optimizer, axis=None):
        broken = (state.step >= self.breaks_at) & (state.step < self.breaks_at + self.breaks_for)
        broken &= self.breaks_at >= 0

        def loss(params, variables, batch, key):
            mean = self.loss(params, batch)
            mean = mean._replace(sum=jnp.where(broken, jnp.nan, mean.sum))
            return {"loss": mean}, {"seen": variables["seen"] + 1}

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state, batch, key):
        return {"loss": self.loss(state.params, batch)}

    def sample(self, state, key, n, options):
        return jax.random.normal(key, (n, state.params["w"]["kernel"].shape[0]))


@dataclass(frozen=True)
class ToyData:
    """Correlated Gaussian points.

    Attributes:
      root: stands for where data lie; may differ on resume.
      bias: added to all points, so that two data sets differ.
    """

    root: str = "here"
    bias: float = 0.0

    def open(self) -> Dataset:
        draw = np.random.default_rng(0)
        x = (draw.normal(size=(200, DIM)) @ draw.normal(size=(DIM, DIM)) + self.bias).astype(
            np.float32
        )
        codec = PointsCodec(DIM)
        splits = {
            "train": Arrays("points", x[:160], None, codec),
            "test": Arrays("points", x[160:], None, codec),
        }
        return Dataset(splits, Spec("points", (DIM,), x[:160].mean(0)), codec, f"toy {self.bias}")


@dataclass(frozen=True)
class Pictures:
    """Square pictures of 256 levels whose brightness tells their label."""

    side: int = 16

    def open(self) -> Dataset:
        draw = np.random.default_rng(0)
        label = draw.integers(0, 10, 128).astype(np.int32)
        raw = (
            25 * label[:, None, None, None] + draw.integers(0, 25, (128, self.side, self.side, 1))
        ).astype(np.uint8)
        codec = ImageCodec(self.side, self.side, 1)
        splits = {
            "train": Arrays("image", raw[:96], label[:96], codec),
            "test": Arrays("image", raw[96:], label[96:], codec),
        }
        return dataset(splits, classes=10, fingerprint="pictures")


def experiment(**changes: Any) -> Experiment:
    settings: dict[str, Any] = {
        "family": Toy(),
        "data": ToyData(),
        "optimizer": SGD(Constant(0.01)),
        "steps": 20,
        "batch_size": 16,
        "every": Every(log=1, evaluate=0, sample=0, checkpoint=0),
        "devices": Devices(count=1),
    }
    return Experiment(**settings | changes)


@dataclass(frozen=True)
class Head:
    """The first examples of a split."""

    whole: Any
    size: int

    @property
    def in_memory(self):
        return self.whole.in_memory

    def __len__(self):
        return min(self.size, len(self.whole))

    @property
    def corpus(self):
        return self.whole.corpus

    def batch(self, indices):
        return self.whole.batch(indices)

    def documents(self, indices):
        return self.whole.documents(indices)

    def references(self):
        return self.whole.references()

    def questions(self):
        return self.whole.questions()


@dataclass(frozen=True)
class Shortened:
    """Another source with at most ``size`` examples in its held-out splits."""

    source: Any
    size: int = 100

    def open(self):
        data = self.source.open()
        heads = {
            n: split if n == "train" else Head(split, self.size) for n, split in data.splits.items()
        }
        return dataclasses.replace(data, splits=heads)
