"""How time and memory of a training step grow as one thing after the other doubles.

    python -m benchmarks.growth [FAMILY ...] [--tiny] [--out docs]

measures all families, or those that are named, of which it replaces the points: a family at a time
in a process of its own. Between two points all programs and arrays of the one before are dropped,
and the system's mark of the peak memory is reset. A point is a whole training step: forward,
backward, Adam, moving average, the check for what is not finite, metrics. Its time is that of the
fastest of at least five steps, its memory what the compiled program needs besides the state
(``memory_analysis``), and the peak of the process. The slope is the logarithm to base 2 of the
ratio for each doubling: 1 is linear, 2 quadratic. Devices are up to eight of the host's, which
share its cores and a batch of the same size. It writes ``growth_of_cost.json`` and
``growth_of_cost.png``, and the page ``growth_of_cost.md`` with one table for each family. With
``--page`` it writes only the page, from the JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.growth_page import draw, write_page

NAME = "growth_of_cost"
# First values of what doubles, by family, and how often.
AXES: dict[str, dict[str, int]] = {
    "vae": {"width": 64, "depth": 1, "batch": 32},
    "gan": {"width": 16, "batch": 16},
    "unet": {"width": 8, "side": 8, "batch": 4},
    "gpt": {"width": 32, "depth": 1, "context": 32, "batch": 4, "vocabulary": 512},
    "mlm": {"width": 32, "depth": 1, "context": 32, "batch": 4, "vocabulary": 512},
    "input": {"examples": 25_000},
    "devices_vae": {"devices": 1},
    "devices_gpt": {"devices": 1},
}
DOUBLINGS = 3
SIZES = {"width": 64, "depth": 2, "batch": 16, "context": 64, "vocabulary": 1024, "side": 16}
HEAD = 32  # width of an attention head


def build(family: str, sizes: Mapping[str, int], devices: int = 1) -> tuple[Any, Any, Any]:
    """Return an experiment of a size, the spec of its data, and a batch."""
    import genjax.gx
    from genjax.data.dataset import SPECIAL, Spec

    gx: Any = genjax.gx
    width, batch, draw_ = sizes["width"], sizes["batch"], np.random.default_rng(0)
    adam, common = gx.Adam(gx.Constant(1e-3), clip=1.0), {"data": gx.Digits(), "ema": 0.999}
    common |= {"batch_size": batch, "devices": gx.Devices(count=devices)}
    if family in ("gpt", "mlm"):
        length = sizes["context"] + (family == "gpt")
        known = sizes["vocabulary"]
        net: Any = gx.Transformer(
            sizes["depth"], max(1, width // HEAD), width, sizes["context"], causal=family == "gpt"
        )
        rows = {
            "tokens": draw_.integers(4, known, (batch, length), np.int32),
            "loss_mask": np.ones((batch, length), np.float32),
        }
        spec = Spec("tokens", (length,), np.zeros(length, np.float32), vocabulary=known)
        if family == "mlm":
            kinds = (*[SPECIAL] * 4, *[0] * (known - 4))
            spec = dataclasses.replace(spec, token_kinds=kinds, mask_token=3)
        model = gx.Autoregressive(net) if family == "gpt" else gx.MaskedLM(net)
        return gx.Experiment(model, optimizer=adam, **common), spec, rows
    side = sizes["side"]
    images = draw_.uniform(-1, 1, (batch, side, side, 1)).astype(np.float32)
    spec = Spec("image", (side, side, 1), images.mean(0))
    if family == "vae":
        coder = gx.MLPCoder(hidden=(width,) * sizes["depth"])
        model, rule = gx.VAE(latent_dim=16, coder=coder, likelihood=gx.Bernoulli()), adam
    elif family == "gan":
        model = gx.GAN(
            16, gx.ConvGenerator((2 * width, width)), gx.ConvBackbone((width, 2 * width))
        )
        rule = gx.Players(adam, adam)
    else:
        model, rule = (
            gx.Diffusion(gx.UNet((width, 2 * width), attention=(side // 2,), head_dim=8)),
            adam,
        )
    return gx.Experiment(model, optimizer=rule, **common), spec, {"image": images}


def measure_step(family: str, sizes: Mapping[str, int], seconds: float, devices: int = 1) -> Any:
    """Compile and time a step."""
    import jax

    from genjax import parallel
    from genjax.runs.setup import initial_state, make_step

    experiment, spec, batch = build(family, sizes, devices)
    layout = parallel.start(experiment.devices)
    make = initial_state(experiment, spec)
    placed = layout.place({**batch, "mask": np.ones(experiment.batch_size, np.float32)})
    state = layout.init(make)
    run = layout.compile_step(make_step(experiment), layout.eval_shapes(make))
    compiled = run.lower(state, placed).compile()
    needs = compiled.memory_analysis()

    def step() -> None:
        nonlocal state
        state, metrics = compiled(state, placed)
        jax.block_until_ready((state, metrics))

    return {
        "ms": time_call(step, seconds),
        "program_mb": needs.temp_size_in_bytes * devices / 1e6,
        "state_mb": sum(x.nbytes for x in jax.tree.leaves(state.params)) / 1e6,
        "peak_mb": read_peak(),
    }


def measure_input(count: int, seconds: float) -> dict[str, float]:
    """Time a batch of 128 of so many images of 32x32x3 in memory, in shuffled order."""
    from genjax.data.codecs import ImageCodec
    from genjax.data.splits import Arrays
    from genjax.data.stream import batches

    raw = np.zeros((count, 32, 32, 3), np.uint8)
    raw[:] = np.arange(count, dtype=np.uint32)[:, None, None, None] % 251
    source = batches(
        Arrays("image", raw, None, ImageCodec(32, 32, 3)), seed=0, position=0, batch_size=128
    )
    next(source)  # orders the first epoch
    found = {"ms": time_call(lambda: next(source), seconds), "peak_mb": read_peak()}
    return found | {"program_mb": raw.nbytes / 1e6, "state_mb": 0.0}


def time_call(call: Callable[[], object], seconds: float) -> float:
    """Return the milliseconds of the fastest of at least five calls."""
    call()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < seconds and len(times) < 200):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def reset_peak() -> None:
    """Drop what is cached, and set the mark of the peak memory to what is in use."""
    import jax

    jax.clear_caches()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # returns freed memory to the system
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def read_peak() -> float:
    """Return the peak memory of this process in MB since ``reset_peak``."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1e3


def measure_family(family: str, doublings: int, seconds: float) -> list[dict[str, Any]]:
    """Measure every point of a family in this process."""
    found = []
    for axis, first in AXES[family].items():
        for power in range(doublings + 1):
            value = first * 2**power
            reset_peak()
            if axis == "examples":
                point = measure_input(value, seconds)
            elif axis == "devices":
                sizes = SIZES | {"batch": 64}
                point = measure_step(family.removeprefix("devices_"), sizes, seconds, value)
            else:
                point = measure_step(family, SIZES | {axis: value}, seconds)
            found.append({"family": family, "axis": axis, "value": value} | point)
    return found


def measure_all(families: Sequence[str], doublings: int, seconds: float) -> dict[str, Any]:
    """Measure every family in a process of its own."""
    points: list[dict[str, Any]] = []
    for family in families:
        flags = "--xla_force_host_platform_device_count=8" if "devices" in family else ""
        words = ["--family", family, "--doublings", str(doublings), "--seconds", str(seconds)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.growth", *words],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        points += json.loads(done.stdout)
        print(f"{family}: {sum(p['family'] == family for p in points)} points", file=sys.stderr)
    cores = len(os.sched_getaffinity(0))
    return {"date": time.strftime("%Y-%m-%d"), "machine": _processor(), "cores": cores} | {
        "points": add_slopes(points)
    }


def sort_points(
    kept: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return points in the order of the families, those of a family that was measured again new."""
    again = {point["family"] for point in new}
    points = [*(point for point in kept if point["family"] not in again), *new]
    return sorted(points, key=lambda point: list(AXES).index(point["family"]))


def add_slopes(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add to each point the slopes of time and memory since the one before."""
    found = []
    for before, point in zip([None, *points], points, strict=False):
        same = before is not None and all(before[n] == point[n] for n in ("family", "axis"))
        slopes = {
            f"{name}_slope": round(math.log2(point[name] / before[name]), 2)
            if same and before is not None and before[name] > 0 and point[name] > 0
            else None
            for name in ("ms", "program_mb", "peak_mb")
        }
        rounded = {n: round(v, 3) if isinstance(v, float) else v for n, v in point.items()}
        found.append(rounded | slopes)
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured."""

    families: tuple[str, ...] = tuple(AXES)
    doublings: int = DOUBLINGS
    seconds: float = 0.3


def main() -> None:
    """Measure all, or one family for the process that does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(AXES)}")
    parser.add_argument("--tiny", action="store_true", help="one family, one doubling")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--page", action="store_true", help="write only the page, from the JSON")
    parser.add_argument("--family", choices=AXES, help=argparse.SUPPRESS)
    parser.add_argument("--doublings", type=int, default=DOUBLINGS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.family:
        points = measure_family(options.family, options.doublings, options.seconds)
        print(json.dumps(points))
        return
    if unknown := set(options.families) - set(AXES):
        parser.error(f"FAMILY must be of {', '.join(AXES)}, got {', '.join(sorted(unknown))}")
    path = options.out / f"{NAME}.json"
    if not options.page:
        effort = Effort(("vae",), 1, 0.01) if options.tiny else Effort()
        options.out.mkdir(parents=True, exist_ok=True)
        families = options.families or effort.families
        found = measure_all(families, effort.doublings, effort.seconds)
        if options.families and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))["points"]
            found["points"] = sort_points(kept, found["points"])
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    draw(found, path.with_suffix(".png"))
    path.with_suffix(".md").write_text(write_page(found), encoding="utf-8")
    print(path.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
