"""Profile a config: how the time of a step divides between input, host and device, which
operations are slowest, and how much memory is live at each.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from genjax import parallel
from genjax.data.dataset import Batch
from genjax.experiment import Experiment
from genjax.profile.kinds import read_kinds
from genjax.profile.memory import Timeline, follow_memory
from genjax.profile.trace import Event, divide, keep_operations, read_events, sum_times
from genjax.runs.capacity import check_training
from genjax.runs.first_state import examples, first_state
from genjax.runs.setup import Setup, set_up, with_experiment
from genjax.start_from import StartFrom

INPUT, COLLECT, LOOP = "genjax: input", "genjax: collect", "genjax: loop"
FEWEST, MOST = 5, 200  # dispatches that are traced
WAITING, COLLECTING, DEVICE, HOST = "waiting for input", "collecting", "device", "host"


@dataclass(frozen=True)
class Operation:
    """An operation of the compiled step.

    Attributes:
      name: in the program.
      kind: what it computes.
      scope: where in the code it was traced.
      ms: milliseconds a step on each device.
    """

    name: str
    kind: str
    scope: str
    ms: float


@dataclass(frozen=True)
class Sizes:
    """Bytes of a step on one device by XLA's own account.

    Attributes:
      arguments: state and batch.
      results: state and metrics.
      reused: results in the place of arguments.
      temporaries: all else.
    """

    arguments: int
    results: int
    reused: int
    temporaries: int


@dataclass(frozen=True)
class Profile:
    """What the steps of a config take.

    Attributes:
      plain_ms: milliseconds a step, untraced.
      traced_ms: milliseconds a step while it was traced.
      steps: number of traced steps.
      parts: milliseconds of a traced step by where they go; they add up to ``traced_ms``.
      operations: operations of the step, the slowest first.
      sizes: bytes of a step.
      timeline: live bytes over the operations.
      peak_memory: largest use of the device's memory so far, in bytes; None if it does not say.
      device: kind of the devices.
      devices: number of devices.
      platform: "cpu", "gpu" or "tpu".
    """

    plain_ms: float
    traced_ms: float
    steps: int
    parts: dict[str, float]
    operations: tuple[Operation, ...]
    sizes: Sizes
    timeline: Timeline
    peak_memory: int | None
    device: str
    devices: int
    platform: str

    def sum_kinds(self) -> dict[str, float]:
        """Return the milliseconds of each kind of operation, the slowest first."""
        sums: dict[str, float] = collections.defaultdict(float)
        for operation in self.operations:
            sums[operation.kind] += operation.ms
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def profile(experiment: Experiment, seconds: float = 2.0) -> Profile:
    """Take steps as training does, without evaluation, samples and checkpoints, and trace some.

    Args:
      experiment: the config.
      seconds: to trace, about.

    Raises:
      UserError: the config cannot be trained here.
    """
    setup = set_up(experiment)
    check_training(setup)
    # The base model does not affect the time of a step.
    setup = with_experiment(setup, dataclasses.replace(setup.experiment, start_from=StartFrom()))
    state = first_state(setup).state
    with examples(setup, state) as (source, _):
        first = _collect(setup, state, next(source))
        compiled = setup.run_step.lower(state, first).compile()
        loop = Loop(setup, compiled, state, itertools.chain([first], source))
        loop.run(3)
        plain = loop.run(FEWEST)
        count = min(max(FEWEST, round(seconds / plain)), MOST)
        plain = loop.run(count)
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                loop.run(count)
            events = read_events(folder)
    return _summarise(setup, compiled, events, plain, count)


def _collect(setup: Setup, state: Any, batch: Batch) -> Batch:
    """Return the batch of a step, for which some families draw first."""
    collect = setup.family.collect
    if collect is None:
        return batch
    with jax.profiler.TraceAnnotation(COLLECT):
        return setup.layout.place(collect(state, batch, state.step_key))


@dataclass
class Loop:
    """Takes steps like the training loop, which reads the metrics of a step during the next.

    Attributes:
      setup: setup of the run.
      compiled: compiled step, which donates the state.
      state: state before the next step.
      source: batches; the first one was collected already.
    """

    setup: Setup
    compiled: Any
    state: Any
    source: Iterator[Batch]
    taken: int = 0

    def run(self, dispatches: int) -> float:
        """Take steps; return the seconds of a dispatch."""
        begin, pending = time.perf_counter(), None
        with jax.profiler.TraceAnnotation(LOOP):
            for _ in range(dispatches):
                with jax.profiler.TraceAnnotation(INPUT):
                    batch = next(self.source)
                if self.taken > 0:
                    batch = _collect(self.setup, self.state, batch)
                self.state, metrics = self.compiled(self.state, batch)
                jax.block_until_ready(pending)
                pending, self.taken = metrics, self.taken + 1
            jax.block_until_ready((self.state, pending))
        return (time.perf_counter() - begin) / dispatches


def _summarise(
    setup: Setup, compiled: Any, events: list[Event], plain: float, dispatches: int
) -> Profile:
    """Sum up a trace of some dispatches."""
    program, several = compiled.as_text(), setup.experiment.steps_per_dispatch
    kinds = read_kinds(program)
    module = program.partition(",")[0].removeprefix("HloModule ").strip()
    operations = list(keep_operations(events, kinds.keys(), module))
    (loop,) = (event for event in events if event.name == LOOP)
    named = {
        COLLECTING: [event for event in events if event.name == COLLECT],
        DEVICE: operations,
        WAITING: [event for event in events if event.name == INPUT],
    }
    spent = divide(loop.begin, loop.end, named, HOST)
    steps, devices = dispatches * several, setup.layout.mesh.size
    times = sum_times(operations)
    found = [Operation(name, *kinds[name], ms / steps / devices) for name, ms in times.items()]
    sizes = compiled.memory_analysis()
    return Profile(
        plain_ms=1e3 * plain / several,
        traced_ms=sum(spent.values()) / steps,
        steps=steps,
        parts={name: ms / steps for name, ms in spent.items() if ms or name != COLLECTING},
        operations=tuple(sorted(found, key=lambda operation: -operation.ms)),
        sizes=Sizes(
            sizes.argument_size_in_bytes,
            sizes.output_size_in_bytes,
            sizes.alias_size_in_bytes,
            sizes.temp_size_in_bytes,
        ),
        timeline=follow_memory(program),
        peak_memory=parallel.peak_memory(),
        device=setup.layout.mesh.devices.flat[0].device_kind,
        devices=devices,
        platform=setup.platform,
    )
