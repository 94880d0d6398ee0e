"""Generated pictures of flowers, in colour."""

from __future__ import annotations

import numpy as np

from genjax import checks
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset
from genjax.data.splits import DRAW, MOST_MADE, Arrays, array_fingerprint, dataset
from genjax.data.stream import raw_bits

PETALS = (3, 4, 5, 6, 7, 8)  # number of petals for each label
CHOICES = 18  # random numbers used for a flower
GROUNDS = ((0.56, 0.64), (0.30, 0.40), (0.68, 0.78))  # hues: evening, meadow, night


@checks.frozen
class Flowers:
    """Generates flowers on a dark background when opened: two rings of petals, a centre and two
    leaves.

    The label gives the number of petals in a ring: 3 for label 0 to 8 for label 5. The first petal
    points roughly upwards. Shape and hue of the petals, position and size of the flower, leaves and
    background vary. Example i of a split depends only on the seed and i.

    Attributes:
      size: number of training pictures.
      test_size: number of test pictures.
      seed: seed of the pictures; a larger size keeps those of a smaller one.
      side: height and width in pixels.
    """

    size: int = 8_000
    test_size: int = 1_000
    seed: int = 0
    side: int = 32

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
        """Open the data set; batches hold ``image`` float32 [B, side, side, 3] and ``label`` int32
        [B].
        """
        codec = ImageCodec(self.side, self.side, 3)
        splits = {
            name: Arrays("image", *self._draw(stream, count), codec)
            for name, stream, count in (
                ("train", DRAW, self.size),
                ("test", DRAW + 1, self.test_size),
            )
        }
        return dataset(splits, classes=len(PETALS), fingerprint=array_fingerprint(splits))

    def _draw(self, stream: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw ``count`` pictures uint8 [N, side, side, 3] and their labels int32 [N]."""
        words = raw_bits(self.seed, stream, CHOICES * count).reshape(count, CHOICES)
        chosen = (words >> np.uint64(11)) * 2.0**-53  # [N, CHOICES] in [0, 1)
        pictures = np.empty((count, self.side, self.side, 3), np.uint8)
        rows = max(1, 2**17 // self.side**2)  # in chunks: pictures are drawn in float64
        for i in range(0, count, rows):
            pictures[i : i + rows] = render_flowers(chosen[i : i + rows], self.side)
        return pictures, _labels(chosen)


def render_flowers(chosen: np.ndarray, side: int) -> np.ndarray:
    """Draw flowers as uint8 [N, side, side, 3], with smooth edges.

    Args:
      chosen: random choices for each flower, float64 [N, CHOICES] in [0, 1).
      side: height and width in pixels.
    """
    c = chosen.T[:, :, None, None]  # [CHOICES, N, 1, 1]
    petals = np.array(PETALS)[_labels(chosen)][:, None, None]
    grid = (np.arange(side) + 0.5) / side * 2 - 1
    y, x = grid[:, None] - 0.24 * (c[1] - 0.5), grid - 0.24 * (c[2] - 0.5)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    pixel = 2 / side

    ground = np.choose((3 * c[3]).astype(int), [a + (b - a) * c[4] for a, b in GROUNDS])
    above = _colour(ground, 0.5 + 0.2 * c[5], 0.18 + 0.3 * c[6])
    below = _colour(ground - 0.06, 0.6 + 0.2 * c[5], 0.08 + 0.15 * c[6])
    share = (grid[:, None, None] + 1) / 2
    picture = np.broadcast_to((1 - share) * above + share * below, (len(chosen), side, side, 3))

    leaning = np.pi * (c[7] / 2 - 0.35)
    along = x * np.cos(leaning) + y * np.sin(leaning)
    across = abs(y * np.cos(leaning) - x * np.sin(leaning))
    width = 0.5 * abs(along) * (1 - along**2) - pixel / 2
    green = _colour(0.27 + 0.1 * c[8], 0.6 + 0 * c[8], 0.35 + 0.25 * c[8])
    ribbed = green * (0.75 + 0.25 * np.cos(np.minimum(14 * across, np.pi)))[..., None]
    picture = _lay(picture, ribbed, (width - across) / pixel)

    hue = np.where(c[9] < 0.8, 0.76 + 0.5 * c[9], c[9])  # few are green or blue
    turned = petals * (angle + np.pi / 2) / 2 + np.pi / 3 * (c[10] - 0.5)
    wave, between = abs(np.cos(turned)), abs(np.sin(turned))  # 1 along the middle of a petal
    for length, middle, lighter in (
        (0.66 + 0.24 * c[11], wave, 0.0),
        (0.44 + 0.16 * c[11], between, 0.1),
    ):
        tip = _colour(hue + 0.6 * lighter, 0.6 - 0.35 * c[14] - lighter, 0.98 + 0 * hue)
        base = _colour(
            hue + 0.6 * lighter + 0.08 * (c[13] - 0.5),
            0.85 - 0.35 * c[14],
            0.72 + lighter + 0 * hue,
        )
        far = np.clip(radius / length, 0, 1)[..., None]
        petal = (base + (tip - base) * far) * (0.72 + 0.28 * np.sqrt(middle))[..., None]
        edge = length * (0.34 + 0.66 * middle ** (0.45 + 0.5 * c[12]))
        picture = _lay(picture, petal, (edge - radius) / pixel)

    heart = 0.16 + 0.08 * c[15]
    yellow = _colour(0.1 + 0.04 * c[16], 0.9 + 0 * c[16], np.where(c[17] < 0.5, 0.95, 0.5))
    domed = yellow * (1.05 - 0.4 * (radius / heart) ** 2)[..., None]
    picture = _lay(picture, domed, (heart - radius) / pixel)
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _labels(chosen: np.ndarray) -> np.ndarray:
    """Return the labels int32 [N] of flowers."""
    return (len(PETALS) * chosen[:, 0]).astype(np.int32)


def _lay(under: np.ndarray, over: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Paint a colour [N, H, W, 3] over another inside a shape, where ``depth`` in pixels is > 0."""
    covers = np.clip(0.5 + depth, 0, 1)[..., None]
    return under + covers * (over - under)


def _colour(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Convert HSV, with hue in turns of the colour wheel, to RGB [..., 3] in [0, 1]."""
    sector = (np.array([5.0, 3.0, 1.0]) + 6 * hue[..., None]) % 6
    share = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    return value[..., None] * (1 - saturation[..., None] * share)
