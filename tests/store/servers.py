"""A PostgreSQL server for tests, started by someone who is not root, reached by a socket."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


def find_binaries() -> Path | None:
    """The folder of initdb and pg_ctl: those of pgserver, or of the system."""
    found = importlib.util.find_spec("pgserver")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "pginstall" / "bin"
        if (folder / "initdb").exists():
            return folder
    there = shutil.which("initdb")
    if there is not None and shutil.which("pg_ctl") is not None:
        return Path(there).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return debian[-1] if debian else None


def _become_nobody() -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@contextmanager
def start_postgres(binaries: Path) -> Iterator[str]:
    """The URL of a server, without the name of a database; it is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="genjax_pg_", dir="/tmp"))
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    data = folder / "data"

    def run(name: str, *arguments: str) -> None:
        subprocess.run(
            [binaries / name, *arguments],
            check=True,
            capture_output=True,
            preexec_fn=_become_nobody,
            cwd=folder,
            timeout=120,
        )

    run("initdb", "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "-N")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    log = folder / "log"
    run("pg_ctl", "-D", str(data), "-l", str(log), "-w", "-o", options, "start")
    try:
        yield f"postgresql://tester@/{{name}}?host={folder}"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
