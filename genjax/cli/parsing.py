"""Apply the options of a command line, and explain mistakes in one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tyro

from genjax.errors import UserError


def parse(default: Any, command: str, arguments: Sequence[str]) -> Any:
    """Return ``default`` with the options of a command line applied.

    Options change fields, never the type of a component.

    Raises:
      UserError: an option is unknown, or its value is invalid; the message is one line.
    """
    with explain_options():
        return tyro.cli(
            type(default),
            default=default,
            args=list(arguments),
            prog=f"genjax {command}",
            config=(tyro.conf.AvoidSubcommands,),
        )


@contextlib.contextmanager
def explain_options() -> Iterator[None]:
    """Turn what tyro prints about a mistake into one line.

    Raises:
      UserError: an option is unknown, or its value is invalid; the field is "options".
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(_join_lines(said.getvalue()), "options") from None


@contextlib.contextmanager
def explain_store() -> Iterator[None]:
    """Say which extra to install if a package of the store is missing.

    Raises:
      UserError: a package is missing; the field is "store".
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("genjax"):
            raise
        cure = "pip install 'genjax-train[store]'"
        raise UserError(f"store: the package {error.name} is missing: {cure}", "store") from None


def _join_lines(box: str) -> str:
    """Shorten a box of lines to one line: its first part, and the suggested option."""
    rule = re.compile(r"[─━-]{8,}")
    lines = [re.sub(r"^[│┃╭╰\s]+|[│┃╮╯\s]+$", "", line) for line in box.splitlines()]
    parts: list[list[str]] = [[]]
    kept = lines[1:] if len(lines) > 1 else lines
    for line in kept:
        if rule.search(line):
            parts.append([])
        elif line:
            parts[-1].append(line)
    whole = [part for part in parts if part] or [lines]
    first = " ".join(whole[0])
    meant = next((part[1] for part in whole[1:] if part[0].startswith("Perhaps")), None)
    return first if meant is None else f"{first}; did you mean {meant.split()[0]}?"
