"""This route serves ``POST /v1/embeddings`` by a masked language model or ``wordllama``."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from genjax.serve.answering import unless_gone
from genjax.serve.errors import ApiError
from genjax.serve.exchanges import Noted, find_noted
from genjax.serve.models import Model
from genjax.serve.schemas import EmbeddingRequest
from genjax.serve.service import Service

WORDLLAMA = "wordllama"  # served without a run if the package is installed


class Encoder(Protocol):
    """An encoder of the store that also counts tokens."""

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> np.ndarray: ...

    def count_tokens(self, texts: Sequence[str]) -> int: ...


def has_wordllama() -> bool:
    """Return whether texts can be encoded without a run."""
    return importlib.util.find_spec(WORDLLAMA) is not None


def make_router(service: Service) -> APIRouter:
    """Build the route."""
    router = APIRouter()
    words: list[Encoder] = []  # filled when the encoder is loaded

    def open_words() -> Encoder:
        if not words:
            words.append(_open_wordllama())
        return words[0]

    @router.post("/v1/embeddings", tags=["embeddings"])
    async def embed(request: EmbeddingRequest, http: Request) -> Response:
        """Return vectors of length 1 for texts."""
        noted = find_noted(http.scope)
        async with AsyncExitStack() as stack:
            make: Callable[[], Encoder] = open_words
            if request.model != WORDLLAMA or request.model in service.models.places:
                model = await stack.enter_async_context(service.models.use(request.model))
                noted.run = model.run
                model.require("embeddings")
                make = lambda: _make_encoder(model)  # noqa: E731
            elif not has_wordllama():
                service.models.check(request.model)
            service.check_queue(1)
            return await unless_gone(http, _answer(service, request, make, noted))

    return router


async def _answer(
    service: Service, request: EmbeddingRequest, make: Callable[[], Encoder], noted: Noted
) -> Response:
    texts = [request.input] if isinstance(request.input, str) else request.input

    def job() -> tuple[np.ndarray, int]:
        encoder = make()
        if request.dimensions not in (None, encoder.dimension):
            raise ApiError(
                400,
                f"dimensions must be {encoder.dimension}, got {request.dimensions}",
                "dimensions",
                "invalid_value",
            )
        return encoder.encode(texts), encoder.count_tokens(texts)

    vectors, tokens = await asyncio.wrap_future(service.device.submit(job))
    noted.tokens_in = tokens
    data = [
        {"object": "embedding", "index": i, "embedding": _write(vector, request.encoding_format)}
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    content = {"object": "list", "model": request.model, "data": data, "usage": usage}
    return JSONResponse(content)


def _write(vector: np.ndarray, form: str | None) -> Any:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()


def _open_wordllama() -> Encoder:
    from genjax.store.index.encoders import WordLlama

    return WordLlama()


def _make_encoder(model: Model) -> Encoder:
    from genjax.store.index.neural import make_encoder

    if "encoder" not in model.compiled:
        model.compiled["encoder"] = make_encoder(model.run)
    encoder: Encoder = model.compiled["encoder"]
    return encoder
