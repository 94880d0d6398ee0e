"""Latent diffusion: it uses another run's autoencoder, keeps a copy, and decodes with it."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.__main__ import main
from genjax.data.dataset import Spec
from genjax.data.text.hashed import HashedText
from genjax.errors import UserError
from genjax.experiment import Every, Experiment, Keep
from genjax.families.diffusion.augment import NonLeaking
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.diffusion.latent import LatentDiffusion
from genjax.families.likelihoods import Gaussian
from genjax.families.quantisers import find_nearest
from genjax.families.vae import VAE
from genjax.families.vqvae import VQVAE, decode_codes, encode_to_codes
from genjax.family import Trained
from genjax.nets.conv.spatial import SpatialCoder
from genjax.nets.conv.unet import UNet
from genjax.nets.mlp import MLPCoder
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.runs import directory
from genjax.runs.setup import initial_state, resolve, update_rule
from genjax.samplers import Euler
from tests import toy

KEY = jax.random.key(0)
EVERY = Every(log=2, evaluate=4, sample=0, checkpoint=2)
SPATIAL = VQVAE(
    codes=8, code_dim=3, coder=SpatialCoder((4, 4), 1), likelihood=Gaussian("fixed", 1.0)
)
FLAT = VAE(latent_dim=5, coder=MLPCoder((8,)), likelihood=Gaussian())
GRID = Diffusion(UNet((4,), 1, (), 4), width=4, conditional=True, sampler=Denoising(Euler(2)))
VECTOR = Diffusion(ResidualMLP(8, 1, 8), width=4, sampler=Denoising(Euler(2)))


def trained(family, folder, data=None, steps=4):
    settings = Experiment(
        family, data or toy.Pictures(), Adam(), steps=steps, batch_size=16, every=EVERY
    )
    return genjax.train(
        replace(settings, keep=Keep(best=None), devices=Devices(count=1)), folder, quiet=True
    )


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {"vqvae": trained(SPATIAL, folder / "vqvae"), "vae": trained(FLAT, folder / "vae")}


def on(bases, name):
    diffusion = {"vqvae": GRID, "vae": VECTOR}[name]
    return LatentDiffusion(str(bases[name].run_dir), diffusion)


@pytest.fixture(scope="module")
def standing(bases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("standing")
    return {name: trained(on(bases, name), folder / name) for name in bases}


@pytest.mark.long
@pytest.mark.parametrize(("name", "shape"), [("vqvae", (4, 4, 3)), ("vae", (5,))])
def test_it_stands_on_a_vqvae_or_a_vae_and_leaves_it_as_it_was(bases, standing, name, shape):
    run = standing[name]
    assert run.state.variables["mean"].shape == shape
    base = bases[name].state
    kept = run.state.frozen["autoencoder"]
    for part in ("params", "variables"):
        jax.tree.map(
            np.testing.assert_array_equal,
            jax.device_get(kept[part]),
            jax.device_get(getattr(base, part)),
        )
    samples = run.sample(num=3)
    assert samples.shape == (3, 16, 16, 1) and np.isfinite(samples).all()
    assert np.isfinite(run.evaluate().numbers["loss"])


@pytest.mark.long
def test_its_step_is_that_of_a_diffusion_on_standardised_latents(bases):
    base = bases["vae"]
    experiment = Experiment(on(bases, "vae"), toy.Pictures(), Adam(), steps=4, batch_size=16)
    experiment, _ = resolve(experiment, base.spec)
    state = initial_state(experiment, base.spec)()
    arrays = {"params": base.state.params, "variables": base.state.variables}
    state, rule = state.replace(frozen={"autoencoder": arrays}), update_rule(experiment)
    batch = {"image": jax.random.uniform(KEY, (16, 16, 16, 1)), "mask": jnp.ones(16)}
    stepped, metrics = experiment.family.train_step(state, batch, optimizer=rule)
    z = FLAT.to_latents(**arrays, x=batch["image"], key=jax.random.fold_in(state.step_key, 1))
    wanted, its = VECTOR.train_step(state, {"points": z, "mask": jnp.ones(16)}, optimizer=rule)
    jax.tree.map(np.testing.assert_array_equal, stepped.params, wanted.params)
    assert metrics["loss"].value == its["loss"].value


@pytest.mark.long
def test_it_sees_labels_and_captions_as_a_diffusion_does(bases):
    spec = replace(bases["vae"].spec, condition=6)
    family = LatentDiffusion("there", replace(VECTOR, conditional=True, text=HashedText(6)))
    family = family.resolve({"autoencoder": Trained("there", FLAT, bases["vae"].spec)}, spec)
    example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in spec.entries.items()}
    params, _ = jax.jit(lambda: family.init(KEY, example, spec))()
    assert {"label", "text"} <= params["net"].keys()
    assert family.conditional and family.text == HashedText(6)


def test_latents_of_a_vae_are_draws_of_its_posterior(bases):
    state = bases["vae"].state
    x = jnp.repeat(jax.random.uniform(KEY, (1, 16, 16, 1)), 20_000, 0)
    z = np.asarray(FLAT.to_latents(state.params, state.variables, x, KEY))
    (posterior,) = FLAT.encode(state.params, state.variables, x[:1])
    error = np.exp(0.5 * np.asarray(posterior.log_variance[0])) / np.sqrt(20_000)
    np.testing.assert_array_less(np.abs(z.mean(0) - np.asarray(posterior.mean[0])), 5 * error)
    np.testing.assert_allclose(z.std(0), error * np.sqrt(20_000), rtol=0.05)


def test_latents_of_a_vqvae_are_standardised_by_the_use_of_its_codes_and_decode_to_codes(bases):
    state = bases["vqvae"].state
    codebook = jnp.asarray([[0.0, 0, 0], [2.0, 4, 8]])
    variables = {"codebook": codebook, "counts": jnp.asarray([3.0, 1.0])}
    mean, deviation = SPATIAL.latent_moments(variables)
    np.testing.assert_allclose(mean[0, 0, 0], [0.5, 1, 2], rtol=1e-6)
    np.testing.assert_allclose(deviation[0, 0, 0], np.sqrt(3 / 16) * np.array([2, 4, 8]), rtol=1e-6)

    x = jax.random.uniform(KEY, (2, 16, 16, 1), minval=-1)
    z = SPATIAL.to_latents(state.params, state.variables, x, KEY)
    again = SPATIAL.decode_latents(state.params, state.variables, z)
    np.testing.assert_array_equal(
        again, decode_codes(SPATIAL, state, encode_to_codes(SPATIAL, state, x))
    )
    near = z + 1e-6  # between two codes nothing changes: what is decoded are codes
    same = find_nearest(state.variables["codebook"], near.reshape(-1, 3))
    if np.array_equal(same, encode_to_codes(SPATIAL, state, x).reshape(-1)):
        np.testing.assert_array_equal(
            SPATIAL.decode_latents(state.params, state.variables, near), again
        )


@pytest.mark.long
def test_a_run_needs_the_other_no_more_wherever_it_is_copied(bases, standing, tmp_path):
    shutil.copytree(bases["vqvae"].run_dir, tmp_path / "base")
    family = LatentDiffusion(str(tmp_path / "base"), GRID)
    whole = standing["vqvae"]
    trained(family, tmp_path / "parts", steps=2)
    shutil.rmtree(tmp_path / "base")
    resumed = trained(family, tmp_path / "parts")
    parts = ((r.state.params, r.state.opt_state, r.state.frozen) for r in (whole, resumed))
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, parts))
    shutil.copytree(tmp_path / "parts", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "parts")
    loaded = genjax.load(tmp_path / "elsewhere")
    np.testing.assert_array_equal(loaded.sample(num=2), whole.sample(num=2))


def test_a_run_goes_on_with_what_it_has_kept_though_the_other_has_trained_on(bases, tmp_path):
    shutil.copytree(bases["vae"].run_dir, tmp_path / "base")
    family = LatentDiffusion(str(tmp_path / "base"), VECTOR)
    first = trained(family, tmp_path / "run", steps=2)
    before = jax.device_get(first.state.frozen)
    trained(FLAT, tmp_path / "base", steps=8)
    after = jax.device_get(trained(family, tmp_path / "run").state.frozen)
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize(
    "devices", [Devices(8, "sharded"), Devices(8, "pmapped")], ids=lambda d: d.mode
)
@pytest.mark.long
def test_it_trains_on_eight_devices(bases, standing, devices, tmp_path):
    one = standing["vae"]
    settings = replace(one.experiment, family=on(bases, "vae"), devices=devices)
    eight = genjax.train(settings, tmp_path / "eight", quiet=True)
    pairs = zip(jax.tree.leaves(one.state.params), jax.tree.leaves(eight.state.params), strict=True)
    # Adam's first steps are of the size of the learning rate, whatever noise each device draws.
    tolerance = 2e-5 if devices.mode == "sharded" else 0.02
    assert all(np.abs(np.asarray(a) - np.asarray(b)).max() < tolerance for a, b in pairs)


@pytest.mark.parametrize(
    ("family", "spec", "words"),
    [
        (GRID, None, "must be a run of a VAE or VQVAE"),
        (replace(FLAT, conditional=True), None, "must not be conditional"),
        (
            FLAT,
            Spec("image", (8, 8, 1), np.zeros((8, 8, 1))),
            r"of shape \[8, 8, 1\], but the data .*\[16, 16, 1\]",
        ),
        (FLAT, Spec("points", (16,), np.zeros(16)), r"trained on points of shape \[16\]"),
    ],
)
def test_an_autoencoder_that_does_not_fit_is_refused(bases, family, spec, words):
    data = bases["vae"].spec
    with pytest.raises(UserError, match=words):
        on(bases, "vae").resolve({"autoencoder": Trained("there", family, spec or data)}, data)


def test_what_latents_cannot_follow_is_refused():
    for change, words in (
        ({"sampler": Denoising(clip=True)}, "sampler.clip must be False"),
        ({"augment": NonLeaking(0.1)}, "not latents"),
    ):
        with pytest.raises(UserError, match=words):
            LatentDiffusion("there", replace(GRID, **change))
    with pytest.raises(UserError, match="sampler.clip must be False"):
        LatentDiffusion("there", GRID).sample(None, KEY, 1, Denoising(clip=True))


def test_a_missing_run_and_one_of_another_shape_are_mistakes_of_one_line(
    tmp_path, capsys, monkeypatch, bases
):
    monkeypatch.chdir(tmp_path)
    small = "\n".join(
        [
            "from genjax.data.sources import Digits",
            "from genjax.experiment import Experiment",
            "from genjax.families.diffusion.latent import LatentDiffusion",
            "def get_config(tiny=False):",
            "    return Experiment(LatentDiffusion('runs/autoencoder'), Digits(), steps=2)",
        ]
    )
    (tmp_path / "small.py").write_text(small)
    assert main(["train", "small.py"]) == 2
    assert (
        "needs the run runs/autoencoder, which is not there; make it: python -m genjax train CONFIG"
        in (capsys.readouterr().err)
    )
    assert main(["train", "small.py", "--family.autoencoder", str(bases["vqvae"].run_dir)]) == 2
    assert (
        "was trained on image of shape [16, 16, 1], but the data are image of shape [8, 8"
        in capsys.readouterr().err
    )
    assert main(["show", "small.py", "--family.autoencoder", str(bases["vqvae"].run_dir)]) == 2


@pytest.mark.long
def test_a_run_that_stands_on_another_is_no_foundation(bases, standing):
    experiment = Experiment(
        LatentDiffusion(str(standing["vae"].run_dir), VECTOR), toy.Pictures(), Adam(), steps=4
    )
    with pytest.raises(UserError, match="which itself depends on other runs"):
        resolve(experiment, bases["vae"].spec)


def test_a_run_is_known_by_the_directory_of_the_other_and_keeps_its_family(
    bases, standing, tmp_path
):
    run = standing["vae"]
    assert run.experiment.family.autoencoder == FLAT
    assert directory.require_experiment(run.run_dir).family == on(bases, "vae")
    shutil.copytree(run.run_dir, tmp_path / "run")
    (tmp_path / "run" / directory.OTHERS).write_text('{"autoencoder": ')
    with pytest.raises(UserError, match="others.json is damaged"):
        genjax.load(tmp_path / "run")
