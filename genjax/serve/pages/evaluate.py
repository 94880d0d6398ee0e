"""Many records are judged or tagged at once: choose, confirm the number, change all or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import Response

from genjax.errors import UserError
from genjax.serve.pages.cards import PAGE, read_cards, read_page
from genjax.serve.pages.judge import judge, read_judgement
from genjax.serve.pages.visit import Fields, Visit
from genjax.store.changing import change_all
from genjax.store.lookups import find_ids, find_visible
from genjax.store.query import ORIGINS, Query
from genjax.store.records import KINDS, Record

MOST = 20_000  # maximum number of records that are changed at once
ACTIONS = ("tag", "untag", "score", "label")
SAMPLE = 5  # examples shown of the records that will be changed


@dataclass(frozen=True)
class Choice:
    """A choice of records.

    Attributes:
      kind: kind of the records; "" for all.
      origin: origin of the records.
      filter: filter that all records pass.
      ids: ticked records; None takes all that pass the filter.
    """

    kind: str
    origin: str
    filter: str
    ids: tuple[str, ...] | None

    @property
    def query(self) -> Query:
        """Return the query that finds the records."""
        return Query(self.filter, self.kind or None, self.origin, "-time")  # type: ignore[arg-type]


def read_choice(fields: Fields) -> Choice:
    """Read the choice of a form or an address.

    Raises:
      UserError: the kind or origin is unknown.
    """
    kind = fields.choice("kind", ("all", *KINDS), "response")
    origin = fields.choice("origin", ORIGINS, "any")
    ticked = fields.choice("scope", ("ticked", "all"), "ticked") == "ticked"
    ids = fields.all("id") if ticked else None
    return Choice("" if kind == "all" else kind, origin, fields.one("filter"), ids)


def show_evaluate(visit: Visit) -> Response:
    """Show records to choose from."""
    query, error, listing, count = visit.query, "", None, 0
    typed = {name: query.one(name) for name in ("filter", "kind", "origin")}
    try:
        choice = read_choice(query)
        typed |= {"kind": choice.kind or "all", "origin": choice.origin}
        listing = read_page(visit.store, choice.query, query.one("after"))
        count = visit.store.count(choice.filter, kind=choice.kind or None, origin=choice.origin)  # type: ignore[arg-type]
    except UserError as refused:
        error = str(refused)
    return visit.show(
        "evaluate.html",
        400 if error else 200,
        typed=typed,
        kinds=("all", *KINDS),
        listing=listing,
        count=count,
        size=PAGE,
        most=MOST,
        done=query.one("done"),
        error=error,
    )


def confirm(visit: Visit) -> Response:
    """Show what would change, and for how many records."""
    choice, action = read_choice(visit.form), _read_action(visit.form)
    with visit.store.reading() as connection:
        ids = _choose(connection, choice)
        cards = read_cards(connection, ids[:SAMPLE], 200)
    kept = {name: visit.form.one(name) for name in ("filter", "tag", "name", "value", "label")}
    return visit.show(
        "confirm.html",
        count=len(ids),
        cards=cards,
        action=action,
        choice=choice,
        kept=kept,
    )


def apply(visit: Visit) -> Response:
    """Apply the confirmed change to the confirmed number of records, in one transaction."""
    choice, action = read_choice(visit.form), _read_action(visit.form)
    expected = visit.form.whole("count", -1, 0, MOST)
    store = visit.store
    with store.writing() as connection:
        ids = _choose(connection, choice)
        if len(ids) != expected:
            now = f"{len(ids):,} records are meant now, {expected:,} were confirmed"
            raise HTTPException(409, f"{now}: nothing was changed, look at them again.")
        if action in ("score", "label"):
            judge(store, connection, ids, read_judgement(visit.form))
        else:
            tag = visit.form.one("tag").strip()
            change_all(store, connection, ids, partial(_change_tag, tag, action == "untag"))
    return visit.go(
        "/evaluate",
        filter=choice.filter,
        kind=choice.kind or "all",
        origin=choice.origin,
        done=len(ids),
    )


def _read_action(form: Fields) -> str:
    action = form.choice("action", ACTIONS, "")
    if action in ("score", "label"):
        said = read_judgement(form)
        if action == "score" and said.value is None:
            raise UserError("value must be a number, got ''", "value")
        if action == "label" and said.label is None:
            raise UserError("label must be a word, got ''", "label")
    elif not form.one("tag").strip():
        raise UserError("tag must be a word, got ''", "tag")
    return action


def _choose(connection: sa.Connection, choice: Choice) -> Sequence[str]:
    if choice.ids is None:
        ids = find_ids(connection, choice.query, MOST + 1)
    else:
        ids = find_visible(connection, choice.ids)
        if missing := set(choice.ids) - set(ids):
            raise UserError(f"id: record {min(missing)!r:.80} does not exist", "id")
    if not ids:
        raise UserError("id must be chosen: tick a record, or take all that the filter finds", "id")
    if len(ids) > MOST:
        raise UserError(f"filter must find at most {MOST:,} records: narrow it", "filter")
    return ids


def _change_tag(tag: str, removes: bool, record: Record) -> Record:
    kept = tuple(one for one in record.tags if one != tag)
    tags = kept if removes else record.tags if tag in record.tags else (*record.tags, tag)
    return replace(record, tags=tags)
