"""Image files of every form that Pillow writes, whole, cut off, turned, animated, or with
absurd sizes.
"""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, features

from genjax.data.codecs import ImageCodec
from genjax.data.images.decode import PIXELS, decode, formats, header, suffixes
from genjax.data.sources import ImageFolder
from genjax.data.text.captions import CaptionCodec
from genjax.data.text.codecs import Characters
from genjax.errors import UserError
from genjax.prepare import reading
from genjax.prepare.readers import Images

pytestmark = pytest.mark.filterwarnings("ignore:IM image format is deprecated")

MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "LA",
    "PA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "I;16B",
    "RGBX",
)
# Where Pillow writes what it cannot decode itself, or only with a program beside it.
NOT_READ = {"BUFR", "EPS", "GRIB", "HDF5", "PALM", "PDF", "SPIDER", "WMF"}
# That give each pixel back; the others are compared with what Pillow makes of the file.
LOSSLESS = {"BMP", "DDS", "DIB", "IM", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF"}
NO_ALPHA = {"BMP", "DIB", "PPM"}  # is left out as Pillow writes or reads them


def picture(mode: str, width: int = 40, height: int = 32) -> Image.Image:
    """A smooth picture with some noise in one of ``MODES``, partly transparent where it can be."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(3).integers(0, 20, (height, width, 4))
    bands = np.stack([5 * columns, 7 * rows, 3 * (rows + columns), 255 - 4 * columns], -1) + noise
    bands = np.clip(bands, 0, 255).astype(np.uint8)
    if mode in ("I;16", "I;16B", "I"):
        values = bands[..., 0].astype(np.uint16) * 257
        return Image.fromarray(values.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]))
    if mode == "F":
        return Image.fromarray(bands[..., 0].astype(np.float32))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(
            Image.fromarray(bands[..., :3]), *profiles, outputMode="LAB"
        )
    if mode == "PA":
        return Image.fromarray(bands[..., :2], "LA").convert("PA")
    return Image.fromarray(bands).convert(mode)


def written(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def by_pillow(content: bytes, mode: str) -> np.ndarray:
    """What Pillow itself makes of a file: upright, on white, in grey or RGB."""
    image = Image.open(io.BytesIO(content))
    image.load()
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.asarray(
            Image.fromarray((np.asarray(image) // 256).astype(np.uint8)).convert(mode)
        )
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(image.convert(mode))


def written_in_all_forms() -> dict[tuple[str, str], bytes]:
    """The file of each format and mode that this Pillow writes."""
    Image.init()
    found = {}
    for form in sorted(Image.SAVE):
        for mode in MODES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of modes that Pillow will not write for ever
                try:
                    found[form, mode] = written(picture(mode), form)
                except (OSError, ValueError, KeyError, TypeError, SystemError):
                    continue
    return found


FORMS = written_in_all_forms()


@pytest.mark.parametrize(("form", "mode"), FORMS, ids=lambda part: part)
def test_each_image_that_pillow_writes_is_read_as_pillow_reads_it_or_refused(form, mode):
    content = FORMS[form, mode]
    if form in NOT_READ:
        with pytest.raises(Exception, match="not an image that Pillow decodes|cannot"):
            header(content)
        return
    opened = Image.open(io.BytesIO(content))
    opened.load()
    if opened.mode == "F" or (opened.mode == "I" and form not in ("PNG", "PPM")):
        for read in (header, lambda content: decode(content, None, 1)):
            with pytest.raises(ValueError, match="32-bit"):
                read(content)
        return
    for channels, wanted in ((1, "L"), (3, "RGB")):
        truth = by_pillow(content, wanted)
        pixels = decode(content, None, channels)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels.reshape(truth.shape), truth)
        assert header(content).size == truth.shape[:2]
    if form in LOSSLESS - (NO_ALPHA if mode == "RGBA" else set()) and mode in (
        "L",
        "RGB",
        "RGBA",
        "I;16",
    ):
        truth = {"I;16": lambda: np.asarray(picture("I;16")) >> 8}.get(
            mode, lambda: _on_white(picture(mode))
        )()
        assert np.array_equal(decode(content, None, 1 if truth.ndim == 2 else 3).squeeze(), truth)
    assert header(content).colour == (opened.mode not in ("1", "L", "LA", "I", "I;16", "I;16B"))
    assert not header(content).animated


def _on_white(image: Image.Image) -> np.ndarray:
    if image.mode != "RGBA":
        return np.asarray(image)
    return np.asarray(
        Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    )


def test_the_usual_forms_are_among_those_that_were_tried():
    tried = {form for form, _ in FORMS}
    assert {
        "PNG",
        "JPEG",
        "TIFF",
        "GIF",
        "BMP",
        "PPM",
        "TGA",
        "ICO",
        "WEBP",
        "JPEG2000",
        "MPO",
    } <= tried
    assert len(FORMS) > 100
    assert {
        ".png",
        ".jpg",
        ".jfif",
        ".webp",
        ".tif",
        ".tiff",
        ".ico",
        ".ppm",
        ".pgm",
        ".tga",
        ".jp2",
        ".mpo",
    } <= suffixes()
    assert (".avif" in suffixes()) == features.check("avif")
    assert not {".eps", ".pdf", ".ps", ".wmf", ".h5", ".mpg", ".heic"} & suffixes()


def test_a_folder_takes_every_suffix_in_any_capitals_and_whatever_the_content(tmp_path, capsys):
    grey = picture("L")
    kinds = {
        "A.PNG": "PNG",
        "b.TiF": "TIFF",
        "c.Ppm": "PPM",
        "d.TGA": "TGA",
        "e.BMP": "BMP",
        "liar.jpg": "PNG",
    }
    for name, form in kinds.items():
        (tmp_path / name).write_bytes(written(grey, form))
    (tmp_path / "page.EPS").write_bytes(written(grey, "EPS"))
    data = ImageFolder(str(tmp_path), test_fraction=0).open()
    images = data.codec.decode(data.splits["train"].batch(np.arange(len(kinds)))["image"])
    assert images.shape[0] == 6 and all(
        np.array_equal(image[..., 0], np.asarray(grey)) for image in images
    )
    assert capsys.readouterr().err == f"{tmp_path}: 1 of 7 files skipped: 1 .eps\n"


def test_a_file_that_another_program_would_have_to_draw_is_no_image_whatever_its_name(tmp_path):
    (tmp_path / "a.png").write_bytes(written(picture("L"), "EPS"))
    with pytest.raises(UserError, match="not an image that Pillow decodes"):
        ImageFolder(str(tmp_path), test_fraction=0).open()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_all_orientations_are_turned_upright(form, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    content = written(picture("RGB"), form, exif=exif)
    truth = by_pillow(content, "RGB")
    assert (
        np.array_equal(decode(content, None, 3), truth) and header(content).size == truth.shape[:2]
    )
    assert truth.shape == ((40, 32, 3) if tag >= 5 else (32, 40, 3))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_an_orientation_after_the_pixels_and_damaged_exif_data():
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = written(picture("L"), "PNG")
    late = plain[:-12] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + plain[-12:]
    assert header(late).size == decode(late, None, 1).shape[:2] == (40, 32)
    assert np.array_equal(decode(late, None, 1)[..., 0], np.rot90(np.asarray(picture("L")), -1))
    damaged = written(picture("RGB"), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff" + bytes(20))
    assert header(damaged).size == (32, 40) and decode(damaged, None, 3).shape == (32, 40, 3)


def test_sixteen_bits_of_which_one_is_transparent():
    image = picture("I;16")
    values = np.asarray(image)
    content = written(image, "PNG", transparency=int(values[3, 4]))
    assert np.array_equal(
        decode(content, None, 1)[..., 0], np.where(values == values[3, 4], 255, values >> 8)
    )


def animation(form: str, frames: int = 3) -> bytes:
    pages = [Image.fromarray(np.full((6, 5), 60 * number, np.uint8)) for number in range(frames)]
    return written(
        pages[1],
        form,
        save_all=True,
        append_images=pages[2:],
        **({"lossless": True} if form == "WEBP" else {}),
    )


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken_and_counted(tmp_path, capsys, form):
    content = animation(form, 4)
    assert header(content).animated and (decode(content, None, 1) == 60).all()
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "b.png").write_bytes(animation(form, 2))
    ImageFolder(str(tmp_path), channels=1).open()
    assert "1 of 2 images are the first frame" in capsys.readouterr().err
    plan, schema = reading.plan_reading([Images(("*.png",), str(tmp_path))])
    reading.read_files(plan, schema, tmp_path / "out")
    assert [change.times for change in reading.changes(tmp_path / "out").values()] == [1]


def test_what_follows_the_end_of_a_jpeg_does_not_count_but_its_end_must_be_there():
    plain = written(picture("RGB"), "JPEG")
    progressive = written(picture("RGB"), "JPEG", progressive=True, restart_marker_rows=1)
    # which has an end of its own
    thumbnail = written(picture("RGB"), "JPEG", exif=b"Exif\0\0" + plain)
    several = written(picture("RGB"), "MPO", save_all=True, append_images=[picture("RGB")])
    for whole in (plain, progressive, thumbnail, several):
        truth = by_pillow(whole, "RGB")
        for tail in (b"", b"\0", b"\0\0\0\x18ftypmp42" + bytes(20_000), plain[:99]):
            assert header(whole + tail).size == (32, 40)
            assert np.array_equal(decode(whole + tail, None, 3), truth)
    assert not header(several).animated
    for content in (plain, progressive, thumbnail):
        for cut in (1, 2, 3, 30, 300, len(content) // 2):
            with pytest.raises(ValueError, match="the file is cut off"):
                header(content[:-cut])


@pytest.mark.parametrize(
    "form", ["BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"]
)
def test_an_image_that_is_cut_in_the_middle_is_refused_at_the_first_look(form):
    content = written(picture("RGB"), form)
    with pytest.raises(Exception, match=r"."):
        header(content[: len(content) // 2])


def rows_of(tiff: bytes) -> int:
    """Where a small TIFF of Pillow's says how many rows it has."""
    return (
        next(
            tiff.index(tag) for kind in (3, 4) if (tag := struct.pack("<HHI", 257, kind, 1)) in tiff
        )
        + 8
    )


def bombs() -> dict[str, bytes]:
    """Small files that declare very much."""
    side = 50_000
    start = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    )
    small = written(picture("L"), "PNG")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000), 9))
    tiff = bytearray(written(picture("L", 30_000, 1), "TIFF"))
    at = rows_of(tiff)
    tiff[at - 6 : at + 4] = struct.pack("<HII", 4, 1, 2**31 - 1)
    return {
        "png": start + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""),
        "bmp": b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIIIII", 40, side, side, 1, 24, *[0] * 6),
        "gif": b"GIF89a"
        + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
        + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
        "ppm": b"P6 50000 50000 255\n" + bytes(99),
        "tiff": bytes(tiff),
        "text": small[:33] + text + small[33:],
    }


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "ppm", "tiff", "text"])
def test_small_files_that_declare_very_much_are_refused_at_once_everywhere(
    tmp_path, kind, recwarn, capsys
):
    content = bombs()[kind]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    begun = time.perf_counter()
    with pytest.raises(UserError) as error:
        ImageFolder(str(tmp_path), test_fraction=0).open()
    codec = CaptionCodec(Characters(), ImageCodec(8, 8, 3))
    with pytest.raises(UserError, match="not a complete image"):
        codec.load_picture(str(path))
    with pytest.raises(ValueError, match="no image: "):
        Images(("*.png",), str(tmp_path)).look(content)
    assert time.perf_counter() - begun < 5
    if kind != "text":
        assert f"{PIXELS:,}" in str(error.value)
    if kind in ("png", "bmp", "ppm"):
        assert "50,000x50,000 pixels" in str(error.value)
    assert "\n" not in str(error.value)
    assert not recwarn.list and "Warning" not in capsys.readouterr().err


def test_many_frames_take_no_longer_than_the_first(tmp_path):
    whole = animation("GIF", 3)
    frame = whole[whole.index(b"!\xf9", 20) : -1]
    content = whole[:-1] + frame * 20_000 + b";"
    begun = time.process_time()
    assert header(content).animated and decode(content, None, 1).shape == (6, 5, 1)
    assert time.process_time() - begun < 1


def test_the_largest_images_that_are_read_give_no_warning(recwarn, monkeypatch):
    side = int(PIXELS**0.5) - 200  # where Pillow warns, and does not refuse
    start = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    )
    content = start + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    assert header(content).size == (side, side)
    small = {form: written(picture("L"), form) for form in ("TIFF", "PNG", "JPEG", "GIF", "ICO")}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # so that those of 1,280 are large
    for content in small.values():
        assert header(content).size == decode(content, None, 1).shape[:2]
    assert not recwarn.list


def test_a_tiff_whose_strips_do_not_cover_its_rows_is_cut_off():
    content = bytearray(written(picture("L"), "TIFF"))
    content[rows_of(content)] = 33
    for read in (header, lambda content: decode(content, None, 1)):
        with pytest.raises(ValueError, match="strips do not cover"):
            read(bytes(content))


def test_twelve_bits_of_a_tiff_are_scaled_to_eight():
    values = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    packed = np.stack(
        [
            values[:, ::2] >> 4,
            (values[:, ::2] & 15) << 4 | values[:, 1::2] >> 8,
            values[:, 1::2] & 255,
        ],
        -1,
    )
    strip = packed.astype(np.uint8).tobytes()
    tags = (
        (256, 8),
        (257, 8),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 8),
        (279, len(strip)),
    )
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    content = (
        b"II*\0"
        + struct.pack("<I", 8 + len(strip))
        + strip
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )
    assert np.array_equal(decode(content, None, 1)[..., 0], values >> 4)


def test_formats_that_are_read_are_those_of_pillow_without_those_it_does_not_decode():
    assert formats()[:2] == ("PNG", "JPEG")
    assert set(Image.OPEN) - set(formats()) <= NOT_READ | {
        "MPEG",
        "IPTC",
        "AVIF",
        "WEBP",
        "JPEG2000",
    }


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG", b"\xff\xd8\xff", bytes(2000), b"GIF89a" + bytes(30), b"P6\n1 1"]
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"1 of 1 images .*a\.png"):
        ImageFolder(str(tmp_path), test_fraction=0).open()
