"""These pages log visitors in and out, and show the start page."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import sqlalchemy as sa
from starlette.responses import Response

from genjax.serve.pages import access
from genjax.serve.pages.visit import Visit, set_session
from genjax.store import schema


def show_home(visit: Visit) -> Response:
    """Show the start page."""
    table = schema.records
    query = sa.select(table.c.kind, table.c.origin, sa.func.count()).where(
        table.c.deleted.is_(None)
    )
    counts: dict[str, dict[str, int]] = {kind: {} for kind in schema.KINDS}
    with visit.store.reading() as connection:
        for kind, origin, count in connection.execute(query.group_by(table.c.kind, table.c.origin)):
            counts[kind][origin] = count
    return visit.show("home.html", counts={k: v for k, v in counts.items() if v})


def show_login(visit: Visit) -> Response:
    """Show the form to log in with a token."""
    return visit.show("login.html", next=clean_path(visit.query.one("next")), error="")


def log_in(visit: Visit) -> Response:
    """Start a session for a visitor with a valid token."""
    wanted = clean_path(visit.form.one("next"))
    principal = visit.context.let_in(visit.form.one("token").strip())
    if principal is None:
        return visit.show("login.html", 403, next=wanted, error="This token is not known here.")
    answer = visit.go("")
    answer.headers["location"] = visit.to("") + wanted
    sealed = access.seal(visit.context.secret, access.new_session(principal))
    set_session(visit.request, answer, sealed)
    return answer


def log_out(visit: Visit) -> Response:
    """End the session."""
    answer = visit.go("/login")
    set_session(visit.request, answer, access.seal(visit.context.secret, access.new_session()))
    return answer


def clean_path(wanted: str) -> str:
    """Return a path of these pages, or "/" if the wanted path leads elsewhere."""
    if not re.fullmatch(r"/[!-\[\]-~]*", wanted) or wanted.startswith("//"):
        return "/"
    parts = urlsplit(wanted)
    return "/" if parts.scheme or parts.netloc else wanted
