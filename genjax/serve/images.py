"""This module serves ``POST /v1/images/generations``, and the pictures that its URLs name."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from genjax.config_files import to_json
from genjax.data.pictures import png_bytes
from genjax.serve.answering import unless_gone
from genjax.serve.errors import ApiError
from genjax.serve.exchanges import Answer, Exchange, Noted, find_noted
from genjax.serve.models import Model
from genjax.serve.samples import draw, read_sampler
from genjax.serve.schemas import ImageRequest
from genjax.serve.service import Service
from genjax.store.records import Payload

KEPT = 256  # pictures kept in memory for their URLs
PNG = "image/png"


def make_router(service: Service) -> APIRouter:
    """Build the routes."""
    router = APIRouter()

    @router.post("/v1/images/generations", tags=["images"])
    async def generate(request: ImageRequest, http: Request) -> Response:
        """Draw pictures, and return PNG as base64 or URLs of this server."""
        noted = find_noted(http.scope)
        noted.user = request.user
        async with service.models.use(request.model) as model:
            noted.run = model.run
            model.require("images")
            _check_size(model, request.size)
            service.check_queue(1)
            return await unless_gone(http, _answer(service, model, request, http, noted))

    @router.get("/v1/files/{name}", tags=["images"])
    async def show(name: str) -> Response:
        """Return a drawn picture."""
        picture = service.pictures.get(name.removesuffix(".png"))
        if picture is None:
            raise ApiError(404, f"file {name[:200]!r} does not exist, or was let go", "name")
        return Response(picture, media_type=PNG)

    return router


def _check_size(model: Model, size: str | None) -> None:
    height, width, _ = model.run.spec.shape
    known = f"{width}x{height}"
    if size not in (None, "auto", known):
        raise ApiError(400, f"size must be {known}, got {size[:40]!r}", "size", "invalid_value")


async def _answer(
    service: Service, model: Model, request: ImageRequest, http: Request, noted: Noted
) -> Response:
    seed = service.choose_seed(request.seed)
    sampler = read_sampler(model.run, request.prompt, "prompt")

    def job() -> list[bytes]:
        samples = draw(model, sampler, seed, request.n or 1, "prompt")
        return [png_bytes(image) for image in model.run.codec.decode(samples)]

    pictures = await asyncio.wrap_future(service.device.submit(job))
    stored, ids = False, list[str]()
    if service.keeps(request.store):
        assert service.recorder is not None
        ids = service.recorder.make_ids(len(pictures))
        options = to_json(sampler)
        kept = noted.measure(service.recorder.make_ids(1)[0], 200, ids[0])
        noted.is_written = True
        stored = await service.record(
            Exchange(
                model.run,
                [("", request.prompt)],
                [
                    Answer(one, Payload(content=picture, media_type=PNG), seed)
                    for one, picture in zip(ids, pictures, strict=True)
                ],
                options if isinstance(options, dict) else {},
                kept.milliseconds or 0.0,
                request.user,
                request.metadata or {},
                principal=noted.principal,
                request=kept,
            )
        )
    data: list[dict[str, Any]] = []
    for i, picture in enumerate(pictures):
        one: dict[str, Any] = {"record": ids[i] if ids else None}
        if request.response_format == "url":
            one["url"] = f"{http.base_url}v1/files/{_keep(service, picture)}.png"
        else:
            one["b64_json"] = base64.b64encode(picture).decode()
        data.append(one)
    content = {"created": int(time.time()), "data": data, "seed": seed, "stored": stored}
    return JSONResponse(content)


def _keep(service: Service, picture: bytes) -> str:
    """Keep a picture for its URL, and return its name."""
    name = hashlib.sha256(picture).hexdigest()
    service.pictures[name] = picture
    while len(service.pictures) > KEPT:
        del service.pictures[next(iter(service.pictures))]
    return name
