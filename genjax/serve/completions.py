"""This route serves ``POST /v1/completions``."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from genjax.serve.answering import Job, collect, spell, stream, unless_gone
from genjax.serve.errors import ApiError
from genjax.serve.exchanges import Noted, find_noted
from genjax.serve.schemas import MOST_ROWS, CompletionAnswer, CompletionRequest
from genjax.serve.service import Service
from genjax.serve.texts import Piece, Spelled, encode_text, read_options
from genjax.serve.threads import in_thread


def make_router(service: Service) -> APIRouter:
    """Build the route."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=CompletionAnswer, tags=["text"])
    async def complete(request: CompletionRequest, http: Request) -> Response:
        """Continue texts."""
        noted = find_noted(http.scope)
        stack = AsyncExitStack()
        streamed = False
        try:
            job = await read_job(service, request, stack, noted)
            if request.stream:
                offsets = [0] * (len(job.prompts) * job.asked.n)

                def show(piece: Piece, first: bool) -> dict[str, Any]:
                    lead = _echo(job, piece.number) if first else ""
                    offset = offsets[piece.number] + len(lead)
                    offsets[piece.number] = offset + len(piece.text)
                    return _choice(
                        job, piece.number, lead + piece.text, piece.tokens, offset, piece.finish
                    )

                response: Response = await stream(job, stack, "text_completion", show)
                streamed = True
                return response
            return await unless_gone(http, _answer(job))
        finally:
            if not streamed:
                await stack.aclose()

    return router


async def read_job(
    service: Service, request: CompletionRequest, stack: AsyncExitStack, noted: Noted
) -> Job:
    """Convert a request for the engine; ``stack`` keeps its model loaded.

    Raises:
      ApiError: the run does not support the request.
    """
    noted.user = request.user
    given = _list_prompts(request)
    if len(given) * (request.n or 1) > MOST_ROWS:
        raise ApiError(400, f"n times prompts must be at most {MOST_ROWS}", "n", "invalid_value")
    model = await stack.enter_async_context(service.models.use(request.model))
    noted.run = model.run
    model.require("text")
    run = model.run
    seed = service.choose_seed(request.seed)
    asked = read_options(request, run, service.limits, seed, None, request.logprobs)
    limit = run.family.net.context
    prompts = [await in_thread(len(one), encode_text, run, one, limit) for one in given]
    turns = []
    for one, ids in zip(given, prompts, strict=True):
        text = one if isinstance(one, str) else cast(str, run.codec.decode(ids))
        turns.append([("", text)])
    return Job(service, request, model, prompts, turns, asked, noted, f"cmpl-{uuid.uuid4().hex}")


def _list_prompts(request: CompletionRequest) -> list[str | list[int]]:
    prompt: Any = request.prompt
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        return [prompt]
    return list(prompt)


async def _answer(job: Job) -> Response:
    async with job.service.generate(job.model, job.prompts, job.asked) as generation:
        pieces = await collect(job, generation)
        stored, ids = await job.record(generation)
    choices = []
    for i, text in enumerate(generation.texts):
        tokens = [one for piece in pieces[i] for one in piece.tokens]
        lead = _echo(job, i)
        choice = _choice(job, i, lead + text.said, tokens, len(lead), text.finish)
        choices.append({**choice, "record": ids[i] if ids else None})
    content = {
        **job.head("text_completion"),
        "choices": choices,
        "usage": generation.usage,
        "seed": job.asked.options.seed,
        "stored": stored,
    }
    return JSONResponse(content)


def _echo(job: Job, index: int) -> str:
    """Return the prompt text to repeat before a text."""
    request = cast(CompletionRequest, job.request)
    return job.turns[index // job.asked.n][0][1] if request.echo else ""


def _choice(
    job: Job, index: int, text: str, tokens: list[Spelled], offset: int, finish: str | None
) -> dict[str, Any]:
    log_probs = None
    if job.asked.tops is not None:
        model, said = job.model, [spell(job.model, one.token) for one in tokens]
        log_probs = {
            "tokens": said,
            "token_logprobs": [max(one.log_prob, -9999.0) for one in tokens],
            "top_logprobs": [
                {spell(model, token): value for token, value in one.tops[: job.asked.tops]}
                for one in tokens
            ],
            "text_offset": [offset + len("".join(said[:i])) for i in range(len(said))],
        }
    return {"index": index, "text": text, "logprobs": log_probs, "finish_reason": finish}
