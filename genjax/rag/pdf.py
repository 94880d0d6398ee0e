"""The text of a PDF, as far as it has one."""

from __future__ import annotations

import io
import logging
import re

import pypdf

from genjax.errors import UserError
from genjax.rag.sections import clean

_BROKEN = re.compile(r"(?<=[^\W\d_])-\n(?=[a-zäöüßà-ÿ])")  # a word that goes on in the next line


def read_pdf(raw: bytes, place: str) -> tuple[str | None, str]:
    """The title of a PDF and the text of its pages, with an empty line between two.

    Raises:
      UserError: it is encrypted, broken, or has no text.
    """
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what cannot be read is said below
    try:
        reader = pypdf.PdfReader(io.BytesIO(raw))
        locked = reader.is_encrypted and not reader.decrypt("")
        pages = [] if locked else [page.extract_text() for page in reader.pages]
        title = None if locked or reader.metadata is None else reader.metadata.title
    except Exception as error:  # a broken file breaks the reader in many ways
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{place} is not a whole PDF: {said:.100}", place) from None
    if locked:
        raise UserError(f"{place} is encrypted: remove its password first", place)
    text = clean("\n\n".join(_BROKEN.sub("", page.strip()) for page in pages if page.strip()))
    if not text:
        cure = "recognise its letters (OCR) first" if pages else "it has no pages"
        raise UserError(f"{place} holds no text: {cure}", place)
    return clean(title.strip()) or None if isinstance(title, str) else None, text
