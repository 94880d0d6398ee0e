"""What is known of each training example before the first step: a family's own entries, and
how difficult it is.
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
    """A split whose examples have more entries.

    Attributes:
      split: the examples.
      entries: arrays [N, ...] by name, in its order.
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
    """Return the split with what ``family.precompute(state, batch)`` gives for each example; itself
    where that is None.
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
    """Return the order that the curriculum gives the training examples, None if it gives none, and
    lines for the reader.

    The scores are kept in the run directory, as what they came from, another run or a function, may
    be gone or changed when this run is resumed, and another machine may give other last bits.

    Args:
      resumes: from a checkpoint, whose steps have been ordered by the scores that are kept.

    Raises:
      UserError: a score is not a number, or there is not one for each example; the run that gives
        it is missing or is not of these data; or the data have an order of their own.
    """
    curriculum, data, layout = setup.experiment.curriculum, setup.data, setup.layout
    if curriculum is None or curriculum.score is None:
        return None, ()
    if own_order(data.splits["train"]) is not None:
        raise UserError(
            f"{type(curriculum).__name__} orders the examples, but those of a mixture have their "
            "own order"
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
    """Return the scores [N] float64 of the training examples by a
    ``genjax.data.order.difficulty.Score``, on every process.

    Raises:
      UserError: as ``order_examples`` does.
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
    """Return the family's ``loss`` of each example [B] by itself, with draws that depend on its
    ``number`` alone.
    """
    key = jax.random.fold_in(state.key, EVALUATION)

    def one(example: Mapping[str, jax.Array]) -> jax.Array:
        drawn = jax.random.fold_in(key, example["number"])
        return family.evaluate(state, {name: x[None] for name, x in example.items()}, drawn)[
            "loss"
        ].value

    return jax.vmap(one)(batch)
