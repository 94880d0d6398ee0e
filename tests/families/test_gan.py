"""GANs: each loss and cure does what it says, alone and on eight devices, and a stopped run
goes on bitwise.
"""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.data.dataset import Spec
from genjax.data.order.curriculum import Resolutions
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.experiment import Every, Experiment, Keep
from genjax.families.gan import losses as adversarial
from genjax.families.gan.augment import DiscriminatorAugment
from genjax.families.gan.gan import GAN, LatentSampler
from genjax.families.gan.players import Nets
from genjax.family import init_state
from genjax.nets.gan.generators import ConvBackbone, ConvGenerator, MaxoutBackbone, MLPGenerator
from genjax.nets.gan.progressive import Progressive
from genjax.nets.mlp import MLPBackbone
from genjax.optim import SGD, Adam, Players
from genjax.parallel import Devices
from genjax.runs.setup import initial_state, make_step
from genjax.schedules import Constant, Linear
from tests import toy

KEY = jax.random.key(0)
POINTS = Spec("points", (2,), np.zeros(2, np.float32), classes=3)
IMAGES = Spec("image", (8, 8, 1), np.zeros((8, 8, 1), np.float32), classes=3)
SMALL = GAN(4, MLPGenerator((8,)), MLPBackbone((8,)))
CONV = GAN(4, ConvGenerator((8, 4)), ConvBackbone((4, 8)))
STILL = Players(SGD(Constant(0.0)), SGD(Constant(0.0)))
MOVING = Players(SGD(Constant(0.05)), SGD(Constant(0.1)))


def state_of(family, optimizer=MOVING, spec=POINTS, ema=None):
    example = {
        spec.entry: jnp.zeros((1, *spec.shape)),
        "mask": jnp.ones(1),
        "label": jnp.zeros(1, jnp.int32),
    }
    return jax.jit(
        lambda: init_state(*family.init(KEY, example, spec), optimizer.build(100, ema), KEY)
    )()


def batch_of(n, spec=POINTS, seed=0):
    x = jax.random.uniform(jax.random.key(seed), (n, *spec.shape), minval=-1, maxval=1)
    return {spec.entry: x, "mask": jnp.ones(n), "label": jnp.arange(n) % 3}


@functools.cache
def compiled(family, optimizer, ema=None):
    return jax.jit(functools.partial(family.train_step, optimizer=optimizer.build(100, ema)))


def steps(family, count, optimizer=MOVING, spec=POINTS, n=8, ema=None):
    state, metrics = state_of(family, optimizer, spec, ema), []
    for number in range(count):
        state, found = compiled(family, optimizer, ema)(state, batch_of(n, spec, number))
        metrics.append({name: float(mean.value) for name, mean in found.items()})
    return state, metrics


def changed(before, after):
    differs = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    return {part: any(jax.tree.leaves(tree)) for part, tree in differs.items()}


def assert_close(a, b, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), a, b)


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": "minimax", "label_smoothing": 0.1},
        {"loss": "wasserstein", "gradient_penalty": 10.0, "penalty_every": 2},
        {"loss": "hinge", "spectral_norm": "both"},
        {"loss": "least_squares", "pack": 2, "minibatch_std": True},
        {"loss": "relativistic", "r1": 1.0, "r2": 1.0, "conditional": True},
    ],
    ids=lambda fields: fields["loss"],
)
def test_every_loss_moves_both_players(fields):
    family = replace(SMALL, **fields)
    before = state_of(family).params
    state, metrics = steps(family, 3)
    assert changed(before, state.params) == {"generator": True, "discriminator": True}
    assert all(np.isfinite(list(row.values())).all() for row in metrics)
    assert {"loss", "discriminator_loss", "accuracy_real", "accuracy_fake", "oscillation"} <= set(
        metrics[0]
    )
    assert ("penalty" in metrics[0]) == bool(family.r1 or family.gradient_penalty)
    judged = family.evaluate(state, batch_of(8), KEY)
    assert set(judged) == {"loss", "discriminator_loss", "accuracy_real", "accuracy_fake"}
    assert family.sample(state, KEY, 5, family.sampler).shape == (5, 2)


def test_the_first_step_is_the_hand_computed_one():
    """Discriminator: the gradient of softplus(-D(x)) + softplus(D(G(z))); then the generator's
    against the new one.
    """
    family = GAN(2, MLPGenerator(()), MLPBackbone(()))  # G(z) = z A + a, D(x) = x w + b
    state, batch = state_of(family), batch_of(6)
    new, metrics = compiled(family, MOVING)(state, batch)
    game = state.params["generator"]["net"]["output"], state.params["discriminator"]["head"]
    z = family.nets.draw_latents(
        jax.random.fold_in(jax.random.fold_in(state.step_key, 0), 0), 6
    )  # of both players

    def fakes(maker, z):
        return z @ maker["kernel"] + maker["bias"][None]

    def judged(judge, x):
        return (x @ judge["kernel"])[:, 0] + judge["bias"]

    def critic(judge):
        real, fake = judged(judge, batch["points"]), judged(judge, fakes(game[0], z))
        return (jax.nn.softplus(-real) + jax.nn.softplus(fake)).mean()

    loss, gradient = jax.value_and_grad(critic)(game[1])
    judge = jax.tree.map(lambda p, g: p - 0.1 * g, game[1], gradient)
    np.testing.assert_allclose(metrics["discriminator_loss"].value, loss, rtol=1e-5)
    assert_close(new.params["discriminator"]["head"], judge)

    def generator(maker):
        return jax.nn.softplus(-judged(judge, fakes(maker, z))).mean()

    loss, gradient = jax.value_and_grad(generator)(game[0])
    maker = jax.tree.map(lambda p, g: p - 0.05 * g, game[0], gradient)
    np.testing.assert_allclose(metrics["loss"].value, loss, rtol=1e-5)
    assert_close(new.params["generator"]["net"]["output"], maker)


def standing_still(family, batch):
    """The metrics of four steps on one batch, of players that do not move."""
    state, rows = state_of(family, STILL), []
    for _ in range(4):
        state, metrics = compiled(family, STILL)(state, batch)
        rows.append({name: float(mean.value) for name, mean in metrics.items()})
    return rows


def test_lazy_r1_equals_r1_every_step_in_expectation():
    always, lazy = (replace(SMALL, r1=2.0, penalty_every=every) for every in (1, 4))
    each, some = (
        [row["penalty"] for row in standing_still(family, batch_of(8))] for family in (always, lazy)
    )
    np.testing.assert_allclose(np.mean(each), np.mean(some), rtol=1e-5)
    assert some[0] > 0 and some[1:4] == [0, 0, 0]
    # by hand: half the weight times the squared slope of the logit
    state, batch = state_of(always, STILL), batch_of(8)

    def logit(x):
        return always.nets.discriminate(state.params["discriminator"], state.variables, x)[0]

    np.testing.assert_allclose(
        each[0],
        2.0 / 2 * adversarial.squared_gradient_norm(logit, batch["points"]).mean(),
        rtol=1e-5,
    )


def test_clipped_weights_stay_in_their_box():
    state, _ = steps(replace(SMALL, loss="wasserstein", weight_clip=0.01), 2)
    assert max(
        float(jnp.abs(p).max()) for p in jax.tree.leaves(state.params["discriminator"])
    ) <= np.float32(0.01)
    assert max(float(jnp.abs(p).max()) for p in jax.tree.leaves(state.params["generator"])) > 0.01


def test_a_spectrally_normalised_critic_has_slope_of_at_most_about_one():
    family = replace(
        SMALL, loss="hinge", spectral_norm="discriminator", discriminator=MLPBackbone((32, 32))
    )
    state, _ = steps(family, 40)
    params, _ = family.nets.normalise(
        "discriminator", state.params["discriminator"], state.variables, False
    )
    for path, matrix in jax.tree_util.tree_leaves_with_path(params):
        if matrix.ndim == 2:
            np.testing.assert_allclose(
                np.linalg.svd(matrix, compute_uv=False)[0], 1, atol=0.05, err_msg=str(path)
            )
    logits = lambda x: family.nets.discriminate(params, state.variables, x)[0]  # noqa: E731
    slope = adversarial.squared_gradient_norm(logits, 3 * batch_of(64)["points"])
    assert slope.max() < 1.1


def test_several_discriminator_steps_see_a_share_each_and_count_their_own_updates():
    players = replace(MOVING, discriminator_steps=3, discriminator=SGD(Linear(1.0, 0.0, 6)))
    state, metrics = steps(SMALL, 2, players, n=12)
    assert (
        int(state.opt_state["discriminator"].updates) == 6
        and int(state.opt_state["generator"].updates) == 2
    )
    rates = [row["discriminator_learning_rate"] for row in metrics]
    np.testing.assert_allclose(rates, [1 - 1 / 6, 1 - 4 / 6], rtol=1e-5)
    open_schedule = replace(players, discriminator=SGD(Linear(1.0, 0.0))).build(10)["discriminator"]
    np.testing.assert_allclose(open_schedule.learning_rate(jnp.int32(15)), 0.5)


def test_an_update_that_is_not_finite_is_skipped_by_its_player_alone():
    family = replace(SMALL, r1=1.0)
    state = state_of(family)
    nothing = jax.tree.map(lambda p: p * jnp.nan, state.params["generator"])
    broken = state.replace(params=state.params | {"generator": nothing})
    after, metrics = compiled(family, MOVING)(broken, batch_of(8))
    assert float(metrics["skipped"].sum) == 2
    assert (
        changed(state.params, after.params | {"generator": state.params["generator"]})[
            "discriminator"
        ]
        is False
    )
    assert_close(after.variables, broken.variables)


def test_masked_rows_count_nowhere():
    family = replace(SMALL, minibatch_std=True)
    batch = batch_of(8)
    odd = {**batch, "points": batch["points"].at[5:].set(1e3), "mask": batch["mask"].at[5:].set(0)}
    other = {**odd, "points": batch["points"].at[5:].set(-7.0)}
    (a, _), (b, _) = (compiled(family, MOVING)(state_of(family), x) for x in (odd, other))
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def test_labels_reach_both_players():
    family = replace(SMALL, conditional=True)
    state, _ = steps(family, 2)
    one, two = (family.sample(state, KEY, 4, LatentSampler(label=label)) for label in (0, 1))
    assert not np.allclose(one, two)
    turns = family.sample(state, KEY, 4, LatentSampler())
    np.testing.assert_array_equal(turns[0], one[0])
    np.testing.assert_array_equal(turns[1], two[1])
    x = batch_of(4)["points"]
    judged = [
        family.nets.discriminate(state.params["discriminator"], state.variables, x, jnp.full(4, k))[
            0
        ]
        for k in (0, 1)
    ]
    assert not np.allclose(*judged)
    for label in (-1, 3):
        with pytest.raises(UserError, match="labels are from 0 to 2"):
            family.sample(state, KEY, 4, LatentSampler(label=label))
    with pytest.raises(UserError, match="class-conditional"):
        SMALL.sample(state_of(SMALL), KEY, 4, LatentSampler(label=1))


def test_truncated_latents_stay_within_their_bound():
    z = SMALL.nets.draw_latents(KEY, 1000, 0.5)
    assert float(jnp.abs(z).max()) <= 0.5 and float(z.std()) > 0.2


def test_a_pack_is_judged_as_one():
    family = replace(SMALL, pack=2)
    state, x = state_of(family), batch_of(8)["points"]
    judged = family.nets.discriminate(state.params["discriminator"], state.variables, x)[0]
    assert judged.shape == (4,)
    other = family.nets.discriminate(
        state.params["discriminator"], state.variables, x.at[4].add(1.0)
    )[0]
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(judged != other)), [0])  # rows 0 and 4


def test_averaged_generators_draw_with_statistics_of_their_own():
    family = replace(SMALL, generator=MLPGenerator((8,), batch_norm=True))
    state, _ = steps(family, 5, ema=0.9)
    judged = family.eval_state(state)
    assert changed(state.params, judged.params) == {"generator": True, "discriminator": False}
    standing = judged.variables["batch_stats"]["generator"]["norm_0"]
    z = family.nets.draw_latents(jax.random.key(0), 512)
    layer = judged.params["generator"]["net"]["hidden_0"]["kernel"]
    np.testing.assert_allclose(standing["mean"], (z @ layer).mean(0), atol=1e-4)
    np.testing.assert_allclose(standing["var"], (z @ layer).var(0, ddof=1), rtol=1e-3)
    alone = family.sample(
        judged, KEY, 1, family.sampler
    )  # batch statistics of one row would be useless
    assert np.isfinite(alone).all() and np.abs(alone).max() > 1e-3


@pytest.mark.long
def test_the_probability_of_augmentation_follows_the_discriminator():
    augment = DiscriminatorAugment(
        ("flip", "color", "translation", "cutout", "rotation"), 0.5, 0.6, images=100
    )
    np.testing.assert_allclose(augment.adapt(0.5, 0.9, 10), 0.6)
    np.testing.assert_allclose(augment.adapt(0.5, 0.1, 10), 0.4)
    np.testing.assert_allclose(augment.adapt(0.95, 0.9, 10), 1.0)
    state, metrics = steps(replace(CONV, augment=augment), 3, spec=IMAGES)
    signs = [2 * row["accuracy_real"] - 1 for row in metrics]
    expected = 0.5
    for sign, row in zip(signs, metrics, strict=True):
        expected = np.clip(expected + np.sign(sign - 0.6) * 8 / 100, 0, 1)
        np.testing.assert_allclose(row["augment_prob"], expected, rtol=1e-5)
    np.testing.assert_allclose(state.variables["augment_prob"], expected, rtol=1e-5)


@pytest.mark.long
def test_augmentation_lets_the_gradient_through_and_leaves_the_rest_alone():
    images = batch_of(16, IMAGES)["image"]
    for name in ("flip", "rotation", "translation", "cutout", "color"):
        augment = DiscriminatorAugment((name,))
        np.testing.assert_array_equal(augment(KEY, images, 0.0), images)
        found = augment(KEY, images, 1.0)
        assert found.shape == images.shape and not np.allclose(found, images)
        gradient = jax.grad(lambda x, a=augment: (a(KEY, x, 1.0) ** 2).sum())(images)
        assert np.count_nonzero(gradient) > gradient.size / 3, name
        some = augment(KEY, images, 0.5)
        untouched = (some == images).all((1, 2, 3)).mean()
        assert 0.1 < untouched < 0.9, name
    flipped = DiscriminatorAugment(("flip",))(KEY, images, 1.0)
    np.testing.assert_array_equal(flipped, images[:, :, ::-1])


GROWING = GAN(4, Progressive((8, 4)), Progressive((8, 4)))
STAGES = Resolutions((4, 8), (4,), fade=2)


@pytest.mark.long
def test_a_growing_game_goes_through_its_stages_and_samples_at_full_size(run_dir):
    experiment = Experiment(
        GROWING,
        Digits(),
        MOVING,
        curriculum=STAGES,
        steps=8,
        batch_size=16,
        every=Every(1, 4, 4, 4),
        keep=Keep(best=None),
        devices=Devices(count=1),
    )
    early = genjax.train(replace(experiment, steps=4), run_dir, quiet=True)
    assert int(early.state.variables["stage"]) == 0
    samples = early.sample(num=2)
    assert samples.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(
        samples[:, ::2, ::2], samples[:, 1::2, 1::2]
    )  # blocks of 2x2: still 4x4
    late = genjax.train(experiment, run_dir, quiet=True)
    assert int(late.state.variables["stage"]) == 1 and float(late.state.variables["fade"]) == 1
    assert not np.allclose(late.sample(num=2)[:, ::2, ::2], late.sample(num=2)[:, 1::2, 1::2])
    assert np.isfinite(list(late.evaluate().numbers.values())).all()


@pytest.mark.parametrize(
    ("family", "curriculum", "message"),
    [
        (GROWING, Resolutions((2, 8), (4,)), "must be 4x4, 8x8, got 2x2"),
        (replace(CONV), STAGES, "must be 8x8, got 4x4"),
        (GROWING, Resolutions((3, 8), (4,)), "sizes must divide the image size 8x8, got 3"),
    ],
)
def test_a_resolution_that_cannot_be_reached_is_refused_before_the_first_step(
    run_dir, family, curriculum, message
):
    experiment = Experiment(family, Digits(), MOVING, curriculum=curriculum, steps=8, batch_size=16)
    experiment = replace(experiment, devices=Devices(count=1))
    with pytest.raises(UserError, match=message):
        genjax.train(experiment, run_dir, quiet=True)
    assert not (run_dir / "metrics.jsonl").exists() or not (run_dir / "metrics.jsonl").read_text()


EVERYTHING = GAN(
    4,
    MLPGenerator((8,), batch_norm=True),
    ConvBackbone((4, 8)),
    minibatch_std=True,
    r1=1.0,
    penalty_every=3,
    augment=DiscriminatorAugment(("color", "translation"), 0.3, 0.2, images=400),
    spectral_norm="discriminator",
)


@pytest.mark.long
def test_a_stopped_game_goes_on_bitwise(tmp_path):
    """With an adapting augmentation, a lazy penalty, singular vectors, batch statistics and
    two averages.
    """
    experiment = Experiment(
        EVERYTHING,
        Digits(),
        Players(Adam(Constant(1e-3)), Adam(Constant(1e-3)), discriminator_steps=2),
        steps=7,
        batch_size=16,
        ema=0.9,
        every=Every(1, 0, 0, 1),
        keep=Keep(best=None),
        devices=Devices(count=1),
    )
    whole = genjax.train(experiment, tmp_path / "whole", quiet=True).state
    genjax.train(replace(experiment, steps=4), tmp_path / "parts", quiet=True)
    again = genjax.train(experiment, tmp_path / "parts", quiet=True).state
    plain = (s.replace(key=jax.random.key_data(s.key)) for s in (whole, again))
    for a, b in zip(*map(jax.tree.leaves, plain), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(whole.variables["augment_prob"]) != np.float32(0.3)


def trajectory(devices, family, optimizer=MOVING):
    layout = parallel.start(devices)
    experiment = Experiment(family, toy.Pictures(), optimizer, steps=20, batch_size=16)
    spec = replace(
        toy.Pictures().open().spec, shape=(8, 8, 1), mean=np.zeros((8, 8, 1), np.float32)
    )
    make = initial_state(experiment, spec)
    state, step = (
        layout.init(make),
        layout.compile_step(make_step(experiment), layout.eval_shapes(make)),
    )
    found = []
    for number in range(20):
        batch = batch_of(16, spec, number) | {"mask": jnp.ones(16).at[3].set(0)}
        state, packed = step(state, layout.place(batch))
        found.append(np.asarray(packed.pairs)[..., 0] / np.asarray(packed.pairs)[..., 1])
    return np.array(found), packed.names, jax.device_get(state.variables["batch_stats"])


NORMED = GAN(
    4,
    MLPGenerator((8,), batch_norm=True),
    ConvBackbone((4, 8), batch_norm=True),
    minibatch_std=True,
    spectral_norm="discriminator",
)


@pytest.mark.long
def test_eight_sharded_devices_equal_one():
    (one, names, stats), (eight, _, others) = (
        trajectory(d, NORMED) for d in (Devices(count=1), Devices(count=8, mode="sharded", fsdp=2))
    )
    assert {"generator_grad_norm", "discriminator_grad_norm", "loss"} <= set(names)
    np.testing.assert_allclose(eight, one, rtol=2e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), others, stats)


def latents_by_row(self, key, n, truncation=None):
    """Otherwise each mapped device draws for its own rows; here a row's latents are the same
    on any device.
    """
    try:
        first = jax.lax.axis_index("data") * n
    except NameError:
        first = 0

    def draw(row):
        return jax.random.normal(jax.random.fold_in(jax.random.key(7), row), (self.latent_dim,))

    return jax.vmap(draw)(first + jnp.arange(n))


@pytest.mark.long
def test_eight_mapped_devices_equal_one_where_their_draws_are_the_same(monkeypatch):
    monkeypatch.setattr(Nets, "draw_latents", latents_by_row)
    (one, _, stats), (eight, _, others) = (
        trajectory(d, NORMED) for d in (Devices(count=1), Devices(count=8))
    )
    np.testing.assert_allclose(eight, one, rtol=2e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), others, stats)


def gauges_of(
    family, optimizer, count, data=Points("eight_gaussians", size=512, test_size=64), tmp=None
):
    experiment = Experiment(
        family,
        data,
        optimizer,
        steps=count,
        batch_size=64,
        every=Every(100, 0, 0, 0),
        keep=Keep(best=None),
        evaluators=(GameGauges(),),
        devices=Devices(count=1),
        steps_per_dispatch=20,
    )
    report = genjax.train(experiment, tmp, quiet=True).evaluate()
    return report.numbers, " ".join(report.remarks)


def test_the_gauge_of_strength_goes_red_when_the_generator_stands_still(run_dir):
    players = Players(SGD(Constant(0.0)), Adam(Constant(3e-3)))
    numbers, remarks = gauges_of(
        replace(SMALL, discriminator=MLPBackbone((64, 64))), players, 400, tmp=run_dir
    )
    assert numbers["strength"] > 0.97 and "discriminator is too strong" in remarks


def test_the_gauge_of_oscillation_goes_red_when_players_chase_each_other(run_dir):
    """Dirac-GAN (Mescheder et al., 2018): a linear critic and a generator that only shifts."""
    circling = GAN(
        1, MLPGenerator(()), MLPBackbone(()), loss="wasserstein", weight_clip=100.0, init_std=1e-3
    )
    numbers, remarks = gauges_of(
        circling, Players(SGD(Constant(0.3)), SGD(Constant(0.3))), 400, tmp=run_dir
    )
    assert numbers["oscillation"] > 1 and "chase each other" in remarks


def test_the_gauges_are_green_in_a_game_that_holds(run_dir):
    calm = replace(SMALL, generator=MLPGenerator((32,)), discriminator=MLPBackbone((32,)), r1=1.0)
    numbers, remarks = gauges_of(
        calm, Players(Adam(Constant(1e-4)), Adam(Constant(1e-4))), 400, tmp=run_dir
    )
    assert numbers["oscillation"] < 1 and numbers["strength"] < 0.97 and not remarks


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "hingee"}, "did you mean 'hinge'"),
        ({"loss": "wasserstein"}, "needs gradient_penalty, weight_clip"),
        ({"loss": "hinge", "gradient_penalty": 10.0}, "for the hinge loss: use r1 or r2"),
        ({"weight_clip": 0.01}, "must be None for the non_saturating loss"),
        ({"loss": "wasserstein", "weight_clip": 0.01, "gradient_penalty": 1.0}, "set one of them"),
        ({"loss": "hinge", "label_smoothing": 0.1}, "label_smoothing must be 0"),
        ({"label_smoothing": 0.5}, "below 0.5"),
        ({"penalty_every": 4}, "without a penalty"),
        ({"r1": -1.0}, "r1"),
        ({"pack": 0}, "pack"),
        ({"pack": 2, "conditional": True}, "with labels"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"init_std": 0.0}, "init_std"),
        ({"weight_clip": -1.0, "loss": "wasserstein"}, "weight_clip"),
        ({"spectral_norm": "bth"}, "did you mean 'both'"),
        ({"generator": Progressive((4, 4))}, "both be Progressive"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        replace(SMALL, **fields)


def test_what_the_data_or_the_optimizer_tell_is_refused_before_the_first_step():
    with pytest.raises(UserError, match="without batch norm"):
        state_of(
            replace(CONV, r1=1.0, discriminator=ConvBackbone((4, 8), batch_norm=True)), spec=IMAGES
        )
    with pytest.raises(UserError, match="policy is for images"):
        state_of(replace(SMALL, augment=DiscriminatorAugment(("flip",))))
    with pytest.raises(UserError, match="needs labels"):
        state_of(replace(SMALL, conditional=True), spec=replace(POINTS, classes=None))
    with pytest.raises(UserError, match="images"):
        state_of(CONV)
    with pytest.raises(UserError, match="in 1 discriminator step.* got 3"):
        steps(replace(SMALL, pack=3), 1)
    with pytest.raises(UserError, match="two players"):
        SMALL.train_step(state_of(SMALL), batch_of(4), optimizer=SGD().build(10))
    with pytest.raises(UserError, match="needs a family with a generator"):
        Players().check({"encoder": 0})
    with pytest.raises(UserError, match="discriminator_steps"):
        Players(discriminator_steps=0)
    with pytest.raises(UserError, match="truncation"):
        LatentSampler(truncation=0.0)
    with pytest.raises(UserError, match="did you mean 'color'"):
        DiscriminatorAugment(("colour",))
    with pytest.raises(UserError, match="target"):
        DiscriminatorAugment((), target=0.6)


def test_maxout_units_are_the_largest_of_their_pieces():
    net = MaxoutBackbone((3,), 4).backbone()
    x = batch_of(5)["points"]
    params = net.init(KEY, x, train=True)
    layer = params["params"]["hidden_0"]
    by_hand = (x @ layer["kernel"] + layer["bias"][None]).reshape(5, 4, 3).max(1)
    np.testing.assert_allclose(net.apply(params, x, train=True), by_hand, rtol=1e-6)
