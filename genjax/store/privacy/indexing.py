"""Keep out of a search index what its store encrypts."""

from __future__ import annotations

from dataclasses import replace

from genjax.store import schema
from genjax.store.index.index import LONGEST_TEXT, Entry
from genjax.store.privacy.cleaning import Cleaner
from genjax.store.privacy.columns import Sealed
from genjax.store.privacy.guard import Guard
from genjax.store.records import Chunk, Feedback, Payload, Record
from genjax.store.rows import name_kind


def limit_entry(guard: Guard, record: Record, entry: Entry | None) -> Entry | None:
    """Return what an index may hold of a record, as the plan of its store says.

    Args:
      guard: guard of the store.
      record: the record.
      entry: its entry with plain values; None if there is nothing to search.
    """
    mode = guard.plan.index
    if entry is None or mode == "plain" or not guard.sealed:
        return entry
    kind = name_kind(record)
    fields = {
        name: value
        for name, value in entry.fields.items()
        if not _is_encrypted(guard, kind, name.partition(".")[0])
    }
    entry = replace(entry, fields=fields)
    if not any(_is_encrypted(guard, kind, name) for name in _find_shown(record)):
        return entry
    if mode == "nothing":
        return None
    cleaner = Cleaner("presidio" if mode == "redacted-names" else "rules")
    return replace(entry, text=cleaner.text(entry.text)[:LONGEST_TEXT])


def _find_shown(record: Record) -> tuple[str, ...]:
    """Return the fields that the text of an entry is made of."""
    payload = getattr(record, "payload", None)
    if isinstance(payload, Payload) and payload.text:
        return ("text", "metadata") if isinstance(record, Chunk) else ("text",)
    return ("rationale",) if isinstance(record, Feedback) else ("name",)


def _is_encrypted(guard: Guard, kind: str, name: str) -> bool:
    for table in (schema.records, schema.KINDS[kind]):
        if name in table.c:
            of = table.c[name].type
            return isinstance(of, Sealed) and of.column in guard.sealed
    return False
