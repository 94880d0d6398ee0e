"""Convert signals to model space and back, and read and write WAV files."""

from __future__ import annotations

import io
import itertools
import struct
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from genjax import checks
from genjax.data.codecs import write_file
from genjax.data.pictures import grid, png_bytes

SCALE = 2**15  # maps int16 to [-1, 1)
PAUSE = 0.2  # seconds between two samples in a file
WIDTH, HEIGHT = 180, 56  # pixels of one waveform
# Byte order of a WAV file, by its first bytes.
ORDERS = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<", b"BW64": "<"}
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # codings
GUIDS = {  # with these the extensible format names a coding
    "<": bytes.fromhex("0000 1000 8000 00aa 0038 9b71"),
    ">": bytes.fromhex("0000 0010 8000 00aa 0038 9b71"),
}
OTHERS = {
    2: "Microsoft ADPCM",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x40: "G.721 ADPCM",
    0x45: "G.726 ADPCM",
    0x50: "MPEG audio",
    0x55: "MP3",
    0xFF: "AAC",
    0x161: "Windows Media Audio",
    0x2000: "AC-3",
    0x704F: "Opus",
    0xF1AC: "FLAC",
    EXTENSIBLE: "an extensible format that it does not name",
}
NO_SIZE, NO_WIDE_SIZE = 2**32 - 1, 2**63
# Sizes that programs write to a pipe.
UNKNOWN = (range(2**31 - 2**13, 2**31 + 1), range(2**32 - 2**13, 2**32))


@runtime_checkable
class Sounding(Protocol):
    """A codec whose samples become sounds, such as a ``SignalCodec`` or a ``MelCodec``.

    Attributes:
      rate: sampling rate in Hz.
    """

    rate: int

    def synthesise(self, samples: np.ndarray) -> np.ndarray:
        """Convert samples [N, ...] to sounds int16 [N, T, C].

        Raises:
          UserError: a package is missing.
        """
        ...


@checks.frozen
class SignalCodec:
    """Converts 16-bit signals to floats in [-1, 1) and back, exactly.

    Attributes:
      rate: sampling rate in Hz.
      length: number of time steps of a signal.
      channels: number of channels, 1 for mono.
    """

    rate: int
    length: int
    channels: int = 1

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "rate", "length", "channels")

    @property
    def shown(self) -> int:
        return 16

    @property
    def levels(self) -> None:
        return None  # with 65,536 values a density is good enough

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Convert int16 [..., T, C] to float32 in [-1, 1)."""
        return raw.astype(np.float32) / np.float32(SCALE)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Convert floats [..., T, C], clipped to [-1, 1), to int16; NaN becomes silence."""
        unit = np.clip(np.nan_to_num(np.asarray(samples, np.float32)), -1, 1)
        return np.minimum(np.rint(unit * SCALE), SCALE - 1).astype(np.int16)

    def synthesise(self, samples: np.ndarray) -> np.ndarray:
        """Convert samples [N, T, C] to sounds int16 of the same shape, as ``decode`` does."""
        return self.decode(samples)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write samples [N, T, C], one after another, as WAV, and their waveforms as PNG.

        Returns:
          The path of the WAV file.
        """
        raw = self.decode(samples)
        pictures = np.stack([waveform(signal) for signal in raw])[..., None]
        write_file(stem, ".png", png_bytes(grid(pictures, columns=4)))
        return write_file(stem, ".wav", wav_bytes(join_signals(raw, self.rate), self.rate))


def join_signals(signals: np.ndarray, rate: int) -> np.ndarray:
    """Put signals int16 [N, T, C] one after another, with a pause between two: [T', C]."""
    pause = np.zeros((round(PAUSE * rate), signals.shape[-1]), np.int16)
    return np.concatenate([part for signal in signals for part in (signal, pause)][:-1])


def waveform(signal: np.ndarray) -> np.ndarray:
    """Draw a signal int16 [T, C] as an image uint8 [56 C, 180], one channel below another.

    Each column of pixels is dark from the smallest to the largest value in its time interval.
    """
    edges = np.linspace(0, len(signal) - 1, WIDTH + 1)
    stretches = [signal[int(a) : int(np.ceil(b)) + 1] for a, b in itertools.pairwise(edges)]
    least, most = (
        np.stack([f(part, axis=0) for part in stretches]) for f in (np.min, np.max)
    )  # [WIDTH, C]
    top, bottom = (
        np.rint((1 - v / SCALE) / 2 * (HEIGHT - 1))
        for v in (most.astype(float), least.astype(float))
    )
    rows = np.arange(HEIGHT)[None, :, None]
    dark = (top.T[:, None] <= rows) & (rows <= bottom.T[:, None])  # [C, HEIGHT, WIDTH]
    return np.where(dark, 40, 235).astype(np.uint8).reshape(-1, WIDTH)


def wav_bytes(raw: np.ndarray, rate: int) -> bytes:
    """Encode int16 [T, C] as WAV file, 16-bit PCM."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(raw.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(raw.astype("<i2").tobytes())
    return buffer.getvalue()


class Sound(NamedTuple):
    """The content of a WAV file.

    Attributes:
      signal: samples int16 [T, C].
      rate: sampling rate in Hz.
      clipped: number of float values outside [-1, 1].
    """

    signal: np.ndarray
    rate: int
    clipped: int = 0


def read_wav(content: bytes) -> tuple[np.ndarray, int]:
    """Return the samples int16 [T, C] and the rate in Hz of a WAV file; see ``read_sound``."""
    return read_sound(content)[:2]


def read_sound(content: bytes) -> Sound:
    """Read a WAV file (RIFF, RIFX, RF64 or BW64) of PCM, 32- or 64-bit floats, A-law or mu-law,
    converted to 16 bits.

    PCM with more bits is truncated. Floats are scaled by 32,768, rounded and clipped to [-1, 1]. A
    file without a length, as programs write to a pipe, is read to its end; other data after the
    sound are skipped.

    Raises:
      ValueError: the file is not WAV, has another coding, no rate or no sound, is cut off, or has
        floats that are not numbers; the message says which.
    """
    order = ORDERS.get(content[:4])
    if order is None or content[8:12] != b"WAVE":
        raise ValueError("it is not a WAV file")
    form, start, size = _parts(content, order)
    coding, channels, rate, width = _form(form, order)
    if not rate:
        raise ValueError("its rate is 0 Hz")
    there, block = len(content) - start, channels * width
    if size is not None and size > there:
        raise ValueError(
            f"it is cut off: its header says {size // block:,} samples, the file has "
            f"{there // block:,}"
        )
    frames = (there if size is None else size) // block
    if not frames:
        raise ValueError("it holds no sound")
    raw = np.frombuffer(content, np.uint8, frames * block, start).reshape(frames, channels, width)
    if coding in LAWS:
        return Sound(LAWS[coding](np.arange(256))[raw[..., 0]], rate)
    if coding == FLOAT:
        signal, clipped = from_floats(raw.view(f"{order}f{width}")[..., 0])
        return Sound(signal, rate, clipped)
    if width == 1:  # the only unsigned width
        return Sound((raw[..., 0].astype(np.int16) - 128) << 8, rate)
    top = raw[..., -2:] if order == "<" else raw[..., :2]
    return Sound(np.ascontiguousarray(top).view(f"{order}i2")[..., 0].astype(np.int16), rate)


def _parts(content: bytes, order: str) -> tuple[bytes, int, int | None]:
    """Return the format chunk of a WAV file, the offset of its samples, and their number of bytes;
    None if they go on to the end.

    Raises:
      ValueError: the format or the samples are missing.
    """
    riff = struct.unpack(f"{order}I", content[4:8])[0]
    form, wide, at = b"", 0, 12
    while at + 8 <= len(content):
        name, start = content[at : at + 4], at + 8
        size = struct.unpack(f"{order}I", content[at + 4 : start])[0]
        if name == b"fmt ":
            form = content[start : start + size]
        elif name == b"ds64" and start + 16 <= len(content):  # sizes of files above 4 GB
            wide = struct.unpack("<Q", content[start + 8 : start + 16])[0]
        elif name == b"data":
            if not form:
                raise ValueError("its format does not come before its samples")
            return form, start, _size(size, wide, riff, start, len(content) - start)
        at = start + size
        # Some programs omit the padding.
        if size % 2 and content[at : at + 4] not in (b"data", b"fmt "):
            at += 1
    raise ValueError("it is cut off: it ends before its samples")


def _size(size: int, wide: int, riff: int, start: int, there: int) -> int | None:
    """Return the number of sample bytes by the header; None if its writer did not know it."""
    if size == NO_SIZE and 0 < wide < NO_WIDE_SIZE:
        return wide
    if size > there and any(size in sizes for sizes in UNKNOWN):
        return None
    unwritten = size == 0 and (riff == NO_SIZE or riff + 8 <= start)
    return None if unwritten else size


def _form(form: bytes, order: str) -> tuple[int, int, int, int]:
    """Return (coding, channels, rate in Hz, bytes per value) of a WAV file's format.

    Raises:
      ValueError: the format cannot be read; the message names an unknown coding.
    """
    if len(form) < 16:
        raise ValueError("its format is cut off")
    coding, channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", form[:16])
    if coding == EXTENSIBLE and len(form) >= 40 and form[28:40] == GUIDS[order]:
        coding = struct.unpack(f"{order}I", form[24:28])[0]
    if coding not in (PCM, FLOAT, *LAWS):
        name = OTHERS.get(coding, f"format {coding:#06x}")
        raise ValueError(
            f"it is coded as {name}; PCM, floats, A-law and mu-law are read: convert it to PCM"
        )
    if not channels or not bits:
        raise ValueError(f"its header claims {channels} channels of {bits} bits")
    width = -(-bits // 8)
    # Values may use fewer bits than they are stored in.
    if block % channels == 0 and block // channels in range(width, 9):
        width = block // channels
    if (
        (coding == FLOAT and bits not in (32, 64))
        or (coding in LAWS and bits != 8)
        or (coding == PCM and bits > 64)
    ):
        raise ValueError(f"its values have {bits} bits, which cannot be read with this coding")
    return coding, channels, rate, width if coding == PCM else bits // 8


def from_floats(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Convert floats [T, C] to int16; also return how many are clipped.

    Raises:
      ValueError: some are NaN.
    """
    if unknown := int(np.isnan(values).sum()):
        raise ValueError(f"{unknown:,} of its {values.size:,} values are not numbers (NaN)")
    clipped = int((np.abs(values) > 1).sum())
    whole = np.rint(np.clip(values, -1, 1).astype(np.float64) * SCALE)
    return np.minimum(whole, SCALE - 1).astype(np.int16), clipped


def _a_law(code: np.ndarray) -> np.ndarray:
    """Decode A-law bytes [N] to 16 bits (ITU-T G.711)."""
    code = code ^ 0x55
    part, step = code >> 4 & 7, (code & 15) << 4
    size = np.where(part == 0, step + 8, step + 0x108 << np.maximum(part, 1) - 1)
    return np.where(code & 0x80, size, -size).astype(np.int16)


def _mu_law(code: np.ndarray) -> np.ndarray:
    """Decode mu-law bytes [N] to 16 bits (ITU-T G.711)."""
    code = ~code & 0xFF
    size = (((code & 15) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


LAWS: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {6: _a_law, 7: _mu_law}


def pad_signal(signal: np.ndarray, length: int) -> np.ndarray:
    """Cut a signal [T, C] to ``length`` steps, or pad it with silence."""
    return np.pad(signal[:length], ((0, max(0, length - len(signal))), (0, 0)))
