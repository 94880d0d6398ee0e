"""Codes at several scales, and the model that draws them scale by scale."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.images.guidance import GuidanceCurve
from genjax.families.autoregressive.code_prior import CodePrior, CodeSampler
from genjax.families.autoregressive.next_scale import NextScale
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.diffusion.latent import LatentDiffusion
from genjax.families.likelihoods import Gaussian
from genjax.families.multiscale import MultiscaleCodebook
from genjax.families.quantisers import FSQ, Codebook
from genjax.families.vqvae import VQVAE, decode_codes, encode_to_codes
from genjax.family import Trained, init_state
from genjax.nets.conv.spatial import SpatialCoder
from genjax.nets.transformer.transformer import LayerKind, Transformer
from genjax.optim import SGD
from genjax.samplers.diffusion.processes import Straight
from genjax.schedules import Constant

KEY = jax.random.key(0)
K, CLASSES = 3, 3
SPEC = Spec("image", (8, 8, 1), np.zeros((8, 8, 1), np.float32), classes=CLASSES, levels=256)
CODES = Codebook(K, 3, restart_below=0.0)
CODER = SpatialCoder((4, 4), 1)  # a grid of 2 x 2


def make_base(scales, codebook=CODES, coder=CODER, smoothing=0.5):
    quantiser = MultiscaleCodebook(scales, codebook, smoothing)
    return VQVAE(coder=coder, likelihood=Gaussian("fixed", 1.0), quantiser=quantiser)


BASE = make_base((1, 2))
NET = Transformer(layers=2, heads=2, width=16, context=5, init_std=0.4)
MODEL = NextScale(BASE, NET, conditional=True, drop_label=0.25)
FINE = make_base((1, 2, 4), Codebook(7, 3, restart_below=0.0), SpatialCoder((4,), 0))
IMAGES = jax.random.uniform(KEY, (6, 8, 8, 1), minval=-1)
BATCH = {"image": IMAGES, "label": jnp.arange(6) % CLASSES, "mask": jnp.ones(6).at[4].set(0)}
RULE = SGD(Constant(1.0)).build(10)


def base_state(family):
    example = {name: value[:1] for name, value in BATCH.items()}
    return jax.jit(lambda: init_state(*family.init(KEY, example, SPEC), RULE, KEY))()


def state_of(model):
    base = base_state(model.autoencoder)
    frozen = {"autoencoder": {"params": base.params, "variables": base.variables}}
    return base_state(model).replace(frozen=frozen)


@pytest.fixture(scope="module")
def state():
    return state_of(MODEL)


@pytest.fixture(scope="module")
def fine():
    return base_state(FINE)


def test_codes_decode_to_the_sum_that_the_quantiser_made(fine):
    z = 3 * jax.random.normal(KEY, (5, 4, 4, 3))
    found = jax.jit(FINE.quantise)(fine.params, fine.variables, z)
    assert found.codes.shape == (5, 21) and found.compared.shape == (5 * 21, 3)
    again = jax.jit(FINE.assemble)(fine.params, fine.variables, found.codes)
    np.testing.assert_allclose(again, found.vectors, rtol=1e-5, atol=1e-6)
    # Each code is the nearest to what was compared with it.
    codebook = np.asarray(fine.variables["codebook"])
    apart = np.square(np.asarray(found.compared)[:, None] - codebook[None]).sum(-1)
    np.testing.assert_array_equal(apart.argmin(1), found.codes.reshape(-1))
    pictures, again = jax.jit(
        lambda: (
            decode_codes(FINE, fine, encode_to_codes(FINE, fine, IMAGES)),
            FINE.reconstruct(fine, BATCH, KEY)[1],
        )
    )()
    np.testing.assert_allclose(pictures, again, atol=1e-5)


def test_scales_are_means_over_areas_of_what_the_ones_before_left(fine):
    """The first two scales by hand, without convolutions, where 4 is a multiple of both."""
    quantiser = replace(FINE.quantiser, smoothing=0.0)
    z = np.asarray(jax.random.normal(KEY, (2, 4, 4, 3)))
    codebook = np.asarray(fine.variables["codebook"])
    found = jax.jit(quantiser.quantise)({}, fine.variables, z)
    compared = np.asarray(found.compared).reshape(2, 21, 3)
    np.testing.assert_allclose(compared[:, 0], z.mean((1, 2)), atol=1e-5)
    rest = z - codebook[np.asarray(found.codes)[:, 0]][:, None, None]
    areas = rest.reshape(2, 2, 2, 2, 2, 3).mean((2, 4)).reshape(2, 4, 3)
    np.testing.assert_allclose(compared[:, 1:5], areas, atol=1e-5)
    assert found.fit is None


def test_areas_that_are_no_whole_places_are_weighted_by_their_parts():
    grid = jnp.arange(49.0).reshape(1, 7, 7, 1)
    small = np.asarray(MultiscaleCodebook((2, 7)).shrink(grid, 2))[0, :, :, 0]
    weights = np.asarray([1, 1, 1, 0.5]) / 3.5
    rows = np.stack([weights @ np.arange(4), weights[::-1] @ np.arange(3, 7)])
    np.testing.assert_allclose(small, 7 * rows[:, None] + rows[None], rtol=1e-5)
    np.testing.assert_allclose(small.mean(), 24, rtol=1e-5)


def test_one_scale_of_the_whole_grid_is_the_plain_codebook():
    plain = VQVAE(coder=CODER, likelihood=Gaussian("fixed", 1.0), quantiser=CODES)
    whole = make_base((2,), smoothing=0.0)
    a, b = base_state(plain), base_state(whole)
    jax.tree.map(np.testing.assert_array_equal, (a.params, a.variables), (b.params, b.variables))
    a, numbers = jax.jit(lambda s: plain.train_step(s, BATCH, optimizer=RULE))(a)
    b, others = jax.jit(lambda s: whole.train_step(s, BATCH, optimizer=RULE))(b)
    assert numbers.keys() == others.keys()
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6),
        (a.params, a.variables, numbers),
        (b.params, b.variables, others),
    )


def test_the_encoder_gets_the_decoders_gradient_and_the_convolutions_the_distance():
    """By hand, without a commitment: the decoder's gradient at the sum, straight to the encoder."""
    family = make_base((1, 2), replace(CODES, commitment=0.0))
    state, everything = base_state(family), BATCH | {"mask": jnp.ones(6)}
    moved = jax.jit(lambda s: family.train_step(s, everything, optimizer=RULE)[0])(state)
    gradient = jax.tree.map(lambda before, after: before - after, state.params, moved.params)

    def nll(vectors):
        outputs = family.decode(state.params, state.variables, vectors)
        return family.likelihood.nll({}, outputs, IMAGES).mean()

    def fit(own, z, codes):
        totals = family.quantiser.accumulate(own, state.variables, codes)
        return sum(jnp.square(z - total).sum(-1).mean() for total in totals) / len(totals)

    @jax.jit
    def by_hand(params):
        z, back = jax.vjp(
            lambda encoder: family.encode({"encoder": encoder}, state.variables, IMAGES),
            params["encoder"],
        )
        found = family.quantise(params, state.variables, z)
        own = jax.grad(fit)(params["quantiser"], z, found.codes)
        return {"encoder": back(jax.grad(nll)(found.vectors))[0], "quantiser": own}

    wanted = by_hand(state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4),
        {name: gradient[name] for name in wanted},
        wanted,
    )
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(wanted["quantiser"]))


def every_code(length):
    """All codes of an image [K^N, N]."""
    return jnp.asarray(list(itertools.product(range(K), repeat=length)))


@pytest.fixture(scope="module")
def law(state):
    """Probabilities [label or none, K^5] of all codes of two scales."""
    every = every_code(5)
    nll = jax.jit(lambda label: MODEL.nll(state, every, jnp.full(len(every), label)).sum(-1))
    return np.stack([np.exp(-np.asarray(nll(label))) for label in range(CLASSES + 1)])


def test_it_is_a_distribution_over_all_codes_for_each_label_and_for_none(law):
    np.testing.assert_allclose(law.sum(1), 1, rtol=1e-4)
    assert np.abs(law[0] - law[1]).max() > 1e-4 and np.abs(law[0] - law[CLASSES]).max() > 1e-4


@pytest.mark.parametrize("scale", [1.0, 0.0, 2.0])
def test_codes_are_drawn_with_the_probabilities_that_they_are_scored_with(state, law, scale):
    """So the cache of one scale at a time gives what the whole sequence gives."""
    n = 6000
    options = CodeSampler(guidance_scale=scale, label=1)
    drawn = np.asarray(jax.jit(lambda: MODEL.draw_codes(state, KEY, n, options))())
    assert drawn.shape == (n, 5) and drawn.min() >= 0 and drawn.max() < K
    labelled, unlabelled = (law[label].reshape(K, K, K, K, K) for label in (1, CLASSES))
    first = [whole.sum((1, 2, 3, 4)) for whole in (labelled, unlabelled)]
    # Within a scale codes are independent, so a guided scale is the product of guided codes.
    guided = unlabelled ** (1 - scale) * labelled**scale
    start = first[1] ** (1 - scale) * first[0] ** scale
    wanted = (guided / guided.sum((1, 2, 3, 4), keepdims=True)) * (start / start.sum())[
        :, None, None, None, None
    ]
    if scale != 2:
        np.testing.assert_allclose(wanted.reshape(-1), law[1 if scale else CLASSES], rtol=1e-3)
    counts = np.bincount(drawn @ K ** np.arange(4, -1, -1), minlength=K**5)
    pairs = counts.reshape(wanted.shape).sum((2, 3)) / n  # first code, and two of the second scale
    share = wanted.sum((2, 3))
    assert (np.abs(pairs - share) < 4.5 * np.sqrt(share * (1 - share) / n) + 1e-4).all()
    if scale == 2:  # it can tell
        plain = labelled.sum((2, 3))
        assert (np.abs(pairs - plain) > 6 * np.sqrt(plain * (1 - plain) / n)).any()


def test_a_code_changes_the_scales_after_its_own_alone():
    model = NextScale(FINE, replace(NET, context=21))
    state = state_of(model)
    row = jax.random.randint(KEY, (1, 21), 0, 7)

    @jax.jit
    def logits(row):
        """Return log p of every code at every place, given the scales before: [7, 21]."""
        rows = model._read(state, row)
        every = {name: jnp.repeat(value, 7, 0) for name, value in rows.items()}
        every["codes"] = jnp.repeat(jnp.arange(7)[:, None], 21, 1)
        return -model._score(state.params, every, None, None)[0]

    before = np.asarray(logits(row))
    for place, first_after in ((0, 1), (2, 5), (4, 5), (10, 21)):
        after = np.asarray(logits(row.at[0, place].set((row[0, place] + 1) % 7)))
        changed = np.abs(after - before).max(0) > 1e-6
        assert np.flatnonzero(changed).tolist() == list(range(first_after, 21))


def test_one_scale_of_one_place_is_a_classifier_of_codes():
    """The loss of a table of logits, one row for each label."""
    model = NextScale(make_base((1,), coder=SpatialCoder((4, 4, 4), 0)), NET, True, 0.0)
    state = state_of(model)
    table = jax.jit(lambda k: model.nll(state, jnp.full((CLASSES, 1), k), jnp.arange(CLASSES)))
    logits = -np.stack([np.asarray(table(k))[:, 0] for k in range(K)], 1)  # [labels, K]
    np.testing.assert_allclose(np.exp(logits).sum(1), 1, rtol=1e-5)
    base = state.replace(**state.frozen["autoencoder"])
    codes = jax.jit(lambda: encode_to_codes(model.autoencoder, base, IMAGES))()
    codes = np.asarray(codes)[:, 0]
    numbers = jax.jit(model.evaluate)(state, BATCH, KEY)
    real = np.asarray(BATCH["mask"]) == 1
    picked = -logits[np.arange(6) % CLASSES, codes][real]
    np.testing.assert_allclose(numbers["loss"].value, picked.mean(), rtol=1e-5)
    np.testing.assert_allclose(numbers["code_nats"].value, picked.mean(), rtol=1e-5)


def test_samples_are_the_decoded_codes_and_labels_come_in_turn(state):
    greedy = CodeSampler(temperature=0.0)
    base = state.replace(**state.frozen["autoencoder"])

    @jax.jit
    def draw():
        codes = MODEL.draw_codes(state, KEY, 6, greedy)
        return codes, MODEL.sample(state, KEY, 6, greedy), decode_codes(BASE, base, codes)

    codes, images, decoded = draw()
    np.testing.assert_array_equal(codes[:3], codes[3:])
    np.testing.assert_allclose(images, decoded, rtol=1e-5, atol=1e-6)
    assert NextScale in GuidanceCurve.judges


def test_a_step_lowers_the_loss_and_leaves_the_autoencoder_alone(state):
    rule = SGD(Constant(0.1)).build(10)
    step = jax.jit(lambda s: MODEL.train_step(s, BATCH, optimizer=rule))
    now, losses = state, []
    for _ in range(6):
        now, numbers = step(now)
        losses.append(float(numbers["loss"].value))
    jax.tree.map(np.testing.assert_array_equal, now.frozen, state.frozen)
    assert losses[-1] < losses[0]
    assert np.abs(now.params["read"]["kernel"] - state.params["read"]["kernel"]).max() > 0


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: MultiscaleCodebook((1, 3, 3)), "scales"),
        (lambda: MultiscaleCodebook((4, 2)), "scales"),
        (lambda: MultiscaleCodebook(()), "scales"),
        (lambda: MultiscaleCodebook((0, 2)), "scales.0"),
        (lambda: MultiscaleCodebook(smoothing=1.5), "smoothing"),
        (lambda: VQVAE(codes=512, quantiser=MultiscaleCodebook()), "codes"),
        (lambda: base_state(make_base((1, 3))), "family.quantiser.scales"),
        (lambda: replace(MODEL, net=replace(NET, causal=False)), "net.causal"),
        (lambda: replace(MODEL, net=replace(NET, window=3)), "net.window"),
        (
            lambda: replace(
                MODEL, net=replace(NET, positions="rotary", layer_kinds=(LayerKind(3),))
            ),
            "net.layer_kinds",
        ),
        (lambda: replace(MODEL, drop_label=1.0), "drop_label"),
        (lambda: base_state(replace(MODEL, net=replace(NET, context=4))), "family.net.context"),
        (lambda: base_state(LatentDiffusion(BASE, Diffusion(process=Straight()))), "autoencoder"),
    ],
)
def test_scales_and_nets_that_cannot_be_are_refused(make, field):
    with pytest.raises(UserError) as refused:
        make()
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("model", "base"),
    [
        (replace(MODEL, autoencoder="there"), VQVAE()),
        (replace(MODEL, autoencoder="there"), VQVAE(quantiser=FSQ())),
        (CodePrior("there"), BASE),
    ],
)
def test_a_run_with_the_other_kind_of_codes_is_refused(model, base):
    with pytest.raises(UserError) as refused:
        model.resolve({"autoencoder": Trained("there", base, SPEC)}, SPEC)
    assert refused.value.field == "autoencoder"
