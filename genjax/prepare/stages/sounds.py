"""Stages for sounds: standard form, and filters."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from scipy.signal import resample_poly

from genjax import checks
from genjax.data.audio.signals import read_wav, wav_bytes
from genjax.prepare.stage import RowStage, get_column, replace_column

LOUDEST = 32767


@checks.frozen
class StandardSounds(RowStage):
    """Converts sounds to 16-bit WAV files of one rate and perhaps one channel.

    Attributes:
      rate: sampling rate in Hz; other rates are resampled by a polyphase filter.
      mono: whether channels are averaged.
      column: column of the WAV files.
    """

    rate: int = 16_000
    mono: bool = True
    column: str = "signal"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "rate")

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        found = [
            self._standardise(*read_wav(content))
            for content in get_column(table, self.column).to_pylist()
        ]
        return replace_column(table, self.column, found), [None] * len(table)

    def _standardise(self, signal: np.ndarray, rate: int) -> bytes:
        values = signal.astype(np.float64)  # [T, C]
        if self.mono:
            values = values.mean(1, keepdims=True)
        if rate != self.rate:
            common = math.gcd(rate, self.rate)
            values = resample_poly(values, self.rate // common, rate // common, axis=0)
        return wav_bytes(
            np.rint(np.clip(values, -LOUDEST - 1, LOUDEST)).astype(np.int16), self.rate
        )


@checks.frozen
class Sounding(RowStage):
    """Drops sounds that are too short, too long or silent.

    Attributes:
      least: shortest duration in seconds.
      most: longest duration in seconds; None for no limit.
      loud: smallest root mean square, as a fraction of full scale.
      column: column of the WAV files.
    """

    least: float = 0.0
    most: float | None = None
    loud: float = 0.0
    column: str = "signal"

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "least")
        checks.ordered(self, "least", "most")
        checks.between(self, 0, 1, "loud")

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        return table, [
            self._find_fault(*read_wav(content))
            for content in get_column(table, self.column).to_pylist()
        ]

    def _find_fault(self, signal: np.ndarray, rate: int) -> str | None:
        seconds = len(signal) / rate
        if seconds < self.least:
            return "too short"
        if self.most is not None and seconds > self.most:
            return "too long"
        loudness = math.sqrt(float(np.square(signal / (LOUDEST + 1)).mean()))
        return "silent" if loudness < self.loud else None
