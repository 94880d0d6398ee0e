"""Mark synthetic records in the files that hold them, so that no reader takes them for real
ones.
"""

from __future__ import annotations

from typing import Any

from genjax.errors import UserError

REAL, SYNTHETIC = "real", "synthetic"
ORIGIN = b"genjax.origin"  # in the metadata of a Parquet schema; files without it are real


def mark_schema(schema: Any) -> Any:
    """Return a Parquet schema with the mark of synthetic records."""
    return schema.with_metadata({**(schema.metadata or {}), ORIGIN: SYNTHETIC.encode()})


def refuse_synthetic(schema: Any, name: str) -> None:
    """Refuse a Parquet file whose schema is marked as synthetic.

    Raises:
      UserError: it is; the message says how to mix its records in on purpose.
    """
    if (schema.metadata or {}).get(ORIGIN) == SYNTHETIC.encode():
        raise UserError(
            f"{name} holds synthetic records: to mix them with real ones, give PreparedTexts or "
            "PreparedImages the option synthetic=Synthetic(NAME, share)"
        )
