"""Documents as streams of text, read piece by piece: neither a document nor a corpus has to fit in
memory.
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

BLOCK = 2**20  # bytes read at once, and about the length of a piece
BOM = "\ufeff"

Unit = Literal["files", "lines", "paragraphs"]


class Piece(NamedTuple):
    """A part of a document.

    Attributes:
      text: text of the part.
      document: name by which a person finds the document.
      ends: whether it is the last part.
      domain: kind of text, as given by the source; "" if unknown.
    """

    text: str
    document: str
    ends: bool
    domain: str = ""


class TextRows(Protocol):
    """Documents in a fixed order, which every iteration reads again."""

    @property
    def title(self) -> str:
        """Name of the documents in messages."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of their contents."""
        ...

    def iterate_pieces(self) -> Iterator[Piece]: ...


@dataclass(frozen=True)
class StoredTexts:
    """Documents in memory, each a domain of its own.

    Attributes:
      title: name of the documents in messages.
      documents: names and texts.
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
    """Text files, plain or compressed (".gz"). Each file, line or paragraph is a document.

    A paragraph ends at an empty line. The domain of a document is the folder of its file directly
    below the folder that all files share, or the file itself.

    Attributes:
      root: folder that messages leave out of the paths.
      paths: paths of the files.
      unit: what counts as a document.
      encoding: encoding of the files; a byte order mark at the start is left out.
      left: counts of what is skipped or left out.
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
    """Return a path as shown in messages."""
    return (
        path.relative_to(root).as_posix()
        if path.is_relative_to(root) and path != root
        else str(path)
    )


def common_folder(paths: Iterable[Path]) -> Path:
    """Return the deepest folder that contains all files."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def find_domain(path: Path, base: Path) -> str:
    """Return the folder of a file directly below ``base``, or else the name of the file."""
    return path.relative_to(base).parts[0]


def hash_user_files(paths: Iterable[Path]) -> str:
    """Return ``files_fingerprint``; a file that cannot be read is the user's mistake."""
    try:
        return files_fingerprint(paths)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def decode_file(
    path: Path, encoding: str = "utf-8", left: Counter[str] | None = None
) -> Iterator[str]:
    """Yield the text of a file in parts of about ``BLOCK`` bytes.

    Args:
      path: path of the file.
      encoding: encoding of the file.
      left: counts of what is left out: a byte order mark at the start.

    Raises:
      UserError: the file cannot be read or decoded; the message names the byte.
    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise UserError(
            f"encoding must be one that Python knows, such as utf-8 or latin-1, got {encoding!r}",
            "encoding",
        ) from None
    read, last = 0, False
    try:
        with open_gzip(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            while not last:
                block = file.read(BLOCK)
                last = not block
                # Bytes of a character that began in the block before.
                waiting = len(decoder.getstate()[0])
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
    """Yield the text of a file in pieces that end after a line or before a space, so that no
    subword is cut in two.
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
    """Yield each item and whether it is the last."""
    before = next(items, None)
    if before is None:
        return
    for item in items:
        yield before, False
        before = item
    yield before, True


def lines(path: Path, encoding: str = "utf-8", left: Counter[str] | None = None) -> Iterator[str]:
    """Return the lines of a file with their line feeds; no other character ends a line.

    ``left`` is as for ``decode_file``.
    """
    return split_lines(decode_file(path, encoding, left))


def split_lines(texts: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text that comes in parts, as ``lines`` does."""
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
    """Yield each line that is not empty, or each paragraph, with its number from 1.

    Empty lines count in the numbers of lines, as in an editor.
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
