"""Diffusion over mixed columns: exact posteriors, bounds, and samples whose law is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion import multinomial
from genjax.families.diffusion.rows import DrawRows
from genjax.families.diffusion.tabular import TabularDiffusion, walk_rows
from genjax.family import init_state, make_example, with_inputs
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import Adam
from genjax.samplers.diffusion.processes import VPCosine

KEY = jax.random.key(0)
K = 3
PROCESS = VPCosine()


def transition(keep):
    return keep * np.eye(K) + (1 - keep) / K


def test_the_posterior_of_a_category_is_that_of_bayes_rule():
    kept, kept_before = 0.2, 0.7
    found = jax.jit(multinomial.posterior)(
        jnp.broadcast_to(jnp.eye(K)[:, None], (K, K, K)),
        jnp.broadcast_to(jnp.eye(K)[None], (K, K, K)),
        jnp.full((K, K), kept),
        jnp.full((K, K), kept_before),
    )
    first, second = transition(kept_before), transition(kept / kept_before)
    for x_t, x_0 in itertools.product(range(K), range(K)):
        joint = first[x_0] * second[:, x_t]
        np.testing.assert_allclose(found[x_t, x_0], joint / joint.sum(), atol=1e-6)
    np.testing.assert_allclose(first @ second, transition(kept), atol=1e-12)


def test_the_divergence_of_shares_is_its_closed_form():
    p, q = jnp.asarray([0.5, 0.25, 0.25]), jnp.asarray([0.25, 0.25, 0.5])
    np.testing.assert_allclose(multinomial.kl(p, q), 0.25 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(multinomial.kl(jnp.eye(3)[2], q), np.log(2), rtol=1e-5)


def test_the_bound_of_a_model_that_knows_the_shares_is_their_entropy():
    """If the network knows the shares, the reverse process is exact, and so is the bound."""
    shares, family = jnp.asarray([0.6, 0.3, 0.1]), TabularDiffusion(steps=7)
    kept = family.share_kept(jnp.arange(8))

    def term(t, x_t, x_0):
        hot, seen = jnp.eye(K)[x_0], jnp.eye(K)[x_t]
        weight = shares[x_0] * multinomial.diffuse(hot, kept[t])[x_t]
        true, model = (
            multinomial.posterior(seen, guess, kept[t], kept[t - 1]) for guess in (hot, shares)
        )
        return weight * multinomial.kl(true, model)

    every = jnp.asarray(list(itertools.product(range(1, 8), range(K), range(K))))
    bound = float(jax.jit(jax.vmap(term))(*every.T).sum())
    entropy = -float((shares * jnp.log(shares)).sum())
    # What is left at the last step, KL(q(x_T | x_0) || q(x_T)), is no part of the terms.
    np.testing.assert_allclose(bound, entropy, atol=1e-3)


def test_rows_of_an_exact_model_have_its_law():
    """One number N(1, 0.25) and one category, independent: their exact estimates are known."""
    shares = jnp.asarray([0.6, 0.3, 0.1])

    def estimate(x, t):
        alpha, sigma = PROCESS.alpha_sigma(t)
        gain = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)
        return 1 + gain * (x[0] - alpha), (jnp.broadcast_to(shares, x[1][0].shape),)

    n = 4000
    start = jax.random.normal(KEY, (n, 1)), (jax.nn.one_hot(jnp.arange(n) % K, K),)
    clean = jnp.zeros((n, 1)), (jnp.zeros((n, K)),)
    given = jnp.zeros(1, bool)
    held = jnp.zeros((n, 1), bool), clean
    numbers, (hot,) = walk_rows(estimate, PROCESS, 100, start, held, given, KEY)
    np.testing.assert_allclose([numbers.mean(), numbers.std()], [1, 0.5], atol=0.03)
    np.testing.assert_allclose(hot.mean(0), shares, atol=0.03)


def test_filled_cells_have_the_known_conditional_law():
    """Two normal numbers with correlation 0.8: given the first, the second is N(0.8 a, 0.36)."""
    covariance = jnp.asarray([[1.0, 0.8], [0.8, 1.0]])

    def estimate(x, t):
        alpha, sigma = PROCESS.alpha_sigma(t)
        gain = alpha * covariance @ jnp.linalg.inv(alpha**2 * covariance + sigma**2 * jnp.eye(2))
        return x[0] @ gain.T, x[1]

    n, a = 2000, 1.5
    ones = (jnp.ones((n, 1)), jnp.ones((n, 1)))
    start = jax.random.normal(KEY, (n, 2)), ones
    clean = jnp.full((n, 2), a), ones
    known = jnp.broadcast_to(jnp.asarray([True, False]), (n, 2))
    given = jnp.zeros(2, bool)
    numbers, _ = walk_rows(estimate, PROCESS, 100, start, (known, clean), given, KEY, resample=10)
    np.testing.assert_array_equal(numbers[:, 0], a)
    np.testing.assert_allclose(numbers[:, 1].mean(), 0.8 * a, atol=0.06)
    np.testing.assert_allclose(numbers[:, 1].std(), 0.6, atol=0.06)


SPEC = Spec(
    "table",
    (8,),
    np.asarray([0.0, 0, 1, 1, 0.25, 0.75, 0.5, 0.5], np.float32),
    categories=(1, 1, 2, 2),
    conditions=(3,),
)
FAMILY = TabularDiffusion(net=ResidualMLP(16, 1, 16), width=8, steps=10)


def state_of(family=FAMILY):
    def make():
        return init_state(*family.init(KEY, make_example(SPEC), SPEC), Adam().build(10), KEY)

    return jax.jit(make)()


def test_the_class_is_never_noised_and_drawn_from_its_shares():
    state = state_of()
    rows = FAMILY.sample(state, KEY, 2000, DrawRows(4, 1))
    np.testing.assert_allclose(rows[:, 6:].mean(0), [0.5, 0.5], atol=0.04)
    one = FAMILY.sample(state, KEY, 8, DrawRows(4, 1, allowed=((3, (1,)),)))
    np.testing.assert_array_equal(one[:, 7], 1)
    np.testing.assert_array_equal(one[:, 2:4], 1)


def test_known_cells_are_kept():
    inputs = {
        "numeric": jnp.asarray([[1.25, 0.0]] * 4),
        "categorical": jnp.asarray([[0, 0, 1, 0]] * 4),
        "known": jnp.asarray([[1.0, 0, 1, 1]] * 4),
    }
    rows = FAMILY.sample(with_inputs(state_of(), inputs), KEY, 4, DrawRows(4, 3))
    np.testing.assert_array_equal(rows[:, [0, 5, 6]], [[1.25, 1, 1]] * 4)
    assert len(np.unique(rows[:, 1])) == 4


def test_a_silent_network_pays_for_uniform_categories():
    """With logits of 0 for K values the bound is log K, whatever the timestep adds up to."""
    family = TabularDiffusion(net=ResidualMLP(16, 1, 16), width=8, steps=10, conditional=False)
    state = state_of(family)
    rows = 4096
    nothing, turns = jnp.zeros(rows, jnp.int32), jnp.arange(rows) % 2
    batch = {
        "numeric": jax.random.normal(KEY, (rows, 2)),
        "categorical": jnp.stack([nothing, nothing, turns, turns], 1),
        "mask": jnp.ones(rows),
    }
    found = family.evaluate(state, batch, KEY)
    np.testing.assert_allclose(found["multinomial"].value, np.log(2), rtol=0.05)
    np.testing.assert_allclose(found["gaussian"].value, 1, rtol=0.05)  # v has unit variance


def test_other_data_are_refused():
    points = Spec("points", (2,), np.zeros(2, np.float32))
    with pytest.raises(UserError, match="tables"):
        FAMILY.init(KEY, make_example(points), points)
