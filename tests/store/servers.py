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
            server.wait(30)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)
