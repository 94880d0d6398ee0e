"""Count the calls that a run saves by guessing its own next tokens.

    python -m benchmarks.self_draft runs/multi_token_shakespeare

Draws texts greedily with and without the heads of the run for later tokens, and checks that they
are the same. Prints one line of JSON: tokens per call with them (1 without), and milliseconds a
text, one after another, with and without.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.runs.run import load
from genjax.samplers.tokens.decoding import Prompts, TokenSampler, generate
from genjax.samplers.tokens.self_speculative import SelfSpeculator


def measure(family: Autoregressive, params: Any, vocabulary: int, steps: int) -> dict[str, float]:
    """Compare texts of ``steps`` tokens, one after each token of the vocabulary."""
    reader, sampler = family.read_rows(params), TokenSampler(steps, temperature=0.0)
    assert reader.ahead is not None, "the run has no heads for later tokens"
    starts = jnp.arange(vocabulary)[:, None, None]
    room, ahead = steps + reader.ahead.heads, reader.ahead

    def draw_plain(start: jax.Array) -> jax.Array:
        prompts, cache = Prompts(start, start >= 0), reader.new_cache(1, room)
        return generate(reader.model, cache, prompts, sampler, jax.random.key(0)).tokens[0]

    def draw_ahead(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        rewind = lambda cache, tokens: cache.rewind(tokens)  # noqa: E731
        drafter = SelfSpeculator(ahead.model, ahead.heads, rewind, sampler)
        prompts, cache = Prompts(start, start >= 0), ahead.new_cache(1, room)
        found = drafter.draw_row(prompts, jax.random.key(0), cache)
        return found.tokens, found.rounds

    taken, results = {}, {}
    for name, draw in (("plain", draw_plain), ("ahead", draw_ahead)):
        run = jax.jit(lambda starts, draw=draw: jax.lax.map(draw, starts))
        jax.block_until_ready(run(starts))
        before = time.process_time()
        results[name] = jax.block_until_ready(run(starts))
        taken[name] = 1e3 * (time.process_time() - before) / vocabulary
    tokens, rounds = results["ahead"]
    np.testing.assert_array_equal(tokens, results["plain"])
    per_call = (steps - 1) / np.asarray(rounds)
    return {
        "texts": vocabulary,
        "tokens_per_call": float((steps - 1) * vocabulary / np.asarray(rounds).sum()),
        "least": float(per_call.min()),
        "most": float(per_call.max()),
        "plain_ms": taken["plain"],
        "ahead_ms": taken["ahead"],
    }


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, default=28, help="tokens of a text")
    given = parser.parse_args()
    model = load(given.run)
    vocabulary = len(model.state.params["embedding"])
    print(json.dumps(measure(model.family, model.state.params, vocabulary, given.steps)))


if __name__ == "__main__":
    main()
