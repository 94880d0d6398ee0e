"""Read text columns of Parquet files, which may hold bytes, or text that is not UTF-8."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pyarrow import types

from genjax.errors import UserError


def values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column as Python objects; texts as bytes if some are not UTF-8.

    Dates and times that Python cannot represent become texts.
    """
    if column.type == pa.time64("ns"):  # Python would drop the nanoseconds
        return list(column.cast(pa.string()).to_pylist())
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return list(column.cast(_of_bytes(column.type)).to_pylist())
    except (OverflowError, ValueError):
        if not types.is_temporal(column.type):
            raise
        return list(column.cast(pa.string()).to_pylist())


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch, with the values of ``values``."""
    columns = [values(column) for column in batch.columns]
    return [
        dict(zip(batch.schema.names, cells, strict=True)) for cells in zip(*columns, strict=True)
    ]


def decoded(value: Any, encoding: str, where: str, field: str) -> Any:
    """Decode bytes; return other values unchanged.

    Raises:
      UserError: the bytes have another encoding, or ``encoding`` is unknown.
    """
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} has bytes in {field!r} that are not {encoding}: {error.reason}", field
        ) from None
    except LookupError:
        raise UserError(
            f"encoding must be one that Python knows, such as utf-8 or latin-1, got {encoding!r}",
            "encoding",
        ) from None


def texts(cells: Iterable[Any], encoding: str, title: str, name: str) -> list[str | None]:
    """Return the cells of a text column, with bytes decoded; errors are those of ``decoded``."""
    return [
        None if cell is None else str(decoded(cell, encoding, f"row {row:,} of {title}", name))
        for row, cell in enumerate(cells, 1)
    ]


def moments(column: pa.ChunkedArray) -> list[str | None]:
    """Format dates and times as ISO texts, without fractions of a second if all are 0."""
    found: list[str | None] = column.cast(pa.string()).to_pylist()
    parts = [None if text is None else text.partition(".") for text in found]
    ends = [None if part is None else part[2].lstrip("0") for part in parts]
    if any(end and end[0].isdigit() for end in ends):
        return found
    return [None if p is None else p[0] + (e or "") for p, e in zip(parts, ends, strict=True)]


def _of_bytes(kind: pa.DataType) -> pa.DataType:
    """Return a type with bytes instead of texts at every level of nesting."""
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.large_binary()
    if types.is_large_list(kind):
        return pa.large_list(_of_bytes(kind.value_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_of_bytes(kind.value_type), kind.list_size)
    if types.is_list(kind):
        return pa.list_(_of_bytes(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _of_bytes(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_of_bytes(kind.key_type), _of_bytes(kind.item_type))
    return kind
