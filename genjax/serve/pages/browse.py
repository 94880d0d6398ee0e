"""These pages show sessions as trees, a record with its details, and its lineage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from genjax.serve.pages.cards import Card, read_cards, read_page
from genjax.serve.pages.visit import Visit
from genjax.store import schema
from genjax.store.conversation import Turn, read_tree
from genjax.store.filters import Any_, Compare
from genjax.store.lineage import Node, read_lineage
from genjax.store.query import Query
from genjax.store.records import COMMON, Payload, Record, Session, fields_of, references
from genjax.store.rows import name_kind
from genjax.store.store import Store

TURNS = 200  # turns on a page
TURN = 2_000  # characters of a turn
NODES = 200  # nodes of a lineage
WHOLE = 20_000  # characters of a text on its record's page
JUDGED = 100  # feedback and changes on a record's page
DEEP = 6  # steps of indentation


@dataclass(frozen=True)
class Step:
    """A turn on the page: its record, the depth of its branch, and its place among its siblings."""

    card: Card
    depth: int
    branch: int
    branches: int


@dataclass(frozen=True)
class Line:
    """A line of a lineage."""

    node: Node
    depth: int


def show_sessions(visit: Visit) -> Response:
    """Show sessions, newest first."""
    typed = visit.query.one("filter")
    query = Query(typed, "session", "any", "-time")
    listing = read_page(visit.store, query, visit.query.one("after"))
    turns = _count_turns(visit.store, [card.id for card in listing.cards])
    return visit.show("sessions.html", listing=listing, turns=turns, filter=typed)


def _count_turns(store: Store, ids: list[str]) -> dict[str, int]:
    prompts = schema.KINDS["prompt"]
    query = sa.select(prompts.c.session, sa.func.count()).where(prompts.c.session.in_(ids))
    counted = query.group_by(prompts.c.session)
    rows = store.browse(lambda connection: connection.execute(counted).all())
    return {session: count for session, count in rows}


def show_session(visit: Visit) -> Response:
    """Show the conversation of a session as a tree."""
    store = visit.store
    session = store.get(visit.query.one("id"), "any")
    if not isinstance(session, Session):
        return visit.go("/record", id=session.id)
    order = _flatten(read_tree(store, session.id, "any"))
    first = visit.query.whole("from", 0, 0, 10**9)
    part = order[first : first + TURNS]
    with store.reading() as connection:
        cards = {
            c.id: c for c in read_cards(connection, [turn.record.id for turn, *_ in part], 2000)
        }
    steps = [
        Step(cards[turn.record.id], depth, branch, branches)
        for turn, depth, branch, branches in part
        if turn.record.id in cards
    ]
    more = first + TURNS if len(order) > first + TURNS else None
    return visit.show(
        "session.html", session=session, steps=steps, count=len(order), first=first, more=more
    )


def _flatten(tree: tuple[Turn, ...]) -> list[tuple[Turn, int, int, int]]:
    """List turns in reading order: each branch to its end, without recursion."""
    found = []
    left = _number(tree, 0)
    while left:
        turn, depth, branch, branches = left.pop()
        found.append((turn, min(depth, DEEP), branch, branches))
        left += _number(turn.next, depth + (len(turn.next) > 1))
    return found


def _number(turns: tuple[Turn, ...], depth: int) -> list[tuple[Turn, int, int, int]]:
    numbered = [(turn, depth, i + 1, len(turns)) for i, turn in enumerate(turns)]
    return numbered[::-1]


def show_record(visit: Visit) -> Response:
    """Show one record with its payload, metadata, feedback and history."""
    store = visit.store
    record = store.get(visit.query.one("id"), "any")
    one = record.id
    about = Any_((Compare("target", "=", one), Compare("against", "=", one)))
    judged = list(
        store.select(about, kind="feedback", origin="any", order="-time", limit=JUDGED + 1)
    )
    named = {other for _, other, _ in references(record)}
    with store.reading() as connection:
        (card,) = read_cards(connection, [one], WHOLE)
        others = {c.id: c for c in read_cards(connection, sorted(named)[:JUDGED], 80)}
    payload = getattr(record, "payload", None)
    return visit.show(
        "record.html",
        record=record,
        kind=name_kind(record),
        card=card,
        others=others,
        payload=payload if isinstance(payload, Payload) else None,
        fields=_list_fields(record),
        judged=judged[:JUDGED],
        more_judged=len(judged) > JUDGED,
        history=list(reversed(store.history(one)))[:JUDGED],
    )


def _list_fields(record: Record) -> dict[str, Any]:
    """Return the non-empty fields of the record's kind, except those that all records have."""
    names = [name for name in fields_of(record) if name not in COMMON and name != "payload"]
    return {
        name: getattr(record, name) for name in names if getattr(record, name) not in (None, "")
    }


def show_text(visit: Visit) -> Response:
    """Show the whole text of a record as plain text."""
    record = visit.store.get(visit.query.one("id"), "any")
    payload = getattr(record, "payload", None)
    if not isinstance(payload, Payload) or payload.text is None:
        raise HTTPException(404, "This record has no text.")
    answer = PlainTextResponse(payload.text)
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return answer


def show_lineage(visit: Visit) -> Response:
    """Show the sources of a record, and the records made from it."""
    one = visit.query.one("id")
    record = visit.store.get(one, "any")
    up, down = (read_lineage(visit.store, one, way, NODES) for way in (False, True))
    return visit.show(
        "lineage.html",
        record=record,
        kind=name_kind(record),
        most=NODES - 1,
        sides=[
            ("Made from", _list_nodes(up)),
            ("What was made from it, and said about it", _list_nodes(down)),
        ],
    )


def _list_nodes(tree: Node) -> list[Line]:
    """List the lines below the top of a tree, at most ``NODES``."""
    lines: list[Line] = []
    left = [Line(node, 0) for node in reversed(tree.next)]
    while left and len(lines) < NODES:
        line = left.pop()
        lines.append(Line(line.node, min(line.depth, DEEP)))
        left += [Line(node, line.depth + 1) for node in reversed(line.node.next)]
    return lines
