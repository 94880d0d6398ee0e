"""Encrypt blobs in chunks by AES-GCM, so that they are never in memory as a whole twice.

A file begins with ``GXB1``, the id of its key, a random salt and the number of plain bytes. Its key
is derived from the store's and the salt. The nonce of a chunk is its number and whether it is the
last (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015), and each chunk
authenticates the header and the name of the file: what is cut, reordered, or taken from another
file is found.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from genjax.errors import UserError
from genjax.store.privacy.guard import Guard
from genjax.store.privacy.keys import VARIABLE, Key, derive

MAGIC = b"GXB1"
SALT = 16
HEADER = len(MAGIC) + 8 + SALT + 8  # bytes before the chunks
CHUNK = 2**20  # plain bytes of a chunk
TAG = 16  # bytes that each chunk is longer when it is encrypted


class Damaged(UserError):
    """An encrypted file is damaged."""


@dataclass(frozen=True)
class Sealer:
    """Encrypts the blobs of a store.

    Attributes:
      guard: keys of the store.
    """

    guard: Guard = field(repr=False)

    def name(self, digest: str) -> str:
        """Return the name of the file of a blob, which does not tell the hash of its bytes."""
        return hmac.digest(self.guard.names, digest.encode(), "sha256").hex()

    def seal(self, name: str, content: bytes) -> Iterator[bytes]:
        """Yield the parts of an encrypted file."""
        return seal_chunks(self.guard.key, name, content)

    def open(self, name: str, file: IO[bytes]) -> Iterator[bytes]:
        """Yield the plain parts of a file, each after it is authenticated.

        Raises:
          UserError: the file is damaged, or its key is missing.
        """
        header = file.read(HEADER)
        found = read_key_id(header)
        if found is None:
            raise _refuse(name)
        key = self.guard.find_key(found)
        if key is None:
            raise UserError(f"blobs: {name} needs key {found}, which {VARIABLE} lacks", "blobs")
        yield from _open_chunks(key, name, header, file)


def find_size(size: int) -> int:
    """Return the size of an encrypted file from that of its content."""
    return HEADER + size + TAG * max(1, -(-size // CHUNK))


def read_key_id(header: bytes) -> str | None:
    """Return the id of the key that a file begins with; None if it is not encrypted."""
    if len(header) < HEADER or not header.startswith(MAGIC):
        return None
    return header[len(MAGIC) : len(MAGIC) + 8].decode("ascii", "replace")


def seal_chunks(key: Key, name: str, content: bytes) -> Iterator[bytes]:
    """Yield the header and the encrypted chunks of a file."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt = os.urandom(SALT)
    header = MAGIC + key.id.encode() + salt + len(content).to_bytes(8)
    cipher = AESGCM(derive(key.blobs, "blob", salt=salt))
    yield header
    view, count = memoryview(content), max(1, -(-len(content) // CHUNK))
    for number in range(count):
        part = bytes(view[number * CHUNK : (number + 1) * CHUNK])
        yield cipher.encrypt(_make_nonce(number, number == count - 1), part, header + name.encode())


def _open_chunks(key: Key, name: str, header: bytes, file: IO[bytes]) -> Iterator[bytes]:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt = header[len(MAGIC) + 8 : -8]
    cipher = AESGCM(derive(key.blobs, "blob", salt=salt))
    size, number = int.from_bytes(header[-8:]), 0
    part = file.read(CHUNK + TAG)
    while True:
        after = file.read(CHUNK + TAG)
        try:
            plain = cipher.decrypt(_make_nonce(number, not after), part, header + name.encode())
        except (InvalidTag, ValueError):
            raise _refuse(name) from None
        size -= len(plain)
        yield plain
        if not after:
            break
        part, number = after, number + 1
    if size:
        raise _refuse(name)


def _make_nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11) + bytes([last])


def _refuse(name: str) -> Damaged:
    return Damaged(f"blobs: the encrypted file {name} is damaged", "blobs")
