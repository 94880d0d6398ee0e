"""``python -m benchmarks.peers CASE …``: a training step, or another task, of genjax and of a peer,
side by side.

    python -m benchmarks.peers vae                           # prints one JSON line
    python -m benchmarks.peers grpo dpo --pin                # prints a table
    python -m benchmarks.peers --all --json runs/speed.json  # every case, on all cores and on one

Each side runs in a process of its own, with the same shapes and float32, and they take turns, so
that a machine whose speed drifts favours neither. ``ratio`` is the median over the rounds of genjax
/ peer, lower is better, and ``low`` and ``high`` its range; ``genjax`` and ``peer`` are medians of
milliseconds a step.

genjax runs its whole step, with the moving average of the parameters and the check for what is not
finite, metrics included; the peer, where no other one is named, runs eager PyTorch without them.

``--pin`` measures a second time on one core; ``--all`` includes it. A file of ``--json`` that was
begun today on the same processor is continued, without the cases that it has, unless ``--again``.
``python -m benchmarks.speed`` makes docs/speed.md of such files.

A case whose peer is not installed is left out with one line, and the exit code is 2. The peers of
grpo, dpo and sft_lora were trl 1.16.0, peft 0.21.2, accelerate 1.15.0 and datasets 5.2.0:

    pip install trl peft accelerate datasets
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import ALL, CASES, ONLY_BY_NAME

VERSIONS = ("jax", "jaxlib", "torch", "transformers", "diffusers", "trl", "peft", "datasketch")
Result = dict[str, str | int | float]


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_torch() -> None:
    """Let PyTorch use the allowed cores, and seed it."""
    import torch

    torch.set_num_threads(count_cores())
    torch.manual_seed(0)


def image_steps(experiment: Any, shape: tuple[int, ...]) -> Callable[[int], None]:
    """``run(steps)``: the whole train step of an experiment on random images of a shape [H, W,
    C].
    """
    import numpy as np

    from genjax.data.dataset import Spec

    images = (
        np.random.default_rng(0).uniform(-1, 1, (experiment.batch_size, *shape)).astype(np.float32)
    )
    return stepping(experiment, Spec("image", shape, images.mean(0)), {"image": images})


def stepping(experiment: Any, spec: Any, batch: Mapping[str, Any]) -> Callable[[int], None]:
    """``run(steps)``: the whole train step of an experiment on a batch of data of that spec."""
    import jax
    import numpy as np

    from genjax import parallel
    from genjax.runs.setup import initial_state, make_step

    layout = parallel.start(parallel.Devices(count=1))
    make = initial_state(experiment, spec)
    step = layout.compile_step(make_step(experiment), layout.eval_shapes(make))
    placed = layout.place({**batch, "mask": np.ones(experiment.batch_size, np.float32)})
    state = layout.init(make)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, placed)
        jax.block_until_ready((state, metrics))

    return run


def serve(side: str, case: str, seconds: float) -> None:
    """Answer every line on standard input with milliseconds a step, the first with the steps of a
    turn.
    """
    module = importlib.import_module(f"benchmarks.{CASES[case].module}")
    run = (module.genjax_step if side == "genjax" else module.peer_step)(case)
    run(1)  # compiles
    print("ready", flush=True)
    steps = 0
    for _ in sys.stdin:
        if steps == 0:
            steps = choose_steps(run, seconds)
            print(steps, flush=True)
        else:
            print(1e3 * timed(run, steps) / steps, flush=True)


def choose_steps(run: Callable[[int], None], seconds: float) -> int:
    """Return how many steps take about ``seconds``, at least one."""
    took = timed(run, 1)
    return 1 if took > seconds / 2 else max(1, round(seconds / timed(run, 3) * 3))


def timed(run: Callable[[int], None], steps: int) -> float:
    """Seconds that this many steps take."""
    begin = time.perf_counter()
    run(steps)
    return time.perf_counter() - begin


def compare(case: str, rounds: int, seconds: float, core: int | None = None) -> Result:
    """Measure both sides in turn, ``rounds`` times, on all allowed cores or on one ``core``.

    Raises:
      SystemExit: a side did not start.
    """
    cores = count_cores() if core is None else 1
    command = [sys.executable, "-m", "benchmarks.peers", case, "--seconds", str(seconds)]
    command += [] if core is None else ["--core", str(core)]
    times: dict[str, list[float]] = {"genjax": [], "peer": []}
    said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
    servers = {
        side: subprocess.Popen(
            [*command, "--side", side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=os.environ | compile_cache(cores),
        )
        for side in times
    }
    try:
        for side, server in servers.items():  # nothing is measured while another compiles
            if _answer(server) != "ready":
                said.seek(0)
                print(said.read(), file=sys.stderr)
                raise SystemExit(f"the {side} side of {case} did not start")
        for number in range(rounds + 1):
            for side, server in servers.items():
                took = _ask(server)
                if number:  # the first answer counts steps, not time
                    times[side].append(took)
    finally:
        for server in servers.values():
            server.kill()
            server.communicate()
    ratios = [a / b for a, b in zip(*times.values(), strict=True)]
    return {
        "name": case,
        "cores": cores,
        "genjax": round(statistics.median(times["genjax"]), 3),
        "peer": round(statistics.median(times["peer"]), 3),
        "unit": "ms/step",
        "ratio": round(statistics.median(ratios), 4),
        "low": round(min(ratios), 4),
        "high": round(max(ratios), 4),
    }


def compile_cache(cores: int) -> dict[str, str]:
    """Return the variables of JAX's compilation cache, one folder for each number of cores.

    A program is compiled for that number, but the cache's keys do not have it.
    """
    default = Path.home() / ".cache" / "genjax" / "peers"
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(default)
    return {
        "JAX_COMPILATION_CACHE_DIR": f"{folder}_{cores}_cores",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def _ask(server: subprocess.Popen[str]) -> float:
    assert server.stdin is not None
    server.stdin.write("go\n")
    server.stdin.flush()
    return float(_answer(server))


def _answer(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().strip()


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, date and versions, which head a file of results."""
    versions = {}
    for name in VERSIONS:
        if importlib.util.find_spec(name) is not None:
            versions[name] = importlib.metadata.version(name)
    return {
        "processor": name_processor(),
        "cores": count_cores(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions,
    }


def name_processor() -> str:
    """Return the name of the processor, with the sets of instructions that matter most."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in lines.items()}
    name = found.get("model name") or platform.processor() or platform.machine()
    flags = found.get("flags", "").split()
    known = {"avx512f": "AVX-512", "amx_tile": "AMX", "avx512_bf16": "bfloat16"}
    sets = [shown for flag, shown in known.items() if flag in flags]
    return f"{name} ({', '.join(sets)})" if sets else name


def load_file(path: Path | None, again: Sequence[str] = ()) -> dict[str, Any]:
    """Return the record that a file has of this machine and day, or a new one, without the cases
    to measure ``again``.
    """
    record = describe_machine() | {"results": []}
    if path is None or not path.exists():
        return record
    try:
        old: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(old["results"], list)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise SystemExit(f"--json must be a new file or one of results, got {path}") from None
    same = all(old.get(key) == record[key] for key in ("processor", "cores", "date"))
    if not same:
        return record
    kept = [row for row in old["results"] if row["name"] not in again]
    return record | {"results": kept}


def save_file(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def find_missing(case: str) -> list[str]:
    """Return the packages that the peer of a case needs and that are not installed."""
    return [name for name in CASES[case].packages if importlib.util.find_spec(name) is None]


def measure_all(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Measure the cases that the file lacks, and save after each; return the record."""
    record = load_file(options.json, names if options.again else ())
    results: list[Result] = record["results"]
    places: list[int | None] = [None]
    if options.pin and count_cores() > 1:
        places.append(max(os.sched_getaffinity(0)))
    for name in names:
        for core in places:
            cores = count_cores() if core is None else 1
            if any(row["name"] == name and row["cores"] == cores for row in results):
                continue
            begin = time.perf_counter()
            row = compare(name, options.rounds, options.seconds, core)
            took = time.perf_counter() - begin
            results.append(row)
            if options.json is not None:
                save_file(options.json, record)
            said = f"{name} on {_cores(cores)}: {row['ratio']:.3f} (goal {CASES[name].goal:g})"
            print(f"{said}, {took:.0f} s", file=sys.stderr, flush=True)
    return record


def make_table(record: Mapping[str, Any]) -> str:
    """Return the results of a record as a table in Markdown."""
    found = {(row["name"], row["cores"]): row for row in record["results"]}
    columns = sorted({cores for _, cores in found}, reverse=True)
    heads = [f"{_cores(cores)} | genjax, peer (ms)" for cores in columns]
    lines = [f"| {' | '.join(('case', 'next to', 'goal', *heads))} |"]
    lines.append("|---" * (3 + 2 * len(columns)) + "|")
    for name in dict.fromkeys(name for name, _ in found):
        case = CASES[name]
        cells = [f"`{name}`", case.peer, f"{case.goal:g}"]
        for cores in columns:
            row = found.get((name, cores))
            if row is None:
                cells += ["", ""]
                continue
            cells.append(f"{row['ratio']:.3f} ({row['low']:.3f}–{row['high']:.3f})")
            cells.append(f"{row['genjax']:.1f}, {row['peer']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code, 2 if a case was left out."""
    options = parse(arguments)
    names: list[str] = options.cases
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})  # before anything counts cores
    if options.side:
        serve(options.side, names[0], options.seconds)
        return 0
    left_out = {name: missing for name in names if (missing := find_missing(name))}
    for name, missing in left_out.items():
        print(f"{name} is left out: its peer needs {', '.join(missing)}", file=sys.stderr)
    record = measure_all(options, [name for name in names if name not in left_out])
    record["results"] = [row for row in record["results"] if row["name"] in names]
    if len(names) == 1 and not options.pin:
        print(*map(json.dumps, record["results"]), sep="\n", end="\n" * (not left_out))
    elif record["results"]:
        print(make_table(record))
    return 2 if left_out else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}")
    parser.add_argument(
        "--all", action="store_true", help=f"--pin, and every case but {', '.join(ONLY_BY_NAME)}"
    )
    parser.add_argument("--pin", action="store_true", help="also on one core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results here")
    parser.add_argument("--again", action="store_true", help="measure what the file has, too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn")
    parser.add_argument("--side", choices=("genjax", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.pin |= options.all
    options.cases = list(dict.fromkeys([*options.cases, *(ALL if options.all else ())]))
    for name in options.cases:
        if name not in CASES:
            parser.error(f"unknown case {name!r}; known: {', '.join(CASES)}")
    if not options.cases:
        parser.error("name cases, or --all")
    if options.rounds < 1 or not options.seconds > 0:
        parser.error("--rounds must be >= 1 and --seconds > 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
