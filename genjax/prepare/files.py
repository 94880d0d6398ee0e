"""The raw files of a preparation: found by patterns and opened, here or behind any URL that
fsspec knows.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import importlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from genjax.data.compressed import limit_unpacked
from genjax.data.images.files import Fitting, check_name, fitting, place_pattern
from genjax.errors import UserError

BLOCK = 2**20  # bytes hashed at once
PACKAGES = {".zst": "backports.zstd", ".lz4": "lz4"}  # that unpack what Python alone does not


def _zstd() -> Any:
    """A module of zstd that says when a file is cut, as zstandard does not; None if none is
    installed.
    """
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


ZSTD = _zstd()
# What reading a cut or spoilt file raises.
DAMAGED: tuple[type[Exception], ...] = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowException,
    *((ZSTD.ZstdError,) if ZSTD else ()),
)


@dataclass(frozen=True)
class Files:
    """Raw files in a fixed order.

    Attributes:
      root: the folder that names leave out of the paths: a path, or a URL such as
        s3://bucket/folder.
      paths: of the files, as their file system calls them.
      others: what else lies where the patterns look, of a local folder: path and kind, such as
        ".txt".
      recased: paths of those that would fit in other capitals.
    """

    root: str
    paths: tuple[str, ...]
    others: tuple[tuple[str, str], ...] = ()
    recased: tuple[str, ...] = ()

    @classmethod
    def find(cls, root: str | None, patterns: tuple[str, ...]) -> Files:
        """Find the files that patterns fit.

        Args:
          root: a folder or URL; None takes that of $GENJAX_DATA.
          patterns: of files below it, such as "books/*.txt.gz" or "**/*.png".

        Raises:
          UserError: no root, a pattern that no file fits, or a file whose name no record can hold
            or that only a missing package unpacks.
        """
        placed = [place_pattern(pattern) for pattern in patterns]
        root = root or os.environ.get("GENJAX_DATA") or _common_folder(placed)
        if not root:
            raise UserError("name the folder of the raw files as root, or set GENJAX_DATA", "root")
        root = os.path.expanduser(root)
        patterns = tuple(_put_below(root, *one) for one in placed)
        system, base = _system(root)
        paths: dict[str, None] = {}
        others: dict[str, str] = {}
        recased: dict[str, None] = {}
        for pattern in patterns:
            try:
                found = _fitting(system, base, pattern)
            except ValueError as error:
                raise UserError(f"{pattern!r} is not a pattern of files: {error}") from error
            # what a link that leads nowhere is meant to be is not known
            names = sorted(found.names + found.broken)
            if not names:
                hint = f"; {found.recased[0]} would in other capitals" if found.recased else ""
                raise UserError(f"no file of {root} fits {pattern!r}{hint}", "files")
            paths |= {f"{base}/{name}": None for name in names}
            others |= {f"{base}/{entry.name}": entry.kind for entry in found.others}
            recased |= {f"{base}/{name}": None for name in found.recased}
        for path in paths:
            check_name(path)
            _compression(path)
        left = tuple((path, kind) for path, kind in others.items() if path not in paths)
        return cls(root, tuple(paths), left, tuple(path for path in recased if path not in paths))

    def name(self, path: str) -> str:
        """A path below the root, as records and messages name it."""
        base = _system(self.root)[1]
        return path.removeprefix(f"{base}/")

    def open(self, path: str) -> BinaryIO:
        """A file to read bytes from; ".gz", ".bz2", ".xz", ".lzma" and a ".zip" of one file are
        unpacked as it is read.

        So are ".zst" and ".lz4" where their packages are installed.

        Raises:
          UserError: they are not.
          one of DAMAGED: the file cannot be read or unpacked, or grows too much, as may reading it.
        """
        import fsspec

        compression = _compression(path)
        system = _system(self.root)[0]
        if compression is None:
            return cast(BinaryIO, system.open(path, "rb"))
        if compression == "zip":
            return limit_unpacked(_only_member(system.open(path, "rb")), system.size(path))
        return limit_unpacked(
            fsspec.core.OpenFile(system, path, "rb", compression).open(), system.size(path)
        )

    def digest(self, path: str) -> str:
        """A hash of the contents of a local file; of a remote one what its system tells of it
        (size, version, time).
        """
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


def _common_folder(placed: Sequence[tuple[Path | None, str]]) -> str | None:
    """The folder above all patterns, where all of them are absolute."""
    folders = [str(folder) for folder, _ in placed if folder is not None]
    return os.path.commonpath(folders) if folders and len(folders) == len(placed) else None


def _put_below(root: str, folder: Path | None, pattern: str) -> str:
    """A pattern below the root; an absolute one must look there.

    Raises:
      UserError: it looks elsewhere.
    """
    if folder is None:
        return pattern
    home = Path(root).absolute()
    if "://" in root or not folder.is_relative_to(home):
        raise UserError(
            f"the pattern {folder / pattern} is not below the root {root}: give a root above it",
            "files",
        )
    below = folder.relative_to(home).as_posix()
    return pattern if below == "." else f"{below}/{pattern}"


def _fitting(system: Any, base: str, pattern: str) -> Fitting:
    """The files below a folder that fit a pattern: links are followed in a local one, see
    ``fitting``.
    """
    if "file" in system.protocol and not pattern.startswith("/") and ".." not in pattern.split("/"):
        return fitting(Path(base or "/"), pattern)
    found = sorted(
        path for path in system.glob(f"{glob.escape(base)}/{pattern}") if not system.isdir(path)
    )
    return Fitting([path.removeprefix(f"{base}/") for path in found], [], [], [])


def _compression(path: str) -> str | None:
    """How fsspec calls what a file is packed by; None for nothing."""
    import fsspec

    suffix = os.path.splitext(path)[1].lower()
    found: str | None = fsspec.core.get_compression(path, "infer")
    if suffix in PACKAGES and (found is None or (found == "zstd" and not ZSTD)):
        raise UserError(f"{path} cannot be unpacked: {suffix} needs the package {PACKAGES[suffix]}")
    return found


def _only_member(file: BinaryIO) -> BinaryIO:
    """The one file of an archive.

    Raises:
      zipfile.BadZipFile: it is not an archive, or of no file, several or one that cannot be
        unpacked.
    """
    try:
        archive = zipfile.ZipFile(file)
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise zipfile.BadZipFile(f"a zip archive of {len(members)} files, where one is read")
        return cast(BinaryIO, archive.open(members[0]))
    except (
        RuntimeError,
        ValueError,
    ) as error:  # it requests a password, or is packed in a way that is not known
        raise zipfile.BadZipFile(str(error)) from error


def _system(root: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    import fsspec

    try:
        system, base = fsspec.core.url_to_fs(root)
    except (ValueError, ImportError) as error:
        raise UserError(f"{root} cannot be opened: {error}") from error
    return system, base.rstrip("/")
