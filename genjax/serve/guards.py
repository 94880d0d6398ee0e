"""A guard checks each request's size, duration and token, and counts the request."""

from __future__ import annotations

import asyncio
import hmac
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genjax.errors import UserError
from genjax.serve.errors import ApiError
from genjax.serve.exchanges import find_noted
from genjax.serve.service import Service
from genjax.store.access.principal import Principal

OPEN = ("/healthz", "/metrics")  # for anyone, also while the server shuts down
FAR = 4  # read up to this multiple of the limit, so that the client receives the refusal
API = "/v1/"  # requests below it are kept in the store


class Guard:
    """An ASGI application that checks requests before the routes."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        find_noted(scope)  # from here on the time counts
        status = 500
        service, patience = self._service, self._service.limits.patience

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            try:
                async with asyncio.timeout(patience):
                    await send(message)
            except TimeoutError:  # the client does not read its answer
                raise ConnectionResetError("the client reads too slowly") from None

        service.open += 1
        try:
            try:
                await self._check(scope)
                receive = await self._limit(scope, receive)
            except ApiError as error:
                await error.to_response()(scope, receive, counted)
                return
            await self._app(scope, receive, counted)
        except ConnectionResetError:
            status = 499
        finally:
            service.open -= 1
            self._note(scope, status)

    def _note(self, scope: Scope, status: int) -> None:
        """Count a request, and hand it to the recorder; nothing waits for that."""
        service, noted = self._service, find_noted(scope)
        status = noted.status or status
        service.metrics.requests.labels(noted.route, status).inc()
        service.metrics.whole.labels(noted.route).observe(time.monotonic() - noted.began)
        recorder = service.recorder
        if recorder is not None and scope["path"].startswith(API) and not noted.is_written:
            (one,) = recorder.make_ids(1)
            recorder.note(noted.measure(one, status), noted.run)

    async def _check(self, scope: Scope) -> None:
        path, service = scope["path"], self._service
        if path in OPEN:
            return
        if service.draining:
            raise ApiError(503, "the server ends: try again later", code="draining", retry_after=5)
        if path.startswith(API) and (service.token is not None or service.find is not None):
            given = dict(scope["headers"]).get(b"authorization", b"")
            who = find_noted(scope).principal = await self._find(given)
            wait = service.rates.take(who.token if who else "", who.rate if who else None)
            if wait is not None:
                said = f"too many requests of this token: wait {wait} seconds"
                raise ApiError(429, said, None, "rate_limit_exceeded", wait)
            if who is not None and not who.may("generate"):
                said = f"role {who.role.name} may not generate with this token"
                raise ApiError(403, said, None, "forbidden")

    async def _find(self, given: bytes) -> Principal | None:
        """Return the user of a token of the store; None for the server's own key."""
        service = self._service
        if service.token is not None:
            wanted = f"Bearer {service.token}".encode()
            if hmac.compare_digest(given, wanted):
                return None
        kind, _, typed = given.partition(b" ")
        if service.find is not None and kind.lower() == b"bearer":
            try:
                return await asyncio.to_thread(service.find, typed.decode("latin-1").strip())
            except UserError as error:
                if error.field != "token":
                    raise ApiError(503, "the store of tokens is away", retry_after=5) from None
        raise ApiError(401, "the api_key is not that of this server", None, "invalid_api_key")

    async def _limit(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body, and return a function that delivers it in one piece."""
        limits = self._service.limits
        most = int(limits.body_mb * 1e6)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if int(length) > FAR * most:
            raise self._too_large()
        parts: list[bytes] = []
        size, more = 0, True
        deadline = time.monotonic() + limits.patience
        while more:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise ApiError(408, "the request took too long to arrive") from None
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            part = message.get("body", b"")
            size += len(part)
            if size <= most:
                parts.append(part)
            elif size > FAR * most:
                raise self._too_large()
            more = message.get("more_body", False)
        if size > most:
            raise self._too_large()
        body: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}

        async def replay() -> Message:
            nonlocal body
            if body is not None:
                given, body = body, None
                return given
            return await receive()

        return replay

    def _too_large(self) -> ApiError:
        most = self._service.limits.body_mb
        return ApiError(413, f"a request must be at most {most:g} MB", None, "request_too_large")
