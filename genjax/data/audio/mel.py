"""Convert signals to log-mel spectrograms in model space, and back to sound by Griffin-Lim."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.audio.signals import SCALE, join_signals, wav_bytes
from genjax.data.codecs import write_file
from genjax.data.pictures import grid, png_bytes
from genjax.errors import UserError

COLUMNS = 4  # spectrograms in a row of a picture
POWER_FLOOR = 1e-10  # -100 dB, below the quantisation noise of 16 bits
CHUNK = 256  # signals that are analysed at once
BATCH = 32  # sounds whose phases are estimated at once


@checks.frozen
class MelCodec:
    """Converts log-mel spectrograms in dB to grey images in [-1, 1] and back to sound.

    Mel bands are Slaney's, of the power of a Hann-windowed Fourier transform, as librosa computes
    them; row 0 is the lowest band. Each sound is first scaled to full scale, so loudness is not
    modelled. The way back estimates the phases by fast Griffin-Lim (Perraudin et al., 2013) from
    zero phases, so that it is the same each time.

    Attributes:
      rate: sampling rate in Hz.
      bands: number of mel bands, the height of the image.
      frames: number of frames, the width of the image.
      window: samples of a frame, zero-padded at both ends of the sound.
      hop: samples from one frame to the next.
      high: level in dB that becomes 1, fitted to the training part; None before that.
      range_db: levels this far below ``high`` or farther become -1.
      iterations: of Griffin-Lim.
    """

    rate: int
    bands: int
    frames: int
    window: int = 512
    hop: int = 192
    high: float | None = None
    range_db: float = 60.0
    iterations: int = 32

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "rate", "bands", "frames", "hop", "iterations")
        checks.at_least(self, 16, "window")
        checks.above(self, 0, "range_db")
        if self.hop > self.window // 2:
            raise UserError(
                f"hop must be <= {self.window // 2} (half a window), got {self.hop}", "hop"
            )
        if self.bands > self.window // 4:
            raise UserError(
                f"bands must be <= {self.window // 4} (a quarter of the window), got {self.bands}",
                "bands",
            )

    @property
    def shown(self) -> int:
        return 20

    @property
    def levels(self) -> None:
        return None

    @property
    def length(self) -> int:
        """The samples of a sound."""
        return self.hop * (self.frames - 1)

    def analyse(self, signals: np.ndarray) -> np.ndarray:
        """Convert int16 [N, T, 1] to levels in dB float32 [N, bands, frames, 1]."""
        with explain_package("a mel spectrogram"):
            import librosa
        found = np.empty((len(signals), self.bands, self.frames, 1), np.float32)
        for start in range(0, len(signals), CHUNK):
            part = signals[start : start + CHUNK, : self.length, 0].astype(np.float32)
            peak = np.maximum(np.abs(part).max(1, keepdims=True), 1)  # silence stays silence
            power = librosa.feature.melspectrogram(
                y=part / peak,
                sr=self.rate,
                n_fft=self.window,
                hop_length=self.hop,
                n_mels=self.bands,
            )  # [N, bands, frames]
            found[start : start + CHUNK, ..., 0] = 10 * np.log10(np.maximum(power, POWER_FLOOR))
        return found

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Convert levels in dB [..., bands, frames, 1] to float32 in [-1, 1]."""
        unit = (raw - self._high()) / (self.range_db / 2) + 1
        return np.clip(unit, -1, 1).astype(np.float32)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Draw samples [..., bands, frames, 1], clipped to [-1, 1], as uint8 pictures of the same
        shape, low bands at the bottom; NaN becomes silence.
        """
        unit = (_clip(samples) + 1) * 127.5
        return np.rint(unit[..., ::-1, :, :]).astype(np.uint8)

    def synthesise(self, samples: np.ndarray) -> np.ndarray:
        """Convert samples [N, bands, frames, 1] to sounds int16 [N, T, 1] at full scale."""
        with explain_package("a sound of a mel spectrogram"):
            import librosa
        decibels = (_clip(samples)[..., 0] - 1) * (self.range_db / 2) + self._high()
        floor = self._high() - self.range_db
        power = np.where(decibels > floor, 10 ** (decibels / 10), 0)  # the lowest level is silence
        sounds = np.zeros((len(power), self.length), np.float32)
        for start in range(0, len(power), BATCH):
            part = power[start : start + BATCH]
            amplitude = [
                librosa.feature.inverse.mel_to_stft(one, sr=self.rate, n_fft=self.window)
                for one in part
            ]
            sounds[start : start + BATCH] = librosa.griffinlim(
                np.stack(amplitude),
                n_iter=self.iterations,
                hop_length=self.hop,
                n_fft=self.window,
                init=None,
                length=self.length,
            )
        peak = np.abs(sounds).max(1, keepdims=True)
        scaled = np.divide(sounds, peak, out=np.zeros_like(sounds), where=peak > 0)
        return np.rint(scaled * (SCALE - 1)).astype(np.int16)[..., None]

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write samples [N, bands, frames, 1], one after another, as WAV, and their spectrograms as
        PNG.

        Returns:
          The path of the WAV file.
        """
        write_file(stem, ".png", png_bytes(grid(self.decode(samples), columns=COLUMNS)))
        sound = join_signals(self.synthesise(samples), self.rate)
        return write_file(stem, ".wav", wav_bytes(sound, self.rate))

    def _high(self) -> float:
        if self.high is None:
            raise UserError("the codec is not fitted yet: high is None", "high")
        return self.high


def _clip(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(np.asarray(samples, np.float64), nan=-1.0), -1, 1)


@contextlib.contextmanager
def explain_package(what: str) -> Iterator[None]:
    """Say which extra to install if a package for sound is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        cure = "pip install 'genjax-train[audio]'"
        raise UserError(f"{what} needs the package {error.name}: {cure}") from None
