"""Warns of numbers that say more about the measurement than about the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

LEAST_BITS = 0.02  # bits per byte; no model reaches so few on text that it has not seen
Numbers = Mapping[str, float]


def doubt_numbers(
    numbers: Numbers, cautions: Callable[[Numbers], tuple[str, ...]]
) -> tuple[str, ...]:
    """Return a sentence about the numbers that are not finite, and the ``cautions`` about the
    others.
    """
    undefined = [name for name, value in numbers.items() if not math.isfinite(value)]
    finite = {name: value for name, value in numbers.items() if name not in undefined}
    if not undefined:
        return cautions(finite)
    what = f"{', '.join(undefined)}: not finite, so there is nothing to compare"
    why = "the examples may be too few or all the same, or the model may have diverged"
    return (f"{what}; {why}", *cautions(finite))


def doubt_metrics(metrics: Numbers) -> tuple[str, ...]:
    """Return cautions about a family's own metrics that hold for any family."""
    bits = metrics.get("bits_per_byte", 1.0)
    if bits >= LEAST_BITS:
        return ()
    return (
        f"bits_per_byte {bits:.3g} is less than any text has: held-out text may be in the training "
        "set, or repeat one character, or the model may see what it predicts",
    )
