"""The share of attributes that captions name, of captions that are known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.dataset import Spec
from genjax.data.sources import Digits, ShapeCaptions
from genjax.data.sources.captioned import ATTRIBUTES, SHAPES, Scene, write_captions
from genjax.errors import UserError
from genjax.evaluation.captions import accuracy as caption_accuracy
from genjax.evaluation.captions.accuracy import (
    CaptionAccuracy,
    compare_attributes,
    draw_captioned,
    get_scenes,
)
from genjax.evaluation.judge import Model, Part, Subject
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.captioner import CaptionDecoding, Captioner
from genjax.family import State
from genjax.parallel import Devices

FAMILY = Captioner(sampler=CaptionDecoding(image="a.png"))
SCENE = Scene("circle", "red", "at the top left", "small")
T = 12


@pytest.fixture(scope="module")
def data():
    return ShapeCaptions(200, 60, forms=(0, 3)).open()


def judged(data, monkeypatch, written, limit, layout, chunk):
    """What is found of a model that writes ``written(images)`` [B, T]; another ``chunk`` is
    another family.
    """
    monkeypatch.setattr(
        caption_accuracy,
        "caption_images",
        lambda family, state, images, start, end: written(images),
    )
    family = replace(FAMILY, chunk=chunk)
    state = State(jnp.zeros((), jnp.int32), {}, None, {}, None, jax.random.key(0))
    model = Model(family, state, data.spec, data.codec, "step 0")
    return CaptionAccuracy(limit, shown=5)(
        Subject(model, data.splits, "test", jax.random.key(1), layout, 16)
    )


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


@pytest.mark.parametrize(
    ("form", "limit", "chunk"),
    [(0, None, 2), (0, 7, 3), (3, None, 4), (None, None, 5)],
    ids=["all", "some", "no size", "no sentence"],
)
def test_one_caption_for_all_pictures_is_right_as_often_as_it_fits(
    data, monkeypatch, layout, form, limit, chunk
):
    caption = "a red circle circle" if form is None else write_captions(SCENE)[form]
    row = np.full(T, data.codec.end, np.int32)
    ids = data.codec.encode(caption)
    row[: len(ids)] = ids
    found = judged(
        data, monkeypatch, lambda images: jnp.tile(row, (len(images), 1)), limit, layout, chunk
    )
    scenes = list(data.splits["test"].scenes)
    if limit is not None:
        scenes = [scenes[i * len(scenes) // limit] for i in range(limit)]
    named = {0: ATTRIBUTES, 3: ATTRIBUTES[:3], None: ()}[form]
    right = np.array(
        [
            [name in named and scene[i] == SCENE[i] for i, name in enumerate(ATTRIBUTES)]
            for scene in scenes
        ]
    )
    for i, name in enumerate(ATTRIBUTES):
        np.testing.assert_allclose(found.numbers[f"{name}_right"], right[:, i].mean())
    np.testing.assert_allclose(found.numbers["attributes_right"], right.mean())
    np.testing.assert_allclose(found.numbers["captions_right"], right.all(1).mean())
    assert (right.mean() > 0) == (form is not None)
    assert f"greedy captions of {len(scenes)} pictures of test, at most 12 tokens" in found.protocol
    assert found.pictures["captions"].shape[2] == 3


def test_captions_that_follow_their_pictures_belong_to_them(data, monkeypatch, layout):
    """Written by brightness: a large white shape is told from the others wherever it stands in
    the split.
    """
    light = write_captions(SCENE._replace(colour="white", size="large"))[0]
    rows = np.full((2, T), data.codec.end, np.int32)
    for row, caption in zip(rows, (write_captions(SCENE)[0], light), strict=True):
        row[: len(data.codec.encode(caption))] = data.codec.encode(caption)

    def written(images):
        white = (images.min(-1) > 0.8).any((1, 2))
        return jnp.asarray(rows)[white.astype(jnp.int32)]

    found = judged(data, monkeypatch, written, None, layout, 40)
    scenes = data.splits["test"].scenes
    colour = np.mean([scene.colour in ("white", "red") for scene in scenes])
    size = np.mean(
        [scene.size == ("large" if scene.colour == "white" else "small") for scene in scenes]
    )
    np.testing.assert_allclose(found.numbers["colour_right"], colour)
    np.testing.assert_allclose(found.numbers["size_right"], size)
    np.testing.assert_allclose(
        found.numbers["shape_right"], np.mean([s.shape == SHAPES[0] for s in scenes])
    )


def test_what_a_caption_names_is_compared_to_the_letter():
    assert compare_attributes(write_captions(SCENE)[2], SCENE) == [True] * 4
    assert compare_attributes(
        write_captions(SCENE)[2], SCENE._replace(size="large", shape="cross")
    ) == [
        False,
        True,
        True,
        False,
    ]
    assert compare_attributes(write_captions(SCENE)[4], SCENE) == [True, True, True, False]
    assert compare_attributes("a small red circle at the top", SCENE) == [False] * 4


def test_the_picture_shows_wrong_captions_in_red():
    images = np.zeros((2, 16, 16, 3), np.uint8)
    red = [
        (
            np.abs(
                draw_captioned(images, ["a cross"] * 2, np.array(right)).astype(int) - (214, 39, 40)
            ).sum(-1)
            < 30
        ).sum()
        for right in ([True, True], [True, False], [False, False])
    ]
    assert 0 == red[0] < red[1] < red[2]


def test_what_cannot_be_judged_is_refused(data):
    spec = data.spec
    CaptionAccuracy().check(FAMILY, spec, {})
    with pytest.raises(UserError, match="CaptionAccuracy needs a Captioner, got a Autoregressive"):
        CaptionAccuracy().check(Autoregressive(), spec, {})
    with pytest.raises(UserError, match="these data have no images"):
        CaptionAccuracy().check(
            FAMILY, Spec("tokens", (5,), np.zeros(5, np.float32), vocabulary=9), {}
        )
    for fields in ({"limit": 0}, {"shown": 0}):
        with pytest.raises(UserError, match=f"^{next(iter(fields))} must be"):
            CaptionAccuracy(**fields)
    with pytest.raises(UserError, match="which know what their pictures show"):
        get_scenes(Part(Digits().open().splits["test"], np.arange(3)))
