"""The pages of a running server chat with its runs and ask a store's documents."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass

from anyio import from_thread
from starlette.routing import BaseRoute

from genjax.errors import UserError
from genjax.rag.answers import Asking
from genjax.rag.asking import ask
from genjax.rag.generators import Asked, Generated, RunGenerator
from genjax.rag.library import Library, Passage, open_library
from genjax.rag.quotes import find_quotes
from genjax.runs.run import Run
from genjax.serve.chat import read_job
from genjax.serve.errors import ApiError
from genjax.serve.exchanges import Noted
from genjax.serve.pages.access import Token, read_tokens
from genjax.serve.pages.context import Pages
from genjax.serve.pages.protocols import Answer, Fault, Message, Options, Source
from genjax.serve.pages.routes import make_pages
from genjax.serve.schemas import ChatRequest
from genjax.serve.schemas import Message as Turn
from genjax.serve.service import ENDING, Service
from genjax.store.access.tokens import has_tokens, hash_token, make_token
from genjax.store.index.follow import count_behind
from genjax.store.index.index import Index
from genjax.store.monitoring.alerts import Checked
from genjax.store.monitoring.watching import keep_watching
from genjax.store.opening import open_store
from genjax.store.runs import note_run
from genjax.store.searching import Outbox, follow
from genjax.store.store import Store

EVERY = 5.0  # seconds between checks for records that the index lacks
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedPages:
    """The pages of a server.

    Attributes:
      routes: routes of the pages.
      token: login token made for this server alone; None if a file has the tokens.
    """

    routes: list[BaseRoute]
    token: str | None


def open_pages(service: Service, place: str, tokens: str | None, stack: ExitStack) -> OpenedPages:
    """Open a store and its index for the pages of a server; ``stack`` closes them.

    Args:
      place: location of the store.
      tokens: file of those who may log in besides the users of the store's own tokens, see
        ``read_tokens``; where there are neither, an admin's token ends with the server.

    Raises:
      UserError: the store, its index or the file cannot be used.
    """
    known = read_tokens(tokens) if tokens else ()
    store = stack.enter_context(open_store(place, create=True))
    stored, typed = has_tokens(store), None
    if not known and not stored:
        typed = make_token()
        known = (Token("admin", "admin", hash_token(typed)),)
    for run_dir in service.models.places.values():
        note_run(store, run_dir)  # links answers on the pages to the run
    library = open_library(store)
    stack.callback(library.close)
    stack.enter_context(keep_following(store, library.index))
    chat = ServedChat(service)
    pages = Pages(
        store,
        known,
        library.index,
        chat,
        ServedAnswers(library, chat),
        stored=stored,
        rates=service.rates,
    )
    return OpenedPages(make_pages(pages), typed)


def watch_alerts(service: Service, place: str, every: float, stack: ExitStack) -> None:
    """Check the alerts of a store in the background, and show them on ``/metrics``.

    Args:
      service: service whose metrics show them.
      place: location of the store.
      every: seconds between checks; 0 for none.
      stack: ends the checks.
    """
    if not every:
        return
    store = stack.enter_context(open_store(place, create=True))

    def count_waiting() -> int:
        return 0 if service.recorder is None else service.recorder.behind

    def report(found: Sequence[Checked] | None) -> None:
        seen = None if found is None else {o.kept.name: (o.lasts, o.value) for o in found}
        service.metrics.show_alerts(seen)

    stack.enter_context(keep_watching(store, every, count_waiting, report))


@contextlib.contextmanager
def keep_following(store: Store, index: Index, every: float = EVERY) -> Iterator[None]:
    """Keep an index up to date with its store in a thread, until the block ends.

    Args:
      every: seconds between checks for changes.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every):
            try:
                if count_behind(index, Outbox(store)):
                    follow(store, index)
            except Exception:  # such as concurrent maintenance: the next check tries again
                log.exception("the index does not follow the store")

    thread = threading.Thread(target=run, name="index", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(ENDING)  # what it is at is repeated at the next start


@dataclass(frozen=True)
class ServedChat:
    """A chat with the runs of a server; the pages record the exchanges, so this class does not.

    Attributes:
      service: service that draws.
    """

    service: Service

    def models(self) -> Sequence[str]:
        """Return the names of the runs, see ``Chat``."""
        return [*self.service.models.places]

    async def stream(
        self, model: str, messages: Sequence[Message], options: Options
    ) -> AsyncIterator[str]:
        """Stream an answer, see ``Chat``."""
        request = ChatRequest(
            model=model,
            messages=[Turn(role=one.role, content=one.content) for one in messages],
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            seed=options.seed,
            store=False,
        )
        try:
            async with AsyncExitStack() as stack:
                job = await read_job(self.service, request, stack, Noted())
                drawn = self.service.generate(job.model, job.prompts, job.asked)
                generation = await stack.enter_async_context(drawn)
                async for piece in generation.pieces():
                    yield piece.text
        except ApiError as error:
            raise UserError(error.message, error.param) from None


@dataclass(frozen=True)
class ServedAnswers:
    """Answers from a store's documents, by their best sentence or written by a run of the server.

    Attributes:
      library: library of documents to search.
      chat: chat that draws if a run is chosen.
    """

    library: Library
    chat: ServedChat

    def answer(self, question: str, model: str | None, options: Options, store: Store) -> Answer:
        """Answer a question, see ``Answers``; call this in a thread of the server's event loop."""
        library = dataclasses.replace(self.library, store=store)
        if model is None:
            found = ask(library, question, None, Asking(keep=False))
        else:
            generator = _Served(self.chat, model, from_thread.run(self._find_run, model), options)
            found = ask(library, question, generator, Asking(keep=False))
        faults = [Fault(f.span.start, f.span.end, f.kind) for f in found.checked.faults]
        sources = [_mark(passage, found.text) for passage in found.passages]
        return Answer(found.text, tuple(sources), tuple(faults), model)

    async def _find_run(self, name: str) -> Run:
        try:
            async with self.chat.service.models.use(name) as model:
                model.require("text")
                return model.run
        except ApiError as error:
            raise UserError(error.message, error.param) from None


@dataclass(frozen=True)
class _Served:
    """A writer that draws with a run of the server, as part of its batch."""

    chat: ServedChat
    name: str
    run: Run
    options: Options

    @property
    def budget(self) -> int:
        return RunGenerator(self.run).budget

    def count(self, prompt: str) -> int:
        return RunGenerator(self.run).count(prompt)

    def generate(self, asked: Asked) -> Generated:
        prompt = RunGenerator(self.run).spell(asked.prompt)
        return Generated(from_thread.run(self._draw, prompt).strip(), None, {})

    async def _draw(self, prompt: str) -> str:
        said = [Message("user", prompt)]
        pieces = [one async for one in self.chat.stream(self.name, said, self.options)]
        return "".join(pieces)


def _mark(passage: Passage, answer: str) -> Source:
    """Return a passage as a source, with the place of the answer's first quote found in it."""
    for quote in find_quotes(answer, [passage.id]):
        start = passage.text.find(quote.text)
        if start >= 0:
            return Source(passage.id, passage.text, start, start + len(quote.text))
    return Source(passage.id, passage.text)
