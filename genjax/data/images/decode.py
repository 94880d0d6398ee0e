"""Image files to arrays: whatever Pillow decodes by itself becomes grey or RGB uint8 of one
size.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from genjax.errors import UserError

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
ORIENTATION = 0x0112  # the EXIF tag; 5 .. 8 turn the picture by a quarter
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# of the largest image that is read, as in Pillow: a tiny file may declare any number
PIXELS = 178_956_970
# Pillow knows these without decoding them (BUFR, GRIB, HDF5, MPEG), draws them by another program
# (EPS by Ghostscript, WMF by Windows), finds another file in them (IPTC) or reads numbers of 32
# bits alone (SPIDER).
NOT_DECODED = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "EPS", "WMF", "IPTC", "SPIDER"})
# that a build of Pillow may lack
DECODERS = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "WEBP": "webp"}
# their first picture is the whole one; the others are views or layers of it
PAGES = frozenset({"MPO", "PSD"})
ROWS, BITS_PER_SAMPLE = 257, 258  # TIFF tags
# formats whose readers may warn of a size that the file hides
WARNING = frozenset({"GIF", "ICNS", "ICO"})
LARGE = threading.Lock()
# what Pillow's readers raise on a file of another format, and on EXIF data that are damaged
OTHER_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)
NO_EXIF = (*OTHER_FORMAT, ValueError, KeyError, OSError, ZeroDivisionError)
# of a JPEG's segment, not of a byte 255 or a restart in a scan
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


class Header(NamedTuple):
    """What a first look tells of an image file.

    Attributes:
      size: (H, W) as ``decode`` gives it.
      colour: whether it is in colour.
      animated: whether it has more frames or pages than the first, which is read.
    """

    size: tuple[int, int]
    colour: bool
    animated: bool


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that this Pillow decodes by itself, the usual ones first."""
    Image.init()
    built = set(features.get_supported())
    found = (
        name
        for name in Image.OPEN
        if name not in NOT_DECODED and DECODERS.get(name, "pil") in built
    )
    usual = {name: place for place, name in enumerate(("PNG", "JPEG"))}
    return tuple(sorted(found, key=lambda name: (usual.get(name, 2), Image.OPEN[name][1] is None)))


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes, in small letters, of the files that ``decode`` may read."""
    known = {*formats(), "MPO"}  # several JPEGs in one file
    return frozenset(
        suffix for suffix, name in Image.registered_extensions().items() if name in known
    )


def decode(content: bytes, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """The pixels uint8 [H, W, C] of an image file.

    Turned upright as its EXIF tag says, transparency laid on white, 16 bits reduced to 8, the first
    frame of an animation. ``size`` (H, W) resizes with antialiasing to cover it and cuts the middle
    out.

    Raises:
      Exception: of many types, as Pillow's readers do; ValueError for too many pixels and numbers
        of 32 bits.
    """
    image = _opened(content)
    turned = _may_be_turned(image, content)
    if image.mode == "L" and channels == 1 and size is None and not image.info and not turned:
        # the bulk of small grey sets, at half the time
        return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 1)
    _load(image)
    found = _eight_bits(image)
    if turned and (turn := UPRIGHT.get(_orientation(image))) is not None:
        found = found.transpose(turn)
    found = found.convert("L" if channels == 1 else "RGB")
    if size is not None and found.size != (size[1], size[0]):
        found = ImageOps.fit(found, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(found).reshape(found.height, found.width, channels)


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels uint8 [H, W, C] resized with antialiasing to cover ``size`` (H, W), the
    middle cut out.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    resized = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(*size, pixels.shape[-1])


def header(content: bytes) -> Header:
    """Look at an image file; PNG and JPEG without decoding their pixels.

    Raises:
      Exception: of many types, as Pillow's readers do, when the file is not a complete image.
    """
    image = _opened(content)
    with _quietly() if image.format in WARNING else contextlib.nullcontext():
        # as Pillow's manual asks
        animated = image.format not in PAGES and bool(getattr(image, "is_animated", False))
    if image.format == "PNG":
        turned = _may_be_turned(image, content)
        (_opened(content) if turned else image).verify()  # which nothing may come before
    else:
        turned = True
        if image.format not in ("JPEG", "MPO") or not _has_end(content):
            _load(image)
    quarter = turned and _orientation(image) >= 5
    width, height = image.size
    return Header(
        (width, height) if quarter else (height, width), image.mode not in GREY_MODES, animated
    )


def check_size(size: tuple[int, int] | None) -> None:
    """Refuses what is no (height, width)."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"size is {size}; it must be (height, width) in pixels")


def note(text: str) -> None:
    """One line for the user."""
    print(text, file=sys.stderr, flush=True)


def _opened(content: bytes) -> Image.Image:
    """``Image.open`` among ``formats`` alone, with a bound that names the size and without
    warnings.

    Raises:
      UnidentifiedImageError: none of them.
      ValueError: too many pixels, or numbers of 32 bits.
    """
    for name in formats():
        factory, accept = Image.OPEN[name]
        known = accept is None or accept(content[:16])
        if not known or isinstance(known, str):  # a text says that a decoder is missing
            continue
        try:
            with _quietly() if name in WARNING else contextlib.nullcontext():
                image = factory(io.BytesIO(content), "")
        except OTHER_FORMAT:
            continue
        except OSError as error:
            raise _cut(error) from error
        width, height = image.size
        if width * height > PIXELS:
            raise ValueError(
                f"it has {height:,}x{width:,} pixels, more than the {PIXELS:,} that are read"
            )
        # these hold 16 bits at most, which some versions of Pillow call "I"
        sixteen = image.mode == "I" and image.format in ("PNG", "PPM")
        if image.mode in ("I", "F") and not sixteen:
            raise ValueError(f"its pixels are 32-bit numbers (mode {image.mode}), not 8- or 16-bit")
        if image.format == "TIFF" and _uncovered(image):
            raise ValueError("the file is cut off: its strips do not cover its height")
        return image
    raise UnidentifiedImageError("the file is not an image that Pillow decodes")


def _uncovered(image: Image.Image) -> bool:
    """Whether rows of a TIFF are in none of its strips; Pillow makes them black."""
    rows = image.tag_v2[ROWS]  # type: ignore[attr-defined]
    return bool(image.tile) and max(extent[3] for _, extent, *_ in image.tile) < rows  # type: ignore[attr-defined]


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey, RGB or another mode that Pillow converts to them, of a loaded image; nothing in it
    is transparent.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow's own conversion clips
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (16,))[0] if image.format == "TIFF" else 16  # type: ignore[attr-defined]
        values = np.asarray(image)
        grey = (values >> (bits - 8)).astype(np.uint8)
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
        return ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB") or image
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _may_be_turned(image: Image.Image, content: bytes) -> bool:
    """Whether to ask for the orientation; asking a PNG for EXIF data may decode its pixels."""
    return image.format != "PNG" or "exif" in image.info or b"eXIf" in content


def _orientation(image: Image.Image) -> int:
    """The EXIF tag of an image, 1 where it has none that can be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except NO_EXIF:
        return 1


def _has_end(content: bytes) -> bool:
    """Whether the end of a JPEG's picture is there; what follows it, such as the film of a
    motion photo, may.
    """
    at = 2
    while found := MARKER.search(content, at):
        at, marker = found.end(), found[1][0]
        if marker == 0xD9:
            return True
        if marker not in (0x01, 0xD8):  # the rest tell how long they are
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
    return False


def _load(image: Image.Image) -> None:
    """Decode an image, of those of which Pillow warns one at a time."""
    warned = (
        image.width * image.height > (Image.MAX_IMAGE_PIXELS or PIXELS) or image.format in WARNING
    )
    try:
        with _quietly() if warned else contextlib.nullcontext():
            image.load()
    except OSError as error:
        raise _cut(error) from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without Pillow's warning of large images, which this module has a bound for."""
    with LARGE, warnings.catch_warnings():  # not made for several threads
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _cut(error: OSError) -> ValueError:
    """An error of Pillow's readers in plain words, where it is that the file ends too early."""
    return ValueError("the file is cut off" if "truncated" in str(error).lower() else str(error))
