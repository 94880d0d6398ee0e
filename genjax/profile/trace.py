"""Read the trace that JAX's profiler writes, without TensorBoard."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax

NAME = re.compile(r"%?([\w.\-]+)")  # the operation at the start of an event's name, as TPUs have it


@dataclass(frozen=True)
class Event:
    """Something that took time.

    Attributes:
      line: the thread or stream that it ran on.
      name: an operation's name in the program, or what an annotation says.
      module: the program that the operation belongs to; "" if that is not recorded.
      begin: in nanoseconds.
      end: in nanoseconds.
    """

    line: str
    name: str
    module: str
    begin: float
    end: float


def read_events(folder: str | Path) -> list[Event]:
    """Return the events of all traces below a folder."""
    found = []
    for path in sorted(Path(folder).rglob("*.xplane.pb")):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for number, line in enumerate(plane.lines):
                place = f"{plane.name}/{number}"
                for event in line.events:
                    stats = dict(event.stats)
                    name = str(stats.get("hlo_op") or event.name)
                    module = str(stats.get("hlo_module") or "")
                    end = event.start_ns + event.duration_ns
                    found.append(Event(place, name, module, event.start_ns, end))
    return found


def keep_operations(
    events: Iterable[Event], operations: Collection[str], module: str
) -> Iterator[Event]:
    """Yield the events of operations of a program.

    Args:
      events: all events.
      operations: names of the program's operations.
      module: name of the program.
    """
    for event in events:
        if event.module not in ("", module):
            continue
        name = NAME.match(event.name)
        if name is not None and name[1] in operations:
            yield Event(event.line, name[1], event.module, event.begin, event.end)


def sum_times(events: Iterable[Event]) -> dict[str, float]:
    """Return the milliseconds of each name, without those of the events inside it."""
    lines: dict[str, list[Event]] = collections.defaultdict(list)
    for event in events:
        lines[event.line].append(event)
    times: dict[str, float] = collections.defaultdict(float)
    for line in lines.values():
        above: list[Event] = []
        for event in sorted(line, key=lambda e: (e.begin, -e.end)):
            while above and above[-1].end <= event.begin:
                above.pop()
            took = (event.end - event.begin) / 1e6
            if above:
                times[above[-1].name] -= took
            times[event.name] += took
            above.append(event)
    return dict(times)


def divide(
    begin: float, end: float, parts: Mapping[str, Iterable[Event]], rest: str
) -> dict[str, float]:
    """Divide a span of time among parts; what several cover belongs to the first of them.

    Args:
      begin: in nanoseconds.
      end: in nanoseconds.
      parts: events by the name of their part.
      rest: name of what none covers.

    Returns:
      The milliseconds of each part and of the rest, which add up to the span.
    """
    changes = [
        (min(max(time, begin), end), number, change)
        for number, events in enumerate(parts.values())
        for event in events
        for time, change in ((event.begin, 1), (event.end, -1))
    ]
    names, running = [*parts, rest], [0] * len(parts)
    spent, last = dict.fromkeys(names, 0.0), begin
    for time, number, change in sorted(changes):
        first = next((i for i, count in enumerate(running) if count > 0), -1)
        spent[names[first]] += (time - last) / 1e6
        running[number] += change
        last = time
    spent[rest] += (end - last) / 1e6
    return spent
