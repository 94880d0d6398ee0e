"""The last step of a preparation, which writes records to shards whose bytes depend only on the
records, and their fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genjax.data.sources.prepared import TRAIN
from genjax.errors import UserError
from genjax.prepare.stage import CHANGED, ID, REASON, SOURCE, hash_position

SPLIT = "split"  # the column of a record's split, if a stage has set one
NAME = re.compile(r"\w+")
ROW_GROUP = 4096
PATTERN = "*-of-*.parquet"
FEW, SHORT = 20, 50  # limits on distinct values of a column of classes, and on their characters


@dataclass(frozen=True)
class Shard:
    """A file of records.

    Attributes:
      name: name of the file.
      split: split of its records.
      rows: number of records.
      sha256: SHA-256 hash of the file.
    """

    name: str
    split: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Shards:
    """All files of a prepared set.

    Attributes:
      files: files by split and number.
      fingerprint: hash of all records and their splits, independent of the files they are in.
    """

    files: tuple[Shard, ...]
    fingerprint: str


def write(records: Path, folder: Path, size: int) -> Shards:
    """Write the records of the Parquet files of one folder as sorted shards into another.

    The hash of a record's id determines its shard. So the shards do not depend on the order of the
    records, and some of the shards are a random part of the records.

    Args:
      records: folder of the records.
      folder: folder of the shards.
      size: approximate size of a shard in bytes.
    """
    sources = sorted(records.glob("*.parquet"))
    splits, sizes = _sizes(sources)
    numbers = {split: max(1, -(-total // size)) for split, total in zip(splits, sizes, strict=True)}
    partial = folder / "shards.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    parts = _scatter(sources, partial, numbers)
    digests: list[bytes] = []
    found = []
    for split in splits:
        for number in range(numbers[split]):
            path = parts.get((split, number))
            table = pq.read_table(path) if path else None
            if table is None:
                continue
            table = table.sort_by(ID)
            digests += _digests(split, table)
            name = f"{split}-{number:05d}-of-{numbers[split]:05d}.parquet"
            pq.write_table(table, partial / name, row_group_size=ROW_GROUP)
            found.append(Shard(name, split, len(table), _sha256(partial / name)))
    for path in folder.glob(PATTERN):  # remains of an earlier run
        path.unlink()
    for shard in found:
        (partial / shard.name).replace(folder / shard.name)
    shutil.rmtree(partial)
    return Shards(tuple(found), hashlib.sha256(b"".join(sorted(digests))).hexdigest())


def _sizes(sources: list[Path]) -> tuple[list[str], list[int]]:
    """Return the splits, and the number of bytes of the records in each."""
    sizes: dict[str, int] = {}
    for path in sources:
        for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP):
            of = _splits(batch)
            for split in set(of):
                share = of.count(split) / len(of)
                sizes[split] = sizes.get(split, 0) + int(share * batch.nbytes)
    splits = sorted(sizes)
    return splits, [sizes[split] for split in splits]


def _scatter(
    sources: list[Path], folder: Path, numbers: dict[str, int]
) -> dict[tuple[str, int], Path]:
    """Write the records to one unsorted file for each shard."""
    writers: dict[tuple[str, int], pq.ParquetWriter] = {}
    paths: dict[tuple[str, int], Path] = {}
    for path in sources:
        for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP):
            ids, of = batch.column(ID).to_pylist(), _splits(batch)
            keys = [
                (s, int(hash_position(i, "shard") * numbers[s]))
                for i, s in zip(ids, of, strict=True)
            ]
            names = [name for name in batch.schema.names if name not in (REASON, CHANGED, SPLIT)]
            for key in sorted(set(keys)):
                rows = (
                    pa.Table.from_batches([batch])
                    .select(names)
                    .filter(pa.array([k == key for k in keys]))
                )
                if key not in writers:
                    paths[key] = folder / f"{key[0]}-{key[1]:05d}.parquet"
                    writers[key] = pq.ParquetWriter(paths[key], rows.schema)
                writers[key].write_table(rows)
    for writer in writers.values():
        writer.close()
    return paths


def _splits(batch: pa.RecordBatch) -> list[str]:
    if SPLIT not in batch.schema.names:
        return [TRAIN] * len(batch)
    found = batch.column(SPLIT).to_pylist()
    for split in set(found):
        if split is None or not NAME.fullmatch(split):
            raise UserError(
                f"names of splits must consist of letters, digits and underscores, got {split!r}",
                "split",
            )
    return found


def _digests(split: str, table: pa.Table) -> list[bytes]:
    """Return a hash of each record."""
    found = []
    for row in table.to_pylist():
        values = {
            name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()
        }
        found.append(hashlib.sha256(json.dumps([split, values], sort_keys=True).encode()).digest())
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lengths(folder: Path) -> dict[str, np.ndarray]:
    """Return the lengths [N] int64 of the values of each column of texts (in characters) or
    bytes.
    """
    import pyarrow.compute as pc

    found: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP):
            for field in batch.schema:
                if field.name in (ID, REASON, SPLIT, SOURCE):
                    continue
                column = batch.column(field.name)
                if pa.types.is_large_string(field.type) or pa.types.is_string(field.type):
                    measured = pc.utf8_length(column)
                elif pa.types.is_large_binary(field.type) or pa.types.is_binary(field.type):
                    measured = pc.binary_length(column)
                else:
                    continue
                found.setdefault(field.name, []).append(np.asarray(measured.fill_null(0), np.int64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def classes(folder: Path) -> dict[str, Counter[str]]:
    """Count the records with each value, for text columns with few distinct values."""
    found: dict[str, Counter[str]] = {}
    many: set[str] = set()
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP):
            for field in batch.schema:
                text = pa.types.is_large_string(field.type) or pa.types.is_string(field.type)
                if not text or field.name in (ID, REASON, SPLIT, SOURCE) or field.name in many:
                    continue
                counts = found.setdefault(field.name, Counter())
                values = [
                    "none" if value is None else value
                    for value in batch.column(field.name).to_pylist()
                ]
                counts.update(value[: SHORT + 1] for value in values)
                if len(counts) > FEW or max(map(len, counts)) > SHORT:
                    many.add(field.name)
    return {name: counts for name, counts in found.items() if name not in many}
