"""Measures how much sampled music copies from training pieces in any key, and how varied it is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.evaluation.music.pieces import data_steps, draw_steps, number_steps
from genjax.evaluation.text.drawn import match_lengths
from genjax.evaluation.text.ngrams import distinct, repetition
from genjax.evaluation.text.overlap import find_longest_overlaps
from genjax.families.autoregressive.autoregressive import Autoregressive

GRAM = 4  # chords of an n-gram
SEPARATOR = 2**61 - 1  # no chord


@checks.frozen
class MusicMemorisation(Evaluator):
    """Measures the longest run of chords that a sample shares with a training piece, in any key and
    at any speed, and the variety of its chords.

    ``copied_mean`` and ``copied_longest`` are lengths in successive different chords; new pieces by
    the same composer share runs, too, so ``..._held_out`` are those of held-out pieces cut to the
    lengths of the samples. ``distinct_4`` is the number of different runs of four chords over that
    of all (Li et al., arXiv 1510.03055), ``repetition`` the share of a piece's runs of four chords
    that occur earlier in it. All depend on the amount of music: compare only with ``_held_out``.

    Attributes:
      samples: number of samples; at most as many pieces are held out.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    samples: int = 16

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples")

    def __call__(self, subject: Subject) -> Findings:
        if subject.split == "train":
            return Findings(remarks=("memorisation needs a split that was not trained on",))
        sides = (number_steps(draw_steps(subject, self.samples)), number_steps(data_steps(subject)))
        drawn, held_out = match_lengths(*sides)
        if not drawn:
            return Findings(remarks=("all samples are empty, so none can be a copy",))
        # Between pieces, so that no run goes across.
        corpus = np.concatenate(
            [np.append(p, SEPARATOR) for p in number_steps(data_steps(subject, "train"))]
        )
        numbers: dict[str, float] = {}
        for suffix, pieces in (("", drawn), ("_held_out", held_out)):
            size = find_longest_overlaps(pieces, corpus).size
            again = repetition(pieces, GRAM)
            numbers |= {
                f"copied_mean{suffix}": float(size.mean()),
                f"copied_longest{suffix}": float(size.max()),
                f"distinct_{GRAM}{suffix}": distinct(pieces, GRAM),
                f"repetition{suffix}": float(again[~np.isnan(again)].mean())
                if (~np.isnan(again)).any()
                else float("nan"),
            }
        return Findings(
            numbers,
            protocol=f"{len(drawn):,} samples by {subject.model.family.sampler} and as many pieces "
            f"of {subject.split} of the same lengths, {sum(map(len, drawn)):,} chords each; runs "
            f"among {len(corpus):,} chords of train, in any key",
        )
