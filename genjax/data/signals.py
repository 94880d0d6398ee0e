"""Signals: whole numbers to model space and back, and WAV files in and out."""

from __future__ import annotations

import io
import itertools
import wave
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.codecs import write_file
from genjax.data.pictures import grid, png_bytes

SCALE = 2**15  # int16 to [-1, 1)
PAUSE = 0.2  # seconds between two samples in a file
WIDTH, HEIGHT = 180, 56  # pixels of one waveform
PCM, EXTENSIBLE = b"\x01\x00", b"\xfe\xff"  # formats of a WAV file
PCM_GUID = PCM + bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")  # that an extensible one calls PCM


@checks.frozen
class SignalCodec:
    """Signals of 16-bit whole numbers to floats in [-1, 1), which is exact both ways.

    Attributes:
      rate: of the samples, in Hz.
      length: time steps of a signal.
      channels: 1 for mono.
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
        return None  # of 65,536 values the density tells enough

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """int16 [..., T, C] to float32 in [-1, 1)."""
        return raw.astype(np.float32) / np.float32(SCALE)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Floats [..., T, C], clipped to [-1, 1), to int16; what is not a number becomes silence."""
        unit = np.clip(np.nan_to_num(np.asarray(samples, np.float32)), -1, 1)
        return np.minimum(np.rint(unit * SCALE), SCALE - 1).astype(np.int16)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """A WAV file of samples [N, T, C], one after another, at ``stem`` + ".wav", and their waveforms as a PNG.

        Returns:
          The WAV file's path.
        """
        raw = self.decode(samples)
        pause = np.zeros((round(PAUSE * self.rate), self.channels), np.int16)
        parts = [part for signal in raw for part in (signal, pause)][:-1]
        pictures = np.stack([waveform(signal) for signal in raw])[..., None]
        write_file(stem, ".png", png_bytes(grid(pictures, columns=4)))
        return write_file(stem, ".wav", wav_bytes(np.concatenate(parts), self.rate))


def waveform(signal: np.ndarray) -> np.ndarray:
    """The picture uint8 [56 C, 180] of a signal int16 [T, C], a channel below another, full scale top to bottom.

    Each column of pixels is dark from the least to the greatest value of its stretch of time.
    """
    edges = np.linspace(0, len(signal) - 1, WIDTH + 1)
    stretches = [signal[int(a) : int(np.ceil(b)) + 1] for a, b in itertools.pairwise(edges)]
    least, most = (np.stack([f(part, axis=0) for part in stretches]) for f in (np.min, np.max))  # [WIDTH, C]
    top, bottom = (np.rint((1 - v / SCALE) / 2 * (HEIGHT - 1)) for v in (most.astype(float), least.astype(float)))
    rows = np.arange(HEIGHT)[None, :, None]
    dark = (top.T[:, None] <= rows) & (rows <= bottom.T[:, None])  # [C, HEIGHT, WIDTH]
    return np.where(dark, 40, 235).astype(np.uint8).reshape(-1, WIDTH)


def wav_bytes(raw: np.ndarray, rate: int) -> bytes:
    """The WAV file, 16-bit PCM, of int16 [T, C]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(raw.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(raw.astype("<i2").tobytes())
    return buffer.getvalue()


def read_wav(content: bytes) -> tuple[np.ndarray, int]:
    """(int16 [T, C], rate in Hz) of a WAV file of 8, 16, 24 or 32 bits PCM; more than 16 bits lose their last ones.

    Raises:
      ValueError: the file is no WAV, not PCM, without a rate, empty or cut off; the message says which.
    """
    try:
        with wave.open(io.BytesIO(_plain(content))) as file:
            channels, width, rate, frames, *_ = file.getparams()
            data = file.readframes(frames)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"it is no PCM WAV file: {str(error) or 'it ends too early'}") from error
    if not rate:
        raise ValueError("its rate is 0 Hz")
    if not frames:
        raise ValueError("it holds no sound")
    if len(data) < frames * channels * width:
        raise ValueError("it is cut off")
    values = np.frombuffer(data, np.uint8).reshape(frames, channels, width)
    if width == 1:  # the one width without a sign
        return (values[..., 0].astype(np.int16) - 128) << 8, rate
    return np.ascontiguousarray(values[..., -2:]).view("<i2")[..., 0].astype(np.int16), rate


def _plain(content: bytes) -> bytes:
    """A WAV file of extensible PCM as one of PCM, as Python's ``wave`` knows no other before 3.12."""
    at = 12
    while at + 8 <= len(content) and content[at : at + 4] != b"fmt ":
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    start = at + 8
    if content[start : start + 2] == EXTENSIBLE and content[start + 24 : start + 40] == PCM_GUID:
        return content[:start] + PCM + content[start + 2 :]
    return content


def fitted(signal: np.ndarray, length: int) -> np.ndarray:
    """The first ``length`` steps of a signal [T, C], with silence after a shorter one."""
    return np.pad(signal[:length], ((0, max(0, length - len(signal))), (0, 0)))
