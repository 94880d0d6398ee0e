"""The server's process listens for requests, and shuts down gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from genjax.errors import UserError
from genjax.serve.app import make_app
from genjax.serve.exchanges import Keeper
from genjax.serve.limits import Limits
from genjax.serve.service import Service
from genjax.store.access.principal import Principal

BACKLOG = 4096  # connections waiting to be accepted
SWITCH = 0.001  # seconds after which a thread lets another run, so that requests are read soon
STEP = 0.05  # seconds between checks for open requests


@dataclass(frozen=True)
class Listening:
    """Options of listening and logging in.

    Attributes:
      host: address.
      port: port; 0 for a free one.
      store: store of exchanges, which the pages show; None for no store and no pages.
      pages: file of those who may log in to the pages; None makes a token for this server alone.
      token: file with the token that clients must send; None for no token.
      warm: whether all runs are loaded at the start.
      check: whether the server ends after one health request.
      alerts: seconds between checks of the store's alerts; 0 for none.
      drafts: drafts of runs, see ``genjax.serve.models.Models``.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    store: str | None = None
    pages: str | None = None
    token: str | None = None
    warm: bool = False
    check: bool = False
    alerts: float = 60.0
    drafts: tuple[str, ...] = ()


class Server(uvicorn.Server):
    """A server whose process handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(places: Sequence[str], limits: Limits, listening: Listening) -> None:
    """Serve runs until SIGTERM or SIGINT, and then finish open requests.

    Raises:
      UserError: a run, the store, the token or the address cannot be used.
    """
    token = None if listening.token is None else _read_token(listening.token)
    with _listen(listening) as opened, contextlib.ExitStack() as stack:
        recorder = None if listening.store is None else _open_recorder(listening.store)
        find = None if listening.store is None else _find_tokens(listening.store, stack)
        _check_address(opened, token is not None or find is not None)
        service = Service(places, limits, recorder, token, listening.drafts, find)
        pages = None
        if listening.store is not None:
            from genjax.serve.pages.serving import open_pages, watch_alerts

            watch_alerts(service, listening.store, listening.alerts, stack)
            pages = open_pages(service, listening.store, listening.pages, stack)
        config = make_config(make_app(service, pages.routes if pages else ()))
        _raise_file_limit()
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SWITCH)
        token_of_pages = pages.token if pages else None
        asyncio.run(_run(Server(config), service, opened, listening, token_of_pages))


def make_config(app: ASGIApp) -> uvicorn.Config:
    """Return the configuration in which uvicorn runs an application."""
    return uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,  # otherwise uvicorn would close other handlers
        log_level="warning",
        access_log=False,
        backlog=BACKLOG,
        ws="none",
        timeout_graceful_shutdown=1,
    )


async def _run(
    server: Server,
    service: Service,
    opened: socket.socket,
    listening: Listening,
    login: str | None,
) -> None:
    if listening.warm:
        await service.warm_up()
    host, port = opened.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"serving {', '.join(service.models.places)} at {place}/v1", flush=True)
    if listening.store is not None:
        how = "" if login is None else f", with the token {login}"
        print(f"pages at {place}/login{how}", flush=True)
    with _end_by_signal(server, service):
        tasks = [asyncio.create_task(_drain(server, service))]
        if listening.check:
            tasks.append(asyncio.create_task(_check(server, place)))
        await server.serve(sockets=[opened])
        for task in tasks:
            task.cancel()


async def _check(server: Server, place: str) -> None:
    while not server.started:
        await asyncio.sleep(STEP)

    def ask() -> str:
        with urllib.request.urlopen(f"{place}/healthz", timeout=30) as answer:
            return str(answer.read().decode())

    print(await asyncio.to_thread(ask), flush=True)
    server.should_exit = True


async def _drain(server: Server, service: Service) -> None:
    """Wait for shutdown to begin, and then for open requests, before ending the server."""
    while not service.draining:
        await asyncio.sleep(STEP)
    deadline = time.monotonic() + service.limits.drain
    while service.open and time.monotonic() < deadline:
        await asyncio.sleep(STEP)
    server.should_exit = True


@contextlib.contextmanager
def _end_by_signal(server: Server, service: Service) -> Iterator[None]:
    """Refuse new requests after the first signal, and end at once after the second."""

    def heed(number: int, frame: FrameType | None) -> None:
        if service.draining:
            server.force_exit = server.should_exit = True
        service.draining = True

    # Detach the watcher that ends commands soon after a signal: draining may take longer.
    wakeup = signal.set_wakeup_fd(-1)
    before = {n: signal.signal(n, heed) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)


def _listen(listening: Listening) -> socket.socket:
    host, port = listening.host, listening.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With an explicit protocol, asyncio sends small pieces at once (TCP_NODELAY).
        opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(BACKLOG)  # clients may connect as soon as the address is known
    except OSError as error:
        raise UserError(
            f"port {port} of host {host} cannot be used: {error.strerror}", "port"
        ) from None
    return opened


def _check_address(opened: socket.socket, guarded: bool) -> None:
    """Refuse to listen beyond this machine without tokens.

    Raises:
      UserError: the address is not a loopback one, and nothing guards the API.
    """
    host = opened.getsockname()[0]
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_loopback and not guarded:
        cure = "--token FILE, or --store of a store with genjax store token create"
        raise UserError(f"host {host} is beyond this machine and needs tokens: {cure}", "host")


def _find_tokens(place: str, stack: contextlib.ExitStack) -> Callable[[str], Principal] | None:
    """Return what finds the principal of a token of the store; None where it has no tokens."""
    from genjax.store.access.tokens import authenticate, has_tokens
    from genjax.store.opening import open_store

    store = stack.enter_context(open_store(place))
    return partial(authenticate, store) if has_tokens(store) else None


def _open_recorder(place: str) -> Keeper:
    try:
        from genjax.serve.recording import Recorder
        from genjax.store.opening import open_store
    except ModuleNotFoundError as error:
        cure = "pip install 'genjax-train[store]'"
        raise UserError(f"store: the package {error.name} is missing: {cure}", "store") from None
    return Recorder(open_store(place, create=True))


def _read_token(path: str) -> str:
    try:
        token = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"token must be a readable file, got {path}", "token") from None
    if not token:
        raise UserError(f"token must be in the file {path}, which is empty", "token")
    return token


def _raise_file_limit() -> None:
    """Raise the limit of open files to the system's maximum."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        print("genjax: few connections may be open at once (ulimit -n)", file=sys.stderr)
