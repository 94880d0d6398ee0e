"""Split texts into sentences by their punctuation."""

from __future__ import annotations

import re
from typing import NamedTuple

# English and German abbreviations, whose full stop does not end a sentence.
_ABBREVIATIONS = """
abs art bd bzgl bzw ca capt cf co col corp dept dipl dr ed eds eng etc evtl fig gen ggf gov
hl hr hrsg inc ing jr jun kap lt ltd max messrs mio min mr mrd mrs ms mt nr no op phd pp
prof rep rev sen sgt sog sr st str tab tel usw vgl vol vs zzgl
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
_MONTHS = """
januar jänner februar märz april mai juni juli august september oktober november dezember
jahrhundert jahrhunderts jh
"""
MONTHS = frozenset(_MONTHS.split())
CLOSING = "\"'”’“»«›‹)\\]】」』"
_END = re.compile(
    rf"[.!?…]+[{CLOSING}]*(?=\s)"  # in Latin and similar scripts, a blank must follow
    rf"|[。！？]+[{CLOSING}]*"
    r"|\n[^\S\n]*(?=\n)"  # an empty line
    r"|\n(?=[^\S\n]*(?:[-*•+>|]|#{1,6}|\d+[.)])[^\S\n])"  # before a list item, table row or heading
    r"|^[^\S\n]{0,3}#{1,6}[^\S\n][^\n]*(?=\n)",  # a heading ends with its line
    re.MULTILINE,
)
_WORD = re.compile(r"([^\W\d_]+|\d+)\.$")


class Span(NamedTuple):
    """The characters of a text from ``start`` to before ``end``."""

    start: int
    end: int


def split_sentences(text: str) -> list[Span]:
    """Return the sentences of a text in order, without the blanks around them.

    A full stop ends a sentence if a blank follows and then anything but a small letter. It does not
    after an abbreviation, a single letter, or a number before a month ("am 3. Mai").
    """
    found, start = [], 0
    for match in _END.finditer(text):
        mark = match[0]
        if mark == "." and not _ends(text, match.end()):
            continue
        if mark[-1] in CLOSING and _is_followed_by_small(text, match.end()):  # “Why?” she said
            continue
        found.append(Span(start, match.end()))
        start = match.end()
    found.append(Span(start, len(text)))
    stripped = (strip_span(text, *span) for span in found)
    return [span for span in stripped if span.start < span.end]


def strip_span(text: str, start: int, end: int) -> Span:
    """Return a span without the blanks at its ends; a span of only blanks becomes empty."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return Span(start, max(start, start + len(part.strip())))


def _ends(text: str, end: int) -> bool:
    """Return whether the single full stop before ``end`` ends a sentence."""
    if _is_followed_by_small(text, end):
        return False
    after = text[end : end + 60].lstrip()
    before = _WORD.search(text, max(0, end - 40), end)
    if before is None:
        return True
    word = before[1].lower()
    if word.isdigit():
        return len(word) > 2 or re.split(r"\W", after.lower(), maxsplit=1)[0] not in MONTHS
    return word not in ABBREVIATIONS and (len(word) > 1 or not word.isalpha())


def _is_followed_by_small(text: str, end: int) -> bool:
    """Return whether the next character that is not blank is a small letter."""
    return text[end : end + 60].lstrip()[:1].islower()
