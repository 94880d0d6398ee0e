"""Write files atomically, and explain which disk is full."""

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

PART = ".new"  # suffix of a file that is being written
FULL = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file is larger than the limit (ulimit -f)",
}
# Libraries repeat the system's words or error number in their own messages; numpy counts what it
# wrote.
WORDS = {
    errno.ENOSPC: r"no space left on device|\bos error 28\b|\b\d+ requested and \d+ written",
    errno.EDQUOT: r"disk quota exceeded|\bos error 122\b",
    errno.EFBIG: r"file too large|\bos error 27\b",
}
PATH = re.compile(r"(?:^|[\s'\"(\[=:])(/[^\s'\"()\[\],;:]+)")
SPARE = 2**20  # a disk with fewer free bytes is full


@contextlib.contextmanager
def write_atomically(path: PathType) -> Iterator[PathType]:
    """Provide a temporary path that is renamed to ``path`` at the end: after a crash there is the
    old file or the new one.

    The temporary file is removed if writing fails.
    """
    part = path.with_name(f".{secrets.token_hex(4)}{PART}")
    try:
        yield part
        part.replace(path)
    except IsADirectoryError:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{path} must be a file, but is a folder: move it away, and try again", str(path)
        ) from None
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if (
            isinstance(error, OSError)
            and error.filename in (None, os.fspath(part))
            and error.errno is not None
        ):
            # Report a path that the user knows; the disk may have room again.
            error.filename = os.fspath(path)
        raise


def write(path: PathType, content: str | bytes) -> PathType:
    """Write text (UTF-8) or bytes to a file atomically; return its path.

    Characters that UTF-8 cannot encode, as in file names that are not UTF-8, are escaped.
    """
    with write_atomically(path) as part:
        encoded = (
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )
        part.write_bytes(encoded)
    return path


@contextlib.contextmanager
def explain_full_disk(kept: str, *places: str | Path | epath.Path) -> Iterator[None]:
    """Turn the error of a full disk into one clear line, however deep in a library it occurred.

    Args:
      kept: end of the message: what is left, and what to do.
      places: paths that are written to, checked in this order if the error names no path.

    Raises:
      UserError: a disk is full, or a quota or the largest file size is reached.
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
    """Return whether an error means that writing is not permitted: a read-only disk, or another
    user's folder.
    """
    return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


def refusal(place: Path, kept: str, number: int = errno.ENOSPC) -> UserError:
    """Return the error for the full disk of ``place``; ``kept`` says what is left and what to
    do.
    """
    return UserError(f"{FULL[number]} on the disk {_mount(place)} (of {place}); {kept}", str(place))


def full_disk_errno(error: BaseException) -> int | None:
    """Return the ``errno`` of a full disk if an error, or one that caused it, is one; else None."""
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
    """Return the path that could not be written: one named by the error or the caller, on a full
    disk.
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
    """Return whether the disk of a path has almost no room for bytes or for files."""
    try:
        room = shutil.disk_usage(_nearest_existing(path)).free
        files = os.statvfs(_nearest_existing(path)) if hasattr(os, "statvfs") else None
    except OSError:
        return False
    return room < SPARE or (files is not None and files.f_files > 0 and files.f_favail == 0)


def _nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next((one for one in (path, *path.parents) if one.exists()), path)


def _mount(path: Path) -> Path:
    """Return the mount point of the disk of a path."""
    there = _nearest_existing(path).resolve()
    return next((one for one in (there, *there.parents) if one.is_mount()), there)
