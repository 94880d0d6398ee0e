"""What Alembic runs to bring a store's tables to another version, on an open connection."""

from alembic import context

from genjax.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
