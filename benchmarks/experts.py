"""Compare the time of a training step of experts with that of a dense net of equal active width.

    python -m benchmarks.experts                   # several numbers of experts
    python -m benchmarks.experts 4x2 8x2 --cpu     # CPU time, for a machine that is shared

Prints one line of JSON for each case ("8x2" is two of eight experts): milliseconds of both steps,
their ratio, the median over the rounds, in which both take turns, and the ratio of their FLOPs,
which count the active experts alone. The net is that of `gpt_shakespeare_char`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.cli.flops import count_flops
from genjax.data.dataset import Spec
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import init_state, make_example
from genjax.machine.target import trace_for
from genjax.nets.transformer.experts import Experts
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW

CASES = ("4x1", "4x2", "8x2", "16x2", "32x2")
LENGTH, VOCABULARY, ROWS, HIDDEN = 64, 65, 12, 512
DENSE = Transformer(
    layers=4, heads=4, width=128, hidden=HIDDEN, context=LENGTH, activation="gelu", biases=()
)


def make_net(case: str) -> Transformer:
    """Build the net of a case, whose active experts are together as wide as the dense layer."""
    count, active = map(int, case.split("x"))
    experts = Experts(count, active, hidden=HIDDEN // active)
    return Transformer(
        layers=4, heads=4, width=128, context=LENGTH, activation="gelu", biases=(), experts=experts
    )


def make_run(net: Transformer) -> tuple[Callable[[int], None], int]:
    """Return a function that takes so many training steps and waits for them, and the FLOPs of
    one.
    """
    family, rule = Autoregressive(net), AdamW(clip=1.0).build(1000)
    zeros = np.zeros(LENGTH + 1, np.float32)
    spec = Spec("tokens", (LENGTH + 1,), zeros, vocabulary=VOCABULARY)
    params, variables = jax.jit(lambda: family.init(jax.random.key(0), make_example(spec), spec))()
    state = init_state(params, variables, rule, jax.random.key(1))
    shape = ROWS, LENGTH + 1
    tokens = jax.random.randint(jax.random.key(2), shape, 0, VOCABULARY)
    batch = {"tokens": tokens, "loss_mask": jnp.ones(shape), "mask": jnp.ones(ROWS)}

    def take(state: Any) -> Any:
        return family.train_step(state, batch, optimizer=rule)[0]

    step = jax.jit(take)

    def run(steps: int) -> None:
        now = state
        for _ in range(steps):
            now = step(now)
        jax.block_until_ready(now.params)

    run(2)  # compiles
    return run, count_flops(trace_for(jax.default_backend(), take, counted=True), state)


def compare(case: str, rounds: int, steps: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Return the times of a case and of the dense net."""
    (dense, dense_flops), (run, flops) = make_run(DENSE), make_run(make_net(case))
    taken: list[tuple[float, float]] = []
    for _ in range(rounds):
        before = clock()
        dense(steps)
        between = clock()
        run(steps)
        taken.append((between - before, clock() - between))
    return {
        "case": case,
        "dense_ms": 1e3 * statistics.median(a for a, _ in taken) / steps,
        "experts_ms": 1e3 * statistics.median(b for _, b in taken) / steps,
        "ratio": statistics.median(b / a for a, b in taken),
        "flops_ratio": flops / dense_flops,
    }


def main() -> None:
    """Print the lines."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("cases", nargs="*", help="such as 8x2: two of eight experts")
    parser.add_argument("--rounds", type=int, default=7, help="of both steps in turn")
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--cpu", action="store_true", help="CPU time, not that of the clock")
    chosen = parser.parse_args()
    clock = time.process_time if chosen.cpu else time.perf_counter
    for case in chosen.cases or CASES:
        print(json.dumps(compare(case, chosen.rounds, chosen.steps, clock)), flush=True)


if __name__ == "__main__":
    main()
