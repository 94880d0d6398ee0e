"""Pictures with captions in tokens: rows are the captions, to the letter, and pictures are
read as they were drawn.
"""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest

from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Spec
from genjax.data.pictures import png_bytes
from genjax.data.sources import CaptionedShapes, ShapeCaptions
from genjax.data.sources.captioned import (
    ATTRIBUTES,
    Scene,
    attributes,
    is_held_out,
    render,
    write_captions,
)
from genjax.data.text.captions import CaptionCodec, inline
from genjax.data.text.codecs import Bytes, Characters, Words, cut_at_end
from genjax.errors import UserError

SOURCE = ShapeCaptions(300, 200)
SCENE = Scene("cross", "blue", "in the middle", "large")


@pytest.fixture(scope="module")
def data():
    return SOURCE.open()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_row_is_a_picture_and_all_that_its_caption_says(data, split):
    whole = data.splits[split]
    batch, pool = whole.batch(np.arange(len(whole))), CaptionedShapes(300, 200).make_examples(split)
    assert len(whole) == {"train": 300, "test": 200}[split]
    assert list(whole.scenes) == [scene for scene, _ in pool]  # the pictures of CaptionedShapes
    pictures = data.codec.image.decode(batch["image"])
    for row, scene in enumerate(whole.scenes):
        assert np.array_equal(pictures[row], render(scene)) and is_held_out(scene) == (
            split == "test"
        )
        tokens = batch["tokens"][row]
        caption = data.codec.decode(cut_at_end(tokens, data.codec.end))
        assert caption in write_captions(scene)[:3]
        assert attributes(caption) == dict(zip(ATTRIBUTES, scene[:4], strict=True))
        size = len(data.codec.encode(caption)) + 2
        assert tokens[0] == data.codec.start and tokens[size - 1] == data.codec.end
        np.testing.assert_array_equal(
            batch["loss_mask"][row], [0] + [1] * (size - 1) + [0] * (13 - size)
        )
        assert (tokens[size:] == data.codec.pad).all()


def test_the_spec_tells_every_entry_of_a_batch(data):
    spec = data.spec
    assert spec.entry == "tokens" and spec.shape == (13,) and spec.image == (16, 16, 3)
    assert (
        spec.vocabulary == data.codec.vocabulary == 4 + 24
    )  # the words of the sentences that name all
    batch = data.splits["test"].batch(np.arange(2)) | {"mask": np.ones(2, np.float32)}
    assert spec.entries.keys() == batch.keys()
    for name, (shape, kind) in spec.entries.items():
        assert batch[name].shape == (2, *shape) and batch[name].dtype == kind
    assert "image" in spec.entries and "image" not in replace(spec, image=None).entries
    assert Spec("image", (4, 4, 1), np.zeros((4, 4, 1))).entries["image"] == ((4, 4, 1), np.float32)


def test_the_vocabulary_is_that_of_training_and_a_fitted_one_stays():
    codec = ShapeCaptions(300, 200, codec=Words(), forms=(4,)).open().codec
    assert {"picture", ",", "red"} <= set(codec.tokens.words) and "small" not in codec.tokens.words
    known = Words(("large", "red"))
    data = ShapeCaptions(50, 20, codec=known).open()
    assert (
        data.codec.tokens == known
        and data.splits["train"].batch(np.arange(50))["tokens"].max() == 5
    )
    assert ShapeCaptions(50, 20, codec=Bytes(True), length=60).open().spec.token_bytes == (
        1,
    ) * 256 + (0,)


def test_the_fingerprint_changes_with_what_a_batch_holds(data):
    assert SOURCE.open().fingerprint == data.fingerprint
    for change in ({"seed": 1}, {"forms": (0,)}, {"length": 13}, {"codec": Words(lower=False)}):
        assert replace(SOURCE, **change).open().fingerprint != data.fingerprint


def test_a_codec_of_captions_is_that_of_their_text(data, tmp_path):
    codec, text = data.codec, data.codec.tokens
    for name in (
        "vocabulary",
        "start",
        "end",
        "pad",
        "token_bytes",
        "one_spelling",
        "shown",
        "levels",
    ):
        assert getattr(codec, name) == getattr(text, name)
    ids = codec.encode("a large red cross")
    np.testing.assert_array_equal(ids, text.encode("a large red cross"))
    assert codec.write(ids[None], tmp_path / "out").read_text() == "a large red cross\n"


def test_a_picture_is_read_from_its_file_or_from_what_is_written_out(data, tmp_path):
    content = png_bytes(render(SCENE))
    (tmp_path / "cross.png").write_bytes(content)
    wanted = data.codec.image.encode(render(SCENE))
    for image in (str(tmp_path / "cross.png"), inline(content)):
        found = data.codec.load_picture(image)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted)
    grey = CaptionCodec(Bytes(True), ImageCodec(16, 16, 1))
    assert grey.load_picture(inline(content)).shape == (16, 16, 1)


def test_bad_pictures_are_refused(data, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "wide.png").write_bytes(png_bytes(render(SCENE, 18)))
    for image, words in (
        (str(tmp_path / "none.png"), "none.png cannot be read"),
        (str(tmp_path / "text.png"), "text.png is not a complete image"),
        (
            str(tmp_path / "wide.png"),
            "must have 16x16 pixels, got 18x18: resize it",
        ),
        (inline(b"no picture"), "inline picture is not a complete image"),
        (inline(b"") + "?", "inline picture cannot be read"),
        (
            "data:image/png;base64," + base64.b64encode(png_bytes(render(SCENE, 12))).decode(),
            "got 12x12",
        ),
    ):
        with pytest.raises(UserError, match=words):
            data.codec.load_picture(image)


def test_bad_fields_are_refused():
    for fields, words in (
        ({"size": 0}, "size"),
        ({"side": 8}, "side must be from 12 to 1024"),
        ({"forms": ()}, "some of 0 to 4"),
        ({"forms": (0, 5)}, "some of 0 to 4"),
    ):
        with pytest.raises(UserError, match=words):
            ShapeCaptions(**fields)
    with pytest.raises(UserError, match="length must be >= 11 for the longest caption, got 10"):
        ShapeCaptions(200, 20, length=10).open()
    with pytest.raises(UserError, match="start and end tokens"):
        ShapeCaptions(20, 20, codec=Characters(), length=60).open()
