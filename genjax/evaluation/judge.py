"""How a trained family is judged: its own metrics on a held-out split, and evaluators listed in the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np

from genjax.data.dataset import Codec, Spec, Split
from genjax.data.stream import padded
from genjax.errors import UserError
from genjax.family import Family, Metrics, State
from genjax.parallel import Layout


@dataclass(frozen=True)
class Subject:
    """What an evaluator looks at.

    Attributes:
      family: with its hyper-parameters.
      state: for evaluation, the averaged parameters swapped in.
      splits: of the data, by name.
      split: the held-out one.
      codec: from model space to what a person opens.
      spec: of the data.
      key: for what is drawn.
      compile: ``jax.jit`` for the devices of this run; results are on every process.
    """

    family: Any
    state: State
    splits: Mapping[str, Split]
    split: str
    codec: Codec
    spec: Spec
    key: jax.Array
    compile: Callable[..., Any]


@dataclass(frozen=True)
class Findings:
    """What an evaluator found: numbers by name, pictures uint8 [H, W, C] by name."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


class Evaluator(Protocol):
    """A frozen dataclass in ``Experiment.evaluators``."""

    def __call__(self, subject: Subject) -> Findings: ...


def held_out_metrics(
    layout: Layout, evaluate: Any, state: State, split: Split, batch_size: int, key: jax.Array
) -> dict[str, float]:
    """The family's metrics over one whole split, every example once; padded rows weigh nothing.

    ``evaluate`` is ``layout.compile_evaluation(family.evaluate)``.
    """
    total: Metrics | None = None
    for number, batch in enumerate(padded(split, batch_size, layout.rows(batch_size))):
        metrics = evaluate(state, layout.place(batch), jax.random.fold_in(key, number))
        total = metrics if total is None else jax.tree.map(lambda a, b: a + b, total, metrics)
    assert total is not None, "a split has at least one example"
    return {name: float(mean.value) for name, mean in jax.device_get(total).items()}


def judge(subject: Subject, evaluators: Sequence[Evaluator]) -> Findings:
    """The findings of all evaluators together."""
    numbers: dict[str, float] = {}
    pictures: dict[str, np.ndarray] = {}
    for evaluator in evaluators:
        found = evaluator(subject)
        numbers |= found.numbers
        pictures |= found.pictures
    return Findings(numbers, pictures)


def default_split(splits: Mapping[str, Split]) -> str:
    """The split that a run is watched on: "validation" where one is held out, else "test".

    Raises:
      UserError: there is neither.
    """
    for name in ("validation", "test"):
        if name in splits:
            return name
    raise UserError(f"the data have nothing held out to evaluate on, only {', '.join(splits)}; see every.evaluate")


def sampled(
    layout: Layout, family: Family, state: State, key: jax.Array, n: int, options: Any, chunk: int = 256
) -> np.ndarray:
    """``n`` samples in model space, in chunks of one compiled size, so that any number fits in memory."""
    draw = layout.compile_evaluation(type(family).sample, static_argnums=(0, 3, 4))
    size = min(n, chunk)
    # Each chunk leaves the device before the next is drawn.
    chunks = [np.asarray(draw(family, state, jax.random.fold_in(key, i), size, options)) for i in range(-(-n // size))]
    return np.concatenate(chunks)[:n]
