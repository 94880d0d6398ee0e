"""Plan a run on a machine that is not there: what a step takes of it, and what the run costs."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from genjax import parallel
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.family import State
from genjax.plan.missing import describe_missing_runs
from genjax.plan.program import Collective, Program, read_program
from genjax.plan.saved import count_saved
from genjax.plan.targets import Target
from genjax.runs.capacity import batch_shapes, check_batch
from genjax.runs.setup import Setup, set_up
from genjax.serial.json_text import Json

# What a TPU's compiler says of a program that does not fit.
USED = re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT])")
UNITS = {letter: 1024 ** (power + 1) for power, letter in enumerate("KMGT")}
HOUR = 3600.0


@dataclass(frozen=True)
class Memory:
    """Bytes on each device.

    Attributes:
      parameters: trained parameters and variables.
      optimizer: its moments.
      average: averaged parameters.
      frozen: parameters of other runs.
      batch: examples of a dispatch.
      activations: results of the forward pass that the backward one reads, at their peak.
      temporaries: all other results of a step, and its code.
      needed: all of these; None if the compiler refused without a number.
      usable: what a program may take.
    """

    parameters: int
    optimizer: int
    average: int
    frozen: int
    batch: int
    activations: int | None
    temporaries: int | None
    needed: int | None
    usable: int

    @property
    def fits(self) -> bool:
        """Whether a step fits."""
        return self.needed is not None and self.needed <= self.usable


@dataclass(frozen=True)
class Plan:
    """What a run takes of a machine.

    Attributes:
      target: the machine.
      experiment: the run, as it was compiled.
      mode: how its devices are used.
      devices: number of devices.
      memory: bytes on each device.
      flops: FLOPs of matrix products and convolutions in a step, on all devices.
      moved: bytes that a step moves to and from each device's memory; 0 if it was not compiled.
      collectives: what a step sends between devices.
      compile_s: seconds of a processor that compiling took.
    """

    target: Target
    experiment: Experiment
    mode: str
    devices: int
    memory: Memory
    flops: int
    moved: int
    collectives: tuple[Collective, ...]
    compile_s: float

    @property
    def peak(self) -> float:
        """FLOP/s of all devices in the precision of the run."""
        chip = self.target.chip
        return self.devices * (chip.flops32 if self.is_float32 else chip.flops)

    @property
    def is_float32(self) -> bool:
        """Whether networks compute in float32."""
        return self.experiment.precision == "float32"

    @property
    def parts(self) -> Mapping[str, float]:
        """Seconds of a step that products, memory and links take at their peaks."""
        chip = self.target.chip
        sent = sum(one.sent for one in self.collectives)
        return {
            "products": self.flops / self.peak,
            "memory": self.moved / chip.bandwidth,
            "links": sent / chip.link,
        }

    @property
    def step_s(self) -> float:
        """The roofline: products and memory side by side, then the links; no step is faster."""
        parts = self.parts
        return max(parts["products"], parts["memory"]) + parts["links"]

    def hours(self, reached: float = 1.0) -> float:
        """Return the hours of the whole run at a share of the roofline."""
        return self.experiment.steps * self.step_s / reached / HOUR


@dataclass(frozen=True)
class Cure:
    """A change of a config that does not fit, tried by compiling.

    Attributes:
      options: options that make the change.
      plan: what it takes then.
    """

    options: str
    plan: Plan


def make_plan(
    experiment: Experiment,
    target: Target,
    devices: Sequence[Any],
    count_flops: Callable[[Setup], int],
) -> Plan:
    """Compile a step for a machine, and read what it takes.

    Args:
      experiment: the run.
      target: the machine.
      devices: its devices, described to the compiler.
      count_flops: counts the FLOPs of a step.

    Raises:
      UserError: the run cannot be arranged on the devices, or its data or other runs are missing.
    """
    layout = parallel.arrange(experiment.devices, devices)
    check_batch(experiment, layout)
    with describe_missing_runs(experiment) as described:
        setup = set_up(described, layout=layout)
    setup.layout.check_rules(setup.target.params)
    batch = shape_batch(setup)
    begin = sum(os.times()[:4])
    lowered = setup.run_step.lower(setup.target, batch)
    try:
        compiled = _compile(lowered)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            reason = str(error).partition("\n")[0]
            raise UserError(f"on {target.name}: the compiler failed: {reason}", "on") from error
        needed, saved, program = _read_need(str(error)), 0, None
    else:
        found = compiled.memory_analysis()
        needed = (
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            - found.alias_size_in_bytes
            + found.temp_size_in_bytes
            + found.generated_code_size_in_bytes
        )
        program = read_program(compiled.as_text())
        saved = count_saved(program)
    several = experiment.steps_per_dispatch
    return Plan(
        target,
        experiment,
        layout.mode,
        layout.mesh.size,
        _measure(setup.target, batch, layout, needed, saved, target.usable),
        count_flops(setup),
        0 if program is None else program.count_bytes() // several,
        () if program is None else _per_step(program, several),
        sum(os.times()[:4]) - begin,  # with the assembler's processes
    )


def _compile(lowered: Any) -> Any:
    """Compile a step; without Triton's products where the compiler cannot tile them, as it tunes
    tiles on a device, and none is here.
    """
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "tile sizes" not in str(error):
            raise
        return lowered.compile(compiler_options={"xla_gpu_enable_triton_gemm": False})


def shape_batch(setup: Setup) -> Any:
    """Return the shapes of what a step is given: examples, with what the family adds or makes of
    them.
    """
    several = setup.experiment.steps_per_dispatch > 1
    batch: dict[str, Any] = dict(batch_shapes(setup))
    lead = next(iter(batch.values())).shape[: 1 + several]
    batch["mask"] = jax.ShapeDtypeStruct(lead, "float32")
    family = setup.family
    if family.shape_collected is not None:
        return family.shape_collected(setup.target, batch)
    if family.precompute is not None:
        one = {n: jax.ShapeDtypeStruct(x.shape[several:], x.dtype) for n, x in batch.items()}
        added = jax.eval_shape(family.precompute, setup.target, one)
        batch |= {
            n: jax.ShapeDtypeStruct((*lead[:-1], *x.shape), x.dtype) for n, x in added.items()
        }
    return batch


def _per_step(program: Program, several: int) -> tuple[Collective, ...]:
    return tuple(
        Collective(one.kind, *(-(-n // several) for n in (one.count, one.bytes, one.sent)))
        for one in program.find_collectives()
    )


def _measure(
    state: State,
    batch: Any,
    layout: parallel.Layout,
    needed: int | None,
    saved: int,
    usable: int,
) -> Memory:
    rows = layout.mesh.shape["data"] * layout.mesh.shape["fsdp"]
    given = sum(math.prod(x.shape) * x.dtype.itemsize for x in batch.values()) // rows
    parts = {
        "parameters": _on_device((state.params, state.variables)),
        "optimizer": _on_device(state.opt_state),
        "average": _on_device(state.ema),
        "frozen": _on_device(state.frozen),
        "batch": given,
    }
    if needed is None:
        return Memory(**parts, activations=None, temporaries=None, needed=None, usable=usable)
    made = max(0, needed - sum(parts.values()))
    kept = min(saved, made)  # results may also lie where the step's own will be
    return Memory(**parts, activations=kept, temporaries=made - kept, needed=needed, usable=usable)


def _on_device(tree: Any) -> int:
    """Return the bytes of a tree of shapes on each device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def _read_need(message: str) -> int | None:
    found = USED.search(message)
    return None if found is None else int(float(found[1]) * UNITS[found[2]])


def find_cures(
    plan: Plan, change: Callable[[str], Experiment], compile_again: Callable[[Experiment], Plan]
) -> tuple[Cure, ...]:
    """Try what makes a step fit that does not: each kind of change up to the first that does.

    Args:
      plan: what does not fit.
      change: returns the run with options of the command line applied.
      compile_again: makes the plan of a run on the same machine.
    """
    found = []
    for kind in list_changes(plan):
        for options in kind:
            try:
                tried = compile_again(change(options))
            except UserError:  # the family has no such option, or the devices cannot divide so
                continue
            if tried.memory.fits:
                found.append(Cure(options, tried))
                break
    return tuple(found)


def list_changes(plan: Plan) -> list[list[str]]:
    """Return the options to try, by kind, each from the smallest change to the largest."""
    experiment, devices = plan.experiment, plan.devices
    accumulate = experiment.optimizer.accumulate
    rows = experiment.batch_size // devices
    powers = [2**power for power in range(1, 7)]
    smaller = [experiment.batch_size // n for n in powers]
    kinds = [
        ["--family.net.remat products", "--family.net.remat everything"],
        [
            f"--optimizer.accumulate {n * accumulate}"
            for n in powers
            if rows % (n * accumulate) == 0
        ],
        [f"--batch-size {n}" for n in smaller if n and n % (devices * accumulate) == 0],
    ]
    if devices > 1 and plan.mode != "sharded":
        kinds.insert(2, [f"--devices.mode sharded --devices.fsdp {devices}"])
    return kinds


def as_json(plan: Plan, reached: float = 1.0, price: float | None = None) -> dict[str, Json]:
    """Return a plan as JSON: bytes, seconds, hours, and money where a price is known.

    Args:
      plan: the plan.
      reached: share of the roofline that runs reach.
      price: of a device for an hour.
    """
    memory = plan.memory
    hours = plan.hours(reached)
    return {
        "on": plan.target.name,
        "device": plan.target.chip.kind,
        "devices": plan.devices,
        "mode": plan.mode,
        "fits": memory.fits,
        "memory": {
            **dataclasses.asdict(memory),
            "left": None if memory.needed is None else memory.usable - memory.needed,
        },
        "flops": plan.flops,
        "moved_bytes": plan.moved,
        "collectives": [dataclasses.asdict(one) for one in plan.collectives],
        "roofline_s": {name: seconds for name, seconds in plan.parts.items()},
        "step_s": plan.step_s,
        "reached": reached,
        "steps": plan.experiment.steps,
        "hours": hours,
        "price": None if price is None else hours * price * plan.devices,
        "compile_s": round(plan.compile_s, 2),
    }
