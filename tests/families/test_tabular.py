"""Tables through the families that model vectors: a VAE and a GAN start where they should,
learn, and write files.
"""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.data.dataset import Spec
from genjax.data.sources import Table
from genjax.errors import UserError
from genjax.evaluation.tables.marginals import TabularMarginals
from genjax.experiment import Every, Experiment, Keep
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.gan.gan import GAN
from genjax.families.likelihoods import Gaussian, Tabular
from genjax.families.vae import VAE, PriorSampler
from genjax.family import init_state, make_example
from genjax.nets.gan.generators import MLPGenerator
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import SGD, Adam, Players
from genjax.parallel import Devices
from genjax.schedules import Constant

KEY = jax.random.key(0)
MEAN = np.asarray([0.3, -0.2, 0.25, 0.75, 0.1, 0.2, 0.7], np.float32)
SPEC = Spec("table", (7,), MEAN, categories=(2, 3))
TVAE = VAE(3, MLPCoder((8,)), Tabular(), sampler=PriorSampler(draw=True))
CTGAN = GAN(
    4,
    MLPGenerator((8,), batch_norm=True),
    MLPBackbone((8,)),
    "wasserstein",
    gradient_penalty=10.0,
    pack=2,
)
PLAYERS = Players(SGD(Constant(0.05)), SGD(Constant(0.1)))


def state_of(family, optimizer):
    return jax.jit(
        lambda: init_state(*family.init(KEY, make_example(SPEC), SPEC), optimizer.build(100), KEY)
    )()


def batch_of(rows):
    draw = np.random.default_rng(0)
    places = np.stack([draw.integers(0, 2, rows), draw.integers(0, 3, rows)], 1).astype(np.int32)
    return {
        "numeric": jnp.asarray(draw.normal(size=(rows, 2)), jnp.float32),
        "categorical": jnp.asarray(places),
    } | {"mask": jnp.ones(rows)}


def test_a_silent_vae_draws_the_means_and_shares_of_the_data():
    state = state_of(TVAE, Adam())
    silent = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    np.testing.assert_allclose(TVAE.sample(silent, KEY, 2, PriorSampler())[0], MEAN, atol=1e-5)
    silent = silent.replace(
        params=silent.params | {"likelihood": {"log_std": jnp.log(jnp.asarray([0.1, 0.4]))}}
    )
    drawn = np.asarray(TVAE.sample(silent, KEY, 20_000, PriorSampler(draw=True)))
    np.testing.assert_allclose(drawn.mean(0), MEAN, atol=0.02)
    np.testing.assert_allclose(drawn[:, :2].std(0), [0.1, 0.4], rtol=0.03)


def test_the_bound_of_a_vae_is_that_of_its_likelihood():
    state, batch = state_of(TVAE, Adam()), batch_of(6)
    x, again = TVAE.reconstruct(state, batch, KEY)
    np.testing.assert_array_equal(x[:, 2:].sum(1), 2)
    np.testing.assert_allclose(again[:, 2:4].sum(1), 1, rtol=1e-6)
    found = {name: mean.value for name, mean in TVAE.evaluate(state, batch, KEY).items()}
    _, latent_key = jax.random.split(KEY)
    layers = TVAE.top_down(state.params, TVAE.encode(state.params, state.variables, x), latent_key)
    outputs = TVAE.decode(state.params, state.variables, layers[0].z)
    nll = Tabular().of(state.variables).nll(state.params["likelihood"], outputs, x)
    np.testing.assert_allclose(found["reconstruction"], nll.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["loss"], found["reconstruction"] + found["kl"], rtol=1e-5)


def test_a_gaussian_is_a_likelihood_of_tables_as_of_any_vector():
    family = VAE(3, MLPCoder((8,)), Gaussian())
    state = state_of(family, Adam())
    assert family.sample(state, KEY, 5, PriorSampler()).shape == (5, 7)
    assert np.isfinite(family.evaluate(state, batch_of(6), KEY)["loss"].value)


def test_fakes_of_a_gan_are_rows_and_both_players_move():
    state = state_of(CTGAN, PLAYERS)
    fakes = np.asarray(jax.jit(lambda state: CTGAN.sample(state, KEY, 50, CTGAN.sampler))(state))
    assert fakes.shape == (50, 7) and np.abs(fakes[:, :2]).max() < 1
    np.testing.assert_allclose(fakes[:, 2:4].sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(fakes[:, 4:].sum(1), 1, rtol=1e-5)
    step = jax.jit(
        lambda state, batch: CTGAN.train_step(state, batch, optimizer=PLAYERS.build(100))
    )
    new, metrics = step(state, batch_of(8))
    for part in ("generator", "discriminator"):
        moved = jax.tree.map(
            lambda a, b: bool((a != b).any()), state.params[part], new.params[part]
        )
        assert any(jax.tree.leaves(moved))
    assert all(np.isfinite(mean.value) for mean in metrics.values())
    np.testing.assert_array_equal(new.variables["shares"][1], MEAN[4:])
    assert np.isfinite(jax.jit(CTGAN.evaluate)(new, batch_of(8), KEY)["loss"].value)


def test_what_does_not_fit_a_table_is_refused():
    with pytest.raises(UserError, match="temperature must be above 0"):
        GAN(temperature=0.0)
    with pytest.raises(UserError, match="family must be a VAE or a GAN to model tables"):
        Diffusion(ResidualMLP(8, 1, 8)).init(KEY, make_example(SPEC), SPEC)
    with pytest.raises(UserError, match="Bernoulli is for images"):
        VAE().init(KEY, make_example(SPEC), SPEC)


@pytest.mark.parametrize(
    ("family", "optimizer"),
    [(TVAE, Adam(Constant(1e-2))), (CTGAN, Players(Adam(), Adam()))],
    ids=["vae", "gan"],
)
@pytest.mark.long
def test_a_run_on_a_file_writes_its_schema(family, optimizer, tmp_path):
    draw = np.random.default_rng(0)
    lines = [
        f"{draw.integers(20, 60)},{'yes' if draw.uniform() < 0.7 else 'no'},{draw.normal():.3f}"
        for _ in range(80)
    ]
    (tmp_path / "people.csv").write_text("\n".join(["age,smokes,score", *lines, ",no,"]) + "\n")
    experiment = Experiment(
        family,
        Table(str(tmp_path / "people.csv"), "smokes", modes=2, seed=1),
        optimizer,
        steps=4,
        batch_size=16,
        evaluators=(TabularMarginals(50),),
        every=Every(2, 4, 4, 4),
        keep=Keep(best=None),
        devices=Devices(count=1),
    )
    genjax.train(experiment, tmp_path / "run", quiet=True)
    run = genjax.load(tmp_path / "run")
    path = run.write_samples(num=30)
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == ["age", "smokes", "score"] and len(rows) == 30
    for age, smokes, score in rows:
        assert age == "" or age == str(int(age))
        assert smokes in ("yes", "no") and (score == "" or len(score.split(".")[1]) == 3)
    numbers = run.evaluate().numbers
    assert 0 <= numbers["marginal_distance"] <= 1 and {"ks_age", "tv_smokes", "ks_score"} <= set(
        numbers
    )


def test_a_vae_learns_that_two_columns_hang_together(tmp_path):
    """The number is near 10 for one category and near -10 for the other: so are the samples'."""
    draw = np.random.default_rng(0)
    kinds = draw.integers(0, 2, 400)
    rows = [f"{draw.normal(20 * kind - 10, 1):.3f},{'ab'[kind]}" for kind in kinds]
    (tmp_path / "two.csv").write_text("\n".join(["x,kind", *rows]) + "\n")
    experiment = Experiment(
        VAE(2, MLPCoder((32,)), Tabular(), beta=Constant(0.5), sampler=PriorSampler(draw=True)),
        Table(str(tmp_path / "two.csv"), "kind", modes=4),
        Adam(Constant(5e-3)),
        steps=400,
        batch_size=64,
        every=Every(100, 0, 0, 400),
        keep=Keep(best=None),
        devices=Devices(count=1),
        steps_per_dispatch=100,
    )
    run = genjax.train(experiment, tmp_path / "run", quiet=True)
    columns = run.codec.decode(run.sample(num=500))
    agrees = (columns["x"] > 0) == (columns["kind"] == "b")
    assert agrees.mean() > 0.85 and 0.4 < (columns["kind"] == "b").mean() < 0.6
    np.testing.assert_allclose(np.abs(columns["x"]).mean(), 10, rtol=0.15)
