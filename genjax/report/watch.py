"""Serve reports of runs as they are trained: pages that refresh themselves, and change nothing."""

from __future__ import annotations

import functools
import hashlib
import http.server
import socket
import urllib.parse
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from etils import epath

from genjax.errors import UserError
from genjax.report.collect import MOST, collect, is_run, name_runs
from genjax.report.listing import list_runs, stamp_all
from genjax.report.page import make_environment, render

SCRIPT = Path(__file__).parent / "templates" / "watch.js"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; "
    "media-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
LOCAL = ("localhost", "127.0.0.1", "::1")
KEPT = 16  # pages that are kept while nothing changes


@dataclass(frozen=True)
class Watched:
    """What is watched.

    Attributes:
      folder: a folder of runs, or a run.
      price: of a device for an hour; None if unknown.
    """

    folder: epath.Path
    price: float | None = None

    def list_page(self) -> str:
        """Return the page that lists the runs."""
        runs = list_runs(self.folder)
        page = make_environment().get_template("runs.html")
        return page.render(folder=str(self.folder), runs=runs, most=MOST)

    def find(self, names: list[str]) -> list[epath.Path]:
        """Return the run directories of names in the list; nothing else can be asked for.

        Raises:
          UserError: a name is not in the list, or there are none or too many.
        """
        known = {one.name: one.run_dir for one in list_runs(self.folder)}
        names = list(dict.fromkeys(names))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UserError(f"there is no run {unknown[0]!r} any more", "run")
        if not 0 < len(names) <= MOST:
            raise UserError(f"choose 1 to {MOST} runs, got {len(names)}", "run")
        return [known[name] for name in names]

    def run_page(self, run_dirs: list[epath.Path]) -> str:
        """Return the report of runs, made again only if their files have changed."""
        return _render(tuple(run_dirs), stamp_all(run_dirs), self.price)


@functools.lru_cache(KEPT)
def _render(run_dirs: tuple[epath.Path, ...], stamps: object, price: float | None) -> str:
    names = name_runs([str(one) for one in run_dirs])
    runs = [collect(one, name) for one, name in zip(run_dirs, names, strict=True)]
    return render(runs, price, live=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests for pages."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "genjax"
    sys_version = ""
    timeout = 60  # seconds until an idle connection is closed

    def do_GET(self) -> None:
        """Answer with a page, or say that it has not changed."""
        if not self.server.expects(self.headers.get("Host", "")):
            self._answer(HTTPStatus.FORBIDDEN, "this server is not known by that name")
            return
        url = urllib.parse.urlsplit(self.path)
        names = urllib.parse.parse_qs(url.query).get("run", [])
        watched = self.server.watched
        try:
            if url.path == "/watch.js":
                self._answer(HTTPStatus.OK, SCRIPT.read_text(encoding="utf-8"), "text/javascript")
            elif url.path == "/" and is_run(watched.folder):
                self._answer(HTTPStatus.OK, watched.run_page([watched.folder]), "text/html")
            elif url.path == "/":
                self._answer(HTTPStatus.OK, watched.list_page(), "text/html")
            elif url.path == "/runs":
                page = watched.run_page(watched.find(names))
                self._answer(HTTPStatus.OK, page, "text/html")
            else:
                self._answer(HTTPStatus.NOT_FOUND, "there is no such page; / lists the runs")
        except UserError as error:
            self._answer(HTTPStatus.NOT_FOUND, f"{error}; / lists the runs")
        except OSError as error:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"it cannot be read: {error.strerror}")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        content = text.encode("utf-8", "backslashreplace")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if status == HTTPStatus.OK and self.headers.get("If-None-Match") == tag:
            status, content = HTTPStatus.NOT_MODIFIED, b""
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-cache"),
            ("ETag", tag),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a page asks every few seconds."""


class Server(http.server.ThreadingHTTPServer):
    """Serves pages to browsers on this machine, or on others if it listens to them.

    Args:
      watched: what is watched.
      host: address to listen on.
      port: the port; 0 for a free one.

    Raises:
      UserError: the address is unknown, or the port is taken.
    """

    daemon_threads = True
    block_on_close = False  # Ctrl-C does not wait for open connections
    allow_reuse_address = True

    def __init__(self, watched: Watched, host: str, port: int) -> None:
        self.watched = watched
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        except (OSError, UnicodeError) as error:
            raise UserError(f"host {host!r} is not an address here: {error}", "host") from None
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            said = f"port {port} of {host} cannot be used: {error.strerror}; choose another --port"
            raise UserError(said, "port") from None
        self._is_local = host in LOCAL

    @property
    def url(self) -> str:
        """The address of the first page."""
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{name}:{port}/"

    def expects(self, host: str) -> bool:
        """Return whether a request's host is one that this server has, so that the pages of others
        cannot read from it by a name of their own.
        """
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return not self._is_local or name.strip("[]") in LOCAL

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a browser closes."""
