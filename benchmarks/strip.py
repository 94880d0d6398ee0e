"""Draw the picture at the top of the README: samples of six models, each from one run.

    python -m genjax train flow_flowers              # and likewise each config of TILES
    python -m benchmarks.strip                       # reads runs/, writes docs/strip.png
    python -m benchmarks.strip --runs elsewhere --seed 1 --out strip.png

Nothing is chosen by hand: a tile shows the first samples of the seed. For docs/strip.png
`dcgan_mnist` was stopped after 3,000 of 5,000 steps and `music_jsb` was trained with
`--steps 400`; the others were trained to their ends.
"""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image, ImageDraw, ImageFont

import genjax
from genjax.data.audio.notes import Frame
from genjax.runs.run import Run

COLUMNS = 3
WIDTH, HEIGHT = 384, 192  # of a tile, in pixels
MARGIN, CAPTION = 12, 46  # around a tile; below it
INK, PALE, PAPER = (24, 24, 32), (104, 104, 116), (255, 255, 255)
SEMITONES = 48  # that a tile of music shows
VOICES = (
    (255, 179, 71),
    (255, 105, 120),
    (120, 160, 255),
    (110, 215, 170),
)

PROMPTS = (
    "a large red circle at the top left",
    "a small blue square in the middle",
    "a large yellow triangle at the bottom right",
    "a large green cross at the top right",
    "a small purple circle at the bottom left",
    "a large white square at the bottom left",
)


@dataclass(frozen=True)
class Tile:
    """Samples of one run.

    Attributes:
      family: as a reader calls it.
      config: that was trained; its run bears this name.
      draw: the run and a seed to the picture [HEIGHT, WIDTH] of its samples.
    """

    family: str
    config: str
    draw: Callable[[Run, int], Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/strip.png"))
    args = parser.parse_args()
    pictures = [tile.draw(genjax.load(args.runs / tile.config), args.seed) for tile in TILES]
    lay_out(TILES, pictures).save(args.out, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KB")


def lay_out(tiles: Sequence[Tile], pictures: Sequence[Image.Image]) -> Image.Image:
    """One picture of the tiles with their captions, ``COLUMNS`` in a row."""
    rows = -(-len(tiles) // COLUMNS)
    wide, high = WIDTH + MARGIN, HEIGHT + CAPTION + MARGIN
    sheet = Image.new("RGB", (COLUMNS * wide + MARGIN, rows * high), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        left, top = MARGIN + i % COLUMNS * wide, MARGIN + i // COLUMNS * high
        sheet.paste(picture, (left, top))
        draw.text((left, top + HEIGHT + 6), tile.family, INK, ImageFont.load_default(17))
        draw.text((left, top + HEIGHT + 26), tile.config, PALE, ImageFont.load_default(13))
    return sheet


def draw_images(rows: int) -> Callable[[Run, int], Image.Image]:
    """Return a tile of ``rows`` rows of images, as many as fit beside each other."""

    def draw(run: Run, seed: int) -> Image.Image:
        side = HEIGHT // rows
        columns = WIDTH // side
        images = run.codec.decode(run.sample(rows * columns, seed))  # uint8 [N, H, W, C]
        tile = Image.new("RGB", (WIDTH, HEIGHT))
        for i, image in enumerate(images):
            cell = Image.fromarray(image.squeeze()).convert("RGB")
            place = (i % columns * side, i // columns * side)
            tile.paste(cell.resize((side, side), Image.Resampling.BICUBIC), place)
        return tile

    return draw


def draw_prompts(run: Run, seed: int) -> Image.Image:
    """Return a tile of one picture for each of ``PROMPTS``, above the prompt."""
    columns, wide, side = 3, WIDTH // 3, 64
    tile = Image.new("RGB", (WIDTH, HEIGHT), (36, 38, 48))
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(10)
    for i, prompt in enumerate(PROMPTS):
        (image,) = run.codec.decode(run.sample(1, seed, run.family.sampler.with_prompts((prompt,))))
        left, top = i % columns * wide, i // columns * HEIGHT // 2
        cell = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
        tile.paste(cell, (left + (wide - side) // 2, top + 3))
        for line, words in enumerate(textwrap.wrap(prompt, 24)):
            place = (left + wide // 2, top + side + 5 + 12 * line)
            draw.text(place, words, (190, 190, 200), font, anchor="ma")
    return tile


def draw_text(run: Run, seed: int) -> Image.Image:
    """Return a tile of the beginning of one text."""
    options = dataclasses.replace(run.family.sampler, steps=480, temperature=0.8)
    (tokens,) = run.sample(1, seed, options)
    text = str(run.codec.decode(tokens)).lstrip()
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 58) or [""]]
    tile = Image.new("RGB", (WIDTH, HEIGHT), (250, 246, 236))
    font = ImageFont.load_default(13)
    ImageDraw.Draw(tile).multiline_text((12, 10), "\n".join(lines[:11]), INK, font, spacing=3)
    return tile


def draw_music(run: Run, seed: int) -> Image.Image:
    """Return a tile of one piece."""
    (tokens,) = run.sample(1, seed)
    return draw_piece(cast(Sequence[Frame], run.codec.decode(tokens)))


def draw_piece(frames: Sequence[Frame]) -> Image.Image:
    """Return a tile of the beginning of a piece: steps to the right, higher notes higher.

    Each voice has its colour, and a note that sounds on is one bar.
    """
    wide, high = 8, HEIGHT // SEMITONES
    shown = frames[: WIDTH // wide]
    highest = max((max(frame, default=0) for frame in shown), default=0) + 2
    tile = Image.new("RGB", (WIDTH, HEIGHT), (22, 24, 34))
    draw = ImageDraw.Draw(tile)
    for step, frame in enumerate(shown):
        after = frames[step + 1] if step + 1 < len(frames) else ()
        for note, colour in zip(frame, VOICES, strict=False):
            x, y = step * wide, (highest - note) * high
            draw.rectangle((x, y, x + wide - (1 if note in after else 3), y + high - 1), colour)
    return tile


TILES = (
    Tile("Flow matching: generated flowers", "flow_flowers", draw_images(4)),
    Tile("GAN: MNIST", "dcgan_mnist", draw_images(4)),
    Tile("VAE of two layers: MNIST", "hvae_mnist", draw_images(4)),
    Tile("Diffusion: pictures from text", "text_to_shapes", draw_prompts),
    Tile("Transformer: Shakespeare, by the character", "gpt_shakespeare_best", draw_text),
    Tile("Transformer: chorales after Bach, as notes", "music_jsb", draw_music),
)


if __name__ == "__main__":
    main()
