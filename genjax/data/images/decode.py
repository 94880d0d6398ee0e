"""Decode image files: whatever Pillow decodes on its own becomes grey or RGB uint8 of one size."""

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
# Pixels of the largest image that is read, as in Pillow: a tiny file may declare any number.
PIXELS = 178_956_970
# Pillow recognises these without decoding them (BUFR, GRIB, HDF5, MPEG), needs another program
# (Ghostscript for EPS, Windows for WMF), finds another file in them (IPTC) or reads only 32-bit
# numbers (SPIDER).
NOT_DECODED = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "EPS", "WMF", "IPTC", "SPIDER"})
# Decoders that a build of Pillow may lack.
DECODERS = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "WEBP": "webp"}
# Formats whose first frame is the whole picture; the others are views or layers of it.
PAGES = frozenset({"MPO", "PSD"})
ROWS, BITS_PER_SAMPLE = 257, 258  # TIFF tags
# Formats whose readers may warn of a size that the file hides.
WARNING = frozenset({"GIF", "ICNS", "ICO"})
LARGE = threading.Lock()
# Errors of Pillow's readers on a file of another format, and on damaged EXIF data.
OTHER_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)
NO_EXIF = (*OTHER_FORMAT, ValueError, KeyError, OSError, ZeroDivisionError)
# Marks a JPEG segment, not a byte 255 or a restart in a scan.
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


class Header(NamedTuple):
    """What the header of an image file tells.

    Attributes:
      size: (H, W) of the result of ``decode``.
      colour: whether the image is in colour.
      animated: whether it has more than one frame or page; only the first is read.
    """

    size: tuple[int, int]
    colour: bool
    animated: bool


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that this Pillow decodes on its own, the common ones first."""
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
    """Return the suffixes, in lower case, of the files that ``decode`` may read."""
    known = {*formats(), "MPO"}  # several JPEGs in one file
    return frozenset(
        suffix for suffix, name in Image.registered_extensions().items() if name in known
    )


def decode(content: bytes, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """Return the pixels uint8 [H, W, C] of an image file.

    The image is turned upright by its EXIF tag, put on a white background if transparent, and
    reduced from 16 bits to 8; of an animation the first frame is read. If ``size`` (H, W) is given,
    the image is resized with antialiasing to cover it, and its middle is cropped.

    Raises:
      Exception: of many types, from Pillow's readers; ValueError for too many pixels and for 32-bit
        numbers.
    """
    image = _opened(content)
    turned = _may_be_turned(image, content)
    if image.mode == "L" and channels == 1 and size is None and not image.info and not turned:
        # A shortcut for small grey images, twice as fast.
        return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 1)
    _load(image)
    found = _eight_bits(image)
    if turned and (turn := UPRIGHT.get(_orientation(image))) is not None:
        found = found.transpose(turn)
    found = found.convert("L" if channels == 1 else "RGB")
    if size is not None and found.size != (size[1], size[0]):
        found = ImageOps.fit(found, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(found).reshape(found.height, found.width, channels)


def find_transparent(content: bytes) -> np.ndarray | None:
    """Return which pixels of an image file are at least half transparent, bool [H, W]; None if none
    is.
    """
    image = _opened(content)
    _load(image)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return None
    found = np.asarray(image.convert("RGBA").getchannel("A")) < 128
    return found if found.any() else None


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize pixels uint8 [H, W, C] with antialiasing to cover ``size`` (H, W), and crop the
    middle.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    resized = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(*size, pixels.shape[-1])


def header(content: bytes) -> Header:
    """Read the header of an image file; pixels of PNG and JPEG are not decoded.

    Raises:
      Exception: of many types, from Pillow's readers, if the file is not a complete image.
    """
    image = _opened(content)
    with _quietly() if image.format in WARNING else contextlib.nullcontext():
        # Pillow's manual requires this order.
        animated = image.format not in PAGES and bool(getattr(image, "is_animated", False))
    if image.format == "PNG":
        turned = _may_be_turned(image, content)
        (_opened(content) if turned else image).verify()  # nothing may be read before
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
    """Refuse a size that is not (height, width)."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"size must be (height, width) in pixels, got {size}", "size")


def note(text: str) -> None:
    """Print one line for the user on stderr."""
    print(text, file=sys.stderr, flush=True)


def _opened(content: bytes) -> Image.Image:
    """Open an image in one of ``formats``, with a limit on its size and without warnings.

    Raises:
      UnidentifiedImageError: the file has another format.
      ValueError: it has too many pixels, or 32-bit numbers.
    """
    for name in formats():
        factory, accept = Image.OPEN[name]
        known = accept is None or accept(content[:16])
        if not known or isinstance(known, str):  # Pillow returns a text if a decoder is missing
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
                f"it has {height:,}x{width:,} pixels, more than the limit of {PIXELS:,}"
            )
        # These hold at most 16 bits, although some versions of Pillow call their mode "I".
        sixteen = image.mode == "I" and image.format in ("PNG", "PPM")
        if image.mode in ("I", "F") and not sixteen:
            raise ValueError(f"its pixels are 32-bit numbers (mode {image.mode}), not 8- or 16-bit")
        if image.format == "TIFF" and _uncovered(image):
            raise ValueError("the file is cut off: its strips do not cover its height")
        return image
    raise UnidentifiedImageError("the file is not an image that Pillow decodes")


def _uncovered(image: Image.Image) -> bool:
    """Return whether rows of a TIFF are in none of its strips; Pillow would make them black."""
    rows = image.tag_v2[ROWS]  # type: ignore[attr-defined]
    return bool(image.tile) and max(extent[3] for _, extent, *_ in image.tile) < rows  # type: ignore[attr-defined]


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a loaded image with 8 bits and without transparency, in a mode that Pillow converts to
    grey or RGB.
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
    """Return whether to read the orientation; reading EXIF data of a PNG may decode its pixels."""
    return image.format != "PNG" or "exif" in image.info or b"eXIf" in content


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image; 1 if it has none that can be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except NO_EXIF:
        return 1


def _has_end(content: bytes) -> bool:
    """Return whether a JPEG is complete; more data, such as the film of a motion photo, may
    follow.
    """
    at = 2
    while found := MARKER.search(content, at):
        at, marker = found.end(), found[1][0]
        if marker == 0xD9:
            return True
        if marker not in (0x01, 0xD8):  # all other segments have a length
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
    return False


def _load(image: Image.Image) -> None:
    """Decode an image; formats of which Pillow warns are decoded one at a time."""
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
    """Silence Pillow's warning of large images, for which this module has its own limit."""
    with LARGE, warnings.catch_warnings():  # catch_warnings is not thread-safe
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _cut(error: OSError) -> ValueError:
    """Return an error of Pillow's readers in plain words, if the file ends too early."""
    return ValueError("the file is cut off" if "truncated" in str(error).lower() else str(error))
