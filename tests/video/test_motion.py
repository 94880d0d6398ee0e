"""Motion of clips in closed form, and the evaluators that measure it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import gx, parallel
from genjax.data.dataset import Spec
from genjax.data.splits import Arrays
from genjax.data.video.bouncing import draw_clip
from genjax.data.video.codec import VideoCodec
from genjax.errors import UserError
from genjax.evaluation.judge import Model, Subject
from genjax.evaluation.video.frames import make_grey
from genjax.evaluation.video.motion import (
    describe_clips,
    find_centres,
    match_blocks,
    measure_motion_error,
)
from genjax.family import State
from genjax.parallel import Devices


def moving(shift=(0, 1), count=5, side=16):
    """A clip [1, T, side, side] of a pattern of 4 x 4 pixels that moves by ``shift`` a frame."""
    pattern = np.random.default_rng(0).integers(100, 256, (1, 4, 4)).astype(np.uint8)
    places = np.array([[4 + t * shift[0], 4 + t * shift[1]] for t in range(count)]) / (side - 4)
    return draw_clip(pattern, places[None] + 1e-9, side)[None].astype(np.float32) / 255


def test_a_block_is_found_where_it_moved():
    clip = moving((1, 2))
    found = match_blocks(clip[:, :1], clip[:, 1:2], 4, 3)
    assert found.shift[0, 0, 1, 1] == pytest.approx(np.hypot(1, 2))
    assert found.error[0, 0, 1, 1] == 0 and not found.lost.any()
    assert not found.shift[0, 0, 3].any()  # black blocks do not move


def test_motion_error_is_the_distance_between_true_and_predicted_places():
    clip = moving()
    shift, lost = measure_motion_error(clip[:, :3], clip[:, 2:], 8, 4)
    np.testing.assert_allclose(shift, 2, atol=1e-6)
    np.testing.assert_array_equal(lost, 0)
    shift, lost = measure_motion_error(clip, clip, 8, 4)
    np.testing.assert_array_equal(shift, 0)
    shift, lost = measure_motion_error(clip, np.zeros_like(clip), 8, 4)
    assert np.isnan(shift).all() and (lost == 1).all()


def test_centres_speeds_and_flicker_of_straight_motion():
    clip = moving((0, 2), 4)
    centre = find_centres(clip)
    np.testing.assert_allclose(np.diff(centre[0], axis=0), [[0, 2]] * 3, atol=1e-5)
    found = describe_clips(clip, 8, 4)
    np.testing.assert_allclose(found["speed"], 2, atol=1e-5)
    for name in ("acceleration", "flicker", "unexplained"):
        np.testing.assert_allclose(found[name], 0, atol=1e-5)
    fading = clip * np.array([1, 0.5, 0.25, 0.125])[None, :, None, None]
    np.testing.assert_allclose(describe_clips(fading, 8, 4)["flicker"], 1, rtol=1e-5)
    noise = np.random.default_rng(1).uniform(size=clip.shape)
    assert describe_clips(noise, 8, 4)["unexplained"] > 0.1
    np.testing.assert_allclose(find_centres(0 * clip)[0, 0], [7.5, 7.5])


def test_colour_becomes_grey():
    codec = VideoCodec(2, 2, 3)
    x = codec.encode(np.full((1, 2, 2, 2, 3), [255, 0, 0], np.uint8))
    np.testing.assert_allclose(make_grey(codec, x), np.full((1, 2, 2, 2), 0.299), rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Turning(gx.NextState):
    """Predicts that each frame is the one before it, moved by one pixel to the right."""

    def predict(self, params, x, key=None):
        before = jnp.concatenate([-jnp.ones_like(x[..., :1]), x[..., :-1]], -1)
        p = jnp.clip((jnp.roll(before, 1, axis=2) + 1) / 2, 1e-7, 1 - 1e-6)
        return jnp.log(p) - jnp.log1p(-p)


def turning(count=6, frames=5):
    """Clips uint8 [N, T, 8, 8, 1] that turn by one pixel a frame, and their codec."""
    base = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1)).astype(np.uint8)
    raw = np.stack([np.roll(base, t, axis=2) for t in range(frames)], 1)
    codec = VideoCodec(8, 8)
    return Arrays("image", raw, None, codec), codec


def judge(family, evaluator):
    split, codec = turning()
    images = split.batch(np.arange(len(split)))["image"]
    spec = Spec("image", images.shape[1:], images.mean(0), levels=256)
    variables = {"mean": jnp.asarray(spec.mean), "start": jnp.asarray(images[0, ..., :2])}
    zero = jnp.zeros((), jnp.int32)
    state = State(zero, {"net": jnp.zeros(1)}, (), variables, None, jax.random.PRNGKey(0))
    model = Model(family, state, spec, codec, "step 0, parameters, seed 0")
    evaluator.check(family, spec, {})
    layout = parallel.start(Devices(count=1))
    splits = {"train": split, "test": split}
    subject = Subject(model, splits, "test", jax.random.key(1), layout, 4)
    subject.made["samples", 6] = images  # as drawn by a model that knows the data by heart
    return evaluator(subject)


def test_a_perfect_prediction_pays_the_entropy_of_grey_pixels_and_no_more():
    found = judge(Turning(given=2), gx.NextFrameLikelihood()).numbers
    values = turning()[0].raw[:, 2:, ..., 0].astype(np.float64) / 255
    inner = np.clip(values, 1e-12, 1 - 1e-12)
    entropy = -(values * np.log(inner) + (1 - values) * np.log(1 - inner)).sum((2, 3))
    np.testing.assert_allclose(found["floor"], entropy.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["per_frame"], entropy.mean(), rtol=1e-4)
    np.testing.assert_allclose(found["frame_last"], entropy[:, -1].mean(), rtol=1e-4)
    assert abs(found["above_floor"]) < 0.01


def test_a_perfect_continuation_has_no_error_and_a_still_one_moves_further_away():
    findings = judge(Turning(given=2), gx.ClipContinuation(6, block=4, reach=3))
    found = findings.numbers
    np.testing.assert_allclose(
        [found["mse"], found["mse_last"], found["motion_error"]], 0, atol=0.01
    )
    assert found["mse_still"] > 1 and found["lost"] == 0
    assert findings.pictures["continued"].shape[2] == 1
    with pytest.raises(UserError):
        gx.ClipContinuation().check(gx.VAE(), Spec("image", (8, 8, 5), np.zeros((8, 8, 5))), {})
    with pytest.raises(UserError) as caught:
        spec = Spec("image", (4, 4, 5), np.zeros((4, 4, 5)))
        gx.ClipContinuation().check(Turning(), spec, {})
    assert caught.value.field == "block"


def test_samples_that_are_the_data_move_like_them():
    found = judge(Turning(given=2), gx.ClipMotion(6, 4, 3)).numbers
    names = ("speed", "acceleration", "flicker", "unexplained", "brightness", "spread")
    for name in names:
        np.testing.assert_allclose(found[name], found[f"{name}_data"], rtol=1e-6)
    np.testing.assert_allclose(found["frechet_motion"], 0, atol=1e-3)


def test_a_floor_needs_grey_targets():
    spec = Spec("image", (8, 8, 5), np.zeros((8, 8, 5)))
    with pytest.raises(UserError) as caught:
        gx.NextFrameLikelihood().check(gx.NextState(likelihood=gx.Bernoulli(True)), spec, {})
    assert caught.value.field == "likelihood"
