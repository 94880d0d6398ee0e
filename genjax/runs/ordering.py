"""Compute entries of a family and scores of difficulty for each training example before the first
step.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from genjax import parallel
from genjax.checks import Component
from genjax.continued import Continued
from genjax.data.dataset import Batch, Dataset, Split
from genjax.data.stream import Order, own_order, pad_batches
from genjax.errors import UserError
from genjax.evaluation.judge import EVALUATION
from genjax.family import Family, State, Trained
from genjax.machine import disk
from genjax.parallel import Layout
from genjax.runs.run import load_models
from genjax.runs.setup import Setup, check_tokens

SCORES = "difficulty.npy"


@dataclass(frozen=True)
class Enriched:
    """A split with additional entries.

    Attributes:
      split: split of the examples.
      entries: arrays [N, ...] by name, in the order of the split.
    """

    split: Split
    entries: Mapping[str, np.ndarray]

    @property
    def in_memory(self) -> bool:
        return self.split.in_memory

    @property
    def order(self) -> Order | None:
        return own_order(self.split)

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, indices: np.ndarray) -> Batch:
        return {
            **self.split.batch(indices),
            **{name: array[indices] for name, array in self.entries.items()},
        }


def enrich(family: Continued, state: State, split: Split, layout: Layout, batch_size: int) -> Split:
    """Add the results of ``family.precompute(state, batch)`` to the split; return it unchanged if
    that is None.
    """
    if family.precompute is None:
        return split
    compiled = layout.compile_evaluation(family.precompute)
    batches = pad_batches(split, batch_size, layout.select_rows(batch_size))
    parts = [jax.device_get(compiled(state, layout.place(batch))) for batch in batches]
    return Enriched(
        split, jax.tree.map(lambda *arrays: np.concatenate(arrays)[: len(split)], *parts)
    )


def order_examples(setup: Setup, resumes: bool) -> tuple[Order | None, tuple[str, ...]]:
    """Return the curriculum's order of the training examples, or None, and lines to print.

    The scores are stored in the run directory, because the run or function that gave them may be
    gone or changed on resuming, and another machine may give other last bits.

    Args:
      setup: setup of the run.
      resumes: whether the run resumes from a checkpoint, whose steps used the stored scores.

    Raises:
      UserError: a score is NaN, or scores are missing; the run that gives them is missing or was
        trained on other data; or the data have their own order.
    """
    curriculum, data, layout = setup.experiment.curriculum, setup.data, setup.layout
    if curriculum is None or curriculum.score is None:
        return None, ()
    if own_order(data.splits["train"]) is not None:
        raise UserError(
            f"curriculum must not order examples of a mixture, which has its own order, got "
            f"{type(curriculum).__name__}",
            "curriculum",
        )
    size = len(data.splits["train"])
    kept = None if setup.run_dir is None else setup.run_dir / SCORES
    if resumes and kept is not None and kept.exists():
        with kept.open("rb") as file:
            scores = np.load(file)
        if scores.shape != (size,):
            raise UserError(
                f"{kept} holds {scores.size:,} scores, but there are {size:,} training examples"
            )
        return curriculum.make_order(scores), ()
    scores = score_examples(curriculum.score, data, layout, setup.experiment.batch_size)
    if kept is not None and layout.is_main:
        with disk.write_atomically(kept) as part, part.open("wb") as file:
            np.save(file, scores)
    parallel.barrier("scores")
    return curriculum.make_order(scores), (
        f"scored {size:,} examples by {type(curriculum.score).__name__}",
    )


def score_examples(score: Component, data: Dataset, layout: Layout, batch_size: int) -> np.ndarray:
    """Return the scores [N] float64 of the training examples, on every process.

    Raises:
      UserError: see ``order_examples``.
    """
    models = load_models((score,), layout)
    others = {
        run_dir: Trained(run_dir, model.family, model.spec) for run_dir, model in models.items()
    }
    for other in others.values():
        other.check(data.spec)
    check_tokens(others, data)
    compiled = layout.compile_evaluation(_losses, static_argnums=0)
    split, rows, name = data.splits["train"], layout.select_rows(batch_size), type(score).__name__
    parts = []
    for first, batch in zip(
        itertools.count(0, batch_size), pad_batches(split, batch_size), strict=False
    ):
        number = np.arange(first, first + batch_size, dtype=np.uint32)
        placed = layout.place({entry: x[rows] for entry, x in (batch | {"number": number}).items()})
        losses = [
            np.asarray(compiled(model.family, model.state, placed)) for model in models.values()
        ]
        found = np.asarray(score(batch, *losses))
        if found.shape != (batch_size,) or not np.issubdtype(found.dtype, np.number):
            raise UserError(
                f"{name} gives {found.dtype} of shape {found.shape} for a batch of {batch_size} "
                "examples"
            )
        parts.append(found.astype(np.float64))
    scores = np.concatenate(parts)[: len(split)]
    if np.isnan(scores).any():
        raise UserError(
            f"{name} gives nan, which is not a score, for training example "
            f"{np.isnan(scores).argmax():,}"
        )
    return scores


def _losses(family: Family, state: State, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Return the family's ``loss`` of each single example [B], with randomness that depends only on
    its ``number``.
    """
    key = jax.random.fold_in(state.key, EVALUATION)

    def one(example: Mapping[str, jax.Array]) -> jax.Array:
        drawn = jax.random.fold_in(key, example["number"])
        return family.evaluate(state, {name: x[None] for name, x in example.items()}, drawn)[
            "loss"
        ].value

    return jax.vmap(one)(batch)
