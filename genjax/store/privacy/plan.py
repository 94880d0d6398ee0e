"""What a store protects: the fields it encrypts, what of them is indexed, and whom it names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Literal, TypeAlias

import sqlalchemy as sa

from genjax import checks
from genjax.errors import UserError, unknown_name

Indexed: TypeAlias = Literal["nothing", "redacted", "redacted-names", "plain"]
Cleaning: TypeAlias = Literal["none", "rules", "presidio"]
FIELDS = (
    "text",
    "data",
    "metadata",
    "name",  # of sessions, documents and entities
    "source",
    "hash",  # of texts, which would confirm a guess
    "label",
    "rationale",
    "predicate",
)
BLOBS, CHANGES, DIGEST = "blobs", "changes", "blob"
# Old values of fields, what deeds were about, and salts, without which no hash confirms a guess.
PAST = frozenset({CHANGES, "details", "salt"})
ALL = "fields"  # stands for all of FIELDS
SETTING = "privacy"  # name of the setting


@checks.frozen
class Plan:
    """The protection of a store, as it is kept in its settings.

    Attributes:
      encrypted: fields of ``FIELDS``, and "blobs".
      index: what of encrypted texts the search index holds: nothing, the texts without personal
        data that patterns find, also without names, or the plain texts.
      anonymise: how personal data is removed from new records: by the patterns of ``Anonymous``, by
        these and Presidio's names, or not.
      pseudonyms: whether users are named by keyed hashes.
      key: id of the key that encrypts; "" for a store without one.
      older: ids of keys that a rotation has not replaced everywhere yet.
      secret: the store's own secret, encrypted with the key: pseudonyms and the names of blobs
        come from it, and so they outlast a rotation.
    """

    encrypted: tuple[str, ...] = ()
    index: Indexed = "nothing"
    anonymise: Cleaning = "none"
    pseudonyms: bool = False
    key: str = ""
    older: tuple[str, ...] = ()
    secret: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in self.encrypted:
            if name not in (*FIELDS, BLOBS):
                raise unknown_name("field to encrypt", name, (*FIELDS, ALL, BLOBS))
        if "text" in self.encrypted and "hash" not in self.encrypted:
            raise UserError("encrypt must have hash where it has text: it confirms guesses", "hash")

    @property
    def needs_key(self) -> bool:
        """Whether anything here is done with a key."""
        return bool(self.encrypted) or self.pseudonyms

    @property
    def columns(self) -> frozenset[str]:
        """Return the names of the encrypted columns, with those of the past that repeat them."""
        found = set(self.encrypted) - {BLOBS}
        found |= {DIGEST} if BLOBS in self.encrypted else set()
        return frozenset(found | PAST if found else found)

    def describe(self) -> list[str]:
        """Return lines that say what is protected, and what that costs."""
        lines = []
        if self.encrypted:
            names = ["fields" if set(FIELDS) <= set(self.encrypted) else ""]
            names += [name for name in self.encrypted if name == BLOBS or not names[0]]
            lines += [
                f"encrypted {', '.join(filter(None, names))}, with key {self.key}",
                "          filters and orders on these are refused; ids, times, tags, sizes, users "
                "and links stay readable",
                f"index     {self.index}: {COSTS[self.index]}",
            ]
        if self.older:
            lines.append(f"rotation  unfinished: {', '.join(self.older)} still needed")
        if self.anonymise != "none":
            lines.append(f"anonymise {self.anonymise}: {LIMITS[self.anonymise]}")
        if self.pseudonyms:
            lines.append("users     by keyed hashes: whoever has the key can test a name")
        return lines


COSTS = {
    "nothing": "search does not find encrypted texts",
    "redacted": "search finds encrypted texts by what is left of them without personal data that "
    "patterns find; whoever has the index can read that, names too",
    "redacted-names": "search finds encrypted texts by what is left of them without personal data "
    "and names; whoever has the index can read that",
    "plain": "search finds all, and whoever has the index can read all texts",
}
LIMITS = {
    "rules": "e-mail and web addresses, phones, cards, IBANs and IPs are removed from new records "
    "for good; names stay",
    "presidio": "personal data and names are removed from new records for good; a model finds "
    "most names, not all",
}


def parse_encrypted(words: Sequence[str]) -> tuple[str, ...]:
    """Return the fields of options such as ``fields,blobs``, each once and in order."""
    named = {one for word in words for one in word.split(",") if one}
    if words and not named:
        raise UserError(f"encrypt must name fields: {ALL}, {BLOBS} or a field", "encrypt")
    named |= set(FIELDS) if ALL in named else set()
    named |= {"hash"} if "text" in named else set()  # it would confirm a guess
    known = (*FIELDS, BLOBS)
    for name in sorted(named - {*known, ALL}):
        raise UserError(f"encrypt: {unknown_name('field', name, (*known, ALL))}", "encrypt")
    return tuple(name for name in known if name in named)


def copy_plan(plan: Plan) -> Plan:
    """Return the plan of a copy, which one key encrypts."""
    return dataclasses.replace(plan, older=())


def read_plan(connection: sa.Connection) -> Plan:
    """Read the protection of a store.

    Raises:
      UserError: the setting is damaged.
    """
    query = sa.text("SELECT value FROM settings WHERE name = :name")
    found = connection.execute(query, {"name": SETTING}).scalar()
    if found is None:
        return Plan()
    try:
        values = json.loads(found)
        lists = {name: tuple(values[name]) for name in ("encrypted", "older")}
        return Plan(**(values | lists))
    except (ValueError, TypeError, KeyError):
        raise UserError(f"store: its setting {SETTING!r} is damaged", "store") from None


def write_plan(connection: sa.Connection, plan: Plan) -> None:
    """Write the protection of a store."""
    value = json.dumps(dataclasses.asdict(plan))
    given = {"name": SETTING, "value": value}
    update = sa.text("UPDATE settings SET value = :value WHERE name = :name")
    if not connection.execute(update, given).rowcount:
        insert = sa.text("INSERT INTO settings (name, value) VALUES (:name, :value)")
        connection.execute(insert, given)
