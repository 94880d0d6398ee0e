"""Makes the tables of records."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, TEXT) for name in names]


def _needed(name: str, kind: Any = TEXT) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _refer(name: str, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, TEXT, sa.ForeignKey("records.id"), nullable=nullable)


def _kind(name: str, *columns: sa.Column[Any]) -> None:
    key = sa.Column("id", TEXT, sa.ForeignKey("records.id"), primary_key=True)
    op.create_table(name, key, *columns)


def upgrade() -> None:
    """Make them."""
    _make_shared()
    _kind("sessions", *_texts("name", "user"))
    _kind("prompts", _refer("session"), _refer("parent"), _needed("role"))
    _kind(
        "responses",
        _refer("prompt", False),
        _refer("run"),
        sa.Column("step", sa.BigInteger),
        sa.Column("sampler", JSON),
        sa.Column("seed", sa.BigInteger),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("milliseconds", sa.Double),
    )
    _kind("documents", *_texts("name", "source", "hash"))
    _kind(
        "chunks",
        _refer("document", False),
        _needed("start", sa.BigInteger),
        _needed("end", sa.BigInteger),
        *_texts("hash"),
    )
    _kind(
        "feedback",
        _refer("target", False),
        _refer("against"),
        *_texts("user"),
        _needed("name"),
        sa.Column("value", sa.Double),
        _needed("source_kind"),
        *_texts("source_id", "label", "rationale"),
        _needed("valid", sa.Boolean),
    )
    _kind("runs", *_texts("name", "path", "config", "fingerprint"))
    _kind("checkpoints", _refer("run", False), _needed("step", sa.BigInteger), *_texts("path"))
    _kind("datasets", *_texts("name", "fingerprint"), sa.Column("manifest", JSON))
    _kind("entities", _needed("name"), *_texts("type"))
    _kind("relations", _refer("subject", False), _needed("predicate"), _refer("object", False))


def _make_shared() -> None:
    op.create_table(
        "records",
        sa.Column("id", TEXT, primary_key=True),
        _needed("kind"),
        _needed("origin"),
        *_texts("generator"),
        _needed("time", sa.BigInteger),
        sa.Column("deleted", sa.BigInteger),
        sa.Column("tags", JSON),
        sa.Column("metadata", JSON),
        *_texts("text"),
        sa.Column("data", JSON),
        *_texts("blob", "media_type"),
        sa.Column("size", sa.BigInteger),
        sa.CheckConstraint("origin IN ('real', 'synthetic')", name="origin_is_known"),
        sa.CheckConstraint(
            "(origin = 'synthetic') = (generator IS NOT NULL)", name="synthetic_has_generator"
        ),
    )
    op.create_table(
        "links",
        sa.Column("child", TEXT, sa.ForeignKey("records.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        _refer("parent", False),
    )
    op.create_table(
        "history",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        _needed("record"),
        _needed("user"),
        _needed("time", sa.BigInteger),
        _needed("action"),
        sa.Column("changes", JSON),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        _needed("record"),
        _needed("action"),
        sqlite_autoincrement=True,
    )
    op.create_table("settings", sa.Column("name", TEXT, primary_key=True), _needed("value"))


def downgrade() -> None:
    """Take them away."""
    for name in (
        *("relations", "entities", "datasets", "checkpoints", "runs", "feedback", "chunks"),
        *("documents", "responses", "prompts", "sessions", "settings", "outbox", "history"),
        *("links", "records"),
    ):
        op.drop_table(name)
