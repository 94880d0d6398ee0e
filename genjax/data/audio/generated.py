"""Generate music in the form of the data sets that it stands in for."""

from __future__ import annotations

import json

import numpy as np

PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 1, 4, 0), (5, 3, 0, 4))  # degrees of a major scale
SCALE = (0, 2, 4, 5, 7, 9, 11)


def make_music() -> dict[str, bytes]:
    """Return the files of chorales and of tunes, by their places in the folder of data."""
    return _chorales() | _tunes()


def _chorales() -> dict[str, bytes]:
    """Write four voices over common chord progressions in random keys, as lists of MIDI notes."""
    draw = np.random.default_rng(3)

    def piece() -> list[list[int]]:
        tonic, steps = int(draw.integers(-5, 7)), []
        for _ in range(int(draw.integers(4, 12))):
            for degree in PROGRESSIONS[int(draw.integers(len(PROGRESSIONS)))]:
                triad = [(SCALE[(degree + k) % 7] + tonic) % 12 for k in (0, 2, 4)]
                voices = [48 + triad[0]]
                for lowest in (52, 57, 64):
                    tone = triad[int(draw.integers(3))]
                    voices.append(lowest + (tone - lowest) % 12)
                steps.append(sorted(set(voices)))
        return steps

    parts = {
        name: [piece() for _ in range(n)]
        for name, n in (("train", 90), ("valid", 20), ("test", 20))
    }
    fine = {
        name: [[s for s in p for _ in range(4)] for p in found] for name, found in parts.items()
    }
    voices = {  # a chord with fewer than four notes has its lowest twice
        name: [[[s[0]] * (4 - len(s)) + s for s in p] for p in found]
        for name, found in fine.items()
    }
    voices = {name: [[s[::-1] for s in p] for p in found] for name, found in voices.items()}
    return {
        "music/jsb_quarter.json.gz": json.dumps(parts).encode(),
        "music/jsb_16th.json.gz": json.dumps(fine).encode(),
        "music/jsb_16th_separated.json.gz": json.dumps(voices).encode(),
    }


def _tunes() -> dict[str, bytes]:
    """Write tunes of eight bars in ABC notation that walk up and down a scale."""
    draw = np.random.default_rng(5)
    names = "CDEFGABcdefgab"
    tunes = []
    for number in range(1, 121):
        at, bars = int(draw.integers(4, 10)), []
        for _ in range(8):
            bar = ""
            for _ in range(6):
                at = int(np.clip(at + draw.integers(-2, 3), 0, len(names) - 1))
                bar += names[at]
            bars.append(f'"{"CFG"[int(draw.integers(3))]}"{bar}')
        key = "CDGA"[int(draw.integers(4))]
        lines = "|".join(bars[:4]) + "|\n" + "|".join(bars[4:]) + "|\n"
        tunes.append(f"X:{number}\nT:Tune {number}\nM:6/8\nL:1/8\nK:{key}\n{lines}\n")
    return {"music/nottingham_abc/tunes.abc": "".join(tunes).encode()}
