"""The gallery shows pictures with ratings, and serves the bytes of records by their hash."""

from __future__ import annotations

import re

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import Response

from genjax.serve.pages.cards import read_page
from genjax.serve.pages.visit import Visit
from genjax.store import schema
from genjax.store.filters import All, Compare, parse_filter
from genjax.store.query import ORIGINS, Query
from genjax.store.records import Payload

SIZE = 24  # pictures of a page
LARGEST = 100_000_000  # maximum number of bytes that are sent
SHOWN = frozenset(
    {
        "image/avif",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "audio/flac",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "audio/x-wav",
    }
)
OTHER = "application/octet-stream"  # media type that browsers only save


def show_images(visit: Visit) -> Response:
    """Show pictures, newest first."""
    typed = visit.query.one("filter")
    origin = visit.query.choice("origin", ORIGINS, "any")
    tree = All((Compare("media_type", ":", "image/"), parse_filter(typed)))
    query = Query(tree, None, origin, "-time")  # type: ignore[arg-type]
    listing = read_page(visit.store, query, visit.query.one("after"), SIZE)
    return visit.show("images.html", listing=listing, filter=typed, origin=origin)


def send_blob(visit: Visit) -> Response:
    """Send a record's bytes by their hash, as a download if the media type could hold scripts."""
    digest = str(visit.request.path_params["digest"])
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise HTTPException(404, "Bytes are named by their SHA-256.")
    table = schema.records
    query = sa.select(table.c.media_type, table.c.size).where(
        table.c.blob == digest, table.c.deleted.is_(None)
    )
    with visit.store.reading() as connection:
        rows = connection.execute(query.limit(100)).all()
    if not rows:
        raise HTTPException(404, "No record has these bytes.")
    if any((row.size or 0) > LARGEST for row in rows):
        raise HTTPException(413, f"These bytes are more than {LARGEST:,}: export them.")
    content = visit.store.read_blob(Payload(blob=digest))
    kind = next((row.media_type for row in rows if row.media_type in SHOWN), OTHER)
    answer = Response(content, media_type=kind)
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer.headers["Cache-Control"] = "private, max-age=86400, immutable"
    if kind == OTHER:
        answer.headers["Content-Disposition"] = f'attachment; filename="{digest}"'
    return answer
