"""Parts of a text under headings, and what a text may not hold."""

from __future__ import annotations

import re
from typing import NamedTuple

DEEPEST = 6  # levels of headings
LONGEST = 200  # characters of a heading that are kept
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_OTHER = re.compile(r"\s*[#>|*+-]")  # begins a line that no underline makes a heading of
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")


class Section(NamedTuple):
    """Characters from ``start`` to before ``end``, and the headings that they are under, the
    widest first.
    """

    start: int
    end: int
    headings: tuple[str, ...]


class Outline:
    """Sections of a text that is read from its start on."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []  # levels and headings
        self._start = 0
        self._sections: list[Section] = []

    def begin(self, at: int, level: int, heading: str) -> None:
        """Begin a section at a character, under a heading of a level from 1."""
        self._close(at)
        self._open = [one for one in self._open if one[0] < level]
        if words := " ".join(heading.split())[:LONGEST]:
            self._open.append((level, words))

    def end(self, at: int) -> tuple[Section, ...]:
        """All sections of a text of so many characters."""
        self._close(at)
        return tuple(self._sections)

    def _close(self, at: int) -> None:
        if at > self._start:
            headings = tuple(heading for _, heading in self._open)
            self._sections.append(Section(self._start, at, headings))
            self._start = at


def split_markdown(text: str) -> tuple[Section, ...]:
    """The sections of a text of Markdown, by its headings outside of code."""
    outline = Outline()
    at, before, fence = 0, "", ""
    before_at = 0
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\n")
        if fence:
            closes = (found := _FENCE.match(bare)) is not None and found[1].startswith(fence)
            fence = "" if closes and not bare.strip(" `~") else fence
        elif (found := _FENCE.match(bare)) is not None:
            fence = found[1]
        elif (heading := _HEADING.fullmatch(bare)) is not None:
            outline.begin(at, len(heading[1]), heading[2] or "")
        elif before.strip() and (under := _UNDERLINE.fullmatch(bare)) is not None:
            outline.begin(before_at, 1 if under[1][0] == "=" else 2, before)
        before, before_at = ("" if fence or _OTHER.match(bare) else bare), at
        at += len(line)
    return outline.end(len(text))


def clean(text: str) -> str:
    """A text without what no database stores: NUL and halves of surrogate pairs."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
