"""Stages that keep training data apart from evaluation data."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from genjax import checks
from genjax.data.sources.prepared import TRAIN
from genjax.data.text.words import normalise_words
from genjax.errors import UserError
from genjax.prepare.files import DAMAGED, Files
from genjax.prepare.matching.components import group_equal, merge_groups
from genjax.prepare.matching.image_hash import ImageHash
from genjax.prepare.matching.minhash import MinHash
from genjax.prepare.shards import SPLIT
from genjax.prepare.stage import (
    ARROW,
    ID,
    RowStage,
    Stage,
    check_columns,
    get_texts,
    hash_position,
    join_decisions,
    map_records,
)
from genjax.prepare.stages.duplicates import collect_values, group_images, group_texts

if TYPE_CHECKING:
    from daft import DataFrame


@checks.frozen
class Decontaminated(Stage):
    """Drops texts that share a long n-gram of words with evaluation texts (Brown et al., arXiv
    2005.14165).

    Attributes:
      against: readers of the evaluation texts.
      ngram: words in an n-gram, as in ``genjax.data.text.words.normalise_words``.
      column: column of the text, in both.
      least: fewest words of an evaluation text; shorter ones ("yes") occur in many texts, so they
        are skipped, and counted in the data card. None for ``ngram``; texts shorter than an n-gram
        are searched as a whole.
    """

    against: tuple[Any, ...]
    ngram: int = 13
    column: str = "text"
    least: int | None = None

    def __post_init__(self) -> None:
        checks.some(self, "against")
        checks.at_least(self, 1, "ngram", "least")

    @property
    def _least(self) -> int:
        return self.ngram if self.least is None else self.least

    @property
    def remark(self) -> str:
        sizes = [len(normalise_words(text)) for text in self._find_judging()]
        short = sum(size < self._least for size in sizes)
        return (
            f"texts that share fewer than {self.ngram} words in a row with evaluation texts are "
            f"not found; {short:,} of {len(sizes):,} evaluation texts have fewer than "
            f"{self._least} words and were skipped"
        )

    def hash_inputs(self) -> Mapping[str, str]:
        found = ((reader, reader.find_files()) for reader in self.against)
        return {
            files.name(path): reader.digest(files, path)
            for reader, files in found
            for path in files.paths
        }

    def __call__(self, records: DataFrame) -> DataFrame:
        check_columns(records, (self.column,))
        grams, lengths = self._hash_known()
        rows = functools.partial(_find_shared, self.column, grams, lengths)
        return map_records(rows, records.schema().to_pyarrow_schema(), records)

    def _hash_known(self) -> tuple[np.ndarray, list[int]]:
        """Return sorted hashes [N] uint64 of the n-grams of all evaluation texts, and their
        lengths.
        """
        found: set[int] = set()
        lengths: set[int] = set()
        for text in self._find_judging():
            words = normalise_words(text)
            if len(words) >= self._least:
                length = min(self.ngram, len(words))
                lengths.add(length)
                found.update(_grams(words, length))
        return np.array(sorted(found), np.uint64), sorted(lengths)

    def _find_judging(self) -> Iterator[str]:
        for reader in self.against:
            yield from self._read_texts(reader, reader.find_files())

    def _read_texts(self, reader: Any, files: Files) -> Iterator[str]:
        """Yield the texts of an evaluation set; if one cannot be read, that is an error, because
        its content would stay in training.
        """
        if self.column not in reader.fields(files).names:
            raise UserError(
                f"{type(reader).__name__} in against must have the column {self.column!r}",
                "against",
            )
        broken: list[str] = []
        for path in files.paths:
            name = files.name(path)
            try:
                for record in reader.read(files, path):
                    if record.fault is None:
                        yield record.values.get(self.column) or ""
                    else:
                        broken.append(
                            " ".join(
                                f"{name} {record.place}: {record.fault}".replace(" :", ":").split()
                            )
                        )
            except DAMAGED as error:
                raise UserError(
                    f"the evaluation file {name} cannot be read completely: {error}"
                ) from error
        if broken:
            raise UserError(
                f"{len(broken):,} evaluation texts cannot be read; the first is {broken[0]}"
            )


def _find_shared(
    column: str, known: np.ndarray, lengths: list[int], table: pa.Table
) -> tuple[pa.Table, list[str | None]]:
    reasons: list[str | None] = []
    for text in get_texts(table, column):
        words = normalise_words(text or "")
        hashes = np.array([h for length in lengths for h in _grams(words, length)], np.uint64)
        reasons.append("in an evaluation set" if np.isin(hashes, known).any() else None)
    return table, reasons


def _grams(words: list[str], length: int) -> Iterator[int]:
    for start in range(len(words) - length + 1):
        content = " ".join(words[start : start + length]).encode()
        yield int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


@checks.frozen
class Splits(Stage):
    """Assigns every record to a split, "train", "validation" or "test", in the column ``split``.

    Records that are similar, or share a value, go to the same split, so that no test record is
    known from training. The split of such a group depends on the hash of its smallest id: a new
    record moves others only if it becomes the smallest of their group, or joins two groups.

    Attributes:
      test: fraction of the groups.
      validation: fraction of the groups.
      texts: ``MinHash`` whose near-duplicates in the column "text" stay together.
      images: ``ImageHash`` whose look-alikes in the column "image" stay together.
      same: columns, such as "source": records with the same value in one of them stay together.
    """

    test: float = 0.1
    validation: float = 0.0
    texts: MinHash | None = None
    images: ImageHash | None = None
    same: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.share(self, "test", "validation")
        if self.test + self.validation >= 1:
            both = self.test + self.validation
            raise UserError(
                f"test and validation together must be below 1, got {both:g} (Splits)", "test"
            )

    def __call__(self, records: DataFrame) -> DataFrame:
        import daft

        check_columns(records, self.same)
        records = records.exclude(*{SPLIT} & set(records.column_names))
        ids = collect_values(records, daft.lit(0))[ID]
        group = np.arange(len(ids))
        if self.texts is not None:
            group = _join_groups(group, group_texts(records, "text", self.texts)[1])
        if self.images is not None:
            group = _join_groups(group, group_images(records, "image", self.images)[1])
        for column in self.same:
            values = collect_values(records, daft.col(column).cast(daft.DataType.string()))["value"]
            rows = np.flatnonzero(values.is_valid().to_numpy())
            group = merge_groups(
                group, rows, rows[group_equal(np.array(values.drop_null().to_pylist()))]
            )
        # Ids are sorted, so the first of a group is its smallest.
        names = ids.take(pa.array(group)).to_pylist()
        splits = [self._split(hash_position(name, "split")) for name in names]
        return join_decisions(
            records, pa.table({ID: ids.cast(ARROW), SPLIT: pa.array(splits, ARROW)})
        )

    def _split(self, where: float) -> str:
        if where < self.test:
            return "test"
        return "validation" if where < self.test + self.validation else TRAIN


def _join_groups(group: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the group [N] of records that are joined by either of two groupings."""
    return merge_groups(group, np.arange(len(group)), other)


@dataclass(frozen=True)
class Named(RowStage):
    """Assigns every record to the split that a column names.

    Attributes:
      column: column of the names.
      splits: (name, split) pairs; records with other names are dropped.
    """

    column: str
    splits: tuple[tuple[str, str], ...]

    def schema_after(self, schema: pa.Schema) -> pa.Schema:
        return pa.schema(
            [*(field for field in schema if field.name != SPLIT), pa.field(SPLIT, ARROW)]
        )

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        found = dict(self.splits)
        splits = [found.get(name or "") for name in get_texts(table, self.column)]
        table = table.select([name for name in table.column_names if name != SPLIT])
        table = table.append_column(SPLIT, pa.array([split or TRAIN for split in splits], ARROW))
        return table, [None if split else "no split" for split in splits]
