"""Music in equal time steps, as tokens and as MIDI and WAV files."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.text.codecs import check_ids, cut_at_end
from genjax.errors import UserError

Frame = tuple[int, ...]  # MIDI notes that sound in a step, in descending order

END, STEP = 0, 1  # tokens of ChoraleCodec
SPECIAL = 2
TICKS = 480  # ticks per quarter in a MIDI file
VELOCITY = 80
RATE = 16_000  # samples per second in a WAV file
HARMONICS = (1.0, 0.5, 0.33, 0.2, 0.12)  # amplitudes, about those of a reed organ
ATTACK, RELEASE = 0.02, 0.06  # seconds
REST = 4  # silent steps between samples in one file


@checks.frozen
class ChoraleCodec:
    """Encodes each step as one token per note, from the highest down, and a token that ends it.

    Token 0 stands before and after a piece, and 1 ends a step; the other tokens are notes. A set of
    notes has exactly one encoding, so the likelihood of a step is the product of its tokens'.

    Attributes:
      lowest: MIDI note of token 2.
      highest: MIDI note of the last token.
      steps_per_quarter: steps in a quarter note.
      quarters_per_minute: tempo of playback.
    """

    lowest: int = 21
    highest: int = 108
    steps_per_quarter: int = 1
    quarters_per_minute: float = 90.0

    def __post_init__(self) -> None:
        checks.between(self, 0, 127, "lowest", "highest")
        checks.ordered(self, "lowest", "highest")
        checks.at_least(self, 1, "steps_per_quarter")
        checks.numbers(
            self, ("steps_per_quarter",), f"a divisor of {TICKS}", lambda x: TICKS % x == 0
        )
        checks.above(self, 0, "quarters_per_minute")

    @property
    def is_fitted(self) -> bool:
        return True

    @property
    def vocabulary(self) -> int:
        return SPECIAL + self.highest - self.lowest + 1

    @property
    def start(self) -> int:
        return END

    @property
    def end(self) -> int:
        return END

    @property
    def pad(self) -> None:
        return None

    @property
    def step(self) -> int:
        """The token that ends a step; a piece has as many of them as steps."""
        return STEP

    @property
    def shown(self) -> int:
        return 4

    @property
    def levels(self) -> None:
        return None

    def encode(self, frames: Iterable[Sequence[int]]) -> np.ndarray:
        """Convert the notes of each step to tokens [N] int32.

        Raises:
          UserError: a note is outside the codec's range.
        """
        ids: list[int] = []
        for number, frame in enumerate(frames):
            for note in sorted(set(frame), reverse=True):
                if not self.lowest <= note <= self.highest:
                    raise UserError(
                        f"notes must be from {self.lowest} to {self.highest}, got {note} in step "
                        f"{number:,}"
                    )
                ids.append(note - self.lowest + SPECIAL)
            ids.append(STEP)
        return np.array(ids, np.int32)

    def decode(self, ids: np.ndarray) -> list[Frame]:
        """Convert tokens [N] in any order to steps; notes after the last step form another one."""
        frames: list[Frame] = []
        notes: set[int] = set()
        for token in check_ids(ids, self.vocabulary).tolist():
            if token == STEP:
                frames.append(tuple(sorted(notes, reverse=True)))
                notes = set()
            elif token != END:
                notes.add(token - SPECIAL + self.lowest)
        return [*frames, tuple(sorted(notes, reverse=True))] if notes else frames

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write samples [N, T], each up to its first end: all one after another as MIDI and WAV,
        and the first ones as piano rolls.

        Returns:
          The path of the MIDI file.
        """
        # Pictures need what is above this module.
        from genjax.data.audio.files import write_music

        pieces = [self.decode(cut_at_end(row, END)) for row in np.asarray(samples)]
        return write_music(pieces, stem, self.steps_per_quarter, self.quarters_per_minute)


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
