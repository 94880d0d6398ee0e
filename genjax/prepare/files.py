"""The raw files of a preparation: found by patterns and opened, here or behind any URL that fsspec knows."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from genjax.errors import UserError

BLOCK = 2**20  # bytes hashed at once


@dataclass(frozen=True)
class Files:
    """Raw files in a fixed order.

    Attributes:
      root: the folder that names leave out of the paths: a path, or a URL such as s3://bucket/folder.
      paths: of the files, as their file system calls them.
    """

    root: str
    paths: tuple[str, ...]

    @classmethod
    def found(cls, root: str | None, patterns: tuple[str, ...]) -> Files:
        """
        Args:
          root: a folder or URL; None takes that of $GENJAX_DATA.
          patterns: of files below it, such as "books/*.txt.gz" or "**/*.png".

        Raises:
          UserError: no root, or a pattern that no file fits.
        """
        root = root or os.environ.get("GENJAX_DATA")
        if not root:
            raise UserError("name the folder of the raw files as root, or set GENJAX_DATA")
        root = os.path.expanduser(root)
        system, base = _system(root)
        paths: list[str] = []
        for pattern in patterns:
            fitting = sorted(path for path in system.glob(f"{base}/{pattern}") if not system.isdir(path))
            if not fitting:
                raise UserError(f"no file of {root} fits {pattern!r}")
            paths += fitting
        return cls(root, tuple(dict.fromkeys(paths)))

    def name(self, path: str) -> str:
        """A path below the root, as records and messages name it."""
        base = _system(self.root)[1]
        return PurePosixPath(path).relative_to(base).as_posix() if path.startswith(f"{base}/") else path

    def open(self, path: str) -> BinaryIO:
        """A file to read bytes from; ".gz", ".bz2", ".xz" and ".zst" are unpacked as they are read."""
        import fsspec

        system = _system(self.root)[0]
        return fsspec.core.OpenFile(system, path, "rb", fsspec.core.get_compression(path, "infer")).open()

    def digest(self, path: str) -> str:
        """A hash of the contents of a local file; of a remote one what its system tells of it (size, version, time)."""
        system = _system(self.root)[0]
        if "file" not in system.protocol:
            return str(system.ukey(path))
        found = hashlib.sha256()
        try:
            with open(path, "rb") as file:
                while block := file.read(BLOCK):
                    found.update(block)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        return found.hexdigest()


def _system(root: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    import fsspec

    try:
        system, base = fsspec.core.url_to_fs(root)
    except (ValueError, ImportError) as error:
        raise UserError(f"{root} cannot be opened: {error}") from error
    return system, base.rstrip("/")
