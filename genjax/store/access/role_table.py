"""The roles of one's own, in a table of the store."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlalchemy as sa

from genjax.errors import UserError, unknown_name
from genjax.store import schema
from genjax.store.access.roles import BUILT_IN, Role, Rule, read_rule

NAME = re.compile(r"[A-Za-z][\w-]{0,39}")


def list_roles(connection: sa.Connection) -> dict[str, Role]:
    """Return all roles by name: those that are built in, and those of the store."""
    rows = connection.execute(sa.select(schema.roles.c.name, schema.roles.c.rules))
    own = {name: Role(name, tuple(map(read_rule, rules))) for name, rules in rows}
    return {**dict(sorted(own.items())), **BUILT_IN}


def find_role(connection: sa.Connection, name: str) -> Role:
    """Return a role.

    Raises:
      UserError: there is none with this name.
    """
    known = list_roles(connection)
    if name not in known:
        raise unknown_name("role", name, known)
    return known[name]


def add_role(connection: sa.Connection, name: str, rules: Sequence[Rule]) -> Role:
    """Add a role to the store, or replace its rules.

    Raises:
      UserError: the name is that of a built-in role, or there are no rules.
    """
    if not NAME.fullmatch(name) or name in BUILT_IN:
        known = ", ".join(BUILT_IN)
        rule = f"a letter, then letters, digits, - and _, and none of {known}"
        raise UserError(f"role must be {rule}, got {name!r:.60}", "role")
    if not rules:
        raise UserError(f"rule must be given for role {name}: --rule 'read tag=public'", "rule")
    table, kept = schema.roles, [rule.to_json() for rule in rules]
    changed = connection.execute(table.update().where(table.c.name == name).values(rules=kept))
    if not changed.rowcount:
        connection.execute(table.insert().values(name=name, rules=kept))
    return Role(name, tuple(rules))


def remove_role(connection: sa.Connection, name: str) -> None:
    """Remove a role from the store.

    Raises:
      UserError: it is built in or unknown, or a token that is not revoked has it.
    """
    if name in BUILT_IN:
        raise UserError(f"role {name} is built in and stays", "role")
    find_role(connection, name)
    tokens = schema.tokens
    used = sa.select(tokens.c.user).where(tokens.c.role == name, tokens.c.revoked.is_(None))
    if (user := connection.execute(used.order_by(tokens.c.user).limit(1)).scalar()) is not None:
        raise UserError(f"role {name} is that of a token of {user}: revoke it first", "role")
    connection.execute(schema.roles.delete().where(schema.roles.c.name == name))
