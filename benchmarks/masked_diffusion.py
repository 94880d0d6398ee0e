"""Measure a masked diffusion: the time of a step, and what parallel decoding costs in quality.

    python -m benchmarks.masked_diffusion time          # beside a masked and a plain language model
    python -m benchmarks.masked_diffusion time --cpu    # CPU time, for a machine that is shared
    python -m benchmarks.masked_diffusion decode runs/mdlm_shakespeare runs/gpt_shakespeare \
        --out docs/masked_diffusion.png

``time`` prints one line of JSON for each way to mask: milliseconds of a training step of all three
on the same net and batch, and the ratios, medians over the rounds, in which all take turns.

``decode`` draws texts by each order in ever fewer steps. A run of an autoregressive model with the
same codec judges them: nats per token after the first. It also draws as many texts itself. As what
is likely may just be repeated, the entropy of the texts' pairs of tokens is given as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import genjax
from genjax.data.dataset import Spec
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.masked_diffusion import MaskedDiffusion
from genjax.families.masked_lm import MaskedLM
from genjax.families.unmasking import Unmasking
from genjax.family import State, init_state, make_example, with_inputs
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.runs.setup import open_data

VOCABULARY, LENGTH, BATCH = 65, 64, 12
NET = Transformer(4, 4, 128, LENGTH + 1, biases=())
ORDERS: dict[str, dict[str, Any]] = {
    "ancestral": {"order": "ancestral"},
    "random": {"order": "random"},
    "confident": {"order": "confident"},
    "margin": {"order": "margin"},
    "blocks of 8, confident": {"order": "confident", "block": 8},
}


def make_run(family: Any) -> Callable[[int], None]:
    """Return a function that takes so many training steps and waits for them."""
    shape = (LENGTH + 1,)
    spec = Spec("tokens", shape, np.zeros(shape, np.float32), vocabulary=VOCABULARY)
    spec = dataclasses.replace(spec, token_kinds=(0,) * VOCABULARY)
    rule = Adam().build(1000)
    params, variables = jax.jit(lambda: family.init(jax.random.key(0), make_example(spec), spec))()
    state = init_state(params, variables, rule, jax.random.key(1))
    tokens = jax.random.randint(jax.random.key(2), (BATCH, *shape), 0, VOCABULARY)
    real = jnp.ones(tokens.shape).at[:, 0].set(0.0)
    rows = {"tokens": tokens, "loss_mask": real, "mask": jnp.ones(BATCH)}
    step = jax.jit(lambda state: family.train_step(state, rows, optimizer=rule)[0])

    def run(steps: int) -> None:
        now = state
        for _ in range(steps):
            now = step(now)
        jax.block_until_ready(now.params)

    run(2)  # compiles
    return run


def compare_steps(rounds: int, steps: int, clock: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """Yield the times of each way to mask and of both other models."""
    both_sides = dataclasses.replace(NET, causal=False)
    others = [make_run(MaskedLM(both_sides, chunk=1024)), make_run(Autoregressive(NET))]
    for masks in ("linear", "cosine", "counts"):
        runs = [make_run(MaskedDiffusion(both_sides, masks)), *others]
        taken: list[list[float]] = []
        for _ in range(rounds):
            times = []
            for run in runs:
                before = clock()
                run(steps)
                times.append(clock() - before)
            taken.append(times)
        mine, masked, plain = (1e3 * statistics.median(t) / steps for t in zip(*taken, strict=True))
        yield {
            "masks": masks,
            "masked_diffusion_ms": mine,
            "masked_lm_ms": masked,
            "autoregressive_ms": plain,
            "ratio_to_masked_lm": statistics.median(t[0] / t[1] for t in taken),
            "ratio_to_autoregressive": statistics.median(t[0] / t[2] for t in taken),
        }


def judge_texts(family: Autoregressive, state: State, texts: np.ndarray) -> float:
    """Return the nats per token of texts [N, T] after the first, under an autoregressive model."""
    tokens = jnp.asarray(texts, jnp.int32)
    real = jnp.ones(tokens.shape).at[:, 0].set(0.0)
    rows = {"tokens": tokens, "loss_mask": real, "mask": jnp.ones(len(tokens))}
    found = jax.jit(family.predict)(state.params, rows)
    return float((found.nll * found.weight).sum() / found.weight.sum())


def pair_entropy(texts: np.ndarray) -> float:
    """Return the entropy in nats of pairs of neighbours in texts [N, T]."""
    pairs = np.stack([texts[:, :-1].ravel(), texts[:, 1:].ravel()], 1)
    counts = np.unique(pairs, axis=0, return_counts=True)[1] / len(pairs)
    return float(-(counts * np.log(counts)).sum())


def measure_decoding(
    run_dir: str, judge_dir: str, num: int, temperature: float
) -> Iterator[dict[str, Any]]:
    """Yield quality, calls and time of each order and number of steps; the held-out text and the
    judge's own texts come first.
    """
    run, judge = genjax.load(run_dir), genjax.load(judge_dir)
    family, state = run.family, run.model().state
    other, judging = judge.family, judge.model().state
    length = min(family.net.context, other.net.context + 1)
    held_out = open_data(run.experiment).splits["test"]
    places = np.linspace(0, len(held_out) - 2, num).astype(int)
    texts = held_out.batch(places)["tokens"][:, :length].astype(np.int32)
    first = texts[:, 0]
    yield describe("held-out text", 1, 0.0, other, judging, texts)
    prompts = tuple((int(token),) for token in first)
    drawn, took = draw_plain(other, judging, prompts, length)
    yield describe("autoregressive", 1, took, other, judging, drawn)
    text = jnp.full((num, length), state.variables["mask"], jnp.int32).at[:, 0].set(first)
    given = with_inputs(state, {"prompt": text})
    for name, fields in ORDERS.items():
        for steps in (length - 1, 16, 8, 4, 2):
            blocks = -(-length // fields.get("block", length))
            if steps < blocks or steps > length:
                continue
            options = Unmasking(steps=steps, temperature=temperature, **fields)
            draw = jax.jit(lambda state, key, o=options: family.draw(state, key, num, o))
            jax.block_until_ready(draw(given, jax.random.key(0)))  # compiles
            before = time.perf_counter()
            found, calls = jax.block_until_ready(draw(given, jax.random.key(1)))
            took = time.perf_counter() - before
            per_call = (length - 1) / int(calls)
            yield describe(name, per_call, took, other, judging, np.asarray(found))


def draw_plain(
    family: Autoregressive, state: State, prompts: tuple[tuple[int, ...], ...], length: int
) -> tuple[np.ndarray, float]:
    """Return texts [N, length] that continue prompts of one token, and the seconds they took."""
    given = with_inputs(state, {"prompt": jnp.asarray(prompts, jnp.int32)})
    options = dataclasses.replace(family.sampler, steps=length - 1, prompt="", prompts=())
    draw = jax.jit(lambda state, key: family.sample(state, key, len(prompts), options))
    jax.block_until_ready(draw(given, jax.random.key(0)))
    before = time.perf_counter()
    drawn = jax.block_until_ready(draw(given, jax.random.key(1)))
    return np.asarray(drawn), time.perf_counter() - before


def describe(
    name: str, per_call: float, took: float, judge: Autoregressive, state: State, texts: np.ndarray
) -> dict[str, Any]:
    """Return a line of the table."""
    return {
        "order": name,
        "tokens_per_call": per_call,
        "nats_per_token": judge_texts(judge, state, texts),
        "pair_entropy": pair_entropy(texts),
        "ms_per_text": 1e3 * took / len(texts),
    }


def draw_picture(rows: list[dict[str, Any]], out: Path) -> None:
    """Plot nats under the judge, and the entropy of pairs, over tokens per call."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    titles = {
        "nats_per_token": "nats per token under the judge",
        "pair_entropy": "entropy of pairs",
    }
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        for order in ORDERS:
            mine = [row for row in rows if row["order"] == order]
            axis.plot(
                [r["tokens_per_call"] for r in mine], [r[name] for r in mine], "o-", label=order
            )
        for row, style in zip(rows[:2], ("--", ":"), strict=True):
            axis.axhline(row[name], color="black", linestyle=style, label=row["order"])
        axis.set(xscale="log", xlabel="tokens per evaluation of the net", title=title)
    axes[0].legend(fontsize=7)
    figure.savefig(out, dpi=110)


def main() -> None:
    """Print the lines, and draw the picture."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("what", choices=("time", "decode"))
    parser.add_argument("runs", nargs="*", help="of decode: a masked diffusion, and its judge")
    parser.add_argument("--rounds", type=int, default=7, help="of all steps in turn")
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--cpu", action="store_true", help="CPU time, not that of the clock")
    parser.add_argument("--num", type=int, default=256, help="texts")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="picture")
    chosen = parser.parse_args()
    if chosen.what == "time":
        clock = time.process_time if chosen.cpu else time.perf_counter
        for row in compare_steps(chosen.rounds, chosen.steps, clock):
            print(json.dumps(row), flush=True)
        return
    if len(chosen.runs) != 2:
        parser.error("decode needs two runs: a masked diffusion, and its judge")
    rows = []
    mine, judge = chosen.runs
    for row in measure_decoding(mine, judge, chosen.num, chosen.temperature):
        rows.append(row)
        print(json.dumps(row), flush=True)
    if chosen.out is not None:
        draw_picture(rows, chosen.out)


if __name__ == "__main__":
    main()
