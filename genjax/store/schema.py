"""The tables of a store.

The fields that all records share, and payloads, are in ``records``: search and blobs read only that
table. One table per kind holds the rest. Times are whole microseconds since 1970 in UTC, exact in
every database.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from genjax.store.privacy.columns import Digest, Sealed, User

VERSION = "0006"  # of the newest migration

# Texts are compared and ordered by their code points, whatever the language of the server.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Json = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), "postgresql"
)
Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite only counts up Integer

metadata = sa.MetaData()

records = sa.Table(
    "records",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("origin", Text, nullable=False),
    sa.Column("generator", Text),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.BigInteger),  # time of deletion; null otherwise
    sa.Column("tags", Json),
    sa.Column("metadata", Sealed("metadata", Json)),
    sa.Column("text", Sealed("text", Text)),
    sa.Column("data", Sealed("data", Json)),
    sa.Column("blob", Digest(Text)),
    sa.Column("media_type", Text),
    sa.Column("size", sa.BigInteger),
    sa.CheckConstraint("origin IN ('real', 'synthetic')", name="origin_is_known"),
    sa.CheckConstraint(
        "(origin = 'synthetic') = (generator IS NOT NULL)", name="synthetic_has_generator"
    ),
)
links = sa.Table(  # parents of records
    "links",
    metadata,
    sa.Column("child", Text, sa.ForeignKey("records.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("parent", Text, sa.ForeignKey("records.id"), nullable=False),
)
history = sa.Table(
    "history",
    metadata,
    sa.Column("seq", Sequence, primary_key=True, autoincrement=True),
    sa.Column("record", Text, nullable=False),
    sa.Column("user", User(Text), nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("action", Text, nullable=False),  # add, update, delete, restore
    sa.Column("changes", Sealed("changes", Json)),  # of each field what it was, and is
    sa.Column("link", sa.BigInteger),  # of the audit trail, and the place below it
    sa.Column("position", sa.BigInteger),
    sa.Column("salt", Sealed("salt", Text)),  # without which nobody tests a guess by the hashes
    sa.Column("before", Text),  # hashes of the record
    sa.Column("after", Text),
)
outbox = sa.Table(  # changes that the index has to follow
    "outbox",
    metadata,
    sa.Column("seq", Sequence, primary_key=True, autoincrement=True),
    sa.Column("record", Text, nullable=False),
    sa.Column("action", Text, nullable=False),  # upsert, delete
    sqlite_autoincrement=True,  # a number is never given twice
)
audit = sa.Table(  # the links of the audit trail, see genjax.store.audit.chain
    "audit",
    metadata,
    sa.Column("link", Sequence, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("behind", sa.BigInteger, nullable=False),  # the link before, if the clock went back
    sa.Column("action", Text, nullable=False),
    sa.Column("user", User(Text)),  # this, token, details and salt are empty once erased
    sa.Column("token", Text),
    sa.Column("details", Sealed("details", Json)),
    sa.Column("salt", Sealed("salt", Text)),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("items", Text, nullable=False),  # hashes: of rows of the history, of the words here,
    sa.Column("content", Text, nullable=False),
    sa.Column("previous", Text, nullable=False),  # of the link before, and of this one
    sa.Column("hash", Text, nullable=False),
)
audit_gone = sa.Table(  # hashes of erased rows of the history, and at -1 of the words of links
    "audit_gone",
    metadata,
    sa.Column("link", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", Text, nullable=False),
    sa.Column("erasure", sa.BigInteger, nullable=False),  # the link that erased it
)
retention = sa.Table(
    "retention",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("rule", Json, nullable=False),
)
erasures = sa.Table(  # erasures that are not finished, and what is left of them
    "erasures",
    metadata,
    sa.Column("link", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("left", Json, nullable=False),
)
settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("value", Text, nullable=False),
)
roles = sa.Table(  # roles of one's own, see ``genjax.store.access``
    "roles",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("rules", Json, nullable=False),
)
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("digest", Text, nullable=False, unique=True),  # SHA-256 of the token
    sa.Column("user", Text, nullable=False),
    sa.Column("role", Text, nullable=False),
    sa.Column("scopes", Json),
    sa.Column("rate", sa.BigInteger),  # requests a minute
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("used", sa.BigInteger),  # when it was last used
    sa.Column("revoked", sa.BigInteger),
)
requests = sa.Table(  # to a server, answered or refused; never their texts
    "requests",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("route", Text, nullable=False),
    sa.Column("status", sa.BigInteger, nullable=False),
    sa.Column("run", Text),  # id of its record
    sa.Column("user", User(Text)),
    sa.Column("record", Text),  # id of the first answer, if that was stored
    sa.Column("tokens_in", sa.BigInteger),
    sa.Column("tokens_out", sa.BigInteger),
    sa.Column("milliseconds", sa.Double),
    sa.Column("first_ms", sa.Double),  # to the first token
)
alert_rules = sa.Table(
    "alert_rules",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("user", Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("options", Json, nullable=False),
    sa.Column("seen", sa.BigInteger),  # end of the last window that was compared for drift
)
alerts = sa.Table(  # what rules found; one without an end lasts
    "alerts",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("rule", Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("said", Text, nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("acknowledged", sa.BigInteger),
    sa.Column("user", Text),  # who acknowledged it
)


def _kind(name: str, *columns: sa.Column[Any]) -> sa.Table:
    key = sa.Column("id", Text, sa.ForeignKey("records.id"), primary_key=True)
    return sa.Table(name, metadata, key, *columns)


def _id(name: str, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, Text, sa.ForeignKey("records.id"), nullable=nullable)


KINDS = {
    "session": _kind(
        "sessions",
        sa.Column("name", Sealed("name", Text)),
        sa.Column("user", User(Text)),
    ),
    "prompt": _kind(
        "prompts", _id("session"), _id("parent"), sa.Column("role", Text, nullable=False)
    ),
    "response": _kind(
        "responses",
        _id("prompt", False),
        _id("run"),
        sa.Column("step", sa.BigInteger),
        sa.Column("sampler", Json),
        sa.Column("seed", sa.BigInteger),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("milliseconds", sa.Double),
    ),
    "document": _kind(
        "documents",
        sa.Column("name", Sealed("name", Text)),
        sa.Column("source", Sealed("source", Text)),
        sa.Column("hash", Sealed("hash", Text)),
    ),
    "chunk": _kind(
        "chunks",
        _id("document", False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("hash", Sealed("hash", Text)),
    ),
    "feedback": _kind(
        "feedback",
        _id("target", False),
        _id("against"),
        sa.Column("user", User(Text)),
        sa.Column("name", Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("source_kind", Text, nullable=False),
        sa.Column("source_id", Text),
        sa.Column("label", Sealed("label", Text)),
        sa.Column("rationale", Sealed("rationale", Text)),
        sa.Column("valid", sa.Boolean, nullable=False),
    ),
    "run": _kind(
        "runs",
        sa.Column("name", Text),
        sa.Column("path", Text),
        sa.Column("config", Text),
        sa.Column("fingerprint", Text),
    ),
    "checkpoint": _kind(
        "checkpoints",
        _id("run", False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("path", Text),
    ),
    "dataset": _kind(
        "datasets",
        sa.Column("name", Text),
        sa.Column("fingerprint", Text),
        sa.Column("manifest", Json),
    ),
    "entity": _kind(
        "entities",
        sa.Column("name", Sealed("name", Text), nullable=False),
        sa.Column("type", Text),
    ),
    "relation": _kind(
        "relations",
        _id("subject", False),
        sa.Column("predicate", Sealed("predicate", Text), nullable=False),
        _id("object", False),
    ),
}
PAYLOAD = ("text", "data", "blob", "media_type", "size")  # columns of ``records``
LOOKUPS = (  # indexes of the tables
    sa.Index("records_by_time", records.c.kind, records.c.time, records.c.id),
    sa.Index("records_by_blob", records.c.blob),
    sa.Index("records_by_generator", records.c.generator),
    sa.Index("links_by_parent", links.c.parent),
    sa.Index("history_by_record", history.c.record),
    sa.Index("records_by_moment", records.c.time, records.c.id),
    sa.Index("requests_by_time", requests.c.time),
    sa.Index("requests_by_record", requests.c.record),
    sa.Index("alerts_by_rule", alerts.c.rule),
    *(
        sa.Index(f"{table.name}_by_{name}", table.c[name])
        for table, names in (
            (KINDS["prompt"], ("session", "parent")),
            (KINDS["response"], ("prompt", "run")),
            (KINDS["chunk"], ("document",)),
            (KINDS["feedback"], ("target", "against")),
            (KINDS["checkpoint"], ("run",)),
            (KINDS["relation"], ("subject", "object")),
        )
        for name in names
    ),
    *(  # by a hash, as these texts may be longer than what other indexes of PostgreSQL take
        sa.Index(f"{table.name}_by_{name}", table.c[name], postgresql_using="hash")
        for table, names in (
            (KINDS["session"], ("user",)),
            (KINDS["document"], ("source", "hash")),
            (KINDS["chunk"], ("hash",)),
            (KINDS["feedback"], ("name", "user")),
            (KINDS["run"], ("name",)),
            (KINDS["dataset"], ("fingerprint",)),
            (KINDS["entity"], ("name",)),
            (KINDS["relation"], ("predicate",)),
            (requests, ("user",)),
        )
        for name in names
    ),
)
