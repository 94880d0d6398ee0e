"""Encoders of images: which place a feature is of, where places lie, and which parameters are
a classifier's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.conv.resnet import ResNet
from genjax.nets.transformer.image_encoder import EncoderBlock, ImageEncoder, Patches

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (2, 8, 12, 3))
SMALL = ImageEncoder(Patches(4), 8, depth=0, heads=2)


def made(net, x=X):
    module = net.module(x.shape[1:])
    return module, module.init(KEY, x, train=False)


def test_without_blocks_a_feature_is_of_its_own_patch_and_place():
    module, params = made(SMALL)
    before = module.apply(params, X, train=False)
    assert before.shape == (2, 6, 8)
    for place in range(6):  # row by row
        row, column = divmod(place, 3)
        after = module.apply(params, X.at[0, 4 * row + 1, 4 * column + 2, 0].add(1), train=False)
        changed = np.abs(np.asarray(after - before)).max(-1) > 1e-6
        assert np.argwhere(changed).tolist() == [[0, place]]
    same = module.apply(params, jnp.zeros_like(X), train=False)[0]
    assert (
        len(np.unique(np.round(same, 4), axis=0)) == 6
    )  # places tell themselves apart without a picture


def test_blocks_let_every_place_see_every_other():
    module, params = made(ImageEncoder(Patches(4), 8, depth=1, heads=2))
    slope = jax.jacrev(lambda x: module.apply(params, x, train=False)[0].sum(-1))(X)[
        :, 0
    ]  # [6, 8, 12, 3]
    patches = np.abs(np.asarray(slope)).reshape(6, 2, 4, 3, 4, 3).max((2, 4, 5))
    assert (patches > 0).all()
    bare = {"params": {name: p for name, p in params["params"].items() if name != "block_0"}}
    plain = SMALL.module(X.shape[1:]).apply(bare, X, train=False)
    assert not np.allclose(plain, module.apply(params, X, train=False))


def test_a_block_whose_last_matrices_are_zero_is_the_identity():
    block, x = EncoderBlock(2, 3), jax.random.normal(KEY, (2, 5, 8))
    params = block.init(KEY, x)
    for part in (params["params"], params["params"]["attention"]):
        part["output"] = jax.tree.map(jnp.zeros_like, part["output"])
    np.testing.assert_array_equal(block.apply(params, x), x)


def test_the_grid_of_a_residual_network_has_the_parameters_of_a_classifier_s_backbone():
    net = ResNet((4, 8), (1, 0), norm="group", groups=4, stem=4)
    module, params = made(ImageEncoder(net, 8, depth=1, heads=2))
    backbone = net.backbone().init(KEY, X, train=False)["params"]
    shapes = jax.tree.map(jnp.shape, (params["params"]["backbone"], backbone))
    assert shapes[0] == shapes[1]
    assert module.apply(params, X, train=False).shape == (2, 2 * 3, 8)


@pytest.mark.parametrize("backbone", [Patches(4), ResNet((4, 8), (1, 1), norm="none")])
def test_gradients_reach_every_parameter_in_bfloat16_too(backbone):
    module, params = made(ImageEncoder(backbone, 8, depth=1, heads=2))
    weights = jax.random.normal(KEY, (8,))

    @jax.jit
    def gradients(params, x):
        return jax.grad(
            lambda p: jnp.square(module.apply(p, x, train=True) @ weights.astype(x.dtype)).sum()
        )(params)

    for dtype in (jnp.float32, jnp.bfloat16):
        grads = gradients(jax.tree.map(lambda p, d=dtype: p.astype(d), params), X.astype(dtype))
        for g in jax.tree.leaves(grads):
            assert g.dtype == dtype and jnp.isfinite(g).all() and jnp.any(g != 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Patches(0), "side must be at least 1"),
        (lambda: ImageEncoder(depth=-1), "depth must be at least 0"),
        (lambda: ImageEncoder(width=0), "width must be at least 1"),
        (lambda: ImageEncoder(width=6, heads=2), "multiple of 4"),
        (lambda: ImageEncoder(width=8, heads=3), r"heads must be a divisor of 8 \(width\)"),
        (lambda: ImageEncoder(ResNet()), "keeps no batch statistics"),
        (lambda: ImageEncoder().module((8, 8)), "needs images"),
        (
            lambda: made(SMALL, jnp.zeros((1, 8, 6, 3))),
            "side must divide the image size 8x6, got 4",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
