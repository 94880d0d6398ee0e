"""Plain functions that measure images: what designs are described, asked for and searched by.

They take images [N, H, W, C] in [-1, 1], of NumPy or JAX, and labels [N] or None, and return a
number for each image. Those that say so have gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

INK = 0.15  # of [0, 1]; a pixel above it belongs to the item, below it to the black around it
TORSO = 17  # of 28 pixels; an item with sleeves is at least this wide
FLARED = 1.25  # shoulders over hips, from which sleeves are short


def brightness(images: Any, labels: Any) -> Any:
    """Measure how bright what is drawn on black is: [N] in [0, 1]; has gradients.

    Pixels are weighted by themselves, so that the black around an item does not count.
    """
    x = ((images + 1) / 2).mean(-1)  # [N, H, W]
    return (x * x).sum((1, 2)) / (x.sum((1, 2)) + 1e-6)


def symmetry(images: Any, labels: Any) -> Any:
    """Measure how equal the two halves of what is drawn are: [N], 1 for mirror images; has
    gradients.

    It is 1 minus the difference of the image and its mirror image over their sum.
    """
    x = ((images + 1) / 2).mean(-1)
    return 1 - abs(x - x[:, :, ::-1]).sum((1, 2)) / (2 * x.sum((1, 2)) + 1e-6)


def narrowness(images: Any, labels: Any) -> Any:
    """Measure the share of what is drawn that lies in the middle 16 of 28 columns: [N] in [0, 1];
    has gradients.

    Sleeves lie outside of them.
    """
    x = ((images + 1) / 2).mean(-1)
    margin = round(x.shape[2] * 6 / 28)
    return x[:, :, margin:-margin].sum((1, 2)) / (x.sum((1, 2)) + 1e-6)


def sleeves(images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Tell by its outline whether a garment has no sleeves (0), short (1) or long ones (2): [N].

    One with sleeves is wide at the shoulders. Short sleeves end above the hips, where the outline
    is narrower; long ones hang down to them.
    """
    ink = (np.asarray(images) + 1).mean(-1) / 2 > INK  # [N, H, W]
    rows, width = ink.shape[1:]
    first, last = ink.argmax(2), width - 1 - ink[:, :, ::-1].argmax(2)
    extent = np.where(ink.any(2), last - first + 1, 0)  # [N, H]
    shoulders = extent[:, rows * 4 // 28 : rows * 12 // 28].max(1)
    hips = np.median(extent[:, rows * 18 // 28 : rows * 25 // 28], 1)
    flared = shoulders >= FLARED * np.maximum(hips, 1)
    wide = np.maximum(shoulders, hips) >= width * TORSO / 28
    return np.where(wide, np.where(flared, 1, 2), 0)


def bright_symmetrical_sleeveless(images: Any, labels: Any) -> Any:
    """Score a design brief: the mean of ``brightness``, ``symmetry`` and ``narrowness``, [N]; has
    gradients.
    """
    measured = [measure(images, labels) for measure in (brightness, symmetry, narrowness)]
    return sum(measured) / len(measured)
