"""The transformer over patches: patches and back, blocks that begin as identities, positions
that matter.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.transformer.dit import DiT, DiTBlock, encode_positions, patchify, unpatchify

KEY = jax.random.key(0)


def test_patches_are_squares_and_go_back():
    x = jax.random.normal(KEY, (2, 6, 4, 3))
    tokens = patchify(x, 2)
    assert tokens.shape == (2, 6, 12)
    np.testing.assert_array_equal(
        tokens[1, 3], x[1, 2:4, 2:4].reshape(-1)
    )  # second row, second column
    np.testing.assert_array_equal(unpatchify(tokens, 2, (6, 4, 3)), x)


def test_positions_tell_every_place_apart_rows_in_the_first_half():
    table = encode_positions(3, 5, 8).reshape(3, 5, 8)
    np.testing.assert_array_equal(table[:, 0, :4], table[:, 4, :4])
    np.testing.assert_array_equal(table[0, :, 4:], table[2, :, 4:])
    flat = table.reshape(15, 8)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1) + np.eye(15)
    assert distances.min() > 0.1
    np.testing.assert_allclose(
        table[2, 3],
        [*np.sin([2, 0.02]), *np.cos([2, 0.02]), *np.sin([3, 0.03]), *np.cos([3, 0.03])],
        rtol=1e-5,
    )


def test_a_block_begins_as_the_identity_and_does_not_know_the_order():
    x, vector = jax.random.normal(KEY, (2, 5, 8)), jax.random.normal(KEY, (2, 3))
    block = DiTBlock(2, 4)
    y, variables = block.init_with_output(KEY, x, vector)
    np.testing.assert_array_equal(y, x)
    moved = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(KEY, p.shape), variables)
    order = jnp.array([3, 0, 4, 1, 2])
    y = block.apply(moved, x, vector)
    np.testing.assert_allclose(block.apply(moved, x[:, order], vector), y[:, order], atol=1e-5)


def test_it_begins_at_zero_then_its_vector_and_places_matter():
    net = DiT(2, 8, 1, 2).denoiser((4, 6, 3))
    x, vector = jax.random.normal(KEY, (2, 4, 6, 3)), jax.random.normal(KEY, (2, 5))
    y, variables = jax.jit(lambda: net.init_with_output(KEY, x, vector, train=False))()
    assert y.shape == x.shape and not y.any()
    moved = jax.tree.map(lambda p: p + 0.2 * jax.random.normal(KEY, p.shape), variables)
    run = jax.jit(lambda x, vector: net.apply(moved, x, vector, train=True))
    y = run(x, vector)
    assert jnp.abs(run(x, vector + 1) - y).max() > 1e-2
    swapped = jnp.concatenate([x[:, 2:], x[:, :2]], 1)  # whole patches
    back = run(swapped, vector)
    assert jnp.abs(jnp.concatenate([back[:, 2:], back[:, :2]], 1) - y).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiT(patch=0), "patch must be at least 1"),
        (lambda: DiT(depth=0), "depth must be at least 1"),
        (lambda: DiT(width=6, heads=2), "multiple of 4"),
        (lambda: DiT(width=8, heads=3), r"heads must be a divisor of 8 \(width\)"),
        (
            lambda: DiT(patch=4).denoiser((28, 30, 1)),
            "patch must divide the image size 28x30, got 4",
        ),
        (lambda: DiT().denoiser((5, 2)), "images"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
