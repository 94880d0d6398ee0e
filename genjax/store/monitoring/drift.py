"""Find what has drifted between two windows of prompts or responses.

Each of vectors, length, language, refusals, tags, and the labels and scores of every criterion is
compared by the same permutation test, see ``genjax.store.monitoring.energy``; their p-values are
corrected for the number of tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np

from genjax import checks
from genjax.errors import UserError
from genjax.store.monitoring.energy import (
    Compared,
    adjust_fdr,
    adjust_holm,
    compare_numbers,
    compare_sets,
    compare_vectors,
    draw_signs,
)
from genjax.store.monitoring.samples import Sample

Correction: TypeAlias = Literal["holm", "fdr"]
SHIFT, POWER = 0.5, 0.8  # standard deviations that a window must be able to show, and how surely
SHOWN = 3  # examples of a test
EXCERPT = 80  # characters of an example
ADJUST: dict[Correction, Callable[[np.ndarray], np.ndarray]] = {
    "holm": adjust_holm,
    "fdr": adjust_fdr,
}


@checks.frozen
class Testing:
    """How drift is tested.

    Attributes:
      alpha: level of the tests, after the correction.
      correction: "holm" keeps the chance of any false alarm below alpha, "fdr" the expected share
        of false alarms among the alarms (Benjamini and Hochberg).
      draws: number of random splits.
      seed: seed of the splits.
    """

    __test__ = False  # not a class of tests

    alpha: float = 0.05
    correction: Correction = "holm"
    draws: int = 999
    seed: int = 0

    def __post_init__(self) -> None:
        checks.above(self, 0, "alpha")
        checks.most(self, 0.5, "alpha")
        checks.between(self, 99, 100_000, "draws")
        checks.between(self, 0, 2**32 - 1, "seed")
        if self.correction not in ADJUST:
            raise UserError(
                f"correction must be one of {', '.join(ADJUST)}, got {self.correction!r:.40}",
                "correction",
            )

    @property
    def needed(self) -> int:
        """Return the number of records that each window needs: as many as show a shift of half a
        standard deviation in 80 % of cases.
        """
        normal = NormalDist()
        both = normal.inv_cdf(1 - self.alpha / 2) + normal.inv_cdf(POWER)
        return math.ceil(2 * (both / SHIFT) ** 2)


@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Attributes:
      test: what was compared: "embedding", "length", "language", "refusals", "tags",
        "label NAME" or "score NAME".
      p: p-value.
      adjusted: p-value corrected for all tests.
      effect: energy coefficient, from 0 for equal to 1 for completely different windows.
      said: the change in its own unit.
      drifted: whether the corrected p-value is at most alpha.
      examples: ids and starts of the texts in the window that are most unlike the reference; empty
        where nothing drifted.
    """

    test: str
    p: float
    adjusted: float
    effect: float
    said: str
    drifted: bool
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Drift:
    """What a comparison found.

    Attributes:
      reference: number of records compared, and in the whole reference window.
      window: the same of the recent window.
      testing: how it was tested.
      findings: results, in the order of tests.
      skipped: tests that could not be done, and why.
    """

    reference: tuple[int, int]
    window: tuple[int, int]
    testing: Testing
    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def drifted(self) -> tuple[Finding, ...]:
        """Return the findings that are alarms."""
        return tuple(one for one in self.findings if one.drifted)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self) | {"drifted": [one.test for one in self.drifted]}


@dataclass(frozen=True)
class _Test:
    """A test of those items that have a value.

    Attributes:
      name: name of the test.
      there: which items of both windows have a value, [N].
      said: the change in words.
      compare: compares the items that are there, by the signs of a split.
    """

    name: str
    there: np.ndarray
    said: str
    compare: Callable[[np.ndarray], Compared]


def find_drift(reference: Sample, window: Sample, testing: Testing = Testing()) -> Drift:
    """Compare a window with a reference window.

    Raises:
      UserError: a window is too small to say anything.
    """
    for name, sample in (("reference", reference), ("window", window)):
        if len(sample.ids) < testing.needed:
            raise UserError(
                f"{name} must have at least {testing.needed} records with a text, got "
                f"{len(sample.ids)}",
                name,
            )
    size = len(reference.ids)
    splits: dict[tuple[int, int], np.ndarray] = {}
    done: list[tuple[_Test, Compared, np.ndarray]] = []
    skipped = []
    if reference.vectors is None or window.vectors is None:
        skipped.append(("embedding", "there is no encoder"))
    for test in _list_tests(reference, window):
        first = int(test.there[:size].sum())
        second = int(test.there.sum()) - first
        if min(first, second) < testing.needed:
            why = f"needs {testing.needed} values in each window, has {first} and {second}"
            skipped.append((test.name, why))
            continue
        if (first, second) not in splits:
            rng = np.random.default_rng([testing.seed, first, second])
            splits[first, second] = draw_signs(first, second, testing.draws, rng)
        places = np.flatnonzero(test.there)[first:] - size
        done.append((test, test.compare(splits[first, second]), places))
    adjusted = ADJUST[testing.correction](np.array([one.p for _, one, _ in done]))
    findings = []
    for (test, one, places), corrected in zip(done, adjusted, strict=True):
        found = Finding(test.name, one.p, float(corrected), one.coefficient, test.said, False)
        if corrected <= testing.alpha:
            best = places[np.argsort(-one.moved, kind="stable")[:SHOWN]]
            found = replace(found, drifted=True, examples=tuple(_show(window, best)))
        findings.append(found)
    return Drift(
        (size, reference.total),
        (len(window.ids), window.total),
        testing,
        tuple(findings),
        tuple(skipped),
    )


def _show(sample: Sample, places: Sequence[int] | np.ndarray) -> Iterator[tuple[str, str]]:
    for i in places:
        text = " ".join(sample.texts[i][: 4 * EXCERPT].split())
        yield sample.ids[i], text if len(text) <= EXCERPT else f"{text[: EXCERPT - 1]}…"


def _list_tests(reference: Sample, window: Sample) -> Iterator[_Test]:
    size, total = len(reference.ids), len(reference.ids) + len(window.ids)
    everyone = np.ones(total, bool)
    if reference.vectors is not None and window.vectors is not None:
        vectors = np.concatenate([reference.vectors, window.vectors])
        yield _Test("embedding", everyone, "", partial(compare_vectors, vectors))
    yield _test_lengths([*reference.texts, *window.texts], size)
    spoken = (*reference.languages, *window.languages)
    yield _test_sets("language", [(one,) for one in spoken], everyone, size)
    if reference.refused is not None and window.refused is not None:
        refused = np.concatenate([reference.refused, window.refused]).astype(np.float64)
        said = f"{refused[:size].mean():.1%} → {refused[size:].mean():.1%}"
        yield _Test("refusals", everyone, said, partial(compare_numbers, refused))
    tags = (*reference.tags, *window.tags)
    if any(tags):
        yield _test_sets("tags", tags, everyone, size)
    for name in sorted({*reference.labels, *window.labels}):
        words = [one for s in (reference, window) for one in s.labels.get(name, (None,) * len(s))]
        there = np.array([word is not None for word in words])
        kept = [(word,) for word in words if word is not None]
        yield _test_sets(f"label {name}", kept, there, int(there[:size].sum()))
    for name in sorted({*reference.scores, *window.scores}):
        both = [s.scores.get(name, np.full(len(s), np.nan)) for s in (reference, window)]
        yield _test_numbers(f"score {name}", np.concatenate(both), size)


def _test_lengths(texts: Sequence[str], first: int) -> _Test:
    lengths = np.array([len(text) for text in texts], np.float64)
    before, after = np.median(lengths[:first]), np.median(lengths[first:])
    change = f" ({after / before - 1:+.0%})" if before else ""
    said = f"median {before:,.0f} → {after:,.0f} characters{change}"
    everyone = np.ones(len(lengths), bool)
    return _Test("length", everyone, said, partial(compare_numbers, np.log1p(lengths)))


def _test_numbers(name: str, values: np.ndarray, size: int) -> _Test:
    there = np.isfinite(values)
    before, after = values[:size][there[:size]], values[size:][there[size:]]
    said = f"mean {_mean(before):.4g} → {_mean(after):.4g}"
    scale = float(np.abs(values[there]).max(initial=0.0)) or 1.0
    return _Test(name, there, said, partial(compare_numbers, values[there] / scale))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _test_sets(name: str, sets: Sequence[Sequence[str]], there: np.ndarray, first: int) -> _Test:
    names = sorted({one for members in sets for one in members})
    place = {one: i for i, one in enumerate(names)}
    members = np.zeros((len(sets), len(names)))
    for row, some in zip(members, sets, strict=True):
        row[[place[one] for one in some]] = 1
    said = ""
    if 0 < first < len(sets):
        before, after = members[:first].mean(0), members[first:].mean(0)
        most = int(np.argmax(np.abs(after - before)))
        said = f"{names[most][:40]} {before[most]:.1%} → {after[most]:.1%}"
    return _Test(name, there, said, partial(compare_sets, members))
