"""``genjax watch RUNS``: live reports of runs in a browser."""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath

from genjax import checks
from genjax.cli.parsing import parse
from genjax.errors import UserError
from genjax.report.watch import Server, Watched


@checks.frozen
class WatchOptions:
    """Serve live pages of a folder of runs, or of one run. They change nothing.

    Attributes:
      host: the address to listen on; 0.0.0.0 for all addresses of this machine, without any
        password.
      port: the port; 0 for a free one.
      price: of a device for an hour, in any currency.
    """

    host: str = "127.0.0.1"
    port: int = 8008
    price: float | None = None

    def __post_init__(self) -> None:
        checks.between(self, 0, 65_535, "port")
        checks.at_least(self, 0, "price")


def watch_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax watch RUNS``."""
    options = parse(WatchOptions(), f"watch {target}", arguments)
    folder = epath.Path(target).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise UserError(f"{target!r} must be a folder of runs, and {what}", target)
    with Server(Watched(folder, options.price), options.host, options.port) as server:
        print(f"watching {target} at {server.url} (Ctrl-C ends)", flush=True)
        server.serve_forever()
