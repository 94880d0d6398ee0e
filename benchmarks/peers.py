"""``python -m benchmarks.peers CASE``: a training step, or another task, of genjax and of a peer,
side by side.

Each runs in a process of its own, with the same shapes, float32 and all cores, and they take turns,
so that a machine whose speed drifts favours neither. Prints one JSON line {name, genjax, peer,
unit, ratio}: milliseconds a step (medians over the rounds) and the median of the ratios genjax /
peer, lower is better.

genjax runs its whole step, with the moving average of the parameters and the check for what is not
finite, metrics included; the peer, where no other one is named, runs eager PyTorch without them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

# The module of benchmarks that has both sides.
CASES = {
    "vae": "vae",
    "vae_conv": "vae",
    "dcgan": "dcgan",
    "unet": "unet",
    "diffusion_sample": "unet",
    "gpt": "gpt",
    "gpt_compiled": "gpt",
    "generate_small": "gpt",
    "generate_small_16": "gpt",
    "generate_124m": "gpt",
    "mlm": "mlm",
    "ppo": "ppo",
    "ppo_text": "ppo",
    "dedup": "dedup",
    "dedup_small": "dedup",
}


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
    """Answer every line on standard input with milliseconds a step."""
    module = importlib.import_module(f"benchmarks.{CASES[case]}")
    run = (module.genjax_step if side == "genjax" else module.peer_step)(case)
    run(1)  # compiles
    took = timed(run, 1)
    steps = 1 if took > seconds else max(1, round(seconds / timed(run, 3) * 3))
    print("ready", flush=True)
    for _ in sys.stdin:
        print(1e3 * timed(run, steps) / steps, flush=True)


def timed(run: Callable[[int], None], steps: int) -> float:
    """Seconds that this many steps take."""
    begin = time.perf_counter()
    run(steps)
    return time.perf_counter() - begin


def compare(case: str, rounds: int, seconds: float) -> dict[str, object]:
    """Both sides in turn, ``rounds`` times."""
    command = [sys.executable, "-m", "benchmarks.peers", case, "--seconds", str(seconds), "--side"]
    times: dict[str, list[float]] = {"genjax": [], "peer": []}
    servers = {}
    for side in times:  # one after the other: compilation is not to disturb a measurement
        servers[side] = subprocess.Popen(
            [*command, side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if _answer(servers[side]) != "ready":
            raise SystemExit(f"the {side} side of {case} did not start")
    for _ in range(rounds):
        for side, server in servers.items():
            assert server.stdin is not None
            server.stdin.write("go\n")
            server.stdin.flush()
            times[side].append(float(_answer(server)))
    for server in servers.values():
        server.terminate()
    return {
        "name": case,
        "genjax": round(statistics.median(times["genjax"]), 3),
        "peer": round(statistics.median(times["peer"]), 3),
        "unit": "ms/step",
        "ratio": round(statistics.median(a / b for a, b in zip(*times.values(), strict=True)), 3),
    }


def _answer(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    parser.add_argument("--side", choices=("genjax", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.case, options.seconds)
    else:
        print(json.dumps(compare(options.case, options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
