"""Compare the time of a training step of a flow map with that of the plain flow, on the same net.

    python -m benchmarks.flow_map                  # points and images, all forms
    python -m benchmarks.flow_map points --cpu     # CPU time, for a machine that is shared

Prints one line of JSON for each form: milliseconds of both steps, and their ratio, the median over
the rounds, in which both take turns. Half of a flow map's batch learns the flow, half the jumps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.dataset import Spec
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.diffusion.flow_map import FlowMap
from genjax.families.diffusion.jumps import Form
from genjax.family import init_state, make_example
from genjax.nets.residual_mlp import ResidualMLP
from genjax.nets.transformer.dit import DiT
from genjax.optim import Adam
from genjax.samplers.diffusion.processes import Straight

CASES: dict[str, tuple[Any, str, tuple[int, ...], int]] = {  # net, entry, shape, batch
    "points": (ResidualMLP(128, 3, 256), "points", (2,), 512),
    "images": (DiT(4, 64, 4, 4), "image", (28, 28, 1), 64),
}
WIDTH = 64  # of the vector that embeds the times


def make_run(family: Any, entry: str, shape: tuple[int, ...], batch: int) -> Callable[[int], None]:
    """Return a function that takes so many training steps and waits for them."""
    spec = Spec(entry, shape, np.zeros(shape, np.float32))
    rule = Adam().build(1000)
    params, variables = jax.jit(lambda: family.init(jax.random.key(0), make_example(spec), spec))()
    state = init_state(params, variables, rule, jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (batch, *shape))
    rows = {entry: x, "mask": jnp.ones(batch)}
    step = jax.jit(lambda state: family.train_step(state, rows, optimizer=rule)[0])

    def run(steps: int) -> None:
        now = state
        for _ in range(steps):
            now = step(now)
        jax.block_until_ready(now.params)

    run(2)  # compiles
    return run


def compare(
    case: str, rounds: int, steps: int, clock: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """Yield the times of each form and of the plain flow."""
    net, entry, shape, batch = CASES[case]
    flow = Diffusion(net, Straight(), "velocity", width=WIDTH)
    plain = make_run(flow, entry, shape, batch)
    for form in get_args(Form):
        run = make_run(FlowMap(net, form, width=WIDTH), entry, shape, batch)
        taken: list[tuple[float, float]] = []
        for _ in range(rounds):
            before = clock()
            plain(steps)
            between = clock()
            run(steps)
            taken.append((between - before, clock() - between))
        yield {
            "case": case,
            "form": form,
            "flow_ms": 1e3 * statistics.median(a for a, _ in taken) / steps,
            "flow_map_ms": 1e3 * statistics.median(b for _, b in taken) / steps,
            "ratio": statistics.median(b / a for a, b in taken),
        }


def main() -> None:
    """Print the lines."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=7, help="of both steps in turn")
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--cpu", action="store_true", help="CPU time, not that of the clock")
    chosen = parser.parse_args()
    for case in chosen.cases or CASES:
        clock = time.process_time if chosen.cpu else time.perf_counter
        for row in compare(case, chosen.rounds, chosen.steps, clock):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
