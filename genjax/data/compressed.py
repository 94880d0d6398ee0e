"""Limits on how far a compressed file may grow: a small one that unpacks to gigabytes is a mistake
or an attack.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

FREE = 64 * 2**20  # bytes that any file may unpack to
RATIO = 200  # how many times its size a larger file may unpack to; text rarely exceeds 20
UNKNOWN = 20 * 2**20  # assumed size of a remote file of unknown size


class GrowsTooMuch(OSError):
    """A file unpacks to more than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"it unpacks to more than {limit:,} bytes, more than {RATIO} times its size; "
            "if you trust it, unpack it yourself"
        )


def max_unpacked(size: int | None) -> int:
    """Return the bytes that a compressed file of ``size`` bytes may unpack to."""
    return max(FREE, RATIO * (UNKNOWN if size is None else size))


def limit_unpacked(file: Any, size: int | None) -> BinaryIO:
    """Return an open file that is unpacked as it is read, up to a limit.

    Args:
      file: the decompressing file object.
      size: size of the compressed file in bytes; None if unknown.

    Raises, as it is read:
      GrowsTooMuch: it unpacks to more than ``max_unpacked(size)``.
    """
    return cast(BinaryIO, io.BufferedReader(_Bounded(file, max_unpacked(size)), 2**18))


def open_gzip(path: Path) -> BinaryIO:
    """Open a local gzip file whose unpacked size is limited, see ``limit_unpacked``."""
    return limit_unpacked(gzip.open(path), path.stat().st_size)


def check_npz(path: Path) -> None:
    """Refuse a NumPy archive whose arrays exceed the limit, before any of them is allocated.

    Raises:
      GrowsTooMuch: the arrays are too large, or claim to be.
      ValueError, zipfile.BadZipFile: the file is not a NumPy archive.
    """
    limit, total = max_unpacked(path.stat().st_size), 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            total += member.file_size
            if total > limit:
                raise GrowsTooMuch(limit)
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, _, kind = read(file)
            count = 1
            for length in shape:
                count *= int(length)
            if count * kind.itemsize > member.file_size:
                raise ValueError(
                    f"{member.filename} claims to hold {count:,} values, more than its bytes can"
                )


def check_parquet(metadata: Any, size: int | None) -> None:
    """Refuse a Parquet file whose pages unpack to more than the limit.

    Args:
      metadata: the metadata of the file.
      size: size of the file in bytes; None if unknown.

    Raises:
      GrowsTooMuch: they do.
    """
    total = sum(
        metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)
    )
    if total > max_unpacked(size):
        raise GrowsTooMuch(max_unpacked(size))


class _Bounded(io.RawIOBase):
    def __init__(self, file: Any, limit: int) -> None:
        self._file, self._limit = file, limit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:
        # read1 still returns what a truncated file holds, before its end raises.
        content = self._file.read1(len(buffer))
        buffer[: len(content)] = content
        self._check()
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        found = int(self._file.seek(offset, whence))
        self._check()
        return found

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()

    def _check(self) -> None:
        if self._file.tell() > self._limit:
            raise GrowsTooMuch(self._limit)
