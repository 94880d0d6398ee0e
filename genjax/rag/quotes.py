"""Quotes and citations in an answer: where they stand, and how a quote compares with a text.

Quotes are in ``"…"``, ``“…”``, ``„…“``, ``„…”``, ``”…”``, ``«…»``, ``»…«``, ``‹…›``, ``「…」`` or
``『…』``; and, of three words or more, in ``'…'``, ``‘…’`` or ``‚…‘``. They may lie within each
other; the outer one counts. One that is not closed goes to the end of its paragraph.

A citation is the id of a record in square brackets, ``[…]``, also those of other scripts, or
several with commas between.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from genjax.rag.sentences import Span

PAIRS = {  # what closes each kind
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
ALIKE = '"＂”'  # what opens may close as well
SINGLE = "'‘‚"  # apostrophes look like these
FEWEST, FARTHEST = 3, 1000  # words of a quote in single marks at least, and characters at most
_BRACKETS = re.compile(r"[\[【［]([^\[\]【】［］\n]{1,2000})[\]】］]")
_ID = re.compile(r"[0-9a-fA-F]{6,}(?:-[0-9a-fA-F]{2,})+|[0-9a-fA-F]{32}")
_EDITED = re.compile(r"(?i)sic|\.\.\.|…|x|!|\?|[a-z]")  # brackets of editors, not citations
_SEPARATED = re.compile(r"\s*[,;|]\s*")
# Letters of scripts that put no blank between words, or endings right behind them.
_JOINED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff]"
)
_ALIKE = {
    **dict.fromkeys(map(ord, "“”„‟«»‹›‘’‚‛`´′″＂＇「」『』'"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–—―−"), "-"),
    **dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff")),  # unseen
    ord("…"): "...",
}
_QUOTED = re.compile(r"^(?:> ?)+", re.MULTILINE)
_EDGES = " .,;:!?\"'"


@dataclass(frozen=True)
class Citation:
    """Ids in one pair of brackets.

    Attributes:
      span: of the brackets.
      ids: between them.
    """

    span: Span
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Quote:
    """A quote in an answer.

    Attributes:
      span: with its marks.
      text: between the marks, without the citations in it.
      within: these citations.
    """

    span: Span
    text: str
    within: tuple[Citation, ...] = ()


def find_citations(answer: str, known: Collection[str]) -> list[Citation]:
    """All brackets that may be meant as citations, in order.

    Those are known ids, what has the form of an id, and any other single word. What editors put in
    brackets ("[sic]", "[...]", one letter), links of Markdown and pairs of numbers are not.
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
    """Whether brackets are a citation even within a quote."""
    return any(one in known or _ID.fullmatch(one) for one in citation.ids)


def find_quotes(answer: str, known: Collection[str]) -> list[Quote]:
    """The outermost quotes of an answer, in order."""
    cited = [one for one in find_citations(answer, known) if is_certain(one, known)]
    found, at = [], 0
    for paragraph in re.split(r"(\n\s*\n)", answer):
        for start, end in _find_spans(paragraph):
            span = Span(at + start, at + end)
            within = tuple(c for c in cited if span.start < c.span.start < span.end)
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
    """The spans of outermost quotes of a paragraph, marks included."""
    at = 0
    while at < len(text):
        if text[at] not in PAIRS or not _opens(text, at):
            at += 1
            continue
        end = _find_end(text, at)
        if end is None and text[at] in SINGLE:
            at += 1
            continue
        end = len(text) if end is None else end
        yield at, end
        at = end


def _opens(text: str, at: int) -> bool:
    """Whether a mark opens a quote, by what is around it."""
    mark, before, after = text[at], text[at - 1 : at], text[at + 1 : at + 2]
    if mark in "“„«‹「『":
        return mark != "«" or not before or not before.isalnum() or after.isspace()
    if mark == "»":  # it closes as often as it opens
        return bool(after.strip()) and not before.isalnum()
    free = not before or not (before.isalnum() or before in ".,!?…%)]")
    return free and bool(after) and (not after.isspace() or mark not in SINGLE)


def _find_end(text: str, at: int) -> int | None:
    """Where a quote ends that opens at a mark; None where it is not closed.

    Other quotes of the same kind may lie within; where they do not add up, the first mark that
    closes counts.
    """
    mark, closers = text[at], PAIRS[text[at]]
    if mark in SINGLE:
        return _find_single(text, at)
    depth, first = 1, None
    for place in range(at + 1, len(text)):
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
                return place + 1
    if first is None and mark in ALIKE:  # all that came looked as if it opened another
        later = text.find(mark, at + 1)
        return later + 1 if later > 0 else None
    return first


def _has_word(text: str, at: int) -> bool:
    """Whether a word follows a mark at once."""
    return text[at + 1 : at + 2].isalnum()


def _find_single(text: str, at: int) -> int | None:
    """The end of a quote in single marks, which apostrophes look like."""
    for place in range(at + 1, min(len(text), at + FARTHEST)):
        if text[place] == "\n":
            return None
        after, before = text[place + 1 : place + 2], text[place - 1]
        if text[place] in PAIRS[text[at]] and not after.isalnum() and not before.isspace():
            enough = len(text[at + 1 : place].split()) >= FEWEST
            return place + 1 if enough else None
    return None


def normalise(text: str) -> str:
    """A text as quotes are compared: characters that look alike are one.

    Lines without the ``> `` that marks them as quoted, composed forms of letters (NFC), any run of
    blanks as one, all marks of quotes as one, all dashes as one, three points for an ellipsis,
    without characters that nobody sees.
    """
    plain = unicodedata.normalize("NFC", _QUOTED.sub("", text).translate(_ALIKE))
    return " ".join(plain.split())


def stands_in(quote: str, text: str) -> bool:
    """Whether a quote stands in a text, word for word.

    Small and large letters count, but for the first letter; marks at its ends do not. It neither
    begins nor ends within a word or a number.

    Args:
      quote: without its marks.
      text: that is already normalised.
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
    """Whether two characters are of one word."""
    if not left or not right or _JOINED.match(left) or _JOINED.match(right):
        return False
    mark = unicodedata.combining(right) > 0
    return (left.isalnum() and right.isalnum()) or (left.isalnum() and mark)
