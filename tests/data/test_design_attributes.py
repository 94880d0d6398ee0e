"""Attributes: what functions measure of pictures that are drawn to have it, and requests in words
or conditions.
"""

from types import FunctionType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.design.attributed import Attributed
from genjax.data.design.attributes import Attribute, Attributes, HideAttributes
from genjax.data.design.measures import (
    bright_symmetrical_sleeveless,
    brightness,
    narrowness,
    sleeves,
    symmetry,
)
from genjax.data.sources import CaptionedShapes, Digits
from genjax.data.sources.captioned import ATTRIBUTES, attributes
from genjax.errors import UserError

LIGHT = Attribute("light", ("dark", "medium", "bright"), brightness, (0.4, 0.8))
KIND = Attribute("kind", ("t-shirt", "shirt", "ankle boot"))
ARMS = Attribute("arms", ("sleeveless", "sleeved"), sleeves, (0.5,), (0, 1))
WANTED = Attributes((KIND, LIGHT, ARMS))


def garment(arms: int) -> np.ndarray:
    """A grey torso of 12 by 22 pixels with sleeves of 5 pixels that reach so many rows down."""
    image = np.full((28, 28, 1), -1.0, np.float32)
    image[3:25, 8:20] = 0.2
    image[4 : 4 + arms, 3:8] = image[4 : 4 + arms, 20:25] = 0.2
    return image


def test_sleeves_are_told_by_how_far_down_they_reach():
    np.testing.assert_array_equal(
        sleeves(np.stack([garment(arms) for arms in (0, 6, 20)]), None), [0, 1, 2]
    )


def test_measures_have_their_closed_forms():
    half = np.full((1, 4, 4, 1), -1.0, np.float32)
    half[:, :, :2] = 0.0  # grey 0.5 on the left alone
    np.testing.assert_allclose(brightness(half, None), 0.5, rtol=1e-5)
    np.testing.assert_allclose(symmetry(half, None), 0.0, atol=1e-5)
    mirrored = np.maximum(half, half[:, :, ::-1])
    np.testing.assert_allclose(symmetry(mirrored, None), 1.0, rtol=1e-5)
    white = np.ones((1, 28, 28, 3), np.float32)
    np.testing.assert_allclose(narrowness(white, None), 16 / 28, rtol=1e-5)
    np.testing.assert_allclose(
        bright_symmetrical_sleeveless(white, None), (1 + 1 + 16 / 28) / 3, rtol=1e-5
    )


def test_the_brief_is_the_same_with_jax_and_has_a_gradient():
    images = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(
        bright_symmetrical_sleeveless(jnp.asarray(images), None),
        bright_symmetrical_sleeveless(images, None),
        rtol=1e-5,
    )
    slope = jax.grad(lambda x: bright_symmetrical_sleeveless(x, None).sum())(jnp.asarray(images))
    assert np.isfinite(slope).all() and (np.abs(slope).sum((1, 2, 3)) > 0).all()


def test_values_lie_between_the_edges_and_only_some_labels_have_an_attribute():
    images = np.stack([garment(0), garment(20), garment(20)])
    images[1][images[1] > 0] = 0.9
    np.testing.assert_array_equal(
        WANTED.measure(images, np.array([1, 0, 2])), [[1, 1, 0], [0, 2, 1], [2, 1, -1]]
    )


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("a bright T-shirt", {"kind": "t-shirt", "light": "bright"}),
        ("the shirt is sleeveless.", {"kind": "shirt", "arms": "sleeveless"}),
        ("sleeveless, dark, ankle boot", {"kind": "ankle boot", "light": "dark"}),
        ("kind='ankle boot' and light=dark", {"kind": "ankle boot", "light": "dark"}),
        ("light in ('dark')", {"light": "dark"}),
    ],
)
def test_requests_are_read(text, asked):
    found = WANTED.parse(text)
    assert found.items() >= asked.items()
    vector = WANTED.embed(text)
    assert vector.shape == (WANTED.width,) == (8,) and vector.sum() == len(found)
    again = WANTED.describe(WANTED.number(found))
    np.testing.assert_array_equal(WANTED.embed(again), vector)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a picture", "a bright sofa", "dark and bright", "light='pale'", "colour='red'"),
        *("light in ('dark', 'bright')", "light != 'dark'", "light='dark' and light='bright'"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(text):
    with pytest.raises(UserError) as error:
        WANTED.embed(text)
    assert error.value.field in ("prompt", "value") and "\n" not in str(error.value)


def test_every_caption_of_shapes_is_a_request():
    """The embedding reads what the captions were written of."""
    values = {"shape": ("circle", "square", "triangle", "cross")}
    values["colour"] = ("red", "green", "blue", "yellow", "purple", "white")
    sides = [
        f"at the {down} {across}" for down in ("top", "bottom") for across in ("left", "right")
    ]
    values["place"], values["size"] = (*sides, "in the middle"), ("small", "large")
    text = Attributes(tuple(Attribute(name, values[name]) for name in ATTRIBUTES))
    for _, caption in CaptionedShapes(200, 50).make_examples("train"):
        assert text.parse(caption) == attributes(caption)


def test_a_batch_has_the_attributes_of_its_images():
    light = Attributes((LIGHT,))
    data, plain = Attributed(Digits(), light).open(), Digits().open()
    assert data.spec.condition == 3 and data.fingerprint != plain.fingerprint
    batch = data.splits["test"].batch(np.arange(9))
    rows = plain.splits["test"].batch(np.arange(9))
    np.testing.assert_array_equal(batch["image"], rows["image"])
    np.testing.assert_array_equal(batch["condition"].sum(1), 1)
    np.testing.assert_array_equal(
        batch["condition"].argmax(1), np.digitize(brightness(rows["image"], None), (0.4, 0.8))
    )


def test_attributed_data_are_the_same_in_another_process():
    """There, a function that measures has another address."""
    again = FunctionType(brightness.__code__, brightness.__globals__, "brightness")
    makes = ((brightness, (0.4, 0.8)), (again, (0.4, 0.8)), (again, (0.4, 0.7)))
    lights = (Attribute("light", LIGHT.values, measure, edges) for measure, edges in makes)
    of = (Attributed(Digits(), Attributes((light,))) for light in lights)
    first, same, other = (data.open().fingerprint for data in of)
    assert first == same != other


def test_hidden_attributes_are_hidden_whole_and_as_often_as_asked():
    numbers = np.tile(np.array([[1, 2, 0]], np.int32), (4000, 1))
    batch = {"condition": jnp.asarray(WANTED.encode(numbers))}
    found = HideAttributes(WANTED, 0.25)(jax.random.key(0), batch)["condition"]
    kept = np.stack([np.asarray(found[:, part]).sum(1) for part in np.split(np.arange(8), [3, 6])])
    assert set(np.unique(kept)) == {0.0, 1.0}
    np.testing.assert_allclose(kept.mean(1), 0.75, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(kept)[0, 1], 0, atol=0.06)


def test_what_cannot_be_attributes_is_refused():
    wrong = [
        (lambda: Attribute("x", ("a",)), "values"),
        (lambda: Attribute("x", ("a", "a")), "values"),
        (lambda: Attribute("x", ("a", "b"), brightness), "edges"),
        (lambda: Attribute("x", ("a", "b", "c"), brightness, (0.5, 0.2)), "edges"),
        (lambda: Attribute("x", ("a", "b"), None, (0.5,)), "edges"),
        (lambda: Attributes((KIND, KIND)), "attributes"),
        (lambda: Attributes((LIGHT, Attribute("x", ("dark", "b")))), "attributes"),
        (lambda: Attributed(Digits(), Attributes((KIND,))).open(), "attributes"),
        (lambda: Attributed(CaptionedShapes(20, 9), Attributes((LIGHT,))).open(), "data"),
        (lambda: HideAttributes(WANTED)(jax.random.key(0), {}), "augment"),
    ]
    for make, field in wrong:
        with pytest.raises(UserError) as error:
            make()
        assert error.value.field == field
