"""The picture at the top of the README, and the program that draws it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import strip
from genjax.serial.config_places import find_config

ROOT = Path(__file__).parent.parent


def test_the_readme_shows_the_strip_of_these_tiles():
    assert "](docs/strip.png)" in (ROOT / "README.md").read_text(encoding="utf-8")
    path = ROOT / "docs" / "strip.png"
    assert path.stat().st_size < 300 * 1024
    with Image.open(path) as picture:
        blank = [Image.new("RGB", (strip.WIDTH, strip.HEIGHT))] * len(strip.TILES)
        assert picture.size == strip.lay_out(strip.TILES, blank).size
    assert len({tile.config for tile in strip.TILES}) == 6
    assert all(find_config(tile.config).stem == tile.config for tile in strip.TILES)


def test_pictures_lie_in_rows_above_their_captions():
    colours = [(i + 1, 0, 0) for i in range(6)]
    pictures = [Image.new("RGB", (strip.WIDTH, strip.HEIGHT), colour) for colour in colours]
    sheet = np.array(strip.lay_out(strip.TILES, pictures))
    starts = [tuple(np.argwhere((sheet == colour).all(-1))[0]) for colour in colours]
    across = strip.WIDTH + strip.MARGIN
    down = strip.HEIGHT + strip.CAPTION + strip.MARGIN
    assert starts == [
        (strip.MARGIN + row * down, strip.MARGIN + column * across)
        for row in range(2)
        for column in range(3)
    ]
    below = sheet[strip.MARGIN + strip.HEIGHT : down]
    assert (below != 255).any()


def test_a_note_that_sounds_on_is_one_bar():
    piece = np.array(strip.draw_piece([(72, 60), (72, 59), ()]))
    top, second = strip.VOICES[:2]
    row = 2 * strip.HEIGHT // strip.SEMITONES  # the highest note, below a margin
    assert (piece[row, :14] == top).all() and not (piece[row, 14:] == top).all(-1).any()
    lower = (piece == second).all(-1)
    assert lower[:, :6].any() and not lower[:, 6:8].any() and lower[:, 8:14].any()


def test_low_notes_and_silence_are_drawn_without_fail():
    for frames in ([], [()], [(127, 21)], [(60,)] * 1000):
        assert strip.draw_piece(frames).size == (strip.WIDTH, strip.HEIGHT)
