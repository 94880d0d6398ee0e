"""This route serves ``POST /v1/audio/speech`` with runs that generate sounds."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from genjax.checks import Component
from genjax.data.audio.signals import wav_bytes
from genjax.errors import UserError
from genjax.serve.answering import unless_gone
from genjax.serve.errors import refuse
from genjax.serve.exchanges import find_noted
from genjax.serve.samples import draw, read_sampler
from genjax.serve.schemas import SpeechRequest
from genjax.serve.service import Service


def make_router(service: Service) -> APIRouter:
    """Build the route."""
    router = APIRouter()

    @router.post("/v1/audio/speech", tags=["audio"])
    async def speak(request: SpeechRequest, http: Request) -> Response:
        """Return a sound of the run as a WAV file."""
        noted = find_noted(http.scope)
        async with service.models.use(request.model) as model:
            noted.run = model.run
            model.require("audio")
            service.check_queue(1)
            codec: Component = model.run.codec
            sampler = read_sampler(model.run, request.input, "input")
            seed = service.choose_seed(request.seed)

            def job() -> bytes:
                drawn = draw(model, sampler, seed, 1, "input")
                try:
                    (signal,) = codec.synthesise(drawn)
                except UserError as error:  # a package is missing
                    raise refuse(error, "model") from None
                return wav_bytes(signal, codec.rate)

            async def answer() -> Response:
                sound = await asyncio.wrap_future(service.device.submit(job))
                return Response(sound, media_type="audio/wav", headers={"X-Seed": str(seed)})

            return await unless_gone(http, answer())

    return router
