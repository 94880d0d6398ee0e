"""The Transformer: what it may see, and that each form (cached, packed, scanned, blocked) is
the same function.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.transformer.cache import Memory
from genjax.nets.transformer.positions import Rotary
from genjax.nets.transformer.token_net import TokenNet, stack_layers, unstack_layers
from genjax.nets.transformer.transformer import MuP, Transformer
from genjax.optim import SGD, Adam, Muon
from genjax.schedules import Constant

KEY = jax.random.key(0)
VOCABULARY = 11
GPT = Transformer(layers=2, heads=2, width=8, context=16, init_std=0.4)
LLAMA = dataclasses.replace(
    GPT,
    heads=4,
    kv_heads=2,
    positions="rotary",
    norm="rms",
    activation="swiglu",
    biases=(),
    tied=False,
    qk_norm=True,
)
WINDOWED = dataclasses.replace(
    LLAMA, kv_heads=1, window=3, attention_softcap=2.0, logit_softcap=3.0
)
SINUSOIDAL = dataclasses.replace(
    GPT, positions="sinusoidal", norm_first=False, activation="relu2", head_width=6
)
NETS = {"gpt": GPT, "llama": LLAMA, "windowed": WINDOWED, "sinusoidal": SINUSOIDAL}
TOKENS = jax.random.randint(KEY, (2, 9), 0, VOCABULARY)


@functools.cache
def params_of(net):
    plain = dataclasses.replace(net, attention="xla", remat="nothing", scan_layers=False)
    memory = Memory(jnp.ones((2, 5, net.width))) if net.cross_attention else None
    params = jax.jit(lambda: TokenNet(plain, VOCABULARY).init(KEY, TOKENS, memory=memory))()[
        "params"
    ]
    # Biases and scales at other values than 0 and 1, so that a lost one shows.
    return jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params
    )


@functools.partial(jax.jit, static_argnums=0)
def _features(net, params, tokens, inputs):
    return TokenNet(net, VOCABULARY).apply({"params": params}, tokens, **inputs)


def features(net, tokens=TOKENS, params=None, **inputs):
    """Hidden states and cache."""
    return _features(net, params_of(net) if params is None else params, tokens, inputs)


def logits(net, hidden):
    return TokenNet(net, VOCABULARY).apply({"params": params_of(net)}, hidden, method="logits")


def close(a, b, atol=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), a, b)


@pytest.mark.parametrize("name", NETS)
def test_no_token_feels_a_later_one_and_a_window_ends(name):
    net = NETS[name]
    module = TokenNet(dataclasses.replace(net, layers=1), VOCABULARY)
    params = {k: v for k, v in params_of(net).items() if k != "layer_1"}
    table = jax.random.normal(KEY, (VOCABULARY, net.width))

    def run(x):  # a table whose rows are the tokens themselves has a gradient for each place
        p = params | {"embedding": x}
        return module.apply({"params": p}, jnp.arange(9)[None])[0][0]

    slopes = jnp.abs(jax.jit(jax.jacrev(run))(table)).sum((1, 3))[
        :, :9
    ]  # [place of output, place of input]
    seen = np.tril(np.ones((9, 9), bool))
    if net.window:
        seen &= ~np.tril(np.ones((9, 9), bool), -net.window)
    np.testing.assert_array_equal(np.asarray(slopes) > 1e-9, seen)


def test_an_encoder_sees_both_ways():
    net = dataclasses.replace(GPT, causal=False)
    y, other = features(net)[0], features(net, TOKENS.at[:, -1].add(1) % VOCABULARY)[0]
    assert jnp.abs(y - other)[:, 0].max() > 1e-3


@pytest.mark.parametrize("attention", ["xla", "blocked"])
@pytest.mark.parametrize("name", NETS)
def test_packed_equals_unpacked(name, attention):
    net = dataclasses.replace(NETS[name], attention=attention)
    params = params_of(NETS[name])
    a, b = TOKENS[:1, :4], TOKENS[1:, :3]
    row = jnp.concatenate([a, b, jnp.zeros((1, 2), jnp.int32)], 1)
    segments = jnp.asarray([[1, 1, 1, 1, 2, 2, 2, 0, 0]])
    places = jnp.asarray([[0, 1, 2, 3, 0, 1, 2, 0, 0]])
    packed = features(net, row, params, positions=places, segment_ids=segments)[0]
    close(packed[:, :4], features(net, a, params)[0])
    close(packed[:, 4:7], features(net, b, params)[0])
    assert np.isfinite(packed).all()


@pytest.mark.parametrize("name", NETS)
def test_a_prefix_is_read_both_ways_and_what_follows_is_causal(name):
    """By gradients: rows of the table are tokens of the row."""
    net = dataclasses.replace(NETS[name], layers=1)
    module = TokenNet(net, VOCABULARY)
    params = {k: v for k, v in params_of(NETS[name]).items() if k != "layer_1"}
    table = jax.random.normal(KEY, (VOCABULARY, net.width))
    segments = jnp.asarray([[1] * 5 + [2] * 4])
    prefix = jnp.asarray([[1, 1, 1, 0, 0, 1, 1, 0, 0]], bool)

    def run(x):
        told = {"segment_ids": segments, "prefix": prefix}
        return module.apply({"params": params | {"embedding": x}}, jnp.arange(9)[None], **told)[0][
            0
        ]

    slopes = jnp.abs(jax.jit(jax.jacrev(run))(table)).sum((1, 3))[:, :9]
    i, j = np.indices((9, 9))
    same, both = (np.asarray(a)[0] for a in (segments, prefix))
    seen = (same[i] == same[j]) & ((j <= i) | (both[i] & both[j]))
    if net.window:
        seen &= np.abs(i - j) < net.window
    np.testing.assert_array_equal(np.asarray(slopes) > 1e-9, seen)


@pytest.mark.parametrize("name", NETS)
def test_cached_equals_uncached(name):
    net = NETS[name]
    want = features(net)[0]
    cache = net.new_cache(2, 12)
    first, cache = features(net, TOKENS[:, :4], cache=cache)
    close(first, want[:, :4])
    for i in range(4, 9):
        y, cache = features(net, TOKENS[:, i : i + 1], cache=cache)
        close(y[:, 0], want[:, i])
    np.testing.assert_array_equal(cache.lengths, [9, 9])


@pytest.mark.parametrize("name", ["gpt", "windowed"])
def test_a_cache_filled_with_a_prefix_equals_all_at_once(name):
    net = NETS[name]
    prefix = jnp.asarray(
        [[1, 1, 1, 1], [0, 0, 1, 1]], bool
    )  # of the second row two tokens, after padding
    row = jnp.concatenate([TOKENS[1:, :2], TOKENS[1:, 4:]], 1)
    marks = [jnp.arange(n)[None] < size for n, size in ((9, 4), (7, 2))]
    alone = [
        features(net, tokens, prefix=mark)[0][0]
        for tokens, mark in zip((TOKENS[:1], row), marks, strict=True)
    ]
    assert jnp.abs(alone[0] - features(net)[0][0]).max() > 1e-3
    prompts = TOKENS[:, :4].at[1].set(jnp.asarray([7, 7, *TOKENS[1, :2].tolist()]))
    told = {"segment_ids": jnp.asarray([[1] * 4, [0, 0, 1, 1]]), "prefix": prefix}
    y, cache = features(net, prompts, cache=net.new_cache(2, 12), **told)
    close(y[0], alone[0][:4])
    close(y[1, 2:], alone[1][:2])
    for i in range(4, 9):
        y, cache = features(net, TOKENS[:, i : i + 1], cache=cache)
        close(y[0, 0], alone[0][i])
        close(y[1, 0], alone[1][i - 2])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_prompts_of_a_cache_equal_each_alone(side):
    net = LLAMA
    shorter = TOKENS[1:, :2]
    pad = jnp.full((1, 3), 7)
    row = jnp.concatenate([pad, shorter] if side == "left" else [shorter, pad], 1)
    mask = jnp.asarray([[1] * 5, [0, 0, 0, 1, 1] if side == "left" else [1, 1, 0, 0, 0]])
    tokens = jnp.concatenate([TOKENS[:1, :5], row])
    _, cache = features(net, tokens, cache=net.new_cache(2, 8), segment_ids=mask)
    np.testing.assert_array_equal(cache.lengths, [5, 2])
    after, _ = features(net, TOKENS[:, 5:6], cache=cache)
    close(after[0, 0], features(net, TOKENS[:1, :6])[0][0, 5])
    close(after[1, 0], features(net, jnp.concatenate([shorter, TOKENS[1:, 5:6]], 1))[0][0, 2])


def test_a_cache_is_rewound_and_its_rows_are_taken():
    for net in (GPT, dataclasses.replace(GPT, scan_layers=True)):
        params = stack_layers(params_of(GPT)) if net.scan_layers else params_of(GPT)
        _, cache = features(net, TOKENS[:, :6], params, cache=net.new_cache(2, 9))
        cache = cache.rewind(jnp.asarray([2, 3])).take(jnp.asarray([1, 0, 1]))
        np.testing.assert_array_equal(cache.lengths, [3, 4, 3])
        y, _ = features(net, TOKENS[jnp.asarray([1, 0, 1]), 7:8], params, cache=cache)
        alone = [jnp.append(TOKENS[r, :n], TOKENS[r, 7])[None] for r, n in ((1, 3), (0, 4), (1, 3))]
        for row, tokens in enumerate(alone):
            close(y[row, 0], features(GPT, tokens)[0][0, -1])


@pytest.mark.parametrize("name", ["gpt", "windowed"])
@pytest.mark.long
def test_scanned_equals_unrolled_and_remat_changes_nothing(name):
    net = NETS[name]
    params = params_of(net)

    @functools.partial(jax.jit, static_argnums=0)
    def slope(net, params):
        return jax.grad(
            lambda p: jnp.sin(TokenNet(net, VOCABULARY).apply({"params": p}, TOKENS)[0]).sum()
        )(params)

    want = slope(net, params)
    close(
        slope(dataclasses.replace(net, scan_layers=True), stack_layers(params)), stack_layers(want)
    )
    close(
        slope(dataclasses.replace(net, scan_layers=True, remat="products"), stack_layers(params)),
        stack_layers(want),
    )
    close(slope(dataclasses.replace(net, remat="everything"), params), want)
    jax.tree.map(np.testing.assert_array_equal, unstack_layers(stack_layers(params)), params)
    scanned = dataclasses.replace(net, scan_layers=True)
    y, cache = features(scanned, TOKENS[:, :4], stack_layers(params), cache=scanned.new_cache(2, 9))
    y, _ = features(scanned, TOKENS[:, 4:5], stack_layers(params), cache=cache)
    close(y[:, 0], features(net)[0][:, 4])


@pytest.mark.parametrize(
    "optimizer", [Muon(Constant(0.1), adam_rate=0.5), SGD(Constant(0.1))], ids=["muon", "sgd"]
)
@pytest.mark.long
def test_an_optimizer_moves_scanned_layers_as_unrolled_ones(optimizer):
    params = params_of(LLAMA)
    grads = jax.tree.map(lambda p: jax.random.normal(jax.random.key(p.size), p.shape), params)

    def moved(params, grads):
        rule = optimizer.build(1)
        return rule.update(grads, rule.measure_norm(grads), rule.init(params), params)[0]

    close(
        moved(stack_layers(params), stack_layers(grads)),
        stack_layers(moved(params, grads)),
        atol=1e-4,
    )
    if isinstance(optimizer, Muon):
        kernel = lambda p: p["layer_0"]["attention"]["query"]["kernel"]  # noqa: E731
        step = (kernel(params) - kernel(moved(params, grads))) / (0.1 * 0.2 * 8**0.5)
        assert np.linalg.svd(step, compute_uv=False).min() > 0.5  # orthogonalised, not Adam's


def test_grouped_queries_equal_repeated_heads():
    net = dataclasses.replace(LLAMA, layers=1)
    params = {k: v for k, v in params_of(LLAMA).items() if k != "layer_1"}
    whole = jax.tree.map(lambda p: p, params)
    for name in ("key", "value"):
        kernel = params["layer_0"]["attention"][name]["kernel"].reshape(8, 2, 2)
        whole["layer_0"]["attention"][name] = {"kernel": kernel.repeat(2, 1).reshape(8, 8)}
    close(
        features(net, params=params)[0],
        features(dataclasses.replace(net, kv_heads=4), params=whole)[0],
    )


def test_an_encoder_and_a_decoder_read_one_another_and_the_cache_keeps_the_memory():
    decoder = dataclasses.replace(LLAMA, cross_attention=True)
    memory = jax.random.normal(KEY, (2, 5, 8))
    mask = jnp.asarray([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    want = features(decoder, memory=Memory(memory, mask))[0]
    close(want[1:], features(decoder, TOKENS[1:], memory=Memory(memory[1:, :2]))[0])
    assert jnp.abs(want - features(decoder, memory=Memory(memory))[0])[1].max() > 1e-3
    blocked = dataclasses.replace(decoder, attention="blocked")
    close(features(blocked, params=params_of(decoder), memory=Memory(memory, mask))[0], want)
    cache = decoder.new_cache(2, 9, memory=5)
    _, cache = features(decoder, TOKENS[:, :4], cache=cache, memory=Memory(memory, mask))
    after, _ = features(decoder, TOKENS[:, 4:], cache=cache)
    close(after, want[:, 4:])


def test_logits_are_features_times_the_table_in_float32_and_bounded():
    hidden = features(GPT)[0]
    close(logits(GPT, hidden), hidden @ params_of(GPT)["embedding"].T)
    untied = features(LLAMA)[0]
    close(logits(LLAMA, untied), untied @ params_of(LLAMA)["head_kernel"].T)
    capped = logits(WINDOWED, features(WINDOWED)[0])
    assert jnp.abs(capped).max() < 3 and capped.dtype == jnp.float32


def test_bfloat16_stays_and_an_unknown_token_is_not_silent():
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params_of(LLAMA))
    y = features(LLAMA, params=half)[0]
    assert y.dtype == jnp.bfloat16
    assert jnp.abs(y.astype(jnp.float32) - features(LLAMA)[0]).max() < 0.3
    assert np.isnan(features(GPT, TOKENS.at[0, 3].set(VOCABULARY))[0][0, 3:]).all()


def test_dropout_acts_in_training_alone():
    net = dataclasses.replace(GPT, dropout=0.5, attention_dropout=0.5)
    module, variables = TokenNet(net, VOCABULARY), {"params": params_of(GPT)}
    run = jax.jit(lambda key: module.apply(variables, TOKENS, train=True, rngs={"dropout": key})[0])
    assert jnp.abs(run(jax.random.key(1)) - run(jax.random.key(2))).max() > 1e-2
    close(features(net, params=params_of(GPT))[0], features(GPT)[0])


def mean_sizes(width, mup):
    """Mean |logit| after some steps of Adam, over four draws, the heads growing with the width."""
    net = Transformer(
        2,
        2,
        width,
        16,
        positions="rotary",
        norm="rms",
        activation="relu",
        biases=(),
        init_std=0.1,
        mup=mup,
    )
    module = TokenNet(net, VOCABULARY)
    rule = Adam(Constant(0.02), rates=net.rates() if mup else ()).build(1)

    def loss(params):
        hidden, _ = module.apply({"params": params}, TOKENS)
        out = module.apply({"params": params}, hidden, method="logits")
        hot = jax.nn.one_hot(jnp.roll(TOKENS, -1, 1), VOCABULARY)
        return -(jax.nn.log_softmax(out) * hot).sum(-1).mean(), jnp.abs(out).mean()

    @jax.jit
    def run(key):
        params = module.init(key, TOKENS)["params"]

        def step(_, c):
            return rule.update(jax.grad(loss, has_aux=True)(c[0])[0], jnp.ones(()), c[1], c[0])

        params, _ = jax.lax.fori_loop(0, 4, step, (params, rule.init(params)))
        return loss(params)[1]

    return float(jnp.mean(jax.vmap(run)(jax.random.split(KEY, 4))))


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_mup_keeps_logits_from_growing_with_the_width():
    mup = {width: mean_sizes(width, MuP(16, 8)) for width in (16, 256)}
    plain = {width: mean_sizes(width, None) for width in (16, 256)}
    np.testing.assert_allclose(
        mup[16], plain[16], rtol=1e-4
    )  # at its base it is the ordinary model
    assert mup[256] < 1.3 * mup[16]
    assert plain[256] > 3 * plain[16]  # what it is for


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, r"heads must be a divisor of 8 \(width\)"),
        ({"kv_heads": 3, "heads": 4}, r"kv_heads must be a divisor of 4 \(heads\)"),
        ({"layers": 0}, "layers must be at least 1"),
        (
            {"positions": "rotery"},
            "positions must be one of 'learned', 'sinusoidal', 'rotary', 'none'",
        ),
        ({"positions": "rotary", "head_width": 3}, "even"),
        ({"biases": ("atention",)}, "did you mean 'attention'"),
        ({"activation": "swigly"}, "did you mean 'swiglu'"),
        ({"dropout": 1.0}, "dropout"),
        ({"logit_softcap": 0.0}, "logit_softcap must be above 0"),
        ({"attention": "kernel", "attention_dropout": 0.1}, "kernel"),
    ],
)
def test_bad_values_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(GPT, **changes)


def test_bad_calls_are_refused():
    with pytest.raises(UserError, match="at most 16 tokens .context., got 17"):
        features(GPT, jnp.zeros((1, 17), jnp.int32))
    with pytest.raises(UserError, match=r"a row must have at most 16 tokens \(context\), got 17"):
        GPT.new_cache(1, 17)
    with pytest.raises(UserError, match="causal"):
        dataclasses.replace(GPT, causal=False).new_cache(1, 4)
    with pytest.raises(UserError, match="cross_attention must be True"):
        features(GPT, memory=Memory(jnp.ones((2, 3, 8))))
    with pytest.raises(UserError, match="needs a memory"):
        features(dataclasses.replace(GPT, cross_attention=True), params=params_of(GPT))
    with pytest.raises(UserError, match="factor"):
        Rotary(factor=0.5)
    with pytest.raises(UserError, match="width must be at least 1"):
        MuP(0)
