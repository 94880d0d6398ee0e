"""Cross-entropy in chunks is the plain one, in value, gradient and not in memory; what PPO
computes, by hand.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import (
    adapt_kl_coefficient,
    chunked_cross_entropy,
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    kl_k1,
    kl_k3,
    whiten,
)

KEY = jax.random.key(0)
N, D, V = 10, 4, 7
HIDDEN = jax.random.normal(KEY, (N, D))
KERNEL = jax.random.normal(jax.random.key(1), (V, D))
BIAS = jax.random.normal(jax.random.key(2), (V,))
TARGETS = jax.random.randint(KEY, (N,), 0, V)
WEIGHTS = jnp.asarray([1.0, 0, 0.5, 1, 0, 0, 0, 1, 1, 0])


def plain(hidden, kernel, bias, softcap):
    logits = hidden @ kernel.T + (0 if bias is None else bias[None])
    logits = logits if softcap is None else softcap * jnp.tanh(logits / softcap)
    log_total = jnp.log(jnp.exp(logits).sum(-1))
    return log_total - logits[jnp.arange(len(hidden)), TARGETS], log_total


@pytest.mark.parametrize("chunk", [3, 5, 100])
@pytest.mark.parametrize(
    ("bias", "softcap", "weights"), [(None, None, None), (BIAS, 2.0, WEIGHTS), (BIAS, None, None)]
)
def test_chunked_equals_plain_in_value_and_gradient(chunk, bias, softcap, weights):
    mask = jnp.ones(N) if weights is None else weights

    @jax.jit
    def both(*inputs):
        def loss(f):
            def total(inputs):
                nll, log_total = f(*inputs)
                # Uneven, so that no token's gradient can stand for another's; the second term is a
                # z-loss.
                return (mask * (1 + jnp.arange(N)) * (nll + 0.1 * jnp.square(log_total))).sum(), (
                    nll,
                    log_total,
                )

            return jax.value_and_grad(total, has_aux=True)(inputs)

        def chunked(hidden, kernel, bias):
            return chunked_cross_entropy(
                hidden, kernel, TARGETS, bias=bias, weights=weights, softcap=softcap, chunk=chunk
            )

        return loss(chunked), loss(lambda *inputs: plain(*inputs, softcap))

    ((value, results), grads), ((want, plain_results), plain_grads) = both(HIDDEN, KERNEL, bias)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), grads, plain_grads
    )
    for got, expected in zip(results, plain_results, strict=True):
        np.testing.assert_allclose(got, jnp.where(mask > 0, expected, 0), rtol=1e-5, atol=1e-6)


def test_a_masked_token_may_hold_anything_and_one_that_is_none_costs_nan():
    hidden = HIDDEN.at[1].set(jnp.nan)
    targets = TARGETS.at[4].set(-1)
    value, grads = jax.value_and_grad(
        lambda h: (
            chunked_cross_entropy(h, KERNEL, targets, weights=WEIGHTS, chunk=3)[0] * WEIGHTS
        ).sum()
    )(hidden)
    assert np.isfinite(value) and np.isfinite(grads).all()
    nll, _ = chunked_cross_entropy(HIDDEN, KERNEL, TARGETS.at[2].set(V).at[3].set(-1), chunk=3)
    np.testing.assert_array_equal(np.isnan(nll), [False, False, True, True] + [False] * 6)


def test_all_masked_is_zero_with_a_gradient_of_zero():
    def loss(h):
        return chunked_cross_entropy(h, KERNEL, TARGETS, weights=jnp.zeros(N), chunk=3)[0].sum()

    value, grads = jax.value_and_grad(loss)(HIDDEN)
    assert value == 0 and not grads.any()


def test_bfloat16_sums_in_float32():
    n = 4096
    hidden, kernel = jnp.ones((n, D), jnp.bfloat16), jnp.zeros((V, D), jnp.bfloat16)
    targets = jnp.zeros(n, jnp.int32)
    grad = jax.jit(
        jax.grad(lambda k: chunked_cross_entropy(hidden, k, targets, chunk=16)[0].sum())
    )(kernel)
    assert (
        grad.dtype == jnp.bfloat16
    )  # a running sum of its own type would stick at 256 times its addend
    np.testing.assert_allclose(grad[1], n / V, rtol=1e-2)


def test_peak_memory_at_a_large_vocabulary_is_at_most_half_of_the_plain_form():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4096, 64), (50_304, 64))]
    targets = jnp.zeros(4096, jnp.int32)

    def peak(chunk):
        loss = lambda h, k: chunked_cross_entropy(h, k, targets, chunk=chunk)[0].mean()  # noqa: E731
        return (
            jax.jit(jax.grad(loss, (0, 1)))
            .lower(*shapes)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
        )

    small, large = peak(512), peak(4096)  # one chunk is the plain form
    assert large >= 4096 * 50_304 * 4 and small < 0.3 * large, (small, large)


def masked_episodes():
    one, two = jax.random.split(KEY)
    mask = (jnp.arange(6)[None] < jnp.array([6, 3, 1, 0])[:, None]).astype(jnp.float32)
    return jax.random.normal(one, (4, 6)), jax.random.normal(two, (4, 6)), mask


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 1.0), (0.5, 0.0)])
def test_advantages_by_loop_and_by_scan_agree(gamma, lam):
    rewards, values, mask = masked_episodes()
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    wanted = np.zeros((4, 6))
    for row, steps in enumerate((6, 3, 1, 0)):
        for t in range(steps):
            for later in range(t, steps):
                after = values[row, later + 1] if later + 1 < steps else 0
                error = rewards[row, later] + gamma * after - values[row, later]
                wanted[row, t] += (gamma * lam) ** (later - t) * error
    np.testing.assert_allclose(advantages, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(returns, (wanted + values) * mask, rtol=1e-5, atol=1e-6)
    if lam == 1:  # returns are the rewards that came
        discounted = [
            sum(gamma**i * float(r) for i, r in enumerate(rewards[1, t:3])) for t in range(3)
        ]
        np.testing.assert_allclose(returns[1, :3], discounted, rtol=1e-5)


def test_whitening_by_the_published_numbers():
    x = jnp.array([[1.2, 1.3, 1.4], [1.5, 1.6, 1.7], [1.8, 1.9, 2.0]])
    kept = whiten(x, jnp.ones((3, 3)), shift_mean=False)
    np.testing.assert_allclose(
        kept[0], [0.0507, 0.4381, 0.8254], atol=2e-4
    )  # 0.0508 to four places
    np.testing.assert_allclose(kept, 1.6 + (x - 1.6) / np.sqrt(0.6 / 9), rtol=1e-4)
    np.testing.assert_allclose(whiten(x, jnp.ones((3, 3))), kept - 1.6, atol=1e-6)
    mask = jnp.array([[1, 1, 1], [1, 1, 1], [0, 0, 0.0]])
    masked = whiten(x.at[2].set(1e3), mask)
    np.testing.assert_allclose(masked[:2], whiten(x[:2], jnp.ones((2, 3))), rtol=1e-5)
    assert not masked[2].any() and np.isfinite(whiten(x, jnp.zeros((3, 3)))).all()


def test_the_clipped_policy_loss_by_hand():
    ratio, advantages = jnp.array([1.0, 1.5, 0.5, 1.5, 0.5]), jnp.array([2.0, 2.0, 2.0, -2.0, -2.0])
    loss, clipped = clipped_policy_loss(jnp.log(ratio), advantages, 0.2)
    np.testing.assert_allclose(loss, [-2.0, -2.4, -1.0, 3.0, 1.6], rtol=1e-6)
    np.testing.assert_array_equal(clipped, [0, 1, 0, 0, 1])
    slope = jax.grad(lambda r: clipped_policy_loss(r, advantages, 0.2)[0].sum())(jnp.log(ratio))
    np.testing.assert_allclose(slope, [-2.0, 0.0, -1.0, 3.0, 0.0], rtol=1e-6)


def test_the_clipped_value_loss_by_hand():
    values, old, returns = jnp.array([0.1, 1.0, 1.0]), jnp.zeros(3), jnp.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        clipped_value_loss(values, old, returns, 0.2), [0.405, 0.32, 0.5], rtol=1e-6
    )


def test_both_estimates_have_the_mean_of_the_kl():
    p, q = jnp.array([0.1, 0.2, 0.7]), jnp.array([0.3, 0.3, 0.4])
    exact = (p * jnp.log(p / q)).sum()
    for estimate in (kl_k1, kl_k3):
        np.testing.assert_allclose((p * estimate(jnp.log(p), jnp.log(q))).sum(), exact, rtol=1e-5)
    assert (kl_k3(jnp.log(p), jnp.log(q)) >= 0).all() and (kl_k1(jnp.log(p), jnp.log(q)) < 0).any()


def test_the_kl_coefficient_moves_towards_its_target():
    """Coefficient 0.15, target 6, horizon 10,000, as published; 512 examples a step."""
    moved = lambda kl: adapt_kl_coefficient(0.15, kl, 6.0, 512, 10_000)  # noqa: E731
    assert moved(6.0) == jnp.float32(0.15)
    np.testing.assert_allclose(moved(6.6), 0.15 * (1 + 0.1 * 0.0512), rtol=1e-6)
    np.testing.assert_allclose(moved(60.0), 0.15 * (1 + 0.2 * 0.0512), rtol=1e-6)
    np.testing.assert_allclose(moved(0.0), 0.15 * (1 - 0.2 * 0.0512), rtol=1e-6)
