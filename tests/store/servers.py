"""A PostgreSQL server for tests, of the binaries that the package pgserver bundles."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BINARIES = Path("pginstall") / "bin"
USER = "nobody"  # runs the server where the tests run as root, which PostgreSQL refuses


def _find_package() -> Path:
    spec = importlib.util.find_spec("pgserver")
    if spec is None or spec.origin is None:
        pytest.skip("PostgreSQL: the package pgserver is not installed")
    package = Path(spec.origin).parent
    if not (package / BINARIES / "postgres").exists():
        pytest.skip(f"PostgreSQL: pgserver has no {package / BINARIES / 'postgres'}")
    return package


def _reach(package: Path, folder: Path) -> Path:
    """The package, copied into ``folder`` where it lies below a folder closed to other users."""
    if all(place.stat().st_mode & 0o001 for place in (package, *package.parents)):
        return package
    libraries = package.parent / "pgserver.libs"  # found by their place beside the package
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return Path(shutil.copytree(package, folder / package.name, symlinks=True))


def _wait(url: str) -> None:
    """Wait until a server takes connections, which it does not yet when its port is open."""
    import psycopg

    for _ in range(600):
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)


@contextmanager
def run_postgres() -> Iterator[str]:
    """The URL of a server of its own that ends with the block; skips where there is none."""
    package = _find_package()
    who = {"user": USER} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="genjax_pg_"))
    if who:
        os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
        package = _reach(package, folder)
    binaries = package / BINARIES
    options = {"cwd": folder, "stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **who}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = folder / "data", (folder / "log").open("w", encoding="utf-8")
    make = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
    serve = [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder]
    serve += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = None
    try:
        made = subprocess.run([*make, "--locale=C"], stdout=log, check=False, **options)
        if made.returncode:
            pytest.skip(f"PostgreSQL: initdb fails: {(folder / 'log').read_text()[-300:]}")
        server = subprocess.Popen(serve, stdout=log, **options)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        _wait(url)
        yield url
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # it does not wait for its clients
            server.wait(120)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


DEBIAN = Path("/usr/lib/postgresql")  # its binaries come with the contrib modules


class Server:
    """A PostgreSQL server of a test that is killed and started again."""

    def __init__(
        self, folder: Path, binaries: Path, copied_from: "Server | Path | None" = None
    ) -> None:
        self.folder, self.binaries = folder, binaries
        self.who = {"user": USER} if os.getuid() == 0 else {}
        folder.mkdir()
        if self.who:
            os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None
        if isinstance(copied_from, Path):
            self._run(["cp", "-r", copied_from, folder / "data"])
        elif copied_from is None:
            make = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust"]
            self._run([*make, "-N", "-E", "UTF8", "--locale=C"])
        else:
            url = copied_from.url
            copy = [binaries / "pg_basebackup", "-D", folder / "data", "-d", url, "-R"]
            self._run([*copy, "-c", "fast", "-X", "stream"])

    def _run(self, command: list[object]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, check=False, **self.who
        )
        if done.returncode:
            pytest.skip(f"PostgreSQL: {command[0]} fails: {done.stderr[-300:]!r}")

    def start(self) -> "Server":
        """Start it, and wait until it answers."""
        serve = [self.binaries / "postgres", "-D", self.folder / "data", "-p", str(self.port)]
        serve += ["-k", self.folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        serve += ["-c", "hot_standby=on", "-c", "wal_retrieve_retry_interval=200ms"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                serve, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.who
            )
        _wait(self.url)
        return self

    def kill(self) -> None:
        """Let it crash: it ends at once, and what it did not write to its log is lost."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(120)
            self.process = None


def _find_binaries(needs: str | None) -> Path:
    for place in sorted(DEBIAN.glob("*/bin/postgres"), reverse=True):
        if needs is None or list(place.parents[1].glob(f"lib/{needs}.so")):
            return place.parent
    if needs is not None:
        pytest.skip(f"PostgreSQL: no server with {needs} is installed (Debian: postgresql)")
    return _find_package() / BINARIES


@contextmanager
def run_servers(count: int, needs: str | None = None) -> Iterator[list[Server]]:
    """Servers of a test, started; skips where there are no binaries, or they lack a module."""
    binaries = _find_binaries(needs)
    place = os.environ.get("PYTEST_DEBUG_TEMPROOT")
    folder = Path(tempfile.mkdtemp(prefix="genjax_pg_", dir=place))
    folder.chmod(0o755)
    if os.getuid() == 0 and DEBIAN not in binaries.parents:
        binaries = _reach(binaries.parents[1], folder) / BINARIES
    servers: list[Server] = []
    try:
        for number in range(count):
            made = servers[0].folder / "fresh" if number else None
            servers.append(Server(folder / str(number), binaries, made))
            if count > 1 and not number:
                servers[0]._run(
                    ["cp", "-r", servers[0].folder / "data", servers[0].folder / "fresh"]
                )
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
