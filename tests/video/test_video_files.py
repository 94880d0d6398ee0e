"""Clips as people bring and open them: GIF, MP4, sheets of frames, and files that are refused."""

import sys

import numpy as np
import pytest
from PIL import Image

from genjax import gx
from genjax.data.video.codec import VideoCodec, lay_rows
from genjax.data.video.files import gif_bytes, mp4_bytes, read_frames, resize_frame
from genjax.errors import UserError

EXTRA = "it is of an extra: pip install '.[video]'"


def ramp(count, side=8):
    """Frames uint8 [T, side, side, 1] that get brighter."""
    values = np.linspace(40, 220, count).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, side, side, 1)).copy()


def test_a_codec_lays_frames_into_channels_and_back():
    codec = VideoCodec(2, 3, 3)
    raw = np.random.default_rng(0).integers(0, 256, (5, 4, 2, 3, 3)).astype(np.uint8)
    x = codec.encode(raw)
    assert x.shape == (5, 2, 3, 12) and x.dtype == np.float32 and abs(x).max() <= 1
    np.testing.assert_array_equal(np.rint((x[1, ..., 6:9] + 1) * 127.5), raw[1, 2])
    np.testing.assert_array_equal(codec.cut_frames(x), raw)
    picture = codec.decode(x)  # 2 x 2 frames
    assert picture.shape == (5, 4, 6, 3)
    np.testing.assert_array_equal(picture[2, 2:, :3], raw[2, 2])
    assert codec.cut_frames(np.full((1, 2, 3, 3), np.nan)).max() == 0
    five = VideoCodec(2, 2).decode(np.ones((1, 2, 2, 5)))  # 2 rows of 3, the last one black
    assert five.shape == (1, 4, 6, 1) and five.sum() == 5 * 4 * 255


def test_samples_are_written_as_gif_sheet_and_mp4(tmp_path, capsys, monkeypatch):
    codec = VideoCodec(8, 8, rate=20.0)
    x = codec.encode(np.stack([ramp(5), ramp(5)[::-1]]))
    path = codec.write(x, tmp_path / "samples")
    assert path.suffix == ".gif"
    with Image.open(path) as gif:
        assert gif.n_frames == 5 and gif.info["duration"] == 50 and gif.info["loop"] == 0
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == Image.fromarray(lay_rows(codec.cut_frames(x))[..., 0]).size
    assert not capsys.readouterr().err or not (tmp_path / "samples.mp4").exists()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    codec.write(x, tmp_path / "other")
    assert "genjax-train[video]" in capsys.readouterr().err
    assert (tmp_path / "other.gif").exists() and not (tmp_path / "other.mp4").exists()


def test_a_gif_comes_back_frame_by_frame(tmp_path):
    (tmp_path / "a.gif").write_bytes(gif_bytes(list(ramp(6)), 10))
    found = np.stack(list(read_frames(tmp_path / "a.gif")))
    np.testing.assert_array_equal(found, np.broadcast_to(ramp(6), (6, 8, 8, 3)))


def test_an_mp4_comes_back_nearly(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason=EXTRA)
    pytest.importorskip("imageio", reason=EXTRA)
    frames = ramp(6, side=17)  # an odd side
    (tmp_path / "a.mp4").write_bytes(mp4_bytes(list(frames), 10))
    found = np.stack(list(read_frames(tmp_path / "a.mp4")))
    assert found.shape == (6, 18, 18, 3)
    assert abs(found[:, 2:14, 2:14].astype(int) - frames[:, 2:14, 2:14]).max() < 12
    (tmp_path / "b.mp4").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match="read"):
        list(read_frames(tmp_path / "b.mp4"))


def test_frames_are_resized_and_cut_in_the_middle():
    frame = np.zeros((4, 8, 3), np.uint8)
    frame[:, 2:6] = 200
    assert (resize_frame(frame, (2, 2), 3) == 200).all()
    assert resize_frame(frame, (2, 4), 1).shape == (2, 4, 1)
    np.testing.assert_array_equal(resize_frame(frame, (2, 4), 1)[0, :, 0], [0, 200, 200, 0])


def write_gifs(folder, **lengths):
    for name, count in lengths.items():
        (folder / f"{name}.gif").write_bytes(gif_bytes(list(ramp(count)), 10))


def test_a_folder_is_cut_into_clips(tmp_path):
    write_gifs(tmp_path, a=9, b=8, c=13)
    data = gx.VideoFolder(str(tmp_path), (4, 4), frames=4, test_fraction=0.3).open()
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sum(sizes.values()) == 2 + 2 + 3 and min(sizes.values()) >= 2
    batch = data.splits["train"].batch(np.arange(2))["image"]
    assert batch.shape == (2, 4, 4, 4) and data.spec.levels == 256
    half = gx.VideoFolder(str(tmp_path), (4, 4), frames=3, every=3, test_fraction=0.3).open()
    first = half.codec.cut_frames(half.splits["train"].batch(np.arange(1))["image"])
    assert int(first[0, 1, 0, 0, 0]) - int(first[0, 0, 0, 0, 0]) > 3 * 10


def test_of_a_single_video_the_last_clips_are_held_out(tmp_path):
    write_gifs(tmp_path, only=40)
    data = gx.VideoFolder(str(tmp_path), (4, 4), frames=4, test_fraction=0.2).open()
    assert len(data.splits["train"]) == 8 and len(data.splits["test"]) == 2
    train, test = (data.splits[n].batch(np.arange(2))["image"] for n in ("train", "test"))
    assert train.max() < test.min()


@pytest.mark.parametrize("count", [1, 3])
def test_a_video_too_short_for_a_clip_is_refused_by_name(tmp_path, count):
    write_gifs(tmp_path, fine=8, short=count)
    with pytest.raises(UserError, match=rf"short\.gif.*got {count}.*data\.frames") as caught:
        gx.VideoFolder(str(tmp_path), (4, 4), frames=4).open()
    assert caught.value.field == str(tmp_path)


def test_other_bad_folders_are_refused(tmp_path):
    with pytest.raises(UserError):
        gx.VideoFolder(str(tmp_path / "missing")).open()
    (tmp_path / "broken.gif").write_bytes(b"GIF89a and no more")
    with pytest.raises(UserError, match="broken"):
        gx.VideoFolder(str(tmp_path), (4, 4), frames=2).open()
    (tmp_path / "broken.gif").unlink()
    write_gifs(tmp_path, only=4)
    with pytest.raises(UserError) as caught:
        gx.VideoFolder(str(tmp_path), (4, 4), frames=4).open()
    assert caught.value.field == "test_fraction"
    with pytest.raises(UserError) as caught:
        gx.VideoFolder(str(tmp_path), frames=1)
    assert caught.value.field == "frames"


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"video")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"genjax-train\[video\]") as caught:
        gx.VideoFolder(str(tmp_path), frames=2).open()
    assert caught.value.field == "video"
