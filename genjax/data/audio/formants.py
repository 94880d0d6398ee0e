"""Speak digits by formant synthesis: a stand-in for recordings where there are none."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

RATE = 8_000  # Hz
VOICES = (105.0, 145.0, 215.0)  # pitch of each speaker, in Hz
TAKES = 12  # recordings of each speaker and digit
STEP = 40  # samples from one value of a formant to the next
BAND = 90.0  # half width of a formant, in Hz
FALL = 0.02  # seconds over which segments fade in and out

# First three formants in Hz, about those of men in Peterson & Barney (1952), and of nasals.
PHONES = {
    "i": (270, 2290, 3010),
    "I": (390, 1990, 2550),
    "E": (530, 1840, 2480),
    "A": (730, 1090, 2440),
    "V": (640, 1190, 2390),
    "O": (570, 840, 2410),
    "U": (440, 1020, 2240),
    "u": (300, 870, 2240),
    "R": (490, 1350, 1690),
    "n": (280, 1250, 2600),
}
# Centre and half width of the noise in Hz, and its amplitude.
NOISES = {
    "s": (3500, 500, 0.5),
    "z": (3400, 600, 0.3),
    "f": (2600, 1500, 0.15),
    "T": (3000, 1500, 0.12),
    "t": (3200, 900, 0.6),
    "k": (1900, 500, 0.5),
}
PAUSE = "-"
# Phones and their shares of the length; "t" and "k" are bursts after a pause.
DIGITS = (
    (("z", 2), ("i", 3), ("R", 2), ("O", 3), ("U", 2)),
    (("u", 3), ("V", 4), ("n", 3)),
    (("t", 1), ("I", 1), ("u", 5)),
    (("T", 2), ("R", 2), ("i", 5)),
    (("f", 2), ("O", 4), ("R", 4)),
    (("f", 2), ("A", 4), ("I", 3), ("f", 2)),
    (("s", 3), ("I", 3), (PAUSE, 2), ("k", 1), ("s", 3)),
    (("s", 3), ("E", 3), ("f", 1), ("V", 2), ("n", 3)),
    (("E", 3), ("I", 3), (PAUSE, 2), ("t", 1)),
    (("n", 2), ("A", 4), ("I", 3), ("n", 2)),
)


class Spoken(NamedTuple):
    """Recordings end to end, as in the file of the Free Spoken Digit Dataset.

    Attributes:
      audio: samples int16 [T].
      offsets: first sample of each recording, and the end [N + 1].
      label: digits [N].
      speaker: voices [N].
      take: number of the recording among those of its speaker and digit [N].
    """

    audio: np.ndarray
    offsets: np.ndarray
    label: np.ndarray
    speaker: np.ndarray
    take: np.ndarray


@functools.cache
def speak_digits() -> Spoken:
    """Speak each digit ``TAKES`` times by each voice; pitch, speed and tract length vary."""
    draw = np.random.default_rng(6)
    rows = [
        (digit, voice, take)
        for digit in range(len(DIGITS))
        for voice in range(len(VOICES))
        for take in range(TAKES)
    ]
    parts = [_speak(digit, VOICES[voice], draw) for digit, voice, _ in rows]
    label, speaker, take = np.array(rows).T
    offsets = np.cumsum([0, *map(len, parts)])
    return Spoken(np.concatenate(parts), offsets, label, speaker, take)


def _speak(digit: int, pitch: float, draw: np.random.Generator) -> np.ndarray:
    """Return one digit int16 [T]."""
    phones, shares = zip(*DIGITS[digit], strict=True)
    lengths = np.array(shares, float) * draw.uniform(0.8, 1.25, len(shares))
    lengths *= draw.uniform(0.3, 0.5) / lengths.sum()  # seconds
    edges = np.concatenate([[0], np.cumsum(lengths)])
    time = np.arange(int(edges[-1] * RATE)) / RATE  # [T]
    scale = draw.uniform(0.95, 1.05) * (pitch / VOICES[0]) ** 0.25  # a shorter tract is higher
    voiced = [i for i, phone in enumerate(phones) if phone in PHONES]
    middles = (edges[:-1] + edges[1:])[voiced] / 2
    formants = scale * np.array([PHONES[phones[i]] for i in voiced], float)  # [phones, 3]
    sound = _voice(time, middles, formants, pitch * draw.uniform(0.93, 1.07), draw)
    loud = sum(_window(time, edges[i], edges[i + 1]) for i in voiced)
    sound *= np.minimum(loud, 1)
    for i, phone in enumerate(phones):
        if phone in NOISES:
            sound += _noise(len(time), NOISES[phone], draw) * _window(time, edges[i], edges[i + 1])
    sound += draw.normal(0, 1e-3, len(sound))
    return np.rint(sound / np.abs(sound).max() * draw.uniform(0.3, 0.9) * 32767).astype(np.int16)


def _voice(
    time: np.ndarray,
    middles: np.ndarray,
    formants: np.ndarray,
    pitch: float,
    draw: np.random.Generator,
) -> np.ndarray:
    """Return the sum [T] of the harmonics of a falling pitch, under formants that glide."""
    slow = time[::STEP]
    places = np.stack([np.interp(slow, middles, f) for f in formants.T])  # [3, slow]
    turns = np.cumsum(pitch * np.linspace(1.1, 0.85, len(time))) / RATE
    sound = np.zeros(len(time))
    for harmonic in range(1, int(RATE / 2 / pitch / 1.1)):
        resonance = 1 / (1 + ((harmonic * pitch - places) / BAND) ** 2)
        gain = (resonance * np.array([[1.0], [0.5], [0.25]])).sum(0)
        phase = 2 * np.pi * (harmonic * turns + draw.random())
        sound += np.interp(time, slow, gain) * np.sin(phase)
    return sound / 2


def _noise(length: int, shape: tuple[float, float, float], draw: np.random.Generator) -> np.ndarray:
    """Return noise [T] around a centre frequency, with the amplitude as standard deviation."""
    centre, width, amplitude = shape
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    spectrum = np.fft.rfft(draw.normal(size=length))
    noise = np.fft.irfft(spectrum / (1 + ((frequency - centre) / width) ** 2), length)
    return amplitude * noise / noise.std()


def _window(time: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Return 1 between two times in seconds, with ramps around them: [T]."""
    rise = (time - start) / FALL + 0.5
    fall = (stop - time) / FALL + 0.5
    return np.clip(np.minimum(rise, fall), 0, 1)
