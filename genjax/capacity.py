"""Refuse a run that this machine cannot hold, before it is begun."""

from __future__ import annotations

import math
import os
from typing import Any

import jax
import numpy as np

from genjax import checks, parallel
from genjax.data.dataset import Batch, Spec
from genjax.experiment import Experiment
from genjax.family import State
from genjax.trees import named_leaves

WORKERS = 16  # for each CPU
BATCHES = 3  # in memory at once: one in use, two on their way to the devices


def check_batch(experiment: Experiment, layout: parallel.Layout) -> None:
    """Refuse a batch that does not divide as devices, microbatches and the family need, and workers by the thousand.

    Raises:
      UserError: with the numbers that do not fit.
    """
    accumulate = experiment.optimizer.accumulate
    layout.check_batch(experiment.batch_size, accumulate)
    experiment.family.check_batch(experiment.batch_size, layout.step_rows(experiment.batch_size), accumulate)
    checks.between(experiment, 0, WORKERS * (os.cpu_count() or 1), "workers")


def check_memory(experiment: Experiment, spec: Spec, state: State, layout: parallel.Layout) -> None:
    """Refuse a state or a batch that alone exceeds all memory there is, before any of it is made.

    Args:
      state: shapes and types of the state.

    Raises:
      UserError: with the least that it takes and what there is.
    """
    room = layout.memory()
    held = float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)))
    name, largest = max(named_leaves(state.params), key=lambda leaf: leaf[1].size)
    what = f"parameters and optimizer, the largest of them {name} {list(largest.shape)},"
    checks.fits(held, what, "family", room)
    example = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in spec.entries.values())
    examples = experiment.batch_size * experiment.steps_per_dispatch
    checks.fits(float(BATCHES * example * examples), f"{BATCHES} batches of {examples:,} examples", "batch_size", room)


def check_step(experiment: Experiment, layout: parallel.Layout, step: Any, state: State, batch: Batch) -> None:
    """Refuse a step whose intermediate results exceed the memory of a host: instead of an error it would be killed.

    Args:
      step: compiled by this, so that its first call does not compile again.

    Raises:
      UserError: with what the step takes and what there is.
    """
    if layout.memory() is not None:  # devices with a memory of their own say when it is full
        return
    found = step.lower(state, batch).compile().memory_analysis()
    if found is not None:
        needed = found.temp_size_in_bytes + found.argument_size_in_bytes
        what = f"a step on {experiment.batch_size:,} examples and its intermediate results"
        checks.fits(float(needed * len(layout.mesh.local_devices)), what, "batch_size")
