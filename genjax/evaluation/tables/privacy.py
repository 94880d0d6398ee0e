"""Measures whether samples of a table are closer to training rows than new rows are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.codec import Columns
from genjax.evaluation.features.features import find_nearest
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.tables.rows import (
    check_table,
    data_columns,
    encode_categories,
    sample_columns,
)
from genjax.family import Family

LOW = 5  # percentile of the nearest samples


@checks.frozen
class TabularPrivacy(Evaluator):
    """Compares the distances from samples to their nearest training records with those of held-out
    rows.

    Numbers count in standard deviations of the training rows; a category that differs counts 1, as
    does a number that is missing in one of the two rows. ``nearest_record`` is the median distance
    of samples, ``nearest_record_held_out`` that of the evaluated split; ``nearest_record_ratio`` is
    the first over the second, ``nearest_record_ratio_low`` the same for the lowest 5 percent. Well
    below 1, samples are closer to training records than new rows are. ``copies`` is the share of
    samples equal to a training record in every column as written, ``copies_held_out`` that of
    held-out rows. ``membership_auc`` is the area under the ROC curve of an attack that, for a row
    at hand, takes its distance to the nearest sample as the sign that it was trained on: 0.5 is
    chance, 1 betrays every training row; ``membership_advantage`` is the largest difference of its
    true and false positive rates (Yeom et al., arXiv 1709.01604). These are two attacks, not a
    bound on what attacks can learn. ``sample_diversity`` is the mean distance of a sample to its
    nearest other sample over that of as many training rows: well below 1, samples repeat each
    other.

    Attributes:
      samples: number of samples.
      limit: maximum number of training records to search, evenly spaced; copies of others are not
          found.
    """

    samples: int = 2000
    limit: int = 50_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples", "limit")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_table(type(self).__name__, family, spec)

    def __call__(self, subject: Subject) -> Findings:
        if subject.split == "train":
            return Findings(remarks=("privacy needs a split that was not trained on",))
        codec: Component = subject.model.codec
        train, held_out = (
            data_columns(subject, "train", self.limit),
            data_columns(subject, subject.split),
        )
        samples = sample_columns(subject, self.samples)
        known = compute_coordinates(codec, train, train)
        far, usual = (
            find_nearest(compute_coordinates(codec, rows, train), known, 1)[0][:, 0]
            for rows in (samples, held_out)
        )
        lows = np.percentile(far, LOW), np.percentile(usual, LOW)
        numbers = {
            "nearest_record": float(np.median(far)),
            "nearest_record_held_out": float(np.median(usual)),
            "nearest_record_ratio": float(np.median(far) / max(np.median(usual), 1e-12)),
            "nearest_record_ratio_low": float(lows[0] / max(lows[1], 1e-12)),
            "copies": compute_copied_share(codec, samples, train),
            "copies_held_out": compute_copied_share(codec, held_out, train),
        }
        places = compute_coordinates(codec, samples, train)
        theirs = compute_coordinates(codec, held_out, train)
        numbers |= attack_membership(places, known, theirs)
        numbers["sample_diversity"] = compute_diversity(places, known)
        return Findings(
            numbers,
            {},
            f"{self.samples:,} samples by {subject.model.family.sampler}, {len(usual):,} rows of "
            f"{subject.split}, "
            f"nearest of {len(known):,} training records",
        )


def attack_membership(
    samples: np.ndarray, members: np.ndarray, others: np.ndarray
) -> dict[str, float]:
    """Tell training rows [N, F] from others [M, F] by their distance to the nearest sample [S, F],
    from as many of each, evenly spaced; return ``membership_auc`` and ``membership_advantage``.
    """
    count = min(len(members), len(others))
    distances = []
    for rows in (members, others):
        spaced = rows[np.arange(count) * len(rows) // count]
        distances.append(find_nearest(spaced, samples, 1)[0][:, 0])
    inside, outside = (np.sort(found) for found in distances)
    # An equal distance counts half.
    below = np.searchsorted(outside, inside, "left") + np.searchsorted(outside, inside, "right")
    at = np.concatenate([inside, outside])
    true, false = (np.searchsorted(d, at, "right") / count for d in (inside, outside))
    return {
        "membership_auc": float(1 - below.mean() / (2 * count)),
        "membership_advantage": float(max((true - false).max(), 0.0)),
    }


def compute_diversity(samples: np.ndarray, known: np.ndarray) -> float:
    """Compute the mean distance of samples [S, F] to their nearest other over that of training
    rows [N, F], of as many of each.
    """
    count = min(len(samples), len(known))
    if count < 2:
        return 1.0
    means = []
    for rows in (samples, known):
        spaced = rows[np.arange(count) * len(rows) // count]
        means.append(float(find_nearest(spaced, spaced, 2)[0][:, 1].mean()))
    return means[0] / max(means[1], 1e-12)


def compute_coordinates(codec: Component, columns: Columns, train: Columns) -> np.ndarray:
    """Map rows to float32 [N, F], scaled by the training rows, whose Euclidean distance is that of
    ``TabularPrivacy``.
    """
    found = []
    for column in codec.numbers:
        values, seen = columns[column.name], train[column.name]
        centre, scale = np.nanmean(seen), np.nanstd(seen)
        absent = np.isnan(values)
        found.append(np.where(absent, 0, (values - centre) / (scale if scale > 0 else 1))[:, None])
        found.append(absent[:, None].astype(np.float64))
    for column in codec.categories:
        one_hot = np.eye(column.size)[column.encode(columns[column.name])]
        found.append(one_hot / np.sqrt(2))  # different categories are 1 apart
    return np.concatenate(found, axis=1).astype(np.float32)


def compute_copied_share(codec: Component, rows: Columns, train: Columns) -> float:
    """Compute the share of rows equal to a training row in every column as written."""
    known = set(_format_rows(codec, train))
    written = _format_rows(codec, rows)
    return sum(row in known for row in written) / len(written)


def _format_rows(codec: Component, columns: Columns) -> list[tuple[str, ...]]:
    cells = [column.format(columns[column.name]) for column in codec.numbers]
    cells += [encode_categories(columns[column.name]).tolist() for column in codec.categories]
    return list(zip(*cells, strict=True))
