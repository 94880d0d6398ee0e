"""Print a profile as tables or as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from genjax.plan.page import quantity
from genjax.profile.profile import Profile

SLOWEST = 15  # operations that are listed
BARS = "▁▂▃▄▅▆▇█"
SCOPE = 70  # characters of a scope: its end says most


def write_profile(name: str, found: Profile) -> str:
    """Format a profile as tables."""
    return "\n".join(_lines(name, found))


def _lines(name: str, found: Profile) -> Iterator[str]:
    yield (
        f"{name} on {found.devices} x {found.device}: a step takes {found.plain_ms:.3f} ms, "
        f"{found.traced_ms:.3f} ms while it is traced (mean of {found.steps} steps)"
    )
    yield "\nwhere the time goes"
    for part, ms in sorted(found.parts.items(), key=lambda item: -item[1]):
        yield _share(ms, found.traced_ms, part)
    if found.platform == "cpu":
        yield "  (on a CPU all of these share the cores)"
    kinds = found.sum_kinds()
    total = sum(kinds.values())
    if not kinds:
        yield "\nthe profiler has recorded no operation of the step"
    else:
        yield f"\nkinds of operations, {total:.3f} ms over all threads"
        for kind, ms in kinds.items():
            yield _share(ms, total, kind)
        yield "\nslowest operations"
        for one in found.operations[:SLOWEST]:
            scope = one.scope if len(one.scope) <= SCOPE else f"…{one.scope[-SCOPE:]}"
            yield _share(one.ms, total, f"{one.name}: {one.kind}{', ' if scope else ''}{scope}")
    yield from _write_memory(found)


def _share(ms: float, total: float, what: str) -> str:
    return f"{ms:11.3f} ms {100 * ms / total if total else 0.0:5.1f} %  {what}"


def _write_memory(found: Profile) -> Iterator[str]:
    sizes, timeline = found.sizes, found.timeline
    yield "\nmemory of a step on one device, as compiled"
    yield (
        f"  {quantity(sizes.arguments)}B of state and batch, {quantity(sizes.results)}B of "
        f"results, {quantity(sizes.reused)}B of them in the place of arguments, "
        f"{quantity(sizes.temporaries)}B of temporaries"
    )
    yield (
        f"  live arrays over {len(timeline.live):,} operations, from "
        f"{quantity(min(timeline.live))}B to {quantity(timeline.peak)}B"
    )
    yield f"  {draw_bars(timeline.thin())}"
    yield f"  the peak is at {timeline.operation}; the largest temporaries live there:"
    for name, size in timeline.largest:
        yield f"{quantity(size) + 'B':>13}  {name}"
    if found.peak_memory is not None:
        yield f"  the device has used {quantity(found.peak_memory)}B at most"


def draw_bars(values: list[int]) -> str:
    """Draw numbers as bars from 0 to the largest."""
    most = max(values, default=0)
    return "".join(BARS[min(7, 8 * value // most)] if most else BARS[0] for value in values)


def as_json(found: Profile) -> dict[str, Any]:
    """Return a profile as JSON, with the slowest operations and a thinned timeline."""
    return {
        "step_ms": round(found.plain_ms, 4),
        "traced_step_ms": round(found.traced_ms, 4),
        "steps": found.steps,
        "parts_ms": {name: round(ms, 4) for name, ms in found.parts.items()},
        "kinds_ms": {name: round(ms, 4) for name, ms in found.sum_kinds().items()},
        "operations": [dataclasses.asdict(one) for one in found.operations[:SLOWEST]],
        "memory": dataclasses.asdict(found.sizes)
        | {
            "peak_live": found.timeline.peak,
            "peak_operation": found.timeline.operation,
            "live": found.timeline.thin(),
            "largest": dict(found.timeline.largest),
            "peak_of_device": found.peak_memory,
        },
        "device": found.device,
        "devices": found.devices,
    }
