"""Decide which code may run when a file of a run names it.

genjax's own components always may. All other code needs the user's consent: ``--trust``,
``genjax.load(run_dir, trust=True)``, or having trained with the same code on this machine before.
The latter is recorded in a folder outside of all runs, with one file per entry: many processes can
write there at once, and removing a file withdraws the trust.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

from genjax.errors import UserError

Trust = bool | Sequence[str]  # everything that a run names, nothing, or modules by name

_GIVEN: ContextVar[Trust] = ContextVar("trust", default=False)
_HERE: set[str] = set()  # code given to this process by its user, as files may not be writable


class Untrusted(UserError):
    """A file of a run names code that the user has not allowed."""


@contextlib.contextmanager
def allow(trust: Trust) -> Iterator[None]:
    """Allow ``trust`` until the end of the block, in addition to what is already allowed."""
    before = _GIVEN.get()
    both: Trust = before is True or trust is True or (*_names(before), *_names(trust))
    token = _GIVEN.set(both)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def write_given() -> list[str]:
    """Return the words of a command line that allow as much as is allowed here."""
    given = _GIVEN.get()
    names = ",".join(_names(given))
    return ["--trust"] if given is True else [f"--trust={names}"] if names else []


def is_named_by_user(module: str) -> bool:
    """Return whether the user has allowed this module by name, or everything."""
    given = _GIVEN.get()
    return given is True or module in _names(given)


def file_entry(content: bytes) -> str:
    """Return the entry of a config file, which depends on its content, not its path."""
    return f"config.py {hashlib.sha256(content).hexdigest()}"


def name_entry(name: str) -> str:
    """Return the entry of a class or function ``module:Name``."""
    return f"name {name}"


def is_known(entry: str) -> bool:
    """Return whether this user has trained with that code, in this process or before."""
    if entry in _HERE:
        return True
    try:
        return (_folder() / _file(entry)).read_text(encoding="utf-8").strip() == entry
    except (OSError, ValueError):
        return False


def allow_here(entries: Iterable[str]) -> None:
    """Allow code that the user has given to this process, until the process ends."""
    _HERE.update(entries)


def remember(entries: Iterable[str], quietly: bool = False) -> None:
    """Allow code that the user trains with, now and later.

    If that cannot be recorded, one line on stderr says so, unless ``quietly``.
    """
    new = [entry for entry in dict.fromkeys(entries) if not is_known(entry) or entry in _HERE]
    _HERE.update(new)
    try:
        for entry in new:
            folder = _folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / _file(entry)
            if path.exists():
                continue
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            part.write_text(f"{entry}\n", encoding="utf-8")
            part.replace(path)
    except OSError as error:
        if quietly:
            return
        print(
            f"this run will need --trust later: its code cannot be recorded ({error})",
            file=sys.stderr,
            flush=True,
        )


@contextlib.contextmanager
def exclude_current_folder() -> Iterator[None]:
    """Import nothing from the current folder, which may be untrusted, until the end of the
    block.
    """
    before = list(sys.path)
    here = os.path.realpath(os.curdir)
    sys.path[:] = [path for path in before if path and os.path.realpath(path) != here]
    try:
        yield
    finally:
        sys.path[:] = before


def _names(trust: Trust) -> tuple[str, ...]:
    return () if isinstance(trust, bool) else tuple(trust)


def _folder() -> Path:
    """Return the folder of the entries, under $XDG_STATE_HOME or ~/.local/state.

    Raises:
      OSError: this user has no home.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        # The standard says to ignore a relative path, which would be in the current folder.
        state = os.path.expanduser("~/.local/state")
    if not os.path.isabs(state):
        raise OSError("there is no home folder")
    return Path(state) / "genjax" / "trusted"


def _file(entry: str) -> str:
    return hashlib.sha256(entry.encode()).hexdigest()
