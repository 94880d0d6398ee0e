"""Write tokens to a folder step by step, so that a process that was killed can be continued."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from genjax.machine import disk

ARRAYS = ("tokens", "starts", "domain")
PROGRESS = "progress.json"
SAVED = 2**26  # characters after which progress is saved


@dataclass
class Counts:
    """What has been written.

    Attributes:
      pieces: pieces of text, the last of which may be empty.
      within: characters of the document that has not ended.
      characters: characters of the text.
      bytes: bytes of the text in UTF-8.
      unknown: tokens outside the vocabulary.
      domains: names of the domains.
    """

    pieces: int = 0
    within: int = 0
    characters: int = 0
    bytes: int = 0
    unknown: int = 0
    domains: list[str] = field(default_factory=list)


class TokenFolder:
    """Three arrays on disk that grow, and how far they have come.

    Attributes:
      counts: what has been written, or was when an earlier process saved it last.
    """

    def __init__(self, folder: Path, token: type[np.generic]) -> None:
        kinds: tuple[type[np.generic], ...] = token, np.int64, np.int32
        self._folder = folder
        self.counts, lengths = _read_progress(folder)
        self._arrays = {
            name: GrowingArray(folder / f"{name}.npy", np.dtype(kind), length)
            for name, kind, length in zip(ARRAYS, kinds, lengths, strict=True)
        }
        self._saved = self.counts.characters

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._arrays["tokens"])

    @property
    def documents(self) -> int:
        return len(self._arrays["domain"])

    def begin_document(self, domain: str) -> None:
        """Start a document of a domain at the next token."""
        if domain not in self.counts.domains:
            self.counts.domains.append(domain)
        self._arrays["starts"].append(np.array([len(self)]))
        self._arrays["domain"].append(np.array([self.counts.domains.index(domain)]))

    def append(self, tokens: np.ndarray) -> None:
        """Write tokens [N]."""
        self._arrays["tokens"].append(tokens)

    def save(self) -> None:
        """Save how far writing has come, if it has come much further."""
        if self.counts.characters - self._saved < SAVED:
            return
        for array in self._arrays.values():
            array.flush()
        lengths = {name: len(array) for name, array in self._arrays.items()}
        disk.write(self._folder / PROGRESS, json.dumps(vars(self.counts) | {"lengths": lengths}))
        self._saved = self.counts.characters

    def close(self) -> None:
        """Finish the arrays."""
        self._arrays["starts"].append(np.array([len(self)]))
        for array in self._arrays.values():
            array.finish()
        (self._folder / PROGRESS).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Close the files after an error; flushing them may fail, too."""
        for array in self._arrays.values():
            array.abandon()


def _read_progress(folder: Path) -> tuple[Counts, list[int]]:
    """Return what an earlier process has written and saved, and the lengths of the arrays."""
    try:
        stored = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        lengths = stored.pop("lengths")
        return Counts(**stored), [int(lengths[name]) for name in ARRAYS]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Counts(), [0, 0, 0]


class GrowingArray:
    """An .npy file [N] that is written sequentially; numpy's header leaves room for the final N.

    Args:
      path: path of the file.
      dtype: type of its numbers.
      length: how many of them an earlier process has written; what follows is cut off.
    """

    def __init__(self, path: Path, dtype: np.dtype, length: int = 0) -> None:
        self._dtype, self._count = dtype, length
        self._file: BinaryIO = path.open("r+b" if length else "wb")
        self._body = self._write_header()
        end = self._body + length * dtype.itemsize
        self._file.truncate(end)
        self._file.seek(end)

    def __len__(self) -> int:
        return self._count

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self._dtype).tobytes())
        self._count += len(values)

    def flush(self) -> None:
        """Bring everything to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Write the final length, and close the file."""
        self._file.seek(0)
        assert self._write_header() == self._body, "the header has grown into the array"
        self._file.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def _write_header(self) -> int:
        """Write the header and return its length."""
        shape: dict[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._count,),
        }
        np.lib.format.write_array_header_1_0(self._file, shape)
        return self._file.tell()


@contextlib.contextmanager
def hold_part(folder: Path) -> Iterator[Path]:
    """Provide the folder in which ``folder`` is written: one that an earlier process has left, if
    no other process is writing there. After an error of this process it is removed; a killed one
    leaves it.
    """
    part = folder.with_name(f"{folder.name}.part")
    fd = _lock(part)
    if fd is None:
        part = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.part")
        part.mkdir()
    try:
        yield part
    except (KeyboardInterrupt, SystemExit):
        raise  # the next process continues
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        if fd is not None:
            os.close(fd)


def _lock(part: Path) -> int | None:
    """Make a folder and lock it; return the descriptor that holds the lock, None if another process
    has it or the disk knows no locks.
    """
    part.mkdir(exist_ok=True)
    fd = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == part.stat().st_ino:  # not renamed in between
            return fd
    except OSError:
        pass
    os.close(fd)
    return None
