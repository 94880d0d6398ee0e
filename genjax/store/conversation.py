"""Read conversations as trees of prompts and responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.records import Prompt, Response, Wanted
from genjax.store.rows import load, split
from genjax.store.store import Store

Said = Prompt | Response


@dataclass(frozen=True)
class Turn:
    """A prompt or response, and the turns that follow it, oldest first."""

    record: Said
    next: tuple[Turn, ...]


def read_tree(store: Store, session: str, origin: Wanted = "real") -> tuple[Turn, ...]:
    """Return the conversation of a session: its first prompts, each with what follows."""
    with store.reading() as connection:
        ids = _find_turns(connection, session)
        records = {
            record.id: record
            for record in load(connection, ids)
            if isinstance(record, Said) and origin in ("any", record.origin)
        }
    below: dict[str | None, list[str]] = {}
    for one, record in records.items():
        before = find_before(record)
        # A turn that follows a hidden one, or one of another session, begins its own tree.
        below.setdefault(before if before in records else None, []).append(one)
    built: dict[str, Turn] = {}
    for one in reversed(_order(below)):
        built[one] = Turn(records[one], tuple(built[other] for other in below.get(one, ())))
    return tuple(built[one] for one in below.get(None, ()))


def _order(below: Mapping[str | None, list[str]]) -> list[str]:
    """Return all turns, each before the turns that follow it."""
    found = list(below.get(None, ()))
    for one in found:  # the list grows in the loop
        found += below.get(one, ())
    return found


def _find_turns(connection: sa.Connection, session: str) -> list[str]:
    prompts, responses, records = schema.KINDS["prompt"], schema.KINDS["response"], schema.records
    asked = sa.select(prompts.c.id).where(prompts.c.session == session)
    answered = sa.select(responses.c.id).where(responses.c.prompt.in_(asked))
    query = sa.select(records.c.id).where(
        sa.or_(records.c.id.in_(asked), records.c.id.in_(answered)), records.c.deleted.is_(None)
    )
    return list(connection.execute(query.order_by(records.c.time, records.c.id)).scalars())


def find_before(record: Said) -> str | None:
    """Return the id of the record that a prompt or response follows."""
    return record.prompt if isinstance(record, Response) else record.parent


def read_branch(store: Store, last: str, origin: Wanted = "real") -> tuple[Said, ...]:
    """Return the turns up to and including a prompt or response, oldest first.

    Raises:
      UserError: the record is neither, or a turn has another origin than requested.
    """
    with store.reading() as connection:
        branch = read_branches(connection, [last]).get(last)
    if branch is None:
        raise UserError(f"id: {last!r:.80} is neither a prompt nor a response", "id")
    for record in branch:
        if origin not in ("any", record.origin):
            raise UserError(
                f"origin: record {record.id} is {record.origin}: ask for it by origin", "origin"
            )
    return branch


def read_branches(connection: sa.Connection, ids: Iterable[str]) -> dict[str, tuple[Said, ...]]:
    """Return the branches that end with each of these prompts and responses."""
    known: dict[str, Said] = {}
    wanted = list(ids)
    level = set(wanted)
    while level:
        for part in split(sorted(level)):
            known |= {r.id: r for r in load(connection, part) if isinstance(r, Said)}
        before = {find_before(known[one]) for one in level if one in known}
        level = {one for one in before if one is not None and one not in known}
    found = {}
    for last in wanted:
        branch: list[Said] = []
        at: str | None = last
        while at is not None and at in known:
            branch.append(known[at])
            at = find_before(known[at])
        if branch:
            found[last] = tuple(reversed(branch))
    return found
