"""Bring the processes of a run together before JAX does, which would end them after its time-out
without a word about who is missing.

Process 0 listens at the address that JAX uses afterwards. The others send a line of JSON, and get
one back when all are there, or when the time is over.
"""

from __future__ import annotations

import contextlib
import errno
import json
import selectors
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from genjax.errors import UserError
from genjax.machine.places import Place

PATIENCE = 15.0  # seconds of silence while other processes are missing
LONGEST = 2**16  # most bytes of a line
LISTED = 8  # most processes that a message names
TAKEN = 10.0  # seconds in which an earlier process may leave the port
SLACK = 10.0  # seconds by which process 0 may answer after its time is over
BETWEEN = 0.1  # seconds between two attempts to reach process 0

Facts = Mapping[str, str]


@dataclass(frozen=True)
class Guest:
    """A process that has come to the meeting.

    Attributes:
      number: its number.
      host: its machine.
      facts: what must be the same on all processes, by name.
    """

    number: int
    host: str
    facts: Facts

    @classmethod
    def parse(cls, line: bytes) -> Guest | None:
        """Parse what a process sends; None if it is something else."""
        try:
            found = json.loads(line)
            guest = cls(found["number"], found["host"], found["facts"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        sound = type(guest.number) is int and isinstance(guest.host, str)
        return guest if sound and isinstance(guest.facts, dict) else None


def meet(place: Place, facts: Facts, seconds: float) -> None:
    """Wait until all processes of a run are there and agree.

    Args:
      place: place of this process.
      facts: what must be the same on all processes, by name, such as versions.
      seconds: time to wait.

    Raises:
      UserError: somebody is missing, or differs; the same one on all processes that have come.
    """
    address, processes, number = place.whole
    if processes == 1:
        return
    facts = {"devices.processes": str(processes), **facts}
    me = Guest(number, socket.gethostname(), facts)
    if number:
        _visit(place, me, seconds)
    else:
        with _listen(address) as server:
            _Host(place, me, server, seconds).receive()


class _Host:
    """Process 0, which waits for all others."""

    def __init__(self, place: Place, me: Guest, server: socket.socket, seconds: float) -> None:
        self._place, self._seconds = place, seconds
        self._guests: dict[int, Guest] = {0: me}
        self._sockets: dict[int, socket.socket] = {}
        self._heard: dict[socket.socket, bytes] = {}
        self._server = server
        self._events = selectors.DefaultSelector()
        self._events.register(server, selectors.EVENT_READ)

    def receive(self) -> None:
        """Wait for the others, and give all the same answer."""
        problem = self._await_all()
        self._events.close()
        error = None if problem is None else {"message": str(problem), "field": problem.field}
        for connection in self._heard:
            with contextlib.suppress(OSError):
                connection.settimeout(5.0)
                _send(connection, {"error": error})
        for connection in self._heard:
            with contextlib.suppress(OSError), connection:
                connection.recv(1)  # the others close first, so that the port is free at once
        if problem is not None:
            raise problem

    def _await_all(self) -> UserError | None:
        address, processes, _ = self._place.whole
        begin, patient = time.monotonic(), True
        while len(self._guests) < processes:
            waited = time.monotonic() - begin
            if waited > self._seconds:
                return UserError(
                    f"{self._list_missing()} of {processes} did not join at {address} within "
                    f"{self._seconds:g} s (devices.join_timeout): start the same command there",
                    "devices.join_timeout",
                )
            if patient and waited > PATIENCE:
                patient = False
                _say(f"waiting at {address} as process 0 of {processes} for {self._list_missing()}")
            for key, _ in self._events.select(0.2):
                problem = self._read(key.fileobj)
                if problem is not None:
                    return problem
        return None

    def _read(self, source: object) -> UserError | None:
        """Take a connection, or what one sends; return an error if its process does not fit."""
        if source is self._server:
            connection = self._server.accept()[0]
            connection.setblocking(False)
            self._heard[connection] = b""
            self._events.register(connection, selectors.EVENT_READ)
            return None
        assert isinstance(source, socket.socket)
        content = b""
        with contextlib.suppress(OSError):
            content = source.recv(LONGEST)
        line = self._heard[source] + content
        self._heard[source] = line
        if content and not line.endswith(b"\n") and len(line) < LONGEST:
            return None
        guest = Guest.parse(line) if content else None
        if guest is not None:
            return self._admit(guest, source)
        # Something else, or a process that has gone and so is missing again.
        for number in [n for n, known in self._sockets.items() if known is source]:
            del self._guests[number], self._sockets[number]
        self._events.unregister(source)
        del self._heard[source]
        source.close()
        return None

    def _admit(self, guest: Guest, source: socket.socket) -> UserError | None:
        first = self._guests.get(guest.number)
        if first is not None:
            return UserError(
                f"devices.process_id {guest.number} must be that of one process, but there are "
                f"two: on {first.host} and on {guest.host}",
                "devices.process_id",
            )
        self._guests[guest.number], self._sockets[guest.number] = guest, source
        return find_difference(self._guests[0], guest)

    def _list_missing(self) -> str:
        hosts, processes = self._place.hosts, self._place.whole[1]
        missing = [n for n in range(processes) if n not in self._guests]
        named = [f"{n} on {hosts[n]}" if n < len(hosts) else f"{n}" for n in missing[:LISTED]]
        more = [f"{len(missing) - LISTED} more"] if len(missing) > LISTED else []
        return f"{'process' if len(missing) == 1 else 'processes'} {', '.join([*named, *more])}"


def find_difference(first: Guest, other: Guest) -> UserError | None:
    """Return an error about the first fact in which two processes differ; None if they agree."""
    for name in {**first.facts, **other.facts}:
        one, two = first.facts.get(name), other.facts.get(name)
        if one != two:
            return UserError(
                f"{name} must be the same on all processes, got {one} on process {first.number} "
                f"({first.host}) and {two} on process {other.number} ({other.host})",
                name,
            )
    return None


def _visit(place: Place, me: Guest, seconds: float) -> None:
    """Go to process 0, and wait for its answer."""
    address = place.whole[0]
    host, _, port = address.rpartition(":")
    begin, why = time.monotonic(), ""
    whom = f"as process {me.number} of {place.processes} for process 0 and all others"
    notice = threading.Timer(PATIENCE, _say, [f"waiting at {address} {whom}"])
    notice.daemon = True
    notice.start()
    try:
        while time.monotonic() - begin < seconds:
            try:
                with socket.create_connection((host.strip("[]"), int(port)), 5.0) as connection:
                    connection.settimeout(seconds + SLACK)  # process 0 may have come later
                    _send(connection, vars(me))
                    error = _receive(connection)
            except (OSError, ValueError) as error_here:
                why = str(error_here)
                time.sleep(BETWEEN)
                continue
            if error is not None:
                raise UserError(str(error.get("message")), error.get("field"))
            return
    finally:
        notice.cancel()
    raise UserError(
        f"process 0 did not answer at {address} within {seconds:g} s (devices.join_timeout): {why}",
        "devices.join_timeout",
    )


def _send(connection: socket.socket, content: Mapping[str, object]) -> None:
    connection.sendall(json.dumps(content).encode() + b"\n")


def _receive(connection: socket.socket) -> dict[str, str] | None:
    """Return the error in the answer of process 0, or None.

    Raises:
      ValueError: it is not an answer.
      OSError: there is none.
    """
    line = b""
    while not line.endswith(b"\n"):
        content = connection.recv(LONGEST)
        line += content
        if not content or len(line) > LONGEST:
            raise ValueError("another program listens there, or a run that has started")
    answer = json.loads(line.decode("utf-8", "replace"))
    error = answer["error"] if isinstance(answer, dict) and "error" in answer else ""
    if error is not None and not isinstance(error, dict):
        raise ValueError("another program listens there")
    return error


def _listen(address: str) -> socket.socket:
    """Listen at the port of an address, on all networks of this machine as JAX does."""
    port = int(address.rpartition(":")[2])
    end = time.monotonic() + TAKEN
    while True:
        try:
            if socket.has_dualstack_ipv6():
                return socket.create_server(
                    ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
                )
            return socket.create_server(("", port), backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise UserError(
                    f"devices.coordinator {address} cannot be used on {socket.gethostname()}: "
                    f"{error.strerror}; choose another port",
                    "devices.coordinator",
                ) from error
        time.sleep(BETWEEN)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
