"""A person judges a record by a score, a label or tags; a later judgement replaces an earlier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa
from starlette.responses import Response

from genjax.errors import UserError
from genjax.serve.pages.cards import read_cards
from genjax.serve.pages.login import clean_path
from genjax.serve.pages.visit import Fields, Visit
from genjax.store.changing import change_all
from genjax.store.lookups import find_known, find_visible
from genjax.store.records import Feedback, Record
from genjax.store.store import Store

RATING = "rating"
STARS = 5


def read_judgement(form: Fields) -> Feedback:
    """Read a judgement from a form; the target record is not set.

    Raises:
      UserError: the judgement is empty, or its score is not a number.
    """
    name = form.one("name").strip()
    value, label = form.number("value"), form.one("label").strip()
    if not name:
        raise UserError("name must say what is judged, as helpful, got ''", "name")
    if value is None and not label:
        raise UserError("value must be a number, or label a word: one of them", "value")
    return Feedback(
        origin="real",
        name=name,
        value=value,
        label=label or None,
        rationale=form.text("rationale").strip() or None,
    )


def judge(store: Store, connection: sa.Connection, ids: Sequence[str], said: Feedback) -> int:
    """Judge many records alike; this replaces the person's earlier judgements of that name.

    Raises:
      UserError: a record does not exist; then nothing is written.
    """
    named = {_name(store.user, one, said.name): one for one in ids}
    known = find_known(connection, list(named))
    there = set(find_visible(connection, sorted(known)))
    new = [
        Feedback(
            id=own if own not in known else "",
            origin="real",
            target=one,
            user=store.user,
            name=said.name,
            value=said.value,
            source_kind="HUMAN",
            source_id=store.user,
            label=said.label,
            rationale=said.rationale,
        )
        for own, one in named.items()
        if own not in there
    ]
    store.add_within(connection, new)

    def say(record: Record) -> Record:
        assert isinstance(record, Feedback)
        value, label, why = said.value, said.label, said.rationale
        return replace(record, value=value, label=label, rationale=why, valid=True)

    change_all(store, connection, sorted(there), say)
    return len(named)


def _name(user: str, target: str, name: str) -> str:
    """Derive an id from person, record and name, so that a form sent twice counts once."""
    content = "\n".join(("judgement", user, target, name))
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def judge_one(visit: Visit) -> Response:
    """Judge a record; htmx receives the new scores, other clients are sent back to their page."""
    store = visit.store
    target = store.get(visit.form.one("id"), "any").id
    said = read_judgement(visit.form)
    with store.writing() as connection:
        judge(store, connection, [target], said)
        (card,) = read_cards(connection, [target])
    if visit.is_partial:
        return visit.show("stars.html", card=card, next=visit.form.one("next"), said=said.value)
    answer = visit.go("")
    answer.headers["location"] = visit.to("") + clean_path(visit.form.one("next"))
    return answer


def tag_one(visit: Visit) -> Response:
    """Add or remove a tag of a record."""
    one, tag = visit.form.one("id"), visit.form.one("tag").strip()
    if not tag:
        raise UserError("tag must be a word, got ''", "tag")
    removes = visit.form.choice("action", ("add", "remove"), "add") == "remove"
    visit.store.tag(one, add=() if removes else (tag,), remove=(tag,) if removes else ())
    return visit.go("/record", id=one)
