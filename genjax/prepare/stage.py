"""What a stage of a preparation is: it takes records and says which of them are dropped, and
why.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from genjax.errors import UserError, unknown_name

if TYPE_CHECKING:
    from daft import DataFrame, Series

# Columns of every record, and of what a stage says of it: why it is dropped, and what was changed
# in it.
ID, SOURCE, REASON, CHANGED = "id", "source", "reason", "_changed"
BATCH = 256  # records that are in memory at once next to the engine's own
Rows = Callable[[pa.Table], tuple[pa.Table, list[str | None]]]  # of ``RowStage.rows``
ARROW = pa.large_string()  # texts of more than 2 GiB in all, as Daft has them


class Stage:
    """A step of a preparation.

    Attributes:
      broken: what it drops is damaged, not merely unwanted: it goes into the quarantine and counts
        as bad.
      remark: what the data card says about it besides the counts; "" for nothing.
    """

    broken: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What folders and the data card call it."""
        return type(self).__name__

    @property
    def remark(self) -> str:
        return ""

    def hash_inputs(self) -> Mapping[str, str]:
        """What it works by besides its fields and the records, such as other files: a hash of each,
        by name.

        Another hash has the stage done again. The manifest holds them: a secret appears only as
        what guards it.
        """
        return {}

    def redact(self, text: str) -> str:
        """What of a record card and quarantine may show, whichever stage it has come to; all
        of it by default.
        """
        return text

    def __call__(self, records: DataFrame) -> DataFrame:
        """The records, perhaps with other columns, and ``reason``: why one is dropped, null where
        it is kept.

        A pure function of the records as a set: neither their order nor how they lie in files may
        matter.
        """
        raise NotImplementedError


class Changes:
    """What was changed in some rows, to be counted on the data card.

    Attributes:
      rows: of each row what was done, how often, and an example that a card may show, "" for none.
    """

    def __init__(self, rows: int) -> None:
        self.rows: list[list[tuple[str, int, str]]] = [[] for _ in range(rows)]

    def add(self, row: int, what: str, count: int = 1, example: str = "") -> None:
        """Count what was done to a row, unless it was done 0 times."""
        if count:
            self.rows[row].append((what, int(count), example))

    def beside(self, table: pa.Table) -> pa.Table:
        """The table of the rows with what was changed, if anything was, in a column of its own."""
        if not any(self.rows):
            return table
        cells = [json.dumps(changes) if changes else None for changes in self.rows]
        return table.append_column(CHANGED, pa.array(cells, ARROW))


class RowStage(Stage):
    """A stage that looks at one record at a time."""

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        """The records of some rows as they continue, and for each why it is dropped, None if it is
        kept.

        What was changed may be in a column of its own, as ``Changes`` writes it.
        """
        raise NotImplementedError

    def schema_after(self, schema: pa.Schema) -> pa.Schema:
        """The columns of the records that continue, given those that come.

        Raises:
          UserError: a column is missing.
        """
        return schema

    def __call__(self, records: DataFrame) -> DataFrame:
        return map_records(
            self.rows, self.schema_after(records.schema().to_pyarrow_schema()), records
        )


def map_records(rows: Rows, schema: pa.Schema, records: DataFrame) -> DataFrame:
    """The records after ``rows``, a function of tables, with their ``reason``."""
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
    """Refuse records without one of the columns, with a ``UserError``."""
    for column in columns:
        if column not in records.column_names:
            raise unknown_name("column of the records", column, records.column_names)


def get_texts(table: pa.Table, column: str) -> list[str | None]:
    """The values of a column of texts.

    Raises:
      UserError: there is no such column, or it holds no texts.
    """
    values = get_column(table, column).to_pylist()
    if any(isinstance(value, bytes) for value in values):
        raise UserError(f"the column {column!r} holds bytes, not text")
    return values


def get_column(table: pa.Table, column: str) -> pa.ChunkedArray:
    """A column of a table.

    Raises:
      UserError: there is none of that name.
    """
    if column not in table.column_names:
        raise unknown_name("column of the records", column, table.column_names)
    return table.column(column)


def replace_column(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    """The table with other values, of the same type, in a column."""
    found = pa.array(values, table.schema.field(column).type)
    return table.set_column(table.schema.get_field_index(column), column, found)


def join_decisions(records: DataFrame, decisions: pa.Table) -> DataFrame:
    """The records with the columns that ``decisions`` gives to some of them by ``id``; null
    for the others.
    """
    import daft

    if REASON not in decisions.column_names:
        decisions = decisions.append_column(REASON, pa.nulls(len(decisions), ARROW))
    return records.join(daft.from_arrow(decisions), on=ID, how="left")


def make_drop_decisions(ids: pa.Array, reasons: list[str]) -> pa.Table:
    """Decisions that drop the records of these ids."""
    return pa.table({ID: pa.array(ids, ARROW), REASON: pa.array(reasons, ARROW)})


def hash_position(text: str, salt: str = "") -> float:
    """Where a text falls in [0, 1), by its hash: the same everywhere, and however many others
    there are.
    """
    found = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()[:64]
    ).digest()
    return (int.from_bytes(found) >> 11) / 2.0**53
