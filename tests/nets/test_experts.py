"""Mixtures of experts against dense layers, a loop over experts in numpy, and closed forms."""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.cli.flops import count_flops
from genjax.errors import UserError
from genjax.machine.target import trace_for
from genjax.nets.transformer.experts import (
    ROUTING,
    ExpertLayer,
    Experts,
    Routing,
    add_experts,
    measure_load,
)
from genjax.nets.transformer.feed_forward import FeedForward
from genjax.nets.transformer.grouped_product import multiply_groups, multiply_tiles
from genjax.nets.transformer.token_net import TokenNet, stack_layers
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Muon
from genjax.schedules import Constant

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (2, 7, 6))
INIT = nn.initializers.normal(0.5)
NET = Transformer(
    layers=2,
    heads=2,
    width=8,
    hidden=12,
    context=16,
    init_std=0.4,
    activation="swiglu",
    biases=(),
    experts=Experts(5, 2),
)
TOKENS = jax.random.randint(KEY, (2, 9), 0, 11)


def layer(options, activation="swiglu", bias=True):
    """A layer of experts and its parameters, biases included, at random values."""
    module = ExpertLayer(options, 10, activation, bias, INIT, INIT)
    shapes = jax.eval_shape(module.init, KEY, X)["params"]
    keys = iter(jax.random.split(KEY, 99))
    params = jax.tree.map(lambda s: 0.5 * jax.random.normal(next(keys), s.shape), shapes)
    return module, params


@functools.partial(jax.jit, static_argnums=0)
def apply_layer(module, params, x=X):
    return module.apply({"params": params}, x)


def expert_of(params, number):
    return jax.tree.map(lambda p: p[number], params["experts"])


@functools.partial(jax.jit, static_argnames="activation")
def dense(params, x, activation="swiglu"):
    """The same as a plain feed-forward layer."""
    bias = "bias" in params["up"]
    module = FeedForward(params["up"]["kernel"].shape[1], activation, bias, INIT, INIT)
    return module.apply({"params": params}, x.reshape(-1, x.shape[-1])).reshape(x.shape)


def dense_masked(options, params, x):
    """All experts on all tokens, and weights of 0 for those that were not chosen."""
    logits = x @ params["router"]["kernel"]
    p = jax.nn.softmax(logits, -1)
    chosen = jax.lax.top_k(p, options.active)[1]
    weights = p * jax.nn.one_hot(chosen, options.count).sum(-2)
    if options.renormalise:
        weights = weights / weights.sum(-1, keepdims=True)
    outputs = jnp.stack([dense(expert_of(params, i), x) for i in range(options.count)], -1)
    return (outputs * weights[..., None, :]).sum(-1)


@pytest.mark.parametrize("sizes", [(3, 0, 40, 7), (50, 0, 0, 0), (0, 0, 0, 0), (1, 2, 3, 4)])
def test_a_grouped_product_is_a_product_with_the_matrix_of_the_group(sizes):
    rows = jax.random.normal(KEY, (50, 4))
    kernels = jax.random.normal(jax.random.key(1), (4, 4, 3))
    counts = jnp.array(sizes)
    group = np.repeat(np.arange(4), sizes)

    def by_hand(rows, kernels):
        own = jnp.einsum("nd,ndh->nh", rows[: len(group)], kernels[group])
        return jnp.pad(own, ((0, 50 - len(group)), (0, 0)))

    weights = jax.random.normal(jax.random.key(2), (50, 3))
    expected = jax.grad(lambda *a: (by_hand(*a) * weights).sum(), (0, 1))(rows, kernels)
    for product in (
        lambda r, k: multiply_tiles(8, r, k, counts),
        lambda r, k: multiply_groups(r, k, counts),
        trace_for("cpu", lambda r, k: multiply_groups(r, k, counts), counted=True),
    ):
        loss = lambda *a, p=product: ((p(*a) * weights).sum(), p(*a))  # noqa: E731
        found, out = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(rows, kernels)
        np.testing.assert_allclose(out, by_hand(rows, kernels), atol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


@pytest.mark.parametrize("activation", ["swiglu", "relu2"])
def test_one_expert_is_a_dense_layer(activation):
    module, params = layer(Experts(1, 1), activation)
    found = apply_layer(module, params)
    expected = dense(expert_of(params, 0), X, activation)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("renormalise", [True, False])
def test_all_experts_with_equal_weights_are_their_mean(renormalise):
    module, params = layer(Experts(4, 4, renormalise=renormalise))
    params = {**params, "router": {"kernel": jnp.zeros((6, 4))}}
    found = apply_layer(module, params)
    mean = sum(dense(expert_of(params, i), X) for i in range(4)) / 4
    np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("renormalise", [True, False])
def test_routed_tokens_equal_a_loop_over_tokens_and_experts(renormalise):
    options = Experts(5, 2, renormalise=renormalise, shared=4, shared_gate=True)
    module, params = layer(options)
    found = apply_layer(module, params)
    for place in [(0, 0), (0, 6), (1, 3)]:
        x = np.asarray(X[place], np.float64)
        logits = x @ np.asarray(params["router"]["kernel"], np.float64)
        p = np.exp(logits) / np.exp(logits).sum()
        best = np.argsort(-p)[:2]
        scale = p[best].sum() if renormalise else 1.0
        gate = 1 / (1 + np.exp(-x @ np.asarray(params["shared_gate"]["kernel"], np.float64)))
        expected = gate * np.asarray(dense(params["shared"], X[place][None]))[0]
        for i in best:
            expected = (
                expected + p[i] / scale * np.asarray(dense(expert_of(params, i), X[place][None]))[0]
            )
        np.testing.assert_allclose(found[place], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [Experts(5, 2), Experts(3, 3, renormalise=False)])
def test_gradients_equal_those_of_all_experts_masked(options):
    module, params = layer(options)
    losses = (
        lambda p, x: jnp.square(module.apply({"params": p}, x)).sum(),
        lambda p, x: jnp.square(dense_masked(options, p, x)).sum(),
    )
    found, expected = (jax.jit(jax.grad(loss, (0, 1)))(params, X) for loss in losses)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), found, expected
    )


def test_parts_of_the_experts_add_up_to_all():
    rows = X, jnp.full((2, 7, 2), 0.5), jax.random.randint(KEY, (2, 7, 2), 0, 6)
    _, params = layer(Experts(6, 2))
    whole = add_experts("swiglu", rows, params["experts"])
    parts = [
        add_experts("swiglu", rows, jax.tree.map(lambda p, i=i: p[i : i + 2], params["experts"]), i)
        for i in (0, 2, 4)
    ]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-5, atol=1e-5)


def test_loads_against_closed_forms():
    """Even loads: 1, entropy 1. All on one expert of four, surely: 4, entropy 0. Padding and its
    choices do not count.
    """
    even = Routing(
        jnp.full((1, 4, 4), 0.25), jnp.arange(4)[None, :, None], jnp.full((1, 4), jnp.log(4.0))
    )
    real = jnp.ones((1, 4))
    load = measure_load({"a": even}, real)
    np.testing.assert_allclose(load.balance, 1.0, rtol=1e-6)
    np.testing.assert_allclose(load.z, jnp.log(4.0) ** 2, rtol=1e-6)
    np.testing.assert_allclose(load.entropy, 1.0, rtol=1e-6)
    sure = even._replace(
        probabilities=jnp.zeros((1, 4, 4)).at[..., 0].set(1), chosen=jnp.zeros((1, 4, 1), jnp.int32)
    )
    load = measure_load({"a": sure}, real)
    np.testing.assert_allclose(load.balance, 4.0, rtol=1e-6)
    np.testing.assert_allclose(load.entropy, 0.0, atol=1e-6)
    both = measure_load({"a": even, "b": sure}, real)
    np.testing.assert_allclose(both.balance, 2.5, rtol=1e-6)
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), even, sure)
    np.testing.assert_allclose(measure_load({"a": stacked}, real).balance, 2.5, rtol=1e-6)
    # With padding in place of the first two tokens, experts 2 and 3 have half each.
    some = measure_load({"a": even}, jnp.array([[0.0, 0.0, 1.0, 1.0]]))
    np.testing.assert_allclose(some.entropy, 0.5, rtol=1e-6)


@functools.partial(jax.jit, static_argnums=0, static_argnames="mutable")
def apply_net(net, params, tokens=TOKENS, cache=None, mutable=False):
    return TokenNet(net, 11).apply({"params": params}, tokens, cache=cache, mutable=mutable)


@functools.partial(jax.jit, static_argnums=0)
def init_net(net):
    return TokenNet(net, 11).init(KEY, TOKENS)["params"]


def test_cached_equals_uncached():
    params = init_net(NET)
    whole, _ = apply_net(NET, params)
    first, cache = apply_net(NET, params, TOKENS[:, :4], NET.new_cache(2, 9))
    rows = []
    for i in range(4, 9):
        one, cache = apply_net(NET, params, TOKENS[:, i : i + 1], cache)
        rows.append(one)
    np.testing.assert_allclose(jnp.concatenate([first, *rows], 1), whole, rtol=1e-4, atol=1e-5)


def test_scanned_layers_equal_unrolled_ones_and_tell_the_same_loads():
    scanned = dataclasses.replace(NET, scan_layers=True, remat="everything")
    params = init_net(NET)
    (a, _), one = apply_net(NET, params, mutable=ROUTING)
    (b, _), two = apply_net(scanned, stack_layers(params), mutable=ROUTING)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    loads = [measure_load(found[ROUTING], jnp.ones((2, 9))) for found in (one, two)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), *loads)


def test_some_layers_stay_dense():
    net = dataclasses.replace(NET, experts=Experts(5, 2, hidden=4, dense=(0,)))
    params = jax.eval_shape(lambda: init_net(net))
    assert params["layer_0"]["feed_forward"]["up"]["kernel"].shape == (8, 12)
    assert params["layer_1"]["feed_forward"]["experts"]["up"]["kernel"].shape == (5, 8, 4)
    assert params["layer_1"]["feed_forward"]["experts"]["down"]["kernel"].shape == (5, 4, 8)


def test_flops_are_those_of_the_active_experts():
    """A dense net of the same active width, plus the router: forward and backward."""

    def flops(net):
        params = jax.eval_shape(lambda: init_net(net))
        loss = lambda p: TokenNet(net, 11).apply({"params": p}, TOKENS)[0].sum()  # noqa: E731
        return count_flops(trace_for("cpu", jax.grad(loss), counted=True), params)

    tokens, routers = TOKENS.size, 2 * (8 * 5)
    mixing = 2 * (2 * 8)  # the sum over a token's two experts, a product as well
    found = flops(NET)
    twice = flops(dataclasses.replace(NET, hidden=2 * 12, experts=None))
    assert found == twice + 3 * 2 * tokens * (routers + mixing)
    assert (
        found
        == flops(dataclasses.replace(NET, experts=Experts(5, 2)))
        < flops(dataclasses.replace(NET, experts=Experts(5, 3)))
    )


def test_muon_orthogonalises_each_expert():
    """Also those of a block for a later token, whose name has a head in it."""
    params = {"ahead_2": {"experts": {"up": {"kernel": jnp.zeros((3, 16, 8))}}}}
    stacked = {"layers": jax.tree.map(lambda p: jnp.stack([p, p]), params)}
    for tree in (params, stacked):
        rule = Muon(Constant(1.0)).build(1)
        grads = jax.tree.map(lambda p: jax.random.normal(KEY, p.shape), tree)
        step = jax.jit(lambda g, t, r=rule: r.update(g, r.measure_norm(g), r.init(t), t)[0])
        moved = step(grads, tree)
        matrices = np.asarray(jax.tree.leaves(moved)[0]).reshape(-1, 16, 8)
        for matrix in matrices:
            values = np.linalg.svd(matrix, compute_uv=False) / (0.2 * 4)
            assert values.min() > 0.6 and values.max() < 1.3


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Experts(4, 5), "active"),
        (lambda: Experts(0, 1), "count"),
        (lambda: Experts(4, 2, shared_gate=True), "shared"),
        (lambda: Experts(4, 2, balance=-1.0), "balance"),
        (lambda: dataclasses.replace(NET, experts=Experts(dense=(2,))), "experts.dense"),
        (
            lambda: dataclasses.replace(NET, experts=Experts(dense=(0,)), scan_layers=True),
            "experts.dense",
        ),
    ],
)
def test_bad_values_are_refused(make, field):
    with pytest.raises(UserError) as error:
        make()
    assert error.value.field == field
