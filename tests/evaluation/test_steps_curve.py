"""Distances over the number of steps, of a model whose samplers' errors have a closed form."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Spec
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.features import distances
from genjax.evaluation.images import steps_curve
from genjax.evaluation.images.steps_curve import StepsCurve, set_steps
from genjax.evaluation.judge import Model, Subject
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.vae import VAE
from genjax.family import State
from genjax.nets.mlp import MLPCoder
from genjax.parallel import Devices
from genjax.samplers import DDIM, Adaptive, Euler, Heun
from genjax.samplers.diffusion.processes import VPCosine
from tests.samplers.exact import Gaussian

SHAPE = (4, 4, 1)
MEAN, STD = 0.2, 0.25  # of each pixel


@dataclass(frozen=True)
class Exact(Diffusion):
    """The posterior mean of images whose pixels are independent normals."""

    def denoise(self, state, n, options, text=None):
        estimate = Gaussian((MEAN,), (STD,)).denoise(self.process)
        return lambda x, t: estimate(x.reshape(-1, 1), t).reshape(x.shape)


@dataclass(frozen=True)
class Given:
    """A split of images in model space."""

    images: np.ndarray
    in_memory = True

    def __len__(self):
        return len(self.images)

    def batch(self, indices):
        return {"image": self.images[indices]}


@pytest.fixture(scope="module")
def on():
    spec = Spec("image", SHAPE, np.zeros(SHAPE, np.float32))
    state = State(
        jnp.zeros((), jnp.int32), {}, None, {"mean": jnp.zeros(SHAPE)}, None, jax.random.key(0)
    )
    model = Model(
        Exact(process=VPCosine(), sampler=Denoising(DDIM(50))),
        state,
        spec,
        ImageCodec(*SHAPE),
        "step 0",
    )
    images = np.random.default_rng(0).normal(MEAN, STD, (3000, *SHAPE)).astype(np.float32)
    splits = {"train": Given(images), "test": Given(images[:5])}
    return Subject(model, splits, "test", jax.random.key(1), parallel.start(Devices(count=1)), 16)


def test_distances_fall_with_the_steps_as_they_should(on):
    steps = (1, 2, 4, 16)
    found = StepsCurve(steps, samples=1000, kernel_subset=200)(on)
    process = on.model.family.process
    for number in steps:
        moments = Gaussian((MEAN,), (STD,)).moments(
            process, process.grid(number), lambda *levels: (0.0, 0.0)
        )
        (mean,), (variance,) = moments
        exact = 16 * ((mean - MEAN) ** 2 + (np.sqrt(variance) - STD) ** 2)
        chance = (
            16**2 * STD**2 / 1000
        )  # about: the covariances of two sets of this many rows differ
        np.testing.assert_allclose(
            found.numbers[f"frechet_pixels_at_{number}_steps"], exact, rtol=0.02, atol=chance
        )
    kernels = [found.numbers[f"kernel_pixels_at_{number}_steps"] for number in steps]
    assert kernels[0] > 5 * abs(kernels[-1])  # the cubic kernel hardly sees variances
    assert len(found.numbers) == 8 and set(found.pictures) == {"steps"}
    assert found.protocol.startswith(
        "pixels, no resizing; 1,000 samples at each number of steps, otherwise by Denois"
    )
    assert (
        "3,000 images of train" in found.protocol
        and "100 subsets of 200, standard errors up to" in found.protocol
    )


def test_the_numbers_are_those_of_the_sampler_with_so_many_steps(on):
    found = StepsCurve((2, 3), samples=300, limit=400, kernel_subset=100)(on).numbers
    real = on.splits["train"].images[np.arange(400) * 3000 // 400].reshape(400, -1)
    for number in (2, 3):
        fake = np.clip(on.draw_samples_with(Denoising(DDIM(number)), 300), -1, 1).reshape(300, -1)
        expected, _ = distances.kernel_distance(real, fake, 100, steps_curve.SUBSETS)
        np.testing.assert_allclose(found[f"kernel_pixels_at_{number}_steps"], expected, rtol=1e-5)
        np.testing.assert_allclose(
            found[f"frechet_pixels_at_{number}_steps"],
            distances.frechet_distance(real, fake),
            rtol=1e-5,
        )


def test_no_covariance_is_fitted_to_as_few_samples_as_features(on):
    for samples, kinds in ((16, {"kernel"}), (17, {"kernel", "frechet"})):
        found = StepsCurve((2,), samples=samples, kernel_subset=10)(on).numbers
        assert set(found) == {f"{kind}_pixels_at_2_steps" for kind in kinds}


def test_steps_change_and_nothing_else():
    sampler = Denoising(DDIM(50, eta=0.5), clip=True)
    assert set_steps(sampler, 7) == Denoising(DDIM(7, eta=0.5), clip=True)
    assert set_steps(Denoising(Euler(3)), 4).solver == Euler(4)


def test_what_has_no_steps_or_no_images_is_refused_before_the_first_step():
    images, points = Digits().open().spec, Points(size=10, test_size=5).open().spec
    evaluator = StepsCurve()
    evaluator.check(Diffusion(sampler=Denoising(Heun(5))), images, {})
    assert not evaluator.while_training and evaluator.runs == ()
    assert StepsCurve(features="runs/eyes").runs == ("runs/eyes",)
    with pytest.raises(UserError, match=r"Adaptive\(.* chooses its own"):
        evaluator.check(Diffusion(sampler=Denoising(Adaptive())), images, {})
    with pytest.raises(UserError, match="StepsCurve needs a Diffusion .*got a VAE"):
        evaluator.check(VAE(2, MLPCoder((4,))), images, {})
    with pytest.raises(UserError, match="StepsCurve needs images, but the data are points"):
        evaluator.check(Diffusion(), points, {})


def test_bad_numbers_are_refused(on):
    for wrong in ((), (0, 1), (4, 2), (2, 2)):
        with pytest.raises(UserError, match="steps must be increasing"):
            StepsCurve(wrong)
    with pytest.raises(UserError, match="kernel_subset = 500 images, but samples of 499"):
        StepsCurve(samples=499)
    with pytest.raises(UserError, match="kernel_subset = 500 images, but limit of 10"):
        StepsCurve(limit=10)
    with pytest.raises(UserError, match="kernel_subset must be at least 2"):
        StepsCurve(kernel_subset=1)
    with pytest.raises(UserError, match="kernel_subset = 10 images, but the test split has 5"):
        StepsCurve(split="test", kernel_subset=10)(on)
    with pytest.raises(UserError, match="unknown split 'tran'; did you mean 'train'"):
        StepsCurve(split="tran")(dataclasses.replace(on, made={}))
