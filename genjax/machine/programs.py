"""Keep compiled programs on disk, so that the next process need not compile them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Protocol, TextIO

LARGEST = 2 * 2**30  # bytes of all programs; the least recently used are removed first
SHORTEST = "0.1"  # seconds of compilation that are worth a file
DAMAGED = "persistent compilation cache entry"  # part of JAX's warning
VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")


def keep_programs(folder: Path) -> None:
    """Let JAX keep compiled programs below a folder, before it is imported.

    What the environment says about JAX's cache goes first. Each kind of processor has a folder of
    its own: a program for another one could fail. A damaged file is reported by JAX and never
    replaced, so then the folder is removed.
    """
    if any(name in os.environ for name in VARIABLES):
        return
    place = folder / "programs" / _name_processor()
    try:
        place.mkdir(parents=True, exist_ok=True)
        trim(place, LARGEST)
    except OSError:
        return  # no room or no home folder: programs are compiled each time
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(place)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", SHORTEST)
    warnings.showwarning = _heal(place, warnings.showwarning)


def keep_no_programs() -> None:
    """Let JAX compile everything, and keep nothing."""
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"


def trim(folder: Path, largest: int) -> None:
    """Remove the least recently used files of a folder until the others fit."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            stat = path.stat()
            found.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= largest:
            return
        path.unlink(missing_ok=True)
        total -= size


class Show(Protocol):
    """Shows a warning, as ``warnings.showwarning`` does."""

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None: ...


def _heal(folder: Path, show: Show) -> Show:
    """Return a function that shows warnings, but removes the folder after one of a damaged file."""

    def heal(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if DAMAGED not in str(message):
            show(message, category, filename, lineno, file, line)
        elif folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            print(f"genjax: damaged compiled programs in {folder} were removed", file=sys.stderr)

    return heal


def _name_processor() -> str:
    """Return a name that processors with other instructions, or another number of cores, do not
    have.

    Loops are divided among the cores when they are compiled, which JAX's own key leaves out.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    about = "\n".join((*os.uname()[::4], str(cores)))  # the system and the machine
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        known = ("flags", "Features", "model name")
        about += "".join(sorted({line for line in file if line.startswith(known)}))
    return hashlib.sha256(about.encode()).hexdigest()[:16]
