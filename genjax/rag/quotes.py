"""Find the quotes and citations in an answer, and compare quotes with texts.

Quotes are in ``"…"``, ``“…”``, ``„…“``, ``„…”``, ``”…”``, ``«…»``, ``»…«``, ``‹…›``, ``「…」`` or
``『…』``; quotes of three words or more may also be in ``'…'``, ``‘…’`` or ``‚…‘``. Only the
outermost of nested quotes counts. A quote that is not closed ends with its paragraph.

A citation is the id of a record in square brackets, ``[…]`` or those of other scripts, or several
ids separated by commas.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from genjax.rag.sentences import Span

PAIRS = {  # the closing marks of each opening mark
    '"': '"',
    "＂": "＂",
    "“": "”",
    "„": "“”",
    "”": "”",
    "«": "»",
    "»": "«",
    "‹": "›",
    "「": "」",
    "『": "』",
    "'": "'",
    "‘": "’",
    "‚": "‘’",
}
ALIKE = '"＂”'  # the opening marks that may also close
SINGLE = "'‘‚"  # the opening marks that may be apostrophes
FEWEST, FARTHEST = 3, 1000  # the fewest words and most characters in single marks
NESTED = 3000  # the characters of a quote that are searched for nested quotes
SEARCHED = 300_000  # the same of a whole paragraph, which only unbalanced quotes reach
_SINGLE_END = {  # a closing mark behind a character that is not blank, and before no letter
    mark: re.compile(rf"[{PAIRS[mark]}](?<!\s[{PAIRS[mark]}])(?![^\W_])") for mark in SINGLE
}
_BRACKETS = re.compile(r"[\[【［]([^\[\]【】［］\n]{1,2000})[\]】］]")
_ID = re.compile(r"[0-9a-fA-F]{6,}(?:-[0-9a-fA-F]{2,})+|[0-9a-fA-F]{32}")
_EDITED = re.compile(r"(?i)sic|\.\.\.|…|x|!|\?|[a-z]")  # brackets added by editors, not citations
_SEPARATED = re.compile(r"\s*[,;|]\s*")
# The letters of scripts without blanks between words, or with endings attached to words.
_JOINED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff]"
)
_ALIKE = {
    **dict.fromkeys(map(ord, "“”„‟«»‹›‘’‚‛`´′″＂＇「」『』'"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–—―−"), "-"),
    **dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff")),  # invisible characters
    ord("…"): "...",
}
_QUOTED = re.compile(r"^(?:> ?)+", re.MULTILINE)
_EDGES = " .,;:!?\"'"


@dataclass(frozen=True)
class Citation:
    """The ids in one pair of brackets.

    Attributes:
      span: the span of the brackets.
      ids: the ids between them.
    """

    span: Span
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Quote:
    """A quote in an answer.

    Attributes:
      span: the span of the quote, marks included.
      text: the text between the marks, without citations.
      within: the citations between the marks.
    """

    span: Span
    text: str
    within: tuple[Citation, ...] = ()


def find_citations(answer: str, known: Collection[str]) -> list[Citation]:
    """Return all brackets that may be citations, in order.

    Citations are known ids, texts in the form of an id, and any other single word. Additions of
    editors ("[sic]", "[...]", one letter) and links of Markdown are not.
    """
    found = []
    for match in _BRACKETS.finditer(answer):
        inner = match[1].strip()
        parts = (inner,) if inner in known else tuple(p for p in _SEPARATED.split(inner) if p)
        if any(one in known or _ID.fullmatch(one) for one in parts) or (
            len(parts) == 1
            and not re.search(r"\s", inner)
            and not _EDITED.fullmatch(inner)
            and answer[match.end() : match.end() + 1] != "("
        ):
            found.append(Citation(Span(*match.span()), parts))
    return found


def is_certain(citation: Citation, known: Collection[str]) -> bool:
    """Return whether brackets are a citation even within a quote."""
    return any(one in known or _ID.fullmatch(one) for one in citation.ids)


def find_quotes(answer: str, known: Collection[str]) -> list[Quote]:
    """Return the outermost quotes of an answer, in order."""
    cited = [one for one in find_citations(answer, known) if is_certain(one, known)]
    places = [one.span.start for one in cited]
    found, at = [], 0
    for paragraph in re.split(r"(\n\s*\n)", answer):
        for start, end in _find_spans(paragraph):
            span = Span(at + start, at + end)
            first, last = (bisect.bisect_left(places, place) for place in span)
            within = tuple(cited[first:last])
            last = span.end - (answer[span.end - 1] in _closers(answer[span.start]))
            text, begin = "", span.start + 1
            for citation in within:
                text += answer[begin : citation.span.start]
                begin = citation.span.end
            text += answer[begin:last]
            if normalise(text).strip(_EDGES):
                found.append(Quote(span, text, within))
        at += len(paragraph)
    return found


def _closers(mark: str) -> str:
    return PAIRS[mark]


def _find_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of the outermost quotes of a paragraph, marks included."""
    at, left = 0, SEARCHED
    while at < len(text):
        if text[at] not in PAIRS or not _opens(text, at):
            at += 1
            continue
        if text[at] in SINGLE:
            end = _find_single(text, at)
            if end is None:
                at += 1
                continue
        else:
            end, searched = _find_end(text, at, min(NESTED, left))
            left -= searched
        yield at, end
        at = end


def _opens(text: str, at: int) -> bool:
    """Return whether a mark opens a quote, by the characters around it."""
    mark, before, after = text[at], text[at - 1 : at], text[at + 1 : at + 2]
    if mark in "“„«‹「『":
        return mark != "«" or not before or not before.isalnum() or after.isspace()
    if mark == "»":  # it may open or close
        return bool(after.strip()) and not before.isalnum()
    free = not before or not (before.isalnum() or before in ".,!?…%)]")
    return free and bool(after) and (not after.isspace() or mark not in SINGLE)


def _find_end(text: str, at: int, most: int) -> tuple[int, int]:
    """Return the end of the quote that a mark opens, and the number of characters searched.

    Quotes of the same kind may be nested; if they do not balance within the ``most`` characters
    that are searched, the first closing mark counts, or else the end of the text.
    """
    mark, closers = text[at], PAIRS[text[at]]
    depth, first, last = 1, None, min(len(text), at + most)
    for place in range(at + 1, last):
        one = text[place]
        if one == mark and one not in closers:
            depth += 1
        elif one in closers:
            if one in ALIKE and one == mark and _opens(text, place) and _has_word(text, place):
                depth += 1
                continue
            first = place + 1 if first is None else first
            depth -= 1
            if depth == 0:
                return place + 1, place - at
    if first is None:  # every mark seemed to open another quote, or the end is far
        later = [place for one in closers if (place := text.find(one, at + 1)) > 0]
        first = min(later) + 1 if later else len(text)
    return first, last - at


def _has_word(text: str, at: int) -> bool:
    """Return whether a word follows a mark directly."""
    return text[at + 1 : at + 2].isalnum()


def _find_single(text: str, at: int) -> int | None:
    """Return the end of a quote in single marks, which may also be apostrophes."""
    line = text.find("\n", at + 1, at + FARTHEST)
    last = min(len(text), at + FARTHEST) if line < 0 else line
    # The character after the last mark is read, too.
    match = _SINGLE_END[text[at]].search(text, at + 1, last + 1)
    if match is None or match.start() >= last:
        return None
    enough = len(text[at + 1 : match.start()].split()) >= FEWEST
    return match.end() if enough else None


def normalise(text: str) -> str:
    """Return the form of a text in which quotes are compared.

    The prefix ``> `` of quoted lines and invisible characters are removed, and letters are composed
    (NFC). A run of blanks becomes one blank, every quotation mark ``"``, every dash ``-``, and an
    ellipsis three points.
    """
    plain = unicodedata.normalize("NFC", _QUOTED.sub("", text).translate(_ALIKE))
    return " ".join(plain.split())


def stands_in(quote: str, text: str) -> bool:
    """Return whether a quote occurs in a text, word for word.

    Case counts except for the first letter; punctuation at the ends does not. The quote must not
    start or end within a word or a number.

    Args:
      quote: the text of the quote, without its marks.
      text: the normalised text to search.
    """
    wanted = normalise(quote).strip(_EDGES)
    if not wanted:
        return False
    forms = {wanted, wanted[0].swapcase() + wanted[1:]}
    return any(_is_whole(text, at, len(form)) for form in forms for at in _find_all(form, text))


def _find_all(part: str, text: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _is_whole(text: str, at: int, length: int) -> bool:
    end = at + length
    before, after = text[max(at - 2, 0) : at], text[end : end + 2]
    return not (
        _joins(before[-1:], text[at])
        or _joins(text[end - 1], after[:1])
        or (text[at].isdigit() and re.fullmatch(r"\d[.,]", before))
        or (text[end - 1].isdigit() and re.fullmatch(r"[.,]\d", after))
    )


def _joins(left: str, right: str) -> bool:
    """Return whether two neighbouring characters belong to one word."""
    if not left or not right or _JOINED.match(left) or _JOINED.match(right):
        return False
    mark = unicodedata.combining(right) > 0
    return (left.isalnum() and right.isalnum()) or (left.isalnum() and mark)
