"""Measures whether labels are as frequent among samples as among the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure, show_percents
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.features.drawn import BLOCK, map_images, sample_images
from genjax.evaluation.features.predictions import class_probabilities
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.classifier import Classifier
from genjax.family import Family, require_samples

LISTED = 100  # up to this many classes, each has its own number
NAMED = 5  # flagged labels with a sentence each
TICKED = 25  # up to this many classes, each bar has its label


@checks.frozen
class Bias(Evaluator):
    """Compares each label's share of the samples with its share of the data, with labels from a
    classifier.

    A classifier that mistakes some 4s for 9s finds too many 9s even among fair samples. So by
    default the data are held-out images labelled by the same classifier, and its errors are on both
    sides. This assumes that both splits have the classes in the same shares; if they do not, or if
    the classifier is nearly perfect, use ``of_data="labels"``, the true labels of the training
    split.

    A label is flagged if the interval of the difference of the two shares excludes 0. The intervals
    hold for all labels at once (Bonferroni). They are Newcombe's (1998) for two independent shares,
    combined from Wilson's score intervals (1927) of each; counts of training labels have no error.

    Numbers: ``share_<label>`` of each label among the samples (for up to 100 classes), ``bias``,
    the total variation distance between the shares, from 0 to 1, and ``flagged``, the number of
    flagged labels. For another attribute than the data's labels, add a second ``Bias`` with its
    classifier.

    Attributes:
      classifier: run directory of the classifier.
      samples: number of samples.
      confidence: probability that a fair generator has no label flagged.
      of_data: source of the data's labels: "classified", held-out images labelled by the same
          classifier, or "labels", those of the training split.
      limit: maximum number of held-out images, evenly spaced.
    """

    images_only: ClassVar[bool] = True

    classifier: str
    samples: int = 2_000
    confidence: float = 0.95
    of_data: Literal["classified", "labels"] = "classified"
    limit: int = 10_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples", "limit")
        checks.inside(self, 0, 1, "confidence")
        if self.of_data not in ("classified", "labels"):
            raise UserError(
                f"of_data must be 'classified' or 'labels', got {self.of_data!r}", "of_data"
            )

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.classifier,)

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "Bias")
        if self.of_data == "labels" and spec.classes is None:
            raise UserError("Bias of_data='labels' needs labels, but the data have none")
        classes = count_classes("Bias", self.classifier, others)
        if classes is None:
            return
        if self.of_data == "labels" and classes != spec.classes:
            raise UserError(
                f"of_data must be 'classified', as the classifier {self.classifier} has {classes} "
                f"classes but the data have {spec.classes} labels, got 'labels'",
                "of_data",
            )
        least = fewest(self.confidence, classes)
        if self.samples < least:
            raise UserError(
                f"samples must be >= {least:,} to detect that a label of {classes} is missing, got "
                f"{self.samples:,}",
                "samples",
            )

    def __call__(self, subject: Subject) -> Findings:
        if self.of_data == "classified" and subject.split == "train":
            return Findings(
                remarks=("bias needs a split that was not trained on, or of_data='labels'",)
            )
        classes = subject.others[self.classifier].spec.classes
        assert classes is not None, "a classifier's data have labels"
        drawn = sample_classes(subject, self.classifier, self.samples)
        if self.of_data == "labels":
            part = subject.select_part(split="train")
            blocks = np.array_split(np.arange(len(part)), -(-len(part) // BLOCK))
            known = np.concatenate([part.batch(block)["label"] for block in blocks])
            data = f"the true labels of {len(known):,} training images"
        else:
            known = data_classes(subject, self.classifier, self.limit)
            data = f"{len(known):,} images of {subject.split} by the same classifier"
        counts, of_data = (np.bincount(labels, minlength=classes) for labels in (drawn, known))
        found = compare(counts, of_data, self.confidence, exact=self.of_data == "labels")
        listed = range(classes if classes <= LISTED else 0)
        numbers = {f"share_{label}": float(found.share[label]) for label in listed}
        numbers |= {"bias": found.distance, "flagged": int(found.flagged.sum())}
        remarks = make_remarks(found)
        if self.of_data == "classified" and len(known) < fewest(self.confidence, classes):
            remarks = (
                *remarks,
                f"bias: {len(known):,} images are few for {classes} labels: intervals are rough",
            )
        usual = fair_distance(
            found.of_data, len(drawn), None if self.of_data == "labels" else len(known)
        )
        return Findings(
            numbers,
            {"shares": _bars(found)},
            f"labels by the classifier {subject.others[self.classifier].origin}; {len(drawn):,} "
            "samples by "
            f"{subject.model.family.sampler} against {data}; a fair generator has a bias of about "
            f"{usual:.3f}; "
            f"simultaneous intervals of {self.confidence:.0%} (Wilson, Newcombe, Bonferroni)",
            remarks,
        )


class Shares(NamedTuple):
    """Shares of labels among samples and data, and their differences; all [K].

    Attributes:
      share: share among the samples, with the interval from ``low`` to ``high``.
      of_data: share among the data, with ``data_low`` and ``data_high``.
      least: lower end of the interval of share - of_data.
      most: upper end of the interval of share - of_data.
    """

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    of_data: np.ndarray
    data_low: np.ndarray
    data_high: np.ndarray
    least: np.ndarray
    most: np.ndarray

    @property
    def flagged(self) -> np.ndarray:
        """Whether the interval of the difference excludes 0, bool [K]."""
        return (self.least > 0) | (self.most < 0)

    @property
    def distance(self) -> float:
        """The total variation distance of the shares."""
        return float(np.abs(self.share - self.of_data).sum() / 2)


def compare(
    counts: np.ndarray, of_data: np.ndarray, confidence: float, exact: bool = False
) -> Shares:
    """Compare counts of labels among samples [K] and data [K], with intervals that hold for all K
    at once.

    Intervals are Wilson's (1927), those of differences Newcombe's hybrid of two such (1998, method
    10); the K of them share the error 1 - ``confidence`` evenly.

    Args:
      exact: whether the data's shares are known without error.
    """
    z = quantile(confidence, len(counts))
    share, low, high = wilson(counts, counts.sum(), z)
    data_share, data_low, data_high = wilson(of_data, of_data.sum(), 0.0 if exact else z)
    difference = share - data_share
    least = difference - np.hypot(share - low, data_high - data_share)
    most = difference + np.hypot(high - share, data_share - data_low)
    return Shares(share, low, high, data_share, data_low, data_high, least, most)


def wilson(count: np.ndarray, total: int, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute shares count / total [K] and the ends of their score intervals (Wilson, 1927) at
    ``z`` standard deviations.
    """
    share = count / total
    spread = z**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = np.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return (
        share,
        np.minimum(centre - half, share).clip(0),
        np.maximum(centre + half, share).clip(max=1),
    )


def quantile(confidence: float, classes: int) -> float:
    """Return the half-width, in standard deviations, of intervals that hold for all classes with
    ``confidence``.
    """
    intervals = classes if classes > 2 else 1  # one share determines that of a second class
    return NormalDist().inv_cdf(1 - (1 - confidence) / intervals / 2)


def fewest(confidence: float, classes: int) -> int:
    """Return how many draws it takes to detect a missing class among equally frequent ones; with
    fewer, the Wilson interval of a count of 0 includes 1 / ``classes``.
    """
    return math.ceil(quantile(confidence, classes) ** 2 * (classes - 1))


def fair_distance(shares: np.ndarray, samples: int, data: int | None) -> float:
    """Estimate the total variation distance between two draws from the same shares [K].

    Args:
      data: number of examples in the second draw; None for the exact shares.
    """
    variance = shares * (1 - shares) * (1 / samples + (1 / data if data else 0))
    return float(np.sqrt(variance * 2 / np.pi).sum() / 2)


def make_remarks(found: Shares) -> tuple[str, ...]:
    """Write a sentence for each flagged label, the most biased first; the last one counts those
    left out.
    """
    gap = np.abs(found.share - found.of_data)
    flagged = [label for label in np.argsort(-gap, kind="stable") if found.flagged[label]]
    notes = tuple(
        f"label {label} is "
        f"{'over' if found.share[label] > found.of_data[label] else 'under'}-represented: "
        f"{found.share[label]:.1%} of samples, {found.of_data[label]:.1%} of data"
        for label in flagged[:NAMED]
    )
    left = len(flagged) - NAMED
    return (
        notes
        if left <= 0
        else (*notes, f"{left} more of {len(gap)} labels are over- or under-represented")
    )


def count_classes(evaluator: str, run: str, others: Mapping[str, Model]) -> int | None:
    """Return the number of classes of the classifier of a run; None if the run is not loaded.

    Raises:
      UserError: the run is not an image classifier, or has fewer than 2 classes.
    """
    if run not in others:
        return None
    model = others[run]
    if not isinstance(model.family, Classifier) or model.spec.entry != "image":
        raise UserError(f"{evaluator} needs the run of an image classifier, but {run} is none")
    classes = model.spec.classes
    if classes is None or classes < 2:
        raise UserError(
            f"{evaluator} needs a classifier with at least 2 classes, but {run} has {classes}"
        )
    return classes


def sample_classes(subject: Subject, run: str, samples: int) -> np.ndarray:
    """Classify the samples by the classifier of ``run``: classes [N]."""
    return subject.compute_once(
        ("classes of samples", run, samples),
        lambda: class_probabilities(subject, run, sample_images(subject, samples)).argmax(-1),
    )


def data_classes(subject: Subject, run: str, limit: int) -> np.ndarray:
    """Classify up to ``limit`` images of the evaluated split by the classifier of ``run``: classes
    [N].
    """
    part = subject.select_part(limit)
    return subject.compute_once(
        ("classes of data", run, subject.split, len(part)),
        lambda: map_images(
            lambda images: class_probabilities(subject, run, images).argmax(-1), part
        ),
    )


def draw_shares(axes: Any, found: Shares, of_data: str = "data") -> None:
    """Draw bars of both shares of each label with their intervals on matplotlib axes; flagged
    labels are red.
    """
    classes = len(found.share)
    at = np.arange(classes)
    sides = (
        (-0.2, found.of_data, found.data_low, found.data_high, "0.65", of_data),
        (0.2, found.share, found.low, found.high, "tab:blue", "samples"),
    )
    for shift, share, low, high, colour, name in sides:
        axes.bar(at + shift, share, 0.4, color=colour, label=name)
        errors = [share - low, high - share]
        axes.errorbar(
            at + shift,
            share,
            errors,
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=min(3, 60 / classes),
        )
    if classes <= TICKED:
        axes.set_xticks(at)
        for tick, flagged in zip(axes.get_xticklabels(), found.flagged, strict=True):
            tick.set(
                color="red" if flagged else "black", fontweight="bold" if flagged else "normal"
            )
    show_percents(axes.yaxis)
    axes.set(xlabel="label", ylabel="share", xlim=(-0.7, classes - 0.3))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _bars(found: Shares) -> np.ndarray:
    classes, flagged = len(found.share), int(found.flagged.sum())
    figure = new_figure(float(np.clip(0.5 * classes + 2.5, 5, 14)), 3.6)
    axes = figure.add_subplot()
    draw_shares(axes, found)
    verdict = f"{flagged} of {classes} labels flagged" if flagged else "no label flagged"
    axes.set_title(f"{verdict}, total variation distance {found.distance:.3f}")
    return figure_pixels(figure)
