"""Text routes answer here: in one piece, or streamed as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from genjax.checks import Component
from genjax.serve.errors import ApiError
from genjax.serve.exchanges import Noted
from genjax.serve.models import Model
from genjax.serve.schemas import TextRequest
from genjax.serve.service import Service
from genjax.serve.texts import Asked, Generation, Piece

GONE = 499  # status when the client left before its answer


@dataclass(frozen=True)
class Job:
    """A request for texts, after parsing.

    Attributes:
      service: service that answers.
      request: request as received.
      model: model that draws.
      prompts: tokens of each prompt.
      turns: conversation turns of each prompt, for the store.
      asked: options of the draw.
      noted: what is noted of the request.
      id: id of the answer.
    """

    service: Service
    request: TextRequest
    model: Model
    prompts: Sequence[np.ndarray]
    turns: Sequence[Sequence[tuple[str, str]]]
    asked: Asked
    noted: Noted
    id: str

    @property
    def keeps(self) -> bool:
        return self.service.keeps(self.request.store)

    async def record(self, generation: Generation) -> tuple[bool, list[str]]:
        """Store the exchange if the request wants that."""
        self.count(generation)
        if not self.keeps:
            return False, []
        request = self.request
        return await self.service.record_texts(
            self.model,
            generation,
            self.asked,
            self.turns,
            self.noted,
            request.user,
            request.metadata,
        )

    def count(self, generation: Generation) -> None:
        """Note the tokens that were read and drawn so far."""
        usage = generation.usage
        self.noted.tokens_in = usage["prompt_tokens"]
        self.noted.tokens_out = usage["completion_tokens"]

    def head(self, kind: str) -> dict[str, Any]:
        """Return the fields that start each answer and each event of a stream."""
        return {
            "id": self.id,
            "object": kind,
            "created": int(time.time()),
            "model": self.model.name,
        }


class Events(StreamingResponse):
    """A stream of events that always releases its resources, even if it ends before its first
    event.
    """

    def __init__(self, events: AsyncIterator[bytes], stack: AsyncExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stack.aclose()


async def collect(job: Job, generation: Generation) -> list[list[Piece]]:
    """Return the pieces of all texts."""
    found: list[list[Piece]] = [[] for _ in generation.texts]
    first = True
    async for piece in generation.pieces():
        if first:
            job.service.metrics.first.observe(job.noted.note_first())
            first = False
        found[piece.number].append(piece)
    return found


async def stream(
    job: Job,
    stack: AsyncExitStack,
    kind: str,
    show: Callable[[Piece, bool], dict[str, Any]],
) -> Events:
    """Stream texts as events while they are drawn; ``stack`` is closed after the last event.

    Args:
      kind: type of the events' object.
      show: function that turns a piece into a choice; its flag marks the first piece of a text.

    Raises:
      ApiError: the request is refused before the first event.
    """
    generation = await stack.enter_async_context(
        job.service.generate(job.model, job.prompts, job.asked)
    )
    options = job.request.stream_options
    usage = options is not None and options.include_usage

    async def events() -> AsyncIterator[bytes]:
        head = job.head(kind)
        seen: set[int] = set()
        job.noted.status = GONE  # if the client leaves before the end
        try:
            async for piece in generation.pieces():
                if not seen:
                    job.service.metrics.first.observe(job.noted.note_first())
                choice = show(piece, piece.number not in seen)
                seen.add(piece.number)
                yield _event({**head, "choices": [choice], **({"usage": None} if usage else {})})
            stored, ids = await job.record(generation)
        except ApiError as error:
            job.noted.status = error.status
            yield _event(error.to_json())
            return
        finally:
            job.count(generation)
        job.noted.status = None
        last = {**head, "choices": [], "stored": stored, "records": ids}
        last |= {"seed": job.asked.options.seed}
        if usage or job.keeps:
            yield _event({**last, "usage": generation.usage if usage else None})
        yield b"data: [DONE]\n\n"

    return Events(events(), stack)


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


async def unless_gone(http: HttpRequest, work: Any) -> Response:
    """Return the result of ``work``, or cancel it if the client leaves."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_wait_gone(http))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return Response(status_code=GONE)
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _wait_gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def spell(model: Model, token: int) -> str:
    """Return the text of a single token."""
    codec: Component = model.run.codec
    text: str = codec.decode(np.array([token], np.int32))
    return text
