"""Points in the plane from known distributions, so that samples can be judged exactly."""

from __future__ import annotations

import numpy as np

from genjax import checks
from genjax.data.codecs import PointsCodec
from genjax.data.dataset import Dataset
from genjax.data.splits import DRAW, MOST_MADE, Arrays, array_fingerprint, dataset
from genjax.data.stream import raw_bits
from genjax.errors import UserError, unknown_name

# Components and default noise of each distribution; with 1 component there are no labels.
DISTRIBUTIONS = {
    "eight_gaussians": (8, 0.02),
    "twenty_five_gaussians": (25, 0.05),
    "two_moons": (2, 0.1),
    "wide_moons": (2, 0.0),
    "swiss_roll": (1, 0.1),
    "checkerboard": (8, 0.0),
}


@checks.frozen
class Points:
    """Generates points in the plane when opened.

    With k the component, u, v uniform on [0, 1), e normal [2]:

      eight_gaussians: 2 (cos(pi k/4), sin(pi k/4)) + noise e, noise 0.02 (the ring of Unrolled
        GANs).
      twenty_five_gaussians: means {-4, -2, 0, 2, 4}^2 + noise e, noise 0.05 (the grid of VEEGAN).
      two_moons: k=0 (cos pi u, sin pi u), k=1 (1 - cos pi u, 1/2 - sin pi u), + noise e, noise 0.1.
      wide_moons: those of Tong et al., arXiv 2302.00482: 3 (moon + v / 5) - 1, the two_moons
        without noise and one v for both coordinates, noise 0.
      swiss_roll: t (cos t, sin t) / 5 with t = 3/2 pi (1 + 2u), + noise e, noise 0.1. No label.
      checkerboard: uniform on 8 of the 16 squares of side 2 that tile [-4, 4]^2, + noise e, noise
        0.

    Attributes:
      distribution: one of the names above.
      size: number of training points.
      test_size: number of test points.
      seed: seed of the points; a larger size keeps those of a smaller one.
      noise: standard deviation of the noise, in the units of the points; None for the one above.
      standardise: whether the model gets points of mean 0 and standard deviation 1; samples are
        mapped back.
    """

    distribution: str = "eight_gaussians"
    size: int = 10_000
    test_size: int = 2_000
    seed: int = 0
    noise: float | None = None
    standardise: bool = False

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise unknown_name("distribution", self.distribution, DISTRIBUTIONS)
        checks.between(self, 1, MOST_MADE, "size", "test_size")
        checks.at_least(self, 0, "seed")
        if self.noise is not None and not 0 <= self.noise < float("inf"):
            raise UserError(f"noise must be >= 0, got {self.noise}", "noise")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``points`` float32 [B, 2] and, if there are components,
        ``label`` int32 [B].
        """
        train, train_label = self._draw(DRAW, self.size)
        test, test_label = self._draw(DRAW + 1, self.test_size)
        codec = PointsCodec(2)
        if self.standardise:
            mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
            if scale.min() == 0:
                raise UserError(f"size must be larger to standardise, got {self.size}", "size")
            codec = PointsCodec(2, tuple(mean.tolist()), tuple(scale.tolist()))
        splits = {
            "train": Arrays("points", train, train_label, codec),
            "test": Arrays("points", test, test_label, codec),
        }
        components, _ = DISTRIBUTIONS[self.distribution]
        classes = components if components > 1 else None
        return dataset(splits, classes=classes, fingerprint=array_fingerprint(splits))

    def modes(self) -> tuple[np.ndarray, float]:
        """Return the means [K, 2] of the Gaussians and their standard deviation, in the units of
        the data.

        Raises:
          UserError: the distribution is not a mixture of Gaussians.
        """
        components, noise = DISTRIBUTIONS[self.distribution]
        if not self.distribution.endswith("gaussians"):
            raise UserError(f"{self.distribution} is not a mixture of Gaussians; it has no modes")
        centres = _curve(self.distribution, np.arange(components), np.zeros((components, 2)))
        return centres, noise if self.noise is None else self.noise

    def _draw(self, stream: int, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw ``count`` points float32 [N, 2] and their components int32 [N], from five random
        words each.
        """
        words = raw_bits(self.seed, stream, 5 * count).reshape(count, 5)
        uniform = (words >> np.uint64(11)) * 2.0**-53  # [N, 5] in [0, 1)
        components, noise = DISTRIBUTIONS[self.distribution]
        component = (uniform[:, 0] * components).astype(np.int32)
        radius = np.sqrt(-2 * np.log1p(-uniform[:, 3]))  # Box-Muller: two normals from two uniforms
        angle = 2 * np.pi * uniform[:, 4]
        normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        points = _curve(self.distribution, component, uniform[:, 1:3])
        points = points + (noise if self.noise is None else self.noise) * normal
        return points.astype(np.float32), component if components > 1 else None


def _curve(distribution: str, k: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return the points [N, 2] without noise, from components k [N] and uniform numbers [N, 2]."""
    u, v = uniform.T
    match distribution:
        case "eight_gaussians":
            x, y = 2 * np.cos(np.pi * k / 4), 2 * np.sin(np.pi * k / 4)
        case "twenty_five_gaussians":
            x, y = 2.0 * (k // 5) - 4, 2.0 * (k % 5) - 4
        case "two_moons" | "wide_moons":
            cos, sin = np.cos(np.pi * u), np.sin(np.pi * u)
            x, y = np.where(k == 0, cos, 1 - cos), np.where(k == 0, sin, 0.5 - sin)
            if distribution == "wide_moons":
                x, y = 3 * (x + v / 5) - 1, 3 * (y + v / 5) - 1
        case "swiss_roll":
            t = 1.5 * np.pi * (1 + 2 * u)
            x, y = t * np.cos(t) / 5, t * np.sin(t) / 5
        case "checkerboard":
            column, row = k // 2, 2 * (k % 2) + k // 2 % 2
            x, y = 2 * (column + u) - 4, 2 * (row + v) - 4
        case _:
            raise unknown_name("distribution", distribution, DISTRIBUTIONS)
    return np.stack([x, y], axis=1)
