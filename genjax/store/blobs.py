"""Store bytes by their hash, in any folder or bucket that fsspec opens."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec

from genjax.errors import UserError

PART = 2**20  # bytes read at once
STEM = 2  # characters of a hash that name its folder


@dataclass(frozen=True)
class Blobs:
    """The blobs below a URL.

    Attributes:
      url: a path, or a URL of fsspec.
    """

    url: str

    def write(self, content: bytes) -> str:
        """Store bytes, only once if they are written repeatedly; return their hash.

        Raises:
          UserError: they cannot be written.
        """
        digest = hashlib.sha256(content).hexdigest()
        files, path = self._place(digest)
        part = f"{path}.{secrets.token_hex(4)}.new"
        try:
            if files.exists(path) and files.size(path) == len(content):
                return digest
            files.makedirs(os.path.dirname(path), exist_ok=True)
            files.pipe_file(part, content)
            files.mv(part, path)
        except OSError as error:
            why = error.strerror or str(error)
            raise UserError(f"blobs {self.url} cannot be written: {why}", "blobs") from error
        return digest

    def read(self, digest: str) -> bytes:
        """Return the bytes with a hash.

        Raises:
          UserError: they are missing or damaged.
        """
        files, path = self._place(digest)
        try:
            content = bytes(files.cat_file(path))
        except OSError:
            raise UserError(f"blobs {self.url} lack {digest}", "blobs") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise UserError(f"blobs {self.url}: {digest} is damaged", "blobs")
        return content

    def remove(self, digest: str) -> None:
        """Remove bytes, if they exist."""
        files, path = self._place(digest)
        if files.exists(path):
            files.rm_file(path)

    def has(self, digest: str, size: int | None = None) -> bool:
        """Return whether bytes with a hash exist, with the given size if there is one."""
        files, path = self._place(digest)
        return bool(files.exists(path)) and size in (None, files.size(path))

    def is_whole(self, digest: str) -> bool:
        """Return whether bytes with a hash exist and are intact; they are read in parts.

        Raises:
          UserError: they cannot be read.
        """
        files, path = self._place(digest)
        hashed = hashlib.sha256()
        try:
            if not files.exists(path):
                return False
            with files.open(path, "rb") as file:
                while part := file.read(PART):
                    hashed.update(part)
        except OSError as error:
            why = error.strerror or str(error)
            raise UserError(f"blobs {self.url} cannot be read: {why}", "blobs") from error
        return hashed.hexdigest() == digest

    def list(self) -> Iterator[str]:
        """Yield the names of all files: hashes, and remains of killed writers."""
        files, root = self._open()
        if files.exists(root):
            for path in sorted(files.find(root)):
                yield os.path.basename(path)

    def remove_file(self, name: str) -> None:
        """Remove a file by its name."""
        files, root = self._open()
        files.rm_file(f"{root}/{name[:STEM]}/{name}")

    def _place(self, digest: str) -> tuple[Any, str]:
        files, root = self._open()
        return files, f"{root}/{digest[:STEM]}/{digest}"

    def _open(self) -> tuple[Any, str]:
        try:
            files, root = fsspec.core.url_to_fs(os.path.expanduser(self.url))
        except ImportError as error:
            raise UserError(f"blobs {self.url}: {error}", "blobs") from None
        except ValueError:
            scheme = self.url.partition("://")[0]
            raise UserError(f"blobs: {scheme}:// is not known to fsspec", "blobs") from None
        return files, root.rstrip("/")
