"""Rows as vectors: one-hot blocks in their places, and relaxed draws that follow their logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from genjax.data.dataset import Spec
from genjax.data.tables.vectors import blocks, categories, constants, relax_outputs, vector
from genjax.errors import UserError
from genjax.family import select_modelled

SPEC = Spec(
    "table", (7,), np.asarray([0.5, -0.5, 0.25, 0.75, 0.1, 0.2, 0.7], np.float32), categories=(2, 3)
)


def test_a_row_is_its_numbers_and_then_a_block_a_column():
    numeric, categorical = jnp.asarray([[0.5, -1.0], [2.0, 0.0]]), jnp.asarray([[1, 0], [0, 2]])
    rows = vector(numeric, categorical, (2, 3))
    np.testing.assert_array_equal(rows, [[0.5, -1, 0, 1, 1, 0, 0], [2, 0, 1, 0, 0, 0, 1]])
    numbers, (first, second) = blocks(rows, (2, 3))
    np.testing.assert_array_equal(numbers, numeric)
    np.testing.assert_array_equal([first.argmax(1), second.argmax(1)], categorical.T)


def test_families_keep_the_shares_of_a_table_and_see_its_rows_by_them():
    variables = constants(SPEC)
    np.testing.assert_allclose(np.concatenate(variables["shares"]), SPEC.mean[2:])
    assert categories(variables) == (2, 3) and constants(Spec("points", (2,), np.zeros(2))) == {}
    batch = {"numeric": jnp.zeros((4, 2)), "categorical": jnp.ones((4, 2), jnp.int32)}
    np.testing.assert_array_equal(select_modelled(batch, variables), [[0, 0, 0, 1, 0, 1, 0]] * 4)
    for other in (None, {"mean": jnp.zeros(7)}):
        with pytest.raises(UserError, match="family must be a VAE or a GAN to model tables"):
            select_modelled(batch, other)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_relaxed_draws_have_the_probabilities_of_their_logits(temperature):
    outputs = jnp.asarray([[0.5, -2.0, 0.3, 0.0, 1.0, -1.0, 0.0]])
    rows = np.asarray(
        relax_outputs(jax.random.key(0), jnp.repeat(outputs, 40_000, 0), (2, 3), temperature)
    )
    np.testing.assert_allclose(
        rows[:, :2], np.broadcast_to(np.tanh([0.5, -2.0]), (40_000, 2)), rtol=1e-5
    )
    for block, logits in ((rows[:, 2:4], [0.3, 0.0]), (rows[:, 4:], [1.0, -1.0, 0.0])):
        np.testing.assert_allclose(block.sum(1), 1, rtol=1e-5)
        shares = np.bincount(block.argmax(1)) / len(block)
        np.testing.assert_allclose(shares, special.softmax(logits), atol=0.01)
    # The difference of two Gumbel draws is logistic.
    edge = temperature * np.log(99)
    hard = 1 - special.expit(edge - 0.3) + special.expit(-edge - 0.3)
    np.testing.assert_allclose((rows[:, 2:4].max(1) > 0.99).mean(), hard, atol=0.01)


def test_relaxed_draws_have_a_gradient():
    slope = jax.grad(lambda x: relax_outputs(jax.random.key(1), x, (2, 3), 0.5)[:, 2].sum())(
        jnp.zeros((5, 7))
    )
    assert (np.abs(slope[:, 2:4]) > 0).all() and (slope[:, 4:] == 0).all()
