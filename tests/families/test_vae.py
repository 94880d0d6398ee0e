"""VAEs against closed forms: probabilistic PCA, scipy's distributions, and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.likelihoods import Bernoulli, Gaussian
from genjax.families.vae import VAE, PriorSampler, interpolate
from genjax.family import init_state
from genjax.losses import bernoulli_nll, gaussian_kl, gaussian_nll
from genjax.nets.conv.conv import ConvCoder
from genjax.nets.mlp import MLPCoder
from genjax.optim import Adam
from genjax.schedules import Constant, Cosine, Linear

KEY = jax.random.key(0)


def state_of(family, shape, entry="image", mean=None, optimizer=Adam()):
    mean = np.zeros(shape, np.float32) if mean is None else mean
    spec = Spec(entry, shape, mean)
    params, variables = family.init(KEY, {entry: jnp.zeros((1, *shape)), "mask": jnp.ones(1)}, spec)
    return init_state(params, variables, optimizer.build(1000), KEY)


def test_losses_equal_scipy():
    draw = np.random.default_rng(0)
    x, mean, log_variance = draw.normal(size=(3, 5, 4)).astype(np.float32)
    expected = -stats.norm(mean, np.exp(log_variance / 2)).logpdf(x).sum(-1)
    np.testing.assert_allclose(gaussian_nll(mean, log_variance, x), expected, rtol=1e-5)
    binary = (x > 0).astype(np.float32)
    expected = -stats.bernoulli(1 / (1 + np.exp(-mean))).logpmf(binary).sum(-1)
    np.testing.assert_allclose(bernoulli_nll(mean, binary), expected, rtol=1e-5)
    draws = mean + np.exp(log_variance / 2) * draw.normal(size=(200_000, 5, 4))
    log_ratio = stats.norm(mean, np.exp(log_variance / 2)).logpdf(draws) - stats.norm.logpdf(draws)
    np.testing.assert_allclose(
        gaussian_kl(mean, log_variance).sum(-1), log_ratio.sum(-1).mean(0), rtol=0.02
    )


def test_losses_are_stable_far_out():
    assert np.isfinite(bernoulli_nll(jnp.full((1, 3), 1e4), jnp.zeros((1, 3)))).all()
    grads = jax.grad(lambda m: gaussian_kl(m, jnp.full((1, 2), -60.0)).sum())(jnp.ones((1, 2)))
    np.testing.assert_allclose(grads, 1.0)


def test_the_linear_vae_reaches_the_likelihood_of_probabilistic_pca():
    """Its ELBO is tight at the optimum (Lucas et al., arXiv 1911.02469), which Tipping &
    Bishop give in closed form.
    """
    draw = np.random.default_rng(1)
    directions = np.linalg.qr(draw.normal(size=(6, 2)))[0]
    x = (
        (draw.normal(size=(400, 2)) * [2.0, 1.2]) @ directions.T
        + 0.5 * draw.normal(size=(400, 6))
        + 1
    )
    x = x.astype(np.float32)
    optimum = PCA(n_components=2).fit(x).score(x)
    family = VAE(latent_dim=2, coder=MLPCoder(hidden=()), likelihood=Gaussian("shared", 1.0))
    optimizer = Adam(Cosine(2e-2, 0.0, 6000))
    state = state_of(family, (6,), "points", x.mean(0), optimizer)
    batch = {"points": jnp.asarray(x), "mask": jnp.ones(len(x))}
    rule = optimizer.build(6000)

    @jax.jit
    def train(state):
        step = lambda s, _: (family.train_step(s, batch, optimizer=rule)[0], None)  # noqa: E731
        return jax.lax.scan(step, state, None, 6000)[0]

    state = train(state)
    bounds = jax.vmap(lambda key: -family.evaluate(state, batch, key)["loss"].value)(
        jax.random.split(KEY, 500)
    )
    np.testing.assert_allclose(bounds.mean(), optimum, atol=0.01)
    residual = PCA(n_components=2).fit(x).noise_variance_
    np.testing.assert_allclose(
        np.exp(state.params["likelihood"]["log_spread"]), residual, rtol=0.05
    )


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), Gaussian(), Gaussian("shared", 0.3), Gaussian("predicted", 0.3)]
)
@pytest.mark.parametrize(
    ("coder", "shape"),
    [
        (MLPCoder((8,)), (5, 4, 3)),
        (MLPCoder((8,)), (3,)),
        (ConvCoder((4, 8)), (9, 6, 3)),
    ],
)
def test_it_starts_at_the_mean_of_the_data(likelihood, coder, shape):
    """With weights near zero the first sample is the training mean, whatever the likelihood
    and the net.
    """
    family = VAE(latent_dim=3, coder=coder, likelihood=likelihood)
    mean = np.random.default_rng(0).uniform(-0.9, 0.9, shape).astype(np.float32)
    state = state_of(
        family, shape, "points" if len(shape) == 1 and likelihood != Bernoulli() else "image", mean
    )
    silent = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    samples = family.sample(silent, KEY, 2, PriorSampler())
    assert samples.shape == (2, *shape) and samples.dtype == jnp.float32
    np.testing.assert_allclose(samples[0], mean, atol=1e-5)
    assert family.sample(state, KEY, 2, PriorSampler(draw=True)).shape == (2, *shape)


@pytest.mark.long
def test_the_bound_is_the_sum_of_its_terms_and_beta_weighs_training_alone():
    family = VAE(latent_dim=3, coder=MLPCoder((8,)), beta=Linear(0.0, 1.0, 10))
    state = state_of(family, (4, 4, 1)).replace(step=jnp.int32(5))
    batch = {"image": jax.random.uniform(KEY, (6, 4, 4, 1), minval=-1), "mask": jnp.ones(6)}
    judged = {k: m.value for k, m in family.evaluate(state, batch, KEY).items()}
    np.testing.assert_allclose(judged["loss"], judged["reconstruction"] + judged["kl"], rtol=1e-6)
    np.testing.assert_allclose(judged["bits_per_dim"], judged["loss"] / (16 * np.log(2)), rtol=1e-6)
    _, trained = family.train_step(state, batch, optimizer=Adam().build(10))
    trained = {k: m.value for k, m in trained.items()}
    np.testing.assert_allclose(
        trained["loss"], trained["reconstruction"] + 0.5 * trained["kl"], rtol=1e-6
    )
    np.testing.assert_allclose(trained["beta"], 0.5)


def test_the_fixed_variance_is_a_mean_squared_error():
    outputs, x = jax.random.normal(KEY, (2, 3, 4))
    likelihood = Gaussian("fixed", 0.25)
    nll = likelihood.nll({}, outputs, x)
    constant = 4 * 0.5 * np.log(2 * np.pi * 0.25)
    np.testing.assert_allclose(
        nll - constant, jnp.square(outputs - x).sum(-1) / (2 * 0.25), rtol=1e-4
    )


def test_dynamic_binarisation_draws_each_pixel_with_its_intensity():
    x = jnp.full((20_000, 3), jnp.asarray([-1.0, -0.4, 1.0])[None])
    drawn = Bernoulli(binarize=True).prepare(KEY, x)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    np.testing.assert_allclose((drawn.mean(0) + 1) / 2, [0.0, 0.3, 1.0], atol=0.01)
    np.testing.assert_array_equal(Bernoulli().prepare(KEY, x), x)


def test_temperature_scales_the_latents():
    family = VAE(latent_dim=50, coder=MLPCoder(hidden=()), likelihood=Gaussian())
    state = state_of(family, (4,), "points")
    warm, cold = (family.sample(state, KEY, 400, PriorSampler(temperature=t)) for t in (1.0, 0.5))
    np.testing.assert_allclose(cold.std(0) / warm.std(0), 0.5, rtol=1e-4)


def test_interpolations_begin_and_end_at_the_reconstructions():
    family = VAE(latent_dim=3, coder=ConvCoder((4,)))
    state = state_of(family, (6, 5, 1))
    a, b = ({"image": x} for x in jax.random.uniform(KEY, (2, 3, 6, 5, 1), minval=-1))
    walk = interpolate(family, state, a, b, KEY, 5)
    assert walk.shape == (3, 5, 6, 5, 1)
    np.testing.assert_allclose(walk[:, 0], family.reconstruct(state, a, KEY)[1], atol=1e-5)
    np.testing.assert_allclose(walk[:, -1], family.reconstruct(state, b, KEY)[1], atol=1e-5)


def test_noise_differs_from_step_to_step():
    family = VAE(latent_dim=3, coder=MLPCoder((8,)))
    state = state_of(family, (4, 4, 1), optimizer=Adam(Constant(0.0)))
    batch = {"image": jnp.zeros((6, 4, 4, 1)), "mask": jnp.ones(6)}
    rule = Adam(Constant(0.0)).build(10)
    state, first = family.train_step(state, batch, optimizer=rule)
    _, second = family.train_step(state, batch, optimizer=rule)
    assert state.step == 1 and first["loss"].value != second["loss"].value


def test_bad_values_are_refused():
    with pytest.raises(UserError, match="latent_dim"):
        VAE(latent_dim=0)
    with pytest.raises(UserError, match="value must be above 0"):
        Gaussian("shared", 0.0)
    with pytest.raises(UserError, match="number of steps"):
        VAE(beta=Linear(0.0, 1.0))
    with pytest.raises(UserError, match="needs images"):
        state_of(VAE(coder=ConvCoder(), likelihood=Gaussian()), (3,), "points")
    with pytest.raises(UserError, match="Bernoulli is for images"):
        state_of(VAE(), (3,), "points")
