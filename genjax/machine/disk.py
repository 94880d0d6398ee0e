"""Writes files whole or not at all, and names the disk that is full."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from etils import epath

from genjax.errors import UserError

PathType = TypeVar("PathType", Path, epath.Path)

PART = ".new"  # ends the name of a file that is being written
FULL = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file is larger than the limit (ulimit -f)",
}
# Libraries keep the words of the system, or its number, in messages of their own; numpy counts what
# it wrote.
WORDS = {
    errno.ENOSPC: r"no space left on device|\bos error 28\b|\b\d+ requested and \d+ written",
    errno.EDQUOT: r"disk quota exceeded|\bos error 122\b",
    errno.EFBIG: r"file too large|\bos error 27\b",
}
PATH = re.compile(r"(?:^|[\s'\"(\[=:])(/[^\s'\"()\[\],;:]+)")
SPARE = 2**20  # bytes; a disk with less is full


@contextlib.contextmanager
def write_atomically(path: PathType) -> Iterator[PathType]:
    """Give a name to write to that becomes ``path`` at the end: after a crash there is the old file
    or the new one.

    What was written is removed if the writing fails.
    """
    part = path.with_name(f".{secrets.token_hex(4)}{PART}")
    try:
        yield part
        part.replace(path)
    except IsADirectoryError:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{path} must be a file, but is a folder: move it away, and repeat", str(path)
        ) from None
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if (
            isinstance(error, OSError)
            and error.filename in (None, os.fspath(part))
            and error.errno is not None
        ):
            error.filename = os.fspath(
                path
            )  # a name that the user knows, on the disk that may have room again
        raise


def write(path: PathType, content: str | bytes) -> PathType:
    """Write text (UTF-8) or bytes as a whole file, or not at all; returns its path.

    What is not a character, as in the name of a file that is not UTF-8, is written as its escape.
    """
    with write_atomically(path) as part:
        encoded = (
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )
        part.write_bytes(encoded)
    return path


@contextlib.contextmanager
def explain_full_disk(kept: str, *places: str | Path | epath.Path) -> Iterator[None]:
    """Turn the error of a full disk into one clear line, however deep in a library it was noticed.

    Args:
      kept: what is left and what to do, the end of the line.
      places: that are written to, asked in this order where the error names no path.

    Raises:
      UserError: a disk is full, or a quota or the largest size of a file is reached.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = full_disk_errno(error)
        if number is None:
            raise
        raise refusal(_find_failed_path(error, places), kept, number) from error


def closed(error: OSError) -> bool:
    """Whether an error says that nothing may be written there: a read-only disk, or a folder
    of someone else.
    """
    return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


def refusal(place: Path, kept: str, number: int = errno.ENOSPC) -> UserError:
    """The error for a full disk: the one of ``place``, with what is left and what to do."""
    return UserError(f"{FULL[number]} on the disk {_mount(place)} (of {place}); {kept}", str(place))


def full_disk_errno(error: BaseException) -> int | None:
    """The ``errno`` of a full disk that an error, or one behind it, represents; None for other
    errors.
    """
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in FULL:
            return one.errno
    for one in _chain(error):
        for number, words in WORDS.items():
            if re.search(words, str(one), re.IGNORECASE):
                return number
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _find_failed_path(error: BaseException, places: tuple[str | Path | epath.Path, ...]) -> Path:
    """The path that could not be written: one on a disk without room, of those that the error
    or the caller names.
    """
    named: list[str] = []
    for one in _chain(error):
        if isinstance(one, OSError):
            named += [
                os.fsdecode(name)
                for name in (one.filename2, one.filename)
                if isinstance(name, str | bytes)
            ]
        named += PATH.findall(str(one))
    local = [os.fspath(place) for place in places if "://" not in os.fspath(place)]
    found = [Path(name).expanduser() for name in (*named, *local, tempfile.gettempdir())]
    return next((path for path in found if crowded(path)), found[0])


def crowded(path: Path) -> bool:
    """Whether the disk of a path has next to no room for bytes or for files."""
    try:
        room = shutil.disk_usage(_nearest_existing(path)).free
        files = os.statvfs(_nearest_existing(path)) if hasattr(os, "statvfs") else None
    except OSError:
        return False
    return room < SPARE or (files is not None and files.f_files > 0 and files.f_favail == 0)


def _nearest_existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next((one for one in (path, *path.parents) if one.exists()), path)


def _mount(path: Path) -> Path:
    """The mount point of the disk of a path."""
    there = _nearest_existing(path).resolve()
    return next((one for one in (there, *there.parents) if one.is_mount()), there)
