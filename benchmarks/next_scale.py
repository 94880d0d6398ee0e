"""Compare next-scale prediction with a prior in raster order: time of a step and of samples.

    python -m benchmarks.next_scale
    python -m benchmarks.next_scale --cpu    # CPU time, for a machine that is shared

Prints one line of JSON: milliseconds of a training step and seconds for drawing images, of
`next_scale_fashion_mnist` and `vqvae_prior_fashion_mnist` with their nets and batch, their passes
of the net for an image, and the ratios, medians over the rounds, in which both take turns. Weights
are those of step 0, which takes the same time, so no run is needed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.config_files import load_config
from genjax.data.dataset import Spec
from genjax.families.autoregressive.code_prior import (
    AUTOENCODER,
    CodePrior,
    CodeSampler,
    ImageCodes,
)
from genjax.families.autoregressive.next_scale import NextScale
from genjax.family import State, init_state
from genjax.optim import Rules

SHAPE, CLASSES = (28, 28, 1), 10
SPEC = Spec("image", SHAPE, np.zeros(SHAPE, np.float32), classes=CLASSES, levels=256)
PAIRS = {
    "next_scale": ("next_scale_fashion_mnist", "vqvae_scales_fashion_mnist"),
    "raster": ("vqvae_prior_fashion_mnist", "vqvae_fashion_mnist"),
}


def load_pair(config: str, base: str) -> tuple[ImageCodes, Rules, dict[str, jax.Array]]:
    """Return the family of a config on that of its base, its optimizer, and a batch."""
    experiment, autoencoder = load_config(config)[0], load_config(base)[0].family
    family = dataclasses.replace(experiment.family, autoencoder=autoencoder)
    rows = experiment.batch_size
    images = jax.random.uniform(jax.random.key(2), (rows, *SHAPE), minval=-1)
    batch = {"image": images, "label": jnp.arange(rows) % CLASSES, "mask": jnp.ones(rows)}
    return family, experiment.optimizer.build(experiment.steps), batch


def make_state(family: ImageCodes, rule: Rules, batch: dict[str, jax.Array]) -> State:
    """Return the state at step 0 of a family and its base."""
    example = {name: value[:1] for name, value in batch.items()}

    def make() -> State:
        keys = jax.random.split(jax.random.key(0), 3)
        params, variables = family.autoencoder.init(keys[0], example, SPEC)
        state = init_state(*family.init(keys[1], example, SPEC), rule, keys[2])
        return state.replace(frozen={AUTOENCODER: {"params": params, "variables": variables}})

    return jax.jit(make)()


def make_runs(name: str, steps: int, num: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return functions that take so many training steps, and draw so many images, and wait."""
    family, rule, batch = load_pair(*PAIRS[name])
    state = make_state(family, rule, batch)
    step = jax.jit(lambda state: family.train_step(state, batch, optimizer=rule)[0])
    draw = jax.jit(lambda state, key: family.sample(state, key, num, CodeSampler()))

    def train() -> None:
        now = state
        for _ in range(steps):
            now = step(now)
        jax.block_until_ready(now.params)

    def sample() -> None:
        jax.block_until_ready(draw(state, jax.random.key(3)))

    train()  # compiles
    sample()
    return train, sample


def count_passes(name: str) -> int:
    """Count the passes of the net for an image."""
    family = load_pair(*PAIRS[name])[0]
    if isinstance(family, NextScale):
        return len(family.quantiser.scales)
    assert isinstance(family, CodePrior)
    return family.net.context


def compare(rounds: int, steps: int, num: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Return the times of both and their ratios."""
    runs = {name: make_runs(name, steps, num) for name in PAIRS}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (train, sample) in runs.items():
            before = clock()
            train()
            between = clock()
            sample()
            taken[name].append(((between - before) / steps, clock() - between))
    line: dict[str, Any] = {"images": num}
    for name, times in taken.items():
        line |= {
            f"{name}_step_ms": 1e3 * statistics.median(a for a, _ in times),
            f"{name}_sample_s": statistics.median(b for _, b in times),
            f"{name}_passes": count_passes(name),
        }
    both = list(zip(taken["next_scale"], taken["raster"], strict=True))
    line["step_ratio"] = statistics.median(a[0] / b[0] for a, b in both)
    line["sample_ratio"] = statistics.median(a[1] / b[1] for a, b in both)
    return line


def main() -> None:
    """Print the line."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--rounds", type=int, default=7, help="of both in turn")
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--num", type=int, default=256, help="images")
    parser.add_argument("--cpu", action="store_true", help="CPU time, not that of the clock")
    chosen = parser.parse_args()
    clock = time.process_time if chosen.cpu else time.perf_counter
    print(json.dumps(compare(chosen.rounds, chosen.steps, chosen.num, clock)), flush=True)


if __name__ == "__main__":
    main()
