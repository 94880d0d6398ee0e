"""Guidance matches its formula, and inpainting keeps the known pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.samplers import DDPM, Adaptive, DPMSolver, Euler, Heun, fix_known, guide
from genjax.samplers.diffusion.processes import Straight, VPCosine, VPLinear, compute_noise
from tests.samplers.exact import Gaussian

CONDITIONAL = Gaussian().denoise(VPLinear())
UNCONDITIONAL = Gaussian((0.0, 0.0, 0.0), (1.0, 2.0, 1.0)).denoise(VPLinear())
X = jax.random.normal(jax.random.key(0), (4, 3))


def test_guidance_in_x0_is_that_in_the_noise():
    t = jnp.asarray(0.4)
    mean = guide(CONDITIONAL, UNCONDITIONAL, 3.0)(X, t)
    with_it, without, found = (
        compute_noise(VPLinear(), d(X, t), X, t)
        for d in (CONDITIONAL, UNCONDITIONAL, lambda *_: mean)
    )
    w = 2.0  # of arXiv 2207.12598, equation 6
    np.testing.assert_allclose(found, (1 + w) * with_it - w * without, rtol=1e-4, atol=1e-5)


def test_at_scales_zero_and_one_only_one_is_evaluated():
    assert guide(CONDITIONAL, UNCONDITIONAL, 1.0) is CONDITIONAL
    assert guide(CONDITIONAL, UNCONDITIONAL, 0) is UNCONDITIONAL


def test_guidance_drives_samples_past_the_condition():
    def mean(scale):
        denoise = guide(CONDITIONAL, UNCONDITIONAL, scale)
        return jax.jit(lambda x, key: Euler(20)(denoise, VPLinear(), x, key)[:, 0].mean())(
            x, jax.random.key(0)
        )

    x = jax.random.normal(jax.random.key(1), (512, 3))
    means = [float(mean(scale)) for scale in (1.0, 2.0)]
    assert abs(means[0] - 1) < 0.1 and means[1] > 1.05, means


IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 1)), jnp.float32)
MASK = (IMAGE > 0).astype(jnp.float32)


def blur(x, t):
    """Not a posterior mean, but every entry sees its neighbours."""
    return 0.5 * (x + jnp.roll(x, 1, axis=2))


@pytest.mark.parametrize(
    ("sampler", "process"),
    [(s, Straight()) for s in (Euler(5), Heun(5), DPMSolver(5), Adaptive(1e-2, 1e-2))]
    + [(DDPM(5), VPCosine())],
)
def test_known_pixels_come_back_exactly_and_others_do_not(sampler, process):
    x = jax.random.normal(jax.random.key(0), IMAGE.shape)
    found = jax.jit(lambda x, key: sampler(fix_known(blur, IMAGE, MASK), process, x, key))(
        x, jax.random.key(1)
    )
    np.testing.assert_array_equal(found[MASK == 1], IMAGE[MASK == 1])
    assert np.isfinite(found).all() and (found[MASK == 0] != IMAGE[MASK == 0]).all()


def test_what_is_filled_in_sees_what_is_known():
    x = jax.random.normal(jax.random.key(0), IMAGE.shape)
    found = [
        Euler(5)(fix_known(blur, image, MASK), Straight(), x, jax.random.key(1))
        for image in (IMAGE, IMAGE + 1)
    ]
    assert abs(found[1] - found[0])[MASK == 0].max() > 0.1


def test_a_mask_may_be_shared_by_channels_and_examples():
    image = jnp.ones((2, 3, 4, 3))
    for mask in (jnp.ones((2, 3, 4, 1)), jnp.ones((1, 3, 4, 1)), jnp.ones((1, 1, 1, 1), bool)):
        np.testing.assert_array_equal(
            fix_known(lambda x, t: 0 * x, image, mask)(0 * image, jnp.ones(())), image
        )


def test_wrong_shapes_are_refused():
    with pytest.raises(UserError, match=r"mask of shape \(2, 3, 4\) does not fit"):
        fix_known(blur, IMAGE, MASK[..., 0])
    with pytest.raises(UserError, match=r"mask of shape \(2, 2, 4, 1\) does not fit"):
        fix_known(blur, IMAGE, MASK[:, :2])
    with pytest.raises(
        UserError, match=r"image has shape \(2, 3, 4, 1\), but the samples have \(4, 3, 4, 1\)"
    ):
        fix_known(blur, IMAGE, MASK)(jnp.zeros((4, 3, 4, 1)), jnp.ones(()))
