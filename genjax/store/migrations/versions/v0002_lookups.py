"""Adds the indexes that lists, conversations and lineage are looked up by."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LOOKUPS = {
    "records_by_time": ("records", ["kind", "time", "id"]),
    "records_by_blob": ("records", ["blob"]),
    "records_by_generator": ("records", ["generator"]),
    "links_by_parent": ("links", ["parent"]),
    "history_by_record": ("history", ["record"]),
    "prompts_by_session": ("prompts", ["session"]),
    "prompts_by_parent": ("prompts", ["parent"]),
    "responses_by_prompt": ("responses", ["prompt"]),
    "responses_by_run": ("responses", ["run"]),
    "chunks_by_document": ("chunks", ["document"]),
    "feedback_by_target": ("feedback", ["target"]),
    "feedback_by_against": ("feedback", ["against"]),
    "checkpoints_by_run": ("checkpoints", ["run"]),
    "relations_by_subject": ("relations", ["subject"]),
    "relations_by_object": ("relations", ["object"]),
}


def upgrade() -> None:
    """Add them."""
    for name, (table, columns) in LOOKUPS.items():
        op.create_index(name, table, columns)


def downgrade() -> None:
    """Take them away."""
    for name, (table, _) in LOOKUPS.items():
        op.drop_index(name, table)
