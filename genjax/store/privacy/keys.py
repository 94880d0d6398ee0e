"""Read the keys of encrypted stores from the environment, a closed file or a key service.

The variable ``GENJAX_STORE_KEY`` holds keys, newest first, or says where they are: ``file:PATH``
or ``hook:module:function``. A key is 32 random bytes in URL-safe base64. What a store needs is
derived from it (HKDF, RFC 5869), so that no two uses share a key. Keys are in no repr and in no
message: messages name keys by their id.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genjax.errors import UserError
from genjax.machine import disk

VARIABLE = "GENJAX_STORE_KEY"
FILE, HOOK = "file:", "hook:"
SIZE = 32  # bytes of a key
LARGEST = 100_000  # bytes of a key file
OTHERS = 0o077  # permissions of everybody but the owner
CURE = "genjax store key FILE writes a new one"


@dataclass(frozen=True)
class Key:
    """A key, and what is derived from it.

    Attributes:
      id: short keyed check value, which tells keys apart and nothing about them.
      fields: key of MultiFernet's part, bytes [32] in URL-safe base64.
      blobs: key of blobs, bytes [32].
    """

    id: str
    fields: bytes = field(repr=False)
    blobs: bytes = field(repr=False)


def derive(secret: bytes, use: str, size: int = SIZE, salt: bytes = b"") -> bytes:
    """Derive the bytes for one use from a secret."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), size, salt or None, f"genjax {use}".encode()).derive(secret)


def make_key() -> str:
    """Return a new random key."""
    return base64.urlsafe_b64encode(os.urandom(SIZE)).decode()


def read_keys() -> tuple[Key, ...]:
    """Read the keys, newest first; files and services are read again with each call.

    Raises:
      UserError: there are none, one is invalid or given twice, the file is open to others, or the
        key service fails.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        raise UserError(
            f"key must be given in {VARIABLE}: keys, file:PATH or hook:module:function ({CURE})",
            "key",
        )
    if given.startswith(FILE):
        words = _read_file(given.removeprefix(FILE))
    elif given.startswith(HOOK):
        words = _ask_service(given.removeprefix(HOOK))
    else:
        words = _split(given)
    keys = tuple(_parse(word, number) for number, word in enumerate(words, 1))
    if not keys:
        raise UserError(f"key must be in the place that {VARIABLE} names, which is empty", "key")
    if len({key.id for key in keys}) < len(keys):
        raise UserError(f"key must be given once, but {VARIABLE} has one twice", "key")
    return keys


def write_key(path: str | Path) -> str:
    """Put a new key first in a file that only its owner can read, and return the key's id.

    Raises:
      UserError: the file is open to others, holds something else or cannot be written.
    """
    place = Path(path).expanduser()
    before = _read_file(str(place)) if place.exists() else []
    for number, word in enumerate(before, 1):
        _parse(word, number)
    key = make_key()
    part = place.with_name(f".{place.name}{disk.PART}")
    try:
        part.unlink(missing_ok=True)
        opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "w", encoding="ascii") as file:
            file.write("\n".join([key, *before]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)
    except OSError as error:
        raise UserError(f"key file {place} cannot be written: {error.strerror}", "key") from None
    return _parse(key, 1).id


def _read_file(path: str) -> list[str]:
    place = Path(path).expanduser()
    try:
        opened = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(opened, "rb") as file:
            known = os.fstat(file.fileno())
            if not stat.S_ISREG(known.st_mode):
                raise UserError(f"key must be in a file, {place} is something else", "key")
            mode = stat.S_IMODE(known.st_mode)
            if mode & OTHERS:
                cure = f"chmod 600 {place}"
                raise UserError(
                    f"key file {place} is open to others (mode {mode:o}): {cure}", "key"
                )
            content = file.read(LARGEST)
    except OSError as error:
        raise UserError(f"key file {place} cannot be read: {error.strerror}", "key") from None
    return _split(content.decode("ascii", "replace"))


def _ask_service(name: str) -> list[str]:
    """Return the keys that the user's function fetches: a text or bytes, or several."""
    from genjax.serial import stored, trust

    try:
        with trust.allow((name.partition(":")[0],)):  # the user has named it
            function: Any = stored.load_function(name)
        found = function()
        listed = [found] if isinstance(found, str | bytes) else list(found)
        words = [os.fsdecode(one) for one in listed]
    except UserError as error:
        raise UserError(f"key: {error}", "key") from None
    except Exception as error:  # its text may hold the key, so it is not repeated
        kind = type(error).__name__
        raise UserError(
            f"key: {name} failed with {kind}; call it alone to see why", "key"
        ) from None
    return [word for one in words for word in _split(one)]


def _split(text: str) -> list[str]:
    return re.split(r"[\s,]+", text.strip()) if text.strip() else []


def _parse(word: str, number: int) -> Key:
    try:
        secret = base64.b64decode(word.encode("ascii"), b"-_", validate=True)
    except (binascii.Error, ValueError):  # its message may repeat a part of the key
        secret = b""
    if len(secret) != SIZE or len(set(secret)) < 8:
        rule = f"{SIZE} random bytes in URL-safe base64"
        raise UserError(f"key {number} must be {rule}, which it is not ({CURE})", "key")
    found = hmac.digest(secret, b"genjax key id", "sha256").hex()[:8]
    fields = base64.urlsafe_b64encode(derive(secret, "fields"))
    return Key(found, fields, derive(secret, "blobs"))
