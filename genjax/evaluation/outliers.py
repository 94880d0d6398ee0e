"""Finds whether a few examples dominate a held-out loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.family import Batch, Metrics, State

FEWEST = 10  # fewer examples are not analysed
FEW = 0.005  # the share of examples that counts as few, but at least ``PAIR``
PAIR = 2
NAMED = 5  # rows named in a message
# The standard deviation of a normal distribution over its median absolute deviation.
DEVIATION = 1.4826

Each = tuple[jax.Array, jax.Array]  # sums and weights of the examples of a batch, [B] both


def evaluate_each(
    evaluate: Callable[[State, Batch, jax.Array], Metrics],
) -> Callable[[State, Batch, jax.Array], tuple[Metrics, Each]]:
    """Return an evaluation that also gives the contribution of each example to the loss.

    A loss is a sum over rows weighted by ``mask``, so its gradient by the mask is each row's
    contribution. This needs no second pass, as only the last product depends on the mask. If a loss
    has no such gradient, as in a user's own family, the weights are 0.
    """

    def both(state: State, batch: Batch, key: jax.Array) -> tuple[Metrics, Each]:
        def parts(mask: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Metrics]:
            metrics = evaluate(state, {**batch, "mask": mask}, key)
            return (metrics["loss"].sum, metrics["loss"].weight), metrics

        try:
            (total, weight), slopes, metrics = jax.vjp(parts, batch["mask"], has_aux=True)
            (sums,) = slopes((jnp.ones_like(total), jnp.zeros_like(weight)))
            (weights,) = slopes((jnp.zeros_like(total), jnp.ones_like(weight)))
        except Exception:  # an error of the evaluation itself is raised again below
            nothing = jnp.zeros_like(batch["mask"])
            return evaluate(state, batch, key), (nothing, nothing)
        return metrics, (sums, weights)

    return both


def gather_each(found: list[Each], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Join the sums and weights of batches, in order, to those [N] of a split of ``count``
    examples.
    """
    parts: Any = jax.device_get(found)
    sums, weights = (np.concatenate([np.ravel(part[i]) for part in parts]) for i in (0, 1))
    return sums[:count].astype(np.float64), weights[:count].astype(np.float64)


def describe_outliers(sums: np.ndarray, weights: np.ndarray, split: str) -> tuple[str, ...]:
    """Return a remark if at most two examples, or one in 200, make up more than half of a loss.

    Args:
      sums: contribution of each example to the sum of the loss, [N].
      weights: contribution of each example to the weight that the sum is divided by, such as its
          tokens, [N].
      split: name of the split.
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
            # Include all that stand out as much, so that the loss without them is meaningful.
            far = order[excess[order] > 0.1 * excess[order[0]]]
            rest = (sums.sum() - sums[far].sum()) / (weights.sum() - weights[far].sum())
            examples = "1 example" if len(far) == 1 else f"{len(far):,} examples"
            return (
                f"{examples} of the {len(rows):,} of {split} dominate its loss: without them it is "
                f"{rest:.4g}, not {whole:.4g} ({_name(rows[far])})",
            )
    return ()


def _name(rows: np.ndarray) -> str:
    """Name the rows, counted from 0."""
    shown = ", ".join(map(str, np.sort(rows)[:NAMED]))
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}, counted from 0"
