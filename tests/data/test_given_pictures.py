"""Pictures that a person gives: parts to fill in, and sketches."""

import numpy as np
import pytest
from PIL import Image

from genjax.data.codecs import ImageCodec, PointsCodec
from genjax.data.design.sketches import Sketched, find_edges, read_sketch
from genjax.data.images.given import read_picture_gaps
from genjax.data.sources import CaptionedShapes, Points
from genjax.errors import UserError

CODEC = ImageCodec(6, 8, 3)


def save(folder, name, pixels, mode=None):
    path = folder / name
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(path)
    return str(path)


def test_edges_are_where_neighbours_differ():
    image = np.full((1, 6, 6, 1), -1.0, np.float32)
    image[:, :, 3:] = 1.0
    edges = find_edges(image)[0, ..., 0]
    np.testing.assert_array_equal(edges, np.tile([0, 0, 1, 1, 0, 0], (6, 1)))
    np.testing.assert_array_equal(find_edges(np.repeat(image, 3, -1))[0, ..., 0], edges)
    assert not find_edges(np.full_like(image, 0.3)).any()
    faint = image * 0.1
    assert not find_edges(faint).any() and find_edges(faint, 0.05).any()


def test_images_of_a_batch_do_not_mix():
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (3, 5, 7, 3)).astype(np.float32)
    one = np.concatenate([find_edges(image[None]) for image in images])
    np.testing.assert_array_equal(find_edges(images), one)


def test_a_source_has_sketches_and_keeps_its_scenes():
    data = Sketched(CaptionedShapes(20, 9)).open()
    split = data.splits["test"]
    batch = split.batch(np.arange(9))
    assert data.spec.sketch == batch["sketch"].shape[1:] == (16, 16, 1)
    assert data.spec.entries["sketch"][0] == (16, 16, 1) and len(split.scenes) == 9
    np.testing.assert_array_equal(batch["sketch"], find_edges(batch["image"]))
    with pytest.raises(UserError) as error:
        Sketched(Points(size=9, test_size=9)).open()
    assert error.value.field == "data"


def test_a_sketch_is_read_dark_on_light_or_light_on_dark(tmp_path):
    lines = np.zeros((6, 8), bool)
    lines[2], lines[:, 3] = True, True
    for name, pixels in (("a.png", lines * 255), ("b.png", ~lines * 255)):
        found = read_sketch(save(tmp_path, name, pixels), CODEC)
        np.testing.assert_array_equal(found[..., 0], lines)


@pytest.mark.parametrize(
    ("pixels", "says"), [(np.eye(9) * 255, "6x8"), (np.zeros((6, 8)), "no lines")]
)
def test_a_sketch_of_another_size_or_without_lines_is_refused(tmp_path, pixels, says):
    with pytest.raises(UserError, match=says) as error:
        read_sketch(save(tmp_path, "a.png", pixels), CODEC)
    assert error.value.field == "sampler.sketch"


def test_a_sketch_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    for path, codec in ((tmp_path / "a.png", CODEC), (tmp_path, CODEC), (tmp_path / "b", CODEC)):
        with pytest.raises(UserError) as error:
            read_sketch(str(path), codec)
        assert error.value.field == "sampler.sketch"
    with pytest.raises(UserError, match="images"):
        read_sketch(str(tmp_path / "a.png"), PointsCodec(2))


def test_the_transparent_part_or_the_white_of_a_mask_is_filled_in(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4))
    missing = np.zeros((6, 8), bool)
    missing[1:3, 2:5] = True
    pixels[..., 3] = np.where(missing, 0, 255)
    picture = save(tmp_path, "a.png", pixels)
    mask = save(tmp_path, "m.png", missing * 255)
    solid = save(tmp_path, "s.png", pixels[..., :3])
    for path, given in ((picture, None), (solid, mask)):
        gaps = read_picture_gaps(path, given, 3, CODEC)
        assert gaps.image.shape == (3, 6, 8, 3) and gaps.mask.shape == (3, 6, 8, 1)
        np.testing.assert_array_equal(gaps.mask[2, ..., 0], ~missing)
        kept = CODEC.decode(gaps.image)[1][~missing]
        np.testing.assert_array_equal(kept, pixels[~missing][:, :3])
    out = gaps.write(gaps.image, CODEC, tmp_path / "filled")
    assert out.name == "filled.png" and Image.open(out).size[0] > 8


def test_a_picture_without_a_gap_or_of_another_size_is_refused(tmp_path):
    solid = save(tmp_path, "s.png", np.full((6, 8, 3), 9))
    wide = save(tmp_path, "w.png", np.full((6, 9, 3), 9))
    white = save(tmp_path, "m.png", np.full((6, 8), 255))
    for picture, mask, field in (
        (solid, None, "sampler.fill"),
        (wide, white, "sampler.fill"),
        (solid, wide, "sampler.mask"),
        (solid, white, "sampler.mask"),
        (str(tmp_path / "none.png"), None, "sampler.fill"),
    ):
        with pytest.raises(UserError) as error:
            read_picture_gaps(picture, mask, 2, CODEC)
        assert error.value.field == field
