"""Whether a few examples make most of a held-out loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.family import Batch, Metrics, State

FEWEST = 10  # examples of a split that is looked at
FEW = 0.005  # share of the examples that are few, and at least ``PAIR``
PAIR = 2
NAMED = 5  # rows that are named
# Of median absolute deviations, which make the standard deviation of a normal distribution.
DEVIATION = 1.4826

Each = tuple[jax.Array, jax.Array]  # sums and weights of the examples of a batch, [B] both


def evaluate_each(
    evaluate: Callable[[State, Batch, jax.Array], Metrics],
) -> Callable[[State, Batch, jax.Array], tuple[Metrics, Each]]:
    """Return the evaluation that gives the share of each example in the loss, too.

    A loss is a sum over the rows that ``mask`` weighs, so its slope in the mask is what each of
    them adds. That costs no second pass: nothing but the last product depends on the mask. Where a
    loss has no such slope, as a family of one's own may not, the weights are 0.
    """

    def both(state: State, batch: Batch, key: jax.Array) -> tuple[Metrics, Each]:
        def parts(mask: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Metrics]:
            metrics = evaluate(state, {**batch, "mask": mask}, key)
            return (metrics["loss"].sum, metrics["loss"].weight), metrics

        try:
            (total, weight), slopes, metrics = jax.vjp(parts, batch["mask"], has_aux=True)
            (sums,) = slopes((jnp.ones_like(total), jnp.zeros_like(weight)))
            (weights,) = slopes((jnp.zeros_like(total), jnp.ones_like(weight)))
        except Exception:  # a fault of the evaluation itself shows here
            nothing = jnp.zeros_like(batch["mask"])
            return evaluate(state, batch, key), (nothing, nothing)
        return metrics, (sums, weights)

    return both


def gather_each(found: list[Each], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums and weights [N] of a split of ``count`` examples, of its batches in order."""
    parts: Any = jax.device_get(found)
    sums, weights = (np.concatenate([np.ravel(part[i]) for part in parts]) for i in (0, 1))
    return sums[:count].astype(np.float64), weights[:count].astype(np.float64)


def describe_outliers(sums: np.ndarray, weights: np.ndarray, split: str) -> tuple[str, ...]:
    """What to say where at most two examples, or one in 200, make more than half of a loss.

    Args:
      sums: what each example adds to the loss, [N].
      weights: what it adds to the weight that the sum is divided by, such as its tokens, [N].
      split: its name.
    """
    rows = np.flatnonzero(weights > 0)
    if len(rows) < FEWEST:
        return ()
    sums, weights = sums[rows], weights[rows]
    each = sums / weights
    bad = ~np.isfinite(each)
    if bad.all():
        return ()
    if bad.any():
        return (
            f"the loss of {bad.sum():,} of {len(rows):,} examples of {split} is not finite "
            f"({_name(rows[bad])})",
        )
    middle = np.median(each)
    spread = DEVIATION * np.median(np.abs(each - middle))
    excess = sums - middle * weights
    order = np.argsort(-excess, kind="stable")[: max(PAIR, int(FEW * len(rows)))]
    whole = sums.sum() / weights.sum()
    for count in range(1, len(order) + 1):
        few = order[:count]
        rest = (sums.sum() - sums[few].sum()) / (weights.sum() - weights[few].sum())
        if whole - rest > max(abs(rest), spread):
            # All that stand out so far, so that the number without them is a sound one.
            far = order[excess[order] > 0.1 * excess[order[0]]]
            rest = (sums.sum() - sums[far].sum()) / (weights.sum() - weights[far].sum())
            examples = "1 example" if len(far) == 1 else f"{len(far):,} examples"
            return (
                f"{examples} of the {len(rows):,} of {split} dominate its loss: without them it is "
                f"{rest:.4g}, not {whole:.4g} ({_name(rows[far])})",
            )
    return ()


def _name(rows: np.ndarray) -> str:
    """Return the rows, counted from 0."""
    shown = ", ".join(map(str, np.sort(rows)[:NAMED]))
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}, counted from 0"
