"""Stages that keep one record of each group of duplicates, the one with the smallest id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from genjax import checks
from genjax.data.images.decode import decode
from genjax.data.text.words import normalise_text
from genjax.errors import UserError
from genjax.prepare.matching.components import group_equal
from genjax.prepare.matching.image_hash import ImageHash
from genjax.prepare.matching.linkage import Linkage
from genjax.prepare.matching.minhash import MinHash
from genjax.prepare.matching.review import (
    DECISION,
    apply_decisions,
    describe_weights,
    read_decisions,
    tabulate,
)
from genjax.prepare.stage import (
    BATCH,
    CHANGED,
    ID,
    REASON,
    SOURCE,
    Judged,
    Stage,
    check_columns,
    join_decisions,
    make_drop_decisions,
)

if TYPE_CHECKING:
    from daft import DataFrame, Expression, Series


@checks.frozen
class ExactDuplicates(Stage):
    """Drops records whose texts have the same words, or whose bytes are equal.

    Case, white space and punctuation are ignored, but not signs, operators, brackets and decimal
    points: see ``genjax.data.text.words.normalise_words``.

    Attributes:
      columns: columns to compare, all together.
    """

    columns: tuple[str, ...] = ("text",)

    def __call__(self, records: DataFrame) -> DataFrame:
        import daft

        check_columns(records, self.columns)
        key = daft.func.batch(return_dtype=daft.DataType.binary(), use_process=False)(_keys)
        found = collect_values(records, key(*(daft.col(column) for column in self.columns)))
        keys = np.array(found["value"].to_pylist(), "S16") if len(found) else np.zeros(0, "S16")
        return only_first(records, found[ID], group_equal(keys), "duplicate")


@checks.frozen
class NearDuplicates(Stage):
    """Drops near-duplicate texts, by MinHash.

    Attributes:
      minhash: which texts are near-duplicates.
      column: column of the text.
    """

    minhash: MinHash = MinHash()
    column: str = "text"

    def __call__(self, records: DataFrame) -> DataFrame:
        ids, group = group_texts(records, self.column, self.minhash)
        return only_first(records, ids, group, "near-duplicate")


@checks.frozen
class NearImages(Stage):
    """Drops images that look like another, by a perceptual hash.

    Attributes:
      image_hash: which images look alike.
      column: column of the image files.
    """

    image_hash: ImageHash = ImageHash()
    column: str = "image"

    def __call__(self, records: DataFrame) -> DataFrame:
        ids, group = group_images(records, self.column, self.image_hash)
        return only_first(records, ids, group, "near-duplicate")


@checks.frozen
class Linked(Stage):
    """Drops rows of a table about the same thing or person as another row, by record linkage.

    It writes two files beside the card: ``links.parquet`` with the probability of each pair, and
    ``review.csv`` with the doubtful pairs, in which a person can write "same" or "different" into
    the column ``decision``. The card lists the weight of each column.

    Attributes:
      linkage: what is compared, and how.
      review: probabilities (from, below) of doubtful pairs.
      decisions: path of a filled ``review.csv``, whose decisions take precedence.
    """

    linkage: Linkage = Linkage()
    review: tuple[float, float] = (0.05, 0.95)
    decisions: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.review[0] <= self.review[1] <= 1:
            raise UserError(
                f"review must be two rising probabilities from 0 to 1, got {self.review}", "review"
            )

    def hash_inputs(self) -> Mapping[str, str]:
        if self.decisions is None:
            return {}
        decided = repr(sorted(read_decisions(self.decisions).items()))
        return {"decisions": hashlib.blake2b(decided.encode(), digest_size=16).hexdigest()}

    def __call__(self, records: DataFrame) -> DataFrame:
        return self.judge(records).records

    def judge(self, records: DataFrame) -> Judged:
        import daft

        names = self.linkage.columns
        if not self.linkage.comparisons:
            names = tuple(n for n in records.column_names if n not in (ID, SOURCE, REASON, CHANGED))
        check_columns(records, names)
        rows = records.select(ID, *(daft.col(name) for name in names)).to_arrow().sort_by(ID)
        ids, table = rows[ID].to_pylist(), rows.drop_columns([ID])
        decisions = {} if self.decisions is None else read_decisions(self.decisions)
        links = self.linkage.link(table)
        if decisions:
            links = apply_decisions(links, ids, self.linkage.threshold, decisions)
        found, review = tabulate(links, table, ids, self.review, decisions)
        waiting = review[DECISION].to_pylist().count("")
        return Judged(
            only_first(records, rows[ID], links.group, "same entity"),
            f"{len(links.left):,} pairs compared, {len(decisions):,} decided, {waiting:,} in doubt "
            f"(review.csv); weights in bits: {describe_weights(links)}",
            {"links.parquet": found, "review.csv": review},
        )


def group_texts(
    records: DataFrame, column: str, minhash: MinHash
) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Return the ids [N] in order, and the group [N] of each."""
    import daft

    check_columns(records, (column,))
    found = collect_values(records, minhash.sign(daft.col(column)))
    return found[ID], minhash.cluster(minhash.stack_signatures(found["value"].chunks))


def group_images(
    records: DataFrame, column: str, image_hash: ImageHash
) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Return the ids [N] in order, and the group [N] of each."""
    import daft

    check_columns(records, (column,))

    def hashes(images: Series) -> pa.Array:
        pictures = (Image.fromarray(decode(content, None, 3)) for content in images.to_pylist())
        return pa.array(image_hash.hash_images(pictures), pa.uint64())

    hashed = daft.func.batch(
        return_dtype=daft.DataType.uint64(), use_process=False, batch_size=BATCH
    )(hashes)
    found = collect_values(records, hashed(daft.col(column)))
    return found[ID], image_hash.cluster(found["value"].to_numpy())


def collect_values(records: DataFrame, value: Expression) -> pa.Table:
    """Return a table of ``id`` and ``value`` of every record, sorted by id."""
    import daft

    return records.select(daft.col(ID), value.alias("value")).to_arrow().sort_by(ID)


def only_first(records: DataFrame, ids: pa.ChunkedArray, group: np.ndarray, what: str) -> DataFrame:
    """Add a reason, which names the first record of the group, to all other records."""
    again = np.flatnonzero(group != np.arange(len(group)))
    firsts = ids.take(pa.array(group[again])).to_pylist()
    return join_decisions(
        records,
        make_drop_decisions(ids.take(pa.array(again)), [f"{what}: of {first}" for first in firsts]),
    )


def _keys(*columns: Series) -> pa.Array:
    values = zip(*(column.to_pylist() for column in columns), strict=True)
    return pa.array([_key(row) for row in values], pa.large_binary())


def _key(row: Iterable[Any]) -> bytes:
    """Return a hash of the values, with texts normalised."""
    found = hashlib.blake2b(digest_size=16)
    for value in row:
        content = (
            b""
            if value is None
            else value
            if isinstance(value, bytes)
            else _normalise(value).encode()
        )
        found.update(len(content).to_bytes(8) + content)
    return found.digest()


def _normalise(text: str) -> str:
    """Return the normalised words, or the text itself if it has none, such as a row of dots."""
    return normalise_text(text) or text
