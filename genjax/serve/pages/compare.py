"""Two answers are compared side by side and blind: their order is random, their runs are shown
after the vote, and the vote records which side was which.
"""

from __future__ import annotations

import hashlib
import secrets
import time as clock
from collections.abc import Mapping
from typing import Any

import anyio
import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import Response

from genjax.errors import UserError
from genjax.serve.answering import GONE
from genjax.serve.pages.cards import Card, read_cards
from genjax.serve.pages.chat import close, find_run, make_options, read_options
from genjax.serve.pages.protocols import Chat, Message
from genjax.serve.pages.visit import Visit
from genjax.store import schema
from genjax.store.conversation import read_branch
from genjax.store.formats.reading import PREFERENCE
from genjax.store.limits import check_text
from genjax.store.records import UNKNOWN, Feedback, Payload, Prompt, Record
from genjax.store.records import Response as Answered
from genjax.store.rows import make_ids
from genjax.store.runs import mend
from genjax.store.store import Store

SIDES = ("left", "right")
CHOICES = (*SIDES, "tie")
LONG = 20_000  # characters of an answer on the page


def show_compare(visit: Visit) -> Response:
    """Show the form to ask two runs."""
    chat = visit.context.chat
    models = () if chat is None else tuple(chat.models())
    with visit.store.reading() as connection:
        waiting = find_pair(connection, visit.name) is not None
    return visit.show("compare.html", models=models, waiting=waiting)


def ask_both(visit: Visit) -> Response:
    """Let two runs answer the same prompt, and redirect the reader to their answers."""
    chat, form = visit.context.chat, visit.form
    models = () if chat is None else tuple(chat.models())
    if chat is None or len(models) < 2:
        raise UserError("model must be two runs, but fewer are served here", "model")
    text = form.text("message")
    if not text.strip():
        raise UserError("message must not be empty", "message")
    check_text(text, "message", visit.store.limits.text)
    one = form.choice("one", models, models[0])
    other = form.choice("other", models, next(name for name in models if name != one))
    if one == other:
        raise UserError(f"other must be another run than {one!r:.80}", "other")
    options = read_options(form)
    wanted = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    wanted["seed"] = options.seed
    known = {name: value for name, value in wanted.items() if value is not None}
    drawn = anyio.from_thread.run(_draw_both, visit, chat, (one, other), text, known)
    left, right = _keep(visit.store, text, drawn, known)
    return visit.go("/compare/pair", left=left, right=right)


async def _draw_both(
    visit: Visit, chat: Chat, models: tuple[str, str], text: str, options: Mapping[str, Any]
) -> dict[str, tuple[str, float]]:
    """Return each run's answer, and its duration in milliseconds; stop if the reader leaves."""
    found: dict[str, tuple[str, float]] = {}
    failed: list[UserError] = []

    async def draw(model: str) -> None:
        since = clock.monotonic()
        stream = chat.stream(model, [Message("user", text)], make_options(options))
        try:
            answer = "".join([piece async for piece in stream])
        except UserError as error:
            failed.append(error)
            return
        finally:
            await close(stream)
        found[model] = (mend(answer), round(1000 * (clock.monotonic() - since), 1))

    async def watch(scope: anyio.CancelScope) -> None:
        while (await visit.request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as watching:
        watching.start_soon(watch, watching.cancel_scope)
        async with anyio.create_task_group() as group:
            for model in models:
                group.start_soon(draw, model)
        watching.cancel_scope.cancel()
    if failed:
        raise failed[0]
    if len(found) < len(models):
        raise HTTPException(GONE, "You left before both answers were there.")
    return found


def _keep(
    store: Store, text: str, drawn: Mapping[str, tuple[str, float]], options: dict[str, Any]
) -> tuple[str, str]:
    """Store a prompt and its two answers in random order, and return the answers' ids."""
    asked, left, right = make_ids(3)
    records: list[Record] = [
        Prompt(id=asked, origin="real", role="user", payload=Payload(text=text))
    ]
    order = sorted(drawn)
    if secrets.randbits(1):
        order.reverse()
    for one, model in zip((left, right), order, strict=True):
        answer, milliseconds = drawn[model]
        run = find_run(store, model)
        records.append(
            Answered(
                id=one,
                origin="synthetic",
                generator=run or UNKNOWN,
                prompt=asked,
                run=run,
                payload=Payload(text=answer),
                sampler=dict(options) or None,
                seed=options.get("seed"),
                milliseconds=milliseconds,
                metadata={"model": model},
            )
        )
    store.add(*records)
    return left, right


def show_next(visit: Visit) -> Response:
    """Show a pair of stored answers that the reader has not judged yet, in random order."""
    with visit.store.reading() as connection:
        pair = find_pair(connection, visit.name)
    if pair is None:
        return visit.go("/compare")
    left, right = pair if secrets.randbits(1) else pair[::-1]
    return visit.go("/compare/pair", left=left, right=right)


def find_pair(connection: sa.Connection, user: str) -> tuple[str, str] | None:
    """Find two answers of different runs to one prompt that a person has not judged."""
    one, other = (schema.KINDS["response"].alias() for _ in range(2))
    kept, also = (schema.records.alias() for _ in range(2))
    judged = schema.KINDS["feedback"]
    pair = (one.c.id, other.c.id)
    seen = sa.select(judged.c.id).where(
        judged.c.user == user,
        judged.c.name == PREFERENCE,
        judged.c.target.in_(pair),
        sa.or_(judged.c.against.is_(None), judged.c.against.in_(pair)),
    )
    query = (
        sa.select(*pair)
        .select_from(
            one.join(other, sa.and_(one.c.prompt == other.c.prompt, one.c.run < other.c.run))
            .join(kept, kept.c.id == one.c.id)
            .join(also, also.c.id == other.c.id)
        )
        .where(
            kept.c.deleted.is_(None),
            also.c.deleted.is_(None),
            *(sa.or_(r.c.text.is_not(None), r.c.blob.is_not(None)) for r in (kept, also)),
            sa.not_(seen.correlate(one, other).exists()),
        )
        .limit(1)
    )
    found = connection.execute(query).first()
    return None if found is None else (found[0], found[1])


def show_pair(visit: Visit) -> Response:
    """Show two answers; after the vote, show their runs as well."""
    left, right = visit.query.one("left"), visit.query.one("right")
    prompt = _check_pair(visit.store, left, right)
    branch = read_branch(visit.store, prompt, "any")
    vote = find_vote(visit.store, visit.name, left, right)
    with visit.store.reading() as connection:
        cards = {c.id: c for c in read_cards(connection, [left, right], LONG)}
        asked = read_cards(connection, [turn.id for turn in branch], LONG)
    sides = [
        (side, cards[one], _name_run(visit.store, one, cards[one]))
        for side, one in zip(SIDES, (left, right), strict=True)
    ]
    chosen = (
        None
        if vote is None
        else ("tie" if vote.against is None else "left" if vote.target == left else "right")
    )
    return visit.show(
        "pair.html", sides=sides, asked=asked, chosen=chosen, vote=vote, left=left, right=right
    )


def _name_run(store: Store, one: str, card: Card) -> str:
    if card.name:
        return card.name
    model = store.get(one, "any").metadata.get("model")
    return model if isinstance(model, str) else "an unknown run"


def vote(visit: Visit) -> Response:
    """Record which of two answers is better, once for each person and pair."""
    form, store = visit.form, visit.store
    left, right = form.one("left"), form.one("right")
    choice = form.choice("choice", CHOICES, "")
    prompt = _check_pair(store, left, right)
    best, worst = (right, left) if choice == "right" else (left, right)
    given = form.text("rationale").strip()
    store.add_new(
        [
            Feedback(
                id=_name_vote(visit.name, left, right),
                origin="real",
                target=best,
                against=None if choice == "tie" else worst,
                user=visit.name,
                name=PREFERENCE,
                value=0.0 if choice == "tie" else 1.0,
                label="tie" if choice == "tie" else None,
                source_kind="HUMAN",
                source_id=visit.name,
                rationale=given or None,
                metadata={"left": left, "right": right, "chosen": choice, "prompt": prompt},
            )
        ]
    )
    return visit.go("/compare/pair", left=left, right=right)


def _check_pair(store: Store, left: str, right: str) -> str:
    """Return the prompt that both answers share."""
    one, other = store.get(left, "any"), store.get(right, "any")
    both = isinstance(one, Answered) and isinstance(other, Answered)
    if not both or left == right or one.prompt != other.prompt:  # type: ignore[attr-defined]
        raise HTTPException(400, "left and right must be two answers to the same prompt.")
    return one.prompt  # type: ignore[attr-defined]


def find_vote(store: Store, user: str, left: str, right: str) -> Feedback | None:
    """Return a person's vote on two answers, regardless of their sides."""
    try:
        found = store.get(_name_vote(user, left, right), "any")
    except UserError:
        return None
    return found if isinstance(found, Feedback) else None


def _name_vote(user: str, left: str, right: str) -> str:
    """Derive an id from the person and the pair, so that a vote counts once."""
    content = "\n".join(("vote", user, *sorted((left, right))))
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
