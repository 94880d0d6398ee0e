"""Metrics between the compiled step and a row: packed for a single fetch, averaged on the host."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from genjax.family import Metrics
from genjax.serial.json_text import Json

LATELY = 1.0  # minimum seconds over which a rate is measured
SHARE = 0.1  # of the time of a run that may go into what is not training
WORTH = 60.0  # seconds of a run; in a shorter one it does not matter


class PackedMetrics(flax.struct.PyTreeNode):
    """The metrics of one or several steps in one array, because fetching many scalars would take
    longer than a small step.
    """

    pairs: jax.Array  # [..., M, 2]: sum and weight
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)

    @classmethod
    def of(cls, metrics: Metrics) -> PackedMetrics:
        names = tuple(sorted(metrics))
        return cls(
            jnp.stack([jnp.stack([*map(jnp.float32, metrics[name])]) for name in names]), names
        )


class Meter:
    """Running means of the metrics since the last row, on the host, kept in every checkpoint."""

    def __init__(self, stored: dict[str, Json] | None = None) -> None:
        stored = stored or {"pairs": {}, "non_finite": 0}
        self.pairs: dict[str, list[float]] = {
            name: list(pair) for name, pair in stored["pairs"].items()
        }
        self.non_finite: int = stored["non_finite"]  # consecutive bad steps up to the last one

    def add(self, names: tuple[str, ...], pairs: np.ndarray) -> list[int]:
        """Add the pairs [K, M, 2] of K steps; values that are not finite only count for the alarm.

        Returns:
          For each step the number of consecutive steps up to it that were not finite.
        """
        finite = np.isfinite(pairs).all(axis=-1)  # [K, M]
        streaks = []
        for good in finite.all(axis=-1).tolist():
            self.non_finite = 0 if good else self.non_finite + 1
            streaks.append(self.non_finite)
        sums = np.where(finite[..., None], pairs, 0).sum(axis=0).tolist()
        for name, (total, weight), last in zip(names, sums, pairs[-1].tolist(), strict=True):
            if name.endswith("learning_rate"):
                self.pairs[name] = last  # only of the last step
            else:
                old = self.pairs.get(name, (0.0, 0.0))
                self.pairs[name] = [old[0] + total, old[1] + weight]
        return streaks

    def take_means(self) -> dict[str, float]:
        """Return the means and reset the meter; ``loss`` is NaN if no step was finite."""
        means = {name: s / w if w else math.nan for name, (s, w) in self.pairs.items()}
        self.pairs = {}
        return means

    def to_json(self) -> dict[str, Json]:
        """Return the JSON from which ``Meter`` can be restored."""
        return {"pairs": self.pairs, "non_finite": self.non_finite}


class Clock:
    """Measures steps per second between rows, without evaluation, samples and checkpoints, and the
    total time.
    """

    def __init__(self, step: int) -> None:
        self._first, self._begin = step, time.monotonic()
        self._marks = [(step, self._begin)]  # recent rows: step and time
        self.paused: dict[str, float] = {}  # seconds by what was done in them

    @contextlib.contextmanager
    def skip_compilation(self) -> Iterator[None]:
        """Exclude the first steps, whose time is mostly compilation."""
        yield
        self._begin = time.monotonic()
        self._marks = [(self._first, self._begin)]

    def estimate_seconds_left(self, step: int, steps: int) -> float:
        """Estimate the seconds left, with evaluations, samples and checkpoints."""
        done = step - self._first
        return (time.monotonic() - self._begin) / done * (steps - step) if done else math.inf

    def measure_total(self, step: int) -> tuple[int, float]:
        """Return the number of steps taken, and their seconds."""
        return step - self._first, time.monotonic() - self._begin

    def measure_speed(self, step: int) -> float:
        """Return steps per second since the last row, or over ``LATELY`` if rows come faster."""
        now = time.monotonic()
        while len(self._marks) > 1 and now - self._marks[1][1] >= LATELY:
            del self._marks[0]
        since, start = self._marks[0]
        speed = (step - since) / max(now - start, 1e-9)
        self._marks.append((step, now))
        return speed

    @contextlib.contextmanager
    def pause(self, name: str) -> Iterator[None]:
        """Exclude the time within from the rates, and count it under a name."""
        begin = time.monotonic()
        yield
        paused = time.monotonic() - begin
        self.paused[name] = self.paused.get(name, 0.0) + paused
        self._marks = [(step, seen + paused) for step, seen in self._marks]


def describe_pauses(
    paused: Mapping[str, float], every: Mapping[str, int], seconds: float, steps: int
) -> tuple[str, ...]:
    """Say in a sentence if evaluation, samples and checkpoints took more than ``SHARE`` of a run.

    Args:
      paused: seconds by the name of an interval of ``every``.
      every: those intervals, in steps.
      seconds: of the whole run.
      steps: of the whole run, the longest interval that is proposed.
    """
    total = sum(paused.values())
    if seconds < WORTH or total <= SHARE * seconds:
        return ()
    # So many times rarer, they would take their share of the time of the steps.
    times = total * (1 - SHARE) / (SHARE * max(seconds - total, 1e-9))
    large = [
        name
        for name, spent in paused.items()
        if spent > SHARE / 3 * seconds and 0 < every[name] < steps
    ]
    if not large:  # once in the whole run already
        return ()
    shares = ", ".join(f"{name} {paused[name] / seconds:.0%}" for name in large)
    options = " ".join(
        f"--every.{name} {min(math.ceil(every[name] * times), steps)}" for name in large
    )
    return (f"{total / seconds:.0%} of the time was not training ({shares}): try {options}",)
