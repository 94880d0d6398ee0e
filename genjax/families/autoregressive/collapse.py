"""Signs that a language model ignores a part of itself: its source, or most of its experts."""

from __future__ import annotations

import math
from collections.abc import Mapping

LEAST_ENTROPY = 0.5  # of the loads of experts; 1 if they are even
LEAST_GAIN = 0.005  # nats per token; a decoder that attends to its source gains more


def find_signs(numbers: Mapping[str, float]) -> dict[str, str]:
    """Return a sentence for each sign, by the name of its metric; ``numbers`` may miss some."""
    found, gain = {}, numbers.get("reading_gain", math.inf)
    if gain < LEAST_GAIN:
        found["reading_gain"] = (
            "the decoder ignores its source: with that of another example its loss "
            f"rises by only {gain:.2g} nats per token; train longer, raise the learning rate, "
            "or check that pairs belong together"
        )
    entropy = numbers.get("load_entropy", 1.0)
    if entropy < LEAST_ENTROPY:
        found["load_entropy"] = (
            f"few experts take nearly all tokens: the entropy of their loads is {entropy:.2g} "
            "of that of even ones; raise family.net.experts.balance"
        )
    return found
