"""Filling in: what is known stays to the last bit, the rest is the model's, and the picture
shows both.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.pictures import GAP
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.images import inpainting
from genjax.evaluation.images.inpainting import Inpainting, make_mask
from genjax.evaluation.judge import Model, Subject
from genjax.families.diffusion.applications import fill_in
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.vae import VAE
from genjax.family import State
from genjax.nets.mlp import MLPCoder
from genjax.nets.residual_mlp import ResidualMLP
from genjax.parallel import Devices
from genjax.samplers import DDIM, Euler
from tests import toy
from tests.evaluation.test_judge import size, subject


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


@dataclass(frozen=True)
class Signs(Diffusion):
    """Estimates the sign of what it sees: white where the noise is above 0, else black."""

    def predict(self, params, x, t, told, key=None):
        return jnp.sign(x)


SIGNS = Signs(target="x0", sampler=Denoising(Euler(1)))


@pytest.fixture(scope="module")
def on(layout):
    data = Digits().open()
    state = State(
        jnp.zeros((), jnp.int32), {}, None, {"mean": jnp.zeros((8, 8, 1))}, None, jax.random.key(0)
    )
    model = Model(SIGNS, state, data.spec, data.codec, "step 0")
    return Subject(model, data.splits, "test", jax.random.key(1), layout, 16)


def cells(picture, columns, side=8):
    """The images of a grid, [rows, columns, side, side], of whole factors."""
    enlarged = (picture.shape[1] - GAP) // columns - GAP
    rows = (picture.shape[0] - GAP) // (enlarged + GAP)
    cut = picture[GAP:, GAP:, 0].reshape(rows, enlarged + GAP, columns, enlarged + GAP)[
        :, :enlarged, :, :enlarged
    ]
    return cut[:, :: enlarged // side, :, :: enlarged // side].transpose(0, 2, 1, 3)


@pytest.mark.parametrize("region", ["left", "centre"])
def test_rows_show_the_image_what_is_known_and_the_fills(on, region):
    found = Inpainting(examples=3, fills=5, region=region)(on)
    assert found.numbers["known_error"] == 0
    picture = found.pictures["inpainting"]
    assert picture.shape == size(3, 7)
    shown = cells(picture, 7)
    images = on.model.codec.decode(on.take_examples(3)["image"])[..., 0]
    known = make_mask(region, 8, 8)[0, ..., 0] == 1
    np.testing.assert_array_equal(shown[:, 0], images)
    np.testing.assert_array_equal(shown[:, 1], np.where(known, images, 128))
    fills = shown[:, 2:]
    np.testing.assert_array_equal(
        fills[..., known], np.broadcast_to(images[:, None], fills.shape)[..., known]
    )
    assert set(np.unique(fills[..., ~known])) == {0, 255}
    assert (
        len(np.unique(fills[..., ~known].reshape(15, -1), axis=0)) == 15
    )  # each has noise of its own
    assert f"3 images of test, 5 fills each of the {region}, by Denoising(" in found.protocol


def test_a_known_pixel_that_moves_is_told(on, monkeypatch):
    def wrong(*given):
        return fill_in(*given).at[1, 7, 7, 0].add(0.25)

    monkeypatch.setattr(inpainting, "fill_in", wrong)
    np.testing.assert_allclose(Inpainting(2, 2)(on).numbers["known_error"], 0.25, rtol=1e-6)
    assert Inpainting(2, 2, "right")(on).numbers["known_error"] == 0  # there the pixel was missing


@pytest.mark.parametrize(
    ("region", "height", "width", "missing"),
    [
        ("left", 3, 5, [(r, c) for r in range(3) for c in (0, 1)]),
        ("right", 3, 5, [(r, c) for r in range(3) for c in (3, 4)]),
        ("top", 5, 2, [(r, c) for r in (0, 1) for c in range(2)]),
        ("bottom", 5, 2, [(r, c) for r in (3, 4) for c in range(2)]),
        ("centre", 8, 4, [(r, c) for r in (2, 3, 4, 5) for c in (1, 2)]),
    ],
)
def test_regions_are_where_they_say(region, height, width, missing):
    known = make_mask(region, height, width)
    assert known.shape == (1, height, width, 1) and known.dtype == np.float32
    assert [tuple(at) for at in np.argwhere(known[0, ..., 0] == 0)] == missing and set(
        np.unique(known)
    ) == {0, 1}


def test_a_network_fills_in_and_a_conditional_one_is_told_no_label(layout):
    family = Diffusion(
        ResidualMLP(8, 1, 8), width=16, conditional=True, sampler=Denoising(DDIM(2), 3.0, label=7)
    )
    on = subject(layout, toy.experiment(family=family, data=Digits()))
    # The label's embedding would tell, were it asked for.
    net = on.model.state.params["net"]
    told = {"embedding": net["label"]["embedding"].at[:-1].set(jnp.nan)}
    state = on.model.state.replace(params={"net": net | {"label": told}})
    on = dataclasses.replace(on, model=dataclasses.replace(on.model, state=state))
    found = Inpainting(examples=2, fills=2, region="top")(on)
    assert found.numbers["known_error"] == 0 and "guidance_scale=0.0, label=None" in found.protocol


def test_what_cannot_be_filled_in_is_refused_before_the_first_step():
    images, points = Digits().open().spec, Points(size=10, test_size=5).open().spec
    Inpainting().check(Diffusion(), images, {})
    Inpainting().check(Diffusion(conditional=True), images, {})
    with pytest.raises(UserError, match="Inpainting needs a Diffusion, got a VAE"):
        Inpainting().check(VAE(2, MLPCoder((4,))), images, {})
    with pytest.raises(UserError, match="Inpainting needs images, but the data are points"):
        Inpainting().check(Diffusion(), points, {})
    with pytest.raises(UserError, match="drop_label must be > 0"):
        Inpainting().check(Diffusion(conditional=True, drop_label=0.0), images, {})
    with pytest.raises(
        UserError, match="region must be one of 'left', 'right', 'top', 'bottom', 'centre'"
    ):
        Inpainting(region="centr")
    for wrong in ({"examples": 0}, {"fills": 0}):
        with pytest.raises(UserError, match="at least 1"):
            Inpainting(**wrong)
