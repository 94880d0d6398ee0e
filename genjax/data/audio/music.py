"""Music in equal time steps, as tokens: the codec of the notes of each step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.audio.files import write_music
from genjax.data.audio.notes import TICKS, Frame
from genjax.data.text.codecs import check_ids, cut_at_end
from genjax.errors import UserError

END, STEP = 0, 1  # tokens of ChoraleCodec
SPECIAL = 2


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
        pieces = [self.decode(cut_at_end(row, END)) for row in np.asarray(samples)]
        return write_music(pieces, stem, self.steps_per_quarter, self.quarters_per_minute)
