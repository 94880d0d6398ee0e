"""Numbers that say more of the measurement than of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

LEAST_BITS = 0.02  # a byte of text: far less than any model reaches of text that it has not seen
Numbers = Mapping[str, float]


def doubt_numbers(
    numbers: Numbers, cautions: Callable[[Numbers], tuple[str, ...]]
) -> tuple[str, ...]:
    """Sentences about numbers that are not finite, and what ``cautions`` says of the others."""
    undefined = [name for name, value in numbers.items() if not math.isfinite(value)]
    finite = {name: value for name, value in numbers.items() if name not in undefined}
    if not undefined:
        return cautions(finite)
    what = f"{', '.join(undefined)}: not finite, so there is nothing to compare"
    why = "the examples may be too few or all the same, or the model may have diverged"
    return (f"{what}; {why}", *cautions(finite))


def doubt_metrics(metrics: Numbers) -> tuple[str, ...]:
    """What a family's own metrics suggest, whatever the family."""
    bits = metrics.get("bits_per_byte", 1.0)
    if bits >= LEAST_BITS:
        return ()
    return (
        f"bits_per_byte {bits:.3g} is less than text has: held-out text may stand in the training "
        "set, or be of one character, or the model may see what it predicts",
    )
