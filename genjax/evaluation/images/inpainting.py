"""Shows how a diffusion model inpaints missing parts of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.pictures import grid
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.diffusion.applications import fill_in
from genjax.families.diffusion.diffusion import Diffusion

Region = Literal["left", "right", "top", "bottom", "centre"]


@checks.frozen
class Inpainting(Evaluator):
    """Inpaints held-out images, one per row: the image, its known part (the rest grey), and several
    fills.

    ``known_error`` is the largest deviation of a fill from its image at a known pixel, in units of
    [-1, 1]; it should be 0. ``filled_error`` is the root mean square error of the mean of an
    image's fills at its missing pixels, to be compared with ``mean_error``, that of the mean
    training image, and ``neighbour_error``, that of the training image whose known pixels are the
    nearest, of ``neighbours``. A conditional model inpaints unconditionally.

    Attributes:
      examples: number of images, evenly spaced over the split.
      fills: fills per image.
      region: missing part: the "left", "right", "top" or "bottom" half, or the "centre" with half
          the height and width.
    """

    judges: ClassVar[tuple[type, ...]] = (Diffusion,)
    images_only: ClassVar[bool] = True

    examples: int = 8
    fills: int = 4
    region: Region = "left"
    neighbours: int = 5_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "examples", "fills", "neighbours")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if family.conditioned and not family.drop_label:
            raise UserError(
                "family.drop_label must be > 0 for Inpainting, which needs the unconditional model",
                "family.drop_label",
            )

    def __call__(self, subject: Subject) -> Findings:
        model = subject.model
        images = subject.take_examples(self.examples)["image"]
        known = make_mask(self.region, *images.shape[1:3])
        options = model.family.sampler
        if model.family.conditioned:
            options = dataclasses.replace(options, guidance_scale=0.0, label=None, prompt=None)
        compiled = subject.layout.compile_evaluation(fill_in, static_argnums=(0, 5))
        wanted = images.repeat(self.fills, axis=0)  # [N * fills, H, W, C]
        filled = np.asarray(
            compiled(model.family, model.state, subject.key, wanted, known, options)
        )
        error = float(np.abs(known * (filled - wanted)).max())
        fills = filled.reshape(len(images), self.fills, *images.shape[1:])
        rows = [images[:, None], (known * images)[:, None], fills]
        others = subject.take_examples(self.neighbours, "train")["image"]
        guesses = {
            "filled": fills.mean(1),
            "mean": np.asarray(model.spec.mean)[None],
            "neighbour": others[find_nearest(images, others, known)],
        }
        numbers = {
            f"{name}_error": compute_missing_error(guess, images, known)
            for name, guess in guesses.items()
        }
        cells = np.concatenate(rows, axis=1)  # [N, 2 + fills, H, W, C]
        picture = grid(
            model.codec.decode(cells.reshape(-1, *images.shape[1:])), columns=cells.shape[1]
        )
        return Findings(
            {"known_error": error, **numbers},
            {"inpainting": picture},
            f"{len(images):,} images of {subject.split}, {self.fills} fills each of the "
            f"{self.region}, by {options}; neighbours among {len(others):,} training images",
        )


def find_nearest(images: np.ndarray, others: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return for each image [N, H, W, C] which of the others [M, H, W, C] is the nearest in its
    known pixels: int [N].
    """
    ours, theirs = ((known * x).reshape(len(x), -1) for x in (images, others))
    return (np.square(theirs).sum(1)[None] - 2 * ours @ theirs.T).argmin(1)


def compute_missing_error(guess: np.ndarray, images: np.ndarray, known: np.ndarray) -> float:
    """Return the root mean square difference of guesses [N, H, W, C] and images, in units of [-1,
    1], over the pixels that are not known.
    """
    missing = np.broadcast_to(1 - known, images.shape)
    return float(np.sqrt((missing * np.square(guess - images)).sum() / missing.sum()))


def make_mask(region: Region, height: int, width: int) -> np.ndarray:
    """Return a mask, float32 [1, H, W, 1]: 1 at known pixels and 0 in the missing region."""
    across, down = slice(None), slice(None)
    missing = {
        "left": (down, slice(width // 2)),
        "right": (down, slice(width - width // 2, None)),
        "top": (slice(height // 2), across),
        "bottom": (slice(height - height // 2, None), across),
        "centre": (
            slice(height // 4, height // 4 + height // 2),
            slice(width // 4, width // 4 + width // 2),
        ),
    }
    known = np.ones((1, height, width, 1), np.float32)
    known[(0, *missing[region])] = 0
    return known
