"""The page of ``benchmarks.plans`` and ``benchmarks.plan_and_run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genjax.plan.page import duration, quantity

Row = Mapping[str, Any]
HEADER = """# Plans of every config

`python -m benchmarks.plans` compiles a step of every config for machines that are not there and
writes this page. A cell has what a step needs of each device's memory, the time of a step at the
roofline and what bounds it, and the time of the whole run at the roofline: a lower bound, see
[plan.md](plan.md). Seconds are those of the processor that compiled it. Where a config depends on
other runs, their shapes are used and nothing is trained.

{date}: {versions}.

| config | GFLOP a step | {heads} | compiled in |
|---|---|{lines}---|"""
SMALLER = """
**(1)** a form with fewer blocks, or the tiny one, of which memory and time mean nothing: the whole
one would take this compiler minutes. Its options are in `plans.json`; `python -m benchmarks.plans`
compiles whole forms that were left out. The compiler for TPUs takes seconds for each convolution
and its gradients, and a U-Net has tens of them. A step of `dcgan_mnist` took it 38 seconds of a
processor, 140 by the clock beside other programs. The compiler for GPUs leaves convolutions to
cuDNN: 11 seconds."""
NOT_PLANNED = """
Configs in `configs/prepare` only make data, so they have no plan. {reasons}"""
LARGE = """
## Large ones, in full

| config | on | options | memory of each device | step | collectives | the run |
|---|---|---|---|---|---|---|"""
MEASURED = """
## Plan and run on a CPU

{machine}, by `python -m benchmarks.plan_and_run`: the plan's memory beside the growth of the
process's peak from just before the state is made to after a step, and the roofline of `--on cpu`
beside the fastest of {steps} steps. What the runtime took before, such as threads and compiled
code, is in neither. Steps take 3 to 21 MB more than planned, that of `ddpm_mnist_gpu` 93 MB: it is
not in the compiler's numbers, and it is not known what takes it, so plans of less than 130 MB can
miss by more than 15 %. The roofline of a CPU is that of its fastest matrix product: a step of small
or elementwise operations stays far below it. Other programs ran meanwhile, so what was reached is a
lower bound.

| config | plan | grown | ratio | roofline | step | reached |
|---|---|---|---|---|---|---|"""


def write_page(found: Mapping[str, Any]) -> str:
    """Return the page in Markdown, from docs/plans.json."""
    machines = found["machines"]
    head = HEADER.format(
        date=found["date"],
        versions=found["versions"],
        heads=" | ".join(machines),
        lines="---|" * len(machines),
    )
    by_config: dict[str, dict[str, Row]] = {}
    for row in found["rows"]:
        if row["on"] in machines:
            by_config.setdefault(row["config"], {})[row["on"]] = row
    reasons = " ".join(f"`{name}` {why}." for name, why in found["elsewhere"].items())
    lines = [head, *(_line(name, rows, machines) for name, rows in by_config.items())]
    lines += [SMALLER, NOT_PLANNED.format(reasons=reasons).rstrip()]
    lines += [LARGE, *(_large(row) for row in found["rows"] if row["on"] not in machines)]
    if found["missing"]:
        lines += ["", f"Not compiled yet: {', '.join(found['missing'])}."]
    if found["measured"]:
        about = MEASURED.format(machine=found["measured_on"], steps=found["measured_steps"])
        lines += [about, *map(_measured, found["measured"])]
    return "\n".join(lines) + "\n"


def _line(name: str, rows: Mapping[str, Row], machines: Sequence[str]) -> str:
    cells = [_cell(rows.get(machine)) for machine in machines]
    whole = [row["flops"] for row in rows.values() if not row["instead"] and "flops" in row]
    flops = f"{whole[0] / 1e9:.3g}" if whole else ""
    took = [row["compile_s"] for row in rows.values() if "compile_s" in row]
    seconds = f"{min(took):.0f} to {max(took):.0f} s" if took else ""
    return f"| `{name}` | {flops} | {' | '.join(cells)} | {seconds} |"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if "fault" in row:
        return f"**{row['fault']}**"
    mark = " **(1)**" if row["instead"] else ""
    if not row["fits"]:
        return f"**does not fit**{mark}"
    if "--tiny" in row["instead"]:
        return f"fits{mark}"
    bound = max(row["roofline_s"], key=row["roofline_s"].__getitem__)
    needed = quantity(row["memory"]["needed"])
    step = f"{duration(row['step_s'])} ({bound})"
    return f"{needed}B, {step}, {duration(3600 * row['hours'])}{mark}"


def _large(row: Row) -> str:
    options = f"`{row['options']}`" if row["options"] else ""
    head = f"| `{row['config']}` | {row['on']} | {options} | "
    if not row.get("fits"):
        return head + f"**{row.get('fault', 'does not fit')}** | | | |"
    memory = row["memory"]
    parts = ("parameters", "optimizer", "average", "activations", "temporaries")
    sizes = ", ".join(f"{part} {quantity(memory[part])}B" for part in parts if memory[part])
    bound = max(row["roofline_s"], key=row["roofline_s"].__getitem__)
    sent = ", ".join(f"{one['kind']} {quantity(one['bytes'])}B" for one in row["collectives"])
    return head + (
        f"{quantity(memory['needed'])}B: {sizes} | {duration(row['step_s'])} ({bound}) | {sent} | "
        f"{row['steps']:,} steps, {duration(3600 * row['hours'])} |"
    )


def _measured(one: Row) -> str:
    ratio = one["grown"] / one["planned"]
    return (
        f"| `{one['config']}` | {quantity(one['planned'])}B | {quantity(one['grown'])}B | "
        f"{ratio:.2f} | {duration(one['roofline_s'])} | {duration(one['step_s'])} | "
        f"{one['reached']:.0%} |"
    )
