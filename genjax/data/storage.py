"""Folders of shared data and caches, and fingerprints of files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from genjax.data.splits import digest

WHOLE = 2**30  # bytes of a set whose fingerprint hashes every byte
END = 2**16  # bytes hashed at each end of every file of a larger set
BLOCK = 2**18  # bytes hashed at once


def data_folder(part: str, root: str | None) -> str | None:
    """Return ``root``, or the folder ``part`` of $GENJAX_DATA if it is None; None without
    either.
    """
    if root is not None:
        return os.path.expanduser(root)
    home = os.environ.get("GENJAX_DATA")
    return os.path.join(os.path.expanduser(home), part) if home else None


def find_folder(root: str) -> Path:
    """Return the folder, or if it does not exist, the one below $GENJAX_DATA."""
    here, data = Path(root).expanduser(), os.environ.get("GENJAX_DATA")
    there = Path(data).expanduser() / root if data and not here.is_absolute() else here
    return there if there.is_dir() and not here.exists() else here


def cache_folder(cache: str | None = None) -> Path:
    """Return ``cache``, or ~/.cache/genjax ($XDG_CACHE_HOME/genjax) if it is None."""
    if cache is not None:
        return Path(cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genjax"


def files_fingerprint(paths: Iterable[Path]) -> str:
    """Return a hash of files: of all their bytes, or for a large set of names, sizes and ends.

    Raises:
      OSError: a file is missing or cannot be read.
    """
    paths = list(paths)
    whole = sum(path.stat().st_size for path in paths) <= WHOLE
    return digest(part for path in paths for part in _read_for_hash(path, whole))


def _read_for_hash(path: Path, whole: bool) -> Iterable[bytes]:
    yield os.fsencode(path.name)
    with path.open("rb") as file:
        if whole:
            while block := file.read(BLOCK):
                yield block
        else:
            size = path.stat().st_size
            yield str(size).encode()
            yield file.read(END)
            file.seek(max(size - END, 0))
            yield file.read(END)
