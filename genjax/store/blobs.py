"""Store bytes by their hash, in any folder or bucket that fsspec opens."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec

from genjax.errors import UserError

PART = 2**20  # bytes read at once
STEM = 2  # characters of a hash that name its folder
DIGEST = re.compile(r"[0-9a-f]{64}")
SECRET = re.compile(r"(?<=://)[^/@]*@")  # a name and password in a URL
S3 = ("s3://", "s3a://")
BUCKETS = (*S3, "gs://", "gcs://", "abfs://", "abfss://", "az://", "oci://")  # without folders
# What a bucket's driver waits for: its own defaults are minutes.
BUCKET: Mapping[str, Any] = {
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2}}
}


@dataclass(frozen=True)
class Blobs:
    """The blobs below a URL.

    Attributes:
      url: a path, or a URL of fsspec.
    """

    url: str

    @property
    def place(self) -> str:
        """The URL without a password, for messages."""
        return SECRET.sub("***@", self.url)

    def write(self, content: bytes) -> str:
        """Store bytes, only once if they are written repeatedly; return their hash.

        Raises:
          UserError: they cannot be written.
        """
        digest = hashlib.sha256(content).hexdigest()
        files, path = self._place(digest)
        part = f"{path}.{secrets.token_hex(4)}.new"
        with self._explain("written"):
            if files.exists(path) and files.size(path) == len(content):
                return digest
            if not self.url.startswith(BUCKETS):  # there this would make the bucket itself
                files.makedirs(os.path.dirname(path), exist_ok=True)
            files.pipe_file(part, content)
            files.mv(part, path)
        return digest

    def read(self, digest: str) -> bytes:
        """Return the bytes with a hash.

        Raises:
          UserError: they are missing or damaged, or cannot be read.
        """
        files, path = self._place(digest)
        with self._explain("read"):
            try:
                content = bytes(files.cat_file(path))
            except FileNotFoundError:
                raise UserError(f"blobs {self.place} lack {digest}", "blobs") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise UserError(f"blobs {self.place}: {digest} is damaged", "blobs")
        return content

    def remove(self, digest: str) -> None:
        """Remove bytes, if they exist."""
        files, path = self._place(digest)
        with self._explain("removed"):
            if files.exists(path):
                files.rm_file(path)

    def has(self, digest: str, size: int | None = None) -> bool:
        """Return whether bytes with a hash exist, with the given size if there is one."""
        files, path = self._place(digest)
        with self._explain("read"):
            return bool(files.exists(path)) and size in (None, files.size(path))

    def is_whole(self, digest: str) -> bool:
        """Return whether bytes with a hash exist and are intact; they are read in parts.

        Raises:
          UserError: they cannot be read.
        """
        files, path = self._place(digest)
        hashed = hashlib.sha256()
        with self._explain("read"):
            if not files.exists(path):
                return False
            with files.open(path, "rb") as file:
                while part := file.read(PART):
                    hashed.update(part)
        return hashed.hexdigest() == digest

    def list(self) -> Iterator[str]:
        """Yield the names of all files: hashes, and remains of killed writers."""
        files, root = self._open()
        with self._explain("listed"):
            found = sorted(files.find(root)) if files.exists(root) else []
        for path in found:
            yield os.path.basename(path)

    def remove_file(self, name: str) -> None:
        """Remove a file by its name."""
        files, root = self._open()
        with self._explain("removed"), contextlib.suppress(FileNotFoundError):
            files.rm_file(f"{root}/{name[:STEM]}/{os.path.basename(name)}")

    def _place(self, digest: str) -> tuple[Any, str]:
        """Return the file system and the path of bytes.

        Raises:
          UserError: the name is not a hash, and could lead elsewhere.
        """
        if DIGEST.fullmatch(digest) is None:
            raise UserError(
                f"payload.blob must be a SHA-256 in hexadecimal, got {digest!r:.80}", "payload.blob"
            )
        files, root = self._open()
        return files, f"{root}/{digest[:STEM]}/{digest}"

    def _open(self) -> tuple[Any, str]:
        url = os.path.expanduser(self.url)
        # What others write to a bucket is seen: no listing is kept.
        options = BUCKET if url.startswith(S3) else {}
        try:
            files, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        except ImportError as error:
            raise UserError(f"blobs {self.place}: {error}", "blobs") from None
        except ValueError:
            scheme = self.url.partition("://")[0]
            raise UserError(f"blobs: {scheme}:// is not known to fsspec", "blobs") from None
        return files, root.rstrip("/")

    @contextlib.contextmanager
    def _explain(self, act: str) -> Iterator[None]:
        """Turn errors of files, buckets and their drivers into one line.

        Raises:
          UserError: bytes cannot be read or written; the field is "blobs".
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each driver has errors of its own
            said = getattr(error, "strerror", None) or str(error) or error.__class__.__name__
            why = SECRET.sub("***@", " ".join(said.split()))[:200]
            raise UserError(f"blobs {self.place} cannot be {act}: {why}", "blobs") from error
