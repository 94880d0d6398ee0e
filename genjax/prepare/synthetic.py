"""Write records drawn by a run as a prepared set, marked as synthetic in every file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genjax.data.synthetic import mark_schema
from genjax.errors import UserError
from genjax.machine import disk
from genjax.prepare import card, shards
from genjax.prepare.stage import ARROW, ID, SOURCE
from genjax.serial.json_text import Json

SHARD = 128 * 2**20  # approximate size of a shard in bytes


def write(
    folder: Path,
    name: str,
    columns: Mapping[str, Sequence[Any]],
    generator: Mapping[str, Json],
    ids: Sequence[str] | None = None,
) -> Path:
    """Write shards, card and manifest of records drawn by a run; return the path of the manifest.

    The folder gets its final name when it is complete.

    Args:
      folder: folder of the set.
      name: name of the set.
      columns: ``text``, or ``image`` (encoded files) and perhaps ``label``, in the order drawn;
        records with an empty text are left out.
      generator: the run, with step and seed of the samples and the data it was trained on.
      ids: ids of the records; the run with step, seed and number by default.

    Raises:
      UserError: the folder exists, cannot be written, or no record is left.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already: choose another name, or remove it", str(folder))
    begin = f"{generator['run']}/{generator['step']}/{generator['seed']}"
    numbers = [i for i, value in enumerate(next(iter(columns.values()))) if value]
    if not numbers:
        raise UserError(f"all records drawn by {generator['run']} are empty")
    kinds = {ID: ARROW, SOURCE: ARROW} | {
        column: _choose_type(values) for column, values in columns.items()
    }
    table = {
        ID: [f"{begin}#{i:09d}" if ids is None else ids[i] for i in numbers],
        SOURCE: [f"synthetic/{generator['run']}"] * len(numbers),
    }
    table |= {column: [values[i] for i in numbers] for column, values in columns.items()}
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        with disk.explain_full_disk("no data set was written", folder):
            shutil.rmtree(partial, ignore_errors=True)
            (partial / "drawn").mkdir(parents=True)
            schema = mark_schema(pa.schema(list(kinds.items())))
            pq.write_table(pa.table(table, schema=schema), partial / "drawn" / "0.parquet")
            found = shards.write(partial / "drawn", partial, SHARD)
            shutil.rmtree(partial / "drawn")
            manifest = card.write_synthetic(partial, name, generator, found)
            partial.replace(folder)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{folder} cannot be written: {' '.join(str(error).split())}", str(folder)
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / manifest.name


def _choose_type(values: Sequence[Any]) -> pa.DataType:
    return pa.large_binary() if isinstance(values[0], bytes) else ARROW
