"""The application combines the routes, and returns errors in OpenAI's format."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from genjax.errors import UserError
from genjax.serve import chat, completions, embeddings, images, speech
from genjax.serve.errors import ApiError, refuse
from genjax.serve.guards import Guard
from genjax.serve.schemas import ErrorBody
from genjax.serve.service import Service
from genjax.serve.threads import apart

SHOWN = 200  # characters of a wrong value in an error
LOOK = 0.2  # seconds between looks at whether everything is closed
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 403, 404, 413, 429, 500, 503)
}


def make_app(service: Service, pages: Sequence[BaseRoute] = ()) -> FastAPI:
    """Build the application of a service.

    Args:
      service: service that answers; closed when the application ends.
      pages: routes in addition to the API, such as those of HTML pages.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        closing = asyncio.ensure_future(apart(service.close))
        while not closing.done():  # looks again by itself: the thread's call to wake up may be lost
            await asyncio.wait({closing}, timeout=LOOK)
        closing.result()

    app = FastAPI(title="genjax", lifespan=lifespan, responses=REFUSALS)
    app.add_middleware(Guard, service=service)
    for part in (chat, completions, embeddings, images, speech):
        app.include_router(part.make_router(service))
    _add_models(app, service)
    _add_health(app, service)
    _add_errors(app)
    app.router.routes.extend(pages)
    return app


def _add_models(app: FastAPI, service: Service) -> None:
    def describe(name: str) -> dict[str, Any]:
        models = service.models
        return {"id": name, "object": "model", "created": models.started, "owned_by": "genjax"}

    @app.get("/v1/models", tags=["models"])
    async def list_models() -> Response:
        """List the served runs."""
        names = [*service.models.places]
        if embeddings.has_wordllama() and embeddings.WORDLLAMA not in names:
            names.append(embeddings.WORDLLAMA)
        return JSONResponse({"object": "list", "data": [describe(name) for name in names]})

    @app.get("/v1/models/{name}", tags=["models"])
    async def get_model(name: str) -> Response:
        """Return one served run."""
        if name != embeddings.WORDLLAMA or not embeddings.has_wordllama():
            service.models.check(name)
        return JSONResponse(describe(name))


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["server"])
    async def check_health() -> Response:
        """Report whether the server accepts requests."""
        status = "ending" if service.draining else "ok"
        return JSONResponse({"status": status}, 503 if service.draining else 200)

    @app.get("/metrics", tags=["server"])
    async def measure() -> Response:
        """Return metrics for Prometheus."""
        return Response(service.measure(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return error.to_response()

    @app.exception_handler(UserError)
    async def mistaken(request: Request, error: UserError) -> Response:
        return refuse(error).to_response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _explain(error).to_response()

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        said = str(error.detail)
        if error.status_code == 404:
            said = f"{request.method} {request.url.path[:SHOWN]} does not exist"
        if error.status_code == 405:
            said = f"{request.url.path[:SHOWN]} takes no {request.method}"
        response = ApiError(error.status_code, said).to_response()
        for name, value in (error.headers or {}).items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        traceback.print_exception(error, file=sys.stderr)
        return ApiError(500, "the server failed; its log says how").to_response()


def _explain(error: RequestValidationError) -> ApiError:
    """Describe the first error of a request in one line."""
    first = min(error.errors(), key=lambda one: len(one["loc"]))
    if first["type"] == "json_invalid":
        return ApiError(
            400, f"the body must be JSON: {first['ctx']['error']}", None, "invalid_json"
        )
    place = [str(part) for part in first["loc"] if part != "body"]
    param = ".".join(place) or None
    value = repr(first.get("input"))
    shown = value if len(value) <= SHOWN else f"{value[:SHOWN]}..."
    said = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] == "missing":
        return ApiError(
            400, f"{param or 'the body'} is missing", param, "missing_required_parameter"
        )
    if first["type"] == "extra_forbidden":
        return ApiError(
            400, f"{param} is not known, or not supported here", param, "unknown_parameter"
        )
    return ApiError(400, f"{param or 'the body'}: {said}, got {shown}", param, "invalid_value")
