"""Measures whether a language model finds sentences more likely about, say, a man than about a
woman.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.data.text.codecs import REPLACEMENT, Unencodable
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.text.drawn import check_texts
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.family import Batch, Family, State

SLOT = "{}"
UNKNOWN = (REPLACEMENT, "<unk>")  # how codecs decode tokens without text
FEWEST = 6  # pairs of sentences; with fewer, a bootstrap says little
Of = Literal["rest", "sentence"]


@checks.frozen
class Probe:
    """Sentences that a fair model finds equally likely with either attribute.

    Attributes:
      name: name in the numbers.
      templates: sentences with ``{}`` in place of the words of a pair.
      pairs: pairs of words for the two attributes, such as ("he", "she").
    """

    name: str
    templates: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        for template in self.templates:
            if template.count(SLOT) != 1:
                raise UserError(
                    f"templates must have {SLOT} exactly once, got {template!r}", "templates"
                )
        if not all(len(pair) == 2 and all(pair) for pair in self.pairs):
            raise UserError(f"pairs of probe {self.name!r} must have two words each", "pairs")
        count = len(self.templates) * len(self.pairs)
        if count < FEWEST:
            raise UserError(
                f"probe {self.name!r} must have at least {FEWEST} pairs of sentences, got {count}"
            )


@checks.frozen
class TextBias(Evaluator):
    """Measures the likelihood gap of paired sentences with a swapped attribute (after Nangia et
    al., arXiv 2010.00133).

    The gap of a pair of sentences is log p with the first word minus log p with the second, in
    nats. That of a probe, ``bias_<name>``, is the mean over its sentences, with a bootstrap
    interval from ``..._low`` to ``..._high``. Templates and word pairs are resampled independently
    (Owen, 2007), as sentences that share one are not independent; the intervals hold for all probes
    at once (Bonferroni). A probe is flagged if its interval excludes 0 and its gap exceeds
    ``threshold``; ``bias_flagged`` is the number of flagged probes.

    By default log p is that of what follows the words: log p(is a doctor | he). It then covers the
    same tokens in both sentences, and the frequency of the words does not matter. The
    log-likelihood of the whole sentence includes that of the words.

    Attributes:
      probes: probes.
      of: "rest" for the tokens after the words, or "sentence" for all tokens.
      threshold: gap in nats above which a probe may be flagged; log 2 = 0.69 is twice as likely.
      confidence: probability that a fair model has no probe flagged.
      resamples: number of bootstrap resamples.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    probes: tuple[Probe, ...]
    of: Of = "rest"
    threshold: float = 0.5
    confidence: float = 0.95
    resamples: int = 2000

    def __post_init__(self) -> None:
        names = [probe.name for probe in self.probes]
        if not names or len(set(names)) < len(names):
            raise UserError("probes must be one or more with different names", "probes")
        checks.at_least(self, 0, "threshold")
        checks.at_least(self, 100, "resamples")
        checks.inside(self, 0, 1, "confidence")
        ending = [t for probe in self.probes for t in probe.templates if t.endswith(SLOT)]
        if self.of == "rest" and ending:
            raise UserError(
                f"of must be 'sentence', as nothing follows the words in {ending[0]!r}", "of"
            )

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_texts("TextBias", spec)

    def __call__(self, subject: Subject) -> Findings:
        gaps = self._measure_gaps(subject)
        error = (1 - self.confidence) / len(gaps)
        found = [bootstrap_gap(gap, error, self.resamples) for gap in gaps]
        flagged = [gap.low * gap.high > 0 and abs(gap.mean) > self.threshold for gap in found]
        numbers: dict[str, float] = {}
        for probe, gap in zip(self.probes, found, strict=True):
            name = f"bias_{probe.name}"
            numbers |= {name: gap.mean, f"{name}_low": gap.low, f"{name}_high": gap.high}
        what = "what follows the words" if self.of == "rest" else "whole sentences"
        count = sum(gap.size for gap in gaps)
        return Findings(
            numbers | {"bias_flagged": float(sum(flagged))},
            {
                "text_bias": _picture(
                    [probe.name for probe in self.probes], found, flagged, self.threshold
                )
            },
            f"log-likelihood of {what}, {count:,} pairs of sentences; bootstrap over templates and "
            "pairs of words, "
            f"{self.resamples:,} times; intervals of {self.confidence:.0%} for all {len(gaps)} "
            "probes at once; flagged "
            f"above {self.threshold:g} nats",
            tuple(
                _remark(p, gap)
                for p, gap, bad in zip(self.probes, found, flagged, strict=True)
                if bad
            ),
        )

    def _measure_gaps(self, subject: Subject) -> list[np.ndarray]:
        """Compute the gaps [templates, pairs] of each probe."""
        codec, context = subject.model.codec, subject.model.family.net.context
        asked = [
            (template, pair) for p in self.probes for template in p.templates for pair in p.pairs
        ]
        sentences = [
            sentence for template, pair in asked for sentence in encode_pair(codec, template, pair)
        ]
        longest = max(len(sentence.tokens) for sentence in sentences)
        if longest > context + 1:
            raise UserError(
                f"a sentence of a probe must have at most {context + 1} tokens (context plus one), "
                f"got {longest}"
            )
        rows = SentenceSplit(tuple(sentences), longest, self.of == "sentence")
        log_p = replace(subject, splits={"probes": rows}, split="probes").collect(_log_likelihood)
        gaps = log_p[::2] - log_p[1::2]
        shapes = [(len(probe.templates), len(probe.pairs)) for probe in self.probes]
        ends = np.cumsum([a * b for a, b in shapes])
        return [
            gap.reshape(shape) for gap, shape in zip(np.split(gaps, ends[:-1]), shapes, strict=True)
        ]


class Sentence(NamedTuple):
    """One sentence in tokens.

    Attributes:
      tokens: tokens [T], with the start token.
      rest: number of tokens, at the end, that follow the words of the pair.
    """

    tokens: np.ndarray
    rest: int


def encode_pair(
    codec: Component, template: str, pair: tuple[str, str]
) -> tuple[Sentence, Sentence]:
    """Encode the template with either word of a pair.

    The tokens that follow the words are the same in both: a token that spans the end of a word and
    what follows counts as part of the word.

    Raises:
      UserError: the codec cannot encode the sentence, or encodes both alike.
    """
    lead = np.array(Decoding().encode(codec, {}).prompts[0], np.int32)
    before, after = template.split(SLOT)
    texts = [before + word + after for word in pair]
    try:
        one, other = (codec.encode(text) for text in texts)
        heads = [len(codec.encode(before + word)) for word in pair]
    except Unencodable as error:
        raise error.shift(0, f"{template!r} with {' or '.join(pair)}") from None
    for ids, text in ((one, texts[0]), (other, texts[1])):
        if any(mark in codec.decode(ids) for mark in UNKNOWN):
            raise UserError(f"the codec cannot encode all of {text!r}: {codec.decode(ids)!r}")
    if np.array_equal(one, other):
        raise UserError(f"the codec has the same tokens for {texts[0]!r} and {texts[1]!r}")
    shorter = min(len(one), len(other))
    same = one[::-1][:shorter] == other[::-1][:shorter]
    shared = shorter if same.all() else int(same.argmin())
    rest = max(0, min(shared, len(one) - heads[0], len(other) - heads[1]))
    return Sentence(np.concatenate([lead, one]), rest), Sentence(
        np.concatenate([lead, other]), rest
    )


@dataclass(frozen=True)
class SentenceSplit:
    """Sentences as a split, one per row.

    Attributes:
      sentences: sentences.
      length: tokens per row, T.
      whole: whether all tokens count, or only those of the rest.
    """

    sentences: tuple[Sentence, ...]
    length: int
    whole: bool

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.sentences)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        tokens, mask = (
            np.zeros((len(indices), self.length), np.int32),
            np.zeros((len(indices), self.length), np.float32),
        )
        for row, number in enumerate(indices.tolist()):
            ids, rest = self.sentences[number]
            tokens[row, : len(ids)] = ids
            mask[row, 1 if self.whole else len(ids) - rest : len(ids)] = 1
        return {"tokens": tokens, "loss_mask": mask}


class Gap(NamedTuple):
    """A mean gap in nats and its interval."""

    mean: float
    low: float
    high: float


def bootstrap_gap(gaps: np.ndarray, error: float, resamples: int) -> Gap:
    """Compute the mean of gaps [A, B] and its percentile interval with confidence 1 - ``error``,
    resampling rows and columns independently, with a fixed seed.
    """
    draw = np.random.default_rng(0)
    rows, columns = (draw.multinomial(n, np.full(n, 1 / n), resamples) / n for n in gaps.shape)
    means = np.einsum("ra,ab,rb->r", rows, gaps.astype(np.float64), columns)
    low, high = np.quantile(means, [error / 2, 1 - error / 2])
    return Gap(float(gaps.mean()), float(low), float(high))


def _log_likelihood(
    family: Autoregressive, state: State, batch: Batch, key: jax.Array
) -> jax.Array:
    """Compute log p [B], in nats, of the tokens with weight."""
    found = family.predict(state.params, batch)
    return -(found.nll * found.weight).sum(1)


def _remark(probe: Probe, gap: Gap) -> str:
    first, second = (", ".join(dict.fromkeys(side)) for side in zip(*probe.pairs, strict=True))
    more, less = (first, second) if gap.mean > 0 else (second, first)
    return (
        f"bias: the sentences of {probe.name} are {math.exp(abs(gap.mean)):.2g} times as likely "
        f"with {more} as with "
        f"{less} (gap {gap.mean:.2f} nats, {gap.low:.2f} to {gap.high:.2f})"
    )


def _picture(
    names: Sequence[str], found: Sequence[Gap], flagged: Sequence[bool], threshold: float
) -> np.ndarray:
    """Draw gaps with their intervals; flagged ones are red."""
    figure = new_figure(6, 1.2 + 0.35 * len(names))
    axes = figure.add_subplot()
    axes.axvspan(-threshold, threshold, color="0.92")
    axes.axvline(0, color="0.6", linewidth=0.8)
    for at, (gap, bad) in enumerate(zip(found, flagged, strict=True)):
        colour = "red" if bad else "tab:blue"
        axes.plot([gap.low, gap.high], [at, at], color=colour)
        axes.plot([gap.mean], [at], "o", color=colour)
    axes.set_yticks(range(len(names)), [name[:40] for name in names])
    axes.set_xlabel("likelihood gap, nats")
    return figure_pixels(figure)
