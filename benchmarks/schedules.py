"""What a learned noise schedule gains over fixed ones (Kingma et al., arXiv 2107.00630, section 5
and table 4).

    python -m benchmarks.schedules [--config vdm_digits] [--seeds 3] [--steps N] [--folder DIR]

Trains the config with its own learned process and with the fixed `VPLinear` and `VPCosine` ones,
each from every seed, and prints a JSON line a run: `variance`, of the loss of a training batch at
the last parameters, in nats squared, over batches and draws; `bits_per_dim`, the bound of the
averaged parameters on the test split, the mean of several draws of times and noise, with its
standard error. A run that is there is not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import genjax
from genjax.config_files import load_config
from genjax.data.dataset import Dataset
from genjax.data.stream import pad_batches
from genjax.experiment import Every, Experiment
from genjax.family import Batch, Mean, State, select_modelled
from genjax.runs.run import Run
from genjax.samplers.diffusion.processes import VPCosine, VPLinear


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="vdm_digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=Path("runs/schedules"))
    options = parser.parse_args()
    config, source = load_config(options.config)
    data = config.data.open()
    for seed in range(options.seeds):
        for process in (config.family.process, VPLinear(), VPCosine()):
            experiment = with_process(config, process, seed, options.steps or config.steps)
            name = f"{type(process).__name__.lower()}_{seed}"
            run = genjax.train(experiment, options.folder / name, source=source, quiet=True)
            print(
                json.dumps({"process": type(process).__name__, "seed": seed} | measure(run, data)),
                flush=True,
            )


def with_process(config: Experiment, process: object, seed: int, steps: int) -> Experiment:
    """Return the config with another process, otherwise alike; it is judged at the end alone."""
    every = Every(log=100, evaluate=0, sample=0, checkpoint=steps)
    family = dataclasses.replace(config.family, process=process)
    return dataclasses.replace(
        config, family=family, seed=seed, steps=steps, every=every, evaluators=()
    )


def measure(run: Run, data: Dataset, batches: int = 200, draws: int = 10) -> dict[str, float]:
    """Return the variance of the training loss, and the bound on the test split in bits per
    dimension.
    """
    family, size = run.experiment.family, run.experiment.batch_size

    @jax.jit
    def loss(state: State, batch: Batch, key: jax.Array) -> jax.Array:
        return family.compute_terms(
            state.params, state.variables, select_modelled(batch), None, key, True
        )["loss"].mean()

    @jax.jit
    def bound(state: State, batch: Batch, key: jax.Array) -> Mean:
        return family.evaluate(state, batch, key)["bits_per_dim"]

    draw = np.random.default_rng(0)
    train = data.splits["train"]
    losses = [
        float(
            loss(
                run.state,
                train.batch(draw.choice(len(train), size, replace=False)),
                jax.random.key(number),
            )
        )
        for number in range(batches)
    ]
    judged = family.eval_state(run.state)
    bounds = []
    for number in range(draws):
        total = Mean(jnp.zeros(()), jnp.zeros(()))
        for i, batch in enumerate(pad_batches(data.splits["test"], size, slice(0, size))):
            total = jax.tree.map(
                jnp.add, total, bound(judged, batch, jax.random.key(draws * i + number))
            )
        bounds.append(float(total.value))
    return {
        "steps": run.step,
        "variance": float(np.var(losses, ddof=1)),
        "bits_per_dim": float(np.mean(bounds)),
        "standard_error": float(np.std(bounds, ddof=1) / np.sqrt(draws)),
    }


if __name__ == "__main__":
    main()
