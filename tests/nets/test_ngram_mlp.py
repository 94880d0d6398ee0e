"""The perceptron of the last tokens: a plain NumPy form, what it may see, and that each form
is the same function.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.family import State
from genjax.nets.ngram_mlp import NgramMLP

KEY = jax.random.key(0)
VOCABULARY = 7
NET = NgramMLP(past=3, width=4, hidden=9, context=16)
MODULE = NET.module(VOCABULARY)
TOKENS = jax.random.randint(KEY, (2, 8), 0, VOCABULARY)
PARAMS = jax.tree.map(
    lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape),
    MODULE.init(KEY, TOKENS)["params"],
)
apply = jax.jit(lambda tokens, **told: MODULE.apply({"params": PARAMS}, tokens, **told))


def test_the_net_of_makemore_has_its_size():
    shapes = jax.eval_shape(lambda: NgramMLP().module(27).init(KEY, TOKENS))
    assert (
        sum(p.size for p in jax.tree.leaves(shapes)) == 11_897
    )  # 27 x 10, 30 x 200 + 200, 200 x 27 + 27


def test_logits_are_those_of_a_window_put_through_two_matrices():
    p = jax.tree.map(np.asarray, PARAMS)
    for row in np.asarray(TOKENS):
        known = [row[0], row[0], *row]
        windows = [[known[t + 2], known[t + 1], known[t]] for t in range(8)]
        hidden = np.tanh(
            np.stack([p["embedding"][w].ravel() for w in windows]) @ p["hidden_kernel"]
            + p["hidden_bias"]
        )
        want = hidden @ p["head_kernel"].T + p["head_bias"]
        found = apply(jnp.asarray(row[None]))[0]
        logits = MODULE.apply({"params": PARAMS}, found, method="logits")
        np.testing.assert_allclose(logits[0], want, rtol=1e-4, atol=1e-5)
        rows, kernel, bias = map(np.asarray, MODULE.apply({"params": PARAMS}, found, method="head"))
        np.testing.assert_allclose(rows[0] @ kernel.T + bias, want, rtol=1e-4, atol=1e-5)


def test_a_token_feels_the_last_three_alone():
    def run(table):  # a table whose rows are the tokens themselves has a gradient for each place
        return MODULE.apply({"params": PARAMS | {"embedding": table}}, jnp.arange(7)[None])[0][0]

    slopes = jnp.abs(jax.jacrev(run)(jax.random.normal(KEY, (VOCABULARY, 4)))).sum(
        (1, 3)
    )  # [output, input]
    seen = np.tril(np.ones((7, 7), bool)) & ~np.tril(np.ones((7, 7), bool), -3)
    np.testing.assert_array_equal(np.asarray(slopes) > 1e-9, seen)


def test_packed_equals_unpacked():
    row = jnp.concatenate([TOKENS[:1, :4], TOKENS[1:, :3], jnp.zeros((1, 1), jnp.int32)], 1)
    packed = apply(row, segment_ids=jnp.asarray([[1, 1, 1, 1, 2, 2, 2, 0]]))[0]
    np.testing.assert_allclose(packed[:, :4], apply(TOKENS[:1])[0][:, :4], rtol=1e-5)
    np.testing.assert_allclose(packed[:, 4:7], apply(TOKENS[1:])[0][:, :3], rtol=1e-5)


@pytest.mark.parametrize("first", [1, 2, 5])
def test_cached_equals_uncached(first):
    want = apply(TOKENS)[0]
    found, cache = apply(TOKENS[:, :first], cache=NET.new_cache(2, 8))
    np.testing.assert_allclose(found, want[:, :first], rtol=1e-5)
    for i in range(first, 8):
        found, cache = apply(TOKENS[:, i : i + 1], cache=cache)
        np.testing.assert_allclose(found[:, 0], want[:, i], rtol=1e-5)
    assert cache.tokens.tolist() == TOKENS[:, -2:].tolist()


@pytest.mark.parametrize(
    "real", [[0, 0, 1, 1, 1], [1, 1, 0, 0, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
)
def test_padding_is_left_out_wherever_it_stands(real):
    """A row with padding beside one without: both go on as they would alone."""
    short = TOKENS[1, : sum(real)]
    row = np.full(5, 6)
    row[np.flatnonzero(real)] = short
    tokens = jnp.stack([TOKENS[0, :5], jnp.asarray(row)])
    found, cache = apply(
        tokens, segment_ids=jnp.asarray([[1] * 5, real]), cache=NET.new_cache(2, 8)
    )
    alone = apply(short[None])[0][0]
    np.testing.assert_allclose(found[1][np.flatnonzero(real)], alone, rtol=1e-5)
    following, _ = apply(jnp.asarray([[3], [4]]), cache=cache)
    want = apply(jnp.append(short, 4)[None])[0][0, -1]
    np.testing.assert_allclose(following[1, 0], want, rtol=1e-5)
    np.testing.assert_allclose(
        following[0, 0], apply(jnp.append(TOKENS[0, :5], 3)[None])[0][0, -1], rtol=1e-5
    )


def test_greedy_samples_are_the_likeliest_tokens_one_by_one():
    family = Autoregressive(NET, sampler=Decoding(steps=9, temperature=0.0, tokens=(5, 2)))
    state = State(step=0, params=PARAMS, opt_state=None, variables={}, ema=None, key=KEY, frozen={})
    drawn = np.asarray(jax.jit(family.sample, static_argnums=(2, 3))(state, KEY, 2, family.sampler))
    row = [5, 2]
    for _ in range(9):
        hidden = apply(jnp.asarray(row + [0] * (11 - len(row)))[None])[0][0, len(row) - 1]
        row.append(int(MODULE.apply({"params": PARAMS}, hidden, method="logits").argmax()))
    assert drawn.tolist() == [row, row] and len(set(row)) > 2


def test_a_token_outside_the_vocabulary_shows():
    assert np.isnan(apply(jnp.asarray([[1, 7]]))[0][0, 1]).all()


def test_it_reads_no_source():
    spec = Spec(
        "tokens", (9,), np.zeros(9, np.float32), vocabulary=7, source_length=4, source_vocabulary=5
    )
    with pytest.raises(
        UserError, match="net must be a Transformer for data with a source, got NgramMLP"
    ):
        Autoregressive(NET).init(KEY, {"tokens": TOKENS, "source_tokens": TOKENS}, spec)


@pytest.mark.parametrize("name", ["past", "width", "hidden", "context"])
def test_sizes_are_at_least_one(name):
    with pytest.raises(UserError, match=f"{name} must be at least 1, got 0"):
        NgramMLP(**{name: 0})
