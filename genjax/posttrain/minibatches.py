"""Runs several updates on one batch of responses: epochs of minibatches, in one train step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.family import Batch, Metrics, Params, State, Variables, gradient_step
from genjax.optim import Rules


def run_updates(
    compute_metrics: Callable[[Params, Batch], Metrics],
    merge: Callable[[Params], Params],
    epochs: int,
    parts: int,
    state: State,
    batch: Batch,
    *,
    optimizer: Rules,
    axis: str | None = None,
) -> tuple[State, Metrics]:
    """Train on all minibatches of a batch for several epochs; ``step`` increases by one.

    Metrics are means over all updates. The learning rate schedule counts train steps.

    Args:
      compute_metrics: function of merged parameters and a minibatch that returns metrics with the
          ``loss``.
      merge: function from the trained parameters to those of the networks.
      epochs: passes over the batch.
      parts: minibatches per epoch.
      batch: training examples, with a ``mask``.
      optimizer: optimizer of the updates.
      axis: mapped axis, whose devices each hold a slice of the batch.

    Raises:
      UserError: the minibatches do not divide a device's rows.
    """
    rows = len(batch["mask"])
    check_rows(rows, parts, optimizer.accumulate)
    first = 0 if axis is None else jax.lax.axis_index(axis) * (rows // parts)
    key = jax.random.split(state.step_key)[1]  # the draws use the other one
    rule = dataclasses.replace(
        optimizer,
        learning_rate=lambda count: optimizer.learning_rate(count // (epochs * parts)),
        through=merge,
    )

    def loss(
        params: Params, variables: Variables, batch: Batch, key: jax.Array
    ) -> tuple[Metrics, Variables]:
        return compute_metrics(params, batch), variables

    def one(state: State, number: jax.Array) -> tuple[State, Metrics]:
        minibatch = take_minibatch(batch, key, number, parts, first)
        return gradient_step(
            loss, rule, state, minibatch, jax.random.fold_in(key, number), axis=axis
        )

    state, several = jax.lax.scan(one, state, jnp.arange(epochs * parts))
    return state.replace(step=state.step + 1), jax.tree.map(lambda x: x.sum(0), several)


def check_rows(rows: int, parts: int, accumulate: int) -> None:
    """Refuse rows that minibatches and microbatches do not divide, with a ``UserError``."""
    if rows % (parts * accumulate):
        of_those = f", times {accumulate} microbatches" if accumulate > 1 else ""
        raise UserError(
            f"family.minibatches must divide the {rows} responses per device{of_those}, got "
            f"{parts}: change it or batch_size",
            "family.minibatches",
        )


def take_minibatch(
    batch: Batch, key: jax.Array, number: jax.Array, parts: int, first: jax.Array | int = 0
) -> Batch:
    """Return one of ``parts`` minibatches of a batch: one random row of every ``parts`` consecutive
    ones.

    Rows are shuffled in each epoch, within blocks of ``parts``, so that the result does not depend
    on the number of devices.

    Args:
      batch: batch whose number of rows is a multiple of ``parts``.
      key: random key of all epochs.
      number: number of the minibatch, counted over all epochs.
      parts: minibatches per epoch.
      first: number of the first block of ``parts`` rows, if a device has a slice of the batch.
    """
    blocks = len(batch["mask"]) // parts
    epoch = jax.random.fold_in(key, number // parts)
    deal = lambda block: jax.random.permutation(jax.random.fold_in(epoch, block), parts)  # noqa: E731
    chosen = jax.vmap(deal)(first + jnp.arange(blocks))[:, number % parts]

    def taken(x: jax.Array) -> jax.Array:
        blocked = x.reshape(blocks, parts, *x.shape[1:])  # so that a row stays on its device
        return jnp.take_along_axis(blocked, chosen.reshape(-1, *[1] * (blocked.ndim - 1)), 1)[:, 0]

    return {name: taken(x) for name, x in batch.items()}
