from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.mlp import MLP, MLPCoder


@pytest.mark.parametrize("hidden", [(), (5, 4)])
def test_mlp_is_affine_maps_and_activations(hidden):
    x = jax.random.normal(jax.random.key(0), (3, 2, 4))
    net = MLP(hidden, 6, "tanh")
    params = net.init(jax.random.key(1), x)["params"]
    want = np.asarray(x).reshape(3, 8)
    for i in range(len(hidden)):
        layer = params[f"hidden_{i}"]
        want = np.tanh(want @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]))
    want = want @ np.asarray(params["output"]["kernel"]) + np.asarray(params["output"]["bias"])
    np.testing.assert_allclose(net.apply({"params": params}, x), want, rtol=1e-5, atol=1e-6)


def test_decoder_mirrors_encoder():
    coder = MLPCoder((7, 5))
    z = jnp.ones((2, 3))
    decoder = coder.decoder((4, 2), outputs_per_dim=3)
    params = decoder.init(jax.random.key(0), z)
    assert decoder.apply(params, z).shape == (2, 4, 6)
    assert [params["params"]["mlp"][f"hidden_{i}"]["bias"].size for i in (0, 1)] == [5, 7]


def test_bfloat16_stays():
    x = jnp.ones((2, 4), jnp.bfloat16)
    net = MLPCoder((3,)).encoder(2)
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), net.init(jax.random.key(0), x))
    assert net.apply(params, x).dtype == jnp.bfloat16
