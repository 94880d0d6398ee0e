"""What a word is, in every script: one definition for codecs, filters, and the comparison of texts.

A word is a run of letters, digits and underscores. A mark (an accent, a vowel sign, a variation
selector) and a joiner belong to the character before them; a decimal point or a colon belongs to
the digits around it ("1.5", "12:30"). Every other visible character is a word of its own: a
currency sign, a bracket, a punctuation mark, an emoji with its modifiers. So is an operator of two
characters ("!="). This follows Unicode Standard Annex 29, without its dictionaries: in scripts that
put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) ``split_words`` keeps a
whole run as one word, and ``normalise_words`` makes a word of each character with its marks.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator

# Letters of scripts without spaces between words.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
    "\u3005-\u3007\u3040-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48f\uf900-\ufaff\uff66-\uff9f"
    "\U00016fe0-\U00018dff\U0001b000-\U0001b2ff\U00020000-\U0003ffff"
)
WITHIN = "\u00b7\u0387\u055a-\u055c\u055e\u055f\u05f3\u05f4\u2027"  # may stand between letters
POINTS = ".,:\u066b\u066c\uff0c\uff0e\uff1a"  # between the digits of a number
FLAG = "\U0001f1e6-\U0001f1ff"  # two of them make a flag
SKIN = "\U0001f3fb-\U0001f3ff"
# Invisible characters: break opportunities, direction marks, the byte order mark. Joiners are not
# among them: they change what they join.
INVISIBLE = (
    "\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
)
QUOTES = "「」『』｢｣﹁﹂﹃﹄〝〞〟"  # quotation marks that Unicode classes as brackets
APOSTROPHE = str.maketrans("\u2018\u2019\u02bc", "'''")
SIGNS = (
    "§¶†‡•※‰‱′″‴‵‶‷‸⁂⁎⁑⁕⁗⁁⁓٪٭؉؊"  # punctuation to Unicode, but with a meaning as an operator has it
)
SIGNS += "\u00b7\uff03\uff05\uff06\uff0a\uff0f\uff20\uff3c"
SIGNS += "\ufe5f\ufe60\ufe61\ufe68\ufe6a\ufe6b\u2027\u203b"


def split_words(text: str) -> list[str]:
    """Return the words of a text as written, in order, without white space.

    An apostrophe begins a word: "isn't" is split into "isn" and "'t".
    """
    return _word_pattern(text.isascii()).findall(text)


def word_pattern() -> str:
    """Return a regular expression for a word that engines other than Python's also accept."""
    return _word_pattern(False).pattern


def normalise_words(text: str) -> list[str]:
    """Return the words by which texts are compared, without differences that do not matter.

    These are case, white space, Unicode spellings of a letter, invisible characters and
    punctuation: commas, semicolons and dashes (U+2014) anywhere; full stops, colons, exclamation,
    question and quotation marks at the ends of what white space separates; and their counterparts
    in other scripts. Everything else matters: operators, signs, brackets, decimal points, hyphens,
    an apostrophe within a word, and marks after a number ("5!").
    """
    return normalise_text(text).split()


def normalise_text(text: str) -> str:
    """Return the words of ``normalise_words`` with single spaces between."""
    folded = _fold(text)
    if folded.isascii():
        # Strip the commonest marks first, as most words then need no further check.
        chunks = folded.replace(", ", " ").replace(". ", " ").split()
        if "".join(chunks).isalnum():
            return " ".join(chunks)
        found = [c if c.isalnum() else _normalise_chunk(c) for c in chunks]
    else:
        found = [c if c.isalnum() and c.isascii() else _normalise_chunk(c) for c in folded.split()]
    return " ".join(found) if all(found) else " ".join(filter(None, found))


def word_count(text: str) -> int:
    """Return the number of words; in scripts without spaces each character counts as a word."""
    if text.isascii():
        return len(text.split())
    return sum(len(_unspaced_pattern().findall(chunk)) for chunk in text.split())


def is_word_character(character: str) -> bool:
    """Return whether a character may be part of a word: a letter, digit, underscore, mark or
    joiner.
    """
    return _inside_pattern().match(character) is not None


def phrases(listed: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds listed words and phrases in texts after ``normalise_spelling``.

    Only whole words match; but a phrase in a script without spaces may touch other characters.
    """
    found = sorted({normalise_spelling(phrase) for phrase in listed}, key=len, reverse=True)
    unspaced = re.compile(f"[{UNSPACED}]")
    parts = []
    for phrase in found:
        before = "" if unspaced.match(phrase) else f"(?<![{_classes()}])"
        last = re.sub(f"[{_extending()}]+$", "", phrase)[-1:]
        after = f"(?![{_extending() if unspaced.match(last) else _classes()}])"
        parts.append(before + re.escape(phrase) + after)
    return re.compile("|".join(parts))


def normalise_spelling(text: str) -> str:
    """Return a text in one spelling: Unicode NFC, case folded, without invisible characters."""
    return " ".join(_fold(text).split())


def join_words(words: Iterable[str]) -> str:
    """Join words with spaces, except around punctuation, brackets, clitics and hyphens between
    letters.
    """
    return "".join(_space_words(words))


def _space_words(words: Iterable[str]) -> Iterator[str]:
    glued, quoted, before = True, False, ""
    low: list[str] = []  # German quotation marks; their closing mark opens others
    waiting = ""
    for word in words:
        hyphen = waiting and before and before[-1].isalpha() and word[:1].isalpha()
        if waiting:
            yield waiting if hyphen else f" {waiting}"
            before, waiting, glued = waiting, "", bool(hyphen)
        left, right = _glue(word)
        if word in ("“", "‘") and low:
            low.pop()
            left, right = True, False
        elif word in ("„", "‚"):
            low.append(word)
        elif word == '"':
            left, right, quoted = quoted, not quoted, not quoted
        if word in _HYPHENS and not glued:
            waiting = word
            continue
        yield word if glued or left else f" {word}"
        glued, before = right, word
    if waiting:
        yield f" {waiting}"


_HYPHENS = ("-", "\u2010", "\u2011")


def _glue(word: str) -> tuple[bool, bool]:
    """Return whether a word is attached to the word before, and to the word after."""
    if len(word) > 1 and word[0] in "'\u2019" and is_word_character(word[1]):
        return True, False
    if word == "\u05be":  # joins Hebrew words
        return True, True
    if len(word) > 1:
        return False, False
    kind = unicodedata.category(word)
    if kind[0] == "P" and ("\u3001" <= word <= "\u301f" or "\uff01" <= word <= "\uff65"):
        return True, True  # Chinese and Japanese have no spaces around it
    if word in ".,!?;:%" or kind == "Pe" or (kind == "Pf" and word != "\u2019"):
        return True, False
    if kind in ("Ps", "Pi") or word in "¿¡":
        return False, True
    return kind == "Po" and not word.isascii() and word not in SIGNS, False


def _fold(text: str) -> str:
    """Remove differences of case and Unicode spelling, and invisible characters."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFC", text).casefold().translate(APOSTROPHE)
    return unicodedata.normalize("NFC", _invisible().sub("", text))


@functools.lru_cache(2**16)
def _normalise_chunk(chunk: str) -> str:
    """Return the words to compare of a chunk between white space, with spaces between."""
    core = chunk.rstrip(_ending())
    if re.search(r"(?<!\w)\d+$", core):  # "5!" is not "5", and "6'" is not "6"
        core += re.match(r"[!'\"]*", chunk[len(core) :])[0]  # type: ignore[index]
    core = core.lstrip(_beginning_marks())
    words: list[str] = []
    for word in split_words(core):
        if _is_dropped(word):
            continue
        if word[0] == "'" and len(word) > 1 and words:  # "it's" is one word here
            words[-1] += word
        else:
            words += _unspaced_pattern().findall(word)
    return " ".join(words)


def _is_dropped(word: str) -> bool:
    """Return whether a character is punctuation wherever it stands."""
    if word in ",;\u2014\u2015" or word in QUOTES:
        return True
    kind = unicodedata.category(word[0])
    return (
        len(word) == 1 and not word.isascii() and kind in ("Po", "Pi", "Pf") and word not in SIGNS
    )


@functools.cache
def _ending() -> str:
    """Return the marks that are dropped at the end of a word."""
    return ".,:;!?\"'`" + _list_characters("Po", "Pi", "Pf") + "\u2014\u2015„‚" + QUOTES


@functools.cache
def _beginning_marks() -> str:
    """Return the marks that are dropped at the start of a word."""
    return "\"'`" + _list_characters("Po", "Pi", "Pf") + "\u2014\u2015„‚" + QUOTES


def _list_characters(*kinds: str) -> str:
    """List the non-ASCII characters of some categories, except those with a meaning of their
    own.
    """
    every = (chr(i) for i in range(128, 0x1E960))
    return "".join(c for c in every if unicodedata.category(c) in kinds and c not in SIGNS)


@functools.cache
def _extending() -> str:
    """Return a pattern for characters that belong to the one before: marks, joiners and other
    format characters, skin tones.
    """
    found: list[list[int]] = []
    for code in (*range(0x300, 0x1E960), *range(0xE0000, 0xE0200), 0xAD):
        if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me", "Cf"):
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in found) + SKIN


@functools.cache
def _classes() -> str:
    return rf"\w{_extending()}"


@functools.cache
def _inside_pattern() -> re.Pattern[str]:
    return re.compile(f"[{_classes()}]")


@functools.cache
def _invisible() -> re.Pattern[str]:
    return re.compile(f"[{INVISIBLE}]")


@functools.cache
def _unspaced_pattern() -> re.Pattern[str]:
    """Return a pattern for a character of a script without spaces, or for all up to the next."""
    return re.compile(rf"[{UNSPACED}][{_extending()}]*|[^{UNSPACED}]+")


@functools.cache
def _word_pattern(ascii_only: bool) -> re.Pattern[str]:
    """Return the pattern of a word; ASCII text has its own, which is several times as fast."""
    word, within, flag, after = r"\w", "", "", ""
    if not ascii_only:
        extend, word = f"[{_extending()}]*", f"[{_classes()}]"
        within, flag = rf"|[{WITHIN}](?=[^\W\d_])", rf"|[{FLAG}]{{2}}"
        after = rf"{extend}(?:(?<=\u200d)[^\w\s]{extend})*"
    operators = r"[-=!<>+*/&|^%]=+|->|=>|<<|>>|&&|\|\||\+\+|--|\*\*|//"
    return re.compile(
        rf"(?<={word})['’]{word}+"
        rf"|{word}+(?:(?:(?<=\d)[{POINTS}](?=\d){within}){word}+)*"
        rf"|(?<!\S)(?:[-+\u2212]\.?|\.)\d+(?:[{POINTS}]\d+)*{word}*{flag}|{operators}|[^\w\s]{after}"
    )
