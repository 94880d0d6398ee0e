"""The state with which a run starts or resumes, and the batches from there on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import parallel, start_from
from genjax.continued import apply_initial_params
from genjax.data.dataset import Batch
from genjax.data.stream import batches
from genjax.data.text.dataset import get_tokenizer
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.family import State
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.meter import Meter
from genjax.runs.ordering import enrich, order_examples
from genjax.runs.run import load
from genjax.runs.setup import Setup, initial_state, require_run


@dataclass(frozen=True)
class Start:
    """The starting point of the loop.

    Attributes:
      state: state before the next step.
      step: number of train steps taken.
      position: examples consumed by all processes together.
      meter: running means of the metrics since the last row.
      remarks: lines to print.
    """

    state: State
    step: int = 0
    position: int = 0
    meter: Meter = dataclasses.field(default_factory=Meter)
    remarks: tuple[str, ...] = ()


def first_state(setup: Setup, checkpoints: Checkpoints | None = None) -> Start:
    """Make the state for the first step.

    In this order: 1. resume from the newest intact checkpoint, if there is one; 2. otherwise draw
    random parameters, 3. let the family take over parameters of the runs that it depends on, 4. and
    insert the parameters of ``start_from`` where they fit.

    Raises:
      UserError: the run of ``start_from`` is missing, does not fit, or has other tokens.
    """
    restored = None if checkpoints is None else checkpoints.restore(setup.target)
    if restored is not None:
        state, progress = restored
        return Start(state, progress["step"], progress["position"], Meter(progress["meter"]))
    state = setup.layout.init(initial_state(setup.experiment, setup.data.spec))
    kept = None if checkpoints is None else checkpoints.load_frozen(setup.target)
    state = apply_initial_params(setup.family, state.replace(frozen=kept or load_frozen(setup)))
    state, remarks = _start_from(setup, state)
    return Start(state, remarks=remarks)


def load_frozen(setup: Setup) -> Any:
    """Return ``State.frozen``: the arrays of the runs that the family depends on, sharded like the
    target state; None if there are none.
    """
    if not setup.others:
        return None
    layout = setup.layout
    loaded = {
        role: load(other.run_dir, layout=layout).model().state
        for role, other in setup.others.items()
    }
    arrays = {
        role: {"params": state.params, "variables": state.variables}
        for role, state in loaded.items()
    }
    return _place_arrays(arrays, setup.target.frozen)


def _start_from(setup: Setup, state: State) -> tuple[State, tuple[str, ...]]:
    """Return the state of step 0 with the parameters of ``start_from``, and lines that list
    them.
    """
    start, data = setup.experiment.start_from, setup.data
    if start.run is None:
        return state, ()
    require_run(start.run, "start_from")
    run = load(start.run, best=start.best, layout=setup.layout)
    if None not in (data.spec.vocabulary, run.spec.vocabulary) and get_tokenizer(
        run.codec
    ) != get_tokenizer(data.codec):
        raise UserError(
            f"the tokens of {start.run} are not those of these data: their codecs differ"
        )
    learned = run.eval_state
    found = start_from.transfer_params(state.params, learned.params, start)
    params = _place_arrays(found.params, state.params)
    variables = _place_arrays(
        start_from.transfer_variables(state.variables, learned.variables, start), state.variables
    )
    ema = (
        None
        if state.ema is None
        else {name: jax.tree.map(jnp.copy, params[name]) for name in state.ema}
    )
    state = state.replace(params=params, ema=ema, variables=variables)
    return state, found.format_table(f"{start.run}, step {run.step}")


def _place_arrays(tree: Any, like: Any) -> Any:
    return jax.tree.map(lambda x, place: jax.device_put(x, place.sharding), tree, like)


@contextlib.contextmanager
def examples(
    setup: Setup, state: State, position: int = 0, until: int | None = None
) -> Iterator[tuple[Iterator[Batch], tuple[str, ...]]]:
    """Provide the training batches from a position on, prefetched to the devices, and lines to
    print.

    Examples include what the family precomputes; the curriculum decides their order and form.

    Args:
      setup: setup of the run.
      state: state whose ``frozen`` parameters the family precomputes with.
      position: examples consumed by all processes together.
      until: last step; None for an endless iterator. Dispatches end at multiples of
        ``steps_per_dispatch``, so that the first and the last one may be shorter.
    """
    experiment, layout = setup.experiment, setup.layout
    several = experiment.steps_per_dispatch
    step = position // experiment.batch_size
    done = step % several
    split = enrich(setup.family, state, setup.data.splits["train"], layout, experiment.batch_size)
    order, remarks = order_examples(setup, resumes=position > 0)
    host: Iterator[Batch] = batches(
        split,
        seed=experiment.seed,
        position=position - done * experiment.batch_size,
        batch_size=experiment.batch_size,
        rows=layout.select_rows(experiment.batch_size),
        several=several,
        workers=experiment.workers,
        order=order,
    )
    if experiment.curriculum is not None and experiment.curriculum.changes_batches:
        host = _order_curriculum(experiment, host, step - done)
    stacked = several > 1
    if stacked and (done or until is not None):
        host = _cut_dispatches(host, done, None if until is None else until - step)
    with contextlib.closing(
        parallel.prefetch(host, functools.partial(layout.place, stacked=stacked))
    ) as source:
        yield source, remarks


def _cut_dispatches(host: Iterator[Batch], done: int, left: int | None) -> Generator[Batch]:
    """Leave out the steps of the first dispatch that are done, and all after ``left`` steps."""
    with contextlib.closing(host):  # type: ignore[type-var]
        while left is None or left > 0:
            batch = next(host)
            end = None if left is None else done + left
            batch = {name: x[done:end] for name, x in batch.items()}
            left = None if left is None else left - len(batch["mask"])
            done = 0
            yield batch


def _order_curriculum(experiment: Experiment, host: Iterator[Batch], step: int) -> Generator[Batch]:
    """Yield the batches as changed by the curriculum at each step, from ``step`` on."""
    several = experiment.steps_per_dispatch
    with contextlib.closing(host):  # type: ignore[type-var]
        for first, batch in zip(itertools.count(step, several), host, strict=False):
            if several == 1:
                yield experiment.curriculum(first, batch)
            else:  # stacked batches: one stage per dispatch
                each = [
                    experiment.curriculum(first + i, {n: x[i] for n, x in batch.items()})
                    for i in range(several)
                ]
                yield {name: np.stack([one[name] for one in each]) for name in each[0]}
