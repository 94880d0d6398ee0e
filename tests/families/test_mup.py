"""muP of an encoder and a decoder: each matrix of both is scaled, and activations do not grow
with the width.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import trees
from genjax.data.dataset import Spec
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.encoder import make_encoder
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.cache import Memory
from genjax.nets.transformer.token_net import Block
from genjax.nets.transformer.transformer import MuP, Transformer
from genjax.optim import Adam
from genjax.schedules import Constant

KEY = jax.random.key(0)
V, S, T = 11, 6, 8
SPEC = Spec(
    "tokens",
    (T + 1,),
    np.zeros(T + 1, np.float32),
    vocabulary=V,
    source_length=S,
    source_vocabulary=7,
)
BATCH = {
    "tokens": jax.random.randint(KEY, (4, T + 1), 0, V),
    "loss_mask": jnp.ones((4, T + 1)),
    "source_tokens": jax.random.randint(KEY, (4, S), 0, 7),
    "source_mask": jnp.ones((4, S)),
    "mask": jnp.ones(4),
}


def family_of(width, mup, **others):
    net = Transformer(
        2,
        2,
        width,
        T,
        positions="rotary",
        norm="rms",
        activation="relu",
        biases=(),
        init_std=0.1,
        mup=mup,
        **others,
    )
    return Autoregressive(net, sampler=Decoding(source_tokens=(1,)))


def init(family, key=KEY):
    return family.init(key, BATCH, SPEC)[0]


@pytest.mark.long
@pytest.mark.parametrize(
    "others", [{}, {"scan_layers": True}, {"head_transform": True, "tied": False}], ids=str
)
def test_rates_and_first_deviations_are_of_every_matrix_of_both_and_of_nothing_else(others):
    small, wide = (family_of(width, MuP(16, 8), **others) for width in (16, 64))
    params = {16: jax.jit(lambda: init(small))(), 64: jax.jit(lambda: init(wide))()}
    rates = wide.net.rates()
    assert {factor for _, factor in rates} == {0.25}
    optimizer = Adam(Constant(0.1), rates=rates)
    optimizer.check(params[64])
    found = jax.tree.leaves(trees.match_paths(tuple(pattern for pattern, _ in rates), params[64]))
    paths = [
        "/".join(part.key for part in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(params[64])
    ]
    wanted = [bool(re.search("kernel", path)) and "head_kernel" not in path for path in paths]
    assert found == wanted
    for part in ("encoder/", "decoder/"):
        assert (
            sum(match and path.startswith(part) for path, match in zip(paths, found, strict=True))
            > 3
        )
    assert any("cross" in path for path, match in zip(paths, found, strict=True) if match)

    rule = optimizer.build(1)
    moved, _ = rule.update(params[64], jnp.ones(()), rule.init(params[64]), params[64])
    steps = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.abs(a - b).max(), moved, params[64]))
    np.testing.assert_allclose(
        steps, np.where(wanted, 0.025, 0.1), rtol=1e-3
    )  # Adam's first is the learning rate

    drawn = np.array(["norm" not in path for path in paths])  # scales of norms begin with 1
    std = [
        np.array([float(leaf.std()) for leaf in jax.tree.leaves(params[width])])
        for width in (16, 64)
    ]
    np.testing.assert_allclose(
        std[1][drawn] / std[0][drawn], np.where(wanted, 0.5, 1)[drawn], rtol=0.25
    )


@functools.cache
def sizes(width, mup):
    """Mean sizes of what each block gives, and of the logits, after some steps of Adam: the
    mean over four draws.
    """
    family = family_of(width, mup)
    rule = Adam(Constant(0.02), rates=family.net.rates() if mup else ()).build(1)
    told = {
        "capture_intermediates": lambda module, _: isinstance(module, Block),
        "mutable": ["intermediates"],
    }

    def loss(params):
        return family.predict(params, BATCH).nll.mean()

    def blocks(caught):
        layers = caught["intermediates"]
        return {
            name: jnp.abs(layers[name]["__call__"][0][0]).mean() for name in ("layer_0", "layer_1")
        }

    @jax.jit
    def run(key):
        params = init(family, key)
        step = lambda _, c: rule.update(jax.grad(loss)(c[0]), jnp.ones(()), c[1], c[0])  # noqa: E731
        params, _ = jax.lax.fori_loop(0, 4, step, (params, rule.init(params)))
        encoder, decoder = (
            make_encoder(family.net, 7),
            replace(family.net, cross_attention=True).module(V),
        )
        (memory, _), read = encoder.apply(
            {"params": params["encoder"]}, BATCH["source_tokens"], **told
        )
        inputs = BATCH["tokens"][:, :-1]
        (hidden, _), written = decoder.apply(
            {"params": params["decoder"]}, inputs, memory=Memory(memory), **told
        )
        logits = decoder.apply({"params": params["decoder"]}, hidden, method="logits")
        return {
            "encoder": blocks(read),
            "decoder": blocks(written),
            "logits": jnp.abs(logits).mean(),
        }

    found = jax.vmap(run)(jax.random.split(KEY, 4))
    return np.array(jax.tree.leaves(jax.tree.map(lambda a: float(a.mean()), found)))


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_activations_and_logits_of_both_stay_as_they_are_when_the_width_doubles():
    base, mup = MuP(32, 16), {}
    for width in (32, 64, 128, 256):
        mup[width] = sizes(width, base)
    np.testing.assert_allclose(
        mup[32], sizes(32, None), rtol=1e-4
    )  # at its base it is the ordinary model
    for width in (64, 128, 256):
        assert (mup[width] < 1.25 * mup[width // 2]).all() and (
            mup[width] > mup[width // 2] / 1.5
        ).all()
    assert (sizes(256, None) > 2.5 * sizes(32, None)).all()  # what it is for
