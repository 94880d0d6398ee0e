"""Show where the time of a training step goes: ``python -m benchmarks.where CASE``.

Traces some steps of a case of ``benchmarks.peers`` with JAX's profiler, which on a CPU times each
operation of the compiled program, and prints the share of each kind, then the slowest operations.
The kind follows from the scope that an operation was traced in, or from what it computes. Pin the
process to one core (``taskset -c 0``) to see one operation at a time. ``genjax bench CONFIG
--profile`` shows a config instead.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import tempfile
import time
from collections.abc import Iterator, Mapping

import jax

from benchmarks.cases import CASES
from genjax.profile.kinds import read_kinds
from genjax.profile.trace import read_events, sum_times


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
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(steps)
        for name, took in sum_times(read_events(folder)).items():
            times[name] = took / steps
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
