"""PPO: what was drawn is what is judged, rewards by hand, one update on one device and on
eight, and bitwise resume.
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
from genjax.data.dataset import Spec
from genjax.data.sources import RandomWalks
from genjax.data.text.codecs import Characters
from genjax.errors import UserError
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.families.masked_lm import MaskedLM
from genjax.family import Trained, init_state, make_example
from genjax.losses import gae, whiten
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.posttrain import rollouts
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.ppo import BASE, PPO, REWARD, make_experience, update
from genjax.posttrain.reward import RewardModel, score
from genjax.posttrain.rollouts import draw_rollout, score_tokens
from genjax.schedules import Constant, Linear
from genjax.trees import named_leaves

KEY = jax.random.key(0)
V, P, N, B = 6, 4, 5, 8
NET = Transformer(layers=1, heads=2, width=8, context=16, init_std=0.3)
BASE_FAMILY = Autoregressive(NET, sampler=Decoding(steps=6))
SPEC = Spec("tokens", (P,), np.zeros(P, np.float32), vocabulary=V, prefixed=True)
CODEC = Characters("bcdef", delimiter=True)  # token 0 ends a text


def begins_with_b(prompts, responses):
    return [float(response[:1] == "b") for response in responses]


def family_of(**changes):
    settings = {"new_tokens": N, "epochs": 2, "minibatches": 2, "reward": begins_with_b}
    family = PPO("base", **settings | changes)
    others = {BASE: Trained("base", BASE_FAMILY, SPEC), REWARD: Trained("judge", JUDGE, SPEC)}
    return family.resolve(others, SPEC).with_codec(CODEC)


JUDGE = RewardModel(TokenBackbone(NET, "last"))
FAMILY = family_of()


def state_of(family=FAMILY, optimizer=SGD(Constant(0.1))):
    base, _ = BASE_FAMILY.init(jax.random.key(5), make_example(SPEC), SPEC)
    params, variables = family.init(KEY, make_example(SPEC), SPEC)
    state = init_state(params, variables, optimizer.build(4), KEY)
    return apply_initial_params(
        family, state.replace(frozen={BASE: {"params": base, "variables": {}}})
    )


def prompts_batch(rows=B):
    sizes = jnp.arange(rows) % P + 1
    prefix = (jnp.arange(P)[None] < sizes[:, None]).astype(jnp.float32)
    return {
        "tokens": jax.random.randint(KEY, (rows, P), 1, V),
        "loss_mask": 1 - prefix,
        "prefix_mask": prefix,
        "mask": jnp.ones(rows),
    }


def moved(params, seed=9, by=0.3):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [x + by * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


@functools.cache
def collected():
    return FAMILY.collect(state_of(), prompts_batch(), KEY)


def test_what_is_collected_has_the_shapes_that_a_plan_compiles_for():
    shapes = FAMILY.shape_collected(state_of(), prompts_batch())
    assert {name: (x.shape, x.dtype) for name, x in shapes.items()} == {
        name: (np.shape(x), np.asarray(x).dtype) for name, x in collected().items()
    }


def test_the_log_probabilities_of_the_sampler_are_those_of_the_trainer():
    state, batch = state_of(), prompts_batch()
    params = moved(state.params)
    prompts = jnp.where(batch["prefix_mask"] > 0, batch["tokens"], 0)[
        :, ::-1
    ]  # padded at the beginning
    asked = batch["prefix_mask"][:, ::-1] > 0
    drawn = draw_rollout(BASE_FAMILY, params["policy"], prompts, asked, N, KEY, ((0,),), 0)
    inside = np.asarray(drawn.real[:, P:])
    lengths = inside.sum(1)
    of_all = score_tokens(BASE_FAMILY, params["policy"], drawn.tokens, drawn.real, N)
    np.testing.assert_allclose(of_all.log_probs[inside], drawn.log_probs[inside], atol=1e-4)
    before = score_tokens(
        BASE_FAMILY, state.frozen[BASE]["params"], drawn.tokens, drawn.real, N
    ).log_probs
    assert abs(of_all.log_probs - before)[inside].max() > 0.1, "another policy"
    ends = [
        row[:n].tolist().count(0)
        for row, n in zip(np.asarray(drawn.tokens[:, P:]), lengths, strict=True)
    ]
    np.testing.assert_array_equal(drawn.ended, np.array(ends) == 1)
    assert drawn.ended.sum() > 0 and lengths.min() < N, (
        "some ended early, and nothing after the end is real"
    )
    np.testing.assert_array_equal(drawn.real[:, :P], asked)
    row = int(lengths.argmax())  # the same alone and without padding
    alone = drawn.tokens[row, np.asarray(drawn.real[row])][None]
    found = score_tokens(
        BASE_FAMILY, params["policy"], alone, jnp.ones(alone.shape, bool), int(lengths[row])
    )
    for value, several in zip(found, of_all, strict=True):
        np.testing.assert_allclose(value[0], several[row, : lengths[row]], atol=1e-4)


@pytest.mark.long
def test_logits_of_some_rows_at_a_time_tell_the_same_and_have_the_same_gradient(monkeypatch):
    drawn = collected()

    def told(params):
        found = score_tokens(BASE_FAMILY, params, drawn["tokens"], drawn["real"], N)
        return (found.log_probs + 0.3 * found.entropy).sum(), found

    params = moved(state_of().params)["policy"]
    whole = jax.grad(told, has_aux=True)(params)
    monkeypatch.setattr(rollouts, "LOGITS", 3 * N * V)  # three of the eight rows
    assert "scan" in str(jax.make_jaxpr(told)(params))
    parts = jax.grad(told, has_aux=True)(params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), parts, whole)


def test_it_begins_as_the_base_with_values_of_0():
    state, batch = state_of(), collected()
    jax.tree.map(
        np.testing.assert_array_equal, state.params["policy"], state.frozen[BASE]["params"]
    )
    assert not batch["values"].any() and not batch["kl"].any()
    assert FAMILY.wrapped == BASE_FAMILY
    judged = FAMILY.eval_state(state)
    jax.tree.map(np.testing.assert_array_equal, judged.params, state.frozen[BASE]["params"])
    assert judged.frozen is None and judged.variables == {}


def test_the_reward_comes_at_the_last_token_and_the_penalty_at_each():
    family = family_of(whiten=False, gamma=0.9, lam=0.8, unended=0.5)
    state, batch = state_of(family), prompts_batch()
    prompts, asked = batch["tokens"], jnp.ones((B, P), bool)
    params, reference = moved(state.params), state.frozen[BASE]["params"]
    drawn = draw_rollout(BASE_FAMILY, params["policy"], prompts, asked, N, KEY, ((0,),), 0)
    rewards = jnp.linspace(-1, 1, B)
    found = make_experience(
        family, params, reference, drawn, rewards, jnp.asarray(0.2), jnp.ones(B)
    )
    own = score_tokens(BASE_FAMILY, params["policy"], drawn.tokens, drawn.real, N)
    gained = (
        own.log_probs - score_tokens(BASE_FAMILY, reference, drawn.tokens, drawn.real, N).log_probs
    )
    head = params["value"]["head"]
    values = (own.features @ head["kernel"])[..., 0] + head["bias"][None]
    lengths = np.asarray(drawn.real[:, P:]).sum(1)
    steps = np.zeros((B, N))
    for row, length in enumerate(lengths):
        steps[row, :length] = -0.2 * gained[row, :length]
        steps[row, length - 1] += rewards[row] - 0.5 * (not drawn.ended[row])
    mask = (np.arange(N)[None] < lengths[:, None]).astype(np.float32)
    advantages, returns = gae(jnp.asarray(steps, jnp.float32), values, jnp.asarray(mask), 0.9, 0.8)
    np.testing.assert_allclose(found["advantages"], advantages, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["returns"], returns, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["response_mask"], mask)
    np.testing.assert_array_equal(found["response_length"], lengths)
    np.testing.assert_array_equal(found["reward"], rewards)
    np.testing.assert_allclose(found["kl"], (gained * mask).sum(1), rtol=1e-4, atol=1e-5)
    real = mask > 0
    explained = 1 - found["unexplained"].sum() / found["spread"].sum()
    wanted = 1 - np.var((returns - values)[real]) / np.var(returns[real])
    np.testing.assert_allclose(explained, wanted, rtol=1e-4)
    family = family_of(gamma=0.9, lam=0.8, unended=0.5)
    whitened = make_experience(
        family, params, reference, drawn, rewards, jnp.asarray(0.2), jnp.ones(B)
    )
    np.testing.assert_allclose(
        whitened["advantages"], whiten(advantages, jnp.asarray(mask)), rtol=1e-4, atol=1e-5
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def updated(family, state, batch, optimizer=SGD(Constant(0.1))):
    return update(family, state, batch, optimizer=optimizer.build(4))


def test_the_first_minibatch_has_ratio_1_and_nothing_is_clipped():
    batch = collected()
    state, metrics = updated(family_of(epochs=1, minibatches=1), state_of(), batch)
    assert metrics["clip_fraction"].value == 0 and abs(metrics["approx_kl"].value) < 1e-6
    mask = batch["response_mask"]
    np.testing.assert_allclose(
        metrics["policy_loss"].sum, -(batch["advantages"] * mask).sum(), atol=1e-4
    )
    np.testing.assert_allclose(
        metrics["value_loss"].value,
        0.5 * (batch["returns"] ** 2 * mask).sum() / mask.sum(),
        rtol=1e-4,
    )
    assert state.step == 1 and state.opt_state.updates == 1


def test_a_train_step_makes_all_updates_and_counts_one():
    batch = collected()
    state, metrics = updated(FAMILY, state_of(), batch, SGD(Linear(0.1, 0.0)))
    assert state.step == 1 and state.opt_state.updates == 4
    assert metrics["approx_kl"].value > 0 and metrics["reward"].weight == 2 * B, (
        "each response in each epoch"
    )
    np.testing.assert_allclose(
        metrics["learning_rate"].value, 0.1, rtol=1e-6
    )  # that of the train step
    np.testing.assert_allclose(metrics["reward"].value, batch["reward"].mean(), rtol=1e-6)
    np.testing.assert_allclose(
        metrics["response_length"].value, batch["response_length"].mean(), rtol=1e-6
    )
    before = score_tokens(
        BASE_FAMILY, state_of().params["policy"], batch["tokens"], batch["real"], N
    ).log_probs
    after = score_tokens(
        BASE_FAMILY, state.params["policy"], batch["tokens"], batch["real"], N
    ).log_probs
    gained = (batch["advantages"] * batch["response_mask"] * (after - before)).sum()
    assert gained > 0, "what was better than expected is more probable"


def test_a_separate_critic_leaves_the_policy_alone():
    for critic in ("shared", "separate"):
        family = family_of(critic=critic)
        state = state_of(family)
        state.params["value"]["head"]["kernel"] = jnp.ones((8, 1))
        batch = collected() | {"advantages": jnp.zeros((B, N))}
        after, _ = updated(family, state, batch)
        changed = jax.tree.leaves(
            jax.tree.map(lambda a, b: bool((a != b).any()), after.params, state.params)
        )
        policy = jax.tree.leaves(
            jax.tree.map(
                lambda a, b: bool((a != b).any()), after.params["policy"], state.params["policy"]
            )
        )
        assert any(changed) and any(policy) == (critic == "shared")
    jax.tree.map(
        np.testing.assert_array_equal, state.params["value"]["net"], state.frozen[BASE]["params"]
    )


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_adapters_alone_are_trained_and_the_reference_is_what_they_stand_on(critic):
    family = family_of(
        adapters=Adapters(2, targets=("query/kernel", "up/kernel"), whole=("norm",)), critic=critic
    )
    state = state_of(family)
    learned = state.frozen[BASE]["params"]
    jax.tree.map(np.testing.assert_array_equal, family.eval_state(state).params, learned)
    batch = family.collect(state, prompts_batch(), KEY)
    assert not batch["kl"].any(), "it begins as the reference"
    np.testing.assert_allclose(batch["log_probs"], collected()["log_probs"], atol=1e-6)
    after, _ = updated(family, state, batch)
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(after.params["policy"]) < 0.5 * size(learned)
    jax.tree.map(np.testing.assert_array_equal, after.frozen[BASE]["params"], learned)
    judged = family.eval_state(after).params
    changed = {
        name
        for name, leaf in named_leaves(jax.tree.map(lambda a, b: (a != b).any(), judged, learned))
        if leaf
    }
    assert changed and all("query/kernel" in n or "up/kernel" in n or "norm" in n for n in changed)
    again = family.collect(after, prompts_batch(), KEY)
    known = score_tokens(BASE_FAMILY, learned, again["tokens"], again["real"], N).log_probs
    told = score_tokens(BASE_FAMILY, judged, again["tokens"], again["real"], N).log_probs
    np.testing.assert_allclose(
        again["kl"], ((told - known) * again["response_mask"]).sum(1), rtol=1e-4, atol=1e-5
    )


def test_a_kl_that_cannot_be_or_runs_away_is_told():
    assert FAMILY.warnings({"kl": 3.0}) == FAMILY.warnings({"kl": -0.01}) == ()
    assert "-0.5 nats per response, but cannot be negative" in FAMILY.warnings({"kl": -0.5})[0]
    assert (
        "12 nats per response, above 10 (family.kl_alarm)"
        in family_of(kl_alarm=10.0).warnings({"kl": 12.0})[0]
    )


def test_rows_that_fill_a_batch_up_weigh_nothing():
    batch, mask = collected(), jnp.array([1, 1, 1, 1, 0, 0, 0, 0.0])
    one = family_of(epochs=1, minibatches=1)
    a, b = (
        updated(one, state_of(), each)
        for each in (batch | {"mask": mask}, {name: value[:4] for name, value in batch.items()})
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        a[0].params,
        b[0].params,
    )


@pytest.mark.parametrize(
    "devices",
    [Devices(count=8), Devices(count=8, mode="sharded", fsdp=2)],
    ids=["mapped", "sharded"],
)
@pytest.mark.long
def test_a_fixed_rollout_gives_the_same_update_on_eight_devices(devices):
    batch = FAMILY.collect(state_of(), prompts_batch(32), KEY)
    rule = SGD(Constant(0.1)).build(4)
    found = []
    for layout in (parallel.start(Devices(count=1)), parallel.start(devices)):
        state = layout.init(state_of)
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
    for name in ("loss", "grad_norm", "reward", "kl", "entropy"):
        np.testing.assert_allclose(numbers[name].value, others[name].value, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_the_coefficient_adapts_to_the_kl_of_a_response():
    family = family_of(kl=0.15, kl_target=6.0, kl_horizon=100)
    for kl, relative in ((0.0, -0.2), (6.6, 0.1), (60.0, 0.2)):
        after, metrics = updated(family, state_of(family), collected() | {"kl": jnp.full(B, kl)})
        np.testing.assert_allclose(
            after.variables["kl_coefficient"], 0.15 * (1 + relative * B / 100), rtol=1e-5
        )
        assert metrics["kl_coefficient"].value == jnp.float32(0.15)
    still, _ = updated(FAMILY, state_of(), collected() | {"kl": jnp.full(B, 60.0)})
    assert still.variables["kl_coefficient"] == jnp.float32(0.1)


@pytest.mark.long
def test_a_reward_model_scores_a_prompt_and_its_response():
    family = family_of(reward=None, reward_run="judge")
    judge = JUDGE.init(KEY, *_preferences())
    judge = {
        "params": moved(judge[0]),
        "variables": {"mean": jnp.asarray(0.3), "variance": jnp.asarray(4.0)},
    }
    state = state_of(family)
    state = state.replace(frozen={**state.frozen, REWARD: judge})
    batch = family.collect(state, prompts_batch(), KEY)
    whole = init_state(judge["params"], judge["variables"], SGD(Constant(0.1)).build(1), KEY)
    for row in range(B):
        tokens = batch["tokens"][row, np.asarray(batch["real"][row])][None]
        wanted = score(JUDGE, whole, tokens, jnp.ones(tokens.shape))
        np.testing.assert_allclose(batch["reward"][row], wanted[0], rtol=1e-3, atol=1e-5)
    assert np.ptp(batch["reward"]) > 0.1


def _preferences():
    spec = Spec(
        "chosen_tokens", (P + N,), np.zeros(P + N, np.float32), vocabulary=V, preferences=True
    )
    return make_example(spec), spec


def raises(prompts, responses):
    if any(response[:1] == "b" for response in responses):
        raise ValueError("no b")
    return [0.0] * len(prompts)


def one_too_many(prompts, responses):
    return [0.0] * (len(prompts) + 1)


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
            one_too_many,
            r"8, got an array of shape \[9\]; the first is the response '.*' to the prompt "
            r"'.*'",
        ),
        (
            nan_of_b,
            "the reward nan_of_b must be finite, got nan for the response 'b.*' to the prompt '.*'",
        ),
    ],
)
def test_a_reward_that_fails_names_the_sample(reward, words):
    with pytest.raises(UserError, match=words):
        family_of(reward=reward).collect(state_of(), prompts_batch(), KEY)


def test_what_does_not_fit_is_refused():
    for settings, words in (
        ({"reward": None}, "give exactly one"),
        ({"reward_run": "judge"}, "give exactly one"),
        ({"reward": 3}, "reward must be a function"),
        ({"kl_target": 0.0}, "kl_target must be above 0"),
        ({"kl_target": 6.0, "kl": 0.0}, "coefficient of 0 never adapts"),
        ({"minibatches": 0}, "minibatches must be at least 1"),
        ({"lam": 1.5}, "lam must be from 0 to 1"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"kl": -1.0}, "kl must be at least 0"),
        ({"critic": "none"}, "critic must be one of 'shared', 'separate'"),
        ({"longest_prompt": 0}, "longest_prompt must be at least 1"),
        ({"new_tokens": 14}, "must be <= 17 .context of .*, got 18"),
        (
            {"reward": None, "reward_run": "judge", "longest_prompt": 12},
            "must have <= 16 tokens .context of judge",
        ),
    ):
        with pytest.raises(UserError, match=words):
            family_of(**settings)
    other = Trained("runs/mlm", MaskedLM(), SPEC)
    with pytest.raises(UserError, match="but runs/mlm is a MaskedLM"):
        PPO("base", begins_with_b).resolve({BASE: other}, SPEC)
    base = Trained("base", BASE_FAMILY, dataclasses.replace(SPEC, vocabulary=9))
    with pytest.raises(UserError, match="must have the 6 tokens of the data, got 9"):
        PPO("base", begins_with_b, new_tokens=N).resolve({BASE: base}, SPEC)
    with pytest.raises(UserError, match="PPO needs prompts"):
        PPO("base", begins_with_b).resolve({BASE: base}, dataclasses.replace(SPEC, prefixed=False))
    with pytest.raises(
        UserError, match="must be a run of a RewardModel, but base is a Autoregressive"
    ):
        PPO("base", reward_run="base", new_tokens=N).resolve(
            {
                BASE: dataclasses.replace(base, spec=SPEC),
                REWARD: dataclasses.replace(base, spec=SPEC),
            },
            SPEC,
        )
    with pytest.raises(UserError, match="must divide the 8 responses per device, got 3"):
        updated(family_of(minibatches=3), state_of(), collected())
    with pytest.raises(UserError, match="a prompt must have 1 to 2 tokens .*, got 4"):
        family_of(longest_prompt=2).collect(state_of(), prompts_batch(), KEY)
    with pytest.raises(UserError, match="unended needs data whose codec has an end token"):
        PPO("base", begins_with_b, unended=1.0).with_codec(Characters("bcdef"))


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
    family = PPO(
        str(borrowed),
        begins_with_b,
        new_tokens=3,
        longest_prompt=2,
        kl=0.01,
        kl_target=1.0,
        minibatches=2,
    )
    judge = RewardOfSamples(begins_with_b, "share", steps=3)
    experiment = Experiment(
        family,
        WALKS,
        Adam(Constant(1e-2)),
        steps=12,
        batch_size=16,
        evaluators=(judge,),
        every=EVERY,
        devices=Devices(count=1),
    )
    whole = genjax.train(experiment, tmp_path / "whole", quiet=True)
    genjax.train(dataclasses.replace(experiment, steps=4), tmp_path / "parts", quiet=True)
    shutil.rmtree(borrowed)
    parts = genjax.train(experiment, tmp_path / "parts", quiet=True)
    wanted, got = (
        jax.tree.leaves((run.state.params, run.state.opt_state, run.state.variables))
        for run in (whole, parts)
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
        "approx_kl",
        "clip_fraction",
        "explained_variance",
        "entropy",
        "response_length",
        "kl_coefficient",
    ]
    assert all(np.isfinite(row[name]) for row in rows if row["split"] == "train" for name in told)
    coefficients = [row["kl_coefficient"] for row in rows if row["split"] == "train"]
    assert (
        len(set(coefficients)) == 12 and whole.state.variables["kl_coefficient"] != coefficients[-1]
    )
    assert whole.step == 12 and whole.state.opt_state.updates == 12 * 8
    loaded = genjax.load(tmp_path / "parts")
    found = loaded.evaluate().numbers
    assert found["share"] > 0.3 and found["share_error"] < 0.2 and np.isfinite(found["loss"])
    np.testing.assert_array_equal(loaded.sample(num=2), parts.sample(num=2))
    assert isinstance(loaded.model().family, Autoregressive)
