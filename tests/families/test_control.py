"""ControlNet: bitwise the base at step 0, the base frozen, and the sketch followed as it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.design.attributes import Attribute, Attributes
from genjax.data.design.sketches import Sketched
from genjax.data.sources import CaptionedShapes, Digits
from genjax.errors import UserError
from genjax.evaluation.images.sketches import compare_edges
from genjax.families.diffusion.control import ControlNet, SketchDiffusion, SketchSampling
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.family import Trained, init_state, make_example, with_inputs
from genjax.nets.conv.unet import UNet
from genjax.nets.transformer.dit import DiT
from genjax.optim import Adam
from genjax.samplers import Euler
from genjax.schedules import Constant

TEXT = Attributes((Attribute("colour", ("red", "green", "blue", "yellow", "purple", "white")),))


@dataclasses.dataclass(frozen=True)
class Colours:
    """The embedding of a caption by its colour alone."""

    width: int = 6

    def embed(self, text):
        return TEXT.embed(next(word for word in TEXT.attributes[0].values if word in text))


BASE = Diffusion(DiT(4, 16, 3, 2), width=8, text=Colours(), sampler=Denoising(Euler(2)))


@pytest.fixture(scope="module")
def data():
    return Sketched(CaptionedShapes(64, 16, side=12, text=Colours())).open()


@pytest.fixture(scope="module")
def batch(data):
    found = data.splits["train"].batch(np.arange(8))
    return {name: jnp.asarray(x) for name, x in found.items()} | {"mask": jnp.ones(8)}


def perturb(params, key):
    """Parameters none of which is 0 any more."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noise = [0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, [x + n for x, n in zip(leaves, noise, strict=True)])


@pytest.fixture(scope="module")
def start(data):
    """A control of a base that is not at its own start, before the first step."""
    spec, example = data.spec, make_example(data.spec)
    params, variables = BASE.init(jax.random.key(0), example, spec)
    params = perturb(params, jax.random.key(1))
    control = ControlNet("runs/base", 2, SketchSampling(Euler(2)))
    control = control.resolve({"base": Trained("runs/base", BASE, spec)}, spec)
    made, kept = control.init(jax.random.key(2), example, spec)
    state = init_state(
        made, kept, Adam(Constant(1e-2)).build(100, None, jnp.float32), jax.random.key(3)
    )
    state = state.replace(frozen={"base": {"params": params, "variables": variables}})
    first, kept = control.initial_params(state)
    return control, state.replace(params=first, variables=kept)


def test_at_step_0_the_model_is_the_base_bitwise(start, batch):
    control, state = start
    x, t = batch["image"], jnp.linspace(0.1, 0.9, 8)
    ours = control.eval_state(state)
    family = control.wrapped
    inputs = family._make_inputs(None, None, batch["condition"], batch["sketch"])
    found = family.predict(ours.params, x, t, inputs)
    told = {"text": batch["condition"]}
    expected = BASE.predict(state.frozen["base"]["params"], x, t, told)
    np.testing.assert_array_equal(found, expected)
    assert np.abs(expected).max() > 0


def test_the_copy_has_the_blocks_of_the_base(start):
    _, state = start
    net = state.frozen["base"]["params"]["net"]["net"]
    copy = state.params["control"]
    for name in ("stem", "block_0", "block_1"):
        jax.tree.map(np.testing.assert_array_equal, copy[name], net[name])
    assert "block_2" not in copy
    zeros = [copy[name] for name in ("enter", "leave_0", "leave_1")]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(zeros))


def test_training_changes_the_control_alone_and_lets_the_sketch_count(start, batch):
    control, state = start
    rule = Adam(Constant(1e-2)).build(100, None, jnp.float32)
    step = jax.jit(lambda state: control.train_step(state, batch, optimizer=rule))
    after = state
    for _ in range(3):
        after, metrics = step(after)
    assert np.isfinite(float(metrics["loss"].value)) and int(after.step) == 3
    jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), after.params, state.params)
    assert all(jax.tree.leaves(changed["control"]["enter"]))
    ours = control.eval_state(after)
    family, key = control.wrapped, jax.random.key(5)

    def draw(sketch, options=family.sampler):
        return np.asarray(family.sample(with_inputs(ours, {"sketch": sketch}), key, 8, options))

    flipped = 1 - batch["sketch"]
    assert np.abs(draw(batch["sketch"]) - draw(flipped)).max() > 1e-4
    plain = dataclasses.replace(family.sampler, follow=False)
    base = BASE.sample(
        state.replace(params=state.frozen["base"]["params"], frozen=None), key, 8, BASE.sampler
    )
    np.testing.assert_allclose(draw(flipped, plain), base, atol=1e-5)


def test_the_sketch_of_the_options_is_followed_by_all(start, data, tmp_path):
    from PIL import Image

    control, state = start
    family, ours = control.wrapped, control.eval_state(state)
    ours = ours.replace(params=perturb(ours.params, jax.random.key(7)))
    lines = np.zeros((12, 12), np.uint8)
    lines[3, 2:9] = 255
    Image.fromarray(lines).save(tmp_path / "sketch.png")
    options = SketchSampling(Euler(2), sketch=str(tmp_path / "sketch.png"))
    drawn = family.sample(ours, jax.random.key(5), 4, options.encode(data.codec, {}))
    rows = np.broadcast_to(lines[None, ..., None] / 255, (4, 12, 12, 1)).astype(np.float32)
    fed = with_inputs(ours, {"sketch": jnp.asarray(rows)})
    np.testing.assert_array_equal(
        drawn, family.sample(fed, jax.random.key(5), 4, SketchSampling(Euler(2)))
    )


def test_what_cannot_be_controlled_is_refused(data):
    spec = data.spec
    for family in (Diffusion(UNet((8,), 1, ())), SketchDiffusion(DiT(4, 16, 1, 2))):
        with pytest.raises(UserError) as error:
            ControlNet("runs/x").resolve({"base": Trained("runs/x", family, spec)}, spec)
        assert error.value.field == "base"
    control = ControlNet("runs/x", 4).resolve({"base": Trained("runs/x", BASE, spec)}, spec)
    with pytest.raises(UserError) as error:
        control.init(jax.random.key(0), make_example(spec), spec)
    assert error.value.field == "copied"
    plain = Digits().open().spec
    family = SketchDiffusion(DiT(4, 16, 1, 2), copied=1)
    with pytest.raises(UserError) as error:
        family.init(jax.random.key(0), make_example(plain), plain)
    assert error.value.field == "data"


def test_edges_agree_within_a_distance():
    def dot(row, column):
        image = np.zeros((1, 9, 9, 1))
        image[0, row, column] = 1
        return image

    both = np.maximum(dot(2, 2), dot(7, 7))
    for found, distance, f1 in (
        (dot(2, 2), 0, 1.0),
        (dot(3, 3), 0, 0.0),
        (dot(3, 3), 1, 1.0),
        (dot(4, 2), 1, 0.0),
        (both, 1, 2 * 0.5 / 1.5),
        (np.zeros((1, 9, 9, 1)), 1, 0.0),
    ):
        np.testing.assert_allclose(compare_edges(found, dot(2, 2), distance), f1)
    empty = np.zeros((1, 9, 9, 1))
    np.testing.assert_allclose(compare_edges(empty, empty, 1), 1)
