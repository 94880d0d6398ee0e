"""Read MIDI files in equal time steps, with symusic (the extra ``music``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax.data.audio.notes import SILENT, Frame
from genjax.errors import UserError

MOST_STEPS = 1_000_000  # of a file; more are a damaged one


class Notes(NamedTuple):
    """The notes of a file, without drums, [N] int64 each.

    Attributes:
      pitch: MIDI note.
      start: its start in steps, not rounded: float64 [N].
      stop: its end in steps, not rounded: float64 [N].
      drums: number of notes of drums that were left out.
    """

    pitch: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    drums: int


def read_notes(content: bytes, steps_per_quarter: int) -> Notes:
    """Read the notes of a MIDI file.

    Raises:
      ValueError: the file is damaged or holds no notes.
      UserError: symusic is missing.
    """
    try:
        from symusic import Score
    except ImportError as error:
        raise UserError("MIDI files need symusic: pip install 'genjax-train[music]'") from error
    try:
        score: Any = Score.from_midi(content)  # its own annotations lack its attributes
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"no MIDI file: {str(error).splitlines()[0]}") from error
    found, drums = [], 0
    for track in score.tracks:
        if track.is_drum:
            drums += len(track.notes)
        else:
            found += [(note.pitch, note.start, note.end) for note in track.notes]
    if not found:
        raise ValueError("it holds no notes" + " but those of drums" * (drums > 0))
    table = np.array(found, np.int64)
    scale = steps_per_quarter / score.ticks_per_quarter
    if table[:, 2].max() * scale > MOST_STEPS:
        raise ValueError(
            f"it must have <= {MOST_STEPS:,} steps, got {table[:, 2].max() * scale:,.0f}"
        )
    return Notes(table[:, 0], table[:, 1] * scale, table[:, 2] * scale, drums)


def round_notes(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Return the first step of each note and the one after its last, int64 [N]: rounded to the
    nearest, at least one step long.
    """
    start = np.floor(notes.start + 0.5).astype(np.int64)
    return start, np.maximum(np.floor(notes.stop + 0.5).astype(np.int64), start + 1)


def find_steps(notes: Notes) -> list[Frame]:
    """Return the notes that sound in each step, in descending order; silence before the first is
    left out.
    """
    start, stop = round_notes(notes)
    first = int(start.min())
    sounding: list[set[int]] = [set() for _ in range(int(stop.max()) - first)]
    for pitch, begin, end in zip(notes.pitch.tolist(), start - first, stop - first, strict=True):
        for step in range(begin, end):
            sounding[step].add(pitch)
    return [tuple(sorted(step, reverse=True)) for step in sounding]


def read_melody(path: Path, steps_per_quarter: int) -> np.ndarray:
    """Read a melody [S] of MIDI notes, -1 for silence; of several notes at once the highest.

    Raises:
      UserError: the file cannot be read or holds no notes, or a note starts between two steps.
    """
    try:
        notes = read_notes(path.expanduser().read_bytes(), steps_per_quarter)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"the melody {path} cannot be read: {why}", "melody") from error
    off = np.abs(notes.start - np.round(notes.start)) > 1e-6
    if off.any():
        at = float(notes.start[off].min())
        raise UserError(
            f"the melody's notes must start on steps, {steps_per_quarter} a quarter note, but "
            f"{int(off.sum()):,} of {len(off):,} do not, the first at {at:.3f} steps: quantise it",
            "melody",
        )
    return np.array([step[0] if step else SILENT for step in find_steps(notes)], np.int64)
