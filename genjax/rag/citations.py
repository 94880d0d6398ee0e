"""Checks an answer against its sources, by rules alone.

Each cited id must have been retrieved. Each quote must stand, word for word, in the records that it
is cited from: those in the brackets that follow it, else those that come before it in its sentence,
else the next after it there. Of several quotes with one citation, each must stand in one of the
records and each record must have one of the quotes. What is said with a citation and without a
quote must share half of its words with each record that it cites. What fails is marked and counted.

The document that an answer is from may say anything: that another be cited, for one. So what the
answer says is compared with the text of the record, and with nothing that a model says of it.
"""

from __future__ import annotations

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
SUPPORT = 0.5  # of the words of a statement that its records must have
_POINTING = re.compile(  # words that say no more than a citation does
    r"(?i)\b(see|sources?|according|documents?|records?|references?|answer|siehe|quellen?|laut|gemäß"
    r"|dokumente?n?|antwort)\b"
)
_BETWEEN = re.compile(r"[\s.,;:!?…()\]*_—–-]*")  # what may be between a quote and its citation
# Masked citations behind a full stop; where a small letter follows, they begin a sentence.
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
    """Something in an answer that its sources do not bear out.

    Attributes:
      kind: "invented id" of what was not retrieved; "altered quote" of what stands in no record;
        "wrong source" of a quote of another record; "uncited quote"; "unsupported" of a statement
        whose words are not in its records; "no citation" of an answer without any.
      span: of the citation, the quote or the statement.
      what: the id, the quote or the statement.
    """

    kind: Kind
    span: Span
    what: str


@dataclass(frozen=True)
class Checked:
    """What the check found.

    Attributes:
      answer: as it was.
      faults: in the order of the answer.
      cited: the ids that were retrieved and cited, each once.
      quotes: how many there are.
    """

    answer: str
    faults: tuple[Fault, ...]
    cited: tuple[str, ...]
    quotes: int

    @property
    def counts(self) -> Mapping[str, int]:
        """How many faults there are of each kind."""
        return Counter(fault.kind for fault in self.faults)

    @property
    def marked(self) -> str:
        """The answer with a mark ``[!kind]`` behind all that failed."""
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
      records: the texts of what was retrieved, by their ids.
      language: of the words of statements.
      question: what was asked; its own words may be quoted back.
    """
    if _REFUSALS.fullmatch(answer.strip()):
        return Checked(answer, (), (), 0)
    quotes = find_quotes(answer, records)
    citations = [
        one
        for one in find_citations(answer, records)
        if is_certain(one, records) or not any(_is_within(one.span, q.span) for q in quotes)
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


def _is_within(inner: Span, outer: Span) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _split(answer: str, quotes: Sequence[Quote], citations: Sequence[Citation]) -> list[_Scope]:
    """The sentences of an answer: none ends within a quote, and citations that follow a full stop
    belong to the sentence before.
    """
    masked = list(answer)
    for quote in quotes:
        masked[quote.span.start : quote.span.end] = "Q" * (quote.span.end - quote.span.start)
    outside = [c for c in citations if not any(_is_within(c.span, q.span) for q in quotes)]
    for citation in outside:
        masked[citation.span.start : citation.span.end] = "\x00" * (
            citation.span.end - citation.span.start
        )
    text = _move_stops("".join(masked))
    scopes = [_Scope(span) for span in split_sentences(text)]
    for scope in scopes:
        scope.quotes = [q for q in quotes if _is_within(q.span, scope.span)]
        last = None
        for citation in outside:
            if not _is_within(citation.span, scope.span):
                continue
            if last is not None and not _BETWEEN.sub("", answer[last.end : citation.span.start]):
                scope.groups[-1].append(citation)
            else:
                scope.groups.append([citation])
            last = citation.span
    return scopes


def _move_stops(text: str) -> str:
    """A masked text whose full stops come after the citations that follow them."""

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
        if quote.within:  # its citations stand within its marks
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
    """The number of the citations that each quote of a sentence is from."""
    groups = scope.groups
    owners = {quote: _find_following(answer, quote, groups) for quote in scope.quotes}
    for quote, at in owners.items():  # as in: [a] says "this", [b] "that"
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
    """The citations that come right behind a quote."""
    for at, group in enumerate(groups):
        between = answer[quote.span.end : group[0].span.start]
        if group[0].span.start >= quote.span.end and _BETWEEN.fullmatch(between):
            return at
    return None


def _find_around(
    quote: Quote, groups: Sequence[list[Citation]], taken: Collection[int | None]
) -> int | None:
    """The nearest citations before a quote that no other has, else the next behind it."""
    before = [
        at
        for at, group in enumerate(groups)
        if at not in taken and group[-1].span.end <= quote.span.start
    ]
    after = [at for at, group in enumerate(groups) if group[0].span.start >= quote.span.end]
    return before[-1] if before else after[0] if after else None


def _holds(group: Sequence[Citation], quote: Quote, texts: Mapping[str, str]) -> bool:
    """Whether one of the records of citations has a quote."""
    ids = (one for citation in group for one in citation.ids if one in texts)
    return any(stands_in(quote.text, texts[one]) for one in ids)


def _check_group(
    quotes: Sequence[Quote], group: Sequence[Citation], texts: Mapping[str, str]
) -> list[Fault]:
    """Faults of quotes that share citations: each quote stands in a record, each record has one."""
    faults: list[Fault] = []
    known = [(c, one) for c in group for one in c.ids if one in texts]
    for quote in quotes:
        if _holds(group, quote, texts):
            continue
        elsewhere = any(stands_in(quote.text, text) for text in texts.values())
        if elsewhere and not known:
            continue  # the invented id is the fault
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
    """Faults of what a sentence says with citations that no quote is from.

    What stands before citations, since the last ones, is theirs; where that is no word, the whole
    sentence. A record that has one of the sentence's quotes needs no more.
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
    """The words of a part of a sentence that are neither quotes nor citations."""
    left = list(answer[slice(*part)])
    for hidden in (*(q.span for q in scope.quotes), *(c.span for g in scope.groups for c in g)):
        for place in range(max(hidden.start, part.start), min(hidden.end, part.end)):
            left[place - part.start] = " "
    return set(language.find_content(_POINTING.sub(" ", "".join(left))))
