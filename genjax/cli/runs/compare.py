"""``genjax compare``: compare two runs."""

from __future__ import annotations

from collections.abc import Sequence

from genjax.cli.options import CompareOptions
from genjax.cli.parsing import explain_store, parse
from genjax.cli.runs.compared import compare
from genjax.machine import streams
from genjax.runs.rewards import load_reward
from genjax.runs.run import load


def compare_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax compare RUN_A RUN_B``."""
    options = parse(CompareOptions(), f"compare {target} {arguments[0]}", arguments[1:])
    reward = None if options.reward is None else load_reward(options.reward)
    a, b = load(target), load(arguments[0])
    prompts = tuple(map(streams.typed, options.prompt))
    found = compare(a, b, reward, options.num, options.seed, prompts, options.split, options.out)
    print(f"A  {target}\nB  {arguments[0]}\n {found.protocol}")
    width = max(map(len, found.numbers))
    for name, value in found.numbers.items():
        print(f"  {name:<{width}}  {value:.6g}")
    print(found.path)
    if options.store is not None:
        with explain_store():
            from genjax.cli.stored_judged import store_comparison

            count = store_comparison(options.store, (a, b), found.drawn, options)
        print(f"{options.store}: {count:,} pairs of responses")
