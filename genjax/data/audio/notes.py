"""Notes in equal time steps, and as MIDI and WAV files."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Sequence

import numpy as np

Frame = tuple[int, ...]  # MIDI notes that sound in a step, in descending order

VOICES = ("soprano", "alto", "tenor", "bass")  # columns of a piece in voices, from the highest
SILENT = -1  # a voice without a note

TICKS = 480  # ticks per quarter in a MIDI file
VELOCITY = 80
RATE = 16_000  # samples per second in a WAV file
HARMONICS = (1.0, 0.5, 0.33, 0.2, 0.12)  # amplitudes, about those of a reed organ
ATTACK, RELEASE = 0.02, 0.06  # seconds


def find_frames(piece: np.ndarray) -> list[Frame]:
    """Return the different notes that sound in each step of a piece [S, 4], in descending order."""
    return [
        tuple(sorted({n for n in step if n != SILENT}, reverse=True)) for step in piece.tolist()
    ]


def find_notes(frames: Sequence[Frame]) -> list[tuple[int, int, int]]:
    """Return (note, first step, step after the last) of each held note, sorted by first step."""
    found: list[tuple[int, int, int]] = []
    since: dict[int, int] = {}
    for step, frame in enumerate([*frames, ()]):
        for note in [note for note in since if note not in frame]:
            found.append((note, since.pop(note), step))
        for note in frame:
            since.setdefault(note, step)
    return sorted(found, key=lambda one: (one[1], one[0]))


def midi_bytes(frames: Sequence[Frame], ticks: int, quarters_per_minute: float) -> bytes:
    """Return a Standard MIDI File of one track, with ``ticks`` per step and 480 per quarter;
    repeated notes are held.
    """
    events = [(stop * ticks, 0, note) for note, _, stop in find_notes(frames)]
    events += [(start * ticks, 1, note) for note, start, _ in find_notes(frames)]
    track = b"\0\xff\x51\x03" + struct.pack(">I", round(60e6 / quarters_per_minute))[1:]
    now = 0
    for time, on, note in sorted(events):  # at equal times notes end before others start
        track += _variable(time - now) + bytes([0x90 if on else 0x80, note, VELOCITY if on else 0])
        now = time
    track += _variable(len(frames) * ticks - now) + b"\xff\x2f\0"
    return (
        b"MThd"
        + struct.pack(">IHHH", 6, 0, 1, TICKS)
        + b"MTrk"
        + struct.pack(">I", len(track))
        + track
    )


def _variable(number: int) -> bytes:
    """Encode a number as MIDI variable-length quantity: seven bits per byte, the high bit set in
    all but the last.
    """
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))


def wav_bytes(frames: Sequence[Frame], seconds: float) -> bytes:
    """Return a mono 16-bit WAV file of ``frames`` of ``seconds`` each, with notes as sums of
    sines.
    """
    sound = np.zeros(round(len(frames) * seconds * RATE) + round(RELEASE * RATE), np.float32)
    for note, start, stop in find_notes(frames):
        first = round(start * seconds * RATE)
        length = min(
            round((stop - start) * seconds * RATE) + round(RELEASE * RATE), len(sound) - first
        )
        time = np.arange(length, dtype=np.float32) / RATE
        pitch = 440 * 2 ** ((note - 69) / 12)  # hertz
        tone = np.zeros(length, np.float32)
        for harmonic, amplitude in enumerate(HARMONICS, 1):
            if harmonic * pitch < RATE / 2:  # higher harmonics would alias
                tone += np.float32(amplitude) * np.sin(
                    np.float32(2 * np.pi * harmonic * pitch) * time
                )
        envelope = np.minimum(1, np.minimum(time / ATTACK, (length / RATE - time) / RELEASE))
        sound[first : first + length] += tone * envelope
    peak = np.abs(sound).max(initial=1e-9)
    samples = np.rint(sound / peak * 0.9 * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()
