"""Follow the memory of a step through the operations of its compiled program.

The program has its operations in the order in which they run, so it is known which arrays are live
at each: from the operation that makes one to the last that reads it. XLA reuses memory a little
better than that, as some operations write over what they read; its own sizes are reported besides.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from genjax.plan.program import Instruction, Program, read_program

COLUMNS = 40  # of a timeline
LARGEST = 5  # arrays that are named at the peak
# Results that are other names of arrays that are there already; a loop updates its arrays in place.
NAMES = frozenset(
    {"tuple", "get-tuple-element", "bitcast", "while", "optimization-barrier", "opt-barrier"}
)
CALLED = re.compile(r"(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
ALIAS = re.compile(r"\{(\d*)\}: \((\d+), \{[\d, ]*\}, (?:may|must)-alias\)")


@dataclass(frozen=True)
class Timeline:
    """The live bytes of a step, on one device.

    Attributes:
      arguments: bytes of parameters, moments, other state and the batch.
      live: bytes at each operation, with the arguments.
      peak: bytes at the peak.
      operation: the operation that runs then.
      largest: names and bytes of the largest arrays that are live then, without the arguments.
    """

    arguments: int
    live: tuple[int, ...]
    peak: int
    operation: str
    largest: tuple[tuple[str, int], ...]

    def thin(self, columns: int = COLUMNS) -> list[int]:
        """Return the largest of each of at most ``columns`` equal parts."""
        count = min(columns, len(self.live))
        edges = [len(self.live) * i // count for i in range(count + 1)]
        return [max(self.live[a:b]) for a, b in itertools.pairwise(edges)]


@dataclass(frozen=True)
class Moment:
    """The arrays that are live while an operation runs, besides the arguments."""

    operation: str
    arrays: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(self.arrays.values())


def follow_memory(text: str) -> Timeline:
    """Return the timeline of a compiled program from its text; of a loop, one turn is shown."""
    program = read_program(text)
    lines = program.computations[program.entry]
    arguments = sum(line.bytes for line in lines if line.operation == "parameter")
    places = [int(place or 0) for place, _ in ALIAS.findall(text.partition("\n")[0])]
    moments = list(_follow(program, program.entry, {}, places))
    peak = max(moments, key=lambda moment: moment.bytes, default=Moment("", {}))
    largest = sorted(peak.arrays.items(), key=lambda item: -item[1])[:LARGEST]
    return Timeline(
        arguments,
        tuple(arguments + moment.bytes for moment in moments) or (arguments,),
        arguments + peak.bytes,
        peak.operation,
        tuple((name, size) for name, size in largest if size),
    )


def _follow(
    program: Program, name: str, around: Mapping[str, int], reused: Sequence[int] | None
) -> Iterator[Moment]:
    """Yield the live arrays at each operation of a computation, and of those that it calls.

    Args:
      program: the program.
      name: name of the computation.
      around: arrays that are live outside of it.
      reused: results, by number, that are written in the place of arguments; None for all.
    """
    lines = program.computations.get(name, ())
    sources = _find_sources(lines)
    in_place = _find_in_place(lines, sources, reused)
    last = _find_last_uses(lines, sources)
    now = dict(around)
    for place, line in enumerate(lines):
        for called in _list_called(line):
            yield from _follow(program, called, dict(now), None)
        if line.operation not in ("parameter", "constant", *NAMES):
            if line.name in last and line.name not in in_place:
                now[line.name] = line.bytes
            yield Moment(line.name, dict(now))
        for source in (*line.operands, line.name):
            for one in sources.get(source, ()):
                if last.get(one, place) <= place:
                    now.pop(one, None)


def _find_last_uses(
    lines: Sequence[Instruction], sources: Mapping[str, tuple[str, ...]]
) -> dict[str, int]:
    """Return for each array the place of the last instruction that reads it; results outlive
    all.
    """
    last: dict[str, int] = {}
    for place, line in enumerate(lines):
        for operand in line.operands:
            last |= dict.fromkeys(sources.get(operand, ()), place)
        if line.is_root:
            last |= dict.fromkeys(sources[line.name], len(lines))
    return last


def _find_sources(lines: Sequence[Instruction]) -> dict[str, tuple[str, ...]]:
    """Return for each instruction those whose arrays its result stands for."""
    sources: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if line.operation in NAMES:
            found = [source for operand in line.operands for source in sources.get(operand, ())]
            sources[line.name] = tuple(dict.fromkeys(found))
        else:
            sources[line.name] = (line.name,)
    return sources


def _find_in_place(
    lines: Sequence[Instruction],
    sources: Mapping[str, tuple[str, ...]],
    reused: Sequence[int] | None,
) -> frozenset[str]:
    """Return the instructions that write results in the place of arguments."""
    root = next((line for line in lines if line.is_root), None)
    if root is None:
        return frozenset()
    outputs = root.operands if root.operation == "tuple" else (root.name,)
    places = range(len(outputs)) if reused is None else [p for p in reused if p < len(outputs)]
    return frozenset(source for place in places for source in sources.get(outputs[place], ()))


def _list_called(line: Instruction) -> list[str]:
    """Return the computations that a loop, a branch or a call runs."""
    if line.operation not in ("while", "call", "conditional"):
        return []
    called = CALLED.findall(line.rest)
    for branches in BRANCHES.findall(line.rest):
        called += [name.strip().lstrip("%") for name in branches.split(",")]
    return called
