"""Scores generated images with a plain reward function, and has one such function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.families.rewards import to_float32

# Images [N, H, W, C] and labels [N], or None, to numbers [N].
ImageReward = Callable[[np.ndarray, np.ndarray | None], Any]


def mirror_symmetry(images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Measure how similar images [N, H, W, C] in [-1, 1] are to their horizontal mirror images:
    [N], 1 for identical.

    It is 1 minus half the mean absolute difference, so 0 if every pixel is white opposite a black
    one.
    """
    return 1 - np.abs(images - images[:, :, ::-1]).mean((1, 2, 3)) / 2


def score_images(reward: ImageReward, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return the rewards of images, float32 [N].

    Args:
      reward: reward function.
      images: float32 [N, H, W, C], in [-1, 1].
      labels: int [N], requested labels; None for an unconditional model.

    Raises:
      UserError: the function raises, or returns another number of rewards or one that is not
          finite; the message names the sample, by its index from 0, and its label.
    """
    name = getattr(reward, "__name__", str(reward))
    try:
        found = to_float32(reward(images, labels))
    except Exception as error:
        which = _find_failing(reward, images, labels)
        raise UserError(
            f"the reward {name} failed{which}: {type(error).__name__}: {error}"
        ) from error
    if found.shape != (len(images),):
        raise UserError(
            f"the reward {name} must return one number per image, {len(images)}, got an array of "
            f"shape {list(found.shape)}; the first image is {_describe_sample(0, labels)}"
        )
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise UserError(
            f"the reward {name} must be finite, got {found[bad[0]]} for "
            f"{_describe_sample(int(bad[0]), labels)}"
        )
    return found


def _find_failing(reward: ImageReward, images: np.ndarray, labels: np.ndarray | None) -> str:
    """Name the image on which the reward fails alone; "" if it fails only on several together."""
    for i in range(len(images)):
        try:
            to_float32(reward(images[i : i + 1], None if labels is None else labels[i : i + 1]))
        except Exception:
            return f" on {_describe_sample(i, labels)}"
    return ""


def _describe_sample(i: int, labels: np.ndarray | None) -> str:
    return f"sample {i}" if labels is None else f"sample {i} of label {labels[i]}"
