"""Refuse, before the first step, a run that cannot train or does not fit on this machine."""

from __future__ import annotations

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

WORKERS = 16  # most workers per CPU
PART = 100  # a batch above 1 / PART of the memory is checked by compiling a step before it is read
BATCHES = 3  # batches in memory at once: one in use, two on their way to the devices


def check_training(setup: Setup) -> None:
    """Refuse what would fail at or after the first step: batch, memory, optimizer, sharding,
    stages.

    Raises:
      UserError: something would fail; its field is the one to change.
    """
    check_tokens(setup.others, setup.data)
    check_batch(setup.experiment, setup.layout)
    check_memory(setup)
    setup.experiment.optimizer.check(setup.target.params)
    setup.layout.check_rules(setup.target.params)
    _check_stages(setup)


def _check_stages(setup: Setup) -> None:
    """Trace the first step of every stage of a curriculum, so that no run fails when one starts."""
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
    """Refuse a batch that devices, microbatches or the family cannot divide, and too many workers.

    Raises:
      UserError: numbers do not fit; the message has them.
    """
    accumulate = experiment.optimizer.accumulate
    layout.check_batch(experiment.batch_size, accumulate)
    wrap_family(experiment.family).check_batch(
        experiment.batch_size, layout.count_step_rows(experiment.batch_size), accumulate
    )
    checks.between(experiment, 0, WORKERS * (os.cpu_count() or 1), "workers")


def check_memory(setup: Setup) -> None:
    """Refuse a state, a batch or a step that exceeds the memory, before allocating any of it.

    The step is only compiled here for a batch that takes a large part of the memory.

    Raises:
      UserError: the memory is too small; the message says how much is needed and available.
    """
    state, room = setup.target, setup.layout.measure_memory()
    held = float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)))
    name, largest = max(
        named_leaves({"params": state.params, "variables": state.variables}),
        key=lambda leaf: leaf[1].size,
    )
    what = f"parameters and optimizer, the largest of them {name} {list(largest.shape)},"
    checks.check_size(held, what, "family", room, "lower its sizes")
    batch = batch_shapes(setup)
    bytes_ = sum(x.size * x.dtype.itemsize for x in batch.values())
    rows = setup.experiment.steps_per_dispatch * setup.experiment.batch_size
    what = f"{BATCHES} batches of {rows:,} examples"
    checks.check_size(float(BATCHES * bytes_), what, "batch_size", room)
    collects = setup.family.collect is not None or setup.family.precompute is not None
    if bytes_ * PART > checks.room(room) and not collects:
        check_step(setup, state, batch)


def batch_shapes(setup: Setup) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes and types of a batch of examples, for all steps of a dispatch."""
    several, size = setup.experiment.steps_per_dispatch, setup.experiment.batch_size
    lead = (several, size) if several > 1 else (size,)
    return {
        name: jax.ShapeDtypeStruct((*lead, *shape), dtype)
        for name, (shape, dtype) in setup.data.spec.entries.items()
    }


def check_step(setup: Setup, state: State, batch: Any) -> None:
    """Refuse a step whose intermediate results exceed the memory of a host, which would end the
    process.

    This compiles the step, so that its first call with the same arrays does not compile it again.

    Args:
      setup: setup of the run.
      state: state, or the shapes and types of its arrays.
      batch: batch, or the shapes and types of its arrays.

    Raises:
      UserError: the memory is too small; the message says how much is needed and available.
    """
    layout = setup.layout
    if layout.measure_memory() is not None:
        # Devices with their own memory report when it is full.
        return
    found = setup.run_step.lower(state, batch).compile().memory_analysis()
    if found is not None:
        needed = float(found.temp_size_in_bytes + found.argument_size_in_bytes) * len(
            layout.mesh.local_devices
        )
        what = f"a step on {setup.experiment.batch_size:,} examples and its intermediate results"
        checks.check_size(needed, what, "batch_size", cure="lower it, or the sizes of family")
