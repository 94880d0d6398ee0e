"""Adds the audit trail, rules of retention, and erasures that are not finished."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), "postgresql"
)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "audit",
        sa.Column("link", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("behind", sa.BigInteger, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("user", TEXT),
        sa.Column("token", TEXT),
        sa.Column("details", JSON),
        sa.Column("salt", TEXT),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("items", TEXT, nullable=False),
        sa.Column("content", TEXT, nullable=False),
        sa.Column("previous", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
    )
    op.create_table(
        "audit_gone",
        sa.Column("link", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.Column("erasure", sa.BigInteger, nullable=False),
    )
    for name in ("link", "position"):
        op.add_column("history", sa.Column(name, sa.BigInteger))
    for name in ("salt", "before", "after"):
        op.add_column("history", sa.Column(name, TEXT))
    op.create_table(
        "retention",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("rule", JSON, nullable=False),
    )
    op.create_table(
        "erasures",
        sa.Column("link", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("left", JSON, nullable=False),
    )


def downgrade() -> None:
    """Take them away."""
    for name in ("erasures", "retention", "audit_gone", "audit"):
        op.drop_table(name)
    for name in ("link", "position", "salt", "before", "after"):
        op.drop_column("history", name)
