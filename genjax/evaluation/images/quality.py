"""Measures how close samples are to the data: distances between distributions, and coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.features import distances
from genjax.evaluation.features.drawn import data_features, sample_features
from genjax.evaluation.features.features import (
    PIXELS,
    check_features,
    feature_space,
    is_inception,
    label,
    list_runs,
)
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.family import Family, require_samples

SUBSETS = 100  # draws of the kernel distance
DENSE, PRECISE, THIN = 3.0, 0.98, 0.01  # scores beyond these come with a caution


@checks.frozen
class SampleQuality(Evaluator):
    """Compares samples with reference images, in pixels or in the features of a network.

    ``frechet_...`` is the squared Fréchet distance of Gaussians fitted to both (Heusel et al.,
    arXiv 1706.08500), ``kernel_...`` the unbiased squared MMD with a cubic kernel (Binkowski et
    al., arXiv 1801.01401) and ``kernel_error_...`` its standard error. ``precision_...`` and
    ``recall_...`` are the shares of samples within the manifold of the data and of data within that
    of the samples (Kynkäänniemi et al., arXiv 1904.06991), ``density_...`` and ``coverage_...``
    versions that are more robust to outliers (Naeem et al., arXiv 2002.09797).

    All names end in that of the features. Only on Inception's features are the distances called
    ``fid``, ``kid`` and ``kid_error``: numbers in other features do not compare with published
    ones. Nor do Fréchet distances for other numbers of samples, as their bias falls with that
    number.

    Every evaluation draws many samples and extracts the features of the reference again: with large
    networks or slow samplers set ``while_training`` to False.

    Attributes:
      features: "pixels", "inception", "inception:FILE", "vit:FOLDER", "dinov2:FOLDER", or the run
        directory of a classifier.
      samples: number of samples; more than there are features, as else the covariance is singular.
      reference: split that samples are compared with; "train" in the literature.
      limit: maximum number of its images, evenly spaced.
      k: number of the neighbour that sets the radius of a ball, for precision, recall, density and
          coverage.
      manifold: maximum number of samples, and of images, for these four.
      kernel_subset: rows per subset of the kernel distance.
    """

    images_only: ClassVar[bool] = True

    features: str = PIXELS
    samples: int = 5_000
    reference: str = "train"
    limit: int = 50_000
    k: int = 5
    manifold: int = 5_000
    kernel_subset: int = 1_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples", "limit", "k", "manifold")
        checks.at_least(self, 2, "kernel_subset")
        for name in ("samples", "limit"):
            self._refuse_fewer(getattr(self, name), f"{name} of")
        if self.k >= self.manifold:
            raise UserError(f"k must be < manifold ({self.manifold:,}), got {self.k}", "k")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "SampleQuality")
        width = check_features(self.features, spec, others)
        if width is not None:
            self._refuse_narrow(min(self.samples, self.limit), width)

    @property
    def runs(self) -> tuple[str, ...]:
        return list_runs(self.features)

    def __call__(self, subject: Subject) -> Findings:
        real = data_features(subject, self.features, self.reference, self.limit)
        self._refuse_fewer(len(real), f"the {self.reference} split has")
        self._refuse_narrow(min(self.samples, len(real)), real.shape[1])
        fake = sample_features(subject, self.features, self.samples)
        frechet = distances.frechet_distance(real, fake)
        kernel, error = distances.kernel_distance(real, fake, self.kernel_subset, SUBSETS)
        # The same number of both, as precision and recall grow with the set that defines the
        # manifold.
        count = min(self.manifold, len(real), len(fake))
        shares = distances.manifold(
            real[np.arange(count) * len(real) // count], fake[:count], self.k
        )

        suffix = label(self.features)
        names = ("fid", "kid", "kid_error")
        if not is_inception(self.features):
            names = (f"frechet_{suffix}", f"kernel_{suffix}", f"kernel_error_{suffix}")
        numbers = dict(zip(names, (frechet, kernel, error), strict=True))
        numbers |= {f"{name}_{suffix}": value for name, value in shares._asdict().items()}
        protocol = (
            f"{feature_space(subject, self.features).name}; {len(fake):,} samples by "
            f"{subject.model.family.sampler}, "
            f"clipped to [-1, 1]; {len(real):,} images of {self.reference}; kernel (x.y / "
            f"{real.shape[1]} + 1)^3, "
            f"{SUBSETS} subsets of {self.kernel_subset:,}; manifolds of {count:,} each, k {self.k}"
        )
        return Findings(numbers, protocol=protocol)

    def cautions(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        suffix, names = label(self.features), ("precision", "recall", "density", "coverage")
        if not {f"{name}_{suffix}" for name in names} <= set(numbers):
            return ()
        precision, recall, density, coverage = (numbers[f"{name}_{suffix}"] for name in names)
        found = []
        if density > DENSE:
            found.append(
                f"density_{suffix} {density:.3g} is above {DENSE:g}, but near 1 for real images: "
                "the samples crowd where these features are dense, as blurred or constant "
                "images do; look at the samples before you quote precision and density"
            )
        if precision > PRECISE and recall < precision / 2:
            found.append(
                f"precision_{suffix} {precision:.3g} with recall_{suffix} {recall:.3g} may be the "
                "score of blurred averages or of a few repeated images; it does not measure "
                "sharpness"
            )
        if coverage < THIN and precision < THIN:
            found.append(
                f"precision_{suffix} and coverage_{suffix} are both near 0: the samples lie "
                "far from the real images, or have another scale"
            )
        return tuple(found)

    def _refuse_fewer(self, count: int, what: str) -> None:
        """Refuse too few images for a kernel distance or a manifold."""
        if count < self.kernel_subset or count <= self.k:
            raise UserError(
                f"SampleQuality needs at least kernel_subset = {self.kernel_subset:,} images, and "
                f"more than k = {self.k}, but {what} {count:,}"
            )

    def _refuse_narrow(self, count: int, width: int) -> None:
        if count < width + 1:
            raise UserError(
                f"SampleQuality: the covariance of {width:,} features ({self.features}) of "
                f"{count:,} images is "
                f"singular; take at least {width + 1:,} samples and reference images, or fewer "
                "features"
            )
