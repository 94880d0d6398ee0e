"""Tokens of 256 random bits let users in; a store keeps only their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError, unknown_name
from genjax.serial.json_text import Json
from genjax.store import schema
from genjax.store.access.access import Access
from genjax.store.access.principal import SCOPES, Principal
from genjax.store.access.role_table import find_role, list_roles
from genjax.store.access.walls import find_wall
from genjax.store.audit.chain import note
from genjax.store.rows import now, to_time
from genjax.store.store import Store

SHORTEST = 16  # minimum length of a token in characters
LONGEST = 1_000
USER = re.compile(r"\S{1,100}")
OFTEN = 60_000_000  # microseconds between updates of a token's last use
UNKNOWN_TOKEN = "token is unknown, revoked or expired"


@dataclass(frozen=True)
class Kept:
    """A token as a store keeps it.

    Attributes:
      id: short name of the token, by which it is revoked.
      user: name of its user.
      role: name of its role.
      scopes: scopes to which it narrows the role; None for all of the role.
      rate: most requests a minute; None for the limit of the server.
      created: time of its creation.
      expires: end of its validity; None for no end.
      used: time of its last use; None if it was never used.
      revoked: time when it was revoked; None if it is not.
    """

    id: str
    user: str
    role: str
    scopes: tuple[str, ...] | None
    rate: int | None
    created: datetime
    expires: datetime | None
    used: datetime | None
    revoked: datetime | None


def make_token() -> str:
    """Make a token of 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return the SHA-256 of a token.

    Raises:
      UserError: the token is too short to be safe.
    """
    if len(token) < SHORTEST:
        raise UserError(f"token must have at least {SHORTEST} characters", "token")
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def create_token(
    store: Store,
    user: str,
    role: str,
    *,
    scopes: Sequence[str] | None = None,
    days: float | None = None,
    rate: int | None = None,
) -> tuple[str, Kept]:
    """Create a token; return it, which is shown this once, and what the store keeps of it.

    Args:
      store: the store.
      user: name of the user, for the history.
      role: name of a role.
      scopes: names of ``SCOPES`` that narrow the role; None for all of it.
      days: days until it expires; None for no end.
      rate: most requests a minute; None for the limit of the server.

    Raises:
      UserError: a value is invalid, or the role unknown.
    """
    store.access.require_all()
    if not USER.fullmatch(user):
        raise UserError(f"user must have 1 to 100 characters, no blanks, got {user!r:.120}", "user")
    for scope in scopes or ():
        if scope not in SCOPES:
            raise unknown_name("scope", scope, SCOPES)
    if scopes is not None and not scopes:
        raise UserError(f"scopes must be some of {', '.join(SCOPES)}, got none", "scopes")
    if days is not None and not 0 < days <= 36_500:
        raise UserError(f"days must be > 0 and <= 36500, got {days}", "days")
    if rate is not None and not 0 < rate <= 1_000_000:
        raise UserError(f"rate must be >= 1 and <= 1000000, got {rate}", "rate")
    token = make_token()
    digest = hash_token(token)
    with store.writing() as connection:
        find_role(connection, role)
        time = read_clock(connection)
        lifetime = None if days is None else timedelta(days=days) // timedelta(microseconds=1)
        row: dict[str, Any] = {
            "id": secrets.token_hex(6),
            "digest": digest,
            "user": user,
            "role": role,
            "scopes": None if scopes is None else list(dict.fromkeys(scopes)),
            "rate": rate,
            "created": time,
            "expires": None if lifetime is None else time + lifetime,
        }
        connection.execute(schema.tokens.insert().values(row))
        said: dict[str, Json] = {name: row[name] for name in ("id", "user", "role")}
        note(connection, "token create", store.user, said)
    return token, _read(row | {"used": None, "revoked": None})


def list_tokens(store: Store) -> list[Kept]:
    """Return all tokens of a store, oldest first."""
    store.access.require_all()
    table = schema.tokens
    query = sa.select(*(c for c in table.c if c.name != "digest"))
    with store.reading() as connection:
        rows = connection.execute(query.order_by(table.c.created, table.c.id)).mappings()
        return [_read(dict(row)) for row in rows]


def has_tokens(store: Store) -> bool:
    """Return whether a store has a token that is valid now."""
    table = schema.tokens
    with store.reading() as connection:
        valid = sa.or_(table.c.expires.is_(None), table.c.expires > read_clock(connection))
        query = sa.select(table.c.id).where(table.c.revoked.is_(None), valid).limit(1)
        return connection.execute(query).first() is not None


def revoke_tokens(store: Store, *names: str) -> int:
    """Revoke tokens by their ids, or all tokens of users; return how many were revoked.

    Raises:
      UserError: there is no valid token of a name; then none is revoked.
    """
    store.access.require_all()
    table, count = schema.tokens, 0
    with store.writing() as connection:
        for name in names:
            mine = sa.or_(table.c.id == name, table.c.user == name)
            revoke = table.update().where(mine, table.c.revoked.is_(None))
            found = connection.execute(revoke.values(revoked=now())).rowcount
            if not found:
                shown = f" {name!r}" if len(name) < SHORTEST else ""  # it may be a token itself
                raise UserError(f"token{shown} is not the id or user of a valid one", "token")
            count += found
        note(connection, "token revoke", store.user, {"names": list(names)})
    return count


def read_clock(connection: sa.Connection) -> int:
    """Return the time in microseconds, or the latest at which a token was made or used.

    A clock that jumps back makes no expired token valid again.
    """
    table = schema.tokens
    query = sa.select(sa.func.max(table.c.used), sa.func.max(table.c.created))
    return max(now(), *(time or 0 for time in connection.execute(query).one()))


def authenticate(store: Store, token: str) -> Principal:
    """Return the principal of a token, and note when it was used.

    Raises:
      UserError: the token is unknown, expired or revoked; the field is "token".
    """
    typed = token if SHORTEST <= len(token) <= LONGEST else "?" * SHORTEST
    digest = hash_token(typed)
    return _find(store, schema.tokens.c.digest == digest, digest)


def find_principal(store: Store, one: str) -> Principal:
    """Return the principal of a token by its id, as sessions name it; see ``authenticate``.

    Raises:
      UserError: the token is unknown, expired or revoked; the field is "token".
    """
    return _find(store, schema.tokens.c.id == one, None)


def _find(store: Store, which: sa.ColumnElement[bool], digest: str | None) -> Principal:
    table = schema.tokens
    with store.reading() as connection:
        row = connection.execute(sa.select(table).where(which)).mappings().first()
        time = read_clock(connection)
        roles = list_roles(connection)
    same = hmac.compare_digest(digest or "", row["digest"] if row and digest else "")
    if row is None or row["revoked"] is not None or not same or row["role"] not in roles:
        raise UserError(UNKNOWN_TOKEN, "token")
    ended = row["expires"] is not None and row["expires"] <= time
    if ended or (row["used"] or 0) < time - OFTEN:
        _note_use(store, row["id"], time, ended)
    if ended:
        raise UserError(UNKNOWN_TOKEN, "token")
    scopes = None if row["scopes"] is None else tuple(row["scopes"])
    return Principal(row["user"], roles[row["role"]], scopes, row["id"], row["rate"])


def _note_use(store: Store, one: str, time: int, ended: bool) -> None:
    """Keep the last use, and that a token was seen after its end, which then stays its end."""
    table = schema.tokens
    values = {"revoked": time} if ended else {"used": time}
    with contextlib.suppress(UserError), store.writing() as connection:  # it may be read-only
        kept = table.update().where(table.c.id == one, table.c.revoked.is_(None))
        connection.execute(kept.values(values))


def open_for(store: Store, principal: Principal) -> Store:
    """Return a store as a principal sees it; its history names the principal."""
    wall = find_wall(store, principal)
    return store.for_(Access(principal, store.engine.dialect, wall=wall))


def _read(row: dict[str, Any]) -> Kept:
    times: Any = {
        name: None if row[name] is None else to_time(row[name])
        for name in ("created", "expires", "used", "revoked")
    }
    scopes = None if row["scopes"] is None else tuple(row["scopes"])
    found: Any = {name: row[name] for name in ("id", "user", "role", "rate")}
    return Kept(**found, scopes=scopes, **times)
