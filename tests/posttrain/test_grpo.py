"""GRPO: advantages and the first gradient by hand, what each option changes, one device and
eight, bitwise resume.
"""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.continued import apply_initial_params
from genjax.data.sources import RandomWalks
from genjax.errors import UserError
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.families.masked_lm import MaskedLM
from genjax.family import Trained, init_state
from genjax.losses import clipped_policy_loss
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE
from genjax.posttrain.groups import make_experience, update
from genjax.posttrain.grpo import GRPO, compute_group_advantages, compute_policy_losses
from genjax.posttrain.rollouts import draw_rollout, score_tokens
from genjax.schedules import Constant, Linear
from genjax.trees import named_leaves
from tests.grouped import (
    BASE_FAMILY,
    CODEC,
    KEY,
    SPEC,
    B,
    G,
    N,
    P,
    begins_with_b,
    by_letters,
    moved,
    prompts_batch,
    resolve,
    state_of,
    updated,
)


def family_of(**changes):
    settings = {"new_tokens": N, "epochs": 2, "minibatches": 2, "reward": by_letters, "group": G}
    return resolve(GRPO("base", **settings | changes))


FAMILY = family_of()
AT_ONCE = {"epochs": 1, "minibatches": 1}


@functools.cache
def collected():
    return FAMILY.collect(state_of(FAMILY), prompts_batch(), KEY)


def test_what_is_collected_has_the_shapes_that_a_plan_compiles_for():
    shapes = FAMILY.shape_collected(state_of(FAMILY), prompts_batch())
    assert {name: (x.shape, x.dtype) for name, x in shapes.items()} == {
        name: (np.shape(x), np.asarray(x).dtype) for name, x in collected().items()
    }


def test_advantages_by_hand():
    rewards = jnp.array([1.0, 0, 0, 1, 3, 3, 3, 3, 0, 1, 2, 5])
    found, tied = compute_group_advantages(rewards, 4, scale_by_std=False)
    np.testing.assert_allclose(found, [0.5, -0.5, -0.5, 0.5, 0, 0, 0, 0, -2, -1, 0, 3], atol=1e-6)
    np.testing.assert_array_equal(tied, [False] * 4 + [True] * 4 + [False] * 4)
    scaled, _ = compute_group_advantages(rewards, 4, scale_by_std=True)
    np.testing.assert_allclose(
        scaled, np.array(found) / np.repeat([0.5, 1, np.sqrt((4 + 1 + 0 + 9) / 4)], 4), rtol=1e-5
    )


def test_advantages_of_a_group_sum_to_0_whatever_is_added_to_rewards_or_multiplies_them():
    rewards = jax.random.normal(KEY, (24,))
    for scale in (False, True):
        found, _ = compute_group_advantages(rewards, 6, scale)
        np.testing.assert_allclose(found.reshape(4, 6).sum(1), 0, atol=1e-5)
        shifted, _ = compute_group_advantages(rewards + jnp.repeat(jnp.arange(4.0), 6), 6, scale)
        np.testing.assert_allclose(shifted, found, atol=1e-5)
        longer, _ = compute_group_advantages(100 * rewards, 6, scale)
        np.testing.assert_allclose(longer, (1 if scale else 100) * found, rtol=1e-4)


@pytest.mark.long
def test_equal_rewards_teach_nothing_even_where_their_mean_is_another_number():
    for reward in np.random.default_rng(0).normal(size=50):
        found, tied = compute_group_advantages(
            jnp.full(7, reward, jnp.float32), 7, scale_by_std=True
        )
        assert not found.any() and tied.all()
    batch = family_of(reward=lambda prompts, responses: [0.1] * len(prompts)).collect(
        state_of(FAMILY), prompts_batch(), KEY
    )
    state = state_of(FAMILY)
    after, metrics = updated(family_of(kl=0.0), state, batch)
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    assert metrics["tied"].value == 1


def test_the_first_of_each_group_of_rows_is_asked_several_times():
    batch, prompts = collected(), prompts_batch()
    assert len(batch["mask"]) == B
    for row in range(B):
        asked = np.asarray(batch["tokens"][row, :P])[np.asarray(batch["real"][row, :P])]
        first = row // G * G
        np.testing.assert_array_equal(
            asked, prompts["tokens"][first, : int(prompts["prefix_mask"][first].sum())]
        )
    answers = np.asarray(batch["tokens"][:, P:]).reshape(-1, G, N)
    assert all(len(np.unique(group, axis=0)) > 1 for group in answers), (
        "responses of a group are drawn apart"
    )
    wanted, _ = compute_group_advantages(batch["reward"], G, scale_by_std=True)
    np.testing.assert_allclose(batch["advantage"], wanted, rtol=1e-6)
    assert batch["advantage"].any() and not batch["kl"].any(), "it begins as the reference"
    texts = [
        CODEC.decode(row[mask])
        for row, mask in zip(answers.reshape(B, N), np.asarray(batch["real"][:, P:]), strict=True)
    ]
    np.testing.assert_allclose(batch["reward"], by_letters([], texts), rtol=1e-6)


def test_kl_is_that_of_a_response_to_the_reference():
    state, batch = state_of(FAMILY), prompts_batch()
    params, reference = moved(state.params), state.frozen[BASE]["params"]
    drawn = draw_rollout(
        BASE_FAMILY, params, batch["tokens"], jnp.ones((B, P), bool), N, KEY, ((0,),), 0
    )
    found = make_experience(
        FAMILY, params, reference, drawn, {"reward": jnp.arange(float(B))}, jnp.ones(B)
    )
    own, known = (
        score_tokens(BASE_FAMILY, p, drawn.tokens, drawn.real, N).log_probs
        for p in (params, reference)
    )
    mask = np.asarray(drawn.real[:, P:], np.float32)
    np.testing.assert_allclose(found["kl"], ((own - known) * mask).sum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["response_mask"], mask)
    np.testing.assert_array_equal(found["response_length"], mask.sum(1))
    np.testing.assert_allclose(found["log_probs"], own, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["reference_log_probs"], known, rtol=1e-5, atol=1e-6)
    assert 0 < mask.mean() < 1 and abs(found["kl"]).max() > 0.1


def by_hand(batch, length_normalised, kl, params, reference):
    """The gradient of the policy: of each response its advantage times that of log p, and that
    of the k3 KL.
    """

    def loss(params):
        own = score_tokens(BASE_FAMILY, params, batch["tokens"], batch["real"], N).log_probs
        known = score_tokens(BASE_FAMILY, reference, batch["tokens"], batch["real"], N).log_probs
        total = 0.0
        for row in range(B):
            length = int(batch["response_length"][row])
            gap = (known - own)[row, :length]
            terms = -batch["advantage"][row] * own[row, :length] + kl * (jnp.exp(gap) - 1 - gap)
            total += terms.sum() / (length if length_normalised else N) / B
        return total

    return jax.grad(loss)(params)


@pytest.mark.parametrize("length_normalised", [True, False])
@pytest.mark.parametrize("scale_by_std", [True, False])
@pytest.mark.long
def test_the_gradient_of_the_first_minibatch_is_that_of_the_policy_by_hand(
    length_normalised, scale_by_std
):
    family = family_of(
        length_normalised=length_normalised, scale_by_std=scale_by_std, kl=0.3, **AT_ONCE
    )
    state = state_of(family)
    state = state.replace(params=moved(state.params))
    reference = state.frozen[BASE]["params"]
    batch = family.collect(state, prompts_batch(), KEY)
    advantages, _ = compute_group_advantages(batch["reward"], G, scale_by_std)
    np.testing.assert_allclose(batch["advantage"], advantages, rtol=1e-6)
    after, metrics = updated(family, state, batch)
    wanted = by_hand(batch, length_normalised, 0.3, state.params, reference)
    got = jax.tree.map(lambda a, b: (a - b) / 0.1, state.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), got, wanted)
    assert metrics["clip_fraction"].value == 0 and abs(metrics["approx_kl"].value) < 1e-6
    lengths = np.asarray(batch["response_length"])
    assert lengths.min() < lengths.max() <= N, "so that the two divisions differ"
    share = np.asarray(batch["response_mask"]) / (lengths[:, None] if length_normalised else N)
    np.testing.assert_allclose(
        metrics["policy_loss"].value,
        -(np.asarray(batch["advantage"])[:, None] * share).sum() / B,
        rtol=1e-4,
        atol=1e-6,
    )
    gap = np.asarray(batch["reference_log_probs"] - batch["log_probs"])
    k3 = ((np.exp(gap) - 1 - gap) * share).sum() / B
    np.testing.assert_allclose(metrics["kl_loss"].value, k3, rtol=1e-4)
    np.testing.assert_allclose(
        metrics["loss"].value, metrics["policy_loss"].value + 0.3 * k3, rtol=1e-4
    )


def test_responses_above_and_below_are_clipped_apart():
    log_ratio = jnp.log(jnp.array([[0.5, 0.85, 1.0, 1.25, 1.5]]))
    for advantage in (1.0, -1.0):
        same, clipped = compute_policy_losses(log_ratio, jnp.full((1, 1), advantage), 0.2)
        for a, b in zip(
            (same, clipped),
            clipped_policy_loss(log_ratio, jnp.full((1, 1), advantage), 0.2),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    losses, clipped = compute_policy_losses(log_ratio, jnp.ones((1, 1)), 0.2, 0.3)
    np.testing.assert_allclose(losses[0], [-0.5, -0.85, -1, -1.25, -1.3], rtol=1e-6)
    np.testing.assert_array_equal(clipped[0], [0, 0, 0, 0, 1])
    losses, clipped = compute_policy_losses(log_ratio, -jnp.ones((1, 1)), 0.2, 0.3)
    np.testing.assert_allclose(losses[0], [0.8, 0.85, 1, 1.25, 1.5], rtol=1e-6)
    np.testing.assert_array_equal(clipped[0], [1, 0, 0, 0, 0])


def test_a_train_step_makes_all_updates_and_counts_one():
    batch = collected()
    state, metrics = updated(FAMILY, state_of(FAMILY), batch, SGD(Linear(0.1, 0.0)))
    assert state.step == 1 and state.opt_state.updates == 4
    assert metrics["approx_kl"].value > 0 and metrics["reward"].weight == 2 * B, (
        "each response in each epoch"
    )
    np.testing.assert_allclose(
        metrics["learning_rate"].value, 0.1, rtol=1e-6
    )  # that of the train step
    for name in ("reward", "kl", "response_length", "tied"):
        np.testing.assert_allclose(metrics[name].value, batch[name].mean(), rtol=1e-6, atol=1e-7)
    before, after = (
        score_tokens(BASE_FAMILY, params, batch["tokens"], batch["real"], N).log_probs
        for params in (state_of(FAMILY).params, state.params)
    )
    gained = (batch["advantage"][:, None] * batch["response_mask"] * (after - before)).sum()
    assert gained > 0, "what was better than its group is more probable"


def test_it_is_judged_as_the_policy_and_begins_as_the_base():
    state = state_of(FAMILY)
    jax.tree.map(np.testing.assert_array_equal, state.params, state.frozen[BASE]["params"])
    judged = FAMILY.eval_state(state.replace(params=moved(state.params)))
    jax.tree.map(np.testing.assert_array_equal, judged.params, moved(state.params))
    assert FAMILY.wrapped == BASE_FAMILY and judged.frozen is None and judged.variables == {}
    averaged = init_state(
        state.params, {}, dataclasses.replace(SGD(Constant(0.1)).build(4), ema=0.9), KEY
    )
    averaged = apply_initial_params(FAMILY, averaged.replace(frozen=state.frozen))
    jax.tree.map(np.testing.assert_array_equal, averaged.ema, state.params)
    assert family_of(sampler=Decoding(steps=3)).wrapped == dataclasses.replace(
        BASE_FAMILY, sampler=Decoding(steps=3)
    )
    assert (
        "12 nats per response, above 10 (family.kl_alarm)"
        in family_of(kl_alarm=10.0).warnings({"kl": 12.0})[0]
    )


def test_adapters_alone_are_trained_and_the_reference_is_what_they_stand_on():
    family = family_of(adapters=Adapters(2, targets=("query/kernel", "up/kernel"), whole=("norm",)))
    state = state_of(family)
    learned = state.frozen[BASE]["params"]
    jax.tree.map(np.testing.assert_array_equal, family.eval_state(state).params, learned)
    batch = family.collect(state, prompts_batch(), KEY)
    assert not batch["kl"].any(), "it begins as the reference"
    np.testing.assert_allclose(batch["log_probs"], collected()["log_probs"], atol=1e-6)
    after, _ = updated(family, state, batch)
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(after.params) < 0.5 * size(learned)
    jax.tree.map(np.testing.assert_array_equal, after.frozen[BASE]["params"], learned)
    judged = family.eval_state(after).params
    changed = {
        name
        for name, leaf in named_leaves(jax.tree.map(lambda a, b: (a != b).any(), judged, learned))
        if leaf
    }
    assert changed and all("query/kernel" in n or "up/kernel" in n or "norm" in n for n in changed)
    again = family.collect(after, prompts_batch(), KEY)
    known, told = (
        score_tokens(BASE_FAMILY, p, again["tokens"], again["real"], N).log_probs
        for p in (learned, judged)
    )
    np.testing.assert_allclose(
        again["kl"], ((told - known) * again["response_mask"]).sum(1), rtol=1e-4, atol=1e-5
    )


def test_rows_that_fill_a_batch_up_weigh_nothing():
    whole = prompts_batch() | {"mask": jnp.repeat(jnp.array([1.0, 0.0]), B // 2)}
    batch = FAMILY.collect(state_of(FAMILY), whole, KEY)
    np.testing.assert_array_equal(batch["mask"], whole["mask"])
    half = {name: value[: B // 2] for name, value in batch.items()}
    one = family_of(**AT_ONCE)
    a, b = (updated(one, state_of(FAMILY), each)[0].params for each in (batch, half))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


@pytest.mark.parametrize(
    "devices",
    [Devices(count=8), Devices(count=8, mode="sharded", fsdp=2)],
    ids=["mapped", "sharded"],
)
@pytest.mark.long
def test_a_fixed_rollout_gives_the_same_update_on_eight_devices(devices):
    batch = FAMILY.collect(state_of(FAMILY), prompts_batch(32), KEY)
    rule = SGD(Constant(0.1)).build(4)
    found = []
    for layout in (parallel.start(Devices(count=1)), parallel.start(devices)):
        state = layout.init(lambda: state_of(FAMILY))
        step = layout.compile_step(
            lambda s, b, axis: update(FAMILY, s, b, optimizer=rule, axis=axis), state
        )
        found.append(jax.device_get(step(state, layout.place(batch))))
    (one, numbers), (eight, others) = found
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        one.params,
        eight.params,
    )
    for name in ("loss", "grad_norm", "reward", "kl", "kl_loss", "entropy", "tied"):
        np.testing.assert_allclose(numbers[name].value, others[name].value, rtol=1e-4, atol=1e-6)


def raises(prompts, responses):
    if any(response[:1] == "b" for response in responses):
        raise ValueError("no b")
    return [0.0] * len(prompts)


def nan_of_b(prompts, responses):
    return [np.nan if response[:1] == "b" else 0.0 for response in responses]


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (
            raises,
            "the reward raises failed on the response 'b.*' to the prompt '.*': ValueError: no b",
        ),
        (
            nan_of_b,
            "the reward nan_of_b must be finite, got nan for the response 'b.*' to the prompt '.*'",
        ),
    ],
)
def test_a_reward_that_fails_names_the_sample(reward, words):
    with pytest.raises(UserError, match=words):
        family_of(reward=reward).collect(state_of(FAMILY), prompts_batch(), KEY)


def test_what_does_not_fit_is_refused():
    for settings, words in (
        ({"reward": None}, "reward must be a function of prompts and responses, got None"),
        ({"group": 1}, "group must be at least 2"),
        ({"minibatches": 0}, "minibatches must be at least 1"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"clip_high": -1.0}, "clip_high must be above 0"),
        ({"kl_alarm": 0.0}, "kl_alarm must be above 0"),
        ({"kl": -1.0}, "kl must be at least 0"),
        ({"longest_prompt": 0}, "longest_prompt must be at least 1"),
        ({"new_tokens": 14}, "must be <= 17 .context of .*, got 18"),
    ):
        with pytest.raises(UserError, match=words):
            family_of(**settings)
    with pytest.raises(UserError, match="but runs/mlm is a MaskedLM"):
        GRPO("base", by_letters).resolve({BASE: Trained("runs/mlm", MaskedLM(), SPEC)}, SPEC)
    base = Trained("base", BASE_FAMILY, dataclasses.replace(SPEC, vocabulary=9))
    with pytest.raises(UserError, match="must have the 6 tokens of the data, got 9"):
        GRPO("base", by_letters, new_tokens=N).resolve({BASE: base}, SPEC)
    with pytest.raises(UserError, match="GRPO needs prompts"):
        GRPO("base", by_letters).resolve({BASE: base}, dataclasses.replace(SPEC, prefixed=False))
    with pytest.raises(
        UserError,
        match="batch_size must be a multiple of 5 .family.group., got 16",
    ):
        family_of(group=5).check_batch(16, 16, 1)
    with pytest.raises(UserError, match="must divide the 2 responses per device, got 4"):
        family_of(minibatches=4).check_batch(16, 2, 1)
    with pytest.raises(UserError, match="must divide the 16 responses per device, got 3"):
        updated(family_of(minibatches=3), state_of(FAMILY), collected())
    with pytest.raises(UserError, match="times 3 microbatches, got 2"):
        updated(FAMILY, state_of(FAMILY), collected(), SGD(Constant(0.1), accumulate=3))
    with pytest.raises(UserError, match="a prompt must have 1 to 2 tokens .*, got 3"):
        family_of(longest_prompt=2, group=2).collect(state_of(FAMILY), prompts_batch(), KEY)


EVERY = Every(log=1, evaluate=0, sample=0, checkpoint=4)
WALKS = RandomWalks(size=64, test_size=20)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("base") / "run"
    experiment = Experiment(
        BASE_FAMILY,
        WALKS,
        Adam(Constant(1e-2)),
        steps=4,
        batch_size=8,
        every=EVERY,
        devices=Devices(count=1),
    )
    return genjax.train(experiment, run_dir, quiet=True)


@pytest.mark.long
def test_a_run_learns_goes_on_bitwise_and_needs_its_base_no_more(base, tmp_path):
    borrowed = shutil.copytree(base.run_dir, tmp_path / "base")
    family = GRPO(
        str(borrowed), begins_with_b, group=8, new_tokens=3, longest_prompt=2, minibatches=2
    )
    experiment = Experiment(
        family,
        WALKS,
        Adam(Constant(1e-2)),
        steps=12,
        batch_size=32,
        evaluators=(RewardOfSamples(begins_with_b, "share", steps=3),),
        every=EVERY,
        devices=Devices(count=1),
    )
    whole = genjax.train(experiment, tmp_path / "whole", quiet=True)
    genjax.train(dataclasses.replace(experiment, steps=4), tmp_path / "parts", quiet=True)
    shutil.rmtree(borrowed)
    parts = genjax.train(experiment, tmp_path / "parts", quiet=True)
    wanted, got = (
        jax.tree.leaves((run.state.params, run.state.opt_state)) for run in (whole, parts)
    )
    for a, b in zip(wanted, got, strict=True):
        np.testing.assert_array_equal(a, b)
    rows = [
        json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    ]
    rewards = [row["reward"] for row in rows if row["split"] == "train"]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.3
    told = [
        "kl",
        "kl_loss",
        "policy_loss",
        "approx_kl",
        "clip_fraction",
        "entropy",
        "response_length",
        "tied",
    ]
    assert all(np.isfinite(row[name]) for row in rows if row["split"] == "train" for name in told)
    assert whole.step == 12 and whole.state.opt_state.updates == 12 * 2
    loaded = genjax.load(tmp_path / "parts")
    found = loaded.evaluate().numbers
    assert found["share"] > 0.3 and found["share_error"] < 0.2 and np.isfinite(found["loss"])
    np.testing.assert_array_equal(loaded.sample(num=2), parts.sample(num=2))
    assert isinstance(loaded.model().family, Autoregressive)
