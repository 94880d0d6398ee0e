"""Attention between tokens: its forms agree in value and gradient; rotary positions against
their definition.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.transformer import blocked_attention
from genjax.nets.transformer.blocked_attention import Rule
from genjax.nets.transformer.positions import Rotary, encode_sinusoids, rotate
from genjax.nets.transformer.token_attention import attend

KEY = jax.random.key(0)
SEGMENTS = jnp.asarray([[1] * 4 + [2] * 5 + [0] * 2, [3] * 11])
PREFIX = jnp.asarray([[1] * 3 + [0] + [1] * 2 + [0] * 5, [1] * 7 + [0] * 4], bool)
BLOCKS = jnp.asarray([[1] + [2] * 4 + [3] * 6, [1] * 3 + [0] * 2 + [2] * 4 + [0] * 2])


def inputs(queries=11, keys=11):
    shapes = [(2, 4, queries, 6), (2, 2, keys, 6), (2, 2, keys, 6)]
    return [2 * jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]


def by_hand(query, key, value, rule, segments=None, prefix=None):
    """One softmax a query, in loops of numpy."""
    query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
    out = np.zeros_like(query)
    for b, h, i in np.ndindex(query.shape[:3]):
        own = h // (query.shape[1] // key.shape[1])
        seen = [
            j
            for j in range(key.shape[2])
            if (
                not rule.causal
                or j <= i
                or (prefix is not None and prefix[b, i] and prefix[b, i] == prefix[b, j])
            )
            and (rule.window is None or abs(i - j) < rule.window)
            and (segments is None or segments[0][b, i] == segments[1][b, j])
        ]
        scores = rule.scale * key[b, own, seen] @ query[b, h, i]
        if rule.softcap:
            scores = rule.softcap * np.tanh(scores / rule.softcap)
        weights = np.exp(scores - scores.max())
        out[b, h, i] = weights @ value[b, own, seen] / weights.sum()
    return out


RULES = {
    "all": (Rule(0.4), False),
    "causal": (Rule(0.4, True), False),
    "window": (Rule(0.4, True, 3), True),
    "bidirectional prefix": (Rule(0.4, False, 3), False),
    "segments": (Rule(0.4, True, softcap=1.5), True),
    "encoder": (Rule(0.4), True),
    "prefix": (Rule(0.4, True), False),
    "prefixes": (Rule(0.4, True, 3, 1.5), True),
    "blocks": (Rule(0.4, True), False),
}


@pytest.mark.parametrize("name", RULES)
def test_blocked_equals_xla_in_value_and_gradient_and_both_a_loop(monkeypatch, name):
    monkeypatch.setattr(blocked_attention, "BLOCK", 4)  # 11 tokens are three blocks, one not full
    rule, packed = RULES[name]
    segments = (SEGMENTS, SEGMENTS) if packed else None
    prefix = BLOCKS if name == "blocks" else PREFIX if "prefix" in name else None
    arrays = inputs()

    @jax.jit
    def forms(*arrays):
        def run(form):
            told = {"segments": segments, "prefix": None if prefix is None else (prefix, prefix)}
            y, vjp = jax.vjp(lambda *a: attend(*a, rule, **told, implementation=form), *arrays)
            return y, vjp(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        return run("blocked"), run("xla")

    blocked, plain = forms(*arrays)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), blocked, plain
    )
    np.testing.assert_allclose(
        plain[0], by_hand(*arrays, rule, segments, prefix), rtol=1e-4, atol=1e-5
    )


def test_blocked_equals_a_loop_for_a_memory_of_another_length(monkeypatch):
    monkeypatch.setattr(blocked_attention, "BLOCK", 4)
    arrays, segments = (
        inputs(5, 11),
        (jnp.ones((2, 5), jnp.int32), (SEGMENTS > 0).astype(jnp.int32)),
    )
    y = jax.jit(lambda *a: attend(*a, Rule(0.4), segments=segments, implementation="blocked"))(
        *arrays
    )
    np.testing.assert_allclose(y, by_hand(*arrays, Rule(0.4), segments), rtol=1e-4, atol=1e-5)


def test_memory_of_the_blocked_form_grows_with_the_length_not_its_square():
    def peak(form, t):
        q = jax.ShapeDtypeStruct((1, 2, t, 16), jnp.float32)
        loss = lambda q, k, v: attend(q, k, v, Rule(0.25, True), implementation=form).sum()  # noqa: E731
        compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, q, q).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert peak("xla", 2048) > 3 * peak("xla", 1024)
    assert peak("blocked", 2048) < 2.2 * peak("blocked", 1024)
    assert peak("blocked", 2048) < peak("xla", 2048) / 10


def test_large_scores_stay_finite():
    x = 100 * jnp.asarray([1.0, -1.0]).reshape(1, 1, 2, 1)
    for form in ("xla", "blocked"):
        loss = lambda x, f=form: attend(x, x, x, Rule(1.0, True), implementation=f).sum()  # noqa: E731
        value, grad = jax.value_and_grad(loss)(x)
        assert np.isfinite(value) and np.isfinite(grad).all()


def test_rotary_turns_pairs_as_complex_numbers():
    x, places = jax.random.normal(KEY, (1, 2, 5, 6)), jnp.asarray([[0, 3, 4, 7, 100]])
    got = np.asarray(rotate(x, Rotary(100.0).make_table(places, 6)))
    frequencies = 100.0 ** (-np.arange(3) / 3)
    turn = np.exp(1j * np.asarray(places)[0][:, None] * frequencies)
    want = (np.asarray(x[..., :3]) + 1j * np.asarray(x[..., 3:])) * turn
    np.testing.assert_allclose(got, np.concatenate([want.real, want.imag], -1), atol=1e-5)
    np.testing.assert_allclose(
        got, rotate(x, Rotary(100.0).make_table(np.asarray(places), 6)), atol=1e-5
    )


def test_rotary_scores_depend_on_distance_alone():
    q, k = jax.random.normal(KEY, (2, 1, 1, 4, 8))
    places = jnp.asarray([[0, 2, 5, 9]])
    scores = [
        jnp.einsum("bhtd,bhsd->ts", rotate(q, table), rotate(k, table))
        for table in (Rotary().make_table(places + shift, 8) for shift in (0, 77))
    ]
    np.testing.assert_allclose(*scores, atol=1e-4)


def test_scaled_rotary_slows_what_it_says():
    plain = Rotary(500_000.0).frequencies(16)
    np.testing.assert_allclose(Rotary(500_000.0, 4.0).frequencies(16), plain / 4)
    scaled = Rotary(500_000.0, 8.0, trained=8192).frequencies(16)
    wavelength = 2 * math.pi / plain
    np.testing.assert_allclose(scaled[wavelength < 8192 / 4], plain[wavelength < 8192 / 4])
    np.testing.assert_allclose(scaled[wavelength > 8192], plain[wavelength > 8192] / 8)
    middle = (wavelength >= 8192 / 4) & (wavelength <= 8192)
    assert middle.any() and ((scaled < plain) & (scaled > plain / 8))[middle].all()


def test_sinusoids_are_those_of_the_paper():
    table = np.asarray(encode_sinusoids(jnp.arange(4), 6))
    for place, i in np.ndindex(4, 3):
        angle = place / 10_000 ** (i / 3)
        np.testing.assert_allclose(
            table[place, [i, i + 3]], [math.sin(angle), math.cos(angle)], atol=1e-6
        )
