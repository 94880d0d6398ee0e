"""The actions on tokens, roles and the row security of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import tyro

from genjax import checks
from genjax.cli.store.action import Action
from genjax.cli.store.options import Options
from genjax.errors import UserError

Scope = Literal["read", "write", "generate", "manage"]


@checks.frozen
class TokenOptions(Options):
    """Make a token, which is printed once.

    Attributes:
      role: the role of the user: reader, annotator, trainer, admin, or one of the store.
      scopes: what the token is for, if less than all of the role: read, write, generate, manage.
      days: days until the token expires; it does not by default.
      rate: the most requests a minute; the server's limit by default.
      out: a new file to write the token to, which its owner alone may read; the token is printed
        by default.
    """

    role: str = "reader"
    scopes: tuple[Scope, ...] = ()
    days: float | None = None
    rate: int | None = None
    out: str | None = None


@checks.frozen
class RoleOptions(Options):
    """Add a role, or replace its rules.

    Attributes:
      rule: a rule such as "read,judge kind=prompt,response tag=!private"; may be given several
        times. An action on a record is allowed if one rule allows it.
    """

    rule: tyro.conf.UseAppendAction[tuple[str, ...]] = ()


def _run(name: str, words: Sequence[str], options: Any) -> None:
    from genjax.store.access.entering import open_as

    place, *rest = words
    with open_as(place, token=options.token, user=options.user) as store:
        store.access.require_all()
        {"token": _run_tokens, "role": _run_roles, "secure": _secure}[name.split()[0]](
            name, store, rest, options
        )


def _run_tokens(name: str, store: Any, words: Sequence[str], options: Any) -> None:
    from genjax.store.access.tokens import create_token, list_tokens, revoke_tokens

    match name, options:
        case "token create", TokenOptions():
            written = None if options.out is None else _create_file(options.out)
            try:
                token, kept = create_token(
                    store,
                    words[0],
                    options.role,
                    scopes=options.scopes or None,
                    days=options.days,
                    rate=options.rate,
                )
            except UserError:
                if written is not None:
                    written.unlink()
                raise
            if written is not None:
                written.write_text(token + "\n", encoding="utf-8")
            print(f"token     {token if written is None else written}")
            print(f"id        {kept.id}\nexpires   {_show(kept.expires)}")
            print("note: the token cannot be shown again: the store keeps its hash")
        case "token list", _:
            for one in list_tokens(store):
                ended = f"revoked {_show(one.revoked)}" if one.revoked else _expire(one.expires)
                scopes = f" ({', '.join(one.scopes)})" if one.scopes else ""
                used = f"used {_show(one.used)}"
                print(f"{one.id}  {one.user:<16}  {one.role}{scopes}, {ended}, {used}")
        case _:
            print(f"revoked   {revoke_tokens(store, *words):,}")


def _run_roles(name: str, store: Any, words: Sequence[str], options: Any) -> None:
    from genjax.store.access.role_table import add_role, list_roles, remove_role
    from genjax.store.access.roles import parse_rule
    from genjax.store.access.walls import renew
    from genjax.store.audit.chain import note

    if name == "role list":
        with store.reading() as connection:
            roles = list_roles(connection)
        for role in roles.values():
            print(f"{role.name:<16}  {'; '.join(map(str, role.rules))}")
        return
    with store.writing() as connection:
        if name == "role add":
            rules = [parse_rule(text) for text in options.rule]
            add_role(connection, words[0], rules)
        else:
            remove_role(connection, words[0])
        renew(connection)
        rules_said = list(options.rule) if name == "role add" else []
        note(connection, name, store.user, {"role": words[0], "rules": rules_said})
    print(f"role      {words[0]}{'' if name == 'role add' else ' is removed'}")


def _secure(name: str, store: Any, words: Sequence[str], options: Any) -> None:
    from genjax.store.access.walls import secure

    for role, wall in secure(store).items():
        print(f"{role:<16}  {wall}")
    print(f"store     {store.place} has row security")


def _create_file(name: str) -> Path:
    """Make an empty file that its owner alone may read.

    Raises:
      UserError: it exists, or cannot be made.
    """
    path = Path(name).expanduser()
    try:
        path.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        raise UserError(f"out {path} cannot be made: {error.strerror}", "out") from None
    return path


def _show(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _expire(time: datetime | None) -> str:
    return "does not expire" if time is None else f"expires {_show(time)}"


ACTIONS: Mapping[str, Action] = {
    name: Action(words, what, options, _run)
    for name, words, what, options in (
        ("token create", "STORE USER", "a token of a user, shown once", TokenOptions),
        ("token list", "STORE", "who has tokens, until when, and their last use", Options),
        ("token revoke", "STORE TOKEN...", "end tokens, by their ids or users", Options),
        ("role add", "STORE ROLE", "a role of one's own, by its rules", RoleOptions),
        ("role list", "STORE", "the roles and their rules", Options),
        ("role remove", "STORE ROLE", "remove a role of one's own", Options),
        ("secure", "STORE", "let PostgreSQL itself show each role only its rows", Options),
    )
}
