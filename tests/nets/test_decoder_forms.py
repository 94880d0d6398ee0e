"""Forms of other decoders in the Transformer: cached, packed and blocked are the same function, and
each does what its definition says.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.transformer.positions import Rotary, rotate
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import LayerKind, MuP, Transformer

KEY = jax.random.key(0)
VOCABULARY = 11
PLAIN = Transformer(
    layers=2,
    heads=4,
    width=8,
    context=16,
    kv_heads=2,
    head_width=4,
    positions="rotary",
    norm="rms",
    activation="geglu",
    biases=(),
    init_std=0.4,
)
YARN = Rotary(100.0, 4.0, 8, 0.2, 3.0, yarn=True)
SANDWICH = dataclasses.replace(
    PLAIN,
    norm_last=True,
    qk_norm=True,
    layer_kinds=(LayerKind(3, Rotary(100.0)), LayerKind(None, Rotary(1000.0, 2.0))),
    embedding_scale=8**0.5,
    score_width=3,
    attention_softcap=2.0,
    logit_softcap=3.0,
)
PARALLEL = dataclasses.replace(
    PLAIN,
    norm="layer",
    activation="gelu",
    biases=("attention", "mix", "feed_forward", "norm"),
    parallel=True,
    layer_kinds=(LayerKind(None, dataclasses.replace(YARN, share=0.5)), LayerKind(4, None)),
)
LAST = dataclasses.replace(
    PLAIN, norm_first=False, norm_last=True, qk_norm=True, qk_norm_whole=True
)
NETS = {"sandwich": SANDWICH, "parallel": PARALLEL, "last": LAST}
TOKENS = jax.random.randint(KEY, (2, 9), 0, VOCABULARY)


@functools.cache
def params_of(net):
    net = dataclasses.replace(net, attention="xla")
    params = jax.jit(lambda: TokenNet(net, VOCABULARY).init(KEY, TOKENS))()["params"]
    return jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params
    )


@functools.partial(jax.jit, static_argnums=0)
def _features(net, params, tokens, inputs):
    return TokenNet(net, VOCABULARY).apply({"params": params}, tokens, **inputs)


def features(net, tokens=TOKENS, params=None, **inputs):
    return _features(net, params_of(net) if params is None else params, tokens, inputs)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", NETS)
def test_cached_and_packed_rows_equal_whole_ones(name):
    net = NETS[name]
    params = params_of(net)
    want = features(net)[0]
    cache = net.new_cache(2, 12)
    for some in (TOKENS[:, :7], TOKENS[:, 7:8], TOKENS[:, 8:]):
        y, cache = features(net, some, cache=cache)
    close(y[:, 0], want[:, -1])
    row = jnp.concatenate([TOKENS[:1, :5], TOKENS[1:, :5]], 1)
    told = {
        "positions": jnp.tile(jnp.arange(5), 2)[None],
        "segment_ids": jnp.repeat(jnp.asarray([1, 2]), 5)[None],
    }
    for attention in ("xla", "blocked"):
        packed = features(dataclasses.replace(net, attention=attention), row, params, **told)[0]
        close(packed[0, :5], want[0, :5])
        close(packed[0, 5:], want[1, :5])


def test_each_layer_has_the_window_and_the_positions_of_its_kind():
    """A net of unlike layers is its layers one after another, each in a net of its kind."""
    params = params_of(SANDWICH)
    neutral = {"final_norm": {"scale": jnp.ones(8)}}
    x = params["embedding"][TOKENS] * 8**0.5
    for i, kind in enumerate(SANDWICH.layer_kinds):
        one = dataclasses.replace(
            SANDWICH,
            layers=1,
            layer_kinds=(),
            window=kind.window,
            rotary=kind.rotary,
            embedding_scale=1.0,
            context=18,
        )
        own = {"embedding": x.reshape(-1, 8), "layer_0": params[f"layer_{i}"]} | neutral

        def before_norm(own, one=one):
            module = TokenNet(one, 18)
            _, seen = module.apply(
                {"params": own},
                jnp.arange(18).reshape(2, 9),
                capture_intermediates=lambda m, _: m.name == "layer_0",
            )
            return seen["intermediates"]["layer_0"]["__call__"][0][0]

        x = jax.jit(before_norm)(own)
    x = np.asarray(x)
    normed = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)
    close(features(SANDWICH)[0], normed * np.asarray(params["final_norm"]["scale"]))


def test_a_net_without_positions_is_the_same_for_tokens_in_another_order():
    net = dataclasses.replace(PLAIN, causal=False, layer_kinds=(LayerKind(None, None),))
    order = jnp.asarray([3, 1, 8, 0, 2, 7, 5, 4, 6])
    close(features(net, TOKENS[:, order])[0], features(net)[0][:, order])


def test_parallel_branches_read_the_same_input():
    """Without the output of attention, feed-forward gives the same as before."""
    params = params_of(PARALLEL)
    layer = params["layer_1"]
    mute = jax.tree.map(jnp.zeros_like, layer["attention"]["mix"])
    muted = params | {"layer_1": layer | {"attention": layer["attention"] | {"mix": mute}}}
    less = layer | {"feed_forward": jax.tree.map(jnp.zeros_like, layer["feed_forward"])}
    neutral = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}

    def run(params):
        _, seen = TokenNet(PARALLEL, VOCABULARY).apply(
            {"params": params | {"final_norm": neutral}},
            TOKENS,
            capture_intermediates=lambda m, _: m.name in ("layer_0", "layer_1"),
        )
        return [seen["intermediates"][f"layer_{i}"]["__call__"][0][0] for i in (0, 1)]

    before, both = jax.jit(run)(params)
    forward, attention = jax.jit(run)(muted)[1], jax.jit(run)(params | {"layer_1": less})[1]
    close(both - before, (forward - before) + (attention - before))


def test_a_part_of_a_head_turns_as_a_head_of_that_width():
    x = jax.random.normal(KEY, (1, 2, 5, 12))
    rotary = Rotary(50.0, share=0.5)
    places = np.arange(5)[None]
    y = rotate(x, rotary.make_table(places, 12))
    np.testing.assert_array_equal(y[..., 6:], x[..., 6:])
    close(y[..., :6], rotate(x[..., :6], Rotary(50.0).make_table(places, 6)))


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones():
    plain = Rotary(10_000.0).frequencies(64)
    yarn = Rotary(10_000.0, 8.0, 2048, 1.0, 32.0, yarn=True)
    found = yarn.frequencies(64)
    turns = 2048 * plain / (2 * math.pi)
    first, last = np.argmax(turns < 32) - 1, np.argmax(turns < 1)
    np.testing.assert_allclose(found[: first + 1], plain[: first + 1])
    np.testing.assert_allclose(found[last:], plain[last:] / 8)
    steps = np.diff((found / plain)[first : last + 1])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)  # in equal steps between the two
    cos, sin = yarn.make_table(np.arange(3)[None], 64)
    np.testing.assert_allclose(np.square(cos) + np.square(sin), (0.1 * math.log(8) + 1) ** 2, 1e-5)


def test_longrope_takes_the_long_numbers_where_a_row_is_longer_than_the_trained_context():
    rotary = Rotary(100.0, trained=4, short=(1.0, 2.0), long=(3.0, 5.0), gain=1.5)
    near, far = rotary.frequencies(4), rotary.frequencies(4, beyond=True)
    np.testing.assert_allclose(near, [1, 0.1 / 2])
    np.testing.assert_allclose(far, [1 / 3, 0.1 / 5])
    for count, expected in ((4, near), (5, far)):
        places = np.arange(count)[None]
        known = rotary.make_table(places, 4)
        np.testing.assert_allclose(known[0][0, 0, -1], 1.5 * np.cos(expected * (count - 1)), 1e-5)
        close(known, rotary.make_table(jnp.asarray(places), 4))
    # With a cache its capacity decides, as keys stay as they were turned.
    close(rotary.make_table(np.arange(2)[None], 4, 5)[1][0, 0, 1], 1.5 * np.sin(far))
    close(rotary.make_table(jnp.arange(2)[None], 4, 5)[1][0, 0, 1], 1.5 * np.sin(far))


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("parallel", lambda: dataclasses.replace(PLAIN, parallel=True, norm_first=False)),
        ("parallel", lambda: dataclasses.replace(PLAIN, parallel=True, cross_attention=True)),
        ("qk_norm_whole", lambda: dataclasses.replace(PLAIN, qk_norm_whole=True)),
        ("score_width", lambda: dataclasses.replace(PLAIN, score_width=4, mup=MuP())),
        ("score_width", lambda: dataclasses.replace(PLAIN, score_width=0)),
        ("embedding_scale", lambda: dataclasses.replace(PLAIN, embedding_scale=0.0)),
        ("layer_kinds", lambda: dataclasses.replace(SANDWICH, positions="learned")),
        ("window", lambda: dataclasses.replace(SANDWICH, window=3)),
        ("scan_layers", lambda: dataclasses.replace(SANDWICH, scan_layers=True)),
        ("window", lambda: LayerKind(0)),
        ("share", lambda: dataclasses.replace(PLAIN, rotary=Rotary(share=0.3))),
        ("share", lambda: Rotary(share=1.5)),
        ("gain", lambda: Rotary(gain=0.0)),
        ("trained", lambda: Rotary(factor=2.0, yarn=True)),
        ("long", lambda: Rotary(trained=4, short=(1.0,))),
        ("short", lambda: Rotary(trained=4, short=(0.0,), long=(1.0,))),
        ("factor", lambda: Rotary(factor=2.0, trained=4, short=(1.0,), long=(1.0,))),
        (
            "short",
            lambda: dataclasses.replace(PLAIN, rotary=Rotary(trained=4, short=(1.0,), long=(1.0,))),
        ),
    ],
)
def test_forms_that_cannot_be_are_refused_by_their_field(field, make):
    with pytest.raises(UserError) as refusal:
        make()
    assert refusal.value.field == field
