"""Shows samples next to their nearest training images, to detect memorisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.data.dataset import Spec
from genjax.data.pictures import grid
from genjax.evaluation.features.drawn import data_features
from genjax.evaluation.features.features import (
    PIXELS,
    feature_space,
    find_nearest,
    label,
    list_runs,
)
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.family import Family, require_samples


@checks.frozen
class NearestNeighbours(Evaluator):
    """Shows samples followed by their nearest training images, and compares distances with those of
    held-out images.

    Smooth images, such as the means that a VAE draws by default, are close to all others in pixels:
    a low ratio means memorisation only if the pictures show copies, or in a feature space.

    ``neighbour_distance`` is the median distance from a sample to its nearest training image, and
    ``neighbour_ratio`` that over the same for held-out images; far below 1, samples are closer to
    training images than new data are. Names end in that of the features unless these are pixels.

    Attributes:
      samples: number of samples.
      shown: how many are shown, one per row.
      neighbours: training images per row.
      features: "pixels", or the run directory of a classifier, in whose features distances are
          measured.
      limit: maximum number of training images to search, evenly spaced.
    """

    images_only: ClassVar[bool] = True

    samples: int = 256
    shown: int = 8
    neighbours: int = 7
    features: str = PIXELS
    limit: int = 60_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples", "shown", "neighbours")
        checks.ordered(self, "neighbours", "limit")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "NearestNeighbours")

    @property
    def runs(self) -> tuple[str, ...]:
        return list_runs(self.features)

    def __call__(self, subject: Subject) -> Findings:
        if subject.split == "train":
            return Findings(remarks=("nearest neighbours need a split that was not trained on",))
        space = feature_space(subject, self.features)
        samples = subject.draw_samples(self.samples)
        train = subject.select_part(self.limit, "train")
        held_out = subject.take_examples(self.samples)["image"]
        known = data_features(subject, self.features, "train", self.limit)
        count = min(self.neighbours, len(train))
        distance, index = find_nearest(space(samples), known, count)
        usual, _ = find_nearest(space(held_out), known, 1)
        shown = min(self.shown, len(samples))
        near = train.batch(index[:shown].ravel())["image"]
        rows = np.concatenate(
            [samples[:shown, None], near.reshape(shown, count, *near.shape[1:])], axis=1
        )  # [shown, 1 + count, H, W, C]
        picture = grid(
            subject.model.codec.decode(rows.reshape(-1, *rows.shape[2:])), columns=1 + count
        )
        median = np.median(distance[:, 0])
        ratio = median / max(np.median(usual), 1e-12)
        suffix = "" if self.features == PIXELS else f"_{label(self.features)}"
        return Findings(
            {
                f"neighbour_distance{suffix}": float(median),
                f"neighbour_ratio{suffix}": float(ratio),
            },
            {f"neighbours{suffix}": picture},
            f"{space.name}; {len(samples):,} samples by {subject.model.family.sampler}, "
            f"{len(held_out):,} images of {subject.split}, nearest of "
            f"{len(train):,} training images",
        )
