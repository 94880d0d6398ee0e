"""Read the visible text of an HTML page, without scripts and hidden parts."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Tag
from bs4.dammit import EncodingDetector
from bs4.element import NavigableString, PageElement

from genjax.rag.sections import Outline, Section, clean

_UNSEEN = """
script style noscript template iframe object embed svg math canvas head select option
datalist audio video map textarea button
"""
UNSEEN = frozenset(_UNSEEN.split())
_BLOCKS = """
address article aside blockquote body br caption dd details div dl dt fieldset figcaption
figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol p pre section
summary table tbody td tfoot th thead tr ul
"""
BLOCKS = frozenset(_BLOCKS.split())
HEADINGS = {f"h{level}": level for level in range(1, 7)}
CELLS = frozenset(("td", "th"))
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])",
    re.IGNORECASE,
)


def find_encoding(raw: bytes) -> str | None:
    """Return the encoding that a page declares, or None."""
    found = EncodingDetector.find_declared_encoding(raw, is_html=True)
    return None if found is None else str(found)


def read_html(markup: str) -> tuple[str | None, str, tuple[Section, ...]]:
    """Return the title of a page, its text and the sections of the text."""
    page = BeautifulSoup(markup, "html.parser")
    named = page.title.get_text() if page.title is not None else ""
    title = clean(" ".join(named.split())) or None
    reader = _Reader()
    left: list[tuple[PageElement, bool]] = [(page, False)]
    while left:  # a page may be nested deeper than Python recurses
        node, done = left.pop()
        if isinstance(node, Tag):
            if done:
                reader.leave(node)
            elif not _is_unseen(node):
                reader.enter(node)
                left.append((node, True))
                left += ((child, False) for child in reversed(node.contents))
        elif type(node) is NavigableString:  # comments and the like are instances of subclasses
            reader.add(clean(str(node)))
    text, sections = reader.finish()
    return title, text, sections


def _is_unseen(tag: Tag) -> bool:
    hidden = tag.has_attr("hidden") or tag.get("aria-hidden") == "true"
    return tag.name in UNSEEN or hidden or _HIDDEN.search(str(tag.get("style") or "")) is not None


class _Reader:
    """Collects a text with blocks on separate lines and blanks as a browser shows them."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._gap = ""  # the blanks before the next words
        self._kept = 0  # the number of open tags that keep blanks unchanged
        self._outline = Outline()
        self._heading: tuple[int, int] | None = None  # the level and first part of a heading
        self._at = 0

    def enter(self, tag: Tag) -> None:
        if tag.name in BLOCKS:
            self._gap = "\n\n" if tag.name in ("p", *HEADINGS) else self._gap or "\n"
        self._kept += tag.name == "pre"
        if tag.name in HEADINGS:
            self._heading = HEADINGS[tag.name], len(self._parts)

    def leave(self, tag: Tag) -> None:
        self._kept -= tag.name == "pre"
        if tag.name in HEADINGS and self._heading is not None:
            level, first = self._heading
            words = "".join(self._parts[first:]).strip()
            if words:
                start = self._length - len("".join(self._parts[first:]).lstrip())
                self._outline.begin(start, level, words)
            self._heading = None
        if tag.name in CELLS:
            self._gap = self._gap if "\n" in self._gap else " "
        elif tag.name in BLOCKS:
            self._gap = "\n\n" if tag.name in ("p", *HEADINGS) else self._gap or "\n"

    def add(self, text: str) -> None:
        if self._kept:
            words = text.replace("\r\n", "\n").replace("\r", "\n")
        else:
            words = " ".join(text.split())
            if not words:
                self._gap = self._gap or (" " if text else "")
                return
            self._gap = self._gap or (" " if text[0].isspace() else "")
        for part in (self._gap if self._parts else "", words):
            self._parts.append(part)
            self._length += len(part)
        self._gap = " " if not self._kept and text[-1].isspace() else ""

    def finish(self) -> tuple[str, tuple[Section, ...]]:
        return "".join(self._parts), self._outline.end(self._length)
