"""Search of a latent space: every method finds a known optimum, and interpolation keeps to the
sphere.
"""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import parallel
from genjax.cli.design import DesignOptions, load_brief
from genjax.data.codecs import ImageCodec
from genjax.data.design.measures import brightness
from genjax.design.search import Search
from genjax.design.sheet import write_sheet
from genjax.design.space import Space, interpolate, measure_excess, open_space
from genjax.errors import UserError
from genjax.families.image_rewards import mirror_symmetry
from genjax.family import State
from genjax.parallel import Devices

AIM = np.array([0.5, -0.5, 0.25, 0.0], np.float32)


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A decoder that shows a latent of four numbers as the pixels of an image."""

    latent_dim: int = 4

    def decode_latents(self, params, variables, z):
        return z.reshape(-1, 2, 2, 1)


@dataclasses.dataclass(frozen=True)
class FakeRun:
    family: Mirror
    eval_state: State
    layout: parallel.Layout


def near_aim(images, labels):
    """The brief: 1 at ``AIM``, and less with the squared distance."""
    aim = AIM.reshape(1, 2, 2, 1)
    return 1 - ((images - aim) ** 2).sum((1, 2, 3))


@pytest.fixture(scope="module")
def space():
    state = State(jnp.zeros((), jnp.int32), {}, None, {}, None, jax.random.key(0))
    return Space(FakeRun(Mirror(), state, parallel.start(Devices(count=1))))


def test_a_gradient_finds_the_optimum_from_every_start(space):
    found = Search("gradient", num=5, steps=120, rate=0.1)(space, near_aim, 0)
    np.testing.assert_allclose(found.latents, np.tile(AIM, (5, 1)), atol=0.02)
    np.testing.assert_allclose(found.scores, 1, atol=1e-3)
    assert (np.diff(found.scores) <= 0).all() and found.evaluations == 600


def test_evolution_finds_the_optimum_and_beats_as_many_draws(space):
    pytest.importorskip("cma", reason="cma is not installed: the extra design")
    search = Search(num=3, steps=50, population=8)
    found = search(space, near_aim, 0)
    np.testing.assert_allclose(found.latents, np.tile(AIM, (3, 1)), atol=0.1)
    assert (np.diff(found.history, axis=0) >= 0).all() and found.history.shape == (50, 3)
    drawn = dataclasses.replace(search, method="random")(space, near_aim, 0)
    assert drawn.evaluations == found.evaluations == 1200
    assert found.scores.min() > drawn.scores.max()
    again = search(space, near_aim, 0)
    np.testing.assert_array_equal(again.latents, found.latents)


def test_what_is_far_from_the_prior_costs(space):
    """A brief that only wants white pixels would leave the typical latents, were that free."""
    kept = Search("gradient", num=4, steps=80, rate=0.1, typical=2.0)(space, brightness, 0)
    free = Search("gradient", num=4, steps=80, rate=0.1, typical=0.0)(space, brightness, 0)
    assert measure_excess(kept.latents).max() <= measure_excess(free.latents).max() + 1e-6
    z = np.array([[1.0, 1, 1, 1], [0, 0, 0, 0], [2, 2, 2, 2]])
    np.testing.assert_allclose(measure_excess(z), [0, 0, 1], atol=1e-6)


def test_a_brief_without_a_gradient_is_told_to_take_evolution(space):
    with pytest.raises(UserError) as error:
        Search("gradient", num=2, steps=2)(space, mirror_symmetry, 0)
    assert error.value.field == "method"
    for wrong in ({"method": "luck"}, {"num": 0}, {"population": 1}, {"rate": 0.0}):
        with pytest.raises(UserError) as error:
            Search(**wrong)
        assert error.value.field == next(iter(wrong))


def test_interpolation_keeps_the_radius_and_turns_evenly():
    a, b = np.array([2.0, 0, 0]), np.array([0, 2.0, 0])
    way = interpolate(a, b, 7)
    np.testing.assert_allclose(way[[0, -1]], [a, b], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 2)
    turns = np.arccos(np.clip((way[1:] * way[:-1]).sum(1) / 4, -1, 1))
    np.testing.assert_allclose(turns, np.pi / 12)
    radii = np.linalg.norm(interpolate(a, 4 * b, 3), axis=1)
    np.testing.assert_allclose(radii, [2, 4, 8])
    np.testing.assert_allclose(interpolate(a, a, 3), np.tile(a, (3, 1)))


def test_a_sheet_is_a_picture_and_a_table(tmp_path):
    images = np.zeros((3, 8, 8, 1), np.float32)
    columns = {"score": np.array([0.9, 0.5, 0.25]), "distance": np.zeros(3)}
    path = write_sheet(images, columns, ImageCodec(8, 8, 1), "a title", tmp_path / "sheet")
    assert path.name == "sheet.png" and Image.open(path).size[0] > 100
    rows = list(csv.DictReader((tmp_path / "sheet.csv").open()))
    assert [row["score"] for row in rows] == ["0.9", "0.5", "0.25"] and rows[2]["design"] == "3"


def test_briefs_are_named_with_or_without_their_module():
    assert load_brief("brightness") is load_brief("genjax.data.design.measures:brightness")
    with pytest.raises(UserError):
        load_brief("no_such_measure")
    with pytest.raises(UserError) as error:
        DesignOptions(between=("a.png",))
    assert error.value.field == "between"


def test_a_run_of_another_family_is_refused(space):
    @dataclasses.dataclass(frozen=True)
    class Spec:
        entry: str = "image"

    @dataclasses.dataclass(frozen=True)
    class Other(FakeRun):
        spec: Spec = Spec()
        run_dir: str = "runs/x"

    run = Other(space.run.family, space.run.eval_state, space.run.layout)
    with pytest.raises(UserError, match="VAE"):
        open_space(run)
