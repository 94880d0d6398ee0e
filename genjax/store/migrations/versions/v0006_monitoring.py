"""Adds the tables of monitoring: requests to servers, rules of alerts, and alerts."""

import sqlalchemy as sa
from alembic import op

from genjax.store.schema import Json, Text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "requests",
        sa.Column("id", Text, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("route", Text, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("run", Text),
        sa.Column("user", Text),
        sa.Column("record", Text),
        sa.Column("tokens_in", sa.BigInteger),
        sa.Column("tokens_out", sa.BigInteger),
        sa.Column("milliseconds", sa.Double),
        sa.Column("first_ms", sa.Double),
    )
    op.create_table(
        "alert_rules",
        sa.Column("name", Text, primary_key=True),
        sa.Column("user", Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("options", Json, nullable=False),
        sa.Column("seen", sa.BigInteger),
    )
    op.create_table(
        "alerts",
        sa.Column("id", Text, primary_key=True),
        sa.Column("rule", Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("said", Text, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("acknowledged", sa.BigInteger),
        sa.Column("user", Text),
    )
    op.create_index("requests_by_time", "requests", ["time"])
    op.create_index("requests_by_record", "requests", ["record"])
    op.create_index("requests_by_user", "requests", ["user"], postgresql_using="hash")
    op.create_index("alerts_by_rule", "alerts", ["rule"])


def downgrade() -> None:
    """Take them away."""
    for name in ("requests", "alert_rules", "alerts"):
        op.drop_table(name)
