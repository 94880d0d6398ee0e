"""Perceptual hashes: copies of an image are near, others are far, and near pairs are all found."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from genjax.errors import UserError
from genjax.prepare.matching.components import components
from genjax.prepare.matching.image_hash import METHODS, ImageHash


def scene(seed):
    """A smooth picture of 120x90 with patches of light and dark."""
    colours = np.random.default_rng(seed).integers(30, 200, (7, 9, 3), np.uint8)
    return Image.fromarray(colours).resize((120, 90), Image.Resampling.BICUBIC)


def jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


COPIES = {
    "smaller": lambda image: image.resize((64, 48)),
    "larger": lambda image: image.resize((300, 200)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "JPEG": jpeg,
    "transparent": lambda image: image.convert("RGBA"),
}


@pytest.mark.parametrize("method", METHODS)
def test_copies_are_near_and_others_far(method):
    hasher = ImageHash(method)
    originals = hasher.hash_images(scene(seed) for seed in range(40))
    assert originals.dtype == np.uint64
    for name, copy in COPIES.items():
        copies = hasher.hash_images(copy(scene(seed)) for seed in range(40))
        apart = np.bitwise_count(originals ^ copies)
        assert apart.max() <= 10 and apart.mean() < 4, name
    others = np.bitwise_count(originals[:, None] ^ originals)[np.triu_indices(40, 1)]
    assert others.min() > 10 and abs(others.mean() - 32) < 2


def test_bits_tell_where_it_becomes_brighter():
    rising = Image.linear_gradient("L").rotate(90)
    assert ImageHash("dhash").hash(rising) == 2**64 - 1
    assert ImageHash("dhash").hash(rising.rotate(180)) == 0
    stripes = np.zeros((8, 9), np.uint8)
    stripes[3, 4] = 255  # brighter than its left neighbour, and its right one is darker
    assert ImageHash("dhash").hash(Image.fromarray(stripes)) == 1 << (63 - (3 * 8 + 3))


def test_frequencies_are_told_by_their_cosines():
    places = np.arange(32)
    wave = np.outer(
        np.cos(np.pi * 2 * (places + 0.5) / 32), np.cos(np.pi * 5 * (places + 0.5) / 32)
    )
    image = Image.fromarray((wave * 100).astype(np.float32))
    assert ImageHash("phash").hash(image) >> (63 - (2 * 8 + 5)) & 1
    assert (
        not ImageHash("phash").hash(Image.fromarray((-wave * 100).astype(np.float32)))
        >> (63 - (2 * 8 + 5))
        & 1
    )


@pytest.mark.parametrize("distance", [0, 1, 4, 9])
def test_all_hashes_within_the_distance_are_one(distance):
    rng = np.random.default_rng(distance)
    hashes = rng.integers(0, 2**64, 300, np.uint64)
    for i in range(100, 300):  # a few bits from an earlier one
        flips = rng.choice(64, rng.integers(0, 2 * distance + 2), replace=False).astype(np.uint64)
        hashes[i] = hashes[rng.integers(0, i)] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips, initial=np.uint64(0)
        )
    left, right = np.triu_indices(300, 1)
    near = np.bitwise_count(hashes[left] ^ hashes[right]) <= distance
    expected = components(left[near], right[near], 300)
    np.testing.assert_array_equal(ImageHash(distance=distance).cluster(hashes), expected)


def test_images_without_a_shape_are_alike():
    for method in METHODS:
        flat = [Image.new(mode, (20, 10), 77) for mode in ("L", "P")] + [
            Image.new("RGB", (3, 90), "white")
        ]
        assert ImageHash(method).cluster(ImageHash(method).hash_images(flat)).tolist() == [0, 0, 0]


def test_one_image_and_none():
    hasher = ImageHash()
    assert hasher.cluster(hasher.hash_images([])).tolist() == []
    assert hasher.cluster(hasher.hash_images([scene(0)])).tolist() == [0]


def test_wrong_fields_are_refused():
    with pytest.raises(UserError, match="did you mean 'phash'"):
        ImageHash("phas")
    for distance in (-1, 32):
        with pytest.raises(UserError, match="distance must be from 0 to 31"):
            ImageHash(distance=distance)
