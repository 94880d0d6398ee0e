"""Write a plan as text for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from genjax.plan.plan import Cure, Memory, Plan

LEVELS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def write_plan(
    name: str, plan: Plan, cures: Sequence[Cure], reached: float, price: float | None
) -> str:
    """Return the page of a plan.

    Args:
      name: name of the config.
      plan: the plan.
      cures: changes with which it fits, if it does not.
      reached: share of the roofline that runs reach.
      price: of a device for an hour; None if it is not known.
    """
    chip = plan.target.chip
    verdict = "fits" if plan.memory.fits else "DOES NOT FIT"
    head = f"{name} on {plan.target.name}: {verdict} ({plan.devices} x {chip.kind}, {plan.mode})"
    lines = [head, *_memory_lines(plan.memory)]
    if not plan.memory.fits:
        lines += ["", *_cure_lines(cures)]
        return "\n".join(lines)
    parts = plan.parts
    lines += ["", "a step", *_step_lines(plan)]
    bound = max(parts, key=lambda part: parts[part])
    lines.append(f"  bound by            {bound}")
    lines += ["", f"the run of {plan.experiment.steps:,} steps"]
    lines.append(f"  at the roofline     {duration(plan.hours() * 3600)}, a lower bound")
    if reached != 1.0:
        lines.append(f"  at {reached:.0%} of it       {duration(plan.hours(reached) * 3600)}")
    if price is not None:
        money = plan.hours(reached) * price * plan.devices
        lines.append(f"  price               {money:,.2f} at {price:g} an hour and device")
    return "\n".join(lines)


def _memory_lines(memory: Memory) -> Iterator[str]:
    yield ""
    yield "memory of each device"
    for name, size in dataclasses.asdict(memory).items():
        if name in ("needed", "usable"):
            continue
        if size:
            yield f"  {name:<19} {quantity(size)}B"
    needed = "more than there is" if memory.needed is None else f"{quantity(memory.needed)}B"
    yield f"  {'needed':<19} {needed} of {quantity(memory.usable)}B that programs may take"


def _step_lines(plan: Plan) -> Iterator[str]:
    parts = plan.parts
    products = duration(parts["products"])
    yield f"  {'products':<19} {quantity(plan.flops)}FLOP, {products} at the peak"
    yield f"  {'memory':<19} {quantity(plan.moved)}B a device, {duration(parts['memory'])}"
    for one in plan.collectives:
        sent = duration(one.sent / plan.target.chip.link)
        yield f"  {one.kind:<19} {quantity(one.bytes)}B in {one.count:,}, {sent}"
    rate = plan.experiment.batch_size / plan.step_s if plan.step_s else float("inf")
    yield f"  {'roofline':<19} {duration(plan.step_s)}, {quantity(rate).strip()} examples/s"


def _cure_lines(cures: Sequence[Cure]) -> Iterator[str]:
    if not cures:
        yield "none of the changes that were tried makes it fit: lower the sizes of family"
        return
    yield "it fits with one of these, each compiled:"
    for cure in cures:
        needed, step = cure.plan.memory.needed or 0, cure.plan.step_s
        yield f"  {cure.options}: {quantity(needed)}B, a step {duration(step)} at the roofline"


def quantity(number: float) -> str:
    """Return a number with three digits and a prefix, such as "1.23 G"."""
    for size, letter in LEVELS:
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g} "


def duration(seconds: float) -> str:
    """Return a time with three digits and a fitting unit, such as "1.23 ms"."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.1f} days"
    for size, unit in ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
