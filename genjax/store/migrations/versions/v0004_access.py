"""Adds the tables of access."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "roles",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("rules", JSON, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("digest", TEXT, nullable=False, unique=True),
        sa.Column("user", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("scopes", JSON),
        sa.Column("rate", sa.BigInteger),
        *(
            sa.Column(name, sa.BigInteger, nullable=name != "created")
            for name in ("created", "expires", "used", "revoked")
        ),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("tokens")
    op.drop_table("roles")
