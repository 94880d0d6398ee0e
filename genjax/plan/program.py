"""Read a compiled program: the bytes that it moves and what its devices send to each other.

XLA's own analysis counts the body of a loop once and is absent for GPUs that are not there, so the
text of the scheduled program is read; each body counts as often as its loop runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Results that are another name for memory that is there already.
FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota", "opt-barrier"),
    *("after-all", "partition-id", "replica-id", "domain", "copy-done", "async-done", "send-done"),
    *("recv-done", "all-reduce-done", "all-gather-done", "collective-permute-done"),
)
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
ARRAY = re.compile(r"\b(pred|bf16|f8\w*|[fsuc]\d+)\[([\d,]*)\](\{[^}]*\})?")
HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
CALLED = re.compile(r"(?:calls|to_apply|called_computations|branch_computations)=\{?([^,}]*)")
TRIPS = re.compile(r"known_trip_count[^\d]*(\d+)")


@dataclass(frozen=True)
class Collective:
    """One kind of communication between devices, summed over a run of the program.

    Attributes:
      kind: such as "all-reduce".
      count: how often it runs.
      bytes: bytes of its results on one device.
      sent: bytes that each device sends, by the ring algorithm.
    """

    kind: str
    count: int
    bytes: int
    sent: int


@dataclass(frozen=True)
class Instruction:
    """One line of a computation: name, type, operation, names of operands, and the rest."""

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Bytes of its result in the device's main memory."""
        return size_of(self.shape)


@dataclass(frozen=True)
class Program:
    """The computations of a program by name.

    Attributes:
      computations: instructions in their order.
      entry: name of the first one.
      devices: number of devices that run it together.
    """

    computations: Mapping[str, tuple[Instruction, ...]]
    entry: str
    devices: int

    def count_bytes(self) -> int:
        """Return the bytes that one device reads from and writes to its memory."""
        return round(sum(n * self._moved(i, c) for n, i, c in self._walk(self.entry)))

    def find_collectives(self) -> tuple[Collective, ...]:
        """Return the communication between devices, by kind, most bytes first."""
        sums: dict[str, list[int]] = {}
        for times, instruction, _ in self._walk(self.entry):
            kind = instruction.operation.removesuffix("-start")
            if kind in COLLECTIVES:
                size = size_of(instruction.shape, scratch=True)
                if instruction.operation.endswith("-start") and instruction.shape.startswith("(("):
                    size //= 2  # operands and results in one tuple
                group = _group(instruction.rest, self.devices)
                counted = sums.setdefault(kind, [0, 0, 0])
                counted[0] += times
                counted[1] += times * size
                counted[2] += times * _sent(kind, size, group)
        found = [Collective(kind, *numbers) for kind, numbers in sums.items()]
        return tuple(sorted(found, key=lambda one: -one.bytes))

    def _walk(
        self, name: str, times: int = 1
    ) -> Iterator[tuple[int, Instruction, Mapping[str, Instruction]]]:
        """Yield every instruction that runs, how often, and the instructions beside it."""
        lines = self.computations.get(name, ())
        beside = {line.name: line for line in lines}
        for line in lines:
            if line.operation == "while":
                for body in self.find_called(line):
                    yield from self._walk(body, times * self._trips(line))
            elif line.operation in ("call", "conditional", "async-start"):
                for branch in self.find_called(line):
                    yield from self._walk(branch, times)
            else:
                yield times, line, beside

    def find_called(self, line: Instruction) -> tuple[str, ...]:
        """Return the names of the computations that a call, a branch or a loop runs."""
        if line.operation == "while":
            return tuple(re.findall(r"body=%?([\w.\-]+)", line.rest))
        listed = [name for names in CALLED.findall(line.rest) for name in names.split(",")]
        listed += re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line.rest)
        return tuple(name.strip().lstrip("%") for name in listed)

    def _trips(self, loop: Instruction) -> int:
        """Return how often a loop runs: known to the compiler, or the bound of its condition."""
        known = TRIPS.search(loop.rest)
        if known is not None:
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        lines = self.computations.get(condition[1], ()) if condition is not None else ()
        bounds = {
            line.name: int(number[1])
            for line in lines
            if line.operation == "constant" and (number := re.match(r"\((\d+)\)", line.rest))
        }
        for line in lines:
            if line.operation in ("compare", "fusion"):
                found = [bounds[name] for name in line.operands if name in bounds]
                if found:
                    return max(1, max(found))
        return 1

    def _moved(self, line: Instruction, beside: Mapping[str, Instruction]) -> int:
        if line.operation in FREE:
            return 0
        operands = [size_of(beside[name].shape) for name in line.operands if name in beside]
        whole = size_of(line.shape)
        if line.operation in ("dynamic-slice", "gather", "slice"):
            return 2 * whole
        inner = line
        if line.operation == "fusion" and (called := re.search(r"calls=%?([\w.\-]+)", line.rest)):
            roots = [i for i in self.computations.get(called[1], ()) if i.is_root]
            inner = roots[0] if roots else line
        if inner.operation in ("dynamic-update-slice", "scatter"):
            # The array is changed in place: only the other operands are read and written.
            return 2 * sum(size for size in operands if size < whole)
        return sum(operands) + whole


def read_program(text: str) -> Program:
    """Read the text of a compiled program."""
    computations: dict[str, tuple[Instruction, ...]] = {}
    name, entry, lines = "", "", list[Instruction]()
    for row in text.splitlines():
        head = HEAD.match(row)
        if head is not None:
            name, lines = head[1], []
            entry = name if row.startswith("ENTRY") else entry
        elif row.startswith("}"):
            computations[name] = tuple(lines)
        elif name and (found := LINE.match(row)):
            lines.append(_read_line(found, row[found.end() :]))
    header = text.partition("\n")[0]
    parts = [re.search(rf"{word}=(\d+)", header) for word in ("num_partitions", "replica_count")]
    devices = math.prod(int(part[1]) for part in parts if part is not None)
    return Program(computations, entry, devices)


def _read_line(found: re.Match[str], rest: str) -> Instruction:
    shape, rest = _split_parenthesis(rest) if rest.startswith("(") else rest.split(" ", 1)
    operation, _, _ = rest.strip().partition("(")
    arguments, after = _split_parenthesis(rest.strip()[len(operation) :])
    operands = tuple(re.findall(r"%([\w.\-]+)", arguments))
    more = arguments + after if operation.strip() == "constant" else after
    return Instruction(found[2], shape, operation.strip(), operands, more, found[1] is not None)


def _split_parenthesis(text: str) -> tuple[str, str]:
    """Split a text after the parenthesis that it starts with."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    return text, ""


def size_of(shape: str, scratch: bool = False) -> int:
    """Return the bytes of a type in the device's main memory, with ``scratch`` also those in S(1),
    the memory beside its units.
    """
    total = 0
    for kind, sizes, layout in ARRAY.findall(shape):
        if not scratch and re.search(r"S\([1-9]", layout):
            continue
        bits = 8 if kind == "pred" else 16 if kind == "bf16" else 8 if kind.startswith("f8") else 0
        bits = bits or int(re.sub(r"\D", "", kind))
        count = math.prod(int(size) for size in sizes.split(",") if size)
        total += -(-count * bits // 8)
    return total


def _group(rest: str, devices: int) -> int:
    """Return how many devices take part in a collective."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    if listed is not None:
        return len(listed[1].split(","))
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]", rest)
    return int(iota[2]) if iota is not None else devices


def _sent(kind: str, size: int, group: int) -> int:
    """Return the bytes that each device sends, with results of ``size`` bytes on each."""
    if group <= 1:
        return 0
    share = (group - 1) / group
    if kind == "all-reduce":
        return round(2 * share * size)
    if kind == "reduce-scatter":
        return round((group - 1) * size)
    if kind in ("all-gather", "all-to-all"):
        return round(share * size)
    return size
