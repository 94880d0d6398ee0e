from __future__ import annotations

import io

import numpy as np
import pytest
from etils import epath
from PIL import Image

from genjax.data.codecs import ImageCodec, PointsCodec
from genjax.data.pictures import CELL, GAP, grid, png_bytes
from genjax.errors import UserError


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_image_round_trip_is_exact_on_all_levels(levels):
    codec = ImageCodec(1, levels, 1, levels=levels)
    raw = np.arange(levels, dtype=np.uint8).reshape(1, 1, levels, 1)
    encoded = codec.encode(raw)
    assert encoded.dtype == np.float32
    assert (encoded.min(), encoded.max()) == (-1.0, 1.0)
    decoded = codec.decode(encoded)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, np.rint(raw * (255 / (levels - 1))))  # 256 levels: the identity


def test_image_decode_clips_and_survives_nan():
    samples = np.array([-7.0, np.nan, -np.inf, 7.0, np.inf]).reshape(1, 1, 5, 1)
    assert ImageCodec(1, 5, 1).decode(samples).ravel().tolist() == [0, 0, 0, 255, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_image_write_is_the_grid(tmp_path, channels):
    codec = ImageCodec(28, 28, channels)
    raw = np.random.default_rng(0).integers(0, 256, (5, 28, 28, channels), dtype=np.uint8)
    path = codec.write(codec.encode(raw), epath.Path(tmp_path) / "samples" / "step_1.5")
    assert path.name == "step_1.5.png"
    picture = np.asarray(Image.open(path)).reshape(*grid(raw).shape)
    assert np.array_equal(picture, grid(raw))


def test_grid_places_every_pixel():
    images = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3, 1)
    factor = -(-CELL // 3)
    picture = grid(images)
    assert picture.shape == (2 * (2 * factor + GAP) + GAP, 3 * (3 * factor + GAP) + GAP, 1)
    for i, image in enumerate(images):
        top, left = GAP + i // 3 * (2 * factor + GAP), GAP + i % 3 * (3 * factor + GAP)
        cell = picture[top : top + 2 * factor, left : left + 3 * factor]
        assert np.array_equal(cell[::factor, ::factor], image)
        assert np.array_equal(cell[factor - 1 :: factor, factor - 1 :: factor], image)
    assert (picture[:GAP] == 255).all() and (picture[-2 * factor :, -3 * factor :] == 255).all()


def test_grid_columns_and_large_images():
    images = np.zeros((6, 64, 64, 3), np.uint8)
    assert grid(images, columns=6).shape == (64 + 2 * GAP, 6 * (64 + GAP) + GAP, 3)
    assert grid(images, columns=99).shape == grid(images, columns=6).shape
    with pytest.raises(ValueError):
        grid(images[:0])


@pytest.mark.parametrize("channels", [1, 3])
def test_png_bytes_are_lossless(channels):
    image = np.random.default_rng(1).integers(0, 256, (4, 6, channels), dtype=np.uint8)
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(png_bytes(image)))).reshape(image.shape), image
    )


def test_points_round_trip():
    raw = np.random.default_rng(2).normal(3, 5, (100, 2)).astype(np.float32)
    assert np.array_equal(PointsCodec(2).encode(raw), raw)
    codec = PointsCodec(2, (3.0, -1.0), (5.0, 0.5))
    encoded = codec.encode(raw)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded[:, 1], (raw[:, 1] + 1) / 0.5, rtol=1e-6)
    np.testing.assert_allclose(codec.decode(encoded), raw, rtol=1e-5, atol=1e-5)


def test_points_write_plot_and_table(tmp_path):
    codec = PointsCodec(2, (1.0, 2.0), (2.0, 2.0))
    samples = np.array([[0.0, 0.0], [1.0, -1.0]], np.float32)
    path = codec.write(samples, tmp_path / "points")
    assert path == tmp_path / "points.png" and Image.open(path).size[0] > 100
    table = (tmp_path / "points.csv").read_text().splitlines()
    assert table == ["x0,x1", "1,2", "3,0"]
    path = PointsCodec(3).write(np.zeros((2, 3)), tmp_path / "solid")
    assert path == tmp_path / "solid.csv" and not (tmp_path / "solid.png").exists()


def test_bad_codecs_are_refused():
    for make in (
        lambda: ImageCodec(0, 8, 1),
        lambda: ImageCodec(8, 8, 2),
        lambda: ImageCodec(8, 8, 1, levels=1),
        lambda: PointsCodec(2, mean=(1.0,)),
        lambda: PointsCodec(2, scale=(1.0, 0.0)),
    ):
        with pytest.raises(UserError):
            make()
