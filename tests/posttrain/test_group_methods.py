"""RLOO and online DPO: advantages and losses by hand, groups that stay together, ties."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.optim import SGD
from genjax.posttrain.continued import BASE
from genjax.posttrain.minibatches import take_minibatch
from genjax.posttrain.online_dpo import OnlineDPO
from genjax.posttrain.rloo import RLOO, leave_one_out
from genjax.posttrain.rollouts import score_tokens
from genjax.schedules import Constant
from tests.grouped import (
    BASE_FAMILY,
    KEY,
    B,
    G,
    N,
    begins_with_b,
    by_letters,
    moved,
    prompts_batch,
    resolve,
    state_of,
    updated,
)

RLOO_ = resolve(RLOO("base", by_letters, new_tokens=N, group=G, kl=0.3))
ONLINE = resolve(OnlineDPO("base", by_letters, new_tokens=N, group=2, beta=0.4))
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@functools.cache
def collected(family):
    """A batch drawn by a policy that has left the reference."""
    state = state_of(family)
    state = state.replace(params=moved(state.params, by=0.2))
    return state, family.collect(state, prompts_batch(), KEY)


def response_log_probs(params, batch):
    own = score_tokens(BASE_FAMILY, params, batch["tokens"], batch["real"], N)
    return (own.log_probs * batch["response_mask"]).sum(1)


def test_each_return_is_compared_with_the_mean_of_the_others():
    found = leave_one_out(jnp.array([1.0, 0, 0, 5, 2, 2, 2, 2]), 4)
    close(found, [1 - 5 / 3, -2, -2, 5 - 1 / 3, 0, 0, 0, 0])
    drawn = jax.random.normal(KEY, (24,))
    for group in (2, 3, 8):
        close(leave_one_out(drawn, group).reshape(-1, group).sum(1), 0)


def test_the_kl_lowers_the_returns():
    _, batch = collected(RLOO_)
    returns = np.asarray(batch["reward"] - 0.3 * batch["kl"]).reshape(-1, G)
    expected = [[r - np.delete(row, i).mean() for i, r in enumerate(row)] for row in returns]
    close(batch["advantage"], np.ravel(expected))
    assert np.abs(batch["kl"]).max() > 0.1


def test_one_update_of_rloo_is_reinforce():
    state, batch = collected(RLOO_)

    def loss(params):
        return -(batch["advantage"] * response_log_probs(params, batch)).mean()

    after, metrics = updated(RLOO_, state, batch)
    gradient = jax.jit(jax.grad(loss))(state.params)
    jax.tree.map(lambda a, p, g: close(a, p - 0.1 * g), after.params, state.params, gradient)
    close(metrics["clip_fraction"].value, 0)
    close(metrics["reward"].value, np.mean(batch["reward"]))


def test_responses_far_from_where_they_were_drawn_are_clipped():
    family = resolve(RLOO("base", by_letters, new_tokens=N, group=G, clip=1e-3))
    state, batch = collected(RLOO_)
    other = state.replace(params=moved(state.params, seed=3))
    # ``log_probs`` of places after the end do not count.
    ratio = jnp.exp(
        response_log_probs(other.params, batch)
        - (batch["log_probs"] * batch["response_mask"]).sum(1)
    )
    gain = batch["advantage"]
    losses = -jnp.minimum(gain * ratio, gain * jnp.clip(ratio, 1 - 1e-3, 1 + 1e-3))
    _, metrics = updated(family, other, batch)
    close(metrics["loss"].value, losses.mean())
    assert 0 < metrics["clip_fraction"].value < 1


def pairs_of(batch, group):
    """The chosen and the rejected row of each group, and whether it is no tie."""
    rewards = np.asarray(batch["reward"]).reshape(-1, group)
    first = np.arange(len(rewards)) * group
    return first + rewards.argmax(1), first + rewards.argmin(1), rewards.max(1) > rewards.min(1)


@pytest.mark.parametrize("group", [2, 4])
def test_online_dpo_is_dpo_on_the_best_and_the_worst(group):
    family = resolve(OnlineDPO("base", by_letters, new_tokens=N, group=group, beta=0.4))
    state, batch = collected(family)
    reference = state.frozen[BASE]["params"]
    chosen, rejected, differ = pairs_of(batch, group)
    assert differ.any()

    def loss(params):
        gained = response_log_probs(params, batch) - response_log_probs(reference, batch)
        margin = 0.4 * (gained[chosen] - gained[rejected])
        return (jnp.logaddexp(-margin, 0) * differ).mean()

    expected, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
    after, metrics = updated(family, state, batch)
    close(metrics["loss"].value, expected)
    jax.tree.map(lambda a, p, g: close(a, p - 0.1 * g), after.params, state.params, gradient)


def test_groups_stay_together_in_minibatches_and_microbatches():
    state, batch = collected(ONLINE)
    whole = updated(ONLINE, state, batch)[0]
    parts = updated(ONLINE, state, batch, SGD(Constant(0.1), accumulate=4))[0]
    jax.tree.map(close, whole.params, parts.params)
    folded = {name: x.reshape(-1, 2, *x.shape[1:]) for name, x in batch.items()}
    numbers = {"mask": folded["mask"], "row": jnp.arange(B).reshape(-1, 2)}
    seen = [take_minibatch(numbers, KEY, jnp.asarray(n), 4)["row"] for n in range(4)]
    np.testing.assert_array_equal(np.diff(np.concatenate(seen))[:, 0], 1)
    np.testing.assert_array_equal(np.sort(np.ravel(seen)), np.arange(B))


def test_equal_rewards_teach_nothing():
    family = resolve(OnlineDPO("base", lambda p, r: [1.0] * len(r), new_tokens=N, group=2))
    state, batch = collected(family)
    after, metrics = updated(family, state, batch)
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    found = {name: float(mean.value) for name, mean in metrics.items()}
    assert found["tied"] == 1 and found["loss"] == found["margin"] == 0
    assert found["accuracy"] == 0.5 and found["skipped"] == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: RLOO("base", begins_with_b, new_tokens=N, group=G, kl=0.0),
        lambda: OnlineDPO("base", begins_with_b, new_tokens=N, group=2, beta=0.05),
    ],
    ids=["rloo", "online_dpo"],
)
def test_the_reward_rises(make):
    family = resolve(make())
    state = state_of(family, SGD(Constant(1.0)))
    found = []
    for number in range(12):
        batch = family.collect(state, prompts_batch(64), jax.random.fold_in(KEY, number))
        found.append(float(np.mean(batch["reward"])))
        state, _ = updated(family, state, batch, SGD(Constant(1.0)))
    assert np.mean(found[-2:]) > np.mean(found[:2]) + 0.2


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: RLOO("base", by_letters, kl=-1.0), "kl"),
        (lambda: RLOO("base", by_letters, clip=0.0), "clip"),
        (lambda: RLOO("base", by_letters, group=1), "group"),
        (lambda: OnlineDPO("base", by_letters, beta=0.0), "beta"),
        (lambda: OnlineDPO("base", "a reward"), "reward"),
        (lambda: RLOO_.check_batch(6, 6, 1), "batch_size"),
        (lambda: ONLINE.check_batch(16, 3, 1), "batch_size"),
        (lambda: ONLINE.check_batch(6, 6, 2), "family.minibatches"),
    ],
)
def test_what_does_not_fit_is_refused(make, field):
    with pytest.raises(UserError) as found:
        make()
    assert found.value.field == field
