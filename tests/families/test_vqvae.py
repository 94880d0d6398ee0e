"""The VQ-VAE against brute force, a naive numpy codebook, hand-made gradients, and itself on
other devices.
"""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset, Spec
from genjax.data.sources import Digits, Points
from genjax.data.splits import Arrays
from genjax.errors import UserError
from genjax.experiment import Every
from genjax.families import quantisers, vqvae
from genjax.families.likelihoods import Bernoulli, Gaussian
from genjax.families.vqvae import VQVAE
from genjax.family import init_state
from genjax.nets.conv.conv import ConvCoder
from genjax.nets.conv.spatial import SpatialCoder
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.runs.setup import initial_state, make_step
from genjax.schedules import Constant
from tests import toy

KEY = jax.random.key(0)
SHAPE = (6, 5, 2)  # a grid of 3 x 3
SMALL = VQVAE(codes=7, code_dim=3, coder=SpatialCoder((4,), residual_blocks=0))
STEP = SGD(Constant(1.0))  # moves the parameters by minus their gradient


@functools.cache
def state_of(family, shape=SHAPE, optimizer=STEP, spread=0.5):
    mean = spread * np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    example = {"image": jnp.zeros((1, *shape)), "mask": jnp.ones(1)}

    def make():
        return init_state(
            *family.init(KEY, example, Spec("image", shape, mean)), optimizer.build(100), KEY
        )

    return jax.jit(make)()


@functools.cache
def compiled(family, optimizer):
    return jax.jit(functools.partial(family.train_step, optimizer=optimizer.build(100)))


def images(n, shape=SHAPE, seed=1):
    x = jax.random.uniform(jax.random.key(seed), (n, *shape), minval=-1, maxval=1)
    return {"image": x, "mask": jnp.ones(n)}


def stepped(family, state, batch, optimizer=STEP):
    return compiled(family, optimizer)(state, batch)


def encoded(family, state, x):
    """Outputs of the encoder, [B, h, w, D]."""
    return jax.jit(family.encode)(state.params, state.variables, x)


def brute_nearest(codebook, z):
    return np.square(np.asarray(z)[:, None] - np.asarray(codebook)[None]).sum(-1).argmin(1)


def test_the_nearest_code_is_that_of_brute_force():
    z, codebook = (
        jax.random.normal(KEY, (500, 6)),
        0.7 * jax.random.normal(jax.random.key(1), (40, 6)),
    )
    found = quantisers.find_nearest(codebook, z)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, brute_nearest(codebook, z))


def test_the_codebook_follows_its_moving_averages():
    """Three steps beside a loop over the rows; the last code is never chosen and stays."""
    draw = np.random.default_rng(0)
    codebook = draw.normal(size=(5, 3))
    codebook[4] = 100.0
    variables = {
        "codebook": jnp.float32(codebook),
        "counts": jnp.zeros(5),
        "sums": jnp.zeros((5, 3)),
    }
    counts, sums = np.zeros(5), np.zeros((5, 3))
    for _ in range(3):
        z, seen = (
            draw.normal(size=(20, 3)).astype(np.float32),
            (draw.uniform(size=20) < 0.7).astype(np.float32),
        )
        chosen = quantisers.find_nearest(variables["codebook"], z)
        np.testing.assert_array_equal(chosen, brute_nearest(codebook, z))
        variables = quantisers.update_codebook(variables, z, seen, chosen, 0.9)
        counts, sums = 0.9 * counts, 0.9 * sums
        for row, weight, code in zip(z, seen, np.asarray(chosen), strict=True):
            counts[code] += 0.1 * weight
            sums[code] += 0.1 * weight * row
        for code in range(4):
            smoothed = (counts[code] + 1e-5) / (counts.sum() + 5 * 1e-5) * counts.sum()
            codebook[code] = sums[code] / smoothed
        np.testing.assert_allclose(variables["counts"], counts, rtol=1e-5)
        np.testing.assert_allclose(variables["codebook"], codebook, rtol=1e-4, atol=1e-5)


def test_with_no_decay_a_code_is_the_mean_of_those_that_chose_it():
    z = jnp.asarray([[1.0, 2.0], [3.0, 4.0], [-5.0, 0.0]])
    variables = {"codebook": jnp.zeros((2, 2)), "counts": jnp.ones(2), "sums": jnp.ones((2, 2))}
    found = quantisers.update_codebook(variables, z, jnp.ones(3), jnp.asarray([0, 0, 1]), 0.0)[
        "codebook"
    ]
    np.testing.assert_allclose(found, [[2.0, 3.0], [-5.0, 0.0]], rtol=1e-4)


def test_gradients_go_straight_through_and_the_commitment_pulls_the_encoder_alone():
    """By hand: the decoder's gradient for the codes is handed to the encoder, 2 weight (z - e)
    / (h w) added.
    """
    commitment = 20.0  # about as strong as the likelihood
    family, batch = replace(SMALL, commitment=commitment), images(4)
    state = state_of(family)
    moved, _ = stepped(family, state, batch)
    gradient = jax.tree.map(lambda before, after: before - after, state.params, moved.params)

    x, variables = batch["image"], state.variables
    z = encoded(family, state, x)
    e = variables["codebook"][brute_nearest(variables["codebook"], z.reshape(-1, 3))].reshape(
        z.shape
    )

    @jax.jit
    def by_hand(params):
        def nll(decoder, e):
            outputs = family.decode(params | {"decoder": decoder}, variables, e)
            return family.likelihood.nll({}, outputs, x).mean()

        for_decoder, for_codes = jax.grad(nll, (0, 1))(params["decoder"], e)
        _, back = jax.vjp(
            lambda encoder: family.encode({"encoder": encoder}, variables, x), params["encoder"]
        )
        return back(for_codes + 2 * commitment * (z - e) / (9 * 4))[0], for_decoder

    for_encoder, for_decoder = by_hand(state.params)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)  # noqa: E731
    jax.tree.map(close, gradient["encoder"], for_encoder)
    jax.tree.map(close, gradient["decoder"], for_decoder)


def test_the_loss_is_the_sum_of_its_terms_and_each_is_what_it_says():
    family, batch = replace(SMALL, commitment=0.5), images(4)
    state = state_of(family)
    found = {name: float(mean.value) for name, mean in family.evaluate(state, batch, KEY).items()}
    x, codebook = np.asarray(batch["image"]), np.asarray(state.variables["codebook"])
    z = np.asarray(encoded(family, state, batch["image"])).reshape(-1, 3)
    chosen = brute_nearest(codebook, z)
    error = np.square(np.asarray(family.reconstruct(state, batch, KEY)[1]) - x)
    share = np.bincount(chosen, minlength=7) / len(chosen)
    expected = {
        "reconstruction": 0.5 * (error.sum() / 4 + x[0].size * np.log(2 * np.pi)),
        "commitment": np.square(z - codebook[chosen]).sum(-1).mean(),
        "mse": error.mean(),
        "perplexity": np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()),
        "usage": (share > 0).mean(),
    }
    expected["loss"] = expected["reconstruction"] + 0.5 * expected["commitment"]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    _, trained = stepped(family, state, batch)
    for name, value in expected.items():
        np.testing.assert_allclose(trained[name].value, value, rtol=1e-4, err_msg=name)


def test_perplexity_is_the_number_of_codes_that_are_used_evenly():
    np.testing.assert_allclose(
        quantisers.perplexity(jnp.asarray([5.0, 0.0, 5.0, 5.0, 5.0])), 4.0, rtol=1e-6
    )
    np.testing.assert_allclose(quantisers.perplexity(jnp.asarray([0.0, 9.0, 0.0])), 1.0, rtol=1e-6)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(
        quantisers.perplexity(jnp.asarray([0.1, 0.3])), np.exp(entropy), rtol=1e-5
    )


def rows_of(found, among):
    """Whether each row of one array is a row of another."""
    return (np.asarray(found)[:, None] == np.asarray(among)[None]).all(-1).any(1)


def test_dead_codes_become_outputs_of_the_encoder_and_living_ones_stay():
    z, seen = jax.random.normal(KEY, (30, 4)), jnp.asarray([1.0] * 10 + [0.0] * 20)
    counts = jnp.asarray([3.0, 0.02, 2.0, 0.0, 1.0, 0.5])  # 1.087 on average
    before = {
        "codebook": jnp.ones((6, 4)),
        "counts": counts,
        "sums": jnp.ones((6, 4)) * counts[:, None],
    }
    after, number = quantisers.restart_codes(before, z, seen, KEY, 0.1)
    dead = np.asarray([False, True, False, True, False, False])
    assert number == 2
    for name in before:
        np.testing.assert_array_equal(after[name][~dead], before[name][~dead])
    fresh = after["codebook"][dead]
    assert rows_of(fresh, z[:10]).all() and (fresh[0] != fresh[1]).any()
    np.testing.assert_allclose(after["counts"][dead], counts.mean(), rtol=1e-6)
    np.testing.assert_allclose(after["sums"][dead], counts.mean() * fresh, rtol=1e-6)
    other, _ = quantisers.restart_codes(before, z, seen, jax.random.key(1), 0.1)
    assert (other["codebook"][dead] != fresh).any()
    same, none = quantisers.restart_codes(before, z, seen, KEY, 0.0)
    assert none == 0
    jax.tree.map(np.testing.assert_array_equal, same, before)


@pytest.mark.parametrize("available", [0, 1, 3])
def test_fewer_outputs_than_dead_codes_are_used_again_and_none_at_all_restarts_nothing(available):
    z, seen = jax.random.normal(KEY, (8, 2)), (jnp.arange(8) < available).astype(jnp.float32)
    before = {
        "codebook": jnp.ones((10, 2)),
        "counts": jnp.zeros(10).at[0].set(1.0),
        "sums": jnp.ones((10, 2)),
    }
    after, number = quantisers.restart_codes(before, z, seen, KEY, 0.5)
    fresh = np.asarray(after["codebook"][1:])
    assert number == (9 if available else 0)
    assert len(np.unique(fresh, axis=0)) == max(available, 1)
    assert rows_of(fresh, z[:available] if available else jnp.ones((1, 2))).all()


def test_the_first_step_fills_the_codebook_from_the_batch():
    state, batch = state_of(SMALL), images(4)
    after, metrics = stepped(SMALL, state, batch)
    z = encoded(SMALL, state, batch["image"]).reshape(-1, 3)
    used = np.isin(np.arange(7), brute_nearest(state.variables["codebook"], z))
    assert metrics["restarted"].value == (~used).sum() > 0
    nearest = (
        np.square(np.asarray(after.variables["codebook"])[:, None] - np.asarray(z)[None])
        .sum(-1)
        .min(1)
    )
    assert (nearest[~used] < 1e-8).all()


def test_padded_rows_weigh_nothing():
    """In the metrics, the gradients, the codebook and the choice of what a dead code becomes."""
    batch = images(5)
    rubbish = 50 * images(3, seed=2)["image"]
    padded = {
        "image": jnp.concatenate([batch["image"], rubbish]),
        "mask": jnp.asarray([1.0] * 5 + [0.0] * 3),
    }
    family = replace(SMALL, restart_below=0.0)
    a, first = stepped(family, state_of(family), batch)
    b, second = stepped(family, state_of(family), padded)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, (a.params, a.variables), (b.params, b.variables))
    for name in first:
        close(first[name].value, second[name].value)

    state = state_of(SMALL)
    after, metrics = stepped(SMALL, state, padded)
    z = encoded(SMALL, state, batch["image"]).reshape(-1, 3)
    assert metrics["restarted"].value > 0
    assert np.abs(after.variables["codebook"]).max() <= 1.01 * max(
        np.abs(z).max(), np.abs(state.variables["codebook"]).max()
    )

    nothing, _ = stepped(SMALL, state, padded | {"mask": jnp.zeros(8)})
    jax.tree.map(close, (nothing.params, nothing.variables), (state.params, state.variables))


@pytest.mark.parametrize("likelihood", [Gaussian(), Gaussian("shared", 0.5), Bernoulli()])
def test_codes_decode_to_the_reconstruction(likelihood):
    family, batch = replace(SMALL, likelihood=likelihood), images(4)
    state = state_of(family)
    found = vqvae.encode_to_codes(family, state, batch["image"])
    assert found.shape == (4, 3, 3) and found.dtype == jnp.int32
    z = encoded(family, state, batch["image"])
    np.testing.assert_array_equal(
        found.ravel(), brute_nearest(state.variables["codebook"], z.reshape(-1, 3))
    )
    again = vqvae.decode_codes(family, state, found)
    assert again.shape == batch["image"].shape and again.dtype == jnp.float32
    np.testing.assert_array_equal(again, family.reconstruct(state, batch, KEY)[1])
    other = vqvae.decode_codes(family, state, (found + 1) % 7)
    assert np.abs(other - again).max() > 1e-3


def test_it_starts_at_the_mean_of_the_data():
    state = state_of(SMALL)
    silent = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    _, again = SMALL.reconstruct(silent, images(2), KEY)
    np.testing.assert_allclose(again[1], state.variables["mean"], atol=1e-6)


def test_clusters_get_a_code_each():
    """From a codebook in one place; without restarts some codes serve several."""
    centres = 10 * jax.random.normal(KEY, (8, 3))
    z = jnp.tile(centres, (4, 1))
    start = {"codebook": jnp.zeros((8, 3)), "counts": jnp.zeros(8), "sums": jnp.zeros((8, 3))}

    def after(below, key):
        def one(variables, key):
            chosen = quantisers.find_nearest(variables["codebook"], z)
            variables = quantisers.update_codebook(variables, z, jnp.ones(len(z)), chosen, 0.8)
            return quantisers.restart_codes(variables, z, jnp.ones(len(z)), key, below)[0], None

        return jax.lax.scan(one, start, jax.random.split(key, 300))[0]["codebook"]

    keys = jax.random.split(KEY, 5)
    with_restarts, without = (
        jax.jit(jax.vmap(lambda key, b=below: after(b, key)))(keys) for below in (0.1, 0.0)
    )
    whole = [
        codebook
        for codebook in with_restarts
        if len(np.unique(quantisers.find_nearest(codebook, centres))) == 8
    ]
    assert len(whole) >= 3, "of five, as restarts may end with two codes in one cluster"
    for codebook in whole:
        np.testing.assert_allclose(
            codebook[quantisers.find_nearest(codebook, centres)], centres, atol=0.05
        )
    assert all(
        len(np.unique(quantisers.find_nearest(codebook, centres))) < 8 for codebook in without
    )


@pytest.mark.long
def test_images_made_of_six_tiles_need_six_codes_and_are_rebuilt():
    draw = np.random.default_rng(3)
    tiles = draw.uniform(-1, 1, (6, 2, 2, 1)).astype(np.float32)
    which = draw.integers(0, 6, (32, 3, 3))
    x = tiles[which].transpose(0, 1, 3, 2, 4, 5).reshape(32, 6, 6, 1)
    coder = SpatialCoder((16,), residual_blocks=0, kernel=2)  # which sees one tile at a time
    family = VQVAE(codes=8, code_dim=4, coder=coder, decay=0.9, restart_below=0.1)
    optimizer = Adam(Constant(3e-3))
    state, batch = (
        state_of(family, (6, 6, 1), optimizer, spread=0.0),
        {"image": jnp.asarray(x), "mask": jnp.ones(32)},
    )
    rule = optimizer.build(600)
    step = lambda state, _: (family.train_step(state, batch, optimizer=rule)[0], None)  # noqa: E731
    state = jax.jit(lambda s: jax.lax.scan(step, s, None, 600)[0])(state)
    found = np.asarray(vqvae.encode_to_codes(family, state, batch["image"]))
    owners = [np.unique(which[found == code]) for code in np.unique(found)]
    assert all(len(tiles) == 1 for tiles in owners) and len(np.unique(owners)) == 6
    assert family.evaluate(state, batch, KEY)["mse"].value < 0.02 * x.var()


def test_a_step_that_is_not_finite_leaves_the_codebook_as_it_was():
    state, _ = stepped(SMALL, state_of(SMALL), images(4))
    batch = images(4, seed=2)
    broken = batch | {"image": batch["image"].at[1, 2, 3, 0].set(jnp.nan)}
    after, metrics = stepped(SMALL, state, broken)
    assert metrics["skipped"].value == 1
    jax.tree.map(
        np.testing.assert_array_equal,
        (after.params, after.variables),
        (state.params, state.variables),
    )
    good, metrics = stepped(SMALL, after, batch)
    assert (
        metrics["skipped"].value == 0
        and (good.variables["codebook"] != state.variables["codebook"]).any()
    )


def test_an_accumulated_step_forgets_as_much_as_a_whole_one():
    family = replace(SMALL, decay=0.64, restart_below=0.0)
    state = state_of(family)
    state = state.replace(variables=state.variables | {"counts": jnp.full(7, 10.0)})
    after, _ = stepped(family, state, images(4), SGD(Constant(0.0), accumulate=2))
    each = 2 * 9  # rows of a microbatch times positions
    np.testing.assert_allclose(
        after.variables["counts"].sum(), 0.64 * 70 + 0.2 * (0.8 * each + each), rtol=1e-5
    )


OFTEN = Every(log=3, evaluate=6, sample=6, checkpoint=6)


def digits(**changes):
    family = VQVAE(codes=16, code_dim=4, coder=SpatialCoder((8,), residual_blocks=0))
    settings = {
        "family": family,
        "data": Digits(),
        "optimizer": Adam(Constant(1e-3)),
        "every": OFTEN,
    }
    return toy.experiment(**settings | {"steps": 12} | changes)


@pytest.mark.long
def test_it_goes_on_bitwise_with_its_codebook_and_refuses_to_sample(tmp_path):
    whole = genjax.train(digits(), tmp_path / "whole", quiet=True)
    genjax.train(digits(steps=7), tmp_path / "parts", quiet=True)
    parts = genjax.train(digits(), tmp_path / "parts", quiet=True)
    plain = lambda state: state.replace(key=jax.random.key_data(state.key))  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, plain(whole.state), plain(parts.state))
    assert (whole.state.variables["counts"] > 0).all()
    with pytest.raises(UserError, match="no prior over its codes; an autoregressive prior"):
        genjax.load(tmp_path / "parts").sample(num=2)
    assert not list((tmp_path / "whole" / "samples").iterdir())


def test_an_average_beside_the_codebook_is_refused(tmp_path):
    with pytest.raises(UserError, match="ema must be None"):
        genjax.train(digits(ema=0.9), tmp_path / "run", quiet=True)


@dataclass(frozen=True)
class Noise:
    """Images without two equal patches, so that no distance is a tie that rounding could break."""

    def open(self) -> Dataset:
        raw = np.random.default_rng(0).integers(0, 256, (160, 6, 6, 1), dtype=np.uint8)
        codec = ImageCodec(6, 6, 1)
        splits = {
            "train": Arrays("image", raw[:128], None, codec),
            "test": Arrays("image", raw[128:], None, codec),
        }
        return Dataset(splits, Spec("image", (6, 6, 1), codec.encode(raw).mean(0)), codec, "noise")


@functools.cache
def trajectory(devices):
    """Loss and gradient norm of 20 steps, the number of restarts in each, and the codebook at
    the end.
    """
    family = VQVAE(codes=12, code_dim=4, coder=SpatialCoder((8,), 0), decay=0.8, restart_below=0.8)
    experiment = toy.experiment(
        family=family, data=Noise(), optimizer=SGD(Constant(5e-3)), devices=devices
    )
    layout, data = parallel.start(devices), experiment.data.open()
    make = initial_state(experiment, data.spec)
    state = layout.init(make)
    step = layout.compile_step(make_step(experiment), state)
    rows = []
    for number in range(20):
        batch = data.splits["train"].batch(np.arange(16) + 16 * (number % 8))
        mask = (
            np.arange(16) != number % 16
        )  # rows that weigh nothing, on one device and then another
        state, metrics = step(state, layout.place(batch | {"mask": mask.astype(np.float32)}))
        pairs = dict(zip(metrics.names, np.asarray(metrics.pairs).reshape(-1, 2), strict=True))
        rows.append(
            [
                pairs[name][0] / pairs[name][1]
                for name in ("loss", "grad_norm", "perplexity", "restarted")
            ]
        )
    return np.asarray(rows), jax.device_get(state.variables)


@pytest.mark.parametrize(
    "devices",
    [Devices(count=8, mode="pmapped"), Devices(count=8, mode="sharded", fsdp=4)],
    ids=["pmapped", "sharded"],
)
@pytest.mark.long
def test_eight_devices_equal_one_restarts_and_all(devices):
    one, variables = trajectory(Devices(count=1))
    eight, others = trajectory(devices)
    assert one[1:, 3].sum() > 3
    np.testing.assert_allclose(eight, one, rtol=1e-4)
    for name in ("codebook", "counts", "sums"):
        np.testing.assert_allclose(
            others[name], variables[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codes": 1}, "codes must be at least 2"),
        ({"code_dim": 0}, "code_dim"),
        ({"commitment": -0.1}, "commitment"),
        ({"commitment": float("nan")}, "commitment"),
        ({"decay": 1.0}, "decay"),
        ({"decay": -0.5}, "decay"),
        ({"restart_below": 1.0}, "restart_below"),
        ({"restart_below": -0.1}, "restart_below"),
    ],
)
def test_bad_values_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        VQVAE(**fields)


def test_what_is_no_image_or_no_grid_is_refused():
    experiment = toy.experiment(family=VQVAE(), data=Points())
    with pytest.raises(UserError, match="needs images, but the data are points"):
        initial_state(experiment, experiment.data.open().spec)()
    with pytest.raises(UserError, match="must give a grid, as SpatialCoder does, got ConvCoder"):
        state_of(VQVAE(coder=ConvCoder((4,))))
