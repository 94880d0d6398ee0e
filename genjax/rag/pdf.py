"""Read the text of a PDF."""

from __future__ import annotations

import io
import logging
import re

import pypdf

from genjax.errors import UserError
from genjax.rag.sections import clean

_BROKEN = re.compile(r"(?<=[^\W\d_])-\n(?=[a-zäöüßà-ÿ])")  # the hyphen of a split word


def read_pdf(raw: bytes, place: str) -> tuple[str | None, str]:
    """Return the title of a PDF and the text of its pages, separated by empty lines.

    Raises:
      UserError: the PDF is encrypted or damaged, or has no text.
    """
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # errors are reported below
    try:
        reader = pypdf.PdfReader(io.BytesIO(raw))
        locked = reader.is_encrypted and not reader.decrypt("")
        pages = [] if locked else [page.extract_text() for page in reader.pages]
        title = None if locked or reader.metadata is None else reader.metadata.title
    except Exception as error:  # a damaged file raises errors of many types
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{place} is not a whole PDF: {said:.100}", place) from None
    if locked:
        raise UserError(f"{place} is encrypted: remove its password first", place)
    text = clean("\n\n".join(_BROKEN.sub("", page.strip()) for page in pages if page.strip()))
    if not text:
        cure = "recognise its letters (OCR) first" if pages else "it has no pages"
        raise UserError(f"{place} holds no text: {cure}", place)
    return clean(title.strip()) or None if isinstance(title, str) else None, text
