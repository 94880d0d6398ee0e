"""Spectral normalisation against the singular value decomposition."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.nets.gan import spectral

PARAMS = {
    "dense": {"kernel": jax.random.normal(jax.random.key(0), (7, 5)), "bias": jnp.ones(5)},
    "conv": {"kernel": jax.random.normal(jax.random.key(1), (3, 3, 4, 6))},
}


def converged(params, steps=200):
    vectors = spectral.draw_vectors(params, jax.random.key(2))
    return jax.lax.fori_loop(0, steps, lambda _, v: spectral.normalise(params, v, True)[1], vectors)


def test_matrices_get_the_largest_singular_value_one():
    divided, _ = spectral.normalise(PARAMS, converged(PARAMS), False)
    for name, layer in PARAMS.items():
        matrix = np.asarray(layer["kernel"]).reshape(-1, layer["kernel"].shape[-1])
        largest = np.linalg.svd(matrix, compute_uv=False)[0]
        np.testing.assert_allclose(
            divided[name]["kernel"], layer["kernel"] / largest, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_array_equal(divided["dense"]["bias"], PARAMS["dense"]["bias"])


def test_without_iteration_the_vectors_stay_and_with_it_they_come_nearer():
    vectors = spectral.draw_vectors(PARAMS, jax.random.key(2))
    _, same = spectral.normalise(PARAMS, vectors, False)
    jax.tree.map(np.testing.assert_array_equal, same, vectors)
    far, near = (
        spectral.normalise(PARAMS, v, False)[0]["dense"]["kernel"]
        for v in (vectors, converged(PARAMS, steps=3))
    )
    largest = [np.linalg.svd(x, compute_uv=False)[0] for x in (far, near)]
    assert abs(largest[1] - 1) < abs(largest[0] - 1) and largest[1] > 0.99


def test_the_gradient_goes_through_the_singular_value():
    """d/dt of (W + t W) / sigma(W + t W) is zero: the scale of a matrix carries no gradient."""
    vectors = converged(PARAMS)

    def scaled(t):
        params = jax.tree.map(lambda p: p * (1 + t), PARAMS)
        return jnp.stack(
            [
                (spectral.normalise(params, vectors, False)[0][n]["kernel"] ** 2).sum()
                for n in PARAMS
            ]
        )

    np.testing.assert_allclose(jax.jacobian(scaled)(0.0), [0, 0], atol=1e-4)


def test_a_matrix_of_zeros_stays_finite():
    params = {"kernel": jnp.zeros((3, 2))}
    divided, _ = spectral.normalise(params, spectral.draw_vectors(params, jax.random.key(0)), True)
    assert np.isfinite(divided["kernel"]).all()
