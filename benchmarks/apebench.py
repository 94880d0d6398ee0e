"""Beside APEBench (Koehler et al., arXiv 2411.00180): its emulators of an equation and ours.

    pip install apebench
    python -m benchmarks.apebench --scenario diff_adv --net "MLP;64;3;relu" --seed 0

Both learn the scenario's own training trajectories, one step at a time, and are rolled out from its
test states; the numbers are its own mean nRMSE after so many steps, and the geometric mean of those
of the first 100, by which its tables are ordered. Ours is a ``Forecast``, a flow of the next state
with a residual MLP, drawn by Euler steps. A line of JSON is printed for each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import genjax
from genjax.checks import Component
from genjax.data.simulation.sources import TrajectoryFiles
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.forecast import Forecast, Rollout
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import Adam
from genjax.samplers.diffusion.processes import Straight
from genjax.samplers.diffusion.solvers import Euler
from genjax.schedules import Cosine, WarmUp

LEADS = (1, 10, 100)
FIRST = 100  # steps whose geometric mean orders APEBench's tables


def make_experiment(folder: Path, states: np.ndarray, steps: int, seed: int) -> Experiment:
    """Make the experiment on trajectories [N, L, P], which are written below ``folder``."""
    (folder / "states").mkdir()
    for number, one in enumerate(states):
        np.save(folder / "states" / f"{number:04d}.npy", one)
    scale = states.std((0, 1))
    change = float((np.diff(states, axis=1) / scale).std())
    return Experiment(
        family=Forecast(
            net=ResidualMLP(128, 3, 256),
            process=Straight(),
            target="velocity",
            width=32,
            time_frequency=10.0,
            given=1,
            change=change,
            sampler=Rollout(Euler(4)),
        ),
        data=TrajectoryFiles(str(folder / "states"), test_fraction=1 / len(states)),
        optimizer=Adam(WarmUp(200, Cosine(1e-3, 1e-6))),
        steps=steps,
        batch_size=256,
        ema=0.999,
        every=Every(log=500, evaluate=0, sample=0, checkpoint=steps),
        steps_per_dispatch=50,
        seed=seed,
    )


def roll_out(run: Component, starts: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """Roll a run out from states [N, P], and return the next ``steps`` [N, steps, P]."""
    family, given = run.family, run.codec.encode(starts[:, None])

    @jax.jit
    def draw(state: Any, key: jax.Array) -> jax.Array:
        return family.roll_out(state, key, given, family.sampler, steps + 1)

    drawn = draw(run.eval_state, jax.random.key(seed))
    return np.asarray(run.codec.decode(np.asarray(drawn)))[:, 1:]


def summarise(errors: np.ndarray) -> dict[str, float]:
    """Summarise the mean nRMSE of each step [L]."""
    found = {f"nRMSE_{lead}": float(errors[lead - 1]) for lead in LEADS if lead <= len(errors)}
    return found | {"geometric_mean": float(np.exp(np.log(errors[:FIRST]).mean()))}


def compare(scenario: Component, net: str, steps: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for APEBench's network, for ours, and for a forecast that nothing changes."""
    train = np.asarray(scenario.get_train_data())  # [N, L, C, P]
    test = np.asarray(scenario.get_test_data())
    length = test.shape[1] - 1
    measure = scenario.perform_tests_on_rollout

    def score(predicted: np.ndarray) -> dict[str, float]:
        return summarise(np.asarray(measure(predicted, test[:, 1:])["mean_nRMSE"])[0])

    yield {"model": "the start, unchanged", **score(np.repeat(test[:, :1], length, 1))}
    begin = time.perf_counter()
    _, _, _, metrics, _, _ = scenario.run_raw(network_config=net, start_seed=seed)
    seconds = time.perf_counter() - begin
    parameters = scenario.get_parameter_count(net)
    errors = np.asarray(metrics["mean_nRMSE"])[0]
    name = f"APEBench's {net}"
    yield {"model": name, "parameters": parameters, "seconds": seconds, **summarise(errors)}
    with tempfile.TemporaryDirectory() as folder:
        flat = train.reshape(*train.shape[:2], -1)
        experiment = make_experiment(Path(folder), flat, steps, seed)
        begin = time.perf_counter()
        run: Component = genjax.train(experiment, str(Path(folder) / "run"))
        seconds = time.perf_counter() - begin
        drawn = roll_out(run, test[:, 0].reshape(len(test), -1), length, seed)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(run.eval_state.params))
    row = {"model": "Forecast", "parameters": parameters, "seconds": seconds}
    yield row | score(drawn.reshape(test[:, 1:].shape))


def main() -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="diff_adv", help="a name of scenario_dict")
    parser.add_argument("--net", default="MLP;64;3;relu", help="its network_config")
    parser.add_argument("--their-steps", type=int, default=10_000, help="of its training")
    parser.add_argument("--steps", type=int, default=10_000, help="of ours, a multiple of 50")
    parser.add_argument("--points", type=int, default=160, help="of the grid")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    package: Component = importlib.import_module("apebench")
    scenario = package.scenarios.scenario_dict[given.scenario](
        num_points=given.points,
        optim_config=f"adam;{given.their_steps};warmup_cosine;0.0;1e-3;{given.their_steps // 5}",
    )
    for row in compare(scenario, given.net, given.steps, given.seed):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
