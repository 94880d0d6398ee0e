"""KTO, ORPO and SimPO: losses and gradients by hand, responses after other prompts, padding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.optim import SGD
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE
from genjax.posttrain.kto import KTO
from genjax.posttrain.orpo import ORPO, compute_log_odds
from genjax.posttrain.paired import count_tokens, measure_drift, swap_responses
from genjax.posttrain.simpo import SimPO
from genjax.schedules import Constant
from tests.paired import (
    BASE_FAMILY,
    SIDES,
    B,
    P,
    T,
    batch_of,
    by_hand,
    close,
    evaluated,
    moved,
    resolve,
    rewarded,
    state_of,
    stepped,
)

SIMPO = resolve(SimPO("base", beta=1.5, gamma=0.4))
ORPO_ = resolve(ORPO("base", weight=0.3))
KTO_ = resolve(KTO("base", beta=0.6, desirable=1.2, undesirable=0.7))


def softplus(x):
    return jnp.logaddexp(x, 0.0)


def simpo_losses(log_p, known, sizes, drift):
    margin = 1.5 * (log_p / sizes)
    return softplus(-(margin[:, 0] - margin[:, 1] - 0.4))


def orpo_losses(log_p, known, sizes, drift):
    p = jnp.exp(log_p / sizes)
    odds = p / (1 - p)
    return -jnp.log(p[:, 0]) + 0.3 * jnp.log1p(odds[:, 1] / odds[:, 0])


def kto_losses(log_p, known, sizes, drift):
    gained = log_p - known
    good = 1.2 * (1 - 1 / (1 + jnp.exp(-0.6 * (gained[:, 0] - drift))))
    bad = 0.7 * (1 - 1 / (1 + jnp.exp(-0.6 * (drift - gained[:, 1]))))
    return (good + bad) / 2


METHODS = pytest.mark.parametrize(
    ("family", "losses"),
    [(SIMPO, simpo_losses), (ORPO_, orpo_losses), (KTO_, kto_losses)],
    ids=["simpo", "orpo", "kto"],
)


def drift_by_hand(params, reference, batch):
    """The mean log-ratio of the chosen responses after the prompts of the rows before."""
    tokens, response = by_rows(batch)
    swapped = {f"{side}_tokens": tokens for side in SIDES}
    swapped |= {f"{side}_response": response for side in SIDES}
    gained = by_hand(params, swapped)[:, 0] - by_hand(reference, swapped)[:, 0]
    return jnp.maximum(gained.mean(), 0.0)


def by_rows(batch):
    """The swap, row by row."""
    tokens, response = np.zeros((B, T), np.int32), np.zeros((B, T), np.float32)
    for row in range(B):
        said = np.asarray(batch["chosen_response"][row]) > 0
        answer = np.asarray(batch["chosen_tokens"][row])[said]
        prompt = np.asarray(batch["chosen_tokens"][row - 1])[:P]
        whole = np.concatenate([prompt, answer])[:T]
        tokens[row, : len(whole)] = whole
        response[row, P : len(whole)] = 1
    return jnp.asarray(tokens), jnp.asarray(response)


def test_responses_go_after_the_prompts_of_the_rows_before():
    batch = batch_of()
    tokens, response = swap_responses(batch)
    expected, said = by_rows(batch)
    np.testing.assert_array_equal(response, said)
    there = (np.arange(T)[None] < P) | (np.asarray(said) > 0)
    np.testing.assert_array_equal(np.where(there, tokens, 0), np.where(there, expected, 0))


def test_a_longer_prompt_cuts_the_response():
    batch = batch_of()
    late = jnp.zeros((B, T)).at[:, T - 2 :].set(1)
    early = jnp.zeros((B, T)).at[:, 1:].set(1)
    batch |= {"chosen_response": jnp.where(jnp.arange(B)[:, None] % 2, early, late)}
    batch |= {"chosen_mask": jnp.ones((B, T))}
    tokens, response = swap_responses(batch)
    own = np.asarray(batch["chosen_tokens"])
    np.testing.assert_array_equal(response[1], late[0])
    np.testing.assert_array_equal(tokens[1], [*own[0][: T - 2], *own[1][1:3]])
    np.testing.assert_array_equal(response[2], [0, 1, 1, *[0] * (T - 3)])
    np.testing.assert_array_equal(tokens[2][:3], [own[1][0], *own[2][T - 2 :]])


def test_the_drift_by_hand():
    state, batch = state_of(KTO_), batch_of()
    reference = state.frozen[BASE]["params"]
    for seed in range(4):
        params = moved(state.params, seed, 0.2)
        expected = drift_by_hand(params, reference, batch)
        close(measure_drift(BASE_FAMILY, params, reference, batch), expected)
    assert measure_drift(BASE_FAMILY, reference, reference, batch) == 0


@METHODS
@pytest.mark.parametrize("by", [0.0, 0.2])
def test_losses_and_gradients_by_hand(family, losses, by):
    state, batch = state_of(family, by), batch_of()
    reference = state.frozen[BASE]["params"]
    known, sizes = by_hand(reference, batch), count_tokens(batch)
    drift = drift_by_hand(state.params, reference, batch)

    def loss(params):
        return losses(by_hand(params, batch), known, sizes, drift).mean()

    expected, gradient = jax.value_and_grad(loss)(state.params)
    after, metrics = stepped(family, state, batch)
    close(metrics["loss"].value, expected)
    close(evaluated(family, family.eval_state(state), batch)["loss"], expected)
    jax.tree.map(
        lambda a, p, g: close(a, p - 0.1 * g, atol=1e-5), after.params, state.params, gradient
    )


def test_rewards_by_hand():
    batch = batch_of()
    state = state_of(SIMPO, 0.2)
    log_p, known = (
        np.asarray(by_hand(params, batch))
        for params in (state.params, state.frozen[BASE]["params"])
    )
    sizes = np.asarray(count_tokens(batch))
    p = np.exp(log_p / sizes)
    for family, expected in (
        (SIMPO, 1.5 * log_p / sizes),
        (ORPO_, np.log(p / (1 - p))),
        (KTO_, 0.6 * (log_p - known)),
    ):
        close(rewarded(family, family.eval_state(state), batch), expected.T, atol=1e-5)


def test_kto_begins_at_half_the_mean_weight():
    state = state_of(KTO_)
    found = evaluated(KTO_, KTO_.eval_state(state), batch_of())
    close([found["loss"], found["drift"], found["accuracy"]], [(1.2 + 0.7) / 4, 0, 0.5])


def test_log_odds_of_the_nearly_certain_and_the_impossible_are_finite():
    found = compute_log_odds(jnp.array([0.0, -1e-9, math.log(0.5), math.log(0.25), -80.0]))
    close(found[2:], [0.0, -math.log(3), -80.0], atol=1e-5)
    assert np.isfinite(found).all() and found[0] == found[1] > 13
    slope = jax.grad(lambda x: compute_log_odds(x).sum())(jnp.array([0.0, -80.0]))
    assert np.isfinite(slope).all()


@METHODS
def test_rows_that_fill_a_batch_up_weigh_nothing(family, losses):
    # The last rows: KTO swaps neighbours.
    state, batch = state_of(family, 0.2), batch_of()
    mask = jnp.array([1, 1, 1, 1, 0, 0.0])
    other = batch | {"chosen_tokens": batch["chosen_tokens"].at[4:].set(1)}
    (a, one), (b, two) = (stepped(family, state, rows | {"mask": mask}) for rows in (batch, other))
    jax.tree.map(close, a.params, b.params)
    assert one["loss"].weight == two["loss"].weight == 4
    if family is not KTO_:
        alone = {name: value[:4] for name, value in batch.items()}
        jax.tree.map(close, a.params, stepped(family, state, alone)[0].params)


@pytest.mark.parametrize("family", [SIMPO, ORPO_], ids=["simpo", "orpo"])
def test_microbatches_make_no_difference(family):
    state, batch = state_of(family, 0.1), batch_of(8)
    whole, parts = (stepped(family, state, batch, SGD(Constant(0.1), accumulate=n)) for n in (1, 4))
    jax.tree.map(close, whole[0].params, parts[0].params)


@METHODS
def test_adapters_alone_are_trained(family, losses):
    family = resolve(type(family)("base", adapters=Adapters(2, targets=("query/kernel",))))
    state, batch = state_of(family), batch_of()
    after, _ = stepped(family, state, batch)
    jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(after.params) < 0.2 * size(state.frozen[BASE]["params"])


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: SimPO("base", beta=0.0), "beta"),
        (lambda: SimPO("base", gamma=-0.1), "gamma"),
        (lambda: ORPO("base", weight=-1.0), "weight"),
        (lambda: KTO("base", beta=-1.0), "beta"),
        (lambda: KTO("base", undesirable=-1.0), "undesirable"),
        (lambda: KTO_.check_batch(4, 4, 4), "batch_size"),
    ],
)
def test_what_does_not_fit_is_refused(make, field):
    with pytest.raises(UserError) as found:
        make()
    assert found.value.field == field
