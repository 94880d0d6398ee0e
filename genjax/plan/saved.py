"""Find the activations of a compiled step: results of its forward pass that the backward one reads.

JAX names the operations of the two, and the compiler keeps the names: ``jvp(…)`` and
``transpose(jvp(…))``. The program's text is in the order of its schedule, so the peak is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from genjax.plan.program import Instruction, Program, size_of

NAME = re.compile(r'op_name="([^"]*)"')
# Operations whose result is that of an operand, or a part of it.
PASSED_ON = ("tuple", "get-tuple-element", "bitcast", "opt-barrier", "copy-start", "copy-done")
# Of these, the ones that have no array of their own.
SHARED = ("bitcast", "opt-barrier", "parameter", "constant")
CALLS = ("call", "conditional", "async-start", "while")


def count_saved(program: Program) -> int:
    """Return the bytes of activations on one device at their peak."""
    return _peak(program, program.entry)


def _peak(program: Program, name: str) -> int:
    lines = program.computations.get(name, ())
    changes = [0] * (len(lines) + 1)
    for begin, end, size in _find_spans(lines):
        changes[begin] += size
        changes[end + 1] -= size
    live = peak = 0
    for change, line in zip(changes, lines, strict=False):
        live += change
        called = program.find_called(line) if line.operation in CALLS else ()
        peak = max(peak, live + max((_peak(program, other) for other in called), default=0))
    return peak


def _find_spans(lines: Sequence[Instruction]) -> Iterator[tuple[int, int, int]]:
    """Yield where each activation is made and last read by the backward pass, and its bytes."""
    readers: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        for operand in line.operands:
            readers.setdefault(operand, []).append(place)
    places = {line.name: place for place, line in enumerate(lines)}
    for place, line in enumerate(lines):
        if line.operation in SHARED or line.shape.startswith("("):
            continue
        maker = _find_maker(line, lines, places)
        if maker is not None and _pass_of(maker) == "forward":
            last = _last_reader(line.name, lines, readers)
            if last is not None:
                yield place, last, size_of(line.shape)


def _find_maker(
    line: Instruction, lines: Sequence[Instruction], places: dict[str, int]
) -> Instruction | None:
    """Return the line that computes a result, of which ``line`` may be a part or a copy."""
    while line.operation in PASSED_ON:
        if line.operation == "tuple" or not line.operands or line.operands[0] not in places:
            return None
        line = lines[places[line.operands[0]]]
    return line


def _last_reader(
    name: str, lines: Sequence[Instruction], readers: dict[str, list[int]]
) -> int | None:
    """Return the place of the last line of the backward pass that reads a result."""
    found, todo, seen = None, [name], {name}
    while todo:
        for place in readers.get(todo.pop(), ()):
            line = lines[place]
            if _pass_of(line) == "backward" and line.operation not in PASSED_ON:
                found = place if found is None else max(found, place)
            elif line.operation in PASSED_ON and line.name not in seen:
                seen.add(line.name)
                todo.append(line.name)
    return found


def _pass_of(line: Instruction) -> str | None:
    found = NAME.search(line.rest)
    if found is None:
        return None
    if "transpose(" in found[1]:
        return "backward"
    return "forward" if "jvp(" in found[1] else None
