"""Generated tones: signals whose spectrum is known."""

from __future__ import annotations

import numpy as np

from genjax import checks
from genjax.data.audio.signals import SCALE, SignalCodec
from genjax.data.dataset import Dataset
from genjax.data.splits import DRAW, MOST_MADE, Arrays, array_fingerprint, dataset
from genjax.data.stream import raw_bits
from genjax.errors import UserError

PITCHES = tuple(
    440 * 2 ** (semitones / 12) for semitones in (-9, -7, -5, -4, -2, 0, 2, 3)
)  # Hz: C major from C4 to C5
HARMONICS = 3
LOUDNESS = (0.3, 0.9)  # a bound on the peak, drawn evenly
DECAY = (0.03, 0.3)  # seconds in which a tone falls to 1/e, drawn evenly in its logarithm


@checks.frozen
class Tones:
    """Short plucked tones, drawn when opened: 8 pitches, the major scale from C4 (261.6 Hz) to C5,
    as labels.

    A tone of frequency f is loudness exp(-t / decay) sum_h sin(2 pi h f t + phase_h) / h over h =
    1, 2, 3, divided by 1 + 1/2 + 1/3; pitch, loudness, decay and the phases are drawn for each.
    Example i depends on the seed and i alone.

    Attributes:
      size: training tones.
      test_size: test tones.
      seed: of the tones; a larger size keeps the tones of a smaller one.
      rate: in Hz, above twice the highest harmonic.
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
                f"rate is {self.rate} Hz; tones of up to {highest:.0f} Hz need more than "
                f"{2 * highest:.0f}"
            )

    def open(self) -> Dataset:
        """Batches of ``signal`` float32 [B, T, 1] and ``label`` int32 [B]."""
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
        """``count`` tones int16 [N, T, 1] and their pitches int32 [N], six random words a tone."""
        words = raw_bits(self.seed, stream, (3 + HARMONICS) * count).reshape(count, -1)
        uniform = (words >> np.uint64(11)) * 2.0**-53  # [N, 6] in [0, 1)
        pitch = (uniform[:, 0] * len(PITCHES)).astype(np.int32)
        loudness = LOUDNESS[0] + uniform[:, 1] * (LOUDNESS[1] - LOUDNESS[0])
        decay = DECAY[0] * (DECAY[1] / DECAY[0]) ** uniform[:, 2]
        time = np.arange(self.length) / self.rate  # [T] in seconds
        tones = np.empty((count, self.length, 1), np.int16)
        for i in range(0, count, 1024):  # some at once: the sines are float64
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
