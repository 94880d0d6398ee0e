"""The bounds of VAEs against likelihoods that are known exactly, and what hangs on them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from scipy import stats

import genjax
from genjax import parallel
from genjax.data.dataset import Spec
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.judge import Judge
from genjax.evaluation.likelihood.importance import ImportanceBound
from genjax.evaluation.likelihood.latents import ActiveUnits, LatentMap
from genjax.experiment import Every, Experiment
from genjax.families.gaussian import Normal
from genjax.families.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian
from genjax.families.vae import VAE, PriorSampler, UpperLatents
from genjax.nets.conv.conv import ConvCoder
from genjax.nets.mlp import MLPCoder
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.runs.setup import initial_state
from genjax.schedules import Constant, Cyclical
from tests.families.test_vae import KEY, state_of

LINEAR = {"latent_dim": 2, "coder": MLPCoder(hidden=()), "likelihood": Gaussian("fixed", 0.3)}


def gaussian_data(count=64):
    return {
        "points": jnp.asarray(np.random.default_rng(0).normal(size=(count, 5)), jnp.float32),
        "mask": jnp.ones(count),
    }


def bound(family, state, batch, samples, key=KEY):
    family = dataclasses.replace(family, importance_samples=samples)
    return {name: mean.value for name, mean in jax.jit(family.evaluate)(state, batch, key).items()}


def exact_linear_nll(state, batch):
    """-log N(x; b, W'W + 0.3 I) of the linear decoder z W + b."""
    dense = state.params["decoder"]["mlp"]["output"]
    cov = dense["kernel"].T @ dense["kernel"] + 0.3 * np.eye(5)
    return -stats.multivariate_normal(dense["bias"], cov).logpdf(batch["points"]).mean()


def wide(state):
    """The same with posteriors close to the prior, so that some of thousands of draws fall
    where they should.
    """
    return state.replace(
        params=state.params | {"encoder": jax.tree.map(lambda p: 0.1 * p, state.params["encoder"])}
    )


def test_the_importance_bound_falls_with_k_to_the_exact_likelihood():
    state, batch = wide(state_of(VAE(**LINEAR), (5,), "points")), gaussian_data()
    exact = exact_linear_nll(state, batch)
    bounds = [bound(VAE(**LINEAR), state, batch, k)["loss"] for k in (1, 5, 50, 5000)]
    assert bounds[0] > bounds[1] > bounds[2] > bounds[3] > exact - 0.01
    np.testing.assert_allclose(bounds[3], exact, atol=0.02)
    assert bounds[0] > exact + 0.3  # so that falling means something


def test_one_importance_sample_is_the_elbo_in_expectation():
    state, batch = state_of(VAE(**LINEAR), (5,), "points"), gaussian_data()
    family = VAE(**LINEAR)
    keys = jax.random.split(KEY, 2000)
    elbo = jax.vmap(lambda k: family.evaluate(state, batch, k)["loss"].value)(keys).mean()
    sampled = jax.vmap(
        lambda k: family.importance_bound(state.params, state.variables, batch, k, 1)["loss"].value
    )(keys).mean()
    np.testing.assert_allclose(elbo, sampled, rtol=5e-3)


@pytest.mark.parametrize(("samples", "chunk"), [(12, 4), (13, 4), (5, 64), (7, 1)])
@pytest.mark.long
def test_chunks_are_the_whole_sum_and_so_is_their_gradient(samples, chunk):
    """Against the formula written out with the same draws, all at once."""
    family = VAE(**LINEAR, chunk=chunk)
    state, batch = state_of(family, (5,), "points"), gaussian_data(6)
    chunks = -(-samples // chunk)
    size = -(-samples // chunks)
    _, latent_key = jax.random.split(KEY)

    def direct(params):
        (q,) = family.encode(params, state.variables, batch["points"])
        weights = []
        for number in range(chunks):
            (layer,) = family.top_down(
                params, (q.repeat(size),), jax.random.fold_in(latent_key, number)
            )
            mean = family.decode(params, state.variables, layer.z)
            normal = jax.scipy.stats.norm
            log_p = normal.logpdf(
                jnp.repeat(batch["points"], size, axis=0), mean, np.sqrt(0.3)
            ).sum(-1)
            log_p += normal.logpdf(layer.z).sum(-1)
            log_q = normal.logpdf(
                layer.z, layer.posterior.mean, jnp.exp(layer.posterior.log_variance / 2)
            ).sum(-1)
            weights.append((log_p - log_q).reshape(6, size).T)
        log_w = jnp.concatenate(weights)[:samples]
        return -(jax.nn.logsumexp(log_w, axis=0) - np.log(samples)).mean()

    def ours(params):
        return family.importance_bound(params, state.variables, batch, KEY, samples)["loss"].value

    np.testing.assert_allclose(ours(state.params), direct(state.params), rtol=1e-5)
    for a, b in zip(
        *(jax.tree.leaves(jax.grad(f)(state.params)) for f in (ours, direct)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_memory_grows_with_the_chunk_and_not_with_the_samples():
    family = VAE(latent_dim=4, coder=MLPCoder((64,)), chunk=16)
    state = state_of(family, (28, 28, 1))
    batch = {"image": jnp.zeros((16, 28, 28, 1)), "mask": jnp.ones(16)}

    def temporary(samples):
        def loss(p):
            return family.importance_bound(p, state.variables, batch, KEY, samples)["loss"].value

        return (
            jax.jit(jax.grad(loss))
            .lower(state.params)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
        )

    few, many = temporary(32), temporary(5000)
    whole = 5000 * 16 * 784 * 4
    assert many < 2 * few < whole / 20


def test_eight_devices_share_the_draws_of_an_example_s_bound():
    family = VAE(latent_dim=4, coder=MLPCoder((32,)), likelihood=Gaussian())
    state, batch = (
        state_of(family, (6,), "points"),
        {"points": jax.random.normal(KEY, (16, 6)), "mask": jnp.ones(16)},
    )

    def judged(layout):
        of = lambda s, b: family.importance_bound(s.params, s.variables, b, KEY, 64)["loss"].value  # noqa: E731
        placed = layout.place(batch), jax.device_put(state.replace(key=KEY), layout.replicated)
        compiled = layout.compile_evaluation(of).lower(placed[1], placed[0]).compile()
        return compiled(placed[1], placed[0]), compiled.cost_analysis()["flops"]

    (one, alone), (eight, shared) = (
        judged(parallel.start(Devices(count=count))) for count in (1, 8)
    )
    np.testing.assert_allclose(one, eight, rtol=1e-5)
    assert shared < alone / 4


def test_the_product_of_gaussians_is_the_normalised_product_of_their_densities():
    draw = np.random.default_rng(0)
    a, b = (Normal(*draw.normal(size=(2, 3, 4)).astype(np.float32)) for _ in range(2))
    mean, log_variance = a.multiply(b)
    precision = np.exp(-a.log_variance) + np.exp(-b.log_variance)
    np.testing.assert_allclose(np.exp(-log_variance), precision, rtol=1e-5)
    weighted = a.mean * np.exp(-a.log_variance) + b.mean * np.exp(-b.log_variance)
    np.testing.assert_allclose(mean, weighted / precision, rtol=1e-4, atol=1e-6)


def hierarchical():
    """Linear throughout, with a prior of z1 whose variance does not depend on z2: x is Gaussian."""
    family = VAE(**LINEAR, upper=(UpperLatents(dim=3, hidden=()),))
    state = state_of(family, (5,), "points")
    kernel = state.params["down_0"]["output"]["kernel"].at[:, 2:].set(0)
    bias = jnp.asarray([0.3, -0.2, -1.0, -0.5])
    params = state.params | {"down_0": {"output": {"kernel": kernel, "bias": bias}}}
    return family, wide(state.replace(params=params))


def test_the_bound_of_two_layers_falls_to_the_exact_likelihood():
    family, state = hierarchical()
    batch = gaussian_data()
    down, out = state.params["down_0"]["output"], state.params["decoder"]["mlp"]["output"]
    a, w = np.asarray(down["kernel"][:, :2]), np.asarray(out["kernel"])
    z1 = a.T @ a + np.diag(np.exp(down["bias"][2:]))
    mean = np.asarray(down["bias"][:2]) @ w + out["bias"]
    exact = (
        -stats.multivariate_normal(mean, w.T @ z1 @ w + 0.3 * np.eye(5))
        .logpdf(batch["points"])
        .mean()
    )
    bounds = [bound(family, state, batch, k)["loss"] for k in (1, 10, 5000)]
    assert bounds[0] > bounds[1] > bounds[2]
    np.testing.assert_allclose(bounds[2], exact, atol=0.03)


def test_samples_of_two_layers_have_the_moments_of_the_prior():
    family, state = hierarchical()
    down, out = state.params["down_0"]["output"], state.params["decoder"]["mlp"]["output"]
    a, w = np.asarray(down["kernel"][:, :2]), np.asarray(out["kernel"])
    x = np.asarray(family.sample(state, KEY, 50_000, PriorSampler(draw=True)))
    np.testing.assert_allclose(x.mean(0), np.asarray(down["bias"][:2]) @ w + out["bias"], atol=0.03)
    z1 = a.T @ a + np.diag(np.exp(down["bias"][2:]))
    np.testing.assert_allclose(np.cov(x.T), w.T @ z1 @ w + 0.3 * np.eye(5), atol=0.06)


def test_the_kl_of_every_layer_is_reported_and_adds_up():
    upper = (UpperLatents(3, (8,)), UpperLatents(2, ()))
    family = VAE(latent_dim=4, coder=MLPCoder((8,)), likelihood=Gaussian(), upper=upper)
    state = state_of(family, (5,), "points")
    found = bound(family, state, gaussian_data(), 1)
    np.testing.assert_allclose(
        found["kl"], found["kl_z1"] + found["kl_z2"] + found["kl_z3"], rtol=1e-5
    )
    np.testing.assert_allclose(found["loss"], found["reconstruction"] + found["kl"], rtol=1e-5)
    assert min(found["kl_z1"], found["kl_z2"], found["kl_z3"]) > 0


def trained_loss(family, state, batch):
    _, metrics = family.train_step(state, batch, optimizer=Adam().build(10))
    return {name: mean.value for name, mean in metrics.items()}


def test_free_bits_cost_at_least_themselves_and_stop_the_gradient_of_cheap_units():
    batch = gaussian_data()
    plain = VAE(**LINEAR, beta=Constant(0.5))
    state = state_of(plain, (5,), "points")
    kl = np.mean(
        [layer.kl() for layer in plain.infer_latents(state, batch, KEY)], axis=(0, 1)
    )  # [Z]: the KL needs no draw
    for free in (0.5 * kl.min(), kl.mean(), 2 * kl.max()):
        family = dataclasses.replace(plain, free_bits=float(free))
        found = trained_loss(family, state, batch)
        expected = found["reconstruction"] + 0.5 * np.maximum(kl, free).sum()
        np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
        np.testing.assert_allclose(
            found["kl"], kl.sum(), rtol=1e-5
        )  # what is reported is the real one

    def encoder_gradient(free):
        family = dataclasses.replace(
            plain, free_bits=free, beta=Constant(1e6)
        )  # all but the KL vanishes
        new, _ = family.train_step(state, batch, optimizer=SGD(Constant(1e-6)).build(10))
        moved = jax.tree.map(
            lambda a, b: jnp.abs(a - b).max(), new.params["encoder"], state.params["encoder"]
        )
        return max(jax.tree.leaves(moved))

    assert encoder_gradient(0.0) > 1e-2 and encoder_gradient(100.0) < 1e-4


def test_free_bits_agree_on_one_and_on_eight_devices(tmp_path):
    """Their mean is that of the whole batch. Noise is silenced, as each device draws its own."""
    curves = []
    for number, devices in enumerate(
        (Devices(count=1), Devices(count=8), Devices(count=8, mode="sharded", fsdp=2))
    ):
        experiment = Experiment(
            family=Silent(**LINEAR, free_bits=0.4),
            data=Points("two_moons", size=64, test_size=16),
            optimizer=SGD(Constant(0.02)),
            steps=20,
            batch_size=16,
            every=Every(log=1, evaluate=0, sample=0, checkpoint=0),
            devices=devices,
        )
        genjax.train(experiment, tmp_path / str(number), quiet=True)
        rows = genjax.runs.writers.read_rows(epath.Path(tmp_path / str(number) / "metrics.jsonl"))
        curves.append([(row["loss"], row["grad_norm"], row["kl"]) for row in rows])
    assert (
        len(curves[0]) == 20
        and min(row[2] for row in curves[0]) < 0.8 < max(row[2] for row in curves[0]) + 0.8
    )
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
    np.testing.assert_allclose(curves[2], curves[0], rtol=1e-4)


@dataclasses.dataclass(frozen=True)
class Silent(VAE):
    """Means in the place of draws."""

    def top_down(self, params, estimates, key):
        return super().top_down(params, estimates, None)


@pytest.mark.long
def test_a_conditional_model_sees_its_label():
    family = VAE(latent_dim=3, coder=ConvCoder((4,)), conditional=True)
    spec = Spec("image", (6, 6, 1), np.zeros((6, 6, 1), np.float32), classes=4)
    example = {
        "image": jnp.zeros((1, 6, 6, 1)),
        "mask": jnp.ones(1),
        "label": jnp.zeros(1, jnp.int32),
    }
    params, variables = family.init(KEY, example, spec)
    state = genjax.family.init_state(params, variables, Adam().build(10), KEY)
    x = jax.random.uniform(KEY, (4, 6, 6, 1), minval=-1)
    (zero,), (one,) = (family.encode(params, variables, x, jnp.full(4, c)) for c in (0, 1))
    assert np.abs(zero.mean - one.mean).max() > 1e-3
    asked = family.sample(state, KEY, 5, PriorSampler(label=2))
    in_turn = family.sample(state, KEY, 5, PriorSampler())
    np.testing.assert_array_equal(asked[2], in_turn[2])
    assert np.abs(asked[1] - in_turn[1]).max() > 1e-4
    found = bound(family, state, {"image": x, "label": jnp.arange(4), "mask": jnp.ones(4)}, 3)
    assert np.isfinite(found["loss"])
    with pytest.raises(UserError, match="labels are from 0 to 3, not 4"):
        family.sample(state, KEY, 5, PriorSampler(label=4))
    with pytest.raises(UserError, match="this split of the data has no labels"):
        bound(family, state, {"image": x, "mask": jnp.ones(4)}, 1)
    with pytest.raises(UserError, match="no Mixup"):
        family.train_step(
            state, {"image": x, "other_label": jnp.arange(4)}, optimizer=Adam().build(10)
        )


def test_labels_that_are_not_there_are_refused():
    with pytest.raises(UserError, match="conditional needs labels, but the data have none"):
        state_of(VAE(conditional=True, coder=MLPCoder((4,))), (3, 3, 1))
    family = VAE(coder=MLPCoder((4,)))
    with pytest.raises(UserError, match="needs a class-conditional model"):
        family.sample(state_of(family, (3, 3, 1)), KEY, 2, PriorSampler(label=1))


def test_beta_weighs_the_ratio_in_training_and_not_the_bound_that_is_reported():
    family = VAE(**LINEAR, importance_samples=8, beta=Constant(0.25))
    state, batch = state_of(family, (5,), "points"), gaussian_data()
    trained = trained_loss(family, state, batch)
    key = state.step_key
    metrics = family.importance_bound(state.params, state.variables, batch, key, 8, 0.25)
    whole = family.importance_bound(state.params, state.variables, batch, key, 8)
    np.testing.assert_allclose(trained["loss"], metrics["loss"].value, rtol=1e-5)
    np.testing.assert_allclose(
        trained["bits_per_dim"], whole["loss"].value / (5 * np.log(2)), rtol=1e-5
    )
    assert abs(trained["loss"] - whole["loss"].value) > 0.01


def test_bad_values_of_the_bounds_are_refused():
    with pytest.raises(UserError, match="importance_samples must be at least 1"):
        VAE(importance_samples=0)
    with pytest.raises(UserError, match="free_bits must be at least 0"):
        VAE(free_bits=-1.0)
    with pytest.raises(UserError, match="closed-form KL"):
        VAE(free_bits=0.1, importance_samples=5)
    with pytest.raises(UserError, match="chunk must be at least 1"):
        ImportanceBound(chunk=0)
    with pytest.raises(UserError, match="latent_dim must be >= 2"):
        LatentMap().check(VAE(latent_dim=1), Digits().open().spec, {})
    with pytest.raises(
        UserError, match="activation must be one of 'relu', 'leaky_relu', 'gelu', 'silu', 'tanh'"
    ):
        UpperLatents(activation="relo")
    with pytest.raises(UserError, match="which have 17, got 256"):
        initial_state(toy_like(DiscretizedLogistic()), Digits().open().spec)()


def toy_like(likelihood):
    return Experiment(family=VAE(coder=MLPCoder((4,)), likelihood=likelihood), data=Digits())


def test_a_cyclical_schedule_climbs_anew_in_every_period():
    schedule = Cyclical(start=0.0, end=0.8, period=10, ramp=0.5, cycles=2)
    values = [float(schedule(step)) for step in (0, 1, 4, 5, 9, 10, 12, 19, 20, 23)]
    np.testing.assert_allclose(values, [0, 0.16, 0.64, 0.8, 0.8, 0, 0.32, 0.8, 0.8, 0.8], rtol=1e-6)
    assert float(dataclasses.replace(schedule, cycles=None)(20)) == 0


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    experiment = Experiment(
        family=VAE(6, MLPCoder((16,)), upper=(UpperLatents(3, (8,)),)),
        data=Digits(),
        steps=60,
        every=Every(log=20, evaluate=0, sample=0, checkpoint=0),
        evaluators=(ActiveUnits(), LatentMap(limit=50, cells=4), ImportanceBound(20, limit=50)),
        devices=Devices(count=1),
    )
    return genjax.train(experiment, tmp_path_factory.mktemp("latents") / "run", quiet=True)


@pytest.mark.long
def test_active_units_are_those_whose_means_vary(digits_run):
    report = digits_run.evaluate()
    split = Digits().open().splits["test"]
    batch = split.batch(np.arange(len(split)))
    layers = digits_run.experiment.family.infer_latents(digits_run.state, batch, KEY)
    for number, layer in enumerate(layers, 1):
        active = np.var(layer.posterior.mean - layer.prior.mean, axis=0) > 0.01
        assert report.numbers[f"active_units_z{number}"] == active.sum()
        collapsed = (np.asarray(layer.kl()).mean(0) < 0.01).sum()
        assert report.numbers[f"collapsed_units_z{number}"] == collapsed
    assert 0 < report.numbers["active_units_z1"] <= 6
    assert report.pictures["kl_by_unit"].ndim == 3


def test_a_collapsed_model_is_told_what_to_do():
    experiment = Experiment(
        family=VAE(6, MLPCoder((16,))), data=Digits(), evaluators=(ActiveUnits(),)
    )
    data = Digits().open()
    state = initial_state(experiment, data.spec)()
    params = state.params | {"encoder": jax.tree.map(jnp.zeros_like, state.params["encoder"])}
    layout = parallel.start(Devices(count=1))
    report = Judge.of(experiment, layout, data, experiment.evaluators, {})(
        state.replace(params=params), "test"
    )
    assert report.numbers["active_units"] == 0 and report.numbers["collapsed_units"] == 6
    (remark,) = report.remarks
    assert "6 of 6 units of z1" in remark and "free_bits" in remark


def test_the_bound_of_an_evaluation_is_that_of_the_family_and_prints_its_protocol(digits_run):
    report = digits_run.evaluate()
    assert report.numbers["nll_20"] < report.numbers["loss"] + 2  # of the first 50 examples
    np.testing.assert_allclose(
        report.numbers["bits_per_dim_20"], report.numbers["nll_20"] / (64 * np.log(2)), rtol=1e-5
    )
    protocol = report.protocols["nll_20"]
    assert (
        "20 samples an example, 50 examples of test" in protocol
        and "step 60, parameters, seed 0" in protocol
    )


def test_a_latent_map_has_its_two_pictures(digits_run):
    report = digits_run.evaluate()
    assert {"latent_map", "latent_grid"} <= report.pictures.keys()
    side = 4 * 58 + 2
    assert report.pictures["latent_grid"].shape == (side, side, 1)


def test_binarised_images_stay_binary_through_the_bound():
    family = VAE(2, MLPCoder((4,)), Bernoulli(binarize=True))
    state = state_of(family, (4, 4, 1))
    grey = {"image": jnp.zeros((6, 4, 4, 1)), "mask": jnp.ones(6)}
    keys = jax.random.split(KEY, 300)

    def of(k):
        return family.importance_bound(state.params, state.variables, grey, k, 4)[
            "reconstruction"
        ].value

    values = jax.vmap(of)(keys)
    # Fair coin flips cost log 2 a pixel on average whatever the decoder says near its start, but
    # not each time.
    assert values.std() > 0.01 and abs(values.mean() - 16 * np.log(2)) < 1.5
