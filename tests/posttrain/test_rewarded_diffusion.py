"""Rewarded diffusions: losses and path KL by hand, the base at the start, one device and
eight, and bitwise resume.
"""

import dataclasses
import functools
import itertools
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.continued import apply_initial_params
from genjax.data.dataset import Spec
from genjax.data.sources import Digits
from genjax.data.text.hashed import HashedText
from genjax.errors import UserError
from genjax.evaluation.images.reward_of_images import RewardOfImages
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.diffusion.bound import Learned
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.diffusion.latent import LatentDiffusion
from genjax.family import Trained, init_state, make_example
from genjax.nets.transformer.dit import DiT
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.posttrain.rewarded_diffusion import (
    BASE,
    RewardedDiffusion,
    compute_errors,
    compute_metrics,
    draw_samples,
    pick_best_and_worst,
    update,
)
from genjax.samplers import DDIM, DDPM
from genjax.samplers.diffusion.processes import EDM, Straight, VPCosine
from genjax.schedules import Constant, Linear
from tests import toy

KEY = jax.random.key(0)
SHAPE, CLASSES, B, K = (4, 4, 1), 3, 8, 3
SPEC = Spec("image", SHAPE, np.zeros(SHAPE, np.float32), classes=CLASSES)
NET = DiT(2, 8, 1, 1)
BASE_FAMILY = Diffusion(NET, width=8, conditional=True, drop_label=0.25, sampler=Denoising(DDIM(2)))


def brightness(images, labels):
    return images.mean((1, 2, 3))


def family_of(base=BASE_FAMILY, **changes):
    settings = {
        "reward": brightness,
        "method": "weighted",
        "samples": K,
        "steps": 4,
        "updates": 2,
        "beta": 10.0,
    }
    return RewardedDiffusion("base", **settings | changes).resolve(
        {BASE: Trained("base", base, SPEC)}, SPEC
    )


def moved(params, seed=9, by=0.1):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [x + by * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


@functools.cache
def trained(base):
    """Parameters and variables in the place of a trained model's; a fresh network predicts 0."""
    params, variables = jax.jit(lambda: base.init(jax.random.key(5), make_example(SPEC), SPEC))()
    return moved(params, 3), variables


def state_of(family, by=0.0):
    """A state of step 0; the policy is moved away from the base by that much."""
    base, variables = trained(family.base)
    params, own = jax.jit(lambda: family.init(KEY, make_example(SPEC), SPEC))()
    state = init_state(params, own, SGD(Constant(0.1)).build(4), KEY)
    state = apply_initial_params(
        family, state.replace(frozen={BASE: {"params": base, "variables": variables}})
    )
    return state.replace(params=moved(state.params, by=by)) if by else state


def batch_of(rows=B):
    images = jax.random.uniform(KEY, (rows, *SHAPE), minval=-1)
    return {"image": images, "label": jnp.arange(rows) % CLASSES, "mask": jnp.ones(rows)}


@functools.cache
def collected(method):
    family = family_of(method=method)
    return family.collect(state_of(family, 0.1), batch_of(), KEY)


@pytest.mark.parametrize("method", ["weighted", "dpo"])
def test_what_is_collected_has_the_shapes_that_a_plan_compiles_for(method):
    family = family_of(method=method)
    shapes = family.shape_collected(state_of(family), batch_of())
    assert {name: (x.shape, x.dtype) for name, x in shapes.items()} == {
        name: (np.shape(x), np.asarray(x).dtype) for name, x in collected(method).items()
    }


@pytest.mark.long
def test_it_begins_as_the_base():
    family = family_of()
    state = state_of(family)
    jax.tree.map(np.testing.assert_array_equal, state.params, state.frozen[BASE]["params"])
    batch = family.collect(state, batch_of(), KEY)
    assert not batch["kl"].any()
    assert (
        family.wrapped == BASE_FAMILY
        and family_of(sampler=Denoising(DDIM(3))).wrapped.sampler.solver.steps == 3
    )
    judged = family.eval_state(state)
    jax.tree.map(np.testing.assert_array_equal, judged.params, state.frozen[BASE]["params"])
    assert judged.frozen is None and judged.variables.keys() == {"mean"}


@pytest.mark.parametrize(
    "process", [VPCosine(), EDM(), Straight()], ids=lambda process: type(process).__name__
)
@pytest.mark.long
def test_samples_are_those_of_ddpm_and_the_kl_is_that_of_its_normal_steps(process):
    base = dataclasses.replace(BASE_FAMILY, process=process, sampler=Denoising(DDPM(4), clip=True))
    state = state_of(family_of(base), 0.1)
    reference, label, key = state.frozen[BASE]["params"], jnp.arange(6) % CLASSES, jax.random.key(7)
    images, kl = draw_samples(base, 4, (6, *SHAPE), state.params, reference, label, key)
    judged = family_of(base).eval_state(state)
    wanted = base.sample(judged, key, 6, base.sampler)
    np.testing.assert_allclose(images, wanted, atol=1e-4)

    seen = []

    def watched(x, t):
        jax.debug.callback(lambda x, t: seen.append((np.asarray(x), float(t))), x, t, ordered=True)
        return base.denoise(judged, 6, base.sampler)(x, t)

    start, way = jax.random.split(key)
    noise = process.alpha_sigma(jnp.ones(()))[1] * jax.random.normal(start, (6, *SHAPE))
    base.sampler.solver(watched, process, noise, way)
    jax.effects_barrier()
    several = (judged.replace(params=params) for params in (state.params, reference))
    estimates = [jax.jit(base.denoise(each, 6, base.sampler)) for each in several]
    total = np.zeros(6)
    for (x, t), (_, after) in itertools.pairwise(seen):
        (a, s), (b, u) = (
            [float(v) for v in process.alpha_sigma(jnp.asarray(time))] for time in (t, after)
        )
        # The mean and variance of q(x' | x, x0), as Ho et al. write them for any alpha and sigma.
        forward = s**2 - (a / b) ** 2 * u**2
        variance = forward * u**2 / s**2
        means = [
            (a / b) * (u / s) ** 2 * x + b * forward / s**2 * np.asarray(e(x, jnp.asarray(t)))
            for e in estimates
        ]
        total += ((means[0] - means[1]) ** 2).sum((1, 2, 3)) / (2 * variance)
    assert len(seen) == 4 and kl.min() > 0
    np.testing.assert_allclose(kl, total, rtol=2e-3)


def test_weights_are_the_softmax_of_rewards_within_a_row():
    batch = collected("weighted")
    rewards = np.asarray(batch["drawn"]).mean((2, 3, 4))
    np.testing.assert_allclose(batch["weight"], jax.nn.softmax(rewards / 0.1), rtol=1e-4)
    np.testing.assert_allclose(batch["weight"].sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(batch["reward"], rewards.mean(1), atol=1e-6)
    assert np.ptp(rewards, 1).min() > 0.01, "a row's samples differ"
    family = family_of(reward=brighter_by_5)
    shifted = family.collect(state_of(family, 0.1), batch_of(), KEY)
    np.testing.assert_allclose(shifted["weight"], batch["weight"], rtol=1e-4)
    np.testing.assert_allclose(shifted["reward"], batch["reward"] + 5, rtol=1e-5)


def brighter_by_5(images, labels):
    return brightness(images, labels) + 5


def test_rewards_are_asked_with_the_label_of_the_row():
    found = []

    def reward(images, labels):
        found.append((images, labels))
        return labels

    family = family_of(reward=reward)
    batch = family.collect(state_of(family), batch_of(), KEY)
    (images, labels), shape = found[0], (B * K, *SHAPE)
    assert images.shape == shape and images.dtype == np.float32 and abs(images).max() <= 1
    np.testing.assert_array_equal(labels, np.repeat(np.arange(B) % CLASSES, K))
    np.testing.assert_array_equal(batch["reward"], np.arange(B) % CLASSES)
    np.testing.assert_array_equal(batch["drawn"].reshape(shape), images)


def test_pairs_are_of_the_best_and_the_worst():
    images = jnp.arange(6.0).reshape(2, 3)[..., None]
    pairs, share = pick_best_and_worst(images, jnp.array([[0.5, -1.0, 2.0], [1.0, 1.0, 1.0]]))
    np.testing.assert_array_equal(pairs[0, :, 0], [2, 1])
    assert pairs[1, 0, 0] != pairs[1, 1, 0], "two samples"
    np.testing.assert_array_equal(share, [[1, 0], [0.5, 0.5]])
    batch = collected("dpo")
    assert batch["drawn"].shape == (B, 2, *SHAPE)
    means = batch["drawn"].mean((2, 3, 4))
    assert (means[:, 0] > means[:, 1]).all()


def squared_errors(family, params, batch, several, t, key):
    """The error of each of several images [B, n] with the weight 1, without hidden labels: the
    target is v.
    """

    def of_row(row, images, t, label):
        noise = jax.random.normal(jax.random.split(jax.random.fold_in(key, row))[0], SHAPE)[None]
        alpha, sigma = family.base.process.alpha_sigma(t)
        n = len(images)
        told = {"label": jnp.full(n, label)}
        output = family.base.predict(params, alpha * images + sigma * noise, jnp.full(n, t), told)
        return jnp.square(output - (alpha * noise - sigma * images)).mean((1, 2, 3))

    return jax.vmap(of_row)(jnp.arange(B), several, t, batch["label"])


def dpo_by_hand(family, params, reference, batch, t, key):
    (won, lost), (won_before, lost_before) = (
        squared_errors(family, p, batch, batch["drawn"], t, key).T for p in (params, reference)
    )
    margin = -family.beta * ((won - won_before) - (lost - lost_before))
    return jnp.log1p(jnp.exp(-margin)).mean()


def test_dpo_begins_at_ln_2_with_the_gradient_of_the_pair_s_errors():
    family = family_of(dataclasses.replace(BASE_FAMILY, drop_label=0.0), method="dpo", beta=100.0)
    batch, t = collected("dpo"), jnp.linspace(0.1, 0.9, B)
    reference = state_of(family).params

    @jax.jit
    @jax.value_and_grad
    def found(params):
        mean = compute_metrics(family, params, reference, batch, t, KEY)["loss"]
        return mean.sum / mean.weight

    wanted = jax.jit(
        jax.value_and_grad(lambda params: dpo_by_hand(family, params, reference, batch, t, KEY))
    )
    np.testing.assert_allclose(found(reference)[0], math.log(2), rtol=1e-6)
    for params in (reference, moved(reference)):
        (value, grads), (expected, by_hand) = found(params), wanted(params)
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4), grads, by_hand
        )
    assert abs(value - math.log(2)) > 0.01
    assert max(abs(g).max() for g in jax.tree.leaves(grads)) > 0.1


def test_a_tie_prefers_neither():
    family, batch = family_of(method="dpo"), collected("dpo")
    tied, t = batch | {"weight": jnp.full((B, 2), 0.5)}, jnp.full(B, 0.5)
    reference = state_of(family).params
    grads = jax.jit(
        jax.grad(lambda p: compute_metrics(family, p, reference, tied, t, KEY)["loss"].sum)
    )(reference)
    assert all(abs(g).max() < 1e-5 for g in jax.tree.leaves(grads))


@pytest.mark.long
def test_the_weighted_loss_is_that_of_the_samples_by_their_weights_and_of_the_data():
    family = family_of(dataclasses.replace(BASE_FAMILY, drop_label=0.0), data=0.5)
    batch, t = collected("weighted"), jnp.linspace(0.1, 0.9, B)
    params = state_of(family).params
    metrics = jax.jit(lambda: compute_metrics(family, params, params, batch, t, KEY))()
    several = jnp.concatenate([batch["drawn"], batch["image"][:, None]], 1)
    found = squared_errors(family, params, batch, several, t, KEY)
    weighted = (found[:, :K] * batch["weight"]).sum(1).mean()
    np.testing.assert_allclose(metrics["policy_loss"].value, weighted, rtol=1e-4)
    np.testing.assert_allclose(metrics["data_loss"].value, found[:, K].mean(), rtol=1e-4)
    np.testing.assert_allclose(
        metrics["loss"].value, weighted + 0.5 * found[:, K].mean(), rtol=1e-4
    )
    effective = 1 / (batch["weight"] ** 2).sum(1)
    np.testing.assert_allclose(metrics["effective_samples"].value, effective.mean(), rtol=1e-5)


def test_labels_are_hidden_as_often_as_from_the_base():
    batch, t, params = collected("weighted"), jnp.full(B, 0.5), trained(BASE_FAMILY)[0]
    always, never = (
        family_of(dataclasses.replace(BASE_FAMILY, drop_label=share)) for share in (0.999, 0.0)
    )
    null = batch | {"label": jnp.full(B, CLASSES)}
    hidden, unconditional, told = (
        jax.jit(compute_metrics, static_argnums=0)(family, params, params, given, t, KEY)[
            "loss"
        ].sum
        for family, given in ((always, batch), (never, null), (never, batch))
    )
    np.testing.assert_allclose(hidden, unconditional, rtol=1e-6)
    assert abs(hidden - told) > 1e-3


@pytest.mark.parametrize(
    "base",
    [
        Diffusion(NET, Straight(), "velocity", "min_snr", width=8),
        Diffusion(NET, EDM(), "v", "edm", width=8, data_std=0.5),
    ],
    ids=["velocity", "edm"],
)
@pytest.mark.long
def test_the_error_is_the_loss_of_the_base(base):
    """At the base's own draws of times and noise."""
    params = trained(base)[0]
    images, key = batch_of()["image"], jax.random.key(2)
    keys = jax.random.split(key, 6)
    noise, t = base.noise.draw(keys[0], images.shape), base.process.draw_times(keys[4], B)
    wanted = base.compute_terms(params, {}, images, None, key)["loss"]
    np.testing.assert_allclose(
        compute_errors(base, params, images[:, None], noise, t, None)[:, 0], wanted, rtol=1e-4
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def updated(family, state, batch, optimizer=SGD(Constant(0.1))):
    return update(family, state, batch, optimizer=optimizer.build(4))


@pytest.mark.parametrize("method", ["weighted", "dpo"])
def test_a_train_step_makes_all_updates_counts_one_and_leaves_the_reference(method):
    family = family_of(method=method, updates=3)
    state, batch = state_of(family), collected(method)
    batch = batch | {"times": jnp.tile(batch["times"][:, :1], 3)}
    after, metrics = updated(family, state, batch, SGD(Linear(0.1, 0.0)))
    assert after.step == 1 and after.opt_state.updates == 3
    np.testing.assert_allclose(
        metrics["learning_rate"].value, 0.1, rtol=1e-6
    )  # that of the train step
    for name in ("reward", "kl"):
        np.testing.assert_allclose(metrics[name].value, batch[name].mean(), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)
    assert any(
        (a != b).any()
        for a, b in zip(*map(jax.tree.leaves, (after.params, state.params)), strict=True)
    )
    assert ("accuracy" in metrics) == (method == "dpo") and ("effective_samples" in metrics) == (
        method == "weighted"
    )


def test_times_are_spread_over_the_rows_in_another_order_for_each_update():
    times = np.asarray(collected("weighted")["times"])
    assert times.shape == (B, 2)
    np.testing.assert_allclose(np.diff(np.sort(times, 0), axis=0), 1 / B, rtol=1e-4)
    assert (np.argsort(times[:, 0]) != np.argsort(times[:, 1])).any() and (
        np.diff(times[:, 0]) < 0
    ).any()


@pytest.mark.long
def test_rows_that_fill_a_batch_up_weigh_nothing():
    family, batch, mask = family_of(), collected("weighted"), jnp.array([1, 1, 1, 1, 0, 0, 0, 0.0])
    a, b = (
        updated(family, state_of(family), each)[0].params
        for each in (batch | {"mask": mask}, {name: value[:4] for name, value in batch.items()})
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


@pytest.mark.parametrize("method", ["weighted", "dpo"])
@pytest.mark.parametrize(
    "devices",
    [Devices(count=8), Devices(count=8, mode="sharded", fsdp=2)],
    ids=["mapped", "sharded"],
)
@pytest.mark.long
def test_fixed_samples_give_the_same_update_on_eight_devices(devices, method):
    family = family_of(method=method, data=0.5)
    batch = collected(method)
    found = []
    for optimizer, layout in (
        (SGD(Constant(0.1), accumulate=2), parallel.start(Devices(count=1))),
        (SGD(Constant(0.1)), parallel.start(devices)),
    ):
        rule = optimizer.build(4)
        state = layout.init(lambda: state_of(family))
        step = layout.compile_step(
            lambda s, b, axis, rule=rule: update(family, s, b, optimizer=rule, axis=axis), state
        )
        found.append(jax.device_get(step(state, layout.place(batch))))
    (one, numbers), (eight, others) = found
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        one.params,
        eight.params,
    )
    for name in ("loss", "grad_norm", "reward", "kl"):
        np.testing.assert_allclose(numbers[name].value, others[name].value, rtol=1e-4, atol=1e-6)


def fails_on_1(images, labels):
    return [{0: 0.0, 2: 0.0}[int(label)] for label in labels]


def one_too_many(images, labels):
    return np.zeros(len(images) + 1)


def nan_of_2(images, labels):
    return np.where(labels == 2, np.nan, 0.0)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (fails_on_1, "the reward fails_on_1 failed on sample 3 of label 1: KeyError: 1"),
        (
            one_too_many,
            r"image, 24, got an array of shape \[25\]; the first image is sample 0 of label 0",
        ),
        (nan_of_2, "the reward nan_of_2 must be finite, got nan for sample 6 of label 2"),
    ],
)
def test_a_reward_that_fails_names_the_sample(reward, words):
    family = family_of(reward=reward)
    with pytest.raises(UserError, match=words):
        family.collect(state_of(family), batch_of(), KEY)


def test_what_does_not_fit_is_refused():
    for settings, words in (
        ({"reward": None}, "reward must be a function"),
        ({"method": "ppo"}, "method must be one of 'weighted', 'dpo'"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"steps": 1}, "steps must be at least 2"),
        ({"updates": 0}, "updates must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"data": -1.0}, "data must be at least 0"),
    ):
        with pytest.raises(UserError, match=words):
            family_of(**settings)
    points = Spec("points", (2,), np.zeros(2, np.float32))
    told = dataclasses.replace(SPEC, condition=8)
    for base, learned, data, words in (
        (Autoregressive(), SPEC, SPEC, "base is a Autoregressive of image"),
        (LatentDiffusion(), SPEC, SPEC, "a Diffusion of images, but base is a LatentDiffusion"),
        (BASE_FAMILY, points, points, "is a Diffusion of points"),
        (
            BASE_FAMILY,
            SPEC,
            dataclasses.replace(SPEC, shape=(8, 8, 1)),
            r"shape \[4, 4, 1\], but the data are image",
        ),
        (
            BASE_FAMILY,
            SPEC,
            dataclasses.replace(SPEC, classes=5),
            "must have the 5 labels of the data, but .* has 3",
        ),
        (
            Diffusion(NET, text=HashedText(8)),
            told,
            told,
            r"family\.base must not be conditioned on text, as base is",
        ),
        (
            Diffusion(NET, Learned(), "noise", "likelihood"),
            SPEC,
            SPEC,
            "a fixed process and independent Gaussian noise",
        ),
        (
            Diffusion(NET, coupling="optimal"),
            SPEC,
            SPEC,
            "independent Gaussian noise, unlike base",
        ),
    ):
        with pytest.raises(UserError, match=words):
            RewardedDiffusion("base", brightness).resolve(
                {BASE: Trained("base", base, learned)}, data
            )


EVERY = Every(log=1, evaluate=0, sample=0, checkpoint=2)
DIGITS = toy.Shortened(Digits())


def base_run(conditional, folder):
    family = dataclasses.replace(BASE_FAMILY, conditional=conditional)
    experiment = Experiment(
        family,
        DIGITS,
        Adam(Constant(1e-2)),
        steps=4,
        batch_size=8,
        every=EVERY,
        devices=Devices(count=1),
    )
    return genjax.train(experiment, folder, quiet=True)


@pytest.mark.long
@pytest.mark.parametrize(("method", "conditional"), [("weighted", True), ("dpo", False)])
def test_a_run_goes_on_bitwise_and_needs_its_base_no_more(method, conditional, tmp_path):
    base = base_run(conditional, tmp_path / "base")
    family = RewardedDiffusion(str(base.run_dir), brightness, method, steps=3, updates=2, data=0.1)
    experiment = Experiment(
        family,
        DIGITS,
        Adam(Constant(1e-3)),
        steps=4,
        batch_size=8,
        ema=0.9,
        evaluators=(RewardOfImages(brightness, samples=8),),
        every=EVERY,
        devices=Devices(count=1),
    )
    whole = genjax.train(experiment, tmp_path / "whole", quiet=True)
    genjax.train(dataclasses.replace(experiment, steps=2), tmp_path / "parts", quiet=True)
    shutil.rmtree(base.run_dir)
    parts = genjax.train(experiment, tmp_path / "parts", quiet=True)
    wanted, got = (
        jax.tree.leaves((run.state.params, run.state.ema, run.state.opt_state))
        for run in (whole, parts)
    )
    for a, b in zip(wanted, got, strict=True):
        np.testing.assert_array_equal(a, b)
    jax.tree.map(
        np.testing.assert_array_equal, parts.state.frozen[BASE]["params"], base.state.params
    )
    rows = [
        json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    ]
    kl = [row["kl"] for row in rows if row["split"] == "train"]
    assert kl[0] == 0 < min(kl[1:]) and all(
        np.isfinite(row["reward"]) for row in rows if row["split"] == "train"
    )
    loaded = genjax.load(tmp_path / "parts")
    found = loaded.evaluate().numbers
    assert np.isfinite([found["reward"], found["reward_error"], found["loss"]]).all()
    np.testing.assert_array_equal(loaded.sample(num=2), parts.sample(num=2))
    assert isinstance(loaded.model().family, Diffusion)


@pytest.mark.long
def test_the_reward_of_a_run_rises(tmp_path):
    base = base_run(True, tmp_path / "base")
    family = RewardedDiffusion(
        str(base.run_dir), brightness, "weighted", steps=4, updates=8, temperature=0.05
    )
    experiment = Experiment(
        family,
        DIGITS,
        Adam(Constant(3e-3)),
        steps=12,
        batch_size=8,
        every=EVERY,
        devices=Devices(count=1),
    )
    genjax.train(experiment, tmp_path / "run", quiet=True)
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    rewards = [row["reward"] for row in rows if row["split"] == "train"]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.05
