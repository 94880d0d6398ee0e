"""This route serves ``POST /v1/chat/completions``."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from genjax.serve.answering import Job, collect, spell, stream, unless_gone
from genjax.serve.errors import ApiError
from genjax.serve.exchanges import Noted, find_noted
from genjax.serve.models import Model
from genjax.serve.schemas import ChatAnswer, ChatRequest
from genjax.serve.service import Service
from genjax.serve.texts import Piece, Spelled, encode_chat, read_options
from genjax.serve.threads import in_thread


def make_router(service: Service) -> APIRouter:
    """Build the route."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=ChatAnswer, tags=["text"])
    async def chat(request: ChatRequest, http: Request) -> Response:
        """Answer a conversation with the run's chat template."""
        noted = find_noted(http.scope)
        stack = AsyncExitStack()
        streamed = False
        try:
            job = await read_job(service, request, stack, noted)
            if request.stream:
                show = lambda piece, first: _delta(job, piece, first)  # noqa: E731
                response: Response = await stream(job, stack, "chat.completion.chunk", show)
                streamed = True
                return response
            return await unless_gone(http, _answer(job))
        finally:
            if not streamed:
                await stack.aclose()

    return router


async def read_job(
    service: Service, request: ChatRequest, stack: AsyncExitStack, noted: Noted
) -> Job:
    """Convert a request for the engine; ``stack`` keeps its model loaded.

    Raises:
      ApiError: the run does not support the request.
    """
    noted.user = request.user
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs", "top_logprobs", "invalid_value")
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        cure = "give one of max_tokens and max_completion_tokens"
        raise ApiError(400, cure, "max_tokens", "invalid_value")
    model = await stack.enter_async_context(service.models.use(request.model))
    noted.run = model.run
    model.require("text")
    tops = (request.top_logprobs or 0) if request.logprobs else None
    asked = read_options(
        request,
        model.run,
        service.limits,
        service.choose_seed(request.seed),
        request.max_completion_tokens,
        tops,
    )
    turns = [(message.role, message.text) for message in request.messages]
    size = sum(len(text) for _, text in turns)
    prompt = await in_thread(size, encode_chat, model.run, turns)
    name = f"chatcmpl-{uuid.uuid4().hex}"
    return Job(service, request, model, [prompt], [turns], asked, noted, name)


async def _answer(job: Job) -> Response:
    async with job.service.generate(job.model, job.prompts, job.asked) as generation:
        pieces = await collect(job, generation)
        stored, ids = await job.record(generation)
    choices = []
    for i, text in enumerate(generation.texts):
        tokens = [one for piece in pieces[i] for one in piece.tokens]
        choices.append(
            {
                "index": i,
                "message": {"role": "assistant", "content": text.said, "refusal": None},
                "logprobs": _log_probs(job, tokens),
                "finish_reason": text.finish,
                "record": ids[i] if ids else None,
            }
        )
    content = {
        **job.head("chat.completion"),
        "choices": choices,
        "usage": generation.usage,
        "seed": job.asked.options.seed,
        "stored": stored,
    }
    return JSONResponse(content)


def _delta(job: Job, piece: Piece, first: bool) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant"} if first else {}
    if piece.text or first:
        delta["content"] = piece.text
    return {
        "index": piece.number,
        "delta": delta,
        "logprobs": _log_probs(job, piece.tokens),
        "finish_reason": piece.finish,
    }


def _log_probs(job: Job, tokens: list[Spelled]) -> dict[str, Any] | None:
    if job.asked.tops is None:
        return None
    found = []
    for one in tokens:
        tops = [_spelled(job.model, *top) for top in one.tops[: job.asked.tops]]
        found.append({**_spelled(job.model, one.token, one.log_prob), "top_logprobs": tops})
    return {"content": found, "refusal": None}


def _spelled(model: Model, token: int, log_prob: float) -> dict[str, Any]:
    text = spell(model, token)
    raw = list(text.encode("utf-8", "replace"))
    return {"token": text, "logprob": max(log_prob, -9999.0), "bytes": raw}
