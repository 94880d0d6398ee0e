"""Search finds records by words and meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.responses import Response

from genjax.errors import UserError
from genjax.serve.pages.cards import Card, read_cards
from genjax.serve.pages.visit import Visit
from genjax.store.filters import Compare, Filter, Not, parse_filter
from genjax.store.index.index import MODES, POOL, Hit
from genjax.store.query import ORIGINS, SCORE
from genjax.store.query import Query as records_of
from genjax.store.searching import search

SIZE = 10  # hits of a page
DEEPEST = 1_000  # maximum number of hits that can be paged to
READ = 20_000  # characters of a hit that are searched for words
TELLING = 4  # minimum letters of marked words, if any word is that long
AROUND = 120  # characters shown before the first word that was found


@dataclass(frozen=True)
class Shown:
    """A hit on the page: its record, score, and a part of its text as pairs (is a match, piece)."""

    card: Card
    score: float
    pieces: tuple[tuple[bool, str], ...]


@dataclass(frozen=True)
class Results:
    """A page of hits; ``behind`` records are not in the index yet, ``gone`` hits were deleted."""

    hits: tuple[Shown, ...]
    behind: int
    gone: int
    first: int
    next: int | None


def show_search(visit: Visit) -> Response:
    """Show the form and the hits."""
    typed = {name: visit.query.one(name) for name in ("q", "filter")}
    typed |= {name: visit.query.one(name) or first for name, first in DEFAULTS.items()}
    found, error = None, ""
    try:
        if visit.context.index is not None and typed["q"].strip():
            found = _find(visit)
    except UserError as refused:
        error = str(refused)
    status = 400 if error else 200
    return visit.show("search.html", status, typed=typed, found=found, error=error)


DEFAULTS = {"mode": "hybrid", "origin": "real"}


def _find(visit: Visit) -> Results:
    index, query = visit.context.index, visit.query
    assert index is not None
    mode = query.choice("mode", MODES, DEFAULTS["mode"])
    origin = query.choice("origin", ORIGINS, DEFAULTS["origin"])
    deepest = POOL if mode == "hybrid" else DEEPEST
    first = query.whole("from", 0, 0, deepest - SIZE)
    tree = parse_filter(query.one("filter"))
    _refuse_scores(tree)
    records_of(tree, None, "any").refuse_encrypted(visit.store.engine)
    text = query.text("q")
    limit = min(SIZE + 1, deepest - first)
    found = search(
        visit.store,
        index,
        text,
        filter=tree,
        origin=origin,  # type: ignore[arg-type]
        mode=mode,
        limit=limit,
        offset=first,
    )
    hits = found.hits[:SIZE]
    with visit.store.reading() as connection:
        cards = {c.id: c for c in read_cards(connection, [hit.id for hit in hits], READ)}
    shown = tuple(_show(hit, cards[hit.id], text) for hit in hits if hit.id in cards)
    more = first + SIZE if len(found.hits) > SIZE and first + SIZE < deepest else None
    return Results(shown, found.behind, len(hits) - len(shown), first, more)


def _refuse_scores(tree: Filter) -> None:
    left = [tree]
    while left:
        one = left.pop()
        if isinstance(one, Compare):
            if one.field.split(".")[0] == SCORE:
                raise UserError("filter: search has no scores, evaluate has", "filter")
        else:
            left += [one.part] if isinstance(one, Not) else one.parts


def _show(hit: Hit, card: Card, text: str) -> Shown:
    every = sorted(set(re.findall(r"\w+", text)), key=len, reverse=True)[:50]
    words = [word for word in every if len(word) >= TELLING] or every
    known = re.compile("|".join(map(re.escape, words)) or r"(?!)", re.IGNORECASE)
    first = known.search(card.text)
    start = max(0, first.start() - AROUND) if first else 0
    part = card.text[start : start + 3 * AROUND]
    pieces: list[tuple[bool, str]] = [(False, "…")] if start else []
    at = 0
    for match in known.finditer(part):
        pieces += [(False, part[at : match.start()]), (True, match[0])]
        at = match.end()
    more = card.is_cut or start + len(part) < len(card.text)
    pieces.append((False, part[at:] + ("…" if more else "")))
    return Shown(card, hit.score, tuple(piece for piece in pieces if piece[1]))
