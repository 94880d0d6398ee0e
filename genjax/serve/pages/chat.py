"""Chat pages talk with a run or with documents. The page of an answer is sent while the answer is
drawn, so that it streams without scripts; a reader who leaves stops the answer.
"""

from __future__ import annotations

import hashlib
import html
import logging
import secrets
import time as clock
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import AsyncGeneratorType
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from genjax import checks
from genjax.errors import UserError
from genjax.serve.pages.cards import Card, read_cards, read_page
from genjax.serve.pages.protocols import Answer, Message, Options
from genjax.serve.pages.visit import Fields, Visit
from genjax.store.conversation import Said, read_branch
from genjax.store.filters import Compare
from genjax.store.limits import check_text
from genjax.store.query import Query
from genjax.store.records import UNKNOWN, Payload, Prompt, Record, Run, Session
from genjax.store.records import Response as Answered
from genjax.store.rows import make_ids
from genjax.store.runs import mend
from genjax.store.store import Store

ASKED = "asked"  # key of the options of the requested answer, in a prompt's metadata
TITLE = 80  # maximum characters of a session's name
RECENT = 8  # number of sessions beside a new chat
LONG = 20_000  # characters of a turn on the page
DOCUMENTS = "documents"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drawn:
    """A drawn answer: its text, its duration, and the reason if it stopped early."""

    text: str
    milliseconds: float
    stopped: str | None = None


def show_chat(visit: Visit) -> Response:
    """Show a new chat, or one that continues from a turn."""
    last = visit.query.one("id")
    branch = read_branch(visit.store, last, "any") if last else ()
    recent = read_page(visit.store, Query("", "session", "any", "-time"), None, RECENT)
    return _show(visit, branch, recent=recent.cards if not branch else ())


def ask(visit: Visit) -> Response:
    """Store a message, and redirect to the page that draws its answer."""
    form, store = visit.form, visit.store
    text, last = form.text("message"), form.one("after")
    if not text.strip():
        raise UserError("message must not be empty", "message")
    check_text(text, "message", store.limits.text)
    wanted = read_wanted(visit)
    session, before = _find_session(store, last)
    made, one = make_ids(2)
    records: list[Record] = []
    if session is None:
        name = " ".join(text.split())[:TITLE]
        session = made
        records.append(Session(id=made, origin="real", name=name, user=visit.name))
    said = Payload(text=text)
    records.append(
        Prompt(
            id=one,
            origin="real",
            session=session,
            parent=before,
            role="user",
            payload=said,
            metadata={ASKED: wanted},
        )
    )
    store.add(*records)
    return visit.go("/chat/answer", id=one)


def _find_session(store: Store, last: str) -> tuple[str | None, str | None]:
    """Return the session of the turn that the message follows, and the turn."""
    if not last:
        return None, None
    branch = read_branch(store, last, "any")
    sessions = [turn.session for turn in branch if isinstance(turn, Prompt) and turn.session]
    return (sessions[-1] if sessions else None), last


def read_wanted(visit: Visit) -> dict[str, Any]:
    """Read the run and the options of an answer from a form.

    Raises:
      UserError: the run does not exist, or an option is invalid.
    """
    form, context = visit.form, visit.context
    models = () if context.chat is None else tuple(context.chat.models())
    wanted: dict[str, Any] = {}
    if form.one("from") == DOCUMENTS:
        if context.answers is None:
            raise UserError("from must be run: nothing answers from documents here", "from")
        wanted[DOCUMENTS] = True
        if form.one("model") in models:
            wanted["model"] = form.one("model")
    else:
        if not models:
            raise UserError("model must be a run, but none is served here", "model")
        wanted["model"] = form.choice("model", models, models[0])
    options = read_options(form)
    chosen = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    chosen["seed"] = options.seed
    return wanted | {name: value for name, value in chosen.items() if value is not None}


def read_options(form: Fields) -> Options:
    """Read the options of a form; empty ones are left to the server."""
    values: dict[str, Any] = {}
    for name in ("temperature", "max_tokens", "seed"):
        value = form.number(name)
        if value is not None:
            kind = float if name == "temperature" else int
            values[name] = checks.convert(value, kind, name)
    return Options(**values)


def show_answer(visit: Visit) -> Response:
    """Show the answer to a prompt; draw it if it does not exist."""
    prompt = visit.store.get(visit.query.one("id"), "any")
    if not isinstance(prompt, Prompt) or read_asked(prompt) is None:
        raise HTTPException(404, "This prompt awaits no answer.")
    with visit.store.reading() as connection:
        there = read_cards(connection, [name_answer(prompt)])
    if there:
        return visit.go("/chat", id=there[0].id)
    if not visit.may("generate"):
        role = visit.principal.role.name if visit.principal else ""
        raise HTTPException(403, f"This prompt has no answer, and your role {role} draws none.")
    return Streamed(_stream(visit, prompt), media_type="text/html; charset=utf-8")


class Streamed(StreamingResponse):
    """A response that ends its stream when its reader leaves."""

    async def stream_response(self, send: Send) -> None:
        """Send all pieces."""
        try:
            await super().stream_response(send)
        finally:
            with anyio.CancelScope(shield=True):
                await close(self.body_iterator)


def read_asked(turn: Said) -> dict[str, Any] | None:
    """Return the run and the options for answering a prompt, if a page stored them."""
    asked = turn.metadata.get(ASKED)
    return dict(asked) if isinstance(turn, Prompt) and isinstance(asked, Mapping) else None


async def _stream(visit: Visit, prompt: Prompt) -> AsyncIterator[str]:
    """Yield the page up to the answer, the answer as it is drawn, and the rest of the page."""
    mark = secrets.token_hex(16)
    branch = await run_in_threadpool(read_branch, visit.store, prompt.id, "any")
    page = await run_in_threadpool(_render, visit, branch, mark)
    yield page.partition(mark)[0]
    wanted = read_asked(prompt) or {}
    error, late = "", ""
    record: Answered | None = None
    try:
        if wanted.get(DOCUMENTS):
            record = await run_in_threadpool(_answer_from_documents, visit, prompt, wanted)
            late = record.payload.text or ""
        else:
            pieces: list[str] = []
            since = clock.monotonic()
            stopped: str | None = "the reader left"
            try:
                async for piece in _draw(visit, branch, wanted):
                    pieces.append(piece)
                    yield html.escape(piece)
                stopped = None
            except Exception:
                stopped = "it failed"
                raise
            finally:
                drawn = Drawn("".join(pieces), 1000 * (clock.monotonic() - since), stopped)
                with anyio.CancelScope(shield=True):
                    record = await run_in_threadpool(keep, visit, prompt, wanted, drawn)
    except UserError as refused:
        error = str(refused)
    except Exception:
        log.exception("an answer failed")
        error = "The answer failed; the log of the server says why."
    ended = (*branch, record) if record is not None else branch
    page = await run_in_threadpool(_render, visit, ended, mark, error, late)
    yield page.partition(mark)[2]


async def _draw(
    visit: Visit, branch: Sequence[Said], wanted: Mapping[str, Any]
) -> AsyncIterator[str]:
    chat = visit.context.chat
    if chat is None or wanted.get("model") not in chat.models():
        raise UserError(f"model {wanted.get('model')!r:.80} is not served now", "model")
    stream = chat.stream(wanted["model"], make_messages(branch), make_options(wanted))
    try:
        async for piece in stream:
            if piece:
                yield mend(piece)
    finally:
        with anyio.CancelScope(shield=True):
            await close(stream)


async def close(stream: AsyncIterable[object]) -> None:
    """Close a stream, even if it has not ended."""
    if isinstance(stream, AsyncGeneratorType):
        await stream.aclose()


def make_options(wanted: Mapping[str, Any]) -> Options:
    """Return the options that were stored with a prompt."""
    known = {name: wanted[name] for name in ("temperature", "max_tokens", "seed") if name in wanted}
    return Options(**known)


def make_messages(branch: Sequence[Said]) -> list[Message]:
    """Convert a branch to messages."""
    return [
        Message(
            turn.role or "user" if isinstance(turn, Prompt) else "assistant",
            turn.payload.text or "",
        )
        for turn in branch
    ]


def keep(visit: Visit, prompt: Prompt, wanted: Mapping[str, Any], drawn: Drawn) -> Answered | None:
    """Store an answer of a run; an answer that stopped before its first piece is not stored."""
    if drawn.stopped is not None and not drawn.text:
        return None
    metadata = {"model": wanted["model"]} | ({"stopped": drawn.stopped} if drawn.stopped else {})
    run = find_run(visit.store, wanted["model"])
    options = {k: v for k, v in wanted.items() if k not in ("model", DOCUMENTS)}
    record = Answered(
        id=name_answer(prompt),
        origin="synthetic",
        generator=run or UNKNOWN,
        prompt=prompt.id,
        run=run,
        payload=Payload(text=drawn.text),
        sampler=options or None,
        seed=options.get("seed"),
        milliseconds=round(drawn.milliseconds, 1),
        metadata=metadata,
    )
    visit.store.add_new([record])
    return record


def _answer_from_documents(visit: Visit, prompt: Prompt, wanted: Mapping[str, Any]) -> Answered:
    answers = visit.context.answers
    if answers is None:
        raise UserError("from must be run: nothing answers from documents here", "from")
    since = clock.monotonic()
    model = wanted.get("model")
    said = answers.answer(prompt.payload.text or "", model, make_options(wanted), visit.store)
    milliseconds = 1000 * (clock.monotonic() - since)
    run = None if said.model is None else find_run(visit.store, said.model)
    with visit.store.reading() as connection:
        there = {c.id for c in read_cards(connection, [source.id for source in said.sources], 1)}
    record = Answered(
        id=name_answer(prompt),
        origin="synthetic",
        generator=run or UNKNOWN,
        prompt=prompt.id,
        run=run,
        parents=tuple(dict.fromkeys(s.id for s in said.sources if s.id in there)),
        payload=Payload(text=mend(said.text)),
        milliseconds=round(milliseconds, 1),
        metadata=_describe(said),
    )
    visit.store.add_new([record])
    return record


def _describe(said: Answer) -> dict[str, Any]:
    """Return the sources and faults of an answer, as its record stores them."""
    return {
        "model": said.model,
        "sources": [
            {"id": s.id, "text": mend(s.text), "start": s.start, "end": s.end} for s in said.sources
        ],
        "faults": [{"start": f.start, "end": f.end, "why": mend(f.why)} for f in said.faults],
    }


def find_run(store: Store, name: str) -> str | None:
    """Return the id of the newest record of a run with this name."""
    same = Compare("name", "=", name)
    found = store.select(same, kind="run", origin="any", order="-time", limit=1)
    return next((run.id for run in found if isinstance(run, Run)), None)


def name_answer(prompt: Prompt) -> str:
    """Return the id of the answer to a prompt; an answer that is drawn twice is stored once."""
    digest = hashlib.sha256(f"answer\n{prompt.id}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def _show(visit: Visit, branch: Sequence[Said], **values: Any) -> Response:
    return visit.show("chat.html", **_describe_chat(visit, branch), **values)


def _render(
    visit: Visit, branch: Sequence[Said], mark: str, error: str = "", late: str = ""
) -> str:
    values = _describe_chat(visit, branch)
    values |= {"mark": mark, "error": error, "late": "" if values["pieces"] else late}
    return visit.render("chat.html", **values, recent=())


def _describe_chat(visit: Visit, branch: Sequence[Said]) -> dict[str, Any]:
    """Return the page's values for a branch; ``mark`` is the place of the next answer."""
    context = visit.context
    models = () if context.chat is None else tuple(context.chat.models())
    with visit.store.reading() as connection:
        found = read_cards(connection, [turn.id for turn in branch], LONG)
    cards: dict[str, Card] = {card.id: card for card in found}
    last = branch[-1] if branch else None
    asked = [wanted for turn in branch if (wanted := read_asked(turn)) is not None]
    sessions = [t.session for t in branch if isinstance(t, Prompt) and t.session]
    return {
        "turns": [(turn, cards[turn.id]) for turn in branch if turn.id in cards],
        "last": last,
        "sources": _read_sources(last),
        "pieces": _mark_faults(last),
        "models": models,
        "wanted": asked[-1] if asked else {},
        "session": sessions[-1] if sessions else None,
        "documents": context.answers is not None,
        "mark": "",
        "error": "",
        "late": "",
    }


def _read_sources(last: Said | None) -> list[dict[str, Any]]:
    """Return the sources of the last answer, each text split around the cited part."""
    kept = last.metadata.get("sources") if last is not None else None
    found = []
    for one in kept if isinstance(kept, list) else ():
        if not isinstance(one, dict) or not isinstance(one.get("text"), str):
            continue
        text = one["text"]
        start, end = _span(one, len(text))
        found.append(
            {
                "id": str(one.get("id", "")),
                "before": text[max(0, start - 300) : start],
                "cited": text[start:end],
                "after": text[end : end + 300],
            }
        )
    return found


def _mark_faults(last: Said | None) -> list[tuple[str, str]]:
    """Split the last answer into pieces with their faults; "" marks a piece without fault."""
    kept = last.metadata.get("faults") if last is not None else None
    text = (last.payload.text or "") if last is not None else ""
    pieces, at = [], 0
    faults = [one for one in kept if isinstance(one, dict)] if isinstance(kept, list) else []
    for one in sorted(faults, key=lambda one: _span(one, len(text))):
        start, end = _span(one, len(text))
        start = max(start, at)
        if end > start:
            pieces += [(text[at:start], ""), (text[start:end], str(one.get("why", "")))]
            at = end
    return [*pieces, (text[at:], "")] if pieces else []


def _span(one: Mapping[str, Any], length: int) -> tuple[int, int]:
    start, end = one.get("start"), one.get("end")
    if not isinstance(start, int) or not isinstance(end, int):
        return 0, 0
    start = min(max(start, 0), length)
    return start, min(max(end, start), length)
