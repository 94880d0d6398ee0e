"""Measures whether sampled texts are as varied as the data, within and between texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.text.drawn import (
    check_texts,
    data_texts,
    draw_texts,
    match_lengths,
    split_texts,
)
from genjax.evaluation.text.ngrams import distinct, repetition, self_bleu
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import Family

ALIKE = 0.95  # self-BLEU (at most 1) above which texts are nearly the same
COLLAPSED = 0.5  # ratio of distinct-n below which a remark is made
REPEATING = 0.2  # excess repetition over held-out text above which a remark is made
Unit = Literal["words", "tokens"]


@checks.frozen
class TextDiversity(Evaluator):
    """Compares distinct n-grams, self-BLEU and repetition of samples with those of as much held-out
    text.

    ``distinct_1`` to ``distinct_N`` are the numbers of different n-grams over those of all n-grams
    of the samples (Li et al., arXiv 1510.03055); ``self_bleu`` is the mean BLEU, with orders up to
    N, of each sample against all others (Zhu et al., arXiv 1802.01886), 1 if all texts are the
    same; ``repetition`` is the share of N-grams that occur earlier in the same text (Welleck et
    al., arXiv 1908.04319). The same names with ``_held_out`` are for held-out text cut to the same
    number of tokens, as a perfect model would have: all depend on the amount of text, so they mean
    nothing by themselves.

    Attributes:
      samples: number of samples.
      n: length of the longest n-grams.
      unit: unit of n-grams: "words" of the decoded text or the model's "tokens".
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    samples: int = 200
    n: int = 4
    unit: Unit = "words"

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "samples")
        checks.at_least(self, 1, "n")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_texts("TextDiversity", spec)

    def __call__(self, subject: Subject) -> Findings:
        both = match_lengths(draw_texts(subject, self.samples), data_texts(subject, self.samples))
        if len(both[0]) < 2:
            return Findings(
                remarks=(
                    "the diversity of texts needs at least 2 samples and 2 rows that are not empty",
                )
            )
        tokens = sum(map(len, both[0]))
        texts = (
            both
            if self.unit == "tokens"
            else tuple(split_texts(subject.model.codec, side) for side in both)
        )
        drawn, held_out = (measure_diversity(side, self.n) for side in texts)
        return Findings(
            drawn.to_metrics() | held_out.to_metrics("_held_out"),
            {"text_diversity": _picture(drawn, held_out)},
            f"{len(both[0]):,} samples by {subject.model.family.sampler}, without their prompt, "
            "and as many rows of "
            f"{subject.split}, both cut to {tokens:,} tokens in all; n-grams of {self.unit}; "
            "self-BLEU and repetition "
            f"in orders up to and of {self.n}",
            make_remarks(drawn, held_out),
        )

    def cautions(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        found = []
        for suffix, whose in (("", "the samples"), ("_held_out", "the held-out rows")):
            alike = numbers.get(f"self_bleu{suffix}", 0.0)
            if alike > ALIKE:
                found.append(
                    f"self_bleu{suffix} {alike:.3g}: {whose} are nearly the same, so the other "
                    "numbers mean little"
                )
        return tuple(found)


class Varied(NamedTuple):
    """Measures of the diversity of texts.

    Attributes:
      distinct: different n-grams over all n-grams for n = 1 to N, [N].
      self_bleu: mean over texts.
      repetition: repetition of N-grams in each text [T]; NaN if it is too short.
    """

    distinct: np.ndarray
    self_bleu: float
    repetition: np.ndarray

    @property
    def repeated(self) -> float:
        """The mean repetition of texts that are long enough; NaN if there are none."""
        known = self.repetition[~np.isnan(self.repetition)]
        return float(known.mean()) if len(known) else float("nan")

    def to_metrics(self, suffix: str = "") -> dict[str, float]:
        found = {f"distinct_{n}{suffix}": float(share) for n, share in enumerate(self.distinct, 1)}
        found |= {f"self_bleu{suffix}": self.self_bleu, f"repetition{suffix}": self.repeated}
        # NaN if all texts are too short for such n-grams.
        return {name: value for name, value in found.items() if not np.isnan(value)}


def measure_diversity(texts: Sequence[np.ndarray], n: int) -> Varied:
    """Measure the diversity of at least 2 texts [T], with n-grams up to ``n``."""
    shares = np.array([distinct(texts, order) for order in range(1, n + 1)])
    return Varied(shares, float(self_bleu(texts, n).mean()), repetition(texts, n))


def make_remarks(drawn: Varied, held_out: Varied) -> tuple[str, ...]:
    remarks = []
    ratio = drawn.distinct[-1] / held_out.distinct[-1]
    n = len(drawn.distinct)
    if ratio < COLLAPSED:
        remarks.append(
            f"samples have {ratio:.2f} times as many different {n}-grams as held-out text: the "
            "model keeps drawing similar texts"
        )
    if drawn.repeated > held_out.repeated + REPEATING:
        remarks.append(
            f"{drawn.repeated:.0%} of the {n}-grams of a sample occur earlier in it, "
            f"{held_out.repeated:.0%} in held-out text: the model repeats itself; a higher "
            "temperature or a repetition_penalty may help"
        )
    return tuple(remarks)


def _picture(drawn: Varied, held_out: Varied) -> np.ndarray:
    """Draw bars of distinct-n and self-BLEU on the left, and a histogram of repetition on the
    right.
    """
    figure = new_figure(8, 3.4)
    left, right = figure.subplots(1, 2)
    at = np.arange(len(drawn.distinct) + 1)
    names = [*(f"distinct-{n}" for n in at[1:]), "self-BLEU"]
    for shift, side, colour, name in (
        (-0.2, held_out, "0.65", "held out"),
        (0.2, drawn, "tab:blue", "samples"),
    ):
        left.bar(at + shift, [*side.distinct, side.self_bleu], 0.4, color=colour, label=name)
        known = side.repetition[~np.isnan(side.repetition)]
        right.hist(known, np.linspace(0, 1, 21), color=colour, alpha=0.6, label=name)
    left.set_xticks(at, names, rotation=30, ha="right")
    left.set(ylim=(0, 1))
    right.set(
        xlabel=f"share of {len(drawn.distinct)}-grams that occur earlier in the text",
        ylabel="texts",
    )
    right.legend()
    return figure_pixels(figure)
