"""Check an answer against its sources by rules alone.

Each cited id must have been retrieved. Each quote must occur, word for word, in a record that it is
cited from: a record in the brackets right behind it, else in those before it in its sentence, else
in the next ones behind it. If several quotes share a citation, each quote must occur in one of the
records and each record must contain one of the quotes. A statement that has a citation but no quote
must share half of its words with each cited record. Faults are marked and counted.

A document may try to mislead a model, for example by asking it to cite another document. The check
therefore compares the answer with the texts of the records and never asks a model.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from genjax.rag.quotes import (
    Citation,
    Quote,
    find_citations,
    find_quotes,
    is_certain,
    normalise,
    stands_in,
)
from genjax.rag.sentences import Span, split_sentences
from genjax.rag.words import Language

Kind: TypeAlias = Literal[
    "invented id", "altered quote", "wrong source", "uncited quote", "unsupported", "no citation"
]
UNKNOWN = "I don't know."
SUPPORT = 0.5  # the share of a statement's words that its records must contain
_POINTING = re.compile(  # words that add nothing to a citation
    r"(?i)\b(see|sources?|according|documents?|records?|references?|answer|siehe|quellen?|laut|gemäß"
    r"|dokumente?n?|antwort)\b"
)
_BETWEEN = re.compile(r"[\s.,;:!?…()\]*_—–-]*")  # the text between a quote and its citation
# Masked citations behind a full stop; if a small letter follows, they start a sentence instead.
_AFTER_STOP = re.compile(
    r"([.!?。！？])[^\S\n]*+\(?\x00++(?:[^\S\n]*+\x00++)*+\)?"
    r"(?=[^\S\n]*+(?:\n|$|[^\s\w]|(?![a-zß-ÿ])\w))"
)
_NEW_LINE = re.compile(r"[^\n](?=\n\x00++[^\S\n]++[a-zß-ÿ])")  # before a line that cites first
_REFUSALS = re.compile(
    r"\W*(?:i (?:do not|don['’]t) know|ich wei(?:ß|ss) (?:es|das) nicht)\W*", re.I
)


@dataclass(frozen=True)
class Fault:
    """A part of an answer that its sources do not support.

    Attributes:
      kind: the kind of fault: "invented id", an id that was not retrieved; "altered quote", a
        quote in none of the records; "wrong source", a quote from another record; "uncited
        quote", a quote without a citation; "unsupported", a statement whose words are not in its
        records; "no citation", an answer without citations.
      span: the span of the citation, quote or statement.
      what: the text of the id, quote or statement.
    """

    kind: Kind
    span: Span
    what: str


@dataclass(frozen=True)
class Checked:
    """The result of a check.

    Attributes:
      answer: the unchanged answer.
      faults: the faults, in the order of the answer.
      cited: the ids that were retrieved and cited, each once.
      quotes: the number of quotes.
    """

    answer: str
    faults: tuple[Fault, ...]
    cited: tuple[str, ...]
    quotes: int

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the number of faults of each kind."""
        return Counter(fault.kind for fault in self.faults)

    @property
    def marked(self) -> str:
        """Return the answer with a mark ``[!kind]`` behind each fault."""
        text = self.answer
        for fault in sorted(self.faults, key=lambda one: -one.span.end):
            text = f"{text[: fault.span.end]} [!{fault.kind}]{text[fault.span.end :]}"
        return text


@dataclass
class _Scope:
    """A sentence of an answer, with its quotes and citations."""

    span: Span
    quotes: list[Quote] = field(default_factory=list)
    groups: list[list[Citation]] = field(default_factory=list)


def check_answer(
    answer: str, records: Mapping[str, str], language: Language, question: str = ""
) -> Checked:
    """Check the citations and quotes of an answer.

    Args:
      answer: the answer.
      records: the texts of the retrieved records, by id.
      language: the language in which statements are compared.
      question: the question; a quote from it needs no citation.
    """
    if _REFUSALS.fullmatch(answer.strip()):
        return Checked(answer, (), (), 0)
    quotes = find_quotes(answer, records)
    inside = _mark_inside(answer, quotes)
    citations = [
        one
        for one in find_citations(answer, records)
        if is_certain(one, records) or not inside[one.span.start]
    ]
    texts = {one: normalise(text) for one, text in records.items()}
    faults = [
        Fault("invented id", citation.span, one)
        for citation in citations
        for one in citation.ids
        if one not in records
    ]
    for scope in _split(answer, quotes, citations):
        faults += _check_quotes(answer, scope, texts, normalise(question))
        faults += _check_statements(answer, scope, texts, language)
    if not citations and answer.strip() and not faults:
        faults.append(Fault("no citation", Span(0, len(answer.rstrip())), answer.strip()[:200]))
    faults.sort(key=lambda fault: (fault.span, fault.kind, fault.what))
    cited = dict.fromkeys(i for citation in citations for i in citation.ids if i in records)
    return Checked(answer, tuple(dict.fromkeys(faults)), tuple(cited), len(quotes))


def _mark_inside(answer: str, quotes: Sequence[Quote]) -> bytearray:
    """Return 1 for each character that is in a quote and 0 for the others."""
    inside = bytearray(len(answer))
    for quote in quotes:
        inside[slice(*quote.span)] = b"\1" * (quote.span.end - quote.span.start)
    return inside


def _split(answer: str, quotes: Sequence[Quote], citations: Sequence[Citation]) -> list[_Scope]:
    """Return the sentences of an answer, with their quotes and citations.

    No sentence ends within a quote. Citations behind a full stop belong to the sentence before it.
    """
    masked = list(answer)
    for quote in quotes:
        masked[quote.span.start : quote.span.end] = "Q" * (quote.span.end - quote.span.start)
    inside = _mark_inside(answer, quotes)
    outside = [c for c in citations if not inside[c.span.start]]
    for citation in outside:
        masked[citation.span.start : citation.span.end] = "\x00" * (
            citation.span.end - citation.span.start
        )
    text = _move_stops("".join(masked))
    scopes = [_Scope(span) for span in split_sentences(text)]
    starts = [scope.span.start for scope in scopes]
    for quote in quotes:
        scopes[bisect.bisect_right(starts, quote.span.start) - 1].quotes.append(quote)
    for citation in outside:
        groups = scopes[bisect.bisect_right(starts, citation.span.start) - 1].groups
        last = groups[-1][-1].span if groups else None
        if last is not None and not _BETWEEN.sub("", answer[last.end : citation.span.start]):
            groups[-1].append(citation)
        else:
            groups.append([citation])
    return scopes


def _move_stops(text: str) -> str:
    """Move the full stops of a masked text behind the citations that follow them."""

    def move(match: re.Match[str]) -> str:
        return "x" * (len(match[0]) - 1) + match[1]

    moved = _NEW_LINE.sub(".", _AFTER_STOP.sub(move, text))
    return re.sub(r"\x00+", lambda match: "X" * len(match[0]), moved)


def _check_quotes(
    answer: str, scope: _Scope, texts: Mapping[str, str], question: str
) -> list[Fault]:
    faults: list[Fault] = []
    owned: dict[int, list[Quote]] = {}
    owners = _find_owners(answer, scope, texts)
    for quote in scope.quotes:
        at = owners[quote]
        if quote.within:  # it has citations within its marks
            joined = [*quote.within, *(scope.groups[at] if at is not None else ())]
            faults += _check_group([quote], joined, texts)
        elif at is not None:
            owned.setdefault(at, []).append(quote)
        elif not (question and stands_in(quote.text, question)):
            faults.append(Fault("uncited quote", quote.span, quote.text))
    for at, quotes in owned.items():
        faults += _check_group(quotes, scope.groups[at], texts)
    return faults


def _find_owners(answer: str, scope: _Scope, texts: Mapping[str, str]) -> dict[Quote, int | None]:
    """Return the index of the group of citations that each quote of a sentence belongs to."""
    groups = scope.groups
    owners = {quote: _find_following(answer, quote, groups) for quote in scope.quotes}
    for quote, at in owners.items():  # for example: [a] says "this", [b] "that"
        if at is None or not re.search("[,;:]", answer[quote.span.end : groups[at][0].span.start]):
            continue
        taken = {other for one, other in owners.items() if one is not quote}
        before = _find_around(quote, groups[:at], taken)
        later = any(one.span.start >= groups[at][-1].span.end for one in scope.quotes)
        if before is not None and later and _holds(groups[before], quote, texts):
            owners[quote] = before
    taken = {at for at in owners.values() if at is not None}
    for quote, at in owners.items():
        if at is None and not quote.within:
            owners[quote] = _find_around(quote, groups, taken)
    return owners


def _find_following(answer: str, quote: Quote, groups: Sequence[list[Citation]]) -> int | None:
    """Return the index of the citations right behind a quote, or None."""
    at = bisect.bisect_left(groups, quote.span.end, key=lambda group: group[0].span.start)
    if at == len(groups):
        return None
    return at if _BETWEEN.fullmatch(answer, quote.span.end, groups[at][0].span.start) else None


def _find_around(
    quote: Quote, groups: Sequence[list[Citation]], taken: Collection[int | None]
) -> int | None:
    """Return the index of the nearest free citations before a quote, else of the next behind it."""
    before = [
        at
        for at, group in enumerate(groups)
        if at not in taken and group[-1].span.end <= quote.span.start
    ]
    after = [at for at, group in enumerate(groups) if group[0].span.start >= quote.span.end]
    return before[-1] if before else after[0] if after else None


def _holds(group: Sequence[Citation], quote: Quote, texts: Mapping[str, str]) -> bool:
    """Return whether a cited record contains a quote."""
    ids = (one for citation in group for one in citation.ids if one in texts)
    return any(stands_in(quote.text, texts[one]) for one in ids)


def _check_group(
    quotes: Sequence[Quote], group: Sequence[Citation], texts: Mapping[str, str]
) -> list[Fault]:
    """Return the faults of quotes that share citations.

    Each quote must occur in a record, and each record must contain a quote.
    """
    faults: list[Fault] = []
    known = [(c, one) for c in group for one in c.ids if one in texts]
    for quote in quotes:
        if _holds(group, quote, texts):
            continue
        elsewhere = any(stands_in(quote.text, text) for text in texts.values())
        if elsewhere and not known:
            continue  # the invented id is already a fault
        kind: Kind = "wrong source" if elsewhere else "altered quote"
        faults.append(Fault(kind, quote.span, quote.text))
    if not faults:
        faults += [
            Fault("wrong source", citation.span, one)
            for citation, one in known
            if not any(stands_in(quote.text, texts[one]) for quote in quotes)
        ]
    return faults


def _check_statements(
    answer: str, scope: _Scope, texts: Mapping[str, str], language: Language
) -> list[Fault]:
    """Return the faults of those statements in a sentence that have citations but no quotes.

    The statement of a citation is the text between it and the citation before; if that has no
    words, it is the whole sentence. A record that contains a quote of the sentence passes.
    """
    owned = {at for at in _find_owners(answer, scope, texts).values() if at is not None}
    faults: list[Fault] = []
    begin = scope.span.start
    for at, group in enumerate(scope.groups):
        ids = dict.fromkeys(one for c in group for one in c.ids if one in texts)
        part = Span(begin, group[0].span.start)
        begin = group[-1].span.end
        ids = {one: None for one in ids if not _has_quote(scope, texts[one])}
        if at in owned or not ids:
            continue
        words = _find_said(answer, part, scope, language)
        said = part if words else scope.span
        words = words or _find_said(answer, scope.span, scope, language)
        for one in ids:
            there = set(language.find_stems(texts[one]))
            if words and len(words & there) < SUPPORT * len(words):
                faults.append(Fault("unsupported", said, answer[slice(*said)].strip()[:200]))
                break
            if not words and scope.quotes:
                faults.append(Fault("wrong source", group[0].span, one))
    return faults


def _has_quote(scope: _Scope, text: str) -> bool:
    return any(stands_in(quote.text, text) for quote in scope.quotes)


def _find_said(answer: str, part: Span, scope: _Scope, language: Language) -> set[str]:
    """Return the stems of a part of a sentence outside quotes and citations."""
    left = list(answer[slice(*part)])
    for hidden in (*(q.span for q in scope.quotes), *(c.span for g in scope.groups for c in g)):
        for place in range(max(hidden.start, part.start), min(hidden.end, part.end)):
            left[place - part.start] = " "
    return set(language.find_content(_POINTING.sub(" ", "".join(left))))
