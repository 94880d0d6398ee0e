"""Samples beside the training images that are nearest to them: has the model learned them by heart?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genjax.data.pictures import grid
from genjax.errors import UserError
from genjax.evaluation.features import PIXELS, feature_space, nearest, needed_runs
from genjax.evaluation.judge import Evaluator, Findings, Subject


@dataclass(frozen=True)
class NearestNeighbours(Evaluator):
    """Samples, each followed by the training images nearest to it, and how near samples and held-out images come.

    ``neighbour_ratio`` is the median distance from a sample to its nearest training image over that from a held-out
    image to its own; far below 1 samples are nearer to training images than new data are.

    Attributes:
      samples: that are drawn and measured.
      shown: of them, one a row.
      neighbours: training images a row.
      features: "pixels", or the run directory of a classifier whose features measure the distance.
      limit: training images that are searched, at most.
    """

    samples: int = 256
    shown: int = 8
    neighbours: int = 7
    features: str = PIXELS
    limit: int = 60_000

    def __post_init__(self) -> None:
        if min(self.samples, self.shown, self.neighbours) < 1 or self.limit < self.neighbours:
            raise UserError(f"NearestNeighbours needs numbers of at least 1 and limit >= neighbours, not {self}")

    @property
    def runs(self) -> tuple[str, ...]:
        return needed_runs(self.features)

    def __call__(self, subject: Subject) -> Findings:
        space = feature_space(subject, self.features)
        samples = subject.samples(self.samples)
        train = subject.examples(self.limit, "train")["image"]
        held_out = subject.examples(self.samples)["image"]
        known = space(train)
        count = min(self.neighbours, len(train))
        distance, index = nearest(space(samples), known, count)
        usual, _ = nearest(space(held_out), known, 1)
        shown = min(self.shown, len(samples))
        rows = np.concatenate([samples[:shown, None], train[index[:shown]]], axis=1)  # [shown, 1 + count, H, W, C]
        picture = grid(subject.model.codec.decode(rows.reshape(-1, *rows.shape[2:])), columns=1 + count)
        median, median_usual = np.median(distance[:, 0]), np.median(usual)
        return Findings(
            {"neighbour_distance": float(median), "neighbour_ratio": float(median / max(median_usual, 1e-12))},
            {"neighbours": picture},
            f"{space.name}; {len(samples):,} samples, {len(held_out):,} images of {subject.split}, nearest of "
            f"{len(train):,} training images",
        )
