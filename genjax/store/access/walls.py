"""Row security of PostgreSQL as a second wall: the database itself shows a role only its rows.

Each role of the store that may not read everything gets a role of PostgreSQL that cannot log in,
and policies made from the same rules. A restricted connection takes that role for its transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.access.principal import Principal
from genjax.store.access.role_table import list_roles
from genjax.store.access.roles import Rule, hash_rules
from genjax.store.access.views import TOLD, choose_views, compile_views, show_all
from genjax.store.store import Store

SETTING = "row security"  # of each role of the store, the role of PostgreSQL
PREFIX = "genjax_"
READABLE = ("records", *(t.name for t in schema.KINDS.values()), "links", "history", "outbox")


def secure(store: Store) -> Mapping[str, str]:
    """Make or renew the row security of a store; return the role of PostgreSQL by role.

    Raises:
      UserError: the database is not PostgreSQL, or its user may not make roles.
    """
    if not store.is_postgres:
        raise UserError(f"store {store.place} must be PostgreSQL to have row security", "store")
    try:
        with store.writing() as connection:
            return _secure(connection)
    except UserError as error:
        if isinstance(error.__cause__, exc.ProgrammingError):
            cure = "connect as the owner of its tables, with CREATEROLE"
            raise UserError(f"{error}: {cure}", "store") from error
        raise


def renew(connection: sa.Connection) -> None:
    """Renew the row security after a change of roles, if the store has any."""
    if _read_setting(connection) is not None:
        _secure(connection)


def find_wall(store: Store, principal: Principal) -> str | None:
    """Return the role of PostgreSQL of a principal; None without row security.

    Raises:
      UserError: the row security does not have the present rules of the role.
    """
    rules = principal.rules("read")
    if not store.is_postgres or show_all(rules) or not rules:
        return None
    with store.reading() as connection:
        known = _read_setting(connection)
        name = _name_wall(connection, rules)
    if known is None:
        return None
    if name not in known.values():
        cure = f"genjax store secure {store.place}"
        raise UserError(f"role {principal.role.name} has other rules than its wall: {cure}", "role")
    return name


def _read_setting(connection: sa.Connection) -> dict[str, str] | None:
    table = schema.settings
    query = sa.select(table.c.value).where(table.c.name == SETTING)
    kept = connection.execute(query).scalar()
    return None if kept is None else dict(json.loads(kept))


def _name_wall(connection: sa.Connection, rules: Sequence[Rule]) -> str:
    # Roles belong to all databases of a server, so that the name is also of this one.
    which = connection.execute(sa.select(sa.func.current_database())).scalar_one()
    digest = hashlib.sha256(f"{which}\n{hash_rules(rules)}".encode()).hexdigest()
    return f"{PREFIX}{digest[:20]}"


def _secure(connection: sa.Connection) -> dict[str, str]:
    found: dict[str, str] = {}
    kept = _read_setting(connection) or {}
    for wall in sorted(set(kept.values())):
        for line in _remove(wall):
            connection.exec_driver_sql(line)
    place = connection.dialect.default_schema_name or "public"
    for name, role in list_roles(connection).items():
        rules = Principal("", role).rules("read")
        if not rules or show_all(rules):
            continue
        wall = _name_wall(connection, rules)
        if wall not in found.values():
            views = compile_views((rules,), connection.dialect, place)
            found_by = choose_views(views or {}, "records")
            for line in _build(wall, place, found_by):
                connection.exec_driver_sql(line)
        found[name] = wall
    table = schema.settings
    connection.execute(table.delete().where(table.c.name == SETTING))
    connection.execute(table.insert().values(name=SETTING, value=json.dumps(found)))
    return found


def _remove(wall: str) -> Iterator[str]:
    drop = f"DROP OWNED BY {wall}; DROP ROLE {wall}"
    yield (
        f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{wall}') "
        f"THEN {drop}; END IF; END $$"
    )
    yield f"DROP FUNCTION IF EXISTS {wall}_sees(text)"


def _build(wall: str, place: str, views: str) -> Iterator[str]:
    """Yield the statements that make a role, its function and its policies.

    The function looks with the rights of the owner of the tables: policies that looked at each
    other's tables would not end.
    """
    mark = "$genjax_views$"
    if mark in views:
        raise UserError(f"rule must not hold {mark}", "rule")
    yield from _remove(wall)
    yield f"CREATE ROLE {wall} NOLOGIN NOINHERIT"
    yield f"GRANT {wall} TO CURRENT_USER"
    yield f'GRANT USAGE ON SCHEMA "{place}" TO {wall}'
    yield (
        f"CREATE FUNCTION {wall}_sees(one text) RETURNS boolean LANGUAGE plpgsql STABLE "
        f"SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {mark} BEGIN RETURN (WITH "
        f"{views} SELECT EXISTS (SELECT 1 FROM records WHERE records.id = one)); END {mark}"
    )
    yield f"REVOKE ALL ON FUNCTION {wall}_sees(text) FROM PUBLIC"
    yield f"GRANT EXECUTE ON FUNCTION {wall}_sees(text) TO {wall}"
    for name in READABLE:
        table, columns = f'"{place}"."{name}"', "*"
        if name == "history":  # not what a record was before
            columns = "(" + ", ".join(f'"{c}"' for c in TOLD) + ")"
        rights = "SELECT" if columns == "*" else f"SELECT {columns}"
        yield f"GRANT {rights} ON {table} TO {wall}"
        yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
        seen = " AND ".join(f"{wall}_sees({column})" for column in _keys(name))
        yield f"CREATE POLICY {wall} ON {table} FOR SELECT TO {wall} USING ({seen})"


def _keys(name: str) -> tuple[str, ...]:
    """Return the columns of a table that name records which must be seen."""
    if name == "links":
        return ("child", "parent")
    return ("record",) if name in ("history", "outbox") else ("id",)
