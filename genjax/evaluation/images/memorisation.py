"""Whether samples are copies of training images, judged by what held-out images give."""

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

# the training image whose distance is the measure: beyond a few near-duplicates of the nearest
NEIGHBOUR = 5
SAME = 1e-3  # of that measure: nearer than this, two images are one
SIGNIFICANT = 1e-3
PAIRS = 4  # a row of the picture


@checks.frozen
class Memorisation(Evaluator):
    """How many samples are copies of training images.

    A sample's ratio is the distance to its nearest training image over that to its fifth nearest; a
    copy has a small one, wherever the data lie dense or sparse (after Carlini et al., arXiv
    2301.13188). Held-out images are what a perfect model would draw, so they say what ratio is
    suspicious (as in Meehan et al., arXiv 2004.05675): ``copies_...`` is the share of samples below
    the one that at most ``false_alarms`` of new images fall below, and ``copies_expected_...`` the
    share that a perfect model would have there: ``false_alarms``, and the held-out images that are
    in the training set themselves.

    ``authenticity_...`` is the share of samples that are farther from their nearest training image
    than that one is from its own nearest (Alaa et al., arXiv 2102.08921),
    ``authenticity_held_out_...`` the same for held-out images. It tells of samples that are too
    near in the mean; blurred or noisy ones raise it.

    Training images that equal another are left out. All names end in that of the features.

    Attributes:
      features: "pixels", "inception", "inception:FILE", or the run directory of a classifier.
      samples: that are drawn.
      limit: training images that are searched, at most, evenly spaced; copies of others are not
        found.
      held_out: images of the judged split, at most, spread evenly.
      false_alarms: share of new images that may be taken for copies; about 1 / ``held_out`` can be
        kept to at best.
      shown: the most suspicious samples, each before its nearest training image.
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
        rows = distinct(train)
        known = train[rows]
        images = sample_images(subject, self.samples)
        samples, held_out = (
            find_near(queries, known)
            for queries in (
                sample_features(subject, self.features, self.samples),
                data_features(subject, self.features, subject.split, self.held_out),
            )
        )
        line = threshold(held_out.ratio, self.false_alarms)
        flagged = samples.ratio < line.ratio
        suffix = label(self.features)
        numbers = {
            f"copies_{suffix}": float(flagged.mean()),
            f"copies_expected_{suffix}": line.expected,
            f"authenticity_{suffix}": float(authentic(samples, known).mean()),
            f"authenticity_held_out_{suffix}": float(authentic(held_out, known).mean()),
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
                f"{flagged:,} of {samples:,} samples are as near to a training image as few new "
                "images come "
                f"({label(self.features)}; expected: {line.expected:.2%}): the model copies "
                "training images"
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
    """Which of the samples [N, F] are copies of training images [M, F]: flags [N] bool.

    Args:
      held_out: features [K, F] of images that were not trained on.
      false_alarms: share of new images that may be flagged, in the mean over draws of ``held_out``;
        at least 1 / (K + 1) is. Besides, those that equal a training image are.

    Raises:
      UserError: fewer than 2 training images that differ.
    """
    known = train[distinct(train)]
    line = threshold(find_near(held_out, known).ratio, false_alarms)
    return find_near(samples, known).ratio < line.ratio


class Near(NamedTuple):
    """The nearest training images of some queries: their rows [Q], distances [Q], and ratios [Q] in
    [0, 1] of these to the distance of the fifth nearest.
    """

    row: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray


def find_near(queries: np.ndarray, train: np.ndarray) -> Near:
    """Return the nearest of features [M, F], no two of which are equal, for queries [Q, F].

    Raises:
      UserError: fewer than 2 training images.
    """
    if len(train) < 2:
        raise UserError(
            f"memorisation needs at least 2 training images that differ, not {len(train)}"
        )
    distance, index = find_nearest(queries, train, min(NEIGHBOUR, len(train)))
    first, last = distance[:, 0], distance[:, -1]
    ratio = np.divide(first, last, out=np.ones_like(first), where=last > 0)
    return Near(index[:, 0], first, ratio)


def authentic(found: Near, train: np.ndarray) -> np.ndarray:
    """Which queries are farther from their nearest training image than that is from its own
    nearest, [Q] bool.
    """
    hit, back = np.unique(found.row, return_inverse=True)
    own = find_nearest(train[hit], train, 2)[0][:, 1]  # the first is the image itself
    return found.distance > own[back]


class Threshold(NamedTuple):
    """Ratios below ``ratio`` are suspicious: it is that of the ``rank``-th lowest of so many
    held-out images.
    """

    ratio: float
    rank: int
    held_out: int

    @property
    def expected(self) -> float:
        """The share of new images below."""
        return self.rank / (self.held_out + 1)

    def compute_tail_probability(self, flagged: int, samples: int) -> float:
        """How probable at least this many flagged ones of some new images are.

        A binomial test would take the expected share for exact. It follows Beta(rank, held_out + 1
        - rank), as order statistics do, so that the count is beta-binomial.
        """
        return float(betabinom.sf(flagged - 1, samples, self.rank, self.held_out + 1 - self.rank))


def threshold(held_out: np.ndarray, false_alarms: float) -> Threshold:
    """From the ratios [K] of held-out images.

    Those that are in the training set themselves, in many sets more than ``false_alarms``, are
    counted but do not take the threshold to 0, below which no copy would be found.
    """
    ordered = np.sort(held_out)
    same = int((ordered < SAME).sum())
    rank = same + max(1, int(false_alarms * (len(ordered) - same + 1)))
    if rank > len(ordered):  # every one is in the training set
        return Threshold(SAME, len(ordered), len(ordered))
    return Threshold(float(ordered[rank - 1]), rank, len(ordered))


def distinct(features: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows of features [N, F] that equal no earlier one, in order."""
    first: dict[bytes, int] = {}
    for number, row in enumerate(features):
        first.setdefault(hashlib.blake2b(row.tobytes()).digest(), number)
    return np.fromiter(first.values(), np.int64)
