"""Start a run on plain hosts over ssh, or as several processes on this machine."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genjax import checks
from genjax.errors import UserError
from genjax.launch.job import Job

HOST = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
# A terminal, so that the remote process gets SIGHUP when ssh ends, and saves.
SSH = ("ssh", "-tt", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10")


@dataclass(frozen=True)
class Command:
    """A process of a run.

    Attributes:
      label: its number and host, before each line that it prints.
      words: the command.
      variables: environment variables that are added for it.
    """

    label: str
    words: tuple[str, ...]
    variables: Mapping[str, str]


@checks.frozen
class SshOptions:
    """Train on several hosts, one process each, and wait: all end if one ends. They need the same
    files at the same places, and ssh without a password. All other options are those of `genjax
    train`.

    Attributes:
      hosts: names of the hosts, the first one of which all others must reach.
      port: a free port of the first host.
      folder: folder on the hosts; the current one by default.
      setup: shell command that runs first on each host.
      python: Python on the hosts.
    """

    hosts: tuple[str, ...]
    port: int = 8476
    folder: str | None = None
    setup: str | None = None
    python: str = sys.executable

    def __post_init__(self) -> None:
        checks.between(self, 1, 65535, "port")
        if not self.hosts:
            raise UserError("hosts must name a host", "hosts")
        for host in self.hosts:
            if not HOST.fullmatch(host):
                raise UserError(
                    f"hosts must be names or USER@NAME with spaces between, got {host!r}", "hosts"
                )
        names = [host.rpartition("@")[2] for host in self.hosts]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"hosts must differ, got {name} twice", "hosts")


@checks.frozen
class LocalOptions:
    """Train on this machine, and wait: one process for all devices, or several that share them. All
    other options are those of `genjax train`.

    Attributes:
      processes: number of processes.
      gpus: number of GPUs that several processes share; all of an NVIDIA machine by default.
    """

    processes: int = 1
    gpus: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "processes")
        checks.at_least(self, 0, "gpus")
        if self.shared % self.processes:
            raise UserError(
                f"gpus must be a multiple of processes {self.processes}, got {self.shared}", "gpus"
            )

    @property
    def shared(self) -> int:
        """Number of GPUs that processes share; 0 if there is one process, which takes all."""
        if self.processes == 1:
            return 0
        return len(list(Path("/dev").glob("nvidia[0-9]*"))) if self.gpus is None else self.gpus


def list_ssh(options: SshOptions, job: Job) -> list[Command]:
    """Return the command of each host."""
    first = options.hosts[0].rpartition("@")[2]
    folder = shlex.quote(options.folder or os.getcwd())
    setup = "" if options.setup is None else f"{options.setup} && "
    found = []
    for number, host in enumerate(options.hosts):
        place = _place(f"{first}:{options.port}", len(options.hosts), number)
        line = f"cd {folder} && {setup}exec {job.write_command(options.python, *place)}"
        found.append(Command(f"{number} {host}", (*SSH, host, line), {}))
    return found


def list_local(options: LocalOptions, job: Job) -> list[Command]:
    """Return the command of each process."""
    address = f"127.0.0.1:{_find_port()}"
    share = options.shared // options.processes
    found = []
    for number in range(options.processes):
        words = job.list_words(sys.executable, *_place(address, options.processes, number))
        ids = ",".join(str(number * share + i) for i in range(share))
        found.append(
            Command(str(number), tuple(words), {"JAX_LOCAL_DEVICE_IDS": ids} if share else {})
        )
    return found


def _place(address: str, processes: int, number: int) -> list[str]:
    if processes == 1:
        return []
    place = {"coordinator": address, "processes": processes, "process-id": number}
    return [word for name, value in place.items() for word in (f"--devices.{name}", str(value))]


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
