"""What a plain function thinks of images that a model drew, and one such function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.families.rewards import numbers

ImageReward = Callable[
    [np.ndarray, np.ndarray | None], Any
]  # images [N, H, W, C] and labels [N] to numbers [N]


def mirror_symmetry(images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """How much images [N, H, W, C] in [-1, 1] are like their mirror images, left for right: [N], 1
    for the same.

    It is 1 less half the mean absolute difference, so 0 where every pixel is white opposite a black
    one.
    """
    return 1 - np.abs(images - images[:, :, ::-1]).mean((1, 2, 3)) / 2


def score_images(reward: ImageReward, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return the rewards [N] float32 of images.

    Args:
      reward: the function.
      images: float32 [N, H, W, C], in [-1, 1].
      labels: int [N], what was requested; None for an unconditional model.

    Raises:
      UserError: the function raises, gives another number of rewards, or one that is not a finite
        number; the sample is named, by its place from 0 on, and its label.
    """
    name = getattr(reward, "__name__", str(reward))
    try:
        found = numbers(reward(images, labels))
    except Exception as error:
        which = _find_failing(reward, images, labels)
        raise UserError(
            f"the reward {name} failed{which}: {type(error).__name__}: {error}"
        ) from error
    if found.shape != (len(images),):
        raise UserError(
            f"the reward {name} gives one number for each image, but for {len(images)} it gave an "
            "array of shape "
            f"{list(found.shape)}; the first is {_describe_sample(0, labels)}"
        )
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise UserError(
            f"the reward {name} is {found[bad[0]]} of {_describe_sample(int(bad[0]), labels)}"
        )
    return found


def _find_failing(reward: ImageReward, images: np.ndarray, labels: np.ndarray | None) -> str:
    """Which image it fails on alone; "" where it fails on several together only."""
    for i in range(len(images)):
        try:
            numbers(reward(images[i : i + 1], None if labels is None else labels[i : i + 1]))
        except Exception:
            return f" on {_describe_sample(i, labels)}"
    return ""


def _describe_sample(i: int, labels: np.ndarray | None) -> str:
    return f"sample {i}" if labels is None else f"sample {i} of label {labels[i]}"
