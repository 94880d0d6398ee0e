"""Heads for later tokens: their losses by hand, and texts that they help to draw."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.generation import DrawLoop
from genjax.families.autoregressive.request import Decoding, Request
from genjax.family import init_state
from genjax.nets.transformer.cache import Cache
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.samplers.tokens.decoding import Prompts
from genjax.samplers.tokens.self_speculative import SelfSpeculator
from genjax.schedules import Constant

KEY = jax.random.key(0)
V, T = 7, 12
NET = Transformer(
    layers=2, heads=2, width=16, context=32, positions="rotary", init_std=0.4, ahead=3
)
FAMILY = Autoregressive(NET, ahead_weight=0.5)
SPEC = Spec("tokens", (T + 1,), np.zeros(T + 1, np.float32), vocabulary=V)
RULE = SGD(Constant(0.1)).build(10)
TOKENS = jax.random.randint(KEY, (3, T + 1), 0, V)
BATCH = {
    "tokens": TOKENS,
    "loss_mask": (jnp.arange(T + 1)[None] < jnp.array([[T + 1], [9], [5]]))
    .astype(jnp.float32)
    .at[:, 0]
    .set(0),
    "mask": jnp.array([1.0, 1.0, 0.0]),
}
STATE = init_state(*jax.jit(lambda: FAMILY.init(KEY, {"tokens": TOKENS[:1]}, SPEC))(), RULE, KEY)


def log_probs(tokens=TOKENS[:, :-1], **options):
    """log p of each of the next three tokens, float64 [3, B, T, V]."""
    module = TokenNet(NET, V, ahead=True)

    @jax.jit
    def run(params):
        hidden, _ = module.apply({"params": params}, tokens, **options)
        logits = module.apply({"params": params}, hidden, method="logits")
        return jax.nn.log_softmax(logits)

    return np.asarray(run(STATE.params), np.float64)


def evaluate(batch, family=FAMILY):
    found = jax.jit(family.evaluate)(STATE, batch, KEY)
    return {name: (float(mean.sum), float(mean.weight)) for name, mean in found.items()}


def test_the_losses_are_those_of_each_offset_by_hand():
    odds, found = log_probs(), evaluate(BATCH)
    step = jax.jit(lambda s: FAMILY.train_step(s, BATCH, optimizer=RULE))
    trained = step(STATE)[1]
    sums = []
    for offset, name in enumerate(("loss", "nll_2", "nll_3"), 1):
        total = count = 0.0
        for row in range(2):  # the third is padding
            for place in range(T + 1 - offset):
                if BATCH["loss_mask"][row, place + offset]:
                    total -= odds[offset - 1, row, place, TOKENS[row, place + offset]]
                    count += 1
        np.testing.assert_allclose(found[name], (total, count), rtol=1e-5)
        sums.append(total)
        if offset > 1:
            np.testing.assert_allclose(trained[name], (total, count), rtol=1e-5)
    np.testing.assert_allclose(trained["nll"].sum, sums[0], rtol=1e-5)
    np.testing.assert_allclose(
        trained["loss"].value, (sums[0] + 0.5 * sum(sums[1:])) / found["loss"][1], rtol=1e-5
    )


def test_the_first_head_is_the_plain_net_to_the_last_bit():
    plain = replace(FAMILY, net=replace(NET, ahead=1))
    assert evaluate(BATCH, plain) == {"loss": evaluate(BATCH)["loss"]}
    with_heads = STATE.params.keys()
    without = jax.eval_shape(lambda: plain.init(KEY, {"tokens": TOKENS[:1]}, SPEC))[0].keys()
    assert with_heads - without == {"ahead_2", "ahead_3"} and not without - with_heads


def test_no_head_predicts_over_the_border_of_packed_documents():
    """A row with two documents has the losses of each alone."""
    sizes = (5, 8)
    edge, total = sizes[0], T + 1
    places = np.r_[np.arange(5), np.arange(8)]
    row = {
        "tokens": TOKENS[:1],
        "loss_mask": jnp.asarray(places > 0, jnp.float32)[None],
        "segment_ids": jnp.asarray(np.repeat([1, 2], sizes))[None],
        "positions": jnp.asarray(places)[None],
        "mask": jnp.ones(1),
    }
    found, alone = evaluate(row), {}
    for start, stop in ((0, edge), (edge, total)):
        real = np.arange(total) < stop - start
        part = {
            "tokens": jnp.asarray(np.roll(TOKENS[:1], -start, 1)),
            "loss_mask": jnp.asarray(real & (np.arange(total) > 0), jnp.float32)[None],
            "mask": jnp.ones(1),
        }
        for name, pair in evaluate(part).items():
            alone[name] = np.add(alone.get(name, 0.0), pair)
    for offset, name in enumerate(("loss", "nll_2", "nll_3"), 1):
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-4)
        assert found[name][1] == sum(size - offset for size in sizes)


def test_heads_with_a_cache_equal_heads_without():
    whole = log_probs(TOKENS[:1, :9])
    reader = FAMILY.read_rows(STATE.params).ahead
    cache, real = reader.new_cache(1, 12), lambda n: jnp.ones((1, n), bool)
    run = jax.jit(reader.model, static_argnums=3)
    first, cache = run(TOKENS[:1, :4], real(4), cache, 4)
    second, cache = run(TOKENS[:1, 4:9], real(5), cache, 5)
    both = jax.nn.log_softmax(jnp.concatenate([first, second], 2))
    np.testing.assert_allclose(both, whole, rtol=1e-4, atol=1e-4)


def draw(options, prompts, n, key=KEY, ends=()):
    request = Request(options, prompts, ends=ends)
    return np.asarray(jax.jit(lambda s, k: FAMILY.sample(s, k, n, request))(STATE, key))


def test_greedy_texts_with_own_guesses_are_those_without():
    prompts = ((1,), (2, 3, 4), (5, 1))
    for ends in ((), (3,)):
        plain, own = (
            draw(Decoding(steps=20, temperature=0.0, self_draft=on), prompts, 3, ends=ends)
            for on in (False, True)
        )
        np.testing.assert_array_equal(plain, own)


def test_right_guesses_save_rounds():
    """A model that repeats one token: every guess is accepted, three tokens a round."""

    def model(tokens, mask, cache, last):
        logits = jnp.zeros((3, 1, last, V)).at[..., 2].set(50.0)
        return logits, cache._replace(lengths=cache.lengths + mask.sum(1))

    own = SelfSpeculator(model, 3, lambda c, n: c.rewind(n), Decoding(steps=10))
    prompts = Prompts(jnp.ones((1, 2), jnp.int32), jnp.ones((1, 2), bool))
    found = own.draw(Cache((), jnp.zeros(1, jnp.int32)), prompts, KEY)
    assert found.tokens.tolist() == [[2] * 10] and found.rounds.tolist() == [3]


@pytest.mark.long
def test_texts_with_own_guesses_keep_the_law_of_the_model():
    n, options = 6000, Decoding(steps=2, temperature=0.8)
    got = draw(replace(options, self_draft=True), ((1, 4),), n)[:, 2:]
    module = TokenNet(NET, V)
    rows = jnp.array([[1, 4, a] for a in range(V)])
    logits = module.apply(
        {"params": STATE.params},
        module.apply({"params": STATE.params}, rows)[0],
        method="logits",
    )
    p = np.asarray(jax.nn.softmax(logits / 0.8))
    law = p[0, 1][:, None] * p[:, 2]
    seen = np.zeros((V, V))
    np.add.at(seen, (got[:, 0], got[:, 1]), 1)
    often = law * n > 5
    chi_square = ((seen - law * n)[often] ** 2 / (law * n)[often]).sum() / (often.sum() - 1)
    assert chi_square < 2


def test_plain_texts_do_not_pay_for_the_heads():
    reader = FAMILY.read_rows(STATE.params)
    assert len(reader.new_cache(1, 8).layers) == 2
    assert len(reader.ahead.new_cache(1, 8).layers) == 4
    assert DrawLoop(reader, Request(Decoding(steps=4), ((1,),)), 1).sliding is None


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: replace(NET, ahead=0), "ahead"),
        (lambda: replace(NET, scan_layers=True), "ahead"),
        (lambda: replace(NET, causal=False), "ahead"),
        (lambda: Autoregressive(NET, ahead_weight=-1.0), "ahead_weight"),
        (lambda: Decoding(self_draft=True, draft="runs/small"), "self_draft"),
        (lambda: Decoding(self_draft=True, repetition_penalty=1.2), "repetition_penalty"),
        (lambda: Decoding(self_draft=True, beams=2), "self_draft"),
        (
            lambda: replace(FAMILY, net=replace(NET, ahead=1)).sample(
                STATE, KEY, 1, Request(Decoding(steps=2, self_draft=True), ((1,),))
            ),
            "self_draft",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, field):
    with pytest.raises(UserError) as error:
        make()
    assert error.value.field == field
