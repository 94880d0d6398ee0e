"""Generated pictures with captions: coloured shapes with exactly known attributes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Batch, Dataset
from genjax.data.splits import DRAW, MOST_MADE, Arrays, array_fingerprint, dataset, digest
from genjax.data.stream import raw_bits
from genjax.data.text.hashed import HashedText
from genjax.errors import unknown_name

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 190, 70),
    "blue": (60, 90, 240),
    "yellow": (235, 215, 50),
    "purple": (160, 60, 200),
    "white": (240, 240, 240),
}
PLACES = {  # (down, across) in [0, 1]
    "at the top left": (0.31, 0.31),
    "at the top right": (0.31, 0.69),
    "at the bottom left": (0.69, 0.31),
    "at the bottom right": (0.69, 0.69),
    "in the middle": (0.5, 0.5),
}
SIZES = {"small": 0.16, "large": 0.25}  # the radius over the side
ATTRIBUTES = ("shape", "colour", "place", "size")
SENTENCES = 5  # sentences of ``write_captions``
NAME_ALL = (0, 1, 2)  # the sentences that name all attributes
FINER = 4  # points per axis at which each pixel's coverage is measured
HELD_OUT = 5  # one combination in HELD_OUT occurs only in the test split


class Scene(NamedTuple):
    """The content of a picture.

    Attributes:
      shape: one of ``SHAPES``.
      colour: one of ``COLOURS``.
      place: one of ``PLACES``.
      size: one of ``SIZES``.
      shift: (down, across) in pixels, which captions do not mention.
    """

    shape: str
    colour: str
    place: str
    size: str
    shift: tuple[int, int] = (0, 0)


SHIFTS = tuple((down, across) for down in (-1, 0, 1) for across in (-1, 0, 1))
COMBINATIONS = tuple(itertools.starmap(Scene, itertools.product(SHAPES, COLOURS, PLACES, SIZES)))


@checks.frozen
class CaptionedShapes:
    """Generates pictures of one shape on black, with a sentence about each, when opened.

    A picture has one of 240 combinations of shape, colour, place and size; the shape is shifted by
    up to a pixel. One combination in five occurs only in the test split, although each two of its
    attributes occur together in training: a model that draws them has learned the parts. Example i
    of a split depends only on the seed and i.

    Attributes:
      size: number of training pictures.
      test_size: number of test pictures.
      seed: seed of the pictures; a larger size keeps those of a smaller one.
      side: height and width in pixels.
      text: embedding of captions, such as ``HashedText``.
    """

    size: int = 8_000
    test_size: int = 1_000
    seed: int = 0
    side: int = 16
    text: Component = HashedText()

    def __post_init__(self) -> None:
        checks.between(self, 1, MOST_MADE, "size", "test_size")
        checks.at_least(self, 0, "seed")
        checks.between(self, 12, 1024, "side")
        checks.check_size(
            12.0 * (self.size + self.test_size) * self.side**2,
            f"pictures of {self.side} pixels a side",
            "size",
        )

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, side, side, 3], ``condition``
        float32 [B, text.width], the embedded captions, and ``label`` int32 [B], the shapes.
        """
        codec = ImageCodec(self.side, self.side, 3)
        arrays, scenes, captions = {}, {}, {}
        for split in ("train", "test"):
            scenes[split], captions[split] = zip(*self.make_examples(split), strict=True)
            label = np.array([SHAPES.index(scene.shape) for scene in scenes[split]], np.int32)
            arrays[split] = Arrays("image", render_scenes(scenes[split], self.side), label, codec)
        vectors = {
            caption: self.text.embed(caption)
            for caption in {c for part in captions.values() for c in part}
        }
        data = dataset(arrays, classes=len(SHAPES), fingerprint=array_fingerprint(arrays))
        conditions = {split: np.stack([vectors[c] for c in captions[split]]) for split in captions}
        return replace(
            data,
            splits={
                split: Captioned(data.splits[split], conditions[split], scenes[split])
                for split in arrays
            },
            spec=replace(data.spec, condition=self.text.width),
            fingerprint=digest([data.fingerprint.encode(), *(c.data for c in conditions.values())]),
        )

    def make_examples(
        self, split: str, forms: Sequence[int] = range(SENTENCES)
    ) -> list[tuple[Scene, str]]:
        """Return the content and the caption of each picture of a split, in order.

        Args:
          split: "train" or "test".
          forms: sentences of ``write_captions`` to choose captions from.
        """
        streams = {"train": (DRAW, self.size), "test": (DRAW + 1, self.test_size)}
        if split not in streams:
            raise unknown_name("split", split, streams)
        stream, count = streams[split]
        words = raw_bits(self.seed, stream, 4 * count).reshape(count, 4)
        uniform = (words >> np.uint64(11)) * 2.0**-53  # [N, 4] in [0, 1)
        pool = [scene for scene in COMBINATIONS if is_held_out(scene) == (split == "test")]
        found = []
        for which, down, across, sentence in uniform:
            scene = pool[int(which * len(pool))]._replace(
                shift=(int(3 * down) - 1, int(3 * across) - 1)
            )
            texts = write_captions(scene)
            found.append((scene, texts[forms[int(sentence * len(forms))]]))
        return found


@dataclass(frozen=True)
class Captioned:
    """A split with the embedded caption of each example.

    Attributes:
      whole: split of pictures and labels.
      condition: embedded captions float32 [N, D].
      scenes: content of each picture.
    """

    whole: Component
    condition: np.ndarray
    scenes: tuple[Scene, ...]

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.condition)

    def batch(self, indices: np.ndarray) -> Batch:
        return self.whole.batch(indices) | {"condition": self.condition[indices]}


def is_held_out(scene: Scene) -> bool:
    """Return whether a combination of attributes occurs only in the test split."""
    places = (SHAPES, tuple(COLOURS), tuple(PLACES), tuple(SIZES))
    return (
        sum(names.index(name) for names, name in zip(places, scene[:4], strict=True)) % HELD_OUT
        == 0
    )


def write_captions(scene: Scene) -> tuple[str, ...]:
    """Return the sentences that describe a scene; the last two do not mention its size."""
    shape, colour, place, size = scene[:4]
    return (
        f"a {size} {colour} {shape} {place}",
        f"{place} there is a {size} {colour} {shape}",
        f"the {shape} {place} is {size} and {colour}",
        f"a {colour} {shape} {place}",
        f"a picture of a {colour} {shape}, {place}",
    )


def attributes(caption: str) -> dict[str, str]:
    """Return the attributes that a sentence of ``write_captions`` names: "shape", "colour", "place"
    and perhaps "size"; {} for any other sentence.
    """
    return dict(_attributes().get(caption, {}))


@functools.cache
def _attributes() -> dict[str, dict[str, str]]:
    """Return the attributes of every possible sentence."""
    found = {}
    for scene in COMBINATIONS:
        named = {name: getattr(scene, name) for name in ATTRIBUTES}
        for form, caption in enumerate(write_captions(scene)):
            found[caption] = {
                name: value for name, value in named.items() if form in NAME_ALL or name != "size"
            }
    return found


def render_scenes(scenes: Sequence[Scene], side: int = 16) -> np.ndarray:
    """Draw scenes as uint8 [N, side, side, 3]; equal scenes are drawn once."""
    pictures = {scene: render(scene, side) for scene in set(scenes)}
    return np.stack([pictures[scene] for scene in scenes])


def render(scene: Scene, side: int = 16) -> np.ndarray:
    """Draw a scene as uint8 [side, side, 3], with smooth edges.

    Raises:
      UserError: an attribute does not exist.
    """
    for name, known in (("colour", COLOURS), ("place", PLACES), ("size", SIZES)):
        if getattr(scene, name) not in known:
            raise unknown_name(name, getattr(scene, name), known)
    fine = (np.arange(FINER * side) + 0.5) / FINER  # in pixels
    radius = SIZES[scene.size] * side
    down, across = (side * c + s for c, s in zip(PLACES[scene.place], scene.shift, strict=True))
    inside = _is_inside(
        scene.shape, (fine[:, None] - down) / radius, (fine[None] - across) / radius
    )
    share = inside.reshape(side, FINER, side, FINER).mean((1, 3))  # [side, side]
    return np.rint(share[..., None] * np.array(COLOURS[scene.colour])).astype(np.uint8)


def _is_inside(shape: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return which points y [N, 1], x [1, N] lie in a shape of radius 1 around 0, bool [N, N]."""
    match shape:
        case "circle":
            return x**2 + y**2 <= 1
        case "square":
            return np.maximum(abs(x), abs(y)) <= 0.85
        case "triangle":
            return (y <= 0.8) & (2 * abs(x) <= y + 1)
        case "cross":
            return (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1)
        case _:
            raise unknown_name("shape", shape, SHAPES)
