"""Evaluates a classifier's probabilities, and shows its confusions."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families import classifier
from genjax.family import Batch, State, labels

NUMBERED = 25  # up to this many classes, a confusion matrix shows its counts


@checks.frozen
class Calibration(Evaluator):
    """Measures whether a classifier's confidence matches its accuracy.

    ``ece`` is the expected calibration error (Guo et al., arXiv 1706.04599): |accuracy -
    confidence| over bins of the confidence, weighted by their examples. ``brier`` is the squared
    distance of the probabilities from the label's one-hot vector, summed over the classes (Brier,
    1950), so from 0 to 2. ``nll`` is in nats.

    Attributes:
      bins: number of bins of equal width over confidences from 0 to 1, each including its upper
          edge.
    """

    judges: ClassVar[tuple[type, ...]] = (classifier.Classifier,)

    bins: int = 15

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "bins")

    def __call__(self, subject: Subject) -> Findings:
        log_p, label = predict_split(subject)
        confidence = np.exp(log_p.max(-1))
        table = bin_by_confidence(confidence, log_p.argmax(-1) == label, self.bins)
        numbers = {
            "ece": table.error,
            "brier": brier(np.exp(log_p), label),
            "nll": nll(log_p, label),
        }
        protocol = f"{self.bins} bins of equal width, {len(label):,} examples of {subject.split}"
        return Findings(numbers, {"reliability": _diagram(table)}, protocol)


@checks.frozen
class Confusions(Evaluator):
    """Shows which classes are confused with which, and the mistakes made with the highest
    confidence.

    ``worst_class_accuracy`` is the lowest accuracy of any class.

    Attributes:
      mistakes: number of mistakes to show, for images.
    """

    judges: ClassVar[tuple[type, ...]] = (classifier.Classifier,)

    mistakes: int = 16

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "mistakes")

    def __call__(self, subject: Subject) -> Findings:
        log_p, label = predict_split(subject)
        counts = confusion_matrix(log_p.argmax(-1), label, log_p.shape[-1])
        pictures = {"confusions": _matrix(counts)}
        chosen = find_surest_mistakes(log_p, label, self.mistakes)
        if subject.model.spec.entry == "image" and len(chosen):
            images = subject.model.codec.decode(
                subject.splits[subject.split].batch(chosen)["image"]
            )
            pictures["mistakes"] = _mistakes(images, label[chosen], log_p[chosen])
        of_class = counts.sum(1)
        worst = (counts.diagonal()[of_class > 0] / of_class[of_class > 0]).min()
        protocol = f"{len(label):,} examples of {subject.split}"
        return Findings({"worst_class_accuracy": float(worst)}, pictures, protocol)


class Reliability(NamedTuple):
    """Bins by confidence, [bins]: number of examples, and their mean accuracy and confidence, 0 if
    empty.
    """

    examples: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error."""
        return float(
            (self.examples * np.abs(self.accuracy - self.confidence)).sum() / self.examples.sum()
        )


def bin_by_confidence(confidence: np.ndarray, correct: np.ndarray, bins: int) -> Reliability:
    """Sort examples into bins by their confidence [N] in (0, 1]; bin m of M is (m / M, (m + 1) /
    M].
    """
    number = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count = np.bincount(number, minlength=bins)
    sums = (np.bincount(number, weights, bins) for weights in (correct, confidence))
    return Reliability(count, *(total / np.maximum(count, 1) for total in sums))


def brier(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Compute the mean Brier score of probabilities [N, K], summed over classes."""
    return float(np.square(probabilities - np.eye(probabilities.shape[-1])[label]).sum(-1).mean())


def nll(log_p: np.ndarray, label: np.ndarray) -> float:
    """Compute the mean of -log p(label), in nats, from log-probabilities [N, K]."""
    return float(-log_p[np.arange(len(label)), label].mean(dtype=np.float64))


def confusion_matrix(predicted: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Count examples by label (row) and prediction (column), [K, K]."""
    return np.bincount(label * classes + predicted, minlength=classes**2).reshape(classes, classes)


def find_surest_mistakes(log_p: np.ndarray, label: np.ndarray, num: int) -> np.ndarray:
    """Return the indices of up to ``num`` wrongly classified examples, the most confident first."""
    wrong = np.flatnonzero(log_p.argmax(-1) != label)
    return wrong[np.argsort(-log_p[wrong].max(-1), kind="stable")][:num]


def predict_split(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Predict the whole split: log-probabilities [N, K] and labels [N]."""
    log_p, label = subject.collect(_predict)
    return log_p, label


def _predict(
    family: classifier.Classifier, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return classifier.predict(family, state, batch), labels(batch)


def _diagram(table: Reliability) -> np.ndarray:
    """Draw the reliability diagram: accuracy over confidence, and below it the shares of
    examples.
    """
    bins = len(table.examples)
    left, width = np.arange(bins) / bins, 1 / bins
    figure = new_figure(4.5, 5.5)
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    filled = table.examples > 0
    above.bar(left[filled], table.accuracy[filled], width, align="edge", edgecolor="white")
    above.plot(
        table.confidence[filled],
        table.accuracy[filled],
        "o",
        color="black",
        markersize=3,
        label="mean of a bin",
    )
    above.plot([0, 1], [0, 1], "--", color="grey", label="calibrated")
    above.set(
        xlim=(0, 1),
        ylim=(0, 1),
        ylabel="accuracy",
        title=f"expected calibration error {table.error:.2%}",
    )
    above.legend(loc="upper left")
    below.bar(left, table.examples / table.examples.sum(), width, align="edge", edgecolor="white")
    below.set(xlabel="confidence", ylabel="examples")
    return figure_pixels(figure)


def _matrix(counts: np.ndarray) -> np.ndarray:
    """Draw the confusion matrix, coloured by share of each label's examples, with counts as
    numbers.
    """
    classes = len(counts)
    side = float(np.clip(0.45 * classes + 1.5, 4, 12))
    figure = new_figure(side, side, dpi=110)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="prediction", ylabel="label")
    if classes <= NUMBERED:
        axes.set(xticks=range(classes), yticks=range(classes))
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                color=colour,
                fontsize=7,
            )
    return figure_pixels(figure)


def _mistakes(images: np.ndarray, label: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    """Draw images [N, H, W, C] with their label, prediction and its confidence."""
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(1.3 * columns, 1.6 * rows, dpi=110)
    for number, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, number + 1)
        grey = image.shape[-1] == 1
        axes.imshow(
            image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255
        )
        predicted = log_p[number].argmax()
        axes.set_title(
            f"{label[number]} as {predicted}, {np.exp(log_p[number, predicted]):.0%}", fontsize=8
        )
        axes.axis("off")
    return figure_pixels(figure)
