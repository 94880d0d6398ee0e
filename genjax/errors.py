"""Errors by the user's mistake: one clear line on stderr and exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix: a config, a path, a data set, a missing package, a full disk.

    Attributes:
      field: dotted name of the wrong option, or path of the file; None if there is no name. Tests
          match it, so that the wording can change.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownComponent(UserError):
    """A config names a component that does not exist."""


class Diverged(Exception):
    """Raised after several consecutive training steps that were not finite."""


class Signalled(SystemExit):
    """Ends the process with a signal's exit code; only the end of the process catches it."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown name, with the nearest known one."""
    known = sorted(known)
    small = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), small, n=1, cutoff=0.42)
    hint = f"did you mean {small[near[0]]!r}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}", kind)
