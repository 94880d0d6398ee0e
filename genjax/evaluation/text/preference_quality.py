"""Measures how well rewards predict preferences, and whether they depend on length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.likelihood.classification import Reliability, bin_by_confidence
from genjax.family import Batch, ScoresPairs, State


@checks.frozen
class PreferenceQuality(Evaluator):
    """Evaluates rewards on pairs of responses, with ``family.score_pairs(state, batch)``. A tie
    always counts half.

    ``preference_accuracy`` is how often the chosen response has the higher reward, with its
    standard error ``preference_error``. ``preference_ece`` is the expected calibration error (Guo
    et al., arXiv 1706.04599) of sigmoid(|difference of the rewards|), the probability that the
    response with the higher reward is the chosen one.

    On length, in tokens of the response (Singhal et al., arXiv 2310.03716): ``longer_wins`` is the
    accuracy of choosing the longer response; ``accuracy_longer`` and ``accuracy_shorter`` are those
    of the rewards where the chosen response is the longer or the shorter one.
    ``length_correlation`` is Pearson's correlation of reward and length over all responses,
    ``pair_length_correlation`` that of their differences within a pair, which does not depend on
    offsets per prompt. A correlation with a constant is 0.

    Attributes:
      bins: number of bins of equal width over probabilities from 0 to 1, of which the upper half is
          used.
    """

    bins: int = 20

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "bins")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if not isinstance(family, ScoresPairs):
            raise UserError(
                "PreferenceQuality needs a family that scores pairs of responses, got a "
                f"{type(family).__name__}"
            )
        if not spec.preferences:
            raise UserError(
                f"PreferenceQuality needs pairs of responses, but the data are {spec.entry}"
            )

    def __call__(self, subject: Subject) -> Findings:
        judged = Judged(*(values.astype(np.float64) for values in subject.collect(_score_pairs)))
        table = judged.bin_calibration(self.bins)
        count = len(judged.chosen)
        return Findings(
            judged.to_metrics() | {"preference_ece": table.error},
            {"preferences": _picture(judged, table)},
            f"{count:,} pairs of {subject.split}, {self.bins} bins of equal width, lengths in "
            "tokens of the response",
        )

    def cautions(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        accuracy, error = (
            numbers.get("preference_accuracy", 0.5),
            numbers.get("preference_error", 0),
        )
        longer, found = numbers.get("longer_wins", 0.5), []
        if accuracy + 2 * error < 0.5:
            found.append(
                f"preference_accuracy {accuracy:.3g} is below 0.5, which guessing reaches: chosen "
                "and rejected may have changed places in this set"
            )
        if accuracy == 1 or longer in (0, 1):
            found.append(
                f"preference_accuracy {accuracy:.3g}, and {longer:.3g} of the chosen "
                "responses are the longer ones: something on the surface, such as length or "
                "a mark, may tell the chosen ones"
            )
        return tuple(found)


class Judged(NamedTuple):
    """Rewards and lengths of both responses of each pair, [N].

    Attributes:
      chosen: reward of the chosen response.
      rejected: reward of the rejected response.
      chosen_length: length of the chosen response, in tokens.
      rejected_length: length of the rejected response, in tokens.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    chosen_length: np.ndarray
    rejected_length: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        return self.chosen - self.rejected

    @property
    def longer(self) -> np.ndarray:
        """By how many tokens the chosen response is longer."""
        return self.chosen_length - self.rejected_length

    def to_metrics(self) -> dict[str, float]:
        """Return all numbers but the calibration error; an accuracy is left out if no pair
        counts.
        """
        right = _score_sign(self.margin)
        accuracy = float(right.mean())
        found = {
            "preference_accuracy": accuracy,
            "preference_error": float(np.sqrt(accuracy * (1 - accuracy) / len(right))),
            "longer_wins": float(_score_sign(self.longer).mean()),
        }
        for name, of_these in (
            ("accuracy_longer", self.longer > 0),
            ("accuracy_shorter", self.longer < 0),
        ):
            if of_these.any():
                found[name] = float(right[of_these].mean())
        rewards = np.concatenate([self.chosen, self.rejected])
        lengths = np.concatenate([self.chosen_length, self.rejected_length])
        found["length_correlation"] = compute_cosine(
            rewards - rewards.mean(), lengths - lengths.mean()
        )
        # The order of a pair is arbitrary, so the mean difference is not subtracted.
        found["pair_length_correlation"] = compute_cosine(self.margin, self.longer)
        return found

    def bin_calibration(self, bins: int) -> Reliability:
        """Bin pairs by the probability that the response with the higher reward is the chosen
        one.
        """
        return bin_by_confidence(
            1 / (1 + np.exp(-np.abs(self.margin))), _score_sign(self.margin), bins
        )


def compute_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the cosine of the angle between a and b [N]; 0 if either is 0."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def _score_sign(difference: np.ndarray) -> np.ndarray:
    """Return 1 where the difference is above 0, 1/2 where it is 0, else 0."""
    return (np.sign(difference) + 1) / 2


def _score_pairs(
    family: Component, state: State, batch: Batch, key: jax.Array
) -> tuple[jax.Array, ...]:
    lengths = (batch[f"{side}_response"].sum(-1) for side in ("chosen", "rejected"))
    return (*family.score_pairs(state, batch), *lengths)


def _picture(judged: Judged, table: Reliability) -> np.ndarray:
    """Draw the reliability diagram of preferences, and rewards over lengths."""
    figure = new_figure(8.5, 4)
    left, right = figure.subplots(1, 2)
    filled = table.examples > 0
    shares = table.examples[filled] / table.examples.sum()
    left.plot([0.5, 1], [0.5, 1], "--", color="grey", label="calibrated")
    left.scatter(
        table.confidence[filled],
        table.accuracy[filled],
        10 + 300 * shares,
        label="a bin, by its pairs",
    )
    left.set(
        xlim=(0.48, 1.02),
        ylim=(-0.02, 1.02),
        xlabel="probability by the rewards",
        ylabel="accuracy",
    )
    left.set_title(f"expected calibration error {table.error:.2%}")
    left.legend(loc="lower right")
    numbers = judged.to_metrics()
    right.scatter(judged.rejected_length, judged.rejected, 6, alpha=0.5, label="rejected")
    right.scatter(judged.chosen_length, judged.chosen, 6, alpha=0.5, label="chosen")
    right.set(xlabel="tokens of the response", ylabel="reward")
    right.set_title(f"correlation {numbers['length_correlation']:.2f}")
    right.legend(loc="best")
    return figure_pixels(figure)
