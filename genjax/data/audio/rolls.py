"""Draw music as piano rolls: time to the right, pitch upwards, a bar for each held note."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.data.audio.notes import SILENT, VOICES, Frame, find_notes
from genjax.data.charts import figure_pixels, new_figure

COLOURS = ("tab:red", "tab:orange", "tab:green", "tab:blue")  # soprano, alto, tenor, bass
SHOWN = 4  # pieces in a picture
STEPS = 256  # of a piece that are shown
NO_VOICE = "0.3"  # grey of notes whose voice is unknown

Bars = list[tuple[str, int, int, int]]  # colour, note, first step, step after the last


def draw_rolls(
    pieces: Sequence[np.ndarray | Sequence[Frame]],
    steps_per_quarter: int,
    titles: Sequence[str] = (),
) -> np.ndarray:
    """Draw the first pieces below one another, uint8 [H, W, 3].

    Args:
      pieces: voices [S, 4] of MIDI notes, -1 for silence, or the notes of each step.
      steps_per_quarter: steps in a quarter note; lines mark every fourth quarter.
      titles: a title for each piece.
    """
    shown = list(pieces)[:SHOWN]
    figure = new_figure(9, 0.4 + 1.7 * max(len(shown), 1), dpi=80)
    panels = figure.subplots(max(len(shown), 1), squeeze=False)[:, 0]
    for number, (axes, piece) in enumerate(zip(panels, shown, strict=False)):
        bars = find_bars(piece[:STEPS])
        for colour, note, first, stop in bars:
            axes.broken_barh([(first, stop - first)], (note - 0.45, 0.9), color=colour, lw=0)
        notes = [note for _, note, _, _ in bars] or [60]
        steps = max(len(piece[:STEPS]), 1)
        axes.set(xlim=(0, steps), ylim=(min(notes) - 2, max(notes) + 2), ylabel="MIDI note")
        axes.set_xticks(range(0, steps + 1, 4 * steps_per_quarter))
        axes.tick_params(labelsize=7)
        axes.grid(axis="x", color="0.85", lw=0.6)
        axes.set_axisbelow(True)
        if number < len(titles):
            axes.set_title(titles[number], fontsize=8, loc="left")
    panels[-1].set_xlabel("steps" if steps_per_quarter != 4 else "sixteenths", fontsize=8)
    return figure_pixels(figure)


def find_bars(piece: np.ndarray | Sequence[Frame]) -> Bars:
    """Return the held notes of a piece with their colours; without voices all are grey."""
    if not isinstance(piece, np.ndarray):
        return [(NO_VOICE, *note) for note in find_notes(piece)]
    bars: Bars = []
    for voice in range(len(VOICES)):
        line = [() if note == SILENT else (note,) for note in piece[:, voice].tolist()]
        bars += [(COLOURS[voice], *note) for note in find_notes(line)]
    return bars
