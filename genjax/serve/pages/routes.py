"""The routes of the pages are collected here."""

from __future__ import annotations

import hashlib
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from genjax.serve.pages import (
    alerts,
    browse,
    chat,
    compare,
    evaluate,
    find,
    gallery,
    judge,
    login,
    usage,
)
from genjax.serve.pages.context import Pages
from genjax.serve.pages.visit import Declared, Handler, Page, Visit

READING, JUDGE, TAG, GENERATE = ("read",), ("judge",), ("tag",), ("generate",)
MANAGE = ("manage",)
BULK = (*JUDGE, *TAG)  # which of them, the form says
READ: dict[str, Declared] = {
    "/": Declared(READING, login.show_home),
    "/chat": Declared(READING, chat.show_chat),
    "/chat/answer": Declared(READING, chat.show_answer),
    "/compare": Declared(READING, compare.show_compare),
    "/compare/next": Declared(READING, compare.show_next),
    "/compare/pair": Declared(READING, compare.show_pair),
    "/images": Declared(READING, gallery.show_images),
    "/blobs/{digest:path}": Declared(READING, gallery.send_blob),
    "/sessions": Declared(READING, browse.show_sessions),
    "/session": Declared(READING, browse.show_session),
    "/record": Declared(READING, browse.show_record),
    "/record/text": Declared(READING, browse.show_text),
    "/lineage": Declared(READING, browse.show_lineage),
    "/search": Declared(READING, find.show_search),
    "/evaluate": Declared(READING, evaluate.show_evaluate),
    "/usage": Declared(READING, usage.show_usage),
    "/alerts": Declared(READING, alerts.show_alerts),
}
WRITE: dict[str, Declared] = {
    "/chat": Declared(GENERATE, chat.ask),
    "/compare": Declared(GENERATE, compare.ask_both),
    "/compare/pair": Declared(JUDGE, compare.vote),
    "/record/feedback": Declared(JUDGE, judge.judge_one),
    "/record/tags": Declared(TAG, judge.tag_one),
    "/evaluate/confirm": Declared(BULK, evaluate.confirm),
    "/evaluate/apply": Declared(BULK, evaluate.apply),
    "/alerts": Declared(MANAGE, alerts.acknowledge_one),
}
OPEN: dict[tuple[str, str], Handler] = {
    ("GET", "/login"): login.show_login,
    ("POST", "/login"): login.log_in,
    ("POST", "/logout"): login.log_out,
}
STATIC = {"style.css": "text/css", "htmx.min.js": "text/javascript", "icon.svg": "image/svg+xml"}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OTHERS = ("/v1", "/healthz", "/metrics", "/docs", "/redoc", "/openapi.json")


def make_pages(context: Pages) -> list[BaseRoute]:
    """Build the routes of the pages, to be added after all others of an app.

    The last route shows a page for unknown paths; paths that start like the API are left to the
    app's own error handler.
    """
    routes: list[BaseRoute] = [
        Route(path, Page(context, Declared((), handler), True).answer, methods=[method])
        for (method, path), handler in OPEN.items()
    ]
    for path in dict.fromkeys((*READ, *WRITE)):
        methods = {"GET": READ.get(path), "POST": WRITE.get(path)}
        routes += [
            Route(path, Page(context, declared).answer, methods=[method])
            for method, declared in methods.items()
            if declared is not None
        ]
    routes.append(Route("/static/{name}", send_static))
    missing = Page(context, Declared((), _refuse), is_open=True)

    async def refuse(request: Request) -> Response:
        if request.url.path.startswith(OTHERS):
            raise HTTPException(404)
        return await missing.answer(request)

    routes.append(Route("/{path:path}", refuse, methods=list(METHODS)))
    return routes


def _refuse(visit: Visit) -> Response:
    raise HTTPException(404, "There is no such page.")


def send_static(request: Request) -> Response:
    """Send a static file of the pages."""
    name = str(request.path_params["name"])
    if name not in STATIC:
        raise HTTPException(404)
    content = (resources.files("genjax.serve.pages") / "static" / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "public, max-age=3600",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=STATIC[name], headers=headers)
