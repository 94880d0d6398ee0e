"""Counts faults of voice leading in sampled music beside those of held-out pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.audio.notes import SILENT, VOICES
from genjax.data.audio.rolls import draw_rolls
from genjax.data.audio.voices import VoiceCodec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.evaluation.music.pieces import draw_pieces, held_out_pieces
from genjax.families.autoregressive.autoregressive import Autoregressive

# The compass of each voice, as textbooks of harmony have it, in MIDI notes.
RANGES = {"soprano": (60, 79), "alto": (55, 74), "tenor": (48, 69), "bass": (40, 64)}
OCTAVE, FIFTH = 0, 7  # intervals modulo 12
LEAP = 9  # the largest melodic interval, in semitones, that is no leap, but for an octave
SHARE = 100.0  # counts are per so many changes of chord, or notes


@checks.frozen
class VoiceLeading(Evaluator):
    """Counts what textbooks of harmony call faults, in samples and in held-out pieces.

    Between each sounding chord and the next different one: ``parallel_fifths`` and
    ``parallel_octaves``, two voices that both move in one direction and form a perfect fifth, or
    an octave or unison, before and after; ``leaps``, voices that move by more than a major sixth
    but not an octave. In each chord: ``crossings``, voices that sound above their upper neighbour;
    ``out_of_range``, notes outside the voice's usual compass. All are per 100 chords. The same
    names with ``_held_out`` count Bach's own, who broke the rules where he saw fit.

    Attributes:
      samples: number of samples.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    samples: int = 16

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples")

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        if not isinstance(codec, VoiceCodec):
            raise UserError(f"VoiceLeading needs a VoiceCodec, got a {type(codec).__name__}")
        drawn = [piece for piece in draw_pieces(subject, self.samples) if len(piece)]
        real = held_out_pieces(subject)
        ours, theirs = count_faults(drawn), count_faults(real)
        numbers = ours | {f"{name}_held_out": value for name, value in theirs.items()}
        rolls = draw_rolls(
            [*drawn[:2], *real[:1]],
            codec.steps_per_quarter,
            [*["sample"] * len(drawn[:2]), f"a piece of {subject.split}"],
        )
        return Findings(
            numbers,
            {"rolls": rolls},
            f"{len(drawn):,} samples of {sum(map(len, drawn)):,} steps by "
            f"{subject.model.family.sampler}, {len(real):,} pieces of {subject.split}; per "
            f"{SHARE:.0f} chords",
        )


def count_faults(pieces: Sequence[np.ndarray]) -> dict[str, float]:
    """Return the faults of pieces [S, 4], per 100 chords; NaN without chords.

    Steps that repeat the one before them do not count: a chord is a step that differs from it.
    """
    names = ("parallel_fifths", "parallel_octaves", "leaps", "crossings", "out_of_range")
    total, chords = dict.fromkeys(names, 0), 0
    for piece in pieces:
        changes = np.r_[True, (piece[1:] != piece[:-1]).any(1)] if len(piece) else np.zeros(0, bool)
        steps = piece[changes]  # [C, 4]
        chords += len(steps)
        for name, count in _count_in_chords(steps).items():
            total[name] += count
    return {
        name: SHARE * count / chords if chords else float("nan") for name, count in total.items()
    }


def _count_in_chords(steps: np.ndarray) -> dict[str, int]:
    """Count the faults of successive different chords [C, 4]."""
    sounds = steps != SILENT
    before, after = steps[:-1], steps[1:]
    both = sounds[:-1] & sounds[1:]
    moved = np.where(both, after - before, 0)  # [C - 1, 4]
    found = {"parallel_fifths": 0, "parallel_octaves": 0}
    for upper in range(len(VOICES)):
        for lower in range(upper + 1, len(VOICES)):
            together = moved[:, upper] * moved[:, lower] > 0  # in one direction
            one, two = ((side[:, upper] - side[:, lower]) % 12 for side in (before, after))
            for name, interval in (("fifths", FIFTH), ("octaves", OCTAVE)):
                parallel = together & (one == interval) & (two == interval)
                found[f"parallel_{name}"] += int(parallel.sum())
    size = np.abs(moved)
    found["leaps"] = int(((size > LEAP) & (size != 12)).sum())
    above = sounds[:, :-1] & sounds[:, 1:] & (steps[:, :-1] < steps[:, 1:])
    found["crossings"] = int(above.sum())
    low, high = np.array([RANGES[voice] for voice in VOICES]).T
    found["out_of_range"] = int((sounds & ((steps < low) | (steps > high))).sum())
    return found
