"""Music of four voices in equal time steps, as tokens and as files.

The order of the tokens is TonicNet's (Peracha, arXiv 1911.11775): soprano, bass, alto, tenor, and
before them, if wanted, the chord that the four form.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.audio.files import write_music
from genjax.data.audio.notes import SILENT, TICKS, VOICES
from genjax.data.text.codecs import check_ids, cut_at_end
from genjax.errors import UserError

ORDER = (0, 3, 1, 2)  # columns in the order of the tokens

END, REST, FIRST_NOTE = 0, 1, 2  # tokens
QUALITIES = ((4, 7), (3, 7), (3, 6), (4, 8))  # major, minor, diminished, augmented: above the root
OTHER = 12 * len(QUALITIES)  # chords of no such quality; the one after it is silence
CHORDS = OTHER + 2


@checks.frozen
class VoiceCodec:
    """Encodes each step as one token per voice: soprano, bass, alto, tenor.

    Token 0 stands before and after a piece, 1 is a silent voice, then come the notes, and with
    ``chords`` 50 chords: 12 roots (C first) of each of four qualities (major, minor, diminished,
    augmented), other chords, and silence. A chord follows from the notes of its step, see
    ``name_chord``. So -log p of a step with its chord is at least that of its notes alone, and no
    more for a model that knows the rule: nats per step compare models with and without chords.

    Attributes:
      lowest: MIDI note of token 2.
      highest: MIDI note of the last note token.
      chords: whether a token for the chord comes before the four of each step.
      steps_per_quarter: steps in a quarter note.
      quarters_per_minute: tempo of playback.
    """

    lowest: int = 36
    highest: int = 81
    chords: bool = False
    steps_per_quarter: int = 4
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
    def first_chord(self) -> int:
        """The token after the last note, that of C major if there are chords."""
        return FIRST_NOTE + self.highest - self.lowest + 1

    @property
    def vocabulary(self) -> int:
        return self.first_chord + CHORDS * self.chords

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
    def per_step(self) -> int:
        """Tokens of a step."""
        return len(ORDER) + self.chords

    @property
    def shown(self) -> int:
        return 4

    @property
    def levels(self) -> None:
        return None

    def encode(self, piece: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
        """Convert a piece [S, 4] of MIDI notes, -1 for silence, to tokens [S * per_step] int32.

        Raises:
          UserError: a step has not four voices, or a note is outside the codec's range.
        """
        try:
            notes = np.asarray(piece, np.int64).reshape(len(piece), -1)
        except (ValueError, OverflowError):
            notes = np.zeros((len(piece), 0), np.int64)
        if len(piece) and notes.shape[1] != len(VOICES):
            raise UserError(f"each step must have {len(VOICES)} voices")
        notes = notes.reshape(-1, len(VOICES))
        bad = (notes != SILENT) & ((notes < self.lowest) | (notes > self.highest))
        if bad.any():
            step, voice = np.argwhere(bad)[0]
            raise UserError(
                f"notes must be from {self.lowest} to {self.highest}, got {notes[step, voice]} of "
                f"the {VOICES[voice]} in step {step:,}"
            )
        tokens = self._encode_notes(notes[:, ORDER])
        if self.chords:
            named = [name_chord(tuple(step)) for step in notes.tolist()]
            chord = np.array(named, np.int64).reshape(-1, 1) + self.first_chord
            tokens = np.concatenate([chord, tokens], 1)
        return tokens.reshape(-1).astype(np.int32)

    def _encode_notes(self, notes: np.ndarray) -> np.ndarray:
        return np.where(notes == SILENT, REST, notes - self.lowest + FIRST_NOTE)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Convert tokens [N] to a piece [S, 4] of MIDI notes, -1 for silence.

        A start token at the front is left out, and so is an incomplete last step. What is no note
        at the place of a voice, as a sample may have it, is silence.
        """
        ids = check_ids(ids, self.vocabulary)
        ids = ids[1:] if len(ids) and ids[0] == END else ids
        steps = ids[: len(ids) // self.per_step * self.per_step].reshape(-1, self.per_step)
        tokens = steps[:, self.chords :]
        notes = np.full(tokens.shape, SILENT, np.int64)
        sounds = (tokens >= FIRST_NOTE) & (tokens < self.first_chord)
        notes[:, ORDER] = np.where(sounds, tokens - FIRST_NOTE + self.lowest, SILENT)
        return notes

    def read_samples(self, samples: np.ndarray) -> list[np.ndarray]:
        """Return the piece [S, 4] of each sample [N, T], up to its first end."""
        return [self.decode(cut_at_end(row, END)) for row in np.asarray(samples)]

    def place_melody(self, melody: np.ndarray) -> np.ndarray:
        """Return tokens int32 [S * per_step + 1] with the soprano [S] at its places, an end after
        them, and -1 where a token is open.

        Raises:
          UserError: a note is outside the codec's range, or there is none.
        """
        melody = np.asarray(melody, np.int64)
        if not (melody != SILENT).any():
            raise UserError("the melody must have at least one note", "melody")
        outside = melody[(melody != SILENT) & ((melody < self.lowest) | (melody > self.highest))]
        if len(outside):
            raise UserError(
                f"the melody's notes must be from {self.lowest} to {self.highest}, got "
                f"{outside[0]}: transpose it first",
                "melody",
            )
        steps = np.full((len(melody), self.per_step), -1, np.int32)
        steps[:, int(self.chords)] = self._encode_notes(melody)
        return np.append(steps.reshape(-1), np.int32(END))

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write samples [N, T], each up to its first end: all one after another as MIDI and WAV,
        and the first ones as piano rolls.

        Returns:
          The path of the MIDI file.
        """
        pieces = self.read_samples(samples)
        return write_music(pieces, stem, self.steps_per_quarter, self.quarters_per_minute)


@functools.lru_cache(maxsize=65_536)
def name_chord(step: tuple[int, ...]) -> int:
    """Return the chord of the notes of a step: 12 * quality + root, or 48 for another chord, or 49
    for silence.

    The root is that of a triad among the pitch classes, or else of a third if there are only two,
    counting up from the lowest note: the bass if it is a root, else the next above it.
    """
    sounding = [note for note in step if note != SILENT]
    if not sounding:
        return OTHER + 1
    bass, classes = min(sounding), {note % 12 for note in sounding}
    for size in (2, 1):  # the intervals above the root that must sound
        for root in ((bass + up) % 12 for up in range(12)):
            for quality, intervals in enumerate(QUALITIES):
                if size == 1 and (quality > 1 or len(classes) > 2):
                    continue
                if root in classes and all((root + i) % 12 in classes for i in intervals[:size]):
                    return 12 * quality + root
    return OTHER
