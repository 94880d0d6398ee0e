"""What the extras of a step cost: the average of the parameters, the check for what is not finite,
and the metrics.

    python -m benchmarks.extras              # vae, vae_conv, unet and gpt
    python -m benchmarks.extras vae --rounds 15

Prints one JSON line a case: the milliseconds of the whole step, and in percent of a step without
any extra what all of them cost, and each where it alone is left out. Differences are medians over
rounds in which the forms take turns in one process.

The step without the check and the metrics is the family's own with another ``gradient_step``, which
updates at once and reports the loss alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import statistics
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

from benchmarks.cases import CASES
from benchmarks.peers import choose_steps, timed

# Where the family of a case looks up ``gradient_step``.
MODULES = {
    "vae": "genjax.families.vae",
    "vae_conv": "genjax.families.vae",
    "unet": "genjax.families.diffusion.diffusion",
    "gpt": "genjax.families.autoregressive.autoregressive",
}
EMA = 0.999


@dataclasses.dataclass(frozen=True)
class Form:
    """Which extras a step has."""

    average: bool = True
    check: bool = True
    metrics: bool = True


FORMS = {
    "whole": Form(),
    "average": Form(average=False),
    "check": Form(check=False),
    "metrics": Form(metrics=False),
    "bare": Form(average=False, check=False, metrics=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn")
    options = parser.parse_args()
    for case in options.cases or MODULES:
        if case not in MODULES:
            parser.error(f"unknown case {case!r}; known: {', '.join(MODULES)}")
        print(json.dumps(measure(case, options.rounds, options.seconds)), flush=True)


def measure(case: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure a case: all forms in turn, ``rounds`` times."""
    runs = {name: make_run(case, form) for name, form in FORMS.items()}
    for run in runs.values():
        run(1)
    steps = choose_steps(runs["whole"], seconds)
    took: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(rounds):
        for name, run in runs.items():
            took[name].append(1e3 * timed(run, steps) / steps)
    return {"name": case, "step_ms": round(statistics.median(took["whole"]), 3)} | summarise(took)


def summarise(took: Mapping[str, list[float]]) -> dict[str, float]:
    """Return percent of the bare step: ``all_percent``, and by extra what a step without it saves.

    Args:
      took: milliseconds a step of each round, by the names of ``FORMS``.
    """
    found = {}
    for name in FORMS:
        if name == "whole":
            continue
        rows = zip(took["whole"], took[name], took["bare"], strict=True)
        saved = statistics.median((whole - other) / bare for whole, other, bare in rows)
        found["all_percent" if name == "bare" else f"{name}_percent"] = round(100 * saved, 2)
    return found


def make_run(case: str, form: Form) -> Callable[[int], None]:
    """``run(steps)`` of a case with these extras, compiled at its first call."""
    from benchmarks import peers

    def altered(experiment: Any, spec: Any, batch: Any) -> Callable[[int], None]:
        ema = EMA if form.average else None
        return stepping(dataclasses.replace(experiment, ema=ema), spec, batch)

    stepping = peers.stepping
    step = importlib.import_module(f"benchmarks.{CASES[case].module}").genjax_step
    with mock.patch.object(peers, "stepping", altered):
        run: Callable[[int], None] = step(case)
    with patched(case, form):
        run(1)  # traced now
    return run


def patched(case: str, form: Form) -> Any:
    """Return a context in which the family's ``gradient_step`` is one without some extras."""
    from genjax.family import gradient_step

    def stepped(*args: Any, **kwargs: Any) -> Any:
        step = gradient_step if form.check else update_unchecked
        state, metrics = step(*args, **kwargs)
        return state, metrics if form.metrics else {"loss": metrics["loss"]}

    return mock.patch(f"{MODULES[case]}.gradient_step", stepped)


def update_unchecked(
    loss: Any, rule: Any, state: Any, batch: Any, key: Any, axis: Any = None
) -> Any:
    """Make the update of ``genjax.family.gradient_step``, whatever the numbers."""
    from jax import lax

    def take(finite: Any, updated: Callable[[], Any], kept: Callable[[], Any]) -> Any:
        return updated()

    from genjax.family import gradient_step

    with mock.patch.object(lax, "cond", take):
        return gradient_step(loss, rule, state, batch, key, axis=axis)


if __name__ == "__main__":
    main()
