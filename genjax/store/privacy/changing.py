"""Change what a store protects."""

from __future__ import annotations

import sqlalchemy as sa

from genjax.store import engine as engines
from genjax.store import schema
from genjax.store.privacy.cleaning import check_cleaning
from genjax.store.privacy.guard import Guard, make_plan
from genjax.store.privacy.plan import Plan, write_plan
from genjax.store.store import Store

USERS = (schema.KINDS["session"], schema.KINDS["feedback"], schema.history)


def check_plan(plan: Plan) -> None:
    """Refuse a plan that this machine cannot carry out.

    Raises:
      UserError: a package is missing.
    """
    check_cleaning(plan.anonymise)
    check_cleaning("presidio" if plan.index == "redacted-names" and plan.encrypted else "none")


def change_plan(store: Store, plan: Plan) -> Plan:
    """Change the protection of a store for new records; users get pseudonyms in old ones, too.

    Raises:
      UserError: a key is needed and missing, or a package is.
    """
    check_plan(plan)
    named = plan.pseudonyms and not store.guard.plan.pseudonyms
    plan = make_plan(plan)
    with store.writing() as connection:
        write_plan(connection, plan)
        store.guard.follow(connection)
        if named:
            _name_users(connection, store.guard)
    if named:
        clean_file(store)
    return plan


def clean_file(store: Store) -> None:
    """Write an SQLite file again, so that no replaced value is left in a free page or the log.

    PostgreSQL does that by ``VACUUM FULL``, which its owner runs.
    """
    if store.is_postgres:
        return
    with engines.explain(store.url), store.engine.connect() as opened:
        raw = opened.connection.driver_connection
        assert raw is not None
        raw.execute("VACUUM")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _name_users(connection: sa.Connection, guard: Guard) -> None:
    """Replace the names of users, also those of the past; writing one names it by its pseudonym."""
    for table in USERS:
        user = table.c.user
        plain = sa.type_coerce(user, schema.Text)
        for (name,) in connection.execute(sa.select(plain).distinct()).all():
            if name is not None:
                connection.execute(table.update().where(plain == name).values(user=name))
    past = schema.history
    query = sa.select(past.c.seq, past.c.changes).where(past.c.action == "update")
    for seq, changes in connection.execute(query).all():
        if changes and "user" in changes:
            users = [one and guard.name_user(one) for one in changes["user"]]
            new = {**changes, "user": users}
            connection.execute(past.update().where(past.c.seq == seq).values(changes=new))
