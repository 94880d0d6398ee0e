"""Several updates on one batch of responses: epochs of minibatches, in one train step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.family import Batch, Metrics, Params, State, Variables, gradient_step
from genjax.optim import Rules


def updates(
    losses: Callable[[Params, Batch], Metrics],
    whole: Callable[[Params], Params],
    epochs: int,
    parts: int,
    state: State,
    batch: Batch,
    *,
    optimizer: Rules,
    axis: str | None = None,
) -> tuple[State, Metrics]:
    """Return epochs over a batch of responses, an update for each minibatch; ``step`` counts one.

    Metrics are means over all updates. The learning rate's schedule counts train steps.

    Args:
      losses: of whole parameters and a minibatch.
      whole: the parameters that networks use, of those that are trained.
      epochs: over the batch.
      parts: minibatches of an epoch.
      batch: what it learns from, with a ``mask``.
      optimizer: of the updates.
      axis: the mapped axis, whose devices each hold a slice of the batch.

    Raises:
      UserError: a device's rows do not divide into the minibatches.
    """
    rows = len(batch["mask"])
    check_rows(rows, parts, optimizer.accumulate)
    first = 0 if axis is None else jax.lax.axis_index(axis) * (rows // parts)
    key = jax.random.split(state.step_key)[1]  # the other one is of the draws
    rule = dataclasses.replace(
        optimizer,
        learning_rate=lambda count: optimizer.learning_rate(count // (epochs * parts)),
        through=whole,
    )

    def loss(
        params: Params, variables: Variables, batch: Batch, key: jax.Array
    ) -> tuple[Metrics, Variables]:
        return losses(params, batch), variables

    def one(state: State, number: jax.Array) -> tuple[State, Metrics]:
        minibatch = dealt(batch, key, number, parts, first)
        return gradient_step(
            loss, rule, state, minibatch, jax.random.fold_in(key, number), axis=axis
        )

    state, several = jax.lax.scan(one, state, jnp.arange(epochs * parts))
    return state.replace(step=state.step + 1), jax.tree.map(lambda x: x.sum(0), several)


def check_rows(rows: int, parts: int, accumulate: int) -> None:
    """Refuse rows that do not divide into minibatches and their microbatches, with a
    ``UserError``.
    """
    if rows % (parts * accumulate):
        of_those = f" of {accumulate} microbatches each" if accumulate > 1 else ""
        raise UserError(
            f"{rows} responses of a batch on a device do not divide into {parts} "
            f"minibatches{of_those}: change "
            "batch_size or family.minibatches"
        )


def dealt(
    batch: Batch, key: jax.Array, number: jax.Array, parts: int, first: jax.Array | int = 0
) -> Batch:
    """Return one of ``parts`` minibatches of a batch: of every ``parts`` rows that follow on each
    other it has one.

    They are dealt again in each epoch, so that it makes no difference how many devices share a
    batch.

    Args:
      batch: whose rows ``parts`` divides.
      key: of all epochs.
      number: of the minibatch, counted through all epochs.
      parts: in an epoch.
      first: which block of ``parts`` rows the batch starts with, where a device has a slice of it.
    """
    blocks = len(batch["mask"]) // parts
    epoch = jax.random.fold_in(key, number // parts)
    deal = lambda block: jax.random.permutation(jax.random.fold_in(epoch, block), parts)  # noqa: E731
    chosen = jax.vmap(deal)(first + jnp.arange(blocks))[:, number % parts]

    def taken(x: jax.Array) -> jax.Array:
        blocked = x.reshape(blocks, parts, *x.shape[1:])  # so that a row stays on its device
        return jnp.take_along_axis(blocked, chosen.reshape(-1, *[1] * (blocked.ndim - 1)), 1)[:, 0]

    return {name: taken(x) for name, x in batch.items()}
