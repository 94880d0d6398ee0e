"""Describe a config or a run without training: resolved fields, a table of parameters, FLOPs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from genjax import parallel
from genjax.cli.bench import step_flops
from genjax.cli.options import ConfigOptions, ShowRunOptions, ShowSamplesOptions
from genjax.cli.parsing import parse
from genjax.config_files import load_config
from genjax.experiment import Experiment
from genjax.machine.target import list_forms
from genjax.runs import directory, lineage, writers
from genjax.runs.setup import Setup, set_up, set_up_stored
from genjax.trees import named_leaves


def describe(experiment: Experiment, setup: Setup) -> str:
    """Return the page that ``genjax show`` prints for a config or a run.

    Args:
      experiment: experiment, with other runs by name.
      setup: setup of the experiment.
    """
    params, spec = setup.target.params, setup.data.spec
    experiment.optimizer.check(params)
    rows = [
        (name, str(list(p.shape)), f"{math.prod(p.shape):,}") for name, p in named_leaves(params)
    ]
    total = sum(math.prod(p.shape) for p in jax.tree.leaves(params))
    rows.append(("total", "", f"{total:,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = "\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)
    forms: Iterable[str] = ()
    if setup.family.collect is not None:
        cost = "depends on what the family collects: `genjax bench` counts its FLOPs"
    else:
        with list_forms() as forms:
            flops = step_flops(setup)
        cost = f"{flops:,.0f} FLOPs, {flops / experiment.batch_size:,.0f} an example"
    return (
        "\n".join(_fields(experiment))
        + f"\n\ndata: {spec.entry} {list(spec.shape)}"
        + (f", {spec.classes} classes" if spec.classes is not None else "")
        + f"\n\nparameters\n{table}\n\n"
        + f"one step: {cost}"
        + "".join(f"\n{form} on a {setup.platform}" for form in forms)
    )


def _fields(value: Any, indent: int = 0) -> Iterator[str]:
    """Yield ``name: value`` lines, with nested dataclasses indented under their class."""
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        items = (
            item if isinstance(item, tuple) and item and dataclasses.is_dataclass(item[0]) else None
        )
        if items is not None:
            for i, element in enumerate(items):
                yield from _component(f"{field.name}.{i}", element, indent)
        elif dataclasses.is_dataclass(item):
            yield from _component(field.name, item, indent)
        else:
            yield f"{' ' * indent}{field.name}: {item}"


def _component(name: str, value: Any, indent: int) -> Iterator[str]:
    yield f"{' ' * indent}{name}: {type(value).__name__}"
    yield from _fields(value, indent + 2)


def show_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax show CONFIG``, ``genjax show RUN_DIR`` or ``genjax show SAMPLES``."""
    if Path(target).is_file() and Path(target).suffix in lineage.WRITTEN:
        parse(ShowSamplesOptions(), f"show {target}", arguments)
        print(lineage.describe_sample(epath.Path(target)))
        return
    stored = directory.load_experiment(epath.Path(target))
    if stored is not None:
        options = parse(ShowRunOptions(), f"show {target}", arguments)
        if options.lineage:
            print(lineage.tree(lineage.read_record(target)))
            return
        print(describe(stored, set_up_stored(target)))
        rows = writers.read_rows(epath.Path(target) / "metrics.jsonl")
        if rows:
            print(f"last row: {json.dumps(rows[-1])}")
        return
    experiment, _ = load_config(target, "--tiny" in arguments)
    options = parse(ConfigOptions(experiment), f"show {target}", arguments)
    one = parallel.start(parallel.Devices(count=1))
    print(describe(options.experiment, set_up(options.experiment, layout=one)))
