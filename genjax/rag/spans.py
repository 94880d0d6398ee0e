"""Find the words of a sentence that answer a question, by the kind of question.

For English and German questions the answer is a number, a time or a name; otherwise it is the
longest part of the sentence whose words are not in the question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from genjax.rag.sentences import Span
from genjax.rag.words import Language

_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve twenty thirty hundred thousand "
    "million billion zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig dreißig "
    "hundert tausend half dozen"
)
_NUMBER = re.compile(
    rf"(?:[$€£]\s?)?\d[\d.,:–-]*\d|\d½?|\b(?:{'|'.join(_NUMBER_WORDS.split())})\b", re.IGNORECASE
)
_UNIT = re.compile(
    r"(?:\s?%|\s(?:percent|prozent|million(?:en)?|billion|milliarden?|thousand|years?|jahre|days?|tage|"
    r"minutes?|minuten|seconds?|sekunden|hours?|stunden|miles|meilen|km|m|meters?|metern?|feet|dollars?"
    r"|points?|punkte)\b)+",
    re.IGNORECASE,
)
_MONTHS = (
    "january february march april may june july august september october november december "
    "januar februar märz mai juni juli oktober dezember"
)
_MONTH = rf"(?:{'|'.join(dict.fromkeys(_MONTHS.split()))})"
_TIME = re.compile(
    rf"(?:\d{{1,2}}\.?\s)?{_MONTH}(?:\s\d{{1,2}}(?:,?\s\d{{4}})?|\s\d{{4}})?"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)\scentury|\b\d{{1,2}}\.\sJahrhunderts?"
    rf"|\b1\d{{3}}s?\b|\b20\d\d\b|\b\d{{3,4}}\s(?:BC|AD|v\.\sChr\.|n\.\sChr\.)",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"[A-ZÄÖÜÉ][\w'’.&-]*(?:\s(?:of|the|de|la|von|van|der|und|and|for)\s(?=[A-ZÄÖÜ])|"
    r"\s(?=[A-ZÄÖÜÉ\d]))?(?:[A-ZÄÖÜÉ\d][\w'’.&-]*(?:\s(?:of|the|de|la|von|van|der)\s(?=[A-ZÄÖÜ])|"
    r"\s(?=[A-ZÄÖÜÉ\d]))?)*"
)
_KINDS: tuple[tuple[re.Pattern[str], tuple[re.Pattern[str], ...]], ...] = (
    (
        re.compile(
            r"\b(how (many|much|old|long|far|tall|large|big)"
            r"|wie ?(viele?n?|alt|lange?|weit|hoch|groß)"
            r"|what (percent\w*|number|amount)|welche (anzahl|zahl))\b",
            re.IGNORECASE,
        ),
        (_NUMBER,),
    ),
    (
        re.compile(
            r"\b(when|wann|(what|which|in what|in which) (year|date|day|month|century|decade)"
            r"|welche[msn]? (jahr\w*|datum|tag|monat))\b",
            re.IGNORECASE,
        ),
        (_TIME, _NUMBER),
    ),
    (
        re.compile(r"\b(who|whom|whose|wer|wem|wen|wessen|where|wo|woher|wohin)\b", re.IGNORECASE),
        (_NAME,),
    ),
)


def find_span(question: str, sentence: str, language: Language) -> str:
    """Return the words of a sentence that answer a question; the whole sentence if unclear."""
    for asked, patterns in _KINDS:
        if asked.search(question):
            for pattern in patterns:
                if found := _find_fitting(pattern, question, sentence, language):
                    return found
            break
    return (
        _find_fitting(_NAME, question, sentence, language, later=True)
        or _find_new(question, sentence, language)
        or sentence
    )


def _find_new(question: str, sentence: str, language: Language) -> str:
    """Return the longest run of words of a sentence that are not in the question."""
    asked = set(language.find_stems(question))
    runs: list[Span] = []
    open_ = False
    for match in re.finditer(r"[\w'’.-]*\w|[,;:()\[\]“”„\"–—]", sentence):
        word = match[0].casefold()
        new = word[0].isalnum() and language.stem(word) not in asked
        if new and open_:
            runs[-1] = Span(runs[-1].start, match.end())
        elif new and word not in language.function_words:
            runs.append(Span(*match.span()))
        open_ = new and (open_ or word not in language.function_words)
    best = max(runs, key=lambda run: run.end - run.start, default=Span(0, 0))
    words = sentence[best.start : best.end].split()
    while words and words[-1].casefold() in language.function_words:
        words.pop()
    return " ".join(words)


def _find_fitting(
    pattern: re.Pattern[str],
    question: str,
    sentence: str,
    language: Language,
    later: bool = False,
) -> str:
    """Return the match nearest to the shared words that has a word not in the question, or ""."""
    asked = set(language.find_stems(question))
    shared = [
        match.start()
        for match in re.finditer(r"\w+", sentence)
        if language.stem(match[0].casefold()) in asked
        and match[0].casefold() not in language.function_words
    ]
    found: list[tuple[float, Span]] = []
    for match in pattern.finditer(sentence):
        span = _extend(sentence, Span(*match.span()), pattern)
        words = language.find_content(sentence[span.start : span.end])
        if not words or all(word in asked for word in words):
            continue
        if later and match.start() == 0 and len(words) == 1:
            continue  # the first word of a sentence is always capitalised
        found.append((_distance(span, shared), span))
    if not found:
        return ""
    _, best = min(found)
    return sentence[best.start : best.end].strip(" .,;:!?")


def _extend(sentence: str, span: Span, pattern: re.Pattern[str]) -> Span:
    """Extend a number by its unit; return other spans unchanged."""
    unit = _UNIT.match(sentence, span.end) if pattern is _NUMBER else None
    return Span(span.start, unit.end()) if unit is not None else span


def _distance(span: Span, shared: Sequence[int]) -> float:
    if not shared:
        return float(span.start)
    gaps = sorted(min(abs(at - span.start), abs(at - span.end)) for at in shared)
    return sum(gaps[:3]) / len(gaps[:3])
