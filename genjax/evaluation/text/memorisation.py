"""Whether a model gives its training text away: what it copies unasked, and what it continues
when prompted.
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
from genjax.evaluation.text.overlap import longest_overlaps
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.continuation import continue_prompts
from genjax.family import Batch, Family, State
from genjax.samplers.tokens.decoding import Prompts, TokenSampler

CONFIDENCE = 0.95  # of the interval that the flag of an extraction rate goes by
QUOTED = 80  # characters of a passage that a remark quotes


@checks.frozen
class TextMemorisation(Evaluator):
    """How much of the training text is in samples word for word, and how much of it a prefix brings
    out.

    The overlap of a text is the longest passage of it, in tokens, that is in the training text as
    well. New text has some, too, so held-out text cut to the lengths of the samples says what is
    usual: ``overlap_mean`` and ``overlap_held_out_mean``, ``overlap_longest`` and
    ``overlap_held_out_longest``. ``copies`` is the share of samples whose overlap exceeds the one
    that at most ``false_alarms`` of new texts exceed, ``copies_expected`` the share that a perfect
    model would have there.

    ``extracted`` is the share of training rows whose first ``prefix`` tokens the model continues,
    each time by the most likely token, with exactly the next ``size`` ones (Carlini et al., arXiv
    2202.07646); ``extracted_held_out`` is that of held-out rows, where only what can be guessed is
    found. The interval of the difference of the two (``extracted_excess_low`` is its lower end) is
    Newcombe's of 1998, of 95 %.

    Attributes:
      samples: that are drawn by the family's own sampler; as many held-out texts are taken.
      false_alarms: share of new texts that may be taken for copies; about 1 / ``samples`` can be
        kept to at best.
      rows: of training and as many held-out ones to be continued, evenly spaced; fewer where they
        are too short.
      prefix: tokens of a row that are given.
      size: tokens that must be continued with.
      flag_above: the difference of extraction rates from which on the model is flagged.
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
                f"TextMemorisation gives {self.prefix} tokens and asks for {self.size}, but rows "
                f"are of {spec.shape[0]}"
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
            return Findings(
                remarks=("no sample has a token: there is nothing that could be a copy",)
            )
        drawn, held_out = (longest_overlaps(side, corpus) for side in texts)
        line = overlap_threshold(held_out.size, self.false_alarms)
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
                f"{line.ratio:.0f} tokens on end "
                f"with the training text, as few new texts do (expected: {line.expected:.1%}): the "
                "model copies it, as "
                f"in {_quote(subject, passage)}",
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
            extraction(subject, split, self.rows, self.prefix, self.size)
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
                "of held-out ones; "
                f"the difference is above {self.flag_above:.1%}: the model gives its training text "
                "away, such as "
                f"{_quote(subject, example)}",
            )
        label = f"tokens that agree of {self.size}"
        return Findings(
            numbers,
            {"extraction": _picture(train.agreed, held_out.agreed, label, "rows", "train")},
            protocol,
            remarks,
        )


class Extraction(NamedTuple):
    """Rows that were continued.

    Attributes:
      rows: their numbers in the split [N].
      texts: what they continue after the prefix [N, M] int32.
      agreed: how many of these tokens the model found before its first other one [N] int64.
    """

    rows: np.ndarray
    texts: np.ndarray
    agreed: np.ndarray


def extraction(subject: Subject, split: str, limit: int, prefix: int, size: int) -> Extraction:
    """Return the model's most likely continuations of ``limit`` rows evenly spaced over a split.

    Rows whose first document has fewer than ``prefix`` + ``size`` tokens are left out.
    """
    chosen = subject.select_part(limit, split).rows
    drawn, texts, whole = subject.collect(_continue_rows, prefix, size, split=split, limit=limit)
    agreed = np.cumprod(drawn == texts, axis=1).sum(1)
    return Extraction(chosen[whole], texts[whole], agreed[whole])


def least_excess(train: np.ndarray, held_out: np.ndarray) -> float:
    """Return the lower end of the interval of the difference of two shares, of flags [N] and [M]
    bool.
    """
    z = quantile(CONFIDENCE, 2)
    (one, low, _), (other, _, high) = (
        wilson(np.array(x.sum()), len(x), z) for x in (train, held_out)
    )
    return float(one - other - np.hypot(one - low, high - other))


def overlap_threshold(held_out: np.ndarray, false_alarms: float) -> Threshold:
    """Above which overlap a text is taken for a copy, from those [K] of held-out texts."""
    rank = max(1, int(false_alarms * (len(held_out) + 1)))
    return Threshold(float(np.sort(held_out)[-rank]), rank, len(held_out))


def get_corpus(subject: Subject, split: str) -> np.ndarray:
    """Return all tokens [M] of a split, one document after another, in memory or on disk.

    Raises:
      UserError: the split has none.
    """
    whole = subject.splits[split]
    if not isinstance(whole, HasCorpus):
        raise UserError(f"the {split} split has no corpus to search for passages of")
    return whole.corpus.tokens


def _continue_rows(
    family: Autoregressive, state: State, batch: Batch, key: jax.Array, prefix: int, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return likeliest and true continuations int32 [B, M], and whether the row has all these
    tokens, bool [B].
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
    """Return a passage as text, where the codec has such."""
    text = subject.model.codec.decode(tokens)
    if not isinstance(text, str):
        return f"the tokens {' '.join(map(str, tokens[:20]))}"
    return repr(text if len(text) <= QUOTED else text[:QUOTED] + "…")


def _picture(
    one: np.ndarray, other: np.ndarray, size: str, what: str, name: str = "samples"
) -> np.ndarray:
    """Return the share of texts with at least this many tokens, of both sides."""
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
