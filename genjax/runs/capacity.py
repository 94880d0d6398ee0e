"""Refuse a run that cannot take its steps, or that this machine cannot hold, before the first."""

from __future__ import annotations

import math
import os
from typing import Any

import jax
import numpy as np

from genjax import checks, parallel
from genjax.continued import wrap_family
from genjax.experiment import Experiment
from genjax.family import State
from genjax.machine.target import trace_for
from genjax.runs.setup import Setup, check_tokens, make_step
from genjax.trees import named_leaves

WORKERS = 16  # for each CPU
PART = 100  # a batch above this part of the memory is judged by a step on it before it is read
BATCHES = 3  # in memory at once: one in use, two on their way to the devices


def check_training(setup: Setup) -> None:
    """Refuse what would fail at or after the first step: batch, memory, optimizer, sharding,
    stages.

    Raises:
      UserError: with the field to change.
    """
    check_tokens(setup.others, setup.data)
    check_batch(setup.experiment, setup.layout)
    check_memory(setup)
    setup.experiment.optimizer.check(setup.target.params)
    setup.layout.check_rules(setup.target.params)
    _check_stages(setup)


def _check_stages(setup: Setup) -> None:
    """Trace the first step of every stage of a curriculum, so that no run stops where a stage
    starts.
    """
    experiment, examples = setup.experiment, setup.data.splits["train"]
    if experiment.curriculum is None or not experiment.curriculum.changes_batches:
        return
    rows = np.arange(experiment.batch_size) % len(examples)
    batch = examples.batch(rows) | {"mask": np.ones(len(rows), np.float32)}
    step = trace_for(setup.platform, make_step(experiment))
    for start in experiment.curriculum.starts:
        staged = experiment.curriculum(start, batch)
        jax.eval_shape(lambda state, batch: step(state, batch, None), setup.target, staged)


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


def check_memory(setup: Setup) -> None:
    """Refuse a state, a batch or a step that exceeds all memory there is, before any of it is made.

    The step is compiled here only for a batch that takes a good part of the memory.

    Raises:
      UserError: with the least that it takes and what there is.
    """
    state, room = setup.target, setup.layout.measure_memory()
    held = float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)))
    name, largest = max(
        named_leaves({"params": state.params, "variables": state.variables}),
        key=lambda leaf: leaf[1].size,
    )
    what = f"parameters and optimizer, the largest of them {name} {list(largest.shape)},"
    checks.check_size(held, what, "family", room, "lower its sizes")
    several, size = setup.experiment.steps_per_dispatch, setup.experiment.batch_size
    lead = (several, size) if several > 1 else (size,)
    batch = {
        n: jax.ShapeDtypeStruct((*lead, *shape), dtype)
        for n, (shape, dtype) in setup.data.spec.entries.items()
    }
    bytes_ = sum(x.size * x.dtype.itemsize for x in batch.values())
    what = f"{BATCHES} batches of {math.prod(lead):,} examples"
    checks.check_size(float(BATCHES * bytes_), what, "batch_size", room)
    collects = setup.family.collect is not None or setup.family.precompute is not None
    if bytes_ * PART > checks.room(room) and not collects:
        check_step(setup, state, batch)


def check_step(setup: Setup, state: State, batch: Any) -> None:
    """Refuse a step whose intermediate results exceed the memory of a host, which would end the
    process.

    Args:
      state: arrays, or their shapes and types, as ``batch``. The step is compiled by this, so that
        its first call with the same arrays does not compile it again.

    Raises:
      UserError: with what the step takes and what there is.
    """
    layout = setup.layout
    if layout.measure_memory() is not None:
        # devices with a memory of their own say when it is full
        return
    found = setup.run_step.lower(state, batch).compile().memory_analysis()
    if found is not None:
        needed = float(found.temp_size_in_bytes + found.argument_size_in_bytes) * len(
            layout.mesh.local_devices
        )
        what = f"a step on {setup.experiment.batch_size:,} examples and its intermediate results"
        checks.check_size(needed, what, "batch_size", cure="lower it, or the sizes of family")
