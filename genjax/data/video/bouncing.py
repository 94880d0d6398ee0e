"""Digits that move in straight lines and bounce off the edges, as in Moving MNIST."""

from __future__ import annotations

import numpy as np


def find_paths(start: np.ndarray, angle: np.ndarray, frames: int, step: float) -> np.ndarray:
    """Return the places of digits at each frame, in [0, 1]: float64 [..., T, 2].

    As Srivastava et al. (arXiv 1502.04681) make them: a place moves by ``step`` in a straight line
    before each frame; one that would leave the square stops at its edge and turns.

    Args:
      start: places before the first frame [..., 2], (row, column) in [0, 1].
      angle: directions in radians [...].
      frames: number of frames T.
      step: length of a step, as a share of the free path.
    """
    place = np.array(start, np.float64)
    velocity = np.stack([np.sin(angle), np.cos(angle)], -1)
    found = np.empty((*place.shape[:-1], frames, 2))
    for t in range(frames):
        place = place + step * velocity
        velocity = np.where((place <= 0) | (place >= 1), -velocity, velocity)
        place = np.clip(place, 0, 1)
        found[..., t, :] = place
    return found


def draw_clip(digits: np.ndarray, paths: np.ndarray, side: int) -> np.ndarray:
    """Draw digits uint8 [K, D, D] along paths [K, T, 2] on a black square; where they overlap, the
    brighter pixel shows: uint8 [T, side, side].
    """
    size = digits.shape[-1]
    corners = ((side - size) * paths).astype(np.int64)  # rounded down
    clip = np.zeros((paths.shape[1], side, side), np.uint8)
    for digit, places in zip(digits, corners, strict=True):
        for frame, (row, column) in zip(clip, places, strict=True):
            part = frame[row : row + size, column : column + size]
            np.maximum(part, digit, out=part)
    return clip


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """Reduce square images uint8 [N, D, D] to [N, size, size] by averaging areas."""
    if images.shape[-1] == size:
        return images
    from PIL import Image

    found = [Image.fromarray(one).resize((size, size), Image.Resampling.BOX) for one in images]
    return np.stack([np.asarray(one) for one in found])
