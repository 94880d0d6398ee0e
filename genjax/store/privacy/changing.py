"""Change what a store protects."""

from __future__ import annotations

from genjax.store import engine as engines
from genjax.store.audit import chain
from genjax.store.privacy.cleaning import check_cleaning
from genjax.store.privacy.guard import make_plan
from genjax.store.privacy.plan import Plan, write_plan
from genjax.store.store import Store


def check_plan(plan: Plan) -> None:
    """Refuse a plan that this machine cannot carry out.

    Raises:
      UserError: a package is missing.
    """
    check_cleaning(plan.anonymise)
    check_cleaning("presidio" if plan.index == "redacted-names" and plan.encrypted else "none")


def change_plan(store: Store, plan: Plan) -> Plan:
    """Change the protection of a store for new records.

    Raises:
      UserError: a key is needed and missing, or a package is.
    """
    check_plan(plan)
    plan = make_plan(plan)
    with store.writing() as connection:
        write_plan(connection, plan)
        store.guard.follow(connection)
        chain.note(connection, "change privacy", store.user, {"is": list(plan.describe())})
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
