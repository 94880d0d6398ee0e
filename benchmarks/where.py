"""Show where the time of a training step goes: ``python -m benchmarks.where CASE``.

Traces some steps of a case of ``benchmarks.peers`` with JAX's profiler, which on a CPU times each
operation of the compiled program, and prints the share of each kind, then the slowest operations.
The kind follows from the scope that an operation was traced in, or from what it computes. Pin the
process to one core (``taskset -c 0``) to see one operation at a time.
"""

from __future__ import annotations

import argparse
import collections
import glob
import importlib
import re
import tempfile
import time
from collections.abc import Iterator, Mapping

import jax

from benchmarks.cases import CASES

# The first that fits an operation's scope, else the first that fits what it computes.
SCOPES = {
    "update": r"/update_parameters/",
    "average": r"/update_average/",
    "norm and checks": r"/check_gradients/",
    "random numbers": r"threefry|random_bits|jit\(_(uniform|normal)|erf_inv",
}
COMPUTED = {
    "convolutions": r" convolution\(",
    "matrix products": r" dot\(",
    "sums": r" reduce(-window)?\(",
    "copies and windows": r" (copy|concatenate|pad|transpose|reverse|dynamic-slice)\(",
}
OTHER = "elementwise"
LINE = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$")
SCOPE = re.compile(r'op_name="([^"]*)"')


def read_kinds(program: str) -> dict[str, tuple[str, str]]:
    """Return the kind and the scope of every operation, from the text of a compiled program."""
    bodies: dict[str, list[str]] = {}
    lines: dict[str, str] = {}
    body: list[str] = []
    for line in program.splitlines():
        if line.startswith(("%", "ENTRY")):
            body = bodies.setdefault(line.split()[0].lstrip("%"), [])
        elif found := LINE.match(line):
            body.append(found[2])
            lines[found[1]] = found[2]
    kinds = {}
    for name, text in lines.items():
        called = re.search(r"calls=%([\w.\-]+)", text) if " fusion(" in text else None
        whole = [text, *(bodies.get(called[1], []) if called else [])]
        # Its own scope says most; a few operations have one inside only.
        scopes = SCOPE.findall(text) or [s for part in whole for s in SCOPE.findall(part)]
        kinds[name] = choose_kind(scopes, whole), scopes[0] if scopes else ""
    return kinds


def choose_kind(scopes: list[str], texts: list[str]) -> str:
    """Return the kind of an operation traced in these scopes that computes these texts."""
    for kinds, given in ((SCOPES, scopes), (COMPUTED, texts)):
        for kind, pattern in kinds.items():
            if any(re.search(pattern, text) for text in given):
                return kind
    return OTHER


def read_times(folder: str) -> Iterator[tuple[str, float]]:
    """Yield the name and milliseconds of every event of a trace, without the events inside it."""
    path = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)[0]
    for plane in jax.profiler.ProfileData.from_file(path).planes:
        for line in plane.lines:
            above: list[tuple[float, str]] = []  # end and name
            for event in sorted(line.events, key=lambda e: (e.start_ns, -e.duration_ns)):
                while above and above[-1][0] <= event.start_ns:
                    above.pop()
                if above:
                    yield above[-1][1], -event.duration_ns / 1e6
                yield event.name, event.duration_ns / 1e6
                above.append((event.start_ns + event.duration_ns, event.name))


def trace(case: str, seconds: float) -> tuple[float, dict[str, float], str]:
    """Return milliseconds a step untraced, those of each operation, and the program's text."""
    run = importlib.import_module(f"benchmarks.{CASES[case].module}").genjax_step(case)
    run(2)  # compiles
    loaded = jax.devices()[0].client.live_executables()
    program = max((m.to_string() for e in loaded for m in e.hlo_modules()), key=len)
    begin = time.perf_counter()
    run(3)
    steps = max(3, round(3 * seconds / (time.perf_counter() - begin)))
    begin = time.perf_counter()
    run(steps)
    plain = 1e3 * (time.perf_counter() - begin) / steps
    times: dict[str, float] = collections.defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(steps)
        for name, took in read_times(folder):
            times[name] += took / steps
    return plain, times, program


def report(
    plain: float, times: Mapping[str, float], kinds: Mapping[str, tuple[str, str]], slowest: int
) -> Iterator[str]:
    """Yield the lines of the table of kinds, and those of the slowest operations."""
    own = {name: took for name, took in times.items() if name in kinds}
    total = sum(own.values())
    by_kind: dict[str, float] = collections.defaultdict(float)
    for name, took in own.items():
        by_kind[kinds[name][0]] += took
    yield f"a step takes {plain:.2f} ms; the operations of a traced one {total:.2f} ms"
    for kind, took in sorted(by_kind.items(), key=lambda item: -item[1]):
        yield f"{100 * took / total:6.1f} %  {kind}"
    for name, took in sorted(own.items(), key=lambda item: -item[1])[:slowest]:
        yield f"{took:9.3f} ms  {name}: {kinds[name][0]}, {kinds[name][1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--seconds", type=float, default=2.0, help="of tracing")
    parser.add_argument("--slowest", type=int, default=20, help="operations listed")
    options = parser.parse_args()
    plain, times, program = trace(options.case, options.seconds)
    for line in report(plain, times, read_kinds(program), options.slowest):
        print(line)


if __name__ == "__main__":
    main()
