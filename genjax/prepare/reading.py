"""The first stage of a preparation, which writes the records of raw files as Parquet."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from genjax.data.images.files import note_passed_over as note_files
from genjax.errors import UserError
from genjax.prepare.files import DAMAGED, Files
from genjax.prepare.preparation import Change
from genjax.prepare.readers import Found, Reader
from genjax.prepare.stage import ARROW, CHANGED, ID, REASON, SOURCE
from genjax.serial.json_text import Json, parse

if TYPE_CHECKING:
    from daft import Series

KEPT, DROPPED, COUNTS = "kept", "dropped", "counts"
RESERVED = {ID, SOURCE, REASON, CHANGED, KEPT, "*"}  # names that raw columns must not have
AT_ONCE = 8 * 2**20  # bytes of records written at once
BROKEN = pa.schema([(ID, ARROW), (SOURCE, ARROW), ("text", ARROW), (REASON, ARROW)])


def plan_reading(readers: Sequence[Reader]) -> tuple[list[tuple[Reader, Files]], pa.Schema]:
    """Return the files of each reader, and the columns of all records.

    Raises:
      UserError: readers have different columns, or two of them read the same file.
    """
    if not readers:
        raise UserError("readers must not be empty", "readers")
    plan = [(reader, reader.find_files()) for reader in readers]
    schemas = [reader.fields(files) for reader, files in plan]
    if any(schema != schemas[0] for schema in schemas):
        found = "; ".join(
            f"{type(r).__name__}: {', '.join(s.names)}"
            for (r, _), s in zip(plan, schemas, strict=True)
        )
        raise UserError(f"readers must have the same columns, got {found}", "readers")
    if clash := RESERVED & set(schemas[0].names):
        raise UserError(f"raw columns must not be called {', '.join(sorted(clash))}: rename them")
    names = [files.name(path) for _, files in plan for path in files.paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"readers must not share files, got {twice} twice: it identifies records", "readers"
        )
    return plan, pa.schema([(ID, ARROW), (SOURCE, ARROW), *schemas[0]])


def passed_over(plan: Sequence[tuple[Reader, Files]]) -> Counter[str]:
    """Count the files where the patterns look that no reader reads, by kind, such as ".txt"."""
    taken = {path for _, files in plan for path in files.paths}
    others = {path: kind for _, files in plan for path, kind in files.others if path not in taken}
    return Counter(others.values())


def note_passed_over(plan: Sequence[tuple[Reader, Files]]) -> None:
    """Print one line about the files that no reader reads, if there are any."""
    taken = {path for _, files in plan for path in files.paths}
    root = ", ".join(dict.fromkeys(files.root for _, files in plan))
    recased = {files.name(path) for _, files in plan for path in files.recased if path not in taken}
    note_files(root, len(taken), passed_over(plan), recased)


def read_files(plan: Sequence[tuple[Reader, Files]], schema: pa.Schema, folder: Path) -> None:
    """Write the records of all files below ``folder``, into "kept" and, with their faults,
    "dropped".

    What was skipped and changed is in "counts", for each file that has any.
    """
    import daft

    for part in (KEPT, DROPPED, COUNTS):
        (folder / part).mkdir(parents=True)
    jobs = [(number, path) for number, (_, files) in enumerate(plan) for path in files.paths]
    table = {
        "number": list(range(len(jobs))),
        "reader": [reader for reader, _ in jobs],
        "path": [path for _, path in jobs],
    }
    light = tuple((reader, replace(files, others=(), recased=())) for reader, files in plan)
    one = functools.partial(_read_batch, light, schema, str(folder))
    job: Any = daft.func.batch(return_dtype=daft.DataType.int64(), use_process=False, batch_size=1)(
        one
    )
    frame = daft.from_pydict(table)
    frame.select(job(*(daft.col(name) for name in table)).alias("records")).collect()


def _read_batch(
    plan: Sequence[tuple[Reader, Files]],
    schema: pa.Schema,
    folder: str,
    numbers: Series,
    readers: Series,
    paths: Series,
) -> list[int]:
    """Write the records of each file of a batch; return their numbers."""
    found = []
    for number, reader, path in zip(
        numbers.to_pylist(), readers.to_pylist(), paths.to_pylist(), strict=True
    ):
        with_what, files = plan[reader]
        found.append(_read_file(with_what, files, path, schema, Path(folder), number))
    return found


def _read_file(
    reader: Reader, files: Files, path: str, schema: pa.Schema, folder: Path, number: int
) -> int:
    """Write the records of one file; return their number."""
    name, count = files.name(path), 0
    left: Counter[str] = Counter()
    kept = _Writer(folder / KEPT / f"{number:06d}.parquet", schema)
    broken = _Writer(folder / DROPPED / f"{number:06d}.parquet", BROKEN)
    for found in _read_records(reader, files, path, left):
        count += 1
        row = {ID: f"{name}#{found.place}" if found.place else name, SOURCE: name}
        if found.fault is None:
            kept.add(row | found.values)
            left.update([found.remark] if found.remark else [])
        else:
            broken.add(row | {"text": found.values.get("text"), REASON: found.fault})
    kept.close()
    broken.close()
    if left := +left:
        (folder / COUNTS / f"{number:06d}.json").write_text(json.dumps(left), encoding="utf-8")
    return count


def changes(folder: Path) -> dict[str, Change]:
    """Return what ``read_files`` has skipped and changed, and in how many files."""
    total: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for path in sorted((folder / COUNTS).glob("*.json")):
        found = parse(path.read_bytes(), str(path))
        total.update(found)
        files.update(found.keys())
    return {what: Change(count, files[what]) for what, count in sorted(total.items())}


def _read_records(reader: Reader, files: Files, path: str, left: Counter[str]) -> Iterator[Found]:
    """Yield the records of a file, and at the end a broken one if the file itself is damaged."""
    place = ""
    try:
        for found in reader.read(files, path, left):
            place = found.place
            yield found
    except DAMAGED as error:
        where = f"after {place}" if place else ""
        yield Found(
            f"{place}-end" if place else "",
            {},
            f"damaged file: {' '.join(f'{where} {error}'.split())}",
        )


class _Writer:
    """Writes rows to a Parquet file, some megabytes at a time; without rows there is no file."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._rows: list[dict[str, Json]] = []
        self._size = 0
        self._file: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Json]) -> None:
        self._rows.append(row)
        self._size += sum(len(value) for value in row.values() if value is not None)
        if self._size >= AT_ONCE:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        if self._file is not None:
            self._file.close()

    def _flush(self) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, self._schema)
        table = {field.name: [row.get(field.name) for row in self._rows] for field in self._schema}
        self._file.write_table(pa.table(table, schema=self._schema))
        self._rows, self._size = [], 0
