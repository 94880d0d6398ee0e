"""Read documents from files: their visible text, and the headings above each part of it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genjax.data.text.json_records import SUFFIXES, get_text, json_records
from genjax.errors import UserError
from genjax.rag.sections import Section, clean, split_markdown
from genjax.serial.json_text import Json

MARKDOWN = (".md", ".markdown", ".mdown")
HTML = (".html", ".htm", ".xhtml")
PDF = ".pdf"
LARGEST = 200_000_000  # the most bytes in a file
NAMES = ("title", "name")  # the fields of a row that may hold its name
MARKS = {  # the kinds of binary files, by their first bytes
    b"%PDF-": "a PDF: name it .pdf",
    b"PK\x03\x04": "a zip archive or an office document: save it as PDF, HTML or text",
    b"\xd0\xcf\x11\xe0": "an office document: save it as PDF, HTML or text",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"\x1f\x8b": "a gzip file: unpack it",
}
ORDERS = {  # the encodings, by the byte order mark at the start of a file
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(frozen=True)
class Source:
    """A document read from a file.

    Attributes:
      name: the title of the document, or the name of its file.
      place: the path of the file; for a row, followed by "#" and its number.
      text: the visible text.
      sections: the sections of the whole text in order, each with the headings above it.
      metadata: more facts about the document.
    """

    name: str
    place: str
    text: str
    sections: tuple[Section, ...]
    metadata: Mapping[str, Json] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Return the hash of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_file(path: str | Path, encoding: str | None = None, field: str = "text") -> list[Source]:
    """Read the documents of a file of text, Markdown, HTML, PDF or JSON lines.

    The suffix of the file decides its kind; a file with any other suffix is read as text. Each row
    of JSON is a document.

    Args:
      path: the path of the file.
      encoding: the encoding of the file; by default the one that it declares, or UTF-8.
      field: the field of a JSON row that holds its text.

    Raises:
      UserError: the file is missing, empty, damaged, encrypted or of another kind.
    """
    place = _check_place(path)
    suffix = place.suffix.lower()
    if suffix in SUFFIXES or (suffix == ".gz" and place.with_suffix("").suffix in SUFFIXES):
        found = _read_rows(place, encoding or "utf-8", field)
    else:
        found = [_read_one(place, suffix, encoding)]
    if not any(source.text.strip() for source in found):
        raise UserError(f"{place} must hold a text, but is empty", str(place))
    return found


def _check_place(path: str | Path) -> Path:
    place = Path(path).expanduser()
    try:
        if not place.exists():
            raise UserError(f"there is no file {place}", str(place))
        if not place.is_file():
            raise UserError(f"{place} must be a file: name the files of a folder", str(place))
        size = place.stat().st_size
    except (OSError, ValueError) as error:
        raise UserError(f"{str(place)[:200]} cannot be read: {error!s:.100}", str(place)) from None
    if size > LARGEST:
        raise UserError(f"{place} must have at most {LARGEST:,} bytes, got {size:,}", str(place))
    return place.resolve()


def _read_one(place: Path, suffix: str, encoding: str | None) -> Source:
    try:
        raw = place.read_bytes()
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror}", str(place)) from None
    if not raw.strip():
        raise UserError(f"{place} must hold a text, but is empty", str(place))
    name: str | None
    if suffix == PDF:
        with _explain_package(place):
            from genjax.rag import pdf

            name, text = pdf.read_pdf(raw, str(place))
        kind = "application/pdf"
        sections: tuple[Section, ...] = (Section(0, len(text), ()),)
    elif suffix in HTML:
        with _explain_package(place):
            from genjax.rag import html
        name, text, sections = html.read_html(
            decode(raw, place, encoding or _choose(raw, html.find_encoding(raw)))
        )
        kind = "text/html"
    else:
        text = decode(raw, place, encoding)
        markdown = suffix in MARKDOWN
        kind = "text/markdown" if markdown else "text/plain"
        sections = split_markdown(text) if markdown else (Section(0, len(text), ()),)
        name = next((s.headings[0] for s in sections if len(s.headings) == 1), None)
    digest = hashlib.sha256(raw).hexdigest()
    known: dict[str, Json] = {"media_type": kind, "file": str(place), "file_hash": digest}
    return Source((name or place.name)[:200], str(place), text, sections, known)


@contextlib.contextmanager
def _explain_package(place: Path) -> Iterator[None]:
    """Say which extra to install if the reader of a file is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        cure = "pip install 'genjax-train[serve]'"
        raise UserError(f"{place} needs the package {error.name}: {cure}", str(place)) from None


def _choose(raw: bytes, said: str | None) -> str | None:
    """Return the encoding that a page declares, or None if it does not decode the page."""
    try:
        raw.decode(said or "utf-8")
    except (LookupError, UnicodeError):
        return None
    return said


def _refuse_binary(raw: bytes, place: Path) -> None:
    """Refuse a binary file, recognised by its first bytes."""
    for mark, what in MARKS.items():
        if raw.startswith(mark):
            raise UserError(f"{place} must be text, but is {what}", str(place))


def decode(raw: bytes, place: Path, encoding: str | None) -> str:
    """Return the text of a file, with every line ending as a line feed.

    Raises:
      UserError: the file is binary or has another encoding.
    """
    _refuse_binary(raw, place)
    known = (name for mark, name in ORDERS.items() if raw.startswith(mark))
    chosen = encoding or next(known, "utf-8")
    try:
        text = raw.decode(chosen)
    except LookupError:
        raise UserError(f"encoding {chosen!r:.40} is not known", "encoding") from None
    except (UnicodeError, ValueError) as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise UserError(
            f"{place} is not {chosen}: byte {at:,} cannot be decoded: name its encoding",
            str(place),
        ) from None
    _refuse_control(text, place)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _refuse_control(text: str, place: Path) -> None:
    """Refuse a binary file that happened to decode, recognised by its control characters."""
    if (found := _CONTROL.search(text)) is not None:
        what = f"character {found.start():,} is {found[0]!a}"
        raise UserError(f"{place} must be text, but {what}: it is binary", str(place))


def _read_rows(place: Path, encoding: str, field: str) -> list[Source]:
    sources = []
    for number, (where, row) in enumerate(json_records(place, encoding), 1):
        if not isinstance(row, dict):
            raise UserError(f"{where} must be an object with {field!r}", str(place))
        text = clean(get_text(row, field, where, needed=True))
        if not text.strip():
            continue
        named = (row.get(name) for name in NAMES)
        name = next((one for one in named if isinstance(one, str) and one.strip()), None)
        rest = {str(k): v for k, v in row.items() if k != field and v is not None}
        known: dict[str, Json] = {"media_type": "application/json", "file": str(place)}
        known |= {"columns": rest} if rest else {}
        title = clean(name or f"{place.name} {number}")[:200]
        sections = (Section(0, len(text), ()),)
        sources.append(Source(title, f"{place}#{number}", text, sections, known))
    return sources
