"""Write records as training sets and traces, and record in the store what was written."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from genjax.errors import UserError
from genjax.machine import disk
from genjax.prepare import engine
from genjax.prepare.stage import ARROW, ID, REASON
from genjax.prepare.stages.duplicates import ExactDuplicates, NearDuplicates
from genjax.serial.json_text import Json
from genjax.store.audit.deeds import note_deed
from genjax.store.formats import parquet
from genjax.store.formats.writing import Export, Row
from genjax.store.records import OUT, DataSet
from genjax.store.store import Store


@dataclass(frozen=True)
class Exported:
    """The numbers of rows written, dropped as duplicates, and dropped because they need records of
    another origin.
    """

    rows: int
    duplicates: int = 0
    hidden: int = 0


def export(
    store: Store, out: str | Path, wanted: Export, dedup: bool = False, name: str | None = None
) -> Exported:
    """Write records to a file of JSON lines (".jsonl", ".jsonl.gz", ".json") or a folder of
    Parquet.

    Args:
      store: the store.
      out: file or folder; an existing file is replaced, a folder is not.
      wanted: records to export, and their form.
      dedup: whether duplicates and near-duplicates are dropped, as in ``prepare``.
      name: name under which the set is recorded in the store, with its records; None for none.

    Raises:
      UserError: the file cannot be written, or the filter is wrong.
    """
    store = store.read_for("export")
    path = Path(out).expanduser()
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    lines = kind in (".jsonl", ".json")
    if path.suffix and not lines:
        raise UserError(f"out must end in .jsonl, .jsonl.gz, .json or be a folder: {path}", "out")
    place = str(path.absolute())
    said: dict[str, Json] = {"form": wanted.form, "filter": str(wanted.filter), OUT: place}
    said["origin"] = wanted.origin
    if wanted.form == "records" and not lines:
        if dedup:
            raise UserError("dedup is of training sets, not of form records", "dedup")
        note_deed(store, "export", said)
        return Exported(parquet.write_records(store, path, wanted.filter, wanted.origin))
    found = list(wanted.rows(store))
    rows = [row for row in found if row.used]
    kept = drop_duplicates(rows) if dedup else rows
    note_deed(store, "export", said | {"rows": len(kept), "name": name})
    with disk.explain_full_disk("nothing was written", path):
        _write(path, kept, lines)
    if name is not None:
        _note(store, name, wanted, kept, place)
    return Exported(len(kept), len(rows) - len(kept), len(found) - len(rows))


def _write(path: Path, rows: Sequence[Row], lines: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not lines:
        synthetic = any(record.origin == "synthetic" for row in rows for record in row.used)
        parquet.write_rows(path, [row.value for row in rows], synthetic)
        return
    encoded = (json.dumps(row.value, ensure_ascii=False).encode() + b"\n" for row in rows)
    with disk.write_atomically(path) as part, part.open("wb") as file:
        if path.suffix == ".gz":
            with gzip.open(file, "wb") as packed:
                packed.writelines(encoded)
        else:
            file.writelines(encoded)


def _note(store: Store, name: str, wanted: Export, rows: Sequence[Row], out: str) -> None:
    content = "".join(json.dumps(row.value, sort_keys=True) + "\n" for row in rows)
    records = {record.id: record for row in rows for record in row.used}
    synthetic = any(record.origin == "synthetic" for record in records.values())
    store.add(
        DataSet(
            origin="real",
            name=name,
            fingerprint=hashlib.sha256(content.encode()).hexdigest(),
            manifest={"form": wanted.form, "rows": len(rows), "synthetic": synthetic, OUT: out},
            parents=tuple(records),
        )
    )


def drop_duplicates(rows: Sequence[Row]) -> list[Row]:
    """Rows whose texts are not those of an earlier one, nor nearly so."""
    engine.begin(engine.NATIVE)
    import daft

    kept = list(rows)
    for stage in (ExactDuplicates(), NearDuplicates()):
        if not kept:
            break
        ids = [f"{number:012d}" for number in range(len(kept))]
        texts = ["\n".join(_find_texts(row.value)) for row in kept]
        table = pa.table({ID: pa.array(ids, ARROW), "text": pa.array(texts, ARROW)})
        found = stage(daft.from_arrow(table)).select(ID, REASON).to_arrow().to_pylist()
        dropped = {int(one[ID]) for one in found if one[REASON] is not None}
        kept = [row for number, row in enumerate(kept) if number not in dropped]
    return kept


def _find_texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _find_texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _find_texts(one)
