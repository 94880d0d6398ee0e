"""Synthetic records are marked in the very files that hold them, so that no reader takes them
for real ones unasked.
"""

from __future__ import annotations

from typing import Any

from genjax.errors import UserError

REAL, SYNTHETIC = "real", "synthetic"
ORIGIN = b"genjax.origin"  # in the metadata of a Parquet schema; files without it are real


def mark_schema(schema: Any) -> Any:
    """The Parquet schema of files that hold synthetic records."""
    return schema.with_metadata({**(schema.metadata or {}), ORIGIN: SYNTHETIC.encode()})


def refuse_synthetic(schema: Any, name: str) -> None:
    """Refuse a Parquet file, by its schema, that is marked as synthetic.

    Raises:
      UserError: it is; the message says how its records are mixed in on purpose.
    """
    if (schema.metadata or {}).get(ORIGIN) == SYNTHETIC.encode():
        raise UserError(
            f"{name} holds synthetic records: mix them into a prepared set of real ones, "
            "by synthetic=Synthetic(NAME, share) of PreparedTexts or PreparedImages"
        )
