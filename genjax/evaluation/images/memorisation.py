"""Detects samples that are copies of training images, compared with held-out images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.stats import betabinom

from genjax import checks
from genjax.data.dataset import Spec
from genjax.data.pictures import grid
from genjax.errors import UserError
from genjax.evaluation.features.drawn import (
    data_features,
    data_part,
    sample_features,
    sample_images,
)
from genjax.evaluation.features.features import (
    PIXELS,
    check_features,
    feature_space,
    find_nearest,
    label,
    list_runs,
)
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.family import Family, require_samples

# The neighbour whose distance sets the scale, beyond a few near-duplicates of the nearest.
NEIGHBOUR = 5
SAME = 1e-3  # on that scale, images closer than this are the same
SIGNIFICANT = 1e-3
PAIRS = 4  # pairs per row of the picture


@checks.frozen
class Memorisation(Evaluator):
    """Measures how many samples are copies of training images.

    A sample's ratio is the distance to its nearest training image over that to its fifth nearest; a
    copy has a small one, whether the data are dense or sparse there (after Carlini et al., arXiv
    2301.13188). Held-out images are what a perfect model would draw, so they determine which ratio
    is suspicious (as in Meehan et al., arXiv 2004.05675). ``copies_...`` is the share of samples
    below the threshold that at most ``false_alarms`` of new images fall below, and
    ``copies_expected_...`` the share expected of a perfect model: ``false_alarms``, plus held-out
    images that are in the training set.

    ``authenticity_...`` is the share of samples farther from their nearest training image than that
    image is from its own nearest (Alaa et al., arXiv 2102.08921), ``authenticity_held_out_...`` the
    same for held-out images. It falls if samples are too near on average; blurred or noisy samples
    raise it.

    Duplicate training images are dropped. All names end in that of the features.

    Attributes:
      features: "pixels", "inception", "inception:FILE", "vit:FOLDER", "dinov2:FOLDER", or the run
        directory of a classifier.
      samples: number of samples.
      limit: maximum number of training images to search, evenly spaced; copies of others are not
        found.
      held_out: maximum number of images of the evaluated split, evenly spaced.
      false_alarms: share of new images that may count as copies; at best about 1 / ``held_out``.
      shown: number of most suspicious samples to show, each next to its nearest training image.
    """

    images_only: ClassVar[bool] = True

    features: str = PIXELS
    samples: int = 5_000
    limit: int = 60_000
    held_out: int = 5_000
    false_alarms: float = 0.005
    shown: int = 16

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples", "held_out", "shown")
        checks.at_least(self, 2, "limit")
        checks.inside(self, 0, 1, "false_alarms")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "Memorisation")
        check_features(self.features, spec, others)

    @property
    def runs(self) -> tuple[str, ...]:
        return list_runs(self.features)

    def __call__(self, subject: Subject) -> Findings:
        if subject.split == "train":
            return Findings(remarks=("memorisation needs a split that was not trained on",))
        train = data_features(subject, self.features, "train", self.limit)
        rows = find_distinct(train)
        known = train[rows]
        images = sample_images(subject, self.samples)
        samples, held_out = (
            find_near(queries, known)
            for queries in (
                sample_features(subject, self.features, self.samples),
                data_features(subject, self.features, subject.split, self.held_out),
            )
        )
        line = find_threshold(held_out.ratio, self.false_alarms)
        flagged = samples.ratio < line.ratio
        suffix = label(self.features)
        numbers = {
            f"copies_{suffix}": float(flagged.mean()),
            f"copies_expected_{suffix}": line.expected,
            f"authenticity_{suffix}": float(are_authentic(samples, known).mean()),
            f"authenticity_held_out_{suffix}": float(are_authentic(held_out, known).mean()),
        }
        suspicious = np.argsort(samples.ratio, kind="stable")[: self.shown]
        originals = data_part(subject, "train", self.limit).batch(rows[samples.row[suspicious]])[
            "image"
        ]
        pairs = np.stack([images[suspicious], originals], axis=1).reshape(-1, *images.shape[1:])
        picture = grid(subject.model.codec.decode(pairs), columns=2 * PAIRS)
        protocol = (
            f"{feature_space(subject, self.features).name}; {len(images):,} samples by "
            f"{subject.model.family.sampler}, "
            f"clipped to [-1, 1]; nearest of {len(known):,} training images; copies have ratios "
            "below "
            f"{line.ratio:.3f}, from {line.held_out:,} images of {subject.split}"
        )
        return Findings(
            numbers,
            {f"suspicious_{suffix}": picture},
            protocol,
            self._make_remarks(int(flagged.sum()), len(flagged), line),
        )

    def _make_remarks(self, flagged: int, samples: int, line: Threshold) -> tuple[str, ...]:
        remarks = []
        if line.compute_tail_probability(flagged, samples) < SIGNIFICANT:
            remarks.append(
                f"{flagged:,} of {samples:,} samples are closer to a training image than new ones "
                f"usually are ({label(self.features)}; expected: {line.expected:.2%}): the model "
                "copies training images"
            )
        if (line.held_out + 1) * self.false_alarms < 1:
            remarks.append(
                f"{line.held_out:,} held-out images are too few to keep false alarms to "
                f"{self.false_alarms:.2%}: "
                f"expect {line.expected:.2%}"
            )
        return tuple(remarks)


def find_copies(
    samples: np.ndarray, train: np.ndarray, held_out: np.ndarray, false_alarms: float
) -> np.ndarray:
    """Find the samples [N, F] that are copies of training images [M, F]: flags, bool [N].

    Args:
      held_out: features [K, F] of held-out images.
      false_alarms: share of new images that may be flagged, on average over draws of ``held_out``;
          at least 1 / (K + 1). Images that equal a training image are also flagged.

    Raises:
      UserError: there are fewer than 2 different training images.
    """
    known = train[find_distinct(train)]
    line = find_threshold(find_near(held_out, known).ratio, false_alarms)
    return find_near(samples, known).ratio < line.ratio


class Near(NamedTuple):
    """The nearest training images of queries: rows [Q], distances [Q], and ratios [Q] in [0, 1] of
    these to the distance of the fifth nearest.
    """

    row: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray


def find_near(queries: np.ndarray, train: np.ndarray) -> Near:
    """Find the nearest of distinct features [M, F] for queries [Q, F].

    Raises:
      UserError: there are fewer than 2 training images.
    """
    if len(train) < 2:
        raise UserError(
            f"memorisation needs at least 2 different training images, got {len(train)}"
        )
    distance, index = find_nearest(queries, train, min(NEIGHBOUR, len(train)))
    first, last = distance[:, 0], distance[:, -1]
    ratio = np.divide(first, last, out=np.ones_like(first), where=last > 0)
    return Near(index[:, 0], first, ratio)


def are_authentic(found: Near, train: np.ndarray) -> np.ndarray:
    """Return which queries are farther from their nearest training image than that is from its own
    nearest, bool [Q].
    """
    hit, back = np.unique(found.row, return_inverse=True)
    own = find_nearest(train[hit], train, 2)[0][:, 1]  # the first is the image itself
    return found.distance > own[back]


class Threshold(NamedTuple):
    """The threshold of suspicious ratios: the ``rank``-th lowest of the held-out images."""

    ratio: float
    rank: int
    held_out: int

    @property
    def expected(self) -> float:
        """The expected share of new images below the threshold."""
        return self.rank / (self.held_out + 1)

    def compute_tail_probability(self, flagged: int, samples: int) -> float:
        """Return the probability that at least this many of ``samples`` new images are flagged.

        A binomial test would treat the expected share as exact. As an order statistic it follows
        Beta(rank, held_out + 1 - rank), so the count is beta-binomial.
        """
        return float(betabinom.sf(flagged - 1, samples, self.rank, self.held_out + 1 - self.rank))


def find_threshold(held_out: np.ndarray, false_alarms: float) -> Threshold:
    """Find the threshold from the ratios [K] of held-out images.

    Held-out images that are in the training set, often more than ``false_alarms`` of them, are
    counted but do not lower the threshold to 0, below which no copy would be found.
    """
    ordered = np.sort(held_out)
    same = int((ordered < SAME).sum())
    rank = same + max(1, int(false_alarms * (len(ordered) - same + 1)))
    if rank > len(ordered):  # all are in the training set
        return Threshold(SAME, len(ordered), len(ordered))
    return Threshold(float(ordered[rank - 1]), rank, len(ordered))


def find_distinct(features: np.ndarray) -> np.ndarray:
    """Return the indices, in order, of the rows of features [N, F] that differ from all earlier
    ones.
    """
    first: dict[bytes, int] = {}
    for number, row in enumerate(features):
        first.setdefault(hashlib.blake2b(row.tobytes()).digest(), number)
    return np.fromiter(first.values(), np.int64)
