"""Adds the indexes of the columns that filters name most."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LOOKUPS = {
    "feedback_by_name": ("feedback", ["name"]),
    "feedback_by_user": ("feedback", ["user"]),
    "sessions_by_user": ("sessions", ["user"]),
    "documents_by_source": ("documents", ["source"]),
    "documents_by_hash": ("documents", ["hash"]),
    "chunks_by_hash": ("chunks", ["hash"]),
    "runs_by_name": ("runs", ["name"]),
    "datasets_by_fingerprint": ("datasets", ["fingerprint"]),
    "entities_by_name": ("entities", ["name"]),
    "relations_by_predicate": ("relations", ["predicate"]),
}


def upgrade() -> None:
    """Add them."""
    op.create_index("records_by_moment", "records", ["time", "id"])
    for name, (table, columns) in LOOKUPS.items():
        op.create_index(name, table, columns, postgresql_using="hash")


def downgrade() -> None:
    """Take them away."""
    op.drop_index("records_by_moment", "records")
    for name, (table, _) in LOOKUPS.items():
        op.drop_index(name, table)
