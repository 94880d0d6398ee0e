"""Samples and data in the form that evaluators compare, computed once for all evaluators of a
``Subject``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genjax.errors import unknown_name
from genjax.evaluation.features.features import feature_space
from genjax.evaluation.judge import Part, Subject

BLOCK = 4096  # images of the data held as floats at once


def sample_images(subject: Subject, count: int) -> np.ndarray:
    """Draw samples [N, H, W, C], clipped to [-1, 1] as in their image files."""
    return np.clip(subject.draw_samples(count), -1, 1)


def sample_features(subject: Subject, features: str, count: int) -> np.ndarray:
    """Return features [N, F] of ``sample_images`` in the space named ``features``."""
    space = feature_space(subject, features)
    return subject.compute_once(
        ("features of samples", features, count), lambda: space(sample_images(subject, count))
    )


def data_part(subject: Subject, split: str, limit: int | None) -> Part:
    """Return a split, or ``limit`` images evenly spaced over it.

    Raises:
      UserError: the data have no such split.
    """
    if split not in subject.splits:
        raise unknown_name("split", split, subject.splits)
    return subject.select_part(limit, split)


def data_features(subject: Subject, features: str, split: str, limit: int | None) -> np.ndarray:
    """Return features [N, F] of ``data_part`` in the space named ``features``.

    Raises:
      UserError: the data have no such split.
    """
    part, space = data_part(subject, split, limit), feature_space(subject, features)
    return subject.compute_once(
        ("features", features, split, len(part)), lambda: map_images(space, part)
    )


def map_images(function: Callable[[np.ndarray], np.ndarray], part: Part) -> np.ndarray:
    """Apply ``function`` to the images of a part, block by block: [N, ...]."""
    blocks = np.array_split(np.arange(len(part)), -(-len(part) // BLOCK))
    return np.concatenate([function(part.batch(block)["image"]) for block in blocks])
