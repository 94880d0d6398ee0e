"""Write music to files: MIDI, WAV, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genjax.data.audio.notes import TICKS, Frame, find_frames, midi_bytes, wav_bytes
from genjax.data.audio.rolls import draw_rolls
from genjax.data.pictures import png_bytes
from genjax.machine import disk

REST = 4  # silent steps between pieces in one file


def write_music(
    pieces: Sequence[np.ndarray | list[Frame]],
    stem: Path,
    steps_per_quarter: int,
    quarters_per_minute: float,
) -> Path:
    """Write pieces one after another as MIDI and WAV, and the first ones as piano rolls.

    Args:
      pieces: the notes of each step, or voices [S, 4] of MIDI notes, -1 for silence.
      stem: path without suffix; its folder is made.
      steps_per_quarter: steps in a quarter note.
      quarters_per_minute: tempo.

    Returns:
      The path of the MIDI file.
    """
    frames: list[Frame] = []
    for piece in pieces:
        steps = find_frames(piece) if isinstance(piece, np.ndarray) else piece
        frames += [()] * REST * bool(frames) + steps
    seconds = 60 / quarters_per_minute / steps_per_quarter
    stem.parent.mkdir(parents=True, exist_ok=True)
    disk.write(stem.parent / f"{stem.name}.wav", wav_bytes(frames, seconds))
    disk.write(stem.parent / f"{stem.name}.png", png_bytes(draw_rolls(pieces, steps_per_quarter)))
    path = stem.parent / f"{stem.name}.mid"
    ticks = TICKS // steps_per_quarter
    disk.write(path, midi_bytes(frames, ticks, quarters_per_minute))
    return path
