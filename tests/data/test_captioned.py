"""Captioned shapes: pictures show what their captions say, and what is held out is new only as
a whole.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from genjax.data.sources import CaptionedShapes
from genjax.data.sources.captioned import (
    ATTRIBUTES,
    COLOURS,
    COMBINATIONS,
    PLACES,
    SHAPES,
    SHIFTS,
    SIZES,
    Scene,
    attributes,
    is_held_out,
    render,
    render_scenes,
    write_captions,
)
from genjax.data.text.hashed import HashedText
from genjax.errors import UserError

SOURCE = CaptionedShapes(300, 200, text=HashedText(16))


@pytest.fixture(scope="module")
def data():
    return SOURCE.open()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_example_is_its_scene_its_caption_and_its_shape(data, split):
    examples = SOURCE.make_examples(split)
    batch = data.splits[split].batch(np.arange(len(examples)))
    pictures = data.codec.decode(batch["image"])
    for row, (scene, caption) in enumerate(examples):
        assert np.array_equal(pictures[row], render(scene))
        assert caption in write_captions(scene)
        assert np.array_equal(
            batch["condition"][row], SOURCE.text.embed(caption)
        )  # as a prompt is embedded
        assert SHAPES[batch["label"][row]] == scene.shape
        assert is_held_out(scene) == (split == "test")
    assert {scene.shift for scene, _ in examples} == set(SHIFTS)
    assert data.splits[split].scenes == tuple(scene for scene, _ in examples)


def test_the_spec_tells_of_the_condition(data):
    assert data.spec.shape == (16, 16, 3) and data.spec.classes == 4 and data.spec.condition == 16
    batch = data.splits["train"].batch(np.arange(3))
    assert batch["condition"].shape == (3, 16) and batch["condition"].dtype == np.float32
    assert CaptionedShapes().open().splits["train"].batch(np.arange(1))["condition"].shape == (
        1,
        64,
    )


def test_what_is_held_out_is_a_fifth_and_each_two_attributes_occur_in_training():
    train = [scene[:4] for scene in COMBINATIONS if not is_held_out(scene)]
    assert len(COMBINATIONS) == 240 and len(train) == 192
    values = (SHAPES, COLOURS, PLACES, SIZES)
    for i, j in itertools.combinations(range(4), 2):
        assert {(t[i], t[j]) for t in train} == set(itertools.product(values[i], values[j]))


@pytest.mark.parametrize("side", [12, 16, 32])
def test_no_two_scenes_look_the_same(side):
    pictures = {
        render(scene._replace(shift=s), side).tobytes() for scene in COMBINATIONS for s in SHIFTS
    }
    assert len(pictures) == len(COMBINATIONS) * len(SHIFTS)


def test_a_picture_has_the_attributes_that_are_asked_for():
    for scene in COMBINATIONS:
        for shift in ((0, 0), (1, -1)):
            picture = render(scene._replace(shift=shift), 32).astype(float)
            share = picture.max(-1) / max(COLOURS[scene.colour])
            peak = picture.reshape(-1, 3)[picture.max(-1).argmax()]
            np.testing.assert_array_equal(peak, COLOURS[scene.colour])
            down, across = (np.arange(32) + 0.5 for _ in range(2))
            centre = (
                np.array([(share * down[:, None]).sum(), (share * across[None]).sum()])
                / share.sum()
            )
            want = 32 * np.array(PLACES[scene.place]) + shift
            if (
                scene.shape == "triangle"
            ):  # its centre of gravity lies below the middle of its height
                assert centre[0] > want[0]
                want[0] = centre[0]
            np.testing.assert_allclose(centre, want, atol=0.1)
            area = {
                "circle": np.pi,
                "square": 1.7**2,
                "cross": 4 * 0.6 - 0.6**2,
                "triangle": 1.8**2 / 2,
            }[scene.shape]
            np.testing.assert_allclose(share.sum(), area * (32 * SIZES[scene.size]) ** 2, rtol=0.1)


def test_captions_tell_the_attributes():
    for scene in COMBINATIONS:
        for number, caption in enumerate(write_captions(scene)):
            assert all(word in caption for word in scene[:3]) and (scene.size in caption) == (
                number < 3
            )
            others = {*SHAPES, *COLOURS, *SIZES} - set(scene[:4])
            assert not others & set(caption.replace(",", "").split())
    every = [caption for scene in COMBINATIONS for caption in write_captions(scene)[:3]]
    assert len(set(every)) == 3 * 240
    assert "a small red circle at the top left" in every


def test_a_sentence_is_read_back_to_its_attributes_and_nothing_else_is():
    for scene in COMBINATIONS:
        named = dict(zip(ATTRIBUTES, scene[:4], strict=True))
        for number, caption in enumerate(write_captions(scene)):
            assert attributes(caption) == (
                named if number < 3 else {n: v for n, v in named.items() if n != "size"}
            )
    whole = "a small red circle at the top left"
    for other in (
        "",
        whole[:-1],
        whole + ".",
        whole.replace("red", "red red"),
        whole.title(),
        whole.replace("red", ""),
    ):
        assert attributes(other) == {}
    attributes(whole).clear()  # what is given is the caller's own
    assert len(attributes(whole)) == 4


def test_forms_choose_the_sentences_and_leave_the_pictures():
    chosen, every = SOURCE.make_examples("train", (1, 3)), SOURCE.make_examples("train")
    assert [scene for scene, _ in chosen] == [scene for scene, _ in every]
    forms = {write_captions(scene).index(caption) for scene, caption in chosen}
    assert forms == {1, 3} and {
        write_captions(scene).index(caption) for scene, caption in every
    } == set(range(5))


def test_each_picture_is_that_of_its_scene():
    scenes = [COMBINATIONS[3], COMBINATIONS[100]._replace(shift=(1, 0)), COMBINATIONS[3]]
    np.testing.assert_array_equal(
        render_scenes(scenes, 20), [render(scene, 20) for scene in scenes]
    )


def test_pictures_depend_on_the_seed_and_their_place_alone(data):
    assert SOURCE.open().fingerprint == data.fingerprint
    assert CaptionedShapes(400, 50, text=HashedText(16)).make_examples("train")[
        :300
    ] == SOURCE.make_examples("train")
    assert CaptionedShapes(300, 200, 1, text=HashedText(16)).open().fingerprint != data.fingerprint
    assert CaptionedShapes(300, 200, text=HashedText(17)).open().fingerprint != data.fingerprint


def test_bad_pictures_are_refused():
    for fields, words in (({"size": 0}, "size"), ({"side": 11}, "side must be from 12 to 1024")):
        with pytest.raises(UserError, match=words):
            CaptionedShapes(**fields)
    with pytest.raises(UserError, match="split"):
        SOURCE.make_examples("validation")
    for attribute, value in (
        ("shape", "circel"),
        ("colour", "rad"),
        ("place", "at the top"),
        ("size", "smal"),
    ):
        with pytest.raises(UserError, match=f"unknown {attribute}"):
            render(Scene("circle", "red", "in the middle", "small")._replace(**{attribute: value}))
