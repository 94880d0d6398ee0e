"""Refuse a run that this machine cannot hold, before its first step."""

from __future__ import annotations

import math
import os
from typing import Any

import jax

from genjax import checks, parallel
from genjax.continued import wrap_family
from genjax.data.dataset import Spec
from genjax.experiment import Experiment
from genjax.family import State
from genjax.trees import named_leaves

WORKERS = 16  # for each CPU
PART = 100  # a batch above this part of the memory is judged by a step on it before it is read
BATCHES = 3  # in memory at once: one in use, two on their way to the devices


def check_batch(experiment: Experiment, layout: parallel.Layout) -> None:
    """Refuse a batch that does not divide as devices, microbatches and the family need, and workers
    by the thousand.

    Raises:
      UserError: with the numbers that do not fit.
    """
    accumulate = experiment.optimizer.accumulate
    layout.check_batch(experiment.batch_size, accumulate)
    wrap_family(experiment.family).check_batch(
        experiment.batch_size, layout.count_step_rows(experiment.batch_size), accumulate
    )
    checks.between(experiment, 0, WORKERS * (os.cpu_count() or 1), "workers")


def check_memory(
    experiment: Experiment, spec: Spec, state: State, layout: parallel.Layout, step: Any
) -> None:
    """Refuse a state, a batch or a step that exceeds all memory there is, before any of it is made.

    Args:
      state: shapes and types of the state.
      step: compiled only here, for a batch that takes a good part of the memory.

    Raises:
      UserError: with the least that it takes and what there is.
    """
    room = layout.measure_memory()
    held = float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)))
    name, largest = max(
        named_leaves({"params": state.params, "variables": state.variables}),
        key=lambda leaf: leaf[1].size,
    )
    what = f"parameters and optimizer, the largest of them {name} {list(largest.shape)},"
    checks.check_size(held, what, "family", room, "lower its sizes")
    stacked, size = experiment.steps_per_dispatch > 1, experiment.batch_size
    lead = (experiment.steps_per_dispatch, size) if stacked else (size,)
    batch = {
        n: jax.ShapeDtypeStruct((*lead, *shape), dtype)
        for n, (shape, dtype) in spec.entries.items()
    }
    bytes_ = sum(x.size * x.dtype.itemsize for x in batch.values())
    checks.check_size(
        float(BATCHES * bytes_),
        f"{BATCHES} batches of {math.prod(lead):,} examples",
        "batch_size",
        room,
    )
    family = wrap_family(experiment.family)
    if bytes_ * PART > checks.room(room) and family.collect is None and family.precompute is None:
        check_step(experiment, layout, step, state, batch)


def check_step(
    experiment: Experiment, layout: parallel.Layout, step: Any, state: State, batch: Any
) -> None:
    """Refuse a step whose intermediate results exceed the memory of a host, which would end the
    process.

    Args:
      batch: arrays, or their shapes and types.
      step: compiled by this, so that its first call with the same arrays does not compile it again.

    Raises:
      UserError: with what the step takes and what there is.
    """
    if (
        layout.measure_memory() is not None
    ):  # devices with a memory of their own say when it is full
        return
    found = step.lower(state, batch).compile().memory_analysis()
    if found is not None:
        needed = float(found.temp_size_in_bytes + found.argument_size_in_bytes) * len(
            layout.mesh.local_devices
        )
        what = f"a step on {experiment.batch_size:,} examples and its intermediate results"
        checks.check_size(needed, what, "batch_size", cure="lower it, or the sizes of family")
