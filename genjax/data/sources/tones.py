"""Generated tones: signals with a known spectrum."""

from __future__ import annotations

import numpy as np

from genjax import checks
from genjax.data.audio.signals import SCALE, SignalCodec
from genjax.data.dataset import Dataset
from genjax.data.splits import DRAW, MOST_MADE, Arrays, array_fingerprint, dataset
from genjax.data.stream import raw_bits
from genjax.errors import UserError

# Hz: C major from C4 to C5
PITCHES = tuple(440 * 2 ** (semitones / 12) for semitones in (-9, -7, -5, -4, -2, 0, 2, 3))
HARMONICS = 3
LOUDNESS = (0.3, 0.9)  # a bound on the peak, drawn uniformly
DECAY = (0.03, 0.3)  # seconds in which a tone falls to 1/e; the logarithm is drawn uniformly


@checks.frozen
class Tones:
    """Generates short plucked tones when opened. Labels are the 8 pitches of the major scale from
    C4 (261.6 Hz) to C5.

    A tone of frequency f is loudness exp(-t / decay) sum_h sin(2 pi h f t + phase_h) / h over h =
    1, 2, 3, divided by 1 + 1/2 + 1/3; pitch, loudness, decay and phases are drawn for each tone.
    Example i depends only on the seed and i.

    Attributes:
      size: number of training tones.
      test_size: number of test tones.
      seed: seed of the tones; a larger size keeps those of a smaller one.
      rate: sampling rate in Hz, more than twice the highest harmonic.
      length: time steps of a tone.
    """

    size: int = 8_000
    test_size: int = 1_000
    seed: int = 0
    rate: int = 4_000
    length: int = 512

    def __post_init__(self) -> None:
        checks.between(self, 1, MOST_MADE, "size", "test_size")
        checks.at_least(self, 0, "seed")
        checks.at_least(self, 1, "length")
        checks.check_size(4.0 * (self.size + self.test_size) * self.length, "tones", "length")
        highest = HARMONICS * PITCHES[-1]
        if not self.rate > 2 * highest:
            raise UserError(
                f"rate must be > {2 * highest:.0f} Hz for tones up to {highest:.0f} Hz, got "
                f"{self.rate}",
                "rate",
            )

    def open(self) -> Dataset:
        """Open the data set; batches hold ``signal`` float32 [B, T, 1] and ``label`` int32 [B]."""
        codec = SignalCodec(self.rate, self.length)
        splits = {
            name: Arrays("signal", *self._draw(stream, count), codec)
            for name, stream, count in (
                ("train", DRAW, self.size),
                ("test", DRAW + 1, self.test_size),
            )
        }
        return dataset(splits, classes=len(PITCHES), fingerprint=array_fingerprint(splits))

    def _draw(self, stream: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw ``count`` tones int16 [N, T, 1] and their pitches int32 [N], from six random words
        each.
        """
        words = raw_bits(self.seed, stream, (3 + HARMONICS) * count).reshape(count, -1)
        uniform = (words >> np.uint64(11)) * 2.0**-53  # [N, 6] in [0, 1)
        pitch = (uniform[:, 0] * len(PITCHES)).astype(np.int32)
        loudness = LOUDNESS[0] + uniform[:, 1] * (LOUDNESS[1] - LOUDNESS[0])
        decay = DECAY[0] * (DECAY[1] / DECAY[0]) ** uniform[:, 2]
        time = np.arange(self.length) / self.rate  # [T] in seconds
        tones = np.empty((count, self.length, 1), np.int16)
        for i in range(0, count, 1024):  # in chunks: the sines are float64
            rows, turns = (
                slice(i, i + 1024),
                2 * np.pi * np.array(PITCHES)[pitch[i : i + 1024], None] * time,
            )
            fall = loudness[rows, None] * np.exp(-time / decay[rows, None])
            wave = np.zeros(turns.shape)
            for h in range(1, HARMONICS + 1):
                wave += np.sin(h * turns + 2 * np.pi * uniform[rows, 2 + h, None]) / h
            tones[rows, :, 0] = np.rint(
                (SCALE - 1) * fall * wave / sum(1 / h for h in range(1, HARMONICS + 1))
            )
        return tones, pitch
