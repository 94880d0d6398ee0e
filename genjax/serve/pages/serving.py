"""The pages over a running server: its runs chat, and a store's documents are asked."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
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
from genjax.serve.pages.access import Token, hash_token, make_token, read_tokens
from genjax.serve.pages.context import Pages
from genjax.serve.pages.protocols import Answer, Fault, Message, Options, Source
from genjax.serve.pages.routes import make_pages
from genjax.serve.schemas import ChatRequest
from genjax.serve.schemas import Message as Turn
from genjax.serve.service import Service
from genjax.store.index.follow import count_behind
from genjax.store.index.index import Index
from genjax.store.opening import open_store
from genjax.store.runs import note_run
from genjax.store.searching import Outbox, follow
from genjax.store.store import Store

EVERY = 5.0  # seconds between two looks for what the index lacks
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedPages:
    """The pages of a server.

    Attributes:
      routes: of them.
      token: that logs in, where it was made for this server alone; None where a file has them.
    """

    routes: list[BaseRoute]
    token: str | None


def open_pages(service: Service, place: str, tokens: str | None, stack: ExitStack) -> OpenedPages:
    """Open a store and its index for the pages of a server; ``stack`` closes them.

    Args:
      place: of the store.
      tokens: a file of who may log in, see ``read_tokens``; None makes a token of an admin that
        ends with the server.

    Raises:
      UserError: the store, its index or the file cannot be used.
    """
    typed = make_token() if tokens is None else None
    known = read_tokens(tokens) if tokens else (Token("admin", "admin", hash_token(typed or "")),)
    store = stack.enter_context(open_store(place, create=True))
    for run_dir in service.models.places.values():
        note_run(store, run_dir)  # so that what a run answers on a page leads to it
    library = open_library(store)
    stack.callback(library.close)
    stack.enter_context(keep_following(store, library.index))
    chat = ServedChat(service)
    pages = Pages(store, known, library.index, chat, ServedAnswers(library, chat))
    return OpenedPages(make_pages(pages), typed)


@contextlib.contextmanager
def keep_following(store: Store, index: Index, every: float = EVERY) -> Iterator[None]:
    """Let an index follow its store in a thread, until the block ends.

    Args:
      every: seconds between two looks for changes.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every):
            try:
                if count_behind(index, Outbox(store)):
                    follow(store, index)
            except Exception:  # such as a maintenance at the same time: the next look tries again
                log.exception("the index does not follow the store")

    thread = threading.Thread(target=run, name="index", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True)
class ServedChat:
    """Chats by the runs of a server; nothing is recorded here, since the pages do.

    Attributes:
      service: that draws.
    """

    service: Service

    def models(self) -> Sequence[str]:
        """See ``Chat``."""
        return [*self.service.models.places]

    async def stream(
        self, model: str, messages: Sequence[Message], options: Options
    ) -> AsyncIterator[str]:
        """See ``Chat``."""
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
                job = await read_job(self.service, request, stack, time.monotonic())
                drawn = self.service.generate(job.model, job.prompts, job.asked)
                generation = await stack.enter_async_context(drawn)
                async for piece in generation.pieces():
                    yield piece.text
        except ApiError as error:
            raise UserError(error.message, error.param) from None


@dataclass(frozen=True)
class ServedAnswers:
    """Answers from the documents of a store: by their best sentence, or by a run of the server.

    Attributes:
      library: that is asked.
      chat: draws where a run is chosen.
    """

    library: Library
    chat: ServedChat

    def answer(self, question: str, model: str | None, options: Options) -> Answer:
        """See ``Answers``; it is called in a thread of the server's event loop."""
        if model is None:
            found = ask(self.library, question, None, Asking(keep=False))
        else:
            generator = _Served(self.chat, model, from_thread.run(self._find_run, model), options)
            found = ask(self.library, question, generator, Asking(keep=False))
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
    """Writes by a run of the server, in a place of its batch."""

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
    """A passage, and the place of the first quote of the answer that stands in it."""
    for quote in find_quotes(answer, [passage.id]):
        start = passage.text.find(quote.text)
        if start >= 0:
            return Source(passage.id, passage.text, start, start + len(quote.text))
    return Source(passage.id, passage.text)
