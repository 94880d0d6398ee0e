"""The prior of a VQ-VAE: it models the codes of another run, in order, and draws images from
them.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.images.guidance import GuidanceCurve
from genjax.experiment import Every, Experiment, Keep
from genjax.families.autoregressive.code_prior import CodePrior, CodeSampler
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.likelihoods import DiscretizedLogistic, Gaussian
from genjax.families.vqvae import VQVAE, decode_codes, encode_to_codes
from genjax.family import Trained, init_state
from genjax.nets.conv.spatial import SpatialCoder
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from tests import toy

KEY = jax.random.key(0)
K, CLASSES, N = 6, 3, 4
SPEC = Spec("image", (8, 8, 1), np.zeros((8, 8, 1), np.float32), classes=CLASSES, levels=256)
BASE = VQVAE(codes=K, code_dim=3, coder=SpatialCoder((4, 4), 1), likelihood=Gaussian("fixed", 1.0))
NET = Transformer(layers=2, heads=2, width=16, context=N, init_std=0.4)
PRIOR = CodePrior(BASE, NET, conditional=True, drop_label=0.25)
IMAGES = jax.random.uniform(KEY, (6, 8, 8, 1), minval=-1)
BATCH = {"image": IMAGES, "label": jnp.arange(6) % CLASSES, "mask": jnp.ones(6).at[4].set(0)}


def state_of(family, spec=SPEC):
    example = {name: value[:1] for name, value in BATCH.items()}

    @jax.jit
    def made():
        params, variables = family.init(KEY, example, spec)
        base = family.autoencoder.init(KEY, example, spec)
        return (
            params,
            variables,
            {"autoencoder": dict(zip(("params", "variables"), base, strict=True))},
        )

    params, variables, frozen = made()
    return init_state(params, variables, SGD(Constant(0.1)).build(10), KEY).replace(frozen=frozen)


@pytest.fixture(scope="module")
def state():
    return state_of(PRIOR)


def all_images():
    """Every grid of codes [K^N, N]."""
    return jnp.stack(jnp.meshgrid(*[jnp.arange(K)] * N, indexing="ij"), -1).reshape(-1, N)


@pytest.fixture(scope="module")
def law(state):
    """Probabilities [label or none, K, K, K, K] of all images."""
    every = all_images()
    nll = jax.jit(lambda label: PRIOR.nll(state.params, every, jnp.full(len(every), label)).sum(-1))
    return np.stack([np.exp(-np.asarray(nll(label))) for label in range(CLASSES + 1)])


def test_it_is_a_distribution_over_images_of_codes_for_each_label_and_for_none(law):
    np.testing.assert_allclose(law.sum(1), 1, rtol=1e-4)
    assert np.abs(law[0] - law[1]).max() > 1e-4 and np.abs(law[0] - law[CLASSES]).max() > 1e-4


def test_a_code_is_predicted_from_its_label_and_those_before_it_alone(state):
    row, label = jnp.asarray([[1, 4, 0, 2]]), jnp.zeros(1, jnp.int32)
    nll = jax.jit(lambda row, label: PRIOR.nll(state.params, row, label)[0])
    before = nll(row, label)
    for place in range(N):
        changed = np.abs(np.asarray(nll(row.at[0, place].add(1), label) - before)) > 1e-6
        assert np.flatnonzero(changed).tolist() == list(range(place, N))
    assert (np.abs(np.asarray(nll(row, label + 1) - before)) > 1e-6).all()


def conditionals(law):
    """p(code | those before it) of every image, [K, K, K, K, N], from the probabilities of all
    images.
    """
    found = []
    for place in range(N):
        upto = law.sum(tuple(range(place + 1, N)), keepdims=True)
        found.append(np.broadcast_to(upto / upto.sum(place, keepdims=True), law.shape))
    return np.stack(found, -1)


@pytest.mark.parametrize("scale", [1.0, 0.0, 2.0])
def test_images_are_drawn_with_the_probabilities_that_they_are_predicted_with(state, law, scale):
    """Pairs of the first and the last code; guided ones by the product of what each step is
    guided to.
    """
    n = 5000
    draw = jax.jit(
        lambda: PRIOR.draw_codes(state, KEY, n, CodeSampler(guidance_scale=scale, label=1))
    )
    grid = np.asarray(draw())
    assert grid.shape == (n, 2, 2) and grid.min() >= 0 and grid.max() < K
    told, untold = (conditionals(law[label].reshape(K, K, K, K)) for label in (1, CLASSES))
    guided = untold ** (1 - scale) * told**scale
    for place in range(N):
        guided[..., place] /= guided[..., place].sum(place, keepdims=True)
    wanted = guided.prod(-1)
    if scale != 2:
        np.testing.assert_allclose(wanted.reshape(-1), law[1 if scale else CLASSES], rtol=1e-3)
    wanted = wanted.sum((1, 2))
    counts = np.zeros((K, K))
    np.add.at(counts, (grid[:, 0, 0], grid[:, 1, 1]), 1)
    error = np.sqrt(wanted * (1 - wanted) / n)
    assert (np.abs(counts / n - wanted) < 4.5 * error + 1e-4).all()
    if scale == 2:  # it can tell
        plain = law[1].reshape(K, K, K, K).sum((1, 2))
        assert (np.abs(counts / n - plain) > 6 * error).any()


def test_all_labels_are_drawn_in_turn_and_samples_are_the_decoded_codes(state):
    greedy = CodeSampler(temperature=0.0)
    grid, images = jax.jit(
        lambda: (PRIOR.draw_codes(state, KEY, 6, greedy), PRIOR.sample(state, KEY, 6, greedy))
    )()
    np.testing.assert_array_equal(grid[:3], grid[3:])
    alone = jax.jit(lambda: PRIOR.draw_codes(state, KEY, 1, replace(greedy, label=2)))()
    np.testing.assert_array_equal(grid[2], alone[0])
    base = state.replace(**state.frozen["autoencoder"])
    np.testing.assert_allclose(images, decode_codes(BASE, base, grid), rtol=1e-5, atol=1e-6)
    scanned = replace(PRIOR, net=replace(NET, scan_layers=True))
    assert jax.eval_shape(lambda: scanned.sample(state_of(scanned), KEY, 2, greedy)).shape == (
        2,
        8,
        8,
        1,
    )


@pytest.mark.long
def test_its_metrics_are_a_mean_over_codes_a_rate_and_a_bound(state):
    family = replace(PRIOR, autoencoder=replace(BASE, likelihood=DiscretizedLogistic()))
    state = state_of(family)
    metrics = jax.jit(family.evaluate)(state, BATCH, KEY)
    base = state.replace(**state.frozen["autoencoder"])
    grid = encode_to_codes(family.autoencoder, base, IMAGES)
    nll = np.asarray(family.nll(state.params, grid.reshape(6, N), BATCH["label"]))
    real = np.asarray(BATCH["mask"]) == 1
    np.testing.assert_allclose(metrics["loss"].value, nll[real].mean(), rtol=1e-5)
    assert metrics["loss"].weight == 5 * N
    bits = nll.sum(1)[real].mean() / (64 * math.log(2))
    np.testing.assert_allclose(metrics["code_bits_per_dim"].value, bits, rtol=1e-5)
    distortion = family.autoencoder.evaluate(base, BATCH, KEY)["reconstruction"].value / (
        64 * math.log(2)
    )
    np.testing.assert_allclose(metrics["bits_per_dim"].value, bits + distortion, rtol=1e-5)
    assert "bits_per_dim" not in jax.eval_shape(
        PRIOR.evaluate, state_of(PRIOR), BATCH, KEY
    )  # of a density


@pytest.mark.long
def test_accumulated_steps_equal_the_full_batch_and_leave_the_autoencoder_alone(state):
    family, found = replace(PRIOR, drop_label=0.0), []
    state = state_of(family)
    for pieces in (1, 3):
        rule = SGD(Constant(0.1), accumulate=pieces).build(10)
        after, metrics = jax.jit(lambda s, rule=rule: family.train_step(s, BATCH, optimizer=rule))(
            state
        )
        jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)
        found.append((after.params, metrics["loss"], metrics["grad_norm"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *found)


@pytest.mark.long
def test_a_run_learns_its_codes_and_needs_the_other_no_more(tmp_path):
    every = Every(log=20, evaluate=60, sample=60, checkpoint=60)
    first = Experiment(
        replace(BASE, codes=8),
        toy.Pictures(),
        Adam(),
        steps=8,
        batch_size=16,
        ema=None,
        every=every,
    )
    first = replace(first, keep=Keep(best=None), devices=Devices(count=1))
    genjax.train(first, tmp_path / "base", quiet=True)
    net = replace(NET, context=16, init_std=0.02)
    family = CodePrior(str(tmp_path / "base"), net, conditional=True)
    experiment = replace(first, family=family, optimizer=Adam(Constant(0.01)), steps=60, ema=0.9)
    run = genjax.train(experiment, tmp_path / "run", quiet=True)
    numbers = run.evaluate().numbers
    assert numbers["loss"] < 0.9 * math.log(8)
    (tmp_path / "base").rename(tmp_path / "gone")
    loaded = genjax.load(tmp_path / "run")
    samples = loaded.sample(num=3)
    assert samples.shape == (3, 16, 16, 1) and np.isfinite(samples).all()
    np.testing.assert_array_equal(samples, run.sample(num=3))
    with pytest.raises(UserError, match="label must be from 0 to"):
        loaded.sample(num=1, options=CodeSampler(label=99))


def test_what_does_not_fit_is_refused():
    base = Trained("there", BASE, SPEC)
    for other, words in (
        (Trained("there", Diffusion(), SPEC), "must be a run of a VQVAE"),
        (
            replace(base, spec=replace(SPEC, shape=(4, 4, 1))),
            r"of shape \[4, 4, 1\], but the data are .*\[8, 8, 1\]",
        ),
    ):
        with pytest.raises(UserError, match=words):
            replace(PRIOR, autoencoder="there").resolve({"autoencoder": other}, SPEC)
    for fields, words in (
        ({"net": replace(NET, causal=False)}, "net.causal must be True"),
        ({"net": replace(NET, cross_attention=True)}, "cross_attention False"),
        ({"drop_label": 1.0}, "drop_label"),
        (
            {"conditional": False, "sampler": CodeSampler(guidance_scale=2.0)},
            "guidance_scale must be 1",
        ),
    ):
        with pytest.raises(UserError, match=words):
            replace(PRIOR, **fields)
    for family, spec, words in (
        (
            replace(PRIOR, net=replace(NET, context=3)),
            SPEC,
            "context must be >= 4 .codes per image., got 3",
        ),
        (PRIOR, replace(SPEC, classes=None), "needs labels"),
    ):
        with pytest.raises(UserError, match=words):
            state_of(family, spec)
    plain = replace(PRIOR, conditional=False)
    with pytest.raises(UserError, match="sampler.label needs a class-conditional"):
        plain.sample(state_of(plain), KEY, 1, CodeSampler(label=1))
    with pytest.raises(UserError, match="guidance_scale must be at least 0"):
        CodeSampler(guidance_scale=-1.0)
    with pytest.raises(UserError, match="top_k"):
        CodeSampler(top_k=0)
    assert CodePrior in GuidanceCurve.judges
