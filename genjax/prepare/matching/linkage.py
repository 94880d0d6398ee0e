"""Find rows of a table about the same thing without a common key: probabilistic record linkage.

Fellegi and Sunter, 1969, "A theory for record linkage"; Winkler, 1988, "Using the EM algorithm for
weight computation in the Fellegi-Sunter model of record linkage".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genjax import checks
from genjax.errors import UserError, unknown_name
from genjax.prepare.matching.columns import SIMILARITY, choose_blocks, guess_kinds
from genjax.prepare.matching.components import buckets, choose_links, components
from genjax.prepare.matching.estimation import MISSING, estimate, join_codes
from genjax.prepare.matching.similarities import SIMILARITIES, soundex

MOST = 50  # most rows of an automatically chosen block


@checks.frozen
class Blocking:
    """Selects which rows are compared: those with the same values, or close together when sorted.

    Rows with a missing value are left out.

    Attributes:
      columns: names of the columns; rows must agree in all of them.
      soundex: whether the sound of the values is used instead.
      window: number of following rows, in sorted order, that a row is compared with (Hernández and
        Stolfo, 1995); 0 to compare rows with equal values.
      largest: most rows with the same values; more common values tell little and are skipped.
    """

    columns: tuple[str, ...]
    soundex: bool = False
    window: int = 0
    largest: int = 500

    def __post_init__(self) -> None:
        checks.some(self, "columns")
        checks.at_least(self, 0, "window")
        checks.at_least(self, 2, "largest")


@checks.frozen
class FieldComparison:
    """How the values of a column are compared. Missing values are no evidence either way.

    Attributes:
      column: name of the column.
      similarity: "exact", "jaro_winkler" for words, "edits" for codes, "dates", or "numbers".
      levels: decreasing thresholds of similarity: pairs that reach the first agree best, those that
        reach none disagree.
    """

    column: str
    similarity: str = "jaro_winkler"
    levels: tuple[float, ...] = (1.0, 0.92, 0.8)

    def __post_init__(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise unknown_name("similarity", self.similarity, SIMILARITIES)
        falling = all(
            a > b for a, b in zip((1.0 + 1e-9, *self.levels), (*self.levels, 0.0), strict=True)
        )
        if not self.levels or not falling:
            raise UserError(
                f"comparison.levels of {self.column} must decrease and be > 0 and <= 1, got "
                f"{self.levels}",
                "levels",
            )


class Links(NamedTuple):
    """The result of linkage in a table of N rows, with M compared pairs.

    Attributes:
      group: smallest index among the duplicates of each row [N] int64.
      left: indices of the first rows of the pairs [M] int64.
      right: indices of their second rows [M] int64.
      probability: probability that a pair is a duplicate [M].
      weights: by column, the base-2 logarithm of the likelihood ratio of duplicates against other
        pairs at each level, from disagreement to the first of ``levels``.
    """

    group: np.ndarray
    left: np.ndarray
    right: np.ndarray
    probability: np.ndarray
    weights: dict[str, np.ndarray]


@checks.frozen
class Linkage:
    """Links rows by the evidence of all columns, weighted by what each is worth in this table.

    A link between two groups is dropped if their other pairs are stronger evidence against it.
    Columns are assumed to be independent, given whether two rows are duplicates. The frequency of
    each level is estimated by expectation and maximisation, for duplicates from the pairs of the
    blocks, for other pairs from random ones; no labels are needed. Values are compared in lower
    case without surrounding blanks. Memory and time grow with the pairs of the blocks, about 100
    bytes each.

    Attributes:
      blocks: blocks whose pairs are compared; if empty, pairs that agree, sound alike or are close
        in a compared column.
      comparisons: comparisons of columns; if empty, all columns that are not keys, by their kind:
        dates, codes, categories, words.
      threshold: probability from which a pair counts as a duplicate.
      sample: number of random pairs.
      seed: seed of the random pairs.
      ignore: columns that are not compared; only without ``comparisons``.
    """

    blocks: tuple[Blocking, ...] = ()
    comparisons: tuple[FieldComparison, ...] = ()
    threshold: float = 0.9
    sample: int = 2**17
    seed: int = 0
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.ignore and self.comparisons:
            raise UserError("ignore must be empty if comparisons are given", "ignore")
        names = [comparison.column for comparison in self.comparisons]
        for name in names:
            if names.count(name) > 1:
                raise UserError(
                    f"comparisons must not repeat a column, got {name} twice", "comparisons"
                )
        checks.inside(self, 0, 1, "threshold")
        checks.at_least(self, 1, "sample")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns used, sorted."""
        return tuple(
            sorted(
                {c.column for c in self.comparisons} | {c for b in self.blocks for c in b.columns}
            )
        )

    def cluster(self, table: pa.Table) -> np.ndarray:
        """Return the group [N] int64 of each row of a table, the smallest index among its
        duplicates; see ``link``.
        """
        return self.link(table).group

    def link(self, table: pa.Table) -> Links:
        """Link the duplicate rows of a table; the result does not depend on the order of the rows.

        Raises:
          UserError: a column is missing, or its values cannot be compared.
        """
        if not self.blocks or not self.comparisons:
            return self.complete(table).link(table)
        columns = {name: _column(table, name) for name in self.columns}
        order = np.lexsort([column.codes for column in columns.values()])
        columns = {
            name: column._replace(codes=column.codes[order]) for name, column in columns.items()
        }
        pairs = _union([_pairs(block, columns) for block in self.blocks], len(table))
        sizes = [len(comparison.levels) + 1 for comparison in self.comparisons]
        levels, random = (
            self._compare_pairs(columns, some) for some in (pairs, self._draw_pairs(len(table)))
        )
        probability, weights = estimate(levels, random, sizes, len(table))
        # If nothing agrees, an estimate from a few rows must not claim otherwise.
        probability = np.where((levels > 0).any(1), probability, 0.0)
        left, right = order[pairs]
        one = choose_links(pairs, probability, self.threshold)
        named = dict(
            zip((comparison.column for comparison in self.comparisons), weights, strict=True)
        )
        return Links(components(left[one], right[one], len(table)), left, right, probability, named)

    def complete(self, table: pa.Table) -> Linkage:
        """Return this linkage with blocks and comparisons suggested by a table, if it has none.

        Raises:
          UserError: no column can be compared.
        """
        comparisons = self.comparisons
        if not comparisons:
            kinds = guess_kinds(table, self.ignore)
            found = {name: SIMILARITY[kind] for name, kind in kinds.items()}
            comparisons = tuple(FieldComparison(name, *how) for name, how in found.items())
        else:
            usual = {how: kind for kind, (how, _) in SIMILARITY.items()}
            kinds = {c.column: usual[c.similarity] for c in comparisons}
        blocks = self.blocks or tuple(
            Blocking(columns, sound, window, MOST)
            for columns, sound, window in choose_blocks(kinds)
        )
        return replace(self, blocks=blocks, comparisons=comparisons, ignore=())

    def _draw_pairs(self, count: int) -> np.ndarray:
        """Draw random pairs [2, R] of different rows, or return all pairs if there are few."""
        if count * (count - 1) // 2 <= self.sample:
            return np.stack(np.triu_indices(count, 1))
        rng = np.random.default_rng(self.seed)
        left = rng.integers(0, count, self.sample)
        return np.stack([left, (left + rng.integers(1, count, self.sample)) % count])

    def _compare_pairs(self, columns: dict[str, _Column], pairs: np.ndarray) -> np.ndarray:
        """Return the level [M, C] of pairs [2, M] in each comparison, 0 for disagreement, or
        ``MISSING``.
        """
        return np.stack(
            [
                _level(comparison, columns[comparison.column], pairs)
                for comparison in self.comparisons
            ],
            1,
        )


class _Column(NamedTuple):
    """A column as codes [N] into sorted values [V + 1]; code 0 is a missing value."""

    codes: np.ndarray
    values: pa.Array


def _column(table: pa.Table, name: str) -> _Column:
    if name not in table.column_names:
        raise unknown_name("column", name, table.column_names)
    try:
        texts = pc.cast(table[name].combine_chunks(), pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"column {name!r} must be comparable as text, got {table[name].type}"
        ) from None
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(texts, "")))
    values = pc.unique(texts)
    values = values.filter(pc.not_equal(values, "")).sort()
    codes = (
        pc.fill_null(pc.index_in(texts, values), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        + 1
    )
    return _Column(codes, pa.concat_arrays([pa.array([""], pa.large_string()), values]))


def _pairs(block: Blocking, columns: dict[str, _Column]) -> np.ndarray:
    """Return the pairs [2, M] of a block."""
    parts = [
        _encode_sounds(columns[name]) if block.soundex else columns[name].codes
        for name in block.columns
    ]
    there = np.flatnonzero(np.all([codes > 0 for codes in parts], axis=0))
    keys = join_codes([codes[there] for codes in parts])
    pairs = _following(keys, block.window) if block.window else _sharing(keys, block.largest)
    return there[np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)]


def _encode_sounds(column: _Column) -> np.ndarray:
    """Return codes [N] of the sound of the values."""
    sounds = soundex(column.values).to_numpy(zero_copy_only=False).astype(str)
    return np.unique(sounds, return_inverse=True)[1][
        column.codes
    ]  # the missing value has no sound, and comes first


def _following(keys: np.ndarray, window: int) -> Iterator[np.ndarray]:
    """Yield the pairs [2, M] at each distance up to ``window`` in the order of the keys."""
    order = np.argsort(keys, kind="stable")
    for lag in range(1, min(window, len(order) - 1) + 1):
        yield np.stack([order[:-lag], order[lag:]])


def _sharing(keys: np.ndarray, largest: int) -> Iterator[np.ndarray]:
    """Yield the pairs [2, M] with equal keys, for keys that at most ``largest`` rows share."""
    sizes = np.unique(keys, return_inverse=True, return_counts=True)
    few = np.flatnonzero((sizes[2] <= largest)[sizes[1]])
    indices, ends = buckets(keys[few])
    places = np.arange(len(indices))
    for lag in range(1, largest):
        places = places[places + lag < ends[places]]
        yield few[np.stack([indices[places], indices[places + lag]])]


def _union(pairs: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Merge pairs to [2, M], each once and with its smaller index first."""
    every = np.sort(np.concatenate(list(pairs), axis=1), axis=0)
    return np.stack(np.divmod(np.unique(every[0] * count + every[1]), count)) if count else every


def _level(comparison: FieldComparison, column: _Column, pairs: np.ndarray) -> np.ndarray:
    """Return the level [M] of pairs [2, M] in one comparison; equal pairs of values are compared
    once.
    """
    codes = column.codes[pairs]
    count = len(column.values)
    distinct, inverse = np.unique(codes[0] * count + codes[1], return_inverse=True)
    left, right = np.divmod(distinct, count)
    there = (left > 0) & (right > 0)
    levels = np.full(len(distinct), MISSING)
    values = [column.values.take(pa.array(side[there])) for side in (left, right)]
    try:
        found = SIMILARITIES[comparison.similarity](*values)
    except UserError as error:
        raise UserError(f"column {comparison.column!r}: {error}") from None
    levels[there] = (found[:, None] >= np.asarray(comparison.levels) - 1e-9).sum(1)
    return levels[inverse]
