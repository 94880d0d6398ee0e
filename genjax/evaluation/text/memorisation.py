"""Measures how much training text a model reveals: copied in samples, or continued from a
prefix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure, show_percents
from genjax.data.dataset import HasCorpus, Spec
from genjax.errors import UserError
from genjax.evaluation.images.bias import quantile, wilson
from genjax.evaluation.images.memorisation import SIGNIFICANT, Threshold
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.text.drawn import check_texts, data_texts, draw_texts, match_lengths
from genjax.evaluation.text.overlap import find_longest_overlaps
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.continuation import continue_prompts
from genjax.family import Batch, Family, State
from genjax.samplers.tokens.decoding import Prompts, TokenSampler

CONFIDENCE = 0.95  # of the interval of the excess extraction rate
QUOTED = 80  # characters of a passage quoted in a remark


@checks.frozen
class TextMemorisation(Evaluator):
    """Measures how much training text samples copy verbatim, and how much a prefix extracts.

    The overlap of a text is the length, in tokens, of its longest passage that is in the training
    text. New text overlaps, too, so held-out text cut to the lengths of the samples shows what is
    usual: ``overlap_mean`` and ``overlap_held_out_mean``, ``overlap_longest`` and
    ``overlap_held_out_longest``. ``copies`` is the share of samples whose overlap exceeds the
    threshold that at most ``false_alarms`` of new texts exceed, ``copies_expected`` the share
    expected of a perfect model.

    ``extracted`` is the share of training rows whose first ``prefix`` tokens the model continues,
    greedily, with exactly the next ``size`` tokens (Carlini et al., arXiv 2202.07646);
    ``extracted_held_out`` is the same for held-out rows, which can only be guessed.
    ``extracted_excess_low`` is the lower end of Newcombe's 95 % interval (1998) of their
    difference.

    Attributes:
      samples: number of samples, and of held-out texts.
      false_alarms: share of new texts that may count as copies; at best about 1 / ``samples``.
      rows: number of training rows, and of held-out rows, to continue, evenly spaced; rows that are
          too short are left out.
      prefix: number of tokens given of a row.
      size: number of tokens that must match.
      flag_above: difference of extraction rates above which there is a remark.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    samples: int = 200
    false_alarms: float = 0.01
    rows: int = 500
    prefix: int = 32
    size: int = 32
    flag_above: float = 0.01

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples", "rows", "prefix", "size")
        checks.inside(self, 0, 1, "false_alarms")
        checks.share(self, "flag_above")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_texts("TextMemorisation", spec)
        if self.prefix + self.size > spec.shape[0]:
            raise UserError(
                f"prefix + size must be at most {spec.shape[0]} (tokens of a row), got "
                f"{self.prefix + self.size}",
                "prefix",
            )

    def __call__(self, subject: Subject) -> Findings:
        if subject.split == "train":
            return Findings(remarks=("memorisation needs a split that was not trained on",))
        copying, extracting = self._find_copies(subject), self._extract(subject)
        return Findings(
            {**copying.numbers, **extracting.numbers},
            {**copying.pictures, **extracting.pictures},
            f"{copying.protocol}; {extracting.protocol}",
            (*copying.remarks, *extracting.remarks),
        )

    def _find_copies(self, subject: Subject) -> Findings:
        corpus = get_corpus(subject, "train")
        texts = match_lengths(draw_texts(subject, self.samples), data_texts(subject, self.samples))
        if not texts[0]:
            return Findings(remarks=("all samples are empty, so none can be a copy",))
        drawn, held_out = (find_longest_overlaps(side, corpus) for side in texts)
        line = find_overlap_threshold(held_out.size, self.false_alarms)
        flagged = drawn.size > line.ratio
        numbers = {
            "overlap_mean": float(drawn.size.mean()),
            "overlap_held_out_mean": float(held_out.size.mean()),
            "overlap_longest": float(drawn.size.max()),
            "overlap_held_out_longest": float(held_out.size.max()),
            "copies": float(flagged.mean()),
            "copies_expected": line.expected,
        }
        remarks: tuple[str, ...] = ()
        if line.compute_tail_probability(int(flagged.sum()), len(flagged)) < SIGNIFICANT:
            worst = int(drawn.size.argmax())
            passage = texts[0][worst][drawn.begin[worst] :][: drawn.size[worst]]
            remarks = (
                f"{int(flagged.sum()):,} of {len(flagged):,} samples share more than "
                f"{line.ratio:.0f} consecutive tokens with the training text (expected: "
                f"{line.expected:.1%}): the model copies it, such as {_quote(subject, passage)}",
            )
        return Findings(
            numbers,
            {
                "overlaps": _picture(
                    drawn.size,
                    held_out.size,
                    "longest passage of the training text, tokens",
                    "texts",
                )
            },
            f"{len(flagged):,} samples by {subject.model.family.sampler}, without their prompt, "
            "and as many texts of "
            f"{subject.split} of the same lengths; longest passages among {len(corpus):,} tokens "
            "of train; copies "
            f"share more than {line.ratio:.0f} tokens",
            remarks,
        )

    def _extract(self, subject: Subject) -> Findings:
        train, held_out = (
            extract_rows(subject, split, self.rows, self.prefix, self.size)
            for split in ("train", subject.split)
        )
        protocol = (
            f"the first {self.prefix} tokens of {len(train.rows):,} rows of train and "
            f"{len(held_out.rows):,} of "
            f"{subject.split}, continued by {self.size} likeliest tokens"
        )
        if not (len(train.rows) and len(held_out.rows)):
            short = (
                f"no row of train or of {subject.split} has {self.prefix + self.size} tokens: "
                "nothing was extracted"
            )
            return Findings(protocol=protocol, remarks=(short,))
        rates = [float((found.agreed == self.size).mean()) for found in (train, held_out)]
        least = least_excess(train.agreed == self.size, held_out.agreed == self.size)
        numbers = {
            "extracted": rates[0],
            "extracted_held_out": rates[1],
            "extracted_excess_low": least,
        }
        remarks: tuple[str, ...] = ()
        if least > self.flag_above:
            example = train.texts[int(train.agreed.argmax())]
            remarks = (
                f"{rates[0]:.1%} of the training rows are continued word for word, {rates[1]:.1%} "
                f"of held-out ones; the difference is above {self.flag_above:.1%}: the model "
                f"reveals its training text, such as {_quote(subject, example)}",
            )
        label = f"tokens that agree of {self.size}"
        return Findings(
            numbers,
            {"extraction": _picture(train.agreed, held_out.agreed, label, "rows", "train")},
            protocol,
            remarks,
        )


class Extraction(NamedTuple):
    """Rows of a split with their greedy continuations.

    Attributes:
      rows: row numbers in the split, [N].
      texts: true continuations after the prefix, int32 [N, M].
      agreed: number of tokens that the model continues correctly before its first mistake, int64
          [N].
    """

    rows: np.ndarray
    texts: np.ndarray
    agreed: np.ndarray


def extract_rows(subject: Subject, split: str, limit: int, prefix: int, size: int) -> Extraction:
    """Continue ``limit`` rows, evenly spaced over a split, greedily.

    Rows whose first document has fewer than ``prefix`` + ``size`` tokens are left out.
    """
    chosen = subject.select_part(limit, split).rows
    drawn, texts, whole = subject.collect(_continue_rows, prefix, size, split=split, limit=limit)
    agreed = np.cumprod(drawn == texts, axis=1).sum(1)
    return Extraction(chosen[whole], texts[whole], agreed[whole])


def least_excess(train: np.ndarray, held_out: np.ndarray) -> float:
    """Return the lower end of the interval of the difference of two shares, given flags, bool [N]
    and [M].
    """
    z = quantile(CONFIDENCE, 2)
    (one, low, _), (other, _, high) = (
        wilson(np.array(x.sum()), len(x), z) for x in (train, held_out)
    )
    return float(one - other - np.hypot(one - low, high - other))


def find_overlap_threshold(held_out: np.ndarray, false_alarms: float) -> Threshold:
    """Find the overlap above which a text counts as a copy, from those [K] of held-out texts."""
    rank = max(1, int(false_alarms * (len(held_out) + 1)))
    return Threshold(float(np.sort(held_out)[-rank]), rank, len(held_out))


def get_corpus(subject: Subject, split: str) -> np.ndarray:
    """Return all tokens [M] of a split, one document after another, in memory or on disk.

    Raises:
      UserError: the split has no corpus.
    """
    whole = subject.splits[split]
    if not isinstance(whole, HasCorpus):
        raise UserError(f"the {split} split has no corpus to search for passages")
    return whole.corpus.tokens


def _continue_rows(
    family: Autoregressive, state: State, batch: Batch, key: jax.Array, prefix: int, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return greedy and true continuations, int32 [B, M], and whether the row is long enough, bool
    [B].
    """
    tokens = batch["tokens"]
    whole = (batch["loss_mask"][:, 1 : prefix + size] > 0).all(1)
    if "segment_ids" in batch:
        whole &= (batch["segment_ids"][:, : prefix + size] == 1).all(1)
    drawn = continue_prompts(
        family,
        state.params,
        Prompts(tokens[:, :prefix], jnp.ones((len(tokens), prefix), bool)),
        TokenSampler(size, temperature=0),
        key,
    )
    return drawn.tokens, tokens[:, prefix : prefix + size], whole


def _quote(subject: Subject, tokens: np.ndarray) -> str:
    """Quote a passage as text, or as tokens if the codec has no text."""
    text = subject.model.codec.decode(tokens)
    if not isinstance(text, str):
        return f"the tokens {' '.join(map(str, tokens[:20]))}"
    return repr(text if len(text) <= QUOTED else text[:QUOTED] + "…")


def _picture(
    one: np.ndarray, other: np.ndarray, size: str, what: str, name: str = "samples"
) -> np.ndarray:
    """Draw the share of texts with at least so many tokens, for both sides."""
    figure = new_figure(5.5, 3.4)
    axes = figure.add_subplot()
    for values, colour, label in ((other, "0.5", "held out"), (one, "tab:blue", name)):
        at = np.arange(math.floor(values.max()) + 2)
        share = (values[:, None] >= at).mean(0)
        axes.step(at, share, where="mid", color=colour, label=label)
    show_percents(axes.yaxis)
    axes.set(xlabel=size, ylabel=f"share of {what} with at least so many", ylim=(0, 1.02))
    axes.legend()
    return figure_pixels(figure)
