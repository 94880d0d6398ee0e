"""DPO: ln 2 at the start, losses and gradients by hand, what is known beforehand, devices,
resume and export.
"""

import dataclasses
import functools
import importlib
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import genjax
from genjax import parallel
from genjax.data.sources import RulePreferences, TextFiles
from genjax.data.text.layouts import Documents
from genjax.errors import UserError
from genjax.evaluation.text.policy_kl import PolicyKL
from genjax.evaluation.text.preference_quality import PreferenceQuality
from genjax.experiment import Every
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.families.masked_lm import MaskedLM
from genjax.family import Trained
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE
from genjax.posttrain.dpo import DPO
from genjax.posttrain.paired import count_tokens
from genjax.runs.export import export
from genjax.schedules import Constant
from genjax.trees import named_leaves
from tests import toy
from tests.paired import (
    BASE_FAMILY,
    BASE_SPEC,
    SGD_RULE,
    SIDES,
    SPEC,
    B,
    P,
    T,
    batch_of,
    by_hand,
    close,
    evaluated,
    log_probs,
    moved,
    resolve,
    rewarded,
    state_of,
    stepped,
)


def family_of(**changes):
    return resolve(DPO("base", **changes))


FAMILY = family_of(beta=0.5)


knowing = jax.jit(FAMILY.precompute)


def test_the_log_probabilities_of_responses_by_hand():
    state, batch = state_of(FAMILY), batch_of()
    for params in (state.params, moved(state.params)):
        close(log_probs(params, batch), by_hand(params, batch))
    other = {
        f"{s}_tokens": jnp.where(batch[f"{s}_mask"] > 0, batch[f"{s}_tokens"], 3) for s in SIDES
    }
    assert all((other[name] != batch[name]).any() for name in other)
    close(log_probs(state.params, batch | other), log_probs(state.params, batch))
    sizes = [np.asarray(batch[f"{side}_mask"]).sum(1) - P for side in SIDES]
    np.testing.assert_array_equal(count_tokens(batch), np.stack(sizes, 1))
    nothing = batch | {"mask": jnp.zeros(B), "chosen_response": jnp.zeros((B, T))}
    assert not log_probs(state.params, nothing).any() and (count_tokens(nothing)[:, 0] == 1).all()


def test_it_begins_at_ln_2_as_the_base():
    state, batch = state_of(FAMILY), batch_of()
    for family in (FAMILY, family_of(length_normalised=True), family_of(label_smoothing=0.2)):
        trained = {name: mean.value for name, mean in stepped(family, state, batch)[1].items()}
        for metrics in (evaluated(family, family.eval_state(state), batch), trained):
            np.testing.assert_allclose(metrics["loss"], math.log(2), atol=1e-6)
            np.testing.assert_allclose([metrics["margin"], metrics["log_ratio"]], 0, atol=1e-6)
    judged = FAMILY.eval_state(state)
    assert evaluated(FAMILY, judged, batch)["accuracy"] == 0.5, "all are ties"
    jax.tree.map(np.testing.assert_array_equal, judged.params, state.frozen[BASE]["params"])
    assert FAMILY.wrapped == BASE_FAMILY and FAMILY.evaluated_as == FAMILY
    sampler = Decoding(steps=2)
    assert dataclasses.replace(FAMILY, sampler=sampler).wrapped == dataclasses.replace(
        BASE_FAMILY, sampler=sampler
    )
    np.testing.assert_allclose(
        evaluated(family_of(form="ipo", beta=0.1), judged, batch)["loss"], 25, rtol=1e-4
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        ({}, 0.0),
        ({}, 0.1),
        ({"label_smoothing": 0.2}, 0.1),
        ({"length_normalised": True}, 0.1),
        ({"form": "ipo"}, 0.1),
        ({"form": "ipo", "length_normalised": True}, 0.1),
    ],
    ids=["start", "sigmoid", "smoothed", "normalised", "ipo", "ipo_normalised"],
)
def test_losses_and_gradients_by_hand(settings, by):
    beta = 0.7
    family, batch = family_of(beta=beta, **settings), batch_of()
    state = state_of(family, by)
    learned = state.frozen[BASE]["params"]
    gained = np.asarray(by_hand(state.params, batch) - by_hand(learned, batch))
    sizes = np.asarray(count_tokens(batch)) if family.length_normalised else np.ones((B, 2))
    h = gained[:, 0] / sizes[:, 0] - gained[:, 1] / sizes[:, 1]
    if family.form == "ipo":
        losses, slope = np.square(h - 1 / (2 * beta)), 2 * (h - 1 / (2 * beta))
    else:
        share = family.label_smoothing
        right, wrong = sigmoid(beta * h), sigmoid(-beta * h)
        losses = -(1 - share) * np.log(right) - share * np.log(wrong)
        slope = beta * (share * right - (1 - share) * wrong)
    weights = jnp.asarray(slope[:, None] / sizes * np.array([[1, -1]]) / B, jnp.float32)
    gradient = jax.jit(jax.grad(lambda params: (weights * by_hand(params, batch)).sum()))(
        state.params
    )
    after, metrics = stepped(family, state, batch)
    close(metrics["loss"].value, losses.mean())
    jax.tree.map(
        lambda a, p, g: close(a, p - 0.1 * g, atol=1e-5), after.params, state.params, gradient
    )
    judged = evaluated(family, state, batch)["loss"]  # smoothed in training alone
    assert (abs(judged - metrics["loss"].value) > 1e-3) == (family.label_smoothing * by > 0)


def test_the_metrics_by_hand():
    state, batch = state_of(FAMILY, by=0.1), batch_of()
    for part in ("tokens", "mask", "response"):  # the first pair is a tie
        batch[f"rejected_{part}"] = batch[f"rejected_{part}"].at[0].set(batch[f"chosen_{part}"][0])
    own, known = (by_hand(params, batch) for params in (state.params, state.frozen[BASE]["params"]))
    rewards = 0.5 * np.asarray(own - known)
    margin = rewards[:, 0] - rewards[:, 1]
    found = evaluated(FAMILY, state, batch)
    assert 0 < (margin > 1e-3).sum() < B - 1 and abs(margin[0]) < 1e-5
    close(found["accuracy"], (0.5 + (margin[1:] > 0).sum()) / B)
    close(
        [found["margin"], found["chosen_reward"], found["rejected_reward"]],
        [margin.mean(), *rewards.mean(0)],
    )
    close(found["chosen_log_prob"], own[:, 0].mean())
    close(found["log_ratio"], 2 * rewards.sum() / count_tokens(batch).sum())
    close(rewarded(FAMILY, state, batch), rewards.T, atol=1e-5)
    normal = family_of(beta=0.5, length_normalised=True)
    close(rewarded(normal, state, batch), (rewards / count_tokens(batch)).T, atol=1e-5)


def test_what_is_known_beforehand_is_used_and_changes_nothing():
    state, batch = state_of(FAMILY, by=0.1), batch_of()
    known = knowing(state, batch)
    close(jnp.stack(list(known.values()), 1), by_hand(state.frozen[BASE]["params"], batch))
    assert list(known) == ["chosen_reference", "rejected_reference"]
    (a, one), (b, other) = stepped(FAMILY, state, batch), stepped(FAMILY, state, batch | known)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6),
        (a.params, one),
        (b.params, other),
    )
    wrong = known | {"chosen_reference": known["chosen_reference"] - 1}
    margin = stepped(FAMILY, state, batch | wrong)[1]["margin"].value
    close(margin, one["margin"].value + 0.5)


def test_dropout_is_off_and_the_step_takes_no_draws():
    state, batch = state_of(FAMILY, by=0.1), batch_of()
    one, other = (
        stepped(FAMILY, state.replace(key=jax.random.key(seed)), batch)[0] for seed in (0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_the_reference_stays_and_adapters_alone_are_trained():
    family = family_of(
        beta=0.5, adapters=Adapters(2, targets=("query/kernel", "up/kernel"), whole=("norm",))
    )
    state, batch = state_of(family), batch_of()
    learned = state.frozen[BASE]["params"]
    jax.tree.map(np.testing.assert_array_equal, family.eval_state(state).params, learned)
    after, metrics = state, []
    for _ in range(3):
        after, found = stepped(family, after, batch)
        metrics.append(found["loss"].value)
    close(metrics[0], math.log(2))
    assert metrics[2] < metrics[0]
    jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(after.params) < 0.5 * size(learned)
    judged = family.eval_state(after)
    changed = dict(
        named_leaves(jax.tree.map(lambda a, b: bool((a != b).any()), judged.params, learned))
    )
    assert {name for name, is_so in changed.items() if is_so} == {
        name for name in changed if "query/kernel" in name or "up/kernel" in name or "norm" in name
    }
    gained = by_hand(judged.params, batch) - by_hand(learned, batch)
    close(rewarded(family, judged, batch), 0.5 * gained.T, atol=1e-5)


def test_rows_that_fill_a_batch_up_weigh_nothing():
    state, batch, mask = state_of(FAMILY, by=0.1), batch_of(), jnp.array([1, 0, 1, 1, 0, 1.0])
    alone = {name: value[np.flatnonzero(mask)] for name, value in batch.items()}
    (a, one), (b, other) = (
        stepped(FAMILY, state, batch | {"mask": mask}),
        stepped(FAMILY, state, alone),
    )
    jax.tree.map(close, a.params, b.params)
    jax.tree.map(
        close, *({name: mean.value for name, mean in found.items()} for found in (one, other))
    )


def test_microbatches_make_no_difference():
    state, batch = state_of(FAMILY, by=0.1), batch_of(8)
    batch |= knowing(state, batch)
    whole, parts = (stepped(FAMILY, state, batch, SGD(Constant(0.1), accumulate=n)) for n in (1, 4))
    jax.tree.map(close, whole[0].params, parts[0].params)


@pytest.mark.parametrize(
    ("devices", "is_known"),
    [
        (Devices(count=8), True),
        (Devices(count=8, mode="sharded", fsdp=2), True),
        (Devices(count=8), False),
    ],
    ids=["mapped", "sharded", "mapped_unknown"],
)
@pytest.mark.long
def test_eight_devices_equal_one(devices, is_known):
    batch, rule = batch_of(16), SGD_RULE.build(4)
    batch |= knowing(state_of(FAMILY), batch) if is_known else {}
    found = []
    for layout in (parallel.start(Devices(count=1)), parallel.start(devices)):
        state = layout.init(lambda: state_of(FAMILY, by=0.1))
        step = layout.compile_step(
            lambda s, b, axis: FAMILY.train_step(s, b, optimizer=rule, axis=axis), state
        )
        found.append(jax.device_get(step(state, layout.place(batch))))
    (one, numbers), (eight, others) = found
    jax.tree.map(close, one.params, eight.params)
    for name in ("loss", "grad_norm", "accuracy", "margin", "log_ratio"):
        close(numbers[name].value, others[name].value)


def test_what_does_not_fit_is_refused():
    for settings, words in (
        ({"beta": 0.0}, "beta must be above 0"),
        ({"beta": -1.0}, "beta must be above 0"),
        ({"form": "hinge"}, "form must be one of 'sigmoid', 'ipo'"),
        ({"label_smoothing": 0.5}, "label_smoothing must be at least 0 and below 0.5"),
        ({"label_smoothing": 0.1, "form": "ipo"}, "label_smoothing must be 0"),
    ):
        with pytest.raises(UserError, match=words):
            DPO("base", **settings)
    base = Trained("runs/base", BASE_FAMILY, BASE_SPEC)
    for other, spec, words in (
        (Trained("runs/mlm", MaskedLM(), BASE_SPEC), SPEC, "runs/mlm is a MaskedLM"),
        (
            dataclasses.replace(base, spec=dataclasses.replace(BASE_SPEC, vocabulary=9)),
            SPEC,
            "tokens of the data, got 9",
        ),
        (base, BASE_SPEC, "DPO needs pairs of responses, but the data are tokens"),
        (
            base,
            dataclasses.replace(SPEC, shape=(T + 1,)),
            "at most 8 tokens",
        ),
        (
            dataclasses.replace(base, family=dataclasses.replace(BASE_FAMILY, prefix_lm=True)),
            SPEC,
            "no prefix_lm",
        ),
    ):
        with pytest.raises(UserError, match=words):
            DPO("base").resolve({BASE: other}, spec)


SMALL = Transformer(layers=1, heads=2, width=16, context=64)
PAIRS = RulePreferences(400, 100)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A language model of the chosen and the rejected texts, of the tokens of the pairs."""
    folder = tmp_path_factory.mktemp("base")
    texts = [text for pair in PAIRS.make_examples("train") for text in (pair.chosen, pair.rejected)]
    (folder / "texts.txt").write_text("\n".join(texts))
    source = TextFiles(
        str(folder / "texts.txt"),
        unit="lines",
        codec=PAIRS.open().codec.tokens,
        layout=Documents(60),
    )
    family = Autoregressive(SMALL, sampler=Decoding(steps=6))
    told = toy.experiment(
        family=family, data=source, optimizer=Adam(Constant(1e-2)), steps=30, batch_size=16
    )
    return genjax.train(told, folder / "run", quiet=True)


def told_of(base_dir, **changes):
    settings = {
        "family": DPO(str(base_dir), beta=0.1),
        "data": PAIRS,
        "optimizer": Adam(Constant(3e-3)),
        "steps": 40,
        "batch_size": 16,
        "evaluators": (PreferenceQuality(), PolicyKL(steps=8)),
        "every": Every(log=1, evaluate=0, sample=0, checkpoint=20),
    }
    return toy.experiment(**settings | changes)


def curve(run_dir):
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return np.array(
        [[r["loss"], r["grad_norm"], r["chosen_log_prob"]] for r in rows if r["split"] == "train"]
    )


@pytest.mark.long
def test_a_run_learns_goes_on_bitwise_and_is_its_base_family(base, tmp_path):
    borrowed = shutil.copytree(base.run_dir, tmp_path / "base")
    told = told_of(borrowed)
    whole = genjax.train(told, tmp_path / "whole", quiet=True)
    genjax.train(dataclasses.replace(told, steps=20), tmp_path / "parts", quiet=True)
    shutil.rmtree(borrowed)
    parts = genjax.train(told, tmp_path / "parts", quiet=True)
    learned = ((run.state.params, run.state.opt_state) for run in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, *learned)
    np.testing.assert_array_equal(curve(tmp_path / "parts"), curve(tmp_path / "whole"))
    close(curve(tmp_path / "whole")[0, 0], math.log(2))
    jax.tree.map(
        np.testing.assert_array_equal, parts.state.frozen[BASE]["params"], base.state.params
    )

    loaded = genjax.load(tmp_path / "parts")
    found = loaded.evaluate().numbers
    assert (
        found["preference_accuracy"] == pytest.approx(found["accuracy"]) and found["accuracy"] > 0.8
    )
    assert found["loss"] < 0.6
    assert found["policy_kl"] > 3 * found["policy_kl_error"] > 0
    assert isinstance(loaded.model().family, Autoregressive)
    as_base = dataclasses.replace(
        base, state=base.state.replace(params=loaded.state.params), codec=loaded.codec
    )
    np.testing.assert_array_equal(loaded.sample(num=3), as_base.sample(num=3))
    kept = load_file(export(loaded, "safetensors", tmp_path / "out")[0])
    wanted = dict(named_leaves({"params": loaded.state.params, "variables": base.state.variables}))
    assert kept.keys() == wanted.keys(), "without the reference"
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(kept[name], leaf)

    again = genjax.train(told_of(tmp_path / "parts", steps=1), tmp_path / "again", quiet=True)
    jax.tree.map(
        np.testing.assert_array_equal, again.state.frozen[BASE]["params"], loaded.state.params
    )


@pytest.mark.long
def test_whole_runs_with_and_without_what_is_known_are_the_same(base, tmp_path, monkeypatch):
    told = told_of(base.run_dir, steps=6)
    genjax.train(told, tmp_path / "known", quiet=True)
    loop = importlib.import_module("genjax.runs.first_state")
    monkeypatch.setattr(loop, "enrich", lambda family, state, split, layout, batch_size: split)
    genjax.train(told, tmp_path / "unknown", quiet=True)
    np.testing.assert_allclose(curve(tmp_path / "known"), curve(tmp_path / "unknown"), rtol=1e-5)


def test_bad_runs_are_refused(base, tmp_path):
    tokens = PAIRS.open().codec.tokens
    for words, message in (
        (tokens.words[1:], "tokens of the data"),
        (tokens.words[::-1], "their codecs differ"),
    ):
        other = dataclasses.replace(PAIRS, codec=dataclasses.replace(tokens, words=words))
        with pytest.raises(UserError, match=message):
            genjax.train(told_of(base.run_dir, data=other), tmp_path / "a", quiet=True)
    with pytest.raises(UserError, match="DPO needs the run .*nowhere, which is not there"):
        genjax.train(told_of(tmp_path / "nowhere"), tmp_path / "b", quiet=True)
    with pytest.raises(UserError, match="DPO needs pairs"):
        genjax.train(told_of(base.run_dir, data=base.experiment.data), tmp_path / "c", quiet=True)
