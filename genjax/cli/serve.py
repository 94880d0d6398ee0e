"""``genjax serve``. The server's packages are imported only when it runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

import tyro

from genjax import checks
from genjax.cli.parsing import parse
from genjax.errors import UserError
from genjax.serve.limits import Limits


@checks.frozen
class ServeOptions:
    """Serve runs with an API that OpenAI's clients understand.

    Attributes:
      limits: the limits of the server.
      store: a store that every exchange is written to and that the pages show, see
        docs/store.md; it is created if it does not exist.
      pages: a file of users who may log in to the pages besides those with a token of the store,
        with a role (reader, annotator, trainer or admin), a name and the SHA-256 of a token in
        each line; where there are neither, an admin's token is printed that is valid until the
        server stops.
      draft: a smaller run whose guesses speed up the run served; NAME=RUN_DIR, for each of
        several runs.
      host: the address to listen on; 0.0.0.0 for all addresses of this machine, which needs
        tokens of the store, or a token.
      port: the port; 0 for a free one.
      token: a file with a key that clients must send as their api_key; where the store has
        tokens, these are keys, too; none by default.
      warm: load all runs and compile for the first requests before listening.
      check: start, answer one health request and stop.
      alerts: the seconds between checks of the store's alerts, see docs/monitoring.md; 0 for none.
    """

    limits: Annotated[Limits, tyro.conf.arg(name="")] = Limits()
    store: str | None = None
    pages: str | None = None
    draft: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    warm: bool = False
    check: bool = False
    alerts: float = 60.0

    def __post_init__(self) -> None:
        checks.between(self, 0, 65_535, "port")
        checks.between(self, 0, 86_400, "alerts")
        if self.pages is not None and self.store is None:
            raise UserError("pages need a store: give --store", "pages")


def serve_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax serve RUN_DIR...``."""
    more = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    options = parse(ServeOptions(), "serve RUN_DIR...", arguments[len(more) :])
    for place in more:
        checks.check_path(place, "RUN_DIR")
    try:
        from genjax.serve.running import Listening, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("genjax"):
            raise
        cure = "pip install 'genjax-train[serve]'"
        raise UserError(f"serve: the package {error.name} is missing: {cure}", "serve") from None
    o = options
    listening = Listening(
        o.host, o.port, o.store, o.pages, o.token, o.warm, o.check, o.alerts, o.draft
    )
    serve([target, *more], o.limits, listening)
