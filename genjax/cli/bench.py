"""Measure what a config costs: compilation, a step, the loop, memory and model FLOPs
utilisation.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from genjax import checks, parallel
from genjax.cli.flops import count_flops
from genjax.cli.options import ConfigOptions
from genjax.cli.parsing import parse
from genjax.config_files import load_config
from genjax.data.dataset import Batch
from genjax.data.images.decode import note
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.family import State
from genjax.machine.target import trace_for
from genjax.profile.page import as_json, write_profile
from genjax.profile.profile import profile
from genjax.runs.capacity import check_training
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.first_state import examples, first_state
from genjax.runs.setup import Setup, make_step, set_up, with_experiment
from genjax.runs.stop import Stop
from genjax.runs.writers import read_rows
from genjax.serial.json_text import Json
from genjax.start_from import StartFrom
from genjax.training import run_loop

ENOUGH = 10  # times what the step uses, at which input never waits
# Dense bf16 peaks of one device in FLOP/s, from data sheets (without sparsity; fp16 for the T4 and
# the V100, which have no bf16), by a part of JAX's device kind. A TPU v5p calls itself TPU v5.
PEAK_FLOPS = {
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L4": 121e12,
    "T4": 65e12,
    "V100": 125e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


def bench(experiment: Experiment, seconds: float = 3.0, repeats: int = 3) -> dict[str, Any]:
    """Measure a config on the available devices.

    The bare step runs repeatedly on prepared batches. The loop is ``train`` itself, with input,
    metrics, rows and events, but without evaluation and samples, and without the time of its one
    checkpoint. The two alternate, and each figure is the median of ``repeats``, so that drifts in
    the machine's speed affect both.

    Returns:
      compile_s; step_ms and loop_ms, milliseconds a step; loop_overhead, loop over step less one;
      steps_per_second and examples_per_second of the loop; input_examples_per_second, the input
      alone, onto the device, and input_ratio, that over what the bare step uses up; for text
      tokens_per_second and input_tokens_per_second, too; flops of one step in matrix products and
      convolutions; mfu against the bf16 peak, None if it is not known; peak_memory_bytes.
    """
    setup = set_up(experiment)
    check_training(setup)
    # The base model does not affect the time of a step.
    setup = with_experiment(setup, dataclasses.replace(setup.experiment, start_from=StartFrom()))
    layout, collect, several = setup.layout, setup.family.collect, experiment.steps_per_dispatch
    state = first_state(setup).state
    ready, input_speed = _read_batches(setup, state, seconds / 10)
    if collect is not None:
        ready = [layout.place(collect(state, batch, state.step_key)) for batch in ready]
    begin = time.perf_counter()
    bare = BareStep(setup.run_step.lower(state, ready[0]).compile(), state, ready)
    compile_s = time.perf_counter() - begin

    bare.seconds(2)
    dispatches = max(4, round(seconds / bare.seconds(4)))
    steps, loops = [], []
    for _ in range(repeats):
        steps.append(bare.seconds(dispatches) / several)
        loops.append(_loop_seconds(setup, dispatches * several))
    step, loop = statistics.median(steps), statistics.median(loops)
    overhead = statistics.median(b / a for a, b in zip(steps, loops, strict=True)) - 1
    flops = step_flops(setup, ready[0] if collect is not None else None)
    kind = layout.mesh.devices.flat[0].device_kind
    peak = peak_flops(kind)
    return {
        "compile_s": round(compile_s, 3),
        "step_ms": round(1e3 * step, 4),
        "loop_ms": round(1e3 * loop, 4),
        "loop_overhead": round(overhead, 4),
        "steps_per_second": round(1 / loop, 2),
        "examples_per_second": round(experiment.batch_size / loop, 1),
        "input_examples_per_second": round(input_speed, 1),
        "input_ratio": round(input_speed * step / experiment.batch_size, 2),
        **_count_tokens(setup, experiment.batch_size / loop, input_speed),
        "flops": flops,
        "mfu": None if peak is None else round(flops / loop / (peak * layout.mesh.size), 4),
        "peak_memory_bytes": parallel.peak_memory()
        or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device": kind,
        "devices": layout.mesh.size,
        "mode": layout.mode,
    }


def _read_batches(setup: Setup, state: State, seconds: float) -> tuple[list[Batch], float]:
    """Return a few batches on the devices, and the input's examples per second over at least so
    many seconds and 20 steps.
    """
    several = setup.experiment.steps_per_dispatch
    with examples(setup, state) as (source, _):
        ready = list(itertools.islice(source, 4))
        begin, steps = time.perf_counter(), 0
        while steps < 20 or time.perf_counter() - begin < seconds:
            jax.block_until_ready(next(source))
            steps += several
        spent = time.perf_counter() - begin
    return ready, steps * setup.experiment.batch_size / spent


def _count_tokens(setup: Setup, used: float, read: float) -> dict[str, Json]:
    """Return the tokens per second of the loop and of the input, from their examples per second;
    empty for data that are not text.
    """
    spec = setup.data.spec
    if spec.vocabulary is None:
        return {}
    length = spec.shape[0] - 1  # a row has one more, the target of the last
    return {
        "tokens_per_second": round(used * length, 1),
        "input_tokens_per_second": round(read * length, 1),
    }


@dataclasses.dataclass
class BareStep:
    """Runs only the compiled step, repeatedly, on prepared batches.

    Attributes:
      compiled: compiled step, which donates the state.
      state: state before the next step.
      ready: prepared batches, used in turn.
    """

    compiled: Any
    state: State
    ready: list[Batch]

    def seconds(self, dispatches: int) -> float:
        """Return the seconds per dispatch."""
        begin = time.perf_counter()
        for number in range(dispatches):
            self.state, metrics = self.compiled(self.state, self.ready[number % len(self.ready)])
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - begin) / dispatches


def peak_flops(device_kind: str) -> float | None:
    """Return the peak of a device, matched by whole words (an L40S is not an L4); None if
    unknown.
    """
    return next(
        (p for kind, p in PEAK_FLOPS.items() if re.search(rf"\b{kind}\b", device_kind)), None
    )


def step_flops(setup: Setup, batch: Any = None) -> int:
    """Return the FLOPs of matrix products and convolutions in one step on the whole batch.

    Every operation counts in its plain form, as kernels and blocks hide their products, and compute
    some of them twice.

    Args:
      setup: setup of the run.
      batch: batch of the step, for a family that collects it on the host; None for its shapes.
    """
    experiment, state = setup.experiment, setup.target
    if batch is None:
        batch = {
            name: jax.ShapeDtypeStruct((experiment.batch_size, *shape), dtype)
            for name, (shape, dtype) in setup.data.spec.entries.items()
        }
        if setup.family.shape_collected is not None:
            batch = {**batch, "mask": jax.ShapeDtypeStruct((experiment.batch_size,), "float32")}
            batch = setup.family.shape_collected(state, batch)
    if setup.family.precompute is not None:
        batch = {**batch, "mask": jax.ShapeDtypeStruct((experiment.batch_size,), "float32")}
        batch |= jax.eval_shape(setup.family.precompute, state, batch)
    step = trace_for(setup.platform, make_step(experiment), counted=True)
    return count_flops(lambda state, batch: step(state, batch, None), state, batch)


def _loop_seconds(setup: Setup, steps: int) -> float:
    """Return the seconds per step of the real loop, without its first quarter, which compiles."""
    several = setup.experiment.steps_per_dispatch
    log = max(1, min(setup.experiment.every.log, steps // 8) // several) * several
    every = Every(log=log, evaluate=0, sample=0, checkpoint=0)
    longer = dataclasses.replace(
        setup.experiment, steps=steps + steps // 3 // several * several, every=every
    )
    with tempfile.TemporaryDirectory() as folder, Stop() as stop:
        run_dir = epath.Path(folder)
        with Checkpoints(run_dir) as checkpoints:
            run_loop(
                with_experiment(setup, longer, run_dir), checkpoints, stop, math.inf, quiet=True
            )
        stop.raise_pending()
        rows = [
            r
            for r in read_rows(run_dir / "metrics.jsonl")
            if r["split"] == "train" and r["step"] > steps // 3
        ]
    spans = [b["step"] - a["step"] for a, b in itertools.pairwise(rows)]
    spent = [span / row["time/steps_per_second"] for span, row in zip(spans, rows[1:], strict=True)]
    return sum(spent) / sum(spans)


@checks.frozen
class BenchOptions(ConfigOptions):
    """Measure a config.

    Attributes:
      profile: trace some steps instead, and print where their time and memory go.
      json: print the profile as JSON.
    """

    profile: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        if self.json and not self.profile:
            raise UserError("json belongs to --profile; what bench prints without is JSON", "json")


def bench_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax bench CONFIG``."""
    experiment, path = load_config(target, "--tiny" in arguments)
    options = parse(BenchOptions(experiment), f"bench {target}", arguments)
    if options.profile:
        seen = profile(options.experiment)
        whole = {"name": path.stem} | as_json(seen)
        print(json.dumps(whole) if options.json else write_profile(path.stem, seen))
        return
    found = bench(options.experiment)
    print(json.dumps({"name": path.stem} | found))
    if found["input_ratio"] < ENOUGH:
        note(
            f"the input gives {found['input_ratio']} times the examples that the step uses: below "
            f"{ENOUGH} it may wait, above all while other processes use the cores; more workers, "
            "prepared data or fewer changes of the examples make it faster"
        )
