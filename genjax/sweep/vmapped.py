"""Train runs that differ in seed and numbers together: one program for all, by ``jax.vmap``."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from genjax import checks
from genjax.data.dataset import Batch, Dataset
from genjax.data.snapshots import freeze
from genjax.errors import Diverged, UserError
from genjax.experiment import Experiment
from genjax.family import State
from genjax.machine.compiling import choose_options
from genjax.machine.target import trace_for
from genjax.runs.checkpoint_files import newest_step
from genjax.runs.meter import PackedMetrics
from genjax.runs.screen import Status, choose_screen
from genjax.runs.setup import Setup, find_tokens, set_up
from genjax.runs.stop import Stop
from genjax.serial.fields import get_field
from genjax.sweep.directory import Entry, Sweep, clear_failure, is_held, list_varied, write_failure
from genjax.sweep.members import Member, open_member
from genjax.sweep.numbers import build_step, check_numbers, check_together
from genjax.sweep.sequence import say

Numbers = Mapping[str, jax.Array]


@dataclass(frozen=True)
class Program:
    """The compiled step of several runs.

    Attributes:
      setup: setup of the first run.
      varied: dotted names of the numbers that differ.
    """

    setup: Setup
    varied: tuple[str, ...]

    @functools.cached_property
    def step(self) -> Any:
        """``(states, batches, numbers, frozen) -> states, metrics``, with a leading axis of runs;
        the batches are a tuple.
        """
        experiment, platform = self.setup.experiment, self.setup.platform

        def one(state: State, batch: Batch, numbers: Numbers, frozen: Any) -> Any:
            step = build_step(experiment, numbers)
            state = state.replace(frozen=frozen)
            if experiment.steps_per_dispatch > 1:
                state, metrics = jax.lax.scan(lambda s, b: step(s, b, None), state, batch)
            else:
                state, metrics = step(state, batch, None)
            return state.replace(frozen=None), metrics

        def run(states: State, batches: tuple[Batch, ...], numbers: Numbers, frozen: Any) -> Any:
            batch = jax.tree.map(lambda *x: jnp.stack(x), *batches)
            return jax.vmap(one, in_axes=(0, 0, 0, None))(states, batch, numbers, frozen)

        options = choose_options(platform, "often")
        return jax.jit(trace_for(platform, run), donate_argnums=0, compiler_options=options)

    @functools.cached_property
    def pick(self) -> Any:
        """``(states, number) -> state`` of one run."""
        return jax.jit(
            lambda states, i: jax.tree.map(lambda x: x[i], states),
            out_shardings=self.setup.layout.replicated,
        )

    def measure(self, count: int) -> float:
        """Return the bytes that a step of ``count`` runs needs, by compiling it."""
        target, batch = self.setup.target, self._shape_batch()
        states = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct((count, *s.shape), s.dtype), target.replace(frozen=None)
        )
        numbers = {name: jax.ShapeDtypeStruct((count,), jnp.float32) for name in self.varied}
        lowered = self.step.lower(states, (batch,) * count, numbers, target.frozen)
        found = lowered.compile().memory_analysis()
        if found is None:
            return 0.0
        whole = found.temp_size_in_bytes + found.argument_size_in_bytes
        return float(whole + found.output_size_in_bytes - found.alias_size_in_bytes)

    def check(self) -> None:
        """Refuse numbers that cannot be arrays."""
        batch, several = self._shape_batch(), self.setup.experiment.steps_per_dispatch > 1
        if several:
            batch = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in batch.items()}
        check_numbers(self.setup.experiment, self.varied, self.setup.target, batch)

    def _shape_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        setup, several = self.setup, self.setup.experiment.steps_per_dispatch
        size = setup.experiment.batch_size
        lead = (several, size) if several > 1 else (size,)
        entries = {**setup.data.spec.entries, "mask": ((), np.float32)}
        return {
            name: jax.ShapeDtypeStruct((*lead, *shape), dtype)
            for name, (shape, dtype) in entries.items()
        }


def plan_vmapped(
    entries: Sequence[Entry], experiment: Experiment, at_once: int | None
) -> Callable[[Sweep], None]:
    """Return a function that trains runs together, as many at once as the memory holds.

    Nothing is written before it is called. It raises KeyboardInterrupt or SystemExit after a
    signal, once all runs are saved.

    Args:
      entries: runs that differ in the seed and in numbers of the step.
      experiment: experiment of the first.
      at_once: most runs together; None for no bound but the memory.

    Raises:
      UserError: they differ in something else, or the family cannot train so.
    """
    varied = tuple(list_varied([entry.values for entry in entries]))
    check_together([entry.values for entry in entries], varied)
    data = _share_data(experiment)
    program = Program(set_up(experiment, data=data()), varied)
    _check_setup(program.setup)
    program.check()
    count = _choose_count(program, len(entries), at_once)

    def train(sweep: Sweep) -> None:
        with Stop() as stop:
            for group in _group(sweep, entries, count):
                say(f"together: {', '.join(entry.name for entry in group)}")
                _train_group(sweep, group, program, data, stop)
                if stop.wanted:
                    break
        stop.raise_pending()

    return train


def _share_data(experiment: Experiment) -> Callable[[], Dataset | None]:
    """Return a function that gives the data, opened once; None where each run reads its own."""
    changes = bool(freeze(experiment.data, None)[1])
    if changes or find_tokens(experiment) is not None:
        return lambda: None
    opened: list[Dataset] = []

    def give() -> Dataset:
        if not opened:
            opened.append(experiment.data.open())
        return opened[0]

    return give


def _check_setup(setup: Setup) -> None:
    if setup.layout.mesh.size > 1 or setup.layout.mode != "single":
        raise UserError(
            f"vmapped runs train on one device, got {setup.layout.mesh.size}: add "
            "--devices.count 1, or leave --vmapped out",
            "devices.count",
        )
    if setup.family.collect is not None or setup.family.precompute is not None:
        name = type(setup.experiment.family).__name__
        raise UserError(
            f"vmapped runs share one compiled step, but {name} also computes outside it: leave "
            "--vmapped out",
            "vmapped",
        )


def _choose_count(program: Program, wanted: int, at_once: int | None) -> int:
    """Return how many runs train together: fewer than wanted if the memory is too small."""
    count, room = min(wanted, at_once or wanted), checks.room(program.setup.layout.measure_memory())
    while count > 1 and (needed := program.measure(count)) > room:
        fewer = max(1, min(count - 1, int(count * room / needed)))
        say(
            f"{count} runs together need {needed / 1e9:.3g} GB, and there are {room / 1e9:.3g} GB: "
            f"{fewer} at once"
        )
        count = fewer
    return count


def _group(sweep: Sweep, entries: Sequence[Entry], count: int) -> Iterator[list[Entry]]:
    """Yield at most ``count`` runs at once that are at the same step."""
    by_step: dict[int, list[Entry]] = {}
    for entry in entries:
        step = newest_step(epath.Path(sweep.find_run(entry))) or 0
        by_step.setdefault(step, []).append(entry)
    for _, same in sorted(by_step.items()):
        for start in range(0, len(same), count):
            yield same[start : start + count]


def _train_group(
    sweep: Sweep,
    entries: Sequence[Entry],
    program: Program,
    data: Callable[[], Dataset | None],
    stop: Stop,
) -> None:
    with contextlib.ExitStack() as stack:
        members: list[Member] = []
        for entry in entries:
            run_dir = sweep.find_run(entry)
            clear_failure(run_dir)
            try:
                experiment = sweep.load_experiment(entry)
                opened = open_member(entry.name, experiment, run_dir, data)
                members.append(stack.enter_context(opened))
            except UserError as error:
                if not is_held(run_dir, error):
                    write_failure(run_dir, 2, str(error))
                say(f"{entry.name} cannot train: {error}")
        if members:
            if not any(name.startswith("family.") for name in program.varied):
                for member in members[1:]:
                    member.loop.share_judge(members[0].loop)
            Group(sweep, members, program).train(stop)


class Group:
    """Runs that train together, and their states as one.

    Args:
      sweep: their sweep.
      members: the runs, at the same step.
      program: their step.
    """

    def __init__(self, sweep: Sweep, members: Sequence[Member], program: Program) -> None:
        self._sweep, self._members, self._program = sweep, members, program
        self._active = dict(enumerate(members))
        self._step = members[0].loop.step
        states = [member.loop.state for member in members]
        self._frozen = states[0].frozen
        stack = jax.jit(lambda *all: jax.tree.map(lambda *x: jnp.stack(x), *all))
        self._states = stack(*(state.replace(frozen=None) for state in states))
        experiments = [member.setup.experiment for member in members]
        self._numbers = {
            name: jnp.asarray([get_field(e, name) for e in experiments], jnp.float32)
            for name in program.varied
        }
        self._screen = choose_screen(experiments[0].steps)
        self._pending: tuple[int, PackedMetrics] | None = None

    def train(self, stop: Stop) -> None:
        """Take all steps, or those until a signal."""
        experiment, is_first = self._program.setup.experiment, True
        while self._step < experiment.steps and self._active:
            batches = tuple(next(member.source) for member in self._members)
            self._states, metrics = self._program.step(
                self._states, batches, self._numbers, self._frozen
            )
            if is_first:
                for member in self._members:
                    member.loop.restart_clock()
                is_first = False
            several = experiment.steps_per_dispatch > 1
            self._step += len(batches[0]["mask"]) if several else 1
            self._read()
            self._pending = self._step, metrics
            stopping = stop.wanted
            if stopping or self._is_due(experiment):
                self._observe(stopping)
            if stopping and all(member.loop.is_saved for member in self._active.values()):
                say(f"stopped at step {self._step} of {experiment.steps}; the same call continues")
                break
        self._read()
        self._screen.close()
        for member in self._active.values():
            member.loop.close()

    def _is_due(self, experiment: Experiment) -> bool:
        every = experiment.every
        intervals = (every.evaluate, every.sample, every.checkpoint)
        last = self._step == experiment.steps
        return last or any(i and self._step % i == 0 for i in intervals)

    def _observe(self, stopping: bool) -> None:
        self._read()
        for number, member in self._active.items():
            state = self._program.pick(self._states, number).replace(frozen=self._frozen)
            member.observe(self._step, state, stopping)

    def _read(self) -> None:
        """Fetch the metrics of the last dispatch, and give each run its own; one that diverged
        leaves.
        """
        if self._pending is None:
            return
        (last, packed), self._pending = self._pending, None
        pairs = np.asarray(packed.pairs)
        for number, member in list(self._active.items()):
            try:
                member.loop.receive(last, PackedMetrics(pairs[number], packed.names))
            except Diverged as error:
                del self._active[number]
                run_dir = self._sweep.folder / member.name
                write_failure(run_dir, 3, str(error))
                say(f"{member.name} failed: {error}")
        self._show()

    def _show(self) -> None:
        """Show the progress: the speed of each run, and the lowest and the highest loss."""
        seen = [member.files.status for member in self._active.values()]
        found = [status for status in seen if status is not None and "loss" in status.numbers]
        if not found:
            return
        losses = [status.numbers["loss"] for status in found]
        numbers = {"lowest loss": min(losses), "highest": max(losses)}
        one = found[0]
        rate = len(found) * one.examples_per_second
        self._screen.show(Status(one.step, numbers, one.steps_per_second, rate, one.seconds_left))
