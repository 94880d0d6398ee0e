"""Find and open the raw files of a preparation, locally or at any URL that fsspec knows."""

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
PACKAGES = {".zst": "backports.zstd", ".lz4": "lz4"}  # packages for formats that Python lacks


def _zstd() -> Any:
    """Return a zstd module that detects truncated files (zstandard does not), or None."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


ZSTD = _zstd()
# What reading a truncated or damaged file raises.
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
      root: folder that names leave out of the paths: a path, or a URL such as s3://bucket/folder.
      paths: paths of the files in their file system.
      others: other files where the patterns look, in a local folder: path and kind, such as ".txt".
      recased: paths of other files that would match if case were ignored.
    """

    root: str
    paths: tuple[str, ...]
    others: tuple[tuple[str, str], ...] = ()
    recased: tuple[str, ...] = ()

    @classmethod
    def find(cls, root: str | None, patterns: tuple[str, ...]) -> Files:
        """Find the files that match patterns.

        Args:
          root: a folder or URL; None for $GENJAX_DATA.
          patterns: patterns of files below it, such as "books/*.txt.gz" or "**/*.png".

        Raises:
          UserError: there is no root, a pattern matches no file, a file name is not text, or a file
            needs a missing package to unpack.
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
            # The kind of a link that leads nowhere is unknown.
            names = sorted(found.names + found.broken)
            if not names:
                hint = f"; {found.recased[0]} would in another case" if found.recased else ""
                raise UserError(f"no file of {root} matches {pattern!r}{hint}", "files")
            paths |= {f"{base}/{name}": None for name in names}
            others |= {f"{base}/{entry.name}": entry.kind for entry in found.others}
            recased |= {f"{base}/{name}": None for name in found.recased}
        for path in paths:
            check_name(path)
            _compression(path)
        left = tuple((path, kind) for path, kind in others.items() if path not in paths)
        return cls(root, tuple(paths), left, tuple(path for path in recased if path not in paths))

    def name(self, path: str) -> str:
        """Return a path relative to the root, as used in records and messages."""
        base = _system(self.root)[1]
        return path.removeprefix(f"{base}/")

    def open(self, path: str) -> BinaryIO:
        """Open a file to read bytes; ".gz", ".bz2", ".xz", ".lzma" and a ".zip" of one file are
        unpacked while reading, and ".zst" and ".lz4" if their packages are installed.

        Raises:
          UserError: a package is missing. one of DAMAGED: the file cannot be read or unpacked, or
            grows too much; reading may raise this, too.
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
        """Return a hash of a local file's contents, or of what the file system says about a remote
        one (size, version, time).
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
    """Return the folder above all patterns if all of them are absolute, else None."""
    folders = [str(folder) for folder, _ in placed if folder is not None]
    return os.path.commonpath(folders) if folders and len(folders) == len(placed) else None


def _put_below(root: str, folder: Path | None, pattern: str) -> str:
    """Return a pattern relative to the root.

    Raises:
      UserError: an absolute pattern is not below the root.
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
    """Find the files below a folder that match a pattern; in a local one links are followed, see
    ``fitting``.
    """
    if "file" in system.protocol and not pattern.startswith("/") and ".." not in pattern.split("/"):
        return fitting(Path(base or "/"), pattern)
    found = sorted(
        path for path in system.glob(f"{glob.escape(base)}/{pattern}") if not system.isdir(path)
    )
    return Fitting([path.removeprefix(f"{base}/") for path in found], [], [], [])


def _compression(path: str) -> str | None:
    """Return fsspec's name for the compression of a file; None for none."""
    import fsspec

    suffix = os.path.splitext(path)[1].lower()
    found: str | None = fsspec.core.get_compression(path, "infer")
    if suffix in PACKAGES and (found is None or (found == "zstd" and not ZSTD)):
        raise UserError(f"{path} cannot be unpacked: {suffix} needs the package {PACKAGES[suffix]}")
    return found


def _only_member(file: BinaryIO) -> BinaryIO:
    """Open the single file of an archive.

    Raises:
      zipfile.BadZipFile: it is not an archive, has no file or several, or cannot be unpacked.
    """
    try:
        archive = zipfile.ZipFile(file)
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise zipfile.BadZipFile(f"a zip archive must hold one file, got {len(members)}")
        return cast(BinaryIO, archive.open(members[0]))
    except (
        RuntimeError,
        ValueError,
    ) as error:
        # It needs a password, or uses an unknown compression.
        raise zipfile.BadZipFile(str(error)) from error


def _system(root: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    import fsspec

    try:
        system, base = fsspec.core.url_to_fs(root)
    except (ValueError, ImportError) as error:
        raise UserError(f"{root} cannot be opened: {error}") from error
    return system, base.rstrip("/")
