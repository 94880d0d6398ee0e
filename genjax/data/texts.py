"""Documents as streams of text: read piece by piece, so that neither a document nor a corpus has to fit in memory."""

from __future__ import annotations

import codecs
import functools
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol, cast

from genjax.data.splits import digest
from genjax.data.storage import files_fingerprint
from genjax.errors import UserError

BLOCK = 2**20  # bytes read at once; a piece of text is about as long
BOM = "\ufeff"

Unit = Literal["files", "lines"]


class Piece(NamedTuple):
    """A part of a document.

    Attributes:
      text: of it.
      document: what a person finds the document by.
      ends: whether it is the last part.
      domain: what kind of text the document is, as its source tells it; "" where that is unknown.
    """

    text: str
    document: str
    ends: bool
    domain: str = ""


class Texts(Protocol):
    """Documents in a fixed order, read anew each time."""

    @property
    def title(self) -> str:
        """What a person calls them."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of their contents."""
        ...

    def pieces(self) -> Iterator[Piece]: ...


@dataclass(frozen=True)
class StoredTexts:
    """Documents in memory, each a domain of its own.

    Attributes:
      title: what a person calls them.
      documents: their names and texts.
    """

    title: str
    documents: tuple[tuple[str, str], ...]

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest(part.encode("utf-8", "surrogatepass") + b"\0" for pair in self.documents for part in pair)

    def pieces(self) -> Iterator[Piece]:
        for name, text in self.documents:
            yield Piece(text, name, True, name)


@dataclass(frozen=True)
class FileTexts:
    """Text files, plain or (".gz") compressed by gzip; each one a document, or each line that is not empty.

    The domain of a text is the folder of the root that its file is in, or else the file.

    Attributes:
      root: the folder that messages leave out of the paths.
      paths: of the files.
      unit: what makes a document.
      encoding: of the files; a byte order mark at the start is left out.
    """

    root: Path
    paths: tuple[Path, ...]
    unit: Unit = "files"
    encoding: str = "utf-8"

    @property
    def title(self) -> str:
        return f"{len(self.paths):,} files of {self.root}" if len(self.paths) != 1 else str(self.paths[0])

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest([fingerprint_of(self.paths).encode(), f"{self.unit} {self.encoding}".encode()])

    def pieces(self) -> Iterator[Piece]:
        for path in self.paths:
            name, domain = shown(path, self.root), domain_of(path, self.root)
            if self.unit == "lines":
                for number, line in enumerate(lines(path, self.encoding), 1):
                    if line := line.rstrip("\r\n"):
                        yield Piece(line, f"line {number:,} of {name}", True, domain)
            else:
                for text, last in _with_last(_pieces(path, self.encoding)):
                    yield Piece(text, name, last, domain)


def shown(path: Path, root: Path) -> str:
    """A path as messages name it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else str(path)


def domain_of(path: Path, root: Path) -> str:
    """The folder directly below the root that a file is in, or the name of the file."""
    parts = path.relative_to(root).parts if path.is_relative_to(root) and path != root else ()
    return parts[0] if parts else path.name


def fingerprint_of(paths: Iterable[Path]) -> str:
    """``files_fingerprint``, for files that a user has named."""
    try:
        return files_fingerprint(paths)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def decoded(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The text of a file in parts of about ``BLOCK`` bytes.

    Raises:
      UserError: the file cannot be read, or not in this encoding; the byte is named.
    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise UserError(f"there is no encoding {encoding!r}; utf-8 and latin-1 are two") from None
    read, last = 0, False
    try:
        with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            while not last:
                block = file.read(BLOCK)
                last = not block
                waiting = len(decoder.getstate()[0])  # bytes of a character that the block before cut in two
                try:
                    text = decoder.decode(block, final=last)
                except UnicodeDecodeError as error:
                    at = read - waiting + error.start
                    unpacked = " of the unpacked text" if path.suffix == ".gz" else ""
                    wrong = error.object[error.start]
                    raise UserError(
                        f"{path} is not {encoding}: byte {at:,}{unpacked} (0x{wrong:02x}) cannot be decoded "
                        f"({error.reason}); name its encoding"
                    ) from None
                yield text.removeprefix(BOM) if read == 0 else text
                read += len(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is no whole gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _pieces(path: Path, encoding: str) -> Iterator[str]:
    """The text of a file in pieces that end after a line or before a space, where a subword cannot be cut in two."""
    rest = ""
    for text in decoded(path, encoding):
        rest += text
        stop = rest.rfind("\n") + 1 or rest.rfind(" ")
        if stop <= 0 and len(rest) >= BLOCK:
            stop = len(rest)
        if stop > 0:
            yield rest[:stop]
            rest = rest[stop:]
    if rest:
        yield rest


def _with_last(items: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Each item, and whether it is the last."""
    before = next(items, None)
    if before is None:
        return
    for item in items:
        yield before, False
        before = item
    yield before, True


def lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a file with their ends, split at line feeds alone."""
    rest = ""
    for text in decoded(path, encoding):
        *whole, rest = (rest + text).split("\n")
        for line in whole:
            yield line + "\n"
    if rest:
        yield rest
