"""Motion of clips: places and speeds of what is bright, and shifts of blocks between frames.

All functions take grey frames as floats in [0, 1], black 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

LEAST = 1e-3  # squared brightness of a block below which it holds nothing to find


class Matches(NamedTuple):
    """Blocks of frames, found again in other frames.

    Attributes:
      shift: length in pixels of the shift that fits best, [..., h, w].
      error: squared error that it leaves, summed over the block.
      power: squared brightness of the block.
    """

    shift: np.ndarray
    error: np.ndarray
    power: np.ndarray

    @property
    def lost(self) -> np.ndarray:
        """Which blocks no shift explains better than a black block does, of those that hold
        anything.
        """
        return (self.power > LEAST) & (self.error >= self.power)


def match_blocks(frames: np.ndarray, others: np.ndarray, block: int, reach: int) -> Matches:
    """Find every block of frames [..., H, W] in others of the same shape, moved by up to ``reach``
    pixels in each direction; of shifts that fit equally the shortest.
    """
    *lead, height, width = frames.shape
    down, across = height // block, width // block
    cut = frames[..., : down * block, : across * block]
    spread = [(0, 0)] * len(lead) + [(reach, reach), (reach, reach)]
    padded = np.pad(others, spread)
    grid = (*lead, down, block, across, block)
    best = np.full((*lead, down, across), np.inf)
    length = np.zeros_like(best)
    span = range(-reach, reach + 1)
    for dy, dx in sorted(((y, x) for y in span for x in span), key=lambda s: math.hypot(*s)):
        rows = slice(reach + dy, reach + dy + down * block)
        columns = slice(reach + dx, reach + dx + across * block)
        moved = padded[..., rows, columns]
        error = np.square(cut - moved).reshape(grid).sum((-3, -1), dtype=np.float64)
        better = error < best - 1e-9
        best, length = np.where(better, error, best), np.where(better, math.hypot(dy, dx), length)
    power = np.square(cut).reshape(grid).sum((-3, -1), dtype=np.float64)
    return Matches(length, best, power)


def measure_motion_error(
    true: np.ndarray, predicted: np.ndarray, block: int, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute how far predicted frames [N, T, H, W] are from true ones in pixels, and the share of
    what is bright that they lost: two of [T].

    The first is the mean shift that finds a block of the true frame in the predicted one, weighted
    by the block's squared brightness; blocks that are lost do not count in it. NaN if all are.
    """
    found = match_blocks(true, predicted, block, reach)
    over = (0, 2, 3)
    kept = np.where(found.lost, 0, found.power)
    total = found.power.sum(over)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = (found.shift * kept).sum(over) / kept.sum(over)
        lost = np.where(found.lost, found.power, 0).sum(over) / total
    return error, lost


def find_centres(frames: np.ndarray) -> np.ndarray:
    """Return the centre of brightness of frames [..., H, W] in pixels, [..., 2]; the middle of
    black ones.
    """
    height, width = frames.shape[-2:]
    total = frames.sum((-2, -1), dtype=np.float64)
    rows = (frames.sum(-1, dtype=np.float64) * np.arange(height)).sum(-1)
    columns = (frames.sum(-2, dtype=np.float64) * np.arange(width)).sum(-1)
    safe = np.maximum(total, 1e-6)
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    centre = np.stack([rows / safe, columns / safe], -1)
    return np.where(total[..., None] > 1e-6, centre, middle)


def describe_clips(clips: np.ndarray, block: int, reach: int) -> dict[str, np.ndarray]:
    """Describe the motion of clips [N, T, H, W], T >= 3: numbers [N] by name.

    ``brightness`` is the mean brightness of the frames, and ``flicker`` the mean change of it from
    one frame to the next as a share of it; ``speed`` and ``acceleration`` are the mean lengths of
    the first and second differences of the centre of brightness, in pixels; ``spread`` is the root
    mean square distance of brightness from the centre, in pixels; ``unexplained`` the share of
    squared brightness that remains when each block of a frame is found in the frame before.
    """
    light = clips.sum((-2, -1), dtype=np.float64)  # [N, T]
    centre = find_centres(clips)
    speed = np.diff(centre, axis=1)
    places = np.stack(
        np.meshgrid(np.arange(clips.shape[2]), np.arange(clips.shape[3]), indexing="ij"), -1
    )
    away = np.square(places[None, None] - centre[:, :, None, None]).sum(-1)  # [N, T, H, W]
    spread = np.sqrt((away * clips).sum((-2, -1)) / np.maximum(light, 1e-6)).mean(1)
    found = match_blocks(clips[:, 1:], clips[:, :-1], block, reach)
    error, power = found.error.sum((1, 2, 3)), found.power.sum((1, 2, 3))
    return {
        "brightness": light.mean(1) / math.prod(clips.shape[2:]),
        "flicker": (np.abs(np.diff(light, axis=1)) / np.maximum(light[:, 1:], 1e-6)).mean(1),
        "speed": np.linalg.norm(speed, axis=-1).mean(1),
        "acceleration": np.linalg.norm(np.diff(speed, axis=1), axis=-1).mean(1),
        "spread": spread,
        "unexplained": error / np.maximum(power, 1e-6),
    }
