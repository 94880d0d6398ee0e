"""Base classes of the stages of a preparation, which change records or drop them with a reason."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from genjax.errors import UserError, unknown_name

if TYPE_CHECKING:
    from daft import DataFrame, Series

# Columns of every record; then those that a stage adds: why it is dropped, and what was changed.
ID, SOURCE, REASON, CHANGED = "id", "source", "reason", "_changed"
BATCH = 256  # records processed at once, besides those the engine holds
Rows = Callable[[pa.Table], tuple[pa.Table, list[str | None]]]  # type of ``RowStage.rows``
ARROW = pa.large_string()  # Daft's text type, for more than 2 GiB in total


@dataclass(frozen=True)
class Judged:
    """The result of a stage.

    Attributes:
      records: result of ``Stage.__call__``.
      remark: remark on this run of the stage for the data card; "" for none.
      tables: further files to write beside the card, by their names: ".csv" or ".parquet".
    """

    records: DataFrame
    remark: str = ""
    tables: Mapping[str, pa.Table] = field(default_factory=dict)


class Stage:
    """Base class of the steps of a preparation.

    Attributes:
      broken: whether dropped records are damaged, not merely unwanted: they go into the quarantine
        and count as bad.
      remark: remark for the data card; "" for none.
    """

    broken: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Name of the stage in folders and in the data card."""
        return type(self).__name__

    @property
    def remark(self) -> str:
        return ""

    def hash_inputs(self) -> Mapping[str, str]:
        """Return a hash, by name, of each input besides the fields and the records, such as files.

        If a hash changes, the stage runs again. The hashes are in the manifest, so a secret must be
        hashed in a way that does not reveal it.
        """
        return {}

    def redact(self, text: str) -> str:
        """Return the part of a record's text that card and quarantine may show; all by default."""
        return text

    def judge(self, records: DataFrame) -> Judged:
        """Apply the stage; the result also has a remark and further files."""
        return Judged(self(records), self.remark)

    def __call__(self, records: DataFrame) -> DataFrame:
        """Return the records, perhaps with other columns, and ``reason``: why a record is dropped;
        null if it is kept.

        This must be a pure function of the set of records: neither their order nor the files they
        are in may matter.
        """
        raise NotImplementedError


class Changes:
    """Collects what was changed in some rows, for the data card.

    Attributes:
      rows: for each row what was done, how often, and an example for the card, "" for none.
    """

    def __init__(self, rows: int) -> None:
        self.rows: list[list[tuple[str, int, str]]] = [[] for _ in range(rows)]

    def add(self, row: int, what: str, count: int = 1, example: str = "") -> None:
        """Record what was done to a row, unless ``count`` is 0."""
        if count:
            self.rows[row].append((what, int(count), example))

    def beside(self, table: pa.Table) -> pa.Table:
        """Return the table with an extra column of what was changed, if anything was."""
        if not any(self.rows):
            return table
        cells = [json.dumps(changes) if changes else None for changes in self.rows]
        return table.append_column(CHANGED, pa.array(cells, ARROW))


class RowStage(Stage):
    """Base class of stages that handle each record by itself."""

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        """Return the changed rows, and for each why it is dropped; None if it is kept.

        An extra column may say what was changed, see ``Changes``.
        """
        raise NotImplementedError

    def schema_after(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns of the resulting records, given those of the input.

        Raises:
          UserError: a column is missing.
        """
        return schema

    def __call__(self, records: DataFrame) -> DataFrame:
        return map_records(
            self.rows, self.schema_after(records.schema().to_pyarrow_schema()), records
        )


def map_records(rows: Rows, schema: pa.Schema, records: DataFrame) -> DataFrame:
    """Apply ``rows``, a function of tables, to the records, and add their ``reason``."""
    import daft
    from daft.functions import to_struct

    whole = schema.append(pa.field(REASON, ARROW)).append(pa.field(CHANGED, ARROW))
    kind = daft.DataType.from_arrow_type(pa.struct(list(whole)))
    made = daft.func.batch(return_dtype=kind, unnest=True, use_process=False, batch_size=BATCH)
    apply = made(functools.partial(_apply, rows, whole))
    return records.select(apply(to_struct(*(daft.col(name) for name in records.column_names))))


def _apply(rows: Rows, schema: pa.Schema, batch: Series) -> pa.StructArray:
    table, reasons = rows(pa.Table.from_struct_array(batch.to_arrow()))
    if CHANGED not in table.column_names:
        table = table.append_column(CHANGED, pa.nulls(len(table), ARROW))
    table = table.append_column(REASON, pa.array(reasons, ARROW)).select(schema.names).cast(schema)
    return pa.StructArray.from_arrays(
        [column.combine_chunks() for column in table.columns], fields=list(schema)
    )


def check_columns(records: DataFrame, columns: Iterable[str]) -> None:
    """Raise ``UserError`` if the records lack one of the columns."""
    for column in columns:
        if column not in records.column_names:
            raise unknown_name("column of the records", column, records.column_names)


def get_texts(table: pa.Table, column: str) -> list[str | None]:
    """Return the values of a column of texts.

    Raises:
      UserError: there is no such column, or it does not hold texts.
    """
    values = get_column(table, column).to_pylist()
    if any(isinstance(value, bytes) for value in values):
        raise UserError(f"the column {column!r} must hold text, not bytes", column)
    return values


def get_column(table: pa.Table, column: str) -> pa.ChunkedArray:
    """Return a column of a table.

    Raises:
      UserError: there is no column of that name.
    """
    if column not in table.column_names:
        raise unknown_name("column of the records", column, table.column_names)
    return table.column(column)


def replace_column(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    """Return the table with the values of a column replaced by others of the same type."""
    found = pa.array(values, table.schema.field(column).type)
    return table.set_column(table.schema.get_field_index(column), column, found)


def join_decisions(records: DataFrame, decisions: pa.Table) -> DataFrame:
    """Join the columns of ``decisions`` to the records by ``id``; they are null for other
    records.
    """
    import daft

    if REASON not in decisions.column_names:
        decisions = decisions.append_column(REASON, pa.nulls(len(decisions), ARROW))
    return records.join(daft.from_arrow(decisions), on=ID, how="left")


def make_drop_decisions(ids: pa.Array, reasons: list[str]) -> pa.Table:
    """Return decisions that drop the records with these ids."""
    return pa.table({ID: pa.array(ids, ARROW), REASON: pa.array(reasons, ARROW)})


def hash_position(text: str, salt: str = "") -> float:
    """Map a text to [0, 1) by its hash, the same everywhere and independent of other texts."""
    found = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()[:64]
    ).digest()
    return (int.from_bytes(found) >> 11) / 2.0**53
