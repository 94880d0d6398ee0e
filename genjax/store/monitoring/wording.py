"""Tell the language of a text, and whether it refuses an answer, by small fixed rules."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

READ = 2_000  # characters of a text that are looked at
FEWEST = 2  # frequent words that decide for a language
OTHER = "other"  # letters of Latin without enough frequent words
NONE = "none"  # without letters

# The most frequent words that few other languages share.
WORDS = {
    "de": "der die und ist nicht das ein eine ich zu den mit von auf für dem sich auch wie wird "
    "sind oder wurde bei im aus nach was welche wer kann",
    "en": "the and is of to in that it you for was are with what this not be how which have who "
    "from or by can does do did an when your write give",
    "es": "el los las que y es por con una para del como más pero está son qué cuál muy fue hay "
    "también cómo",
    "fr": "le les des est et une dans pour que qui pas sur avec vous ce il au du sont nous je "
    "quel quelle mais être cette",
    "it": "il di che è per un una non con sono della gli del come più anche alla nel questo cosa "
    "quale ma si",
    "nl": "het een van en is dat niet op te zijn met voor aan ik wat hoe ook naar bij worden "
    "deze door maar",
    "pl": "nie się jest na to że jak do co dla czy przez ale są po być było tym który",
    "pt": "o os que não uma é do da em para com mais por como foi são você qual dos na no isso "
    "também",
    "sv": "och att det som är på för en av inte med ett till jag har kan vad hur den om",
    "tr": "ve bir bu için ile ne çok daha gibi olan mi değil ama var nasıl olarak",
}
LANGUAGES = {word: [n for n, w in WORDS.items() if word in w.split()]
             for words in WORDS.values() for word in words.split()}  # fmt: skip
SCRIPTS = {  # the first word of the name of a letter
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CYRILLIC": "cyrillic",
    "GREEK": "el",
    "ARABIC": "arabic",
    "HEBREW": "he",
    "DEVANAGARI": "devanagari",
    "THAI": "th",
}
REFUSAL = re.compile(
    r"\b(i\s*(['’]m|am)\s+(very\s+|so\s+)?(sorry|afraid|unable|not\s+able)"
    r"|i\s+(can\s*not|can['’]t|won['’]t|will\s+not|must\s+decline|refuse|decline)\b"
    r"|i\s+(do\s+not|don['’]t)\s+feel\s+comfortable|as\s+an\s+ai\b|against\s+my\s+guidelines"
    r"|ich\s+kann\s+(dir\s+|ihnen\s+)?(dabei|das|leider)\b.{0,60}nicht|tut\s+mir\s+leid"
    r"|je\s+ne\s+peux\s+pas|désolée?\b|no\s+puedo|lo\s+siento)",
    re.IGNORECASE,
)
OPENING = 200  # characters in which a refusal shows


def tell_language(text: str) -> str:
    """Return "en", "de" and so on, a script such as "cyrillic", "other" or "none".

    Letters of another script than Latin decide by their majority; in Latin the language with the
    most frequent words, two at least.
    """
    read = text[:READ]
    scripts = Counter(_tell_script(one) for one in read if one.isalpha())
    if not scripts:
        return NONE
    script = max(sorted(scripts), key=scripts.__getitem__)
    if "ja" in scripts and script in ("zh", "ja"):
        return "ja"
    if script != "latin":
        return script
    counts: Counter[str] = Counter()
    for word in re.findall(r"[^\W\d_]+", read.lower()):
        counts.update(LANGUAGES.get(word, ()))
    best = sorted(counts, key=lambda name: (-counts[name], name))[:1]
    return best[0] if best and counts[best[0]] >= FEWEST else OTHER


def _tell_script(letter: str) -> str:
    if letter < "\u0250":
        return "latin"
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "latin" if name == "LATIN" else SCRIPTS.get(name, name.lower() or OTHER)


def is_refusal(text: str) -> bool:
    """Return whether a text begins by refusing, such as "I'm sorry, but I can't"."""
    return REFUSAL.search(text[:OPENING]) is not None
