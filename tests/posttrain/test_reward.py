"""Reward models: ln 2 at the start, the last token's score, closed forms, normalised scores,
devices and resume.
"""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.data.chat.template import ChatCodec, ChatTemplate
from genjax.data.dataset import Spec
from genjax.data.sources import RulePreferences, TextFiles
from genjax.data.text.codecs import Bytes
from genjax.data.text.layouts import Documents
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import init_state, make_example
from genjax.losses import preference_loss
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.posttrain.reward import RewardModel, score, score_responses
from genjax.schedules import Constant, Cosine
from genjax.start_from import StartFrom
from tests import toy

KEY = jax.random.key(0)
V, T = 11, 8
NET = Transformer(layers=1, heads=2, width=8, context=T, init_std=0.3)
FAMILY = RewardModel(TokenBackbone(NET, "last"))
SPEC = Spec("chosen_tokens", (T,), np.zeros(T, np.float32), vocabulary=V, preferences=True)


def batch_of(rows, seed=1):
    batch = {"mask": jnp.ones(rows)}
    for number, side in enumerate(("chosen", "rejected")):
        one, two = jax.random.split(jax.random.key(seed + 100 * number))
        inside = (jnp.arange(T)[None] < jax.random.randint(one, (rows, 1), 2, T + 1)).astype(
            jnp.float32
        )
        batch[f"{side}_tokens"] = jax.random.randint(two, (rows, T), 0, V)
        batch[f"{side}_mask"] = inside
        batch[f"{side}_response"] = inside.at[:, 0].set(0)
    return batch


def state_of(family=FAMILY, optimizer=SGD(Constant(0.1)), head=None):
    params, variables = jax.jit(lambda: family.init(KEY, make_example(SPEC), SPEC))()
    if head is not None:
        params["head"]["kernel"] = head
    return init_state(params, variables, optimizer.build(100), KEY)


@functools.partial(jax.jit, static_argnums=(0, 3))
def stepped(family, state, batch, optimizer=SGD(Constant(0.1))):
    return family.train_step(state, batch, optimizer=optimizer.build(100))


HEAD = jnp.linspace(-1, 1, 8)[:, None]


def swapped(batch):
    """The batch with chosen and rejected exchanged."""
    found = {"mask": batch["mask"]}
    for part in ("tokens", "mask", "response"):
        found |= {
            f"chosen_{part}": batch[f"rejected_{part}"],
            f"rejected_{part}": batch[f"chosen_{part}"],
        }
    return found


def test_the_loss_of_a_margin_by_hand_and_far_out():
    margin = jnp.array([0.0, 1.0, -1.0, 100.0, -100.0])
    wanted = [math.log(2), math.log1p(math.exp(-1)), math.log1p(math.e), 0, 100]
    np.testing.assert_allclose(preference_loss(margin), wanted, rtol=1e-6, atol=1e-30)
    smoothed = [
        0.8 * a + 0.2 * b for a, b in zip(wanted, [wanted[i] for i in (0, 2, 1, 4, 3)], strict=True)
    ]
    np.testing.assert_allclose(preference_loss(margin, 0.2), smoothed, rtol=1e-6)


def test_the_loss_begins_at_ln_2_exactly_and_all_is_a_tie():
    state, batch = state_of(), batch_of(6)
    for metrics in (FAMILY.evaluate(state, batch, KEY), stepped(FAMILY, state, batch)[1]):
        assert metrics["loss"].value == jnp.float32(math.log(2))
        assert metrics["accuracy"].value == 0.5 and metrics["margin"].value == 0


@pytest.mark.parametrize("causal", [True, False])
def test_the_reward_is_read_at_the_last_real_token(causal):
    family = RewardModel(TokenBackbone(dataclasses.replace(NET, causal=causal), "last"))
    state, batch = state_of(family, head=HEAD), batch_of(6)
    tokens, mask = (
        batch["chosen_tokens"],
        jnp.arange(T)[None] < jnp.array([2, 3, 4, 5, 6, 7])[:, None],
    )
    before = family.score_rows(state, tokens, mask)
    np.testing.assert_array_equal(
        family.score_rows(state, jnp.where(mask, tokens, 3), mask), before
    )
    last = jnp.arange(T)[None] == mask.sum(1, keepdims=True) - 1
    after = family.score_rows(state, jnp.where(last, (tokens + 1) % V, tokens), mask)
    assert (abs(after - before) > 1e-4).all()
    features = family.net.backbone(vocabulary=V).apply(
        {"params": state.params["backbone"]}, jnp.where(mask, tokens, -1)
    )
    np.testing.assert_allclose(before, features @ HEAD[:, 0], rtol=1e-4, atol=1e-5)
    alone = family.score_rows(state, tokens[2:3, :4], jnp.ones((1, 4)))
    np.testing.assert_allclose(alone, before[2:3], rtol=1e-4, atol=1e-5)


def test_swapping_the_two_negates_the_margins():
    state, batch = state_of(head=HEAD), batch_of(6)
    chosen, rejected = FAMILY.score_pairs(state, batch)
    again = FAMILY.score_pairs(state, swapped(batch))
    np.testing.assert_array_equal(again[0] - again[1], rejected - chosen)
    assert (chosen != rejected).all()
    one, other = (FAMILY.evaluate(state, b, KEY) for b in (batch, swapped(batch)))
    np.testing.assert_allclose(one["accuracy"].value + other["accuracy"].value, 1)
    assert one["margin"].value == -other["margin"].value
    np.testing.assert_allclose(
        other["loss"].value - one["loss"].value, one["margin"].value, rtol=1e-5
    )
    np.testing.assert_allclose(one["chosen_reward"].value, chosen.mean(), rtol=1e-5)
    np.testing.assert_allclose(one["rejected_reward"].value, rejected.mean(), rtol=1e-5)


@pytest.mark.parametrize(("smoothing", "centring"), [(0.0, 0.0), (0.1, 0.3)])
def test_the_gradient_of_the_head_has_a_closed_form(smoothing, centring):
    family = dataclasses.replace(FAMILY, label_smoothing=smoothing, centring=centring)
    for head in (jnp.zeros((8, 1)), HEAD):
        state, batch = state_of(family, head=head), batch_of(6)
        rows = [
            jnp.where(batch[f"{s}_mask"] > 0, batch[f"{s}_tokens"], -1)
            for s in ("chosen", "rejected")
        ]
        net = family.net.backbone(vocabulary=V)
        a, b = (np.asarray(net.apply({"params": state.params["backbone"]}, row)) for row in rows)
        slope = 1 / (1 + np.exp(-(a - b) @ head)) - (
            1 - smoothing
        )  # [B, 1], of the loss by the margin
        both = 2 * centring * (a + b) @ head
        gradient = (slope * (a - b) + both * (a + b)).mean(0)[:, None]
        after, metrics = stepped(family, state, batch)
        np.testing.assert_allclose(
            after.params["head"]["kernel"], head - 0.1 * gradient, rtol=1e-4, atol=1e-6
        )
        judged = family.evaluate(state, batch, KEY)["loss"].value
        assert (abs(judged - metrics["loss"].value) > 1e-3) == (smoothing > 0 and head is HEAD), (
            "in training alone"
        )


def test_padded_rows_weigh_nothing():
    state, batch = state_of(head=HEAD), batch_of(6)
    mask = jnp.array([1, 1, 0, 1, 0, 1.0])
    real = np.flatnonzero(mask)
    alone = {name: value[real] for name, value in batch.items()}
    a, b = stepped(FAMILY, state, {**batch, "mask": mask}), stepped(FAMILY, state, alone)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, (a[0].params, a[0].variables), (b[0].params, b[0].variables))
    judged = (
        {n: m.value for n, m in FAMILY.evaluate(state, each, KEY).items()}
        for each in ({**batch, "mask": mask}, alone)
    )
    jax.tree.map(close, *judged)


def test_the_moving_averages_are_of_all_steps_alike_and_then_fade():
    still, family = SGD(Constant(0.0)), dataclasses.replace(FAMILY, decay=0.75)
    state, seen = state_of(head=HEAD), []
    for step in range(6):
        batch = batch_of(5, seed=step)
        seen.append(np.concatenate(family.score_pairs(state, batch)))
        state, metrics = stepped(family, state, batch, still)
        assert "squared" not in metrics
        weights = np.array([1.0])
        for number in range(1, step + 1):
            part = max(0.25, 1 / (1 + number))
            weights = np.append(weights * (1 - part), part)
        mean = weights @ [rewards.mean() for rewards in seen]
        variance = weights @ [np.square(rewards - mean).mean() for rewards in seen]
        np.testing.assert_allclose(state.variables["mean"], mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(state.variables["variance"], variance, rtol=1e-4)
        if step < 4:
            np.testing.assert_allclose(weights, 1 / (step + 1))


def test_scores_of_the_training_responses_have_mean_0_and_deviation_1():
    state, batch = state_of(head=5 + HEAD), batch_of(40)
    after, _ = stepped(FAMILY, state, batch, SGD(Constant(0.0)))
    scores = [
        score(FAMILY, after, batch[f"{s}_tokens"], batch[f"{s}_mask"])
        for s in ("chosen", "rejected")
    ]
    np.testing.assert_allclose(np.mean(scores), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(scores), 1, rtol=1e-5)
    chosen, rejected = FAMILY.score_pairs(after, batch)
    deviation = np.std([chosen, rejected])
    np.testing.assert_allclose(
        scores[0] - scores[1], (chosen - rejected) / deviation, rtol=1e-4, atol=1e-5
    )


def test_a_skipped_step_moves_no_average():
    state, batch = state_of(head=HEAD), batch_of(4)
    state, _ = stepped(FAMILY, state, batch)
    params = {**state.params, "head": {"kernel": jnp.full((8, 1), jnp.nan)}}
    after, metrics = stepped(FAMILY, state.replace(params=params), batch)
    assert metrics["skipped"].value == 1
    jax.tree.map(np.testing.assert_array_equal, after.variables, state.variables)
    tied = stepped(FAMILY, state_of(), batch)[
        0
    ]  # all rewards are 0: so are the scores, and not NaN
    scores = score(
        FAMILY, tied.replace(params=state_of().params), batch["chosen_tokens"], batch["chosen_mask"]
    )
    np.testing.assert_array_equal(scores, 0)


def test_microbatches_make_no_difference():
    state, batch = state_of(head=HEAD), batch_of(8)
    whole, parts = (stepped(FAMILY, state, batch, SGD(Constant(0.1), accumulate=n)) for n in (1, 4))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(
        close, (whole[0].params, whole[0].variables), (parts[0].params, parts[0].variables)
    )


@pytest.mark.long
def test_texts_are_scored_as_their_tokens_are():
    codec = ChatCodec(
        Bytes(delimiter=True), ChatTemplate((("user", "", ">"), ("assistant", "", "")))
    )
    net = dataclasses.replace(NET, context=12)
    family = RewardModel(TokenBackbone(net, "last"))
    spec = dataclasses.replace(SPEC, shape=(12,), vocabulary=codec.vocabulary)
    params, variables = jax.jit(lambda: family.init(KEY, make_example(spec), spec))()
    params["head"]["kernel"] = HEAD
    variables = {"mean": jnp.asarray(2.0), "variance": jnp.asarray(4.0)}
    state = init_state(params, variables, SGD().build(1), KEY)
    prompts, responses = (
        ["a", "bc", "d", "e", "f"],
        ["yes", "no", "a response that is cut", "x", "y"],
    )
    found = score_responses(family, state, codec, prompts, responses, length=12, chunk=2)
    assert found.shape == (5,)
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids = np.array([[256, *f"{prompt}>{response}".encode(), 256]])[:, :12]
        raw = family.score_rows(state, jnp.asarray(ids), jnp.ones(ids.shape))
        np.testing.assert_allclose(found[number], (raw[0] - 2) / 2, rtol=1e-4, atol=1e-5)
    assert score_responses(family, state, codec, [], [], 12).shape == (0,)
    with pytest.raises(UserError, match="responses must be one per prompt, 1, got 2"):
        score_responses(family, state, codec, ["a"], ["b", "c"], 12)
    with pytest.raises(UserError, match="prompt 2 has an empty response"):
        score_responses(family, state, codec, ["a", "b"], ["b", " "], 12)
    # a prompt that is too long keeps the start and its end
    long, short = (
        score_responses(family, state, codec, [prompt], ["b"], 12)
        for prompt in ("x" * 12 + "a" * 8, "a" * 8)
    )
    np.testing.assert_array_equal(long, short)


SMALL = Transformer(layers=1, heads=2, width=16, context=64)


def rule(**changes):
    settings = {
        "family": RewardModel(
            TokenBackbone(SMALL, "last"), label_smoothing=0.1, centring=0.01, decay=0.9
        ),
        "data": RulePreferences(64, 16),
        "optimizer": Adam(Constant(3e-3)),
        "steps": 6,
        "batch_size": 16,
    }
    return toy.experiment(**settings | changes)


def curve(run_dir, **changes):
    """The losses and gradient norms of every step, and the last state."""
    run = genjax.train(rule(**changes), run_dir, quiet=True)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return np.array([[r["loss"], r["grad_norm"]] for r in rows if r["split"] == "train"]), run.state


@pytest.fixture(scope="module")
def on_one(tmp_path_factory):
    return curve(tmp_path_factory.mktemp("one") / "run")


@pytest.mark.parametrize(
    "devices", [Devices(8, "pmapped"), Devices(8, "sharded", fsdp=4)], ids=["pmapped", "sharded"]
)
@pytest.mark.long
def test_eight_devices_equal_one(tmp_path, on_one, devices):
    rows, state = curve(tmp_path / "eight", devices=devices)
    assert rows.shape == (6, 2)
    np.testing.assert_allclose(rows, on_one[0], rtol=1e-4)
    compared = (jax.device_get((s.params, s.variables)) for s in (state, on_one[1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *compared)


def test_it_goes_on_bitwise(tmp_path):
    dropped = RewardModel(TokenBackbone(dataclasses.replace(SMALL, dropout=0.2), "last"))
    rows, whole = curve(tmp_path / "whole", family=dropped)
    curve(tmp_path / "parts", family=dropped, steps=2)
    again, parts = curve(tmp_path / "parts", family=dropped)
    np.testing.assert_array_equal(again, rows)
    unkeyed = (s.replace(key=jax.random.key_data(s.key)) for s in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, *unkeyed)
    assert whole.variables["variance"] not in (0, 1)


@pytest.mark.long
def test_it_begins_with_a_language_model_and_draws_no_samples(tmp_path):
    pair = RulePreferences(64, 16)
    fitted = pair.open().codec.tokens
    (tmp_path / "texts.txt").write_text(
        "\n".join(example.chosen for example in pair.make_examples("train"))
    )
    texts = TextFiles(str(tmp_path / "texts.txt"), unit="lines", codec=fitted, layout=Documents(48))
    base = genjax.train(
        rule(family=Autoregressive(SMALL), data=texts, steps=2), tmp_path / "base", quiet=True
    )
    start = StartFrom(str(tmp_path / "base"), (("^", "backbone/tokens/"),))
    run = genjax.train(
        rule(optimizer=SGD(Constant(0.0)), steps=1, start_from=start, precision="bfloat16"),
        tmp_path / "run",
        quiet=True,
    )
    jax.tree.map(
        np.testing.assert_array_equal, run.state.params["backbone"]["tokens"], base.state.params
    )
    assert run.codec.tokens == fitted
    with pytest.raises(UserError, match=r"draws no samples.*evaluate"):
        genjax.load(tmp_path / "run").sample(num=1)


@pytest.mark.long
def test_the_rule_is_learned_and_its_scores_are_normal(tmp_path):
    changes = {
        "data": RulePreferences(),
        "steps": 300,
        "batch_size": 32,
        "optimizer": Adam(Cosine(2e-3)),
    }
    run = genjax.train(
        rule(**changes, family=RewardModel(TokenBackbone(SMALL, "last"))),
        tmp_path / "r",
        quiet=True,
    )
    pairs = RulePreferences().make_examples("test")[:200]
    prompts = [pair.prompt for pair in pairs]
    chosen, rejected = (
        score_responses(
            run.experiment.family, run.state, run.codec, prompts, [getattr(p, s) for p in pairs], 64
        )
        for s in ("chosen", "rejected")
    )
    assert (chosen > rejected).mean() > 0.95
    both = np.concatenate([chosen, rejected])
    assert abs(both.mean()) < 0.15 and abs(both.std() - 1) < 0.15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net": TokenBackbone(NET, "mean")}, 'net must be a TokenBackbone with pool "last"'),
        ({"net": NET}, 'net must be a TokenBackbone with pool "last"'),
        ({"label_smoothing": 0.5}, "label_smoothing must be at least 0 and below 0.5"),
        ({"centring": -1.0}, "centring must be at least 0"),
        ({"decay": 1.0}, "decay must be at least 0 and below 1"),
    ],
)
def test_bad_values_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        RewardModel(**settings)


def test_other_data_are_refused():
    points = Spec("points", (2,), np.zeros(2, np.float32))
    with pytest.raises(UserError, match="needs pairs of responses, but the data are points"):
        FAMILY.init(KEY, make_example(points), points)
    long = dataclasses.replace(SPEC, shape=(T + 1,))
    with pytest.raises(
        UserError,
        match=r"family.net.net.context must be >= 9 .*, got 8",
    ):
        FAMILY.init(KEY, make_example(long), long)
