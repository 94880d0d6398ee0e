"""Split texts into sections by their headings, and remove characters that cannot be stored."""

from __future__ import annotations

import re
from typing import NamedTuple

DEEPEST = 6  # the number of levels of headings
LONGEST = 200  # the most characters kept of a heading
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_OTHER = re.compile(r"\s*[#>|*+-]")  # the start of a line that is never a heading by underline
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")


class Section(NamedTuple):
    """The characters from ``start`` to before ``end``, with the headings above them.

    The headings are ordered from the highest level to the lowest.
    """

    start: int
    end: int
    headings: tuple[str, ...]


class Outline:
    """A collector of the sections of a text that is read from start to end."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []  # levels and headings
        self._start = 0
        self._sections: list[Section] = []

    def begin(self, at: int, level: int, heading: str) -> None:
        """Begin a section at character ``at`` under a heading; levels count from 1."""
        self._close(at)
        self._open = [one for one in self._open if one[0] < level]
        if words := " ".join(heading.split())[:LONGEST]:
            self._open.append((level, words))

    def end(self, at: int) -> tuple[Section, ...]:
        """Return all sections of the text, which ends at character ``at``."""
        self._close(at)
        return tuple(self._sections)

    def _close(self, at: int) -> None:
        if at > self._start:
            headings = tuple(heading for _, heading in self._open)
            self._sections.append(Section(self._start, at, headings))
            self._start = at


def split_markdown(text: str) -> tuple[Section, ...]:
    """Return the sections of a Markdown text, by its headings outside code."""
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
    """Replace the characters that databases cannot store: NUL and surrogates."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
