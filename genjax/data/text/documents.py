"""Documents as streams of text: read piece by piece, so that neither a document nor a corpus
must fit in memory.
"""

from __future__ import annotations

import codecs
import functools
import gzip
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from genjax.data.compressed import open_gzip
from genjax.data.splits import digest
from genjax.data.storage import files_fingerprint
from genjax.data.tally import EMPTY_LINES, MARKS, Tally
from genjax.errors import UserError

BLOCK = 2**20  # bytes read at once; a piece of text is about as long
BOM = "\ufeff"

Unit = Literal["files", "lines", "paragraphs"]


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


class TextRows(Protocol):
    """Documents in a fixed order, read again each time."""

    @property
    def title(self) -> str:
        """What a person calls them."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of their contents."""
        ...

    def iterate_pieces(self) -> Iterator[Piece]: ...


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
        return digest(
            part.encode("utf-8", "surrogatepass") + b"\0"
            for pair in self.documents
            for part in pair
        )

    def iterate_pieces(self) -> Iterator[Piece]:
        for name, text in self.documents:
            yield Piece(text, name, True, name)


@dataclass(frozen=True)
class FileTexts:
    """Text files, plain or (".gz") compressed by gzip; each one a document, or each line or
    paragraph of it.

    A paragraph is of lines without an empty one between them. The domain of a text is the folder
    that its file is in, below the one that all have in common, or else the file.

    Attributes:
      root: the folder that messages leave out of the paths.
      paths: of the files.
      unit: what makes a document.
      encoding: of the files; a byte order mark at the start is left out.
      left: counts what is skipped and left out.
    """

    root: Path
    paths: tuple[Path, ...]
    unit: Unit = "files"
    encoding: str = "utf-8"
    left: Tally = field(default_factory=Tally, compare=False, repr=False)

    @property
    def title(self) -> str:
        return (
            f"{len(self.paths):,} files of {self.root}"
            if len(self.paths) != 1
            else str(self.paths[0])
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest(
            [hash_user_files(self.paths).encode(), f"{self.unit} {self.encoding}".encode()]
        )

    def iterate_pieces(self) -> Iterator[Piece]:
        base = common_folder(self.paths)
        for path in self.paths:
            name, domain = shorten_path(path, self.root), find_domain(path, base)
            with self.left.reading(str(path)) as left:
                if self.unit == "files":
                    empty = True
                    for text, last in _flag_last(_pieces(path, self.encoding, left)):
                        empty = False
                        yield Piece(text, name, last, domain)
                    left["empty files skipped"] += empty
                else:
                    kind = self.unit.removesuffix("s")
                    for number, text in _blocks(path, self.encoding, self.unit == "lines", left):
                        yield Piece(text, f"{kind} {number:,} of {name}", True, domain)


def shorten_path(path: Path, root: Path) -> str:
    """A path as messages name it."""
    return (
        path.relative_to(root).as_posix()
        if path.is_relative_to(root) and path != root
        else str(path)
    )


def common_folder(paths: Iterable[Path]) -> Path:
    """The folder deepest down that all files are in."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def find_domain(path: Path, base: Path) -> str:
    """The folder directly below the base that a file is in, or the name of the file."""
    return path.relative_to(base).parts[0]


def hash_user_files(paths: Iterable[Path]) -> str:
    """``files_fingerprint``, for files that a user has named."""
    try:
        return files_fingerprint(paths)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def decode_file(
    path: Path, encoding: str = "utf-8", left: Counter[str] | None = None
) -> Iterator[str]:
    """The text of a file in parts of about ``BLOCK`` bytes.

    Args:
      left: counts a byte order mark at its start, which is left out.

    Raises:
      UserError: the file cannot be read, or not in this encoding; the byte is named.
    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise UserError(f"there is no encoding {encoding!r}; utf-8 and latin-1 are two") from None
    read, last = 0, False
    try:
        with open_gzip(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            while not last:
                block = file.read(BLOCK)
                last = not block
                waiting = len(
                    decoder.getstate()[0]
                )  # bytes of a character that the block before cut in two
                try:
                    text = decoder.decode(block, final=last)
                except UnicodeDecodeError as error:
                    at = read - waiting + error.start
                    unpacked = " of the unpacked text" if path.suffix.lower() == ".gz" else ""
                    wrong = error.object[error.start]
                    raise UserError(
                        f"{path} is not {encoding}: byte {at:,}{unpacked} (0x{wrong:02x}) cannot "
                        "be decoded "
                        f"({error.reason}); name its encoding"
                    ) from None
                if read == 0 and text.startswith(BOM):
                    text = text.removeprefix(BOM)
                    if left is not None:
                        left[MARKS] += 1
                yield text
                read += len(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a complete gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}", str(path)) from error


def _pieces(path: Path, encoding: str, left: Counter[str]) -> Iterator[str]:
    """The text of a file in pieces that end after a line or before a space, where a subword
    cannot be cut in two.
    """
    rest = ""
    for text in decode_file(path, encoding, left):
        rest += text
        stop = rest.rfind("\n") + 1 or rest.rfind(" ")
        if stop <= 0 and len(rest) >= BLOCK:
            stop = len(rest)
        if stop > 0:
            yield rest[:stop]
            rest = rest[stop:]
    if rest:
        yield rest


def _flag_last(items: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Each item, and whether it is the last."""
    before = next(items, None)
    if before is None:
        return
    for item in items:
        yield before, False
        before = item
    yield before, True


def lines(path: Path, encoding: str = "utf-8", left: Counter[str] | None = None) -> Iterator[str]:
    """The lines of a file with their ends, split at line feeds alone; ``left`` as of
    ``decode_file``.
    """
    return split_lines(decode_file(path, encoding, left))


def split_lines(texts: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in parts, as ``lines`` has them."""
    rest = ""
    for text in texts:
        *whole, rest = (rest + text).split("\n")
        for line in whole:
            yield line + "\n"
    if rest:
        yield rest


def _blocks(
    path: Path, encoding: str, single: bool, left: Counter[str]
) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, each by itself or with those next to it, and the number of each
    from 1.

    Lines are counted with the empty ones, as an editor does.
    """
    together: list[str] = []
    paragraph = 0
    for number, line in enumerate(lines(path, encoding, left), 1):
        text = line.rstrip("\r\n")
        if single:
            if text:
                yield number, text
            else:
                left[EMPTY_LINES] += 1
        elif text.strip():
            together.append(text)
        elif together:
            paragraph += 1
            yield paragraph, "\n".join(together)
            together = []
    if together:
        yield paragraph + 1, "\n".join(together)
