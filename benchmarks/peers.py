"""``python -m benchmarks.peers CASE``: a training step of genjax and of a peer, side by side.

Each runs in a process of its own, with the same shapes, float32 and all cores, and they take turns, so that a
machine whose speed drifts favours neither. Prints one JSON line {name, genjax, peer, unit, ratio}: milliseconds a
step (medians over the rounds) and the median of the ratios genjax / peer, lower is better.

genjax runs its whole step, with the moving average of the parameters and the check for what is not finite, metrics
included; the peer runs eager PyTorch without them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

BATCH, SIDE, LATENT = 128, 28, {"vae": 20, "vae_conv": 32}
CHANNELS = (32, 64)


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of genjax."""
    import jax
    import numpy as np

    from genjax import parallel, runs
    from genjax.data.dataset import Spec
    from genjax.experiment import Experiment
    from genjax.families.vae import VAE
    from genjax.nets.conv import ConvCoder
    from genjax.nets.mlp import MLPCoder
    from genjax.optim import Adam
    from genjax.train import make_step

    coder = MLPCoder((400,)) if case == "vae" else ConvCoder(CHANNELS)
    experiment = Experiment(VAE(LATENT[case], coder), data=None, optimizer=Adam(), batch_size=BATCH, ema=0.999)
    layout = parallel.start(parallel.Devices(count=1))
    images = np.random.default_rng(0).uniform(-1, 1, (BATCH, SIDE, SIDE, 1)).astype(np.float32)
    make = runs.initial_state(experiment, Spec("image", (SIDE, SIDE, 1), images.mean(0)))
    step = layout.compile_step(make_step(experiment), layout.abstract(make))
    batch = layout.place({"image": images, "mask": np.ones(BATCH, np.float32)})
    state = layout.init(make)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def torch_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of the PyTorch twin."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    pixels, latent, corner = SIDE * SIDE, LATENT[case], SIDE // 4
    if case == "vae":
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 400), nn.ReLU(), nn.Linear(400, 2 * latent))
        decoder = nn.Sequential(nn.Linear(latent, 400), nn.ReLU(), nn.Linear(400, pixels))
    else:
        a, b = CHANNELS
        encoder = nn.Sequential(
            *(nn.Conv2d(1, a, 4, 2, 1), nn.ReLU(), nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(b * corner * corner, 2 * latent)),
        )
        decoder = nn.Sequential(
            *(nn.Linear(latent, b * corner * corner), nn.ReLU(), nn.Unflatten(1, (b, corner, corner))),
            *(nn.ConvTranspose2d(b, a, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(a, 1, 4, 2, 1), nn.Flatten()),
        )
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    images = torch.rand(BATCH, 1, SIDE, SIDE)

    def run(steps: int) -> None:
        for _ in range(steps):
            mean, log_variance = encoder(images).chunk(2, dim=-1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            targets = images.flatten(1)
            nll = functional.binary_cross_entropy_with_logits(decoder(z), targets, reduction="sum")
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
            optimizer.zero_grad(set_to_none=True)
            ((nll + kl) / BATCH).backward()
            optimizer.step()

    return run


def serve(side: str, case: str, seconds: float) -> None:
    """Answer every line on standard input with milliseconds a step."""
    run = (genjax_step if side == "genjax" else torch_step)(case)
    run(10)
    begin = time.perf_counter()
    run(10)
    steps = max(10, round(seconds / (time.perf_counter() - begin) * 10))
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        run(steps)
        print(1e3 * (time.perf_counter() - begin) / steps, flush=True)


def compare(case: str, rounds: int, seconds: float) -> dict[str, object]:
    """Both sides in turn, ``rounds`` times."""
    command = [sys.executable, "-m", "benchmarks.peers", case, "--seconds", str(seconds), "--side"]
    times: dict[str, list[float]] = {"genjax": [], "torch": []}
    servers = {}
    for side in times:  # one after the other: compilation is not to disturb a measurement
        servers[side] = subprocess.Popen([*command, side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
        "peer": round(statistics.median(times["torch"]), 3),
        "unit": "ms/step",
        "ratio": round(statistics.median(a / b for a, b in zip(*times.values(), strict=True)), 3),
    }


def _answer(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=sorted(LATENT))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    parser.add_argument("--side", choices=("genjax", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.case, options.seconds)
    else:
        print(json.dumps(compare(options.case, options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
