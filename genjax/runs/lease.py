"""Let only one process at a time write to a run directory.

``lease.json`` in the directory names the process that trains there, and is renewed every 10 s. The
lease of a dead process is taken over at once on the same machine, and from another machine after 60
s without renewal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from genjax.errors import UserError
from genjax.machine import disk

try:
    import fcntl
except ImportError:  # Windows does not have it
    fcntl = None  # type: ignore[assignment]

NAME = "lease.json"
# Seconds between two renewals, and after which a silent holder counts as dead.
RENEWED, STALE = (
    10.0,
    60.0,
)
# Seconds until an unreadable file counts as damaged, not as being written.
SETTLED = 1.0
LONGEST = 2**16  # most bytes read of a lease
TOKEN = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease.

    Attributes:
      host: name of its machine.
      pid: id of the process.
      started: start time in the units of the system, to tell it from a later process with the same
        id.
      boot: id of the machine's current boot; the name of the host if the system has none.
      pids: PID namespace of ``pid``: containers on one machine have their own.
      token: random name of this lease.
    """

    host: str
    pid: int
    started: str
    boot: str
    pids: str
    token: str

    @classmethod
    def here(cls) -> Holder:
        """Return the holder for this process."""
        pid = os.getpid()
        return cls(
            socket.gethostname(),
            pid,
            _read_start_time(pid) or "",
            _boot(),
            _pids(),
            secrets.token_hex(8),
        )

    @classmethod
    def read(cls, path: epath.Path) -> Holder | None:
        """Read a holder from a file; None if the file is damaged.

        Raises:
          FileNotFoundError: there is no file.
        """
        with path.open("rb") as file:
            return cls.parse(file.read(LONGEST))

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Parse a holder from bytes; None if they are invalid."""
        try:
            found = cls(**json.loads(content))
        except (ValueError, TypeError, RecursionError):
            return None
        kinds = all(
            type(value) is (int if name == "pid" else str) for name, value in vars(found).items()
        )
        return found if kinds and found.pid > 0 and TOKEN.fullmatch(found.token) else None

    @property
    def dead(self) -> bool | None:
        """Whether this process has ended; None if that cannot be known from here."""
        if os.name != "posix" or self.boot != _boot() or self.pids != _pids():
            return None
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # another user's process
            pass
        now = _read_start_time(self.pid)
        return now == "" or (now is not None and now != self.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def describe_lease(run_dir: epath.Path) -> str:
    """Return who holds a run directory, as this machine sees it."""
    try:
        holder = Holder.read(run_dir / NAME)
    except OSError:
        return f"{run_dir} without a lease"
    return f"{run_dir} with the lease of {holder} ({holder.token if holder else 'damaged'})"


class Lease:
    """The right to write to a run directory, held from ``with`` to its end.

    Raises, on entering:
      UserError: another process holds it.
    """

    def __init__(self, run_dir: epath.Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / NAME
        self._mine = Holder.here()
        self._file: _File | _Object = (
            _Object(self._path) if "://" in os.fspath(run_dir) else _File(self._path)
        )
        self._over = threading.Event()
        self._lock = threading.RLock()
        self._made: list[epath.Path] = []
        self._lost = False

    def __enter__(self) -> Lease:
        self._made = [
            folder for folder in (self._run_dir, *self._run_dir.parents) if not folder.exists()
        ]
        self._run_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._file.take(self._mine)
        except BaseException:
            self._remove_empty()
            raise
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._over.set()
            self._file.release(self._mine)
        self._remove_empty()

    @property
    def lost(self) -> bool:
        """Whether another process has taken the lease over."""
        with (
            self._lock,
            contextlib.suppress(OSError),
        ):
            # A temporary disk error does not lose the lease.
            self._lost = self._lost or not (self._over.is_set() or self._file.is_held(self._mine))
        return self._lost

    def make_error(self) -> UserError:
        """Return the error for the process that has lost the lease."""
        with contextlib.suppress(OSError):
            other = Holder.read(self._path)
            if other is not None:
                return _lease_error(
                    self._path, f"was taken over by {other}: nothing more is written here"
                )
        return _lease_error(self._path, f"lost its {NAME}: nothing more is written here")

    def _renew(self) -> None:
        while not self._over.wait(RENEWED):
            with self._lock, contextlib.suppress(OSError):
                if self.lost or self._over.is_set():
                    return
                self._file.renew(self._mine)

    def _remove_empty(self) -> None:
        """Remove the folders that were only made for the lease."""
        for folder in self._made:
            try:
                folder.rmdir()
            except (OSError, ValueError):  # not empty; epath raises ValueError
                return


class _File:
    """A lease on a file system. The file gets its name by a hard link, which only one of several
    processes can create.

    Replacing the file of a dead holder needs a lease of its own, named by the dead holder's token,
    so that only one process replaces it. The holder keeps the file open and locked, which shows
    other containers on the machine that it is alive.
    """

    def __init__(self, path: epath.Path) -> None:
        self._path = Path(path)
        self._fd = -1

    def take(self, mine: Holder) -> None:
        self._clear()
        part = self._path.with_name(f"{NAME}.{mine.token}.new")
        try:
            self._fd = os.open(
                part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644
            )
        except OSError as error:
            if not disk.closed(error):
                raise
            raise _lease_error(
                self._path, f"cannot be written: {error.strerror}; choose another run_dir"
            ) from error
        try:
            content = (json.dumps(dataclasses.asdict(mine)) + "\n").encode()
            if os.write(self._fd, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self._path))
            os.fsync(self._fd)
            _lock(self._fd)
            while True:
                self._take(self._path, part)
                if self.is_held(mine):
                    return
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise
        finally:
            part.unlink(missing_ok=True)

    def _take(self, path: Path, part: Path) -> None:
        while not _link(part, path):
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise _lease_error(path, f"has a {path.name} that is not a file: move it away")
            with contextlib.suppress(FileNotFoundError):  # the holder has just ended: try again
                key = self._find_expired(path)
                claim = self._path.with_name(f"{NAME}.{key}")
                self._take(claim, part)
                try:
                    if self._make_key(path) == key:
                        # No other process has replaced the file before this claim.
                        claim.replace(path)
                        return
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        if os.path.samestat(claim.stat(), os.fstat(self._fd)):
                            claim.unlink()

    def _find_expired(self, path: Path) -> str:
        """Return the key of a lease that may be taken over; raise an error for any other."""
        key, age = self._make_key(path), self._measure_age(path)
        holder = Holder.read(epath.Path(path))
        if holder is None and age < SETTLED:
            time.sleep(SETTLED)
            key, holder = self._make_key(path), Holder.read(epath.Path(path))
        if holder is not None and holder.dead is not None:
            if holder.dead:
                return key
            raise _lease_error(
                self._path, f"is being trained by {holder}: wait for its end, or stop it"
            )
        here = holder is None or holder.boot == _boot()
        free = _lockable(path) if here else None
        paused = holder is not None and free is False  # a paused container may continue
        if free or (age >= STALE and not paused):
            return key
        who = "a process on this machine" if holder is None else str(holder)
        wait = (
            "wait for its end"
            if free is False
            else f"if it is dead, try again in {STALE - age:.0f} s"
        )
        raise _lease_error(
            self._path, f"is being trained by {who}, seen {max(age, 0):.0f} s ago: {wait}"
        )

    def _measure_age(self, path: Path) -> float:
        """Return the seconds since the last renewal, by the file system's clock, which all hosts
        share.
        """
        os.utime(self._fd)
        age = os.fstat(self._fd).st_mtime - path.stat().st_mtime
        if age < -RENEWED:
            # That clock was set back: a live holder renews the file, a dead one has 60 s from now.
            with contextlib.suppress(OSError):
                os.utime(path)
            return 0.0
        return age

    @staticmethod
    def _make_key(path: Path) -> str:
        holder, found = Holder.read(epath.Path(path)), path.stat()
        return f"{found.st_ino:x}-{found.st_ctime_ns:x}" if holder is None else holder.token

    def is_held(self, mine: Holder) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._fd))
        except FileNotFoundError:  # the file was deleted, but that does not mean another holder
            return self._put_back(mine)

    def _put_back(self, mine: Holder) -> bool:
        """Restore the removed file; return False if another process has written one, or the folder
        is gone.
        """
        other = _File(epath.Path(self._path))
        try:
            other.take(mine)
        except (UserError, FileNotFoundError):
            return False
        os.close(self._fd)
        self._fd = other._fd
        return True

    def renew(self, mine: Holder) -> None:
        os.utime(self._fd)

    def release(self, mine: Holder) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(self._path.stat(), os.fstat(self._fd)):
                    self._path.unlink()
        finally:
            os.close(self._fd)

    def _clear(self) -> None:
        """Remove temporary files left by killed processes."""
        for path in self._path.parent.glob(f"{NAME}.*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > 10 * STALE:
                    path.unlink()


class _Object:
    """A lease in a bucket, which has no links or locks: a process holds it if it reads back what it
    wrote a moment before.
    """

    def __init__(self, path: epath.Path) -> None:
        self._path = path
        self._seen = 0.0  # time of the last check, which takes a request

    def take(self, mine: Holder) -> None:
        holder, age = self._read()
        if holder is not None and not (age >= STALE if holder.dead is None else holder.dead):
            wait = f"if it is dead, try again in {STALE - age:.0f} s"
            raise _lease_error(
                self._path, f"is being trained by {holder}, seen {max(age, 0):.0f} s ago: {wait}"
            )
        self.renew(mine)
        time.sleep(SETTLED)
        holder, _ = self._read()
        if holder != mine:
            raise _lease_error(
                self._path, f"is being trained by {holder or 'another process'}: wait for its end"
            )

    def _read(self) -> tuple[Holder | None, float]:
        try:
            lines = self._path.read_bytes().splitlines()
            return Holder.parse(lines[0]), time.time() - float(lines[1])
        except (FileNotFoundError, ValueError, IndexError):
            return None, 0.0

    def is_held(self, mine: Holder) -> bool:
        if time.monotonic() - self._seen < RENEWED / 2:
            return True
        self._seen = time.monotonic()
        return self._read()[0] in (mine, None)

    def renew(self, mine: Holder) -> None:
        content = f"{json.dumps(dataclasses.asdict(mine))}\n{time.time()}\n"
        self._path.write_text(content, encoding="utf-8")

    def release(self, mine: Holder) -> None:
        if self._read()[0] == mine:
            self._path.unlink(missing_ok=True)


def _lease_error(path: Path | epath.Path, why: str) -> UserError:
    return UserError(f"{path.parent} {why}", str(path))


def _link(part: Path, path: Path) -> bool:
    """Give a file a second name; return False if that name is taken."""
    try:
        os.link(part, path)
        return True
    except FileExistsError:
        return False
    # Without links: the first process to create the file has it, and moves the complete one there.
    except OSError:
        if not part.exists() or not path.parent.exists():
            raise
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            return False
        part.replace(path)
        return True


def _lock(fd: int) -> bool | None:
    """Lock an open file; return False if another process has locked it, None if files cannot be
    locked.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def _lockable(path: Path) -> bool | None:
    fd = os.open(path, os.O_RDWR)
    try:
        return _lock(fd)
    finally:
        os.close(fd)


def _read_start_time(pid: int) -> str | None:
    """Return the start time of a process; "" if it has ended, None if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return socket.gethostname()


def _pids() -> str:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""
