"""Finite scalar quantisation: every code, its index and back, the gradient through the rounding,
and the families that stand on codes.
"""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.config_files import to_json
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.code_prior import CodePrior, CodeSampler
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.diffusion.latent import LatentDiffusion
from genjax.families.likelihoods import Gaussian
from genjax.families.quantisers import FSQ, Codebook
from genjax.families.vqvae import VQVAE, decode_codes, encode_to_codes
from genjax.family import init_state
from genjax.nets.conv.spatial import SpatialCoder
from genjax.nets.conv.unet import UNet
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.samplers.diffusion.processes import Straight
from genjax.schedules import Constant
from genjax.serial.stored import from_json

KEY = jax.random.key(0)
LEVELS = [(8, 5, 5, 5), (8, 6, 5), (3, 4), (7,)]
SHAPE = (8, 8, 1)
SPEC = Spec("image", SHAPE, np.zeros(SHAPE, np.float32), levels=256)
FAMILY = VQVAE(
    coder=SpatialCoder((4,), residual_blocks=0),
    likelihood=Gaussian("fixed", 1.0),
    quantiser=FSQ((4, 3)),
)
STEP = SGD(Constant(1.0))
BATCH = {"image": jax.random.uniform(KEY, (4, *SHAPE), minval=-1), "mask": jnp.ones(4)}


def state_of(family=FAMILY, frozen=None):
    example = {name: rows[:1] for name, rows in BATCH.items()}
    make = jax.jit(lambda: init_state(*family.init(KEY, example, SPEC), STEP.build(10), KEY))
    return make().replace(frozen=frozen)


@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_has_a_vector_of_its_own_and_is_found_again(levels):
    quantiser = FSQ(levels)
    codes = jnp.arange(quantiser.codes)
    assert quantiser.codes == math.prod(levels)
    vectors = np.asarray(quantiser.look_up({}, codes))
    by_hand = [
        [(digit - count // 2) / (count // 2) for digit, count in zip(digits, levels, strict=True)]
        # The first dimension counts fastest.
        for digits in (row[::-1] for row in itertools.product(*map(range, levels[::-1])))
    ]
    np.testing.assert_allclose(vectors, by_hand, atol=1e-7)
    np.testing.assert_array_equal(quantiser.find({}, vectors), codes)
    assert quantiser.find({}, vectors).dtype == jnp.int32


@pytest.mark.parametrize("levels", LEVELS)
def test_every_level_is_reached_and_nothing_beyond(levels):
    quantiser = FSQ(levels)
    z = jnp.repeat(jnp.linspace(-12, 12, 4001)[:, None], len(levels), axis=1)
    bounded = quantiser.bound(z)
    half = np.asarray(levels) // 2
    for dimension, count in enumerate(levels):
        digits = np.round(np.asarray(bounded[:, dimension]) * half[dimension]) + half[dimension]
        np.testing.assert_array_equal(np.unique(digits), np.arange(count))
    np.testing.assert_allclose(quantiser.bound(jnp.zeros(len(levels))), 0, atol=1e-6)
    assert (jnp.diff(bounded, axis=0) > -1e-6).all()
    # Out of range, as a diffusion over latents may draw: the outermost level.
    ends = quantiser.find({}, jnp.asarray([[-9.0] * len(levels), [9.0] * len(levels)]))
    np.testing.assert_array_equal(ends, [0, quantiser.codes - 1])


def test_its_moments_are_those_of_all_codes():
    quantiser = FSQ((8, 5, 3))
    vectors = quantiser.look_up({}, jnp.arange(quantiser.codes))
    mean, deviation = quantiser.moments({})
    np.testing.assert_allclose(mean, vectors.mean(0), atol=1e-6)
    np.testing.assert_allclose(deviation, vectors.std(0), rtol=1e-5)


def test_the_gradient_goes_straight_through_the_rounding_and_no_further():
    """By hand: the decoder's gradient at the codes, handed to the bounded outputs of the
    encoder; there is no other term.
    """
    state = state_of()
    moved, metrics = jax.jit(
        lambda state: FAMILY.train_step(state, BATCH, optimizer=STEP.build(10))
    )(state)
    gradient = jax.tree.map(lambda before, after: before - after, state.params, moved.params)
    x, variables = BATCH["image"], state.variables
    z, back = jax.vjp(
        lambda encoder: FAMILY.encode({"encoder": encoder}, variables, x), state.params["encoder"]
    )
    half = np.asarray([2.0, 1.0], np.float32).reshape(1, 1, 1, 2)
    vectors = jnp.round(z * half) / half

    def nll(vectors):
        outputs = FAMILY.decode(state.params, variables, vectors)
        return FAMILY.likelihood.nll({}, outputs, x).mean()

    for_codes = jax.grad(nll)(vectors)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        gradient["encoder"],
        back(for_codes)[0],
    )
    assert np.abs(for_codes).max() > 0
    np.testing.assert_allclose(metrics["loss"].value, nll(vectors), rtol=1e-5)
    assert set(moved.variables) == {"mean"}


def test_codes_decode_to_the_reconstruction_and_latents_to_the_nearest_code():
    state, x = state_of(), BATCH["image"]
    codes = encode_to_codes(FAMILY, state, x)
    assert codes.shape == (4, 4, 4) and codes.max() < 12
    again = decode_codes(FAMILY, state, codes)
    np.testing.assert_array_equal(again, FAMILY.reconstruct(state, BATCH, KEY)[1])
    z = FAMILY.to_latents(state.params, state.variables, x, KEY)
    np.testing.assert_array_equal(FAMILY.decode_latents(state.params, state.variables, z), again)
    assert {"perplexity", "usage", "mse"} <= FAMILY.evaluate(state, BATCH, KEY).keys()


def test_a_prior_stands_on_its_codes():
    base = state_of()
    frozen = {"autoencoder": {"params": base.params, "variables": base.variables}}
    prior = CodePrior(FAMILY, Transformer(layers=1, heads=1, width=8, context=16))
    state = state_of(prior, frozen)
    metrics = jax.jit(prior.evaluate)(state, BATCH, KEY)
    assert float(metrics["loss"].value) == pytest.approx(math.log(12), abs=0.2)
    assert state.params["embedding"].shape[0] == 13  # the codes and a start token


@pytest.mark.long
def test_a_latent_diffusion_stands_on_its_codes_and_a_prior_draws_them():
    base = state_of()
    frozen = {"autoencoder": {"params": base.params, "variables": base.variables}}
    prior = CodePrior(FAMILY, Transformer(layers=1, heads=1, width=8, context=16))
    drawn = prior.draw_codes(state_of(prior, frozen), KEY, 3, CodeSampler())
    assert drawn.shape == (3, 4, 4) and drawn.max() < 12
    net = UNet(channels=(8,), blocks=1, attention=(), head_dim=8)
    latent = LatentDiffusion(FAMILY, Diffusion(net=net, process=Straight(), target="velocity"))
    metrics = jax.jit(latent.evaluate)(state_of(latent, frozen), BATCH, KEY)
    assert np.isfinite(metrics["loss"].value)


def test_the_fields_of_an_old_config_make_the_codebook_that_they_made():
    old = VQVAE(9, 5, SpatialCoder((4,), 0), commitment=0.5, decay=0.9, restart_below=0.2)
    assert old.grid_quantiser == Codebook(9, 5, 0.5, 0.9, 0.2)
    new = VQVAE(coder=old.coder, quantiser=Codebook(9, 5, 0.5, 0.9, 0.2))
    a, b = state_of(old), state_of(new)
    assert set(a.variables) == {"mean", "codebook", "counts", "sums"}
    jax.tree.map(np.testing.assert_array_equal, (a.params, a.variables), (b.params, b.variables))


def test_a_run_stored_before_there_was_a_quantiser_has_its_codebook():
    old = VQVAE(9, 5, SpatialCoder((4,), 0), commitment=0.5)
    stored = to_json(old)
    del stored["quantiser"]
    assert from_json(stored) == old
    assert from_json(to_json(FAMILY)) == FAMILY


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: FSQ(()), "levels"),
        (lambda: FSQ((8, 2)), "levels.1"),
        (lambda: FSQ((4096, 4096, 2048)), "levels"),
        (lambda: VQVAE(codes=512, quantiser=FSQ()), "codes"),
        (lambda: VQVAE(decay=0.5, quantiser=Codebook()), "decay"),
        (lambda: VQVAE(codes=1), "codes"),
    ],
)
def test_levels_and_fields_that_cannot_be_are_refused(make, field):
    with pytest.raises(UserError) as refused:
        make()
    assert refused.value.field == field


def test_an_average_is_kept_beside_levels_that_are_not_learned():
    rules = SGD(Constant(1.0)).build(10, ema=0.5)
    example = {name: rows[:1] for name, rows in BATCH.items()}
    state = jax.eval_shape(lambda: init_state(*FAMILY.init(KEY, example, SPEC), rules, KEY))
    jax.eval_shape(lambda state: FAMILY.train_step(state, BATCH, optimizer=rules), state)
    learned = dataclasses.replace(FAMILY, quantiser=None)
    with pytest.raises(UserError) as refused:
        learned.train_step(state, BATCH, optimizer=rules)
    assert refused.value.field == "ema"
