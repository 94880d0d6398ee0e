"""Plan a config for a machine that is not there: memory, time and money, by compiling a step."""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import tyro

from genjax import checks
from genjax.cli.bench import step_flops
from genjax.cli.parsing import parse
from genjax.config_files import load_config
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.plan.page import quantity, write_plan
from genjax.plan.plan import Plan, as_json, find_cures, make_plan
from genjax.plan.targets import Target, find_target
from genjax.plan.topology import open_devices, prepare_compilers

MOST = 16  # doublings of a sweep


@checks.frozen
class PlanOptions:
    """Plan a config for a machine.

    Attributes:
      experiment: fields of the config.
      on: machines: v5e, v5e:2x2, v5p:2x2x1, h200, h200:8, a100, ..., see docs/plan.md.
      sweep: double the batch size until a step no longer fits.
      price: of a device for an hour, in any currency.
      reached: share of the roofline at which runs are expected, for hours and price.
      json: print JSON, a line for each plan.
      tiny: use the small form of the config.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    on: tuple[str, ...] = ("v5e",)
    sweep: Literal["none", "batch"] = "none"
    price: float | None = None
    reached: float = 1.0
    json: bool = False
    tiny: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "price")
        checks.numbers(self, ("reached",), "above 0 and at most 1", lambda x: 0 < x <= 1)
        if not self.on:
            raise UserError("on must name a machine, such as v5e:2x2 or h200", "on")


def plan_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax plan CONFIG --on MACHINE``."""
    prepare_compilers()
    experiment, path = load_config(target, "--tiny" in arguments)
    options = parse(PlanOptions(experiment), f"plan {target}", arguments)
    machines = [find_target(name) for name in options.on]

    def change(experiment: Experiment, more: str) -> Experiment:
        """Apply more options of the command line to a run."""
        changed = dataclasses.replace(options, experiment=experiment)
        return parse(changed, f"plan {target}", shlex.split(more)).experiment

    for machine in machines:
        devices = open_devices(machine)
        compile_step = functools.partial(
            make_plan, target=machine, devices=devices, count_flops=step_flops
        )
        if options.sweep == "batch":
            _print_sweep(path.stem, options, machine, compile_step)
            continue
        plan = compile_step(options.experiment)
        cures = (
            ()
            if plan.memory.fits
            else find_cures(plan, functools.partial(change, plan.experiment), compile_step)
        )
        if options.json:
            about = {"name": path.stem, **as_json(plan, options.reached, options.price)}
            cured = {cure.options: as_json(cure.plan) for cure in cures}
            print(json.dumps(about | {"cures": cured}), flush=True)
        else:
            print(write_plan(path.stem, plan, cures, options.reached, options.price), flush=True)


def _print_sweep(
    name: str, options: PlanOptions, machine: Target, compile_step: Callable[[Experiment], Plan]
) -> None:
    """Print what a step takes with the batch size doubled up to the first that does not fit."""
    if not options.json:
        print(f"{name} on {machine.name}")
        print(f"{'batch':>10} {'memory':>10} {'step':>12} {'examples/s':>12}")
    size = options.experiment.batch_size
    for _ in range(MOST):
        plan = compile_step(dataclasses.replace(options.experiment, batch_size=size))
        if options.json:
            print(json.dumps({"name": name, "batch_size": size} | as_json(plan)), flush=True)
        else:
            print(_sweep_row(size, plan), flush=True)
        if not plan.memory.fits:
            return
        size *= 2


def _sweep_row(size: int, plan: Plan) -> str:
    needed = plan.memory.needed
    memory = "too much" if needed is None else f"{quantity(needed)}B"
    if not plan.memory.fits:
        return f"{size:>10,} {memory:>10} does not fit"
    rate = quantity(size / plan.step_s).strip()
    return f"{size:>10,} {memory:>10} {1e3 * plan.step_s:>9.3g} ms {rate:>12}"
