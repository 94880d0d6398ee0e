"""Tell the language of a text, and whether it refuses an answer, by small fixed rules."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

READ = 2_000  # characters of a text that are looked at
OTHER = "other"  # letters of Latin without a frequent word
NONE = "none"  # without letters

# Frequent words; one that several languages share counts for each.
WORDS = {
    "de": "der die das und ist nicht ein eine einen einem einer ich zu den dem des mit von vom auf "
    "für sich auch wie wird werden wurde wurden sind war waren hat hatte haben oder bei im am aus "
    "nach was welche welcher welches welchen wer wo wann warum kann viele zum zur ihr ihre sein "
    "seine seiner über unter zwischen nur noch wenn als bitte",
    "en": "the and is are was were of to in that it its you your for with what this these not be "
    "been how which have has had who whom when where why whose from or by on at as an can could do "
    "does did will would should many much more than write give find please their they there if",
    "es": "el la los las que y es por con una un para del como más pero está son qué cuál cuándo "
    "dónde quién cuántos muy fue hay también cómo se su sus al en de",
    "fr": "le la les des du un une est et dans pour que qui pas sur avec vous ce cette il elle au "
    "aux sont nous je quel quelle quand où combien mais être a ont en de d l qu",
    "it": "il lo la i gli le di del della dei che è e per un una non con sono come più anche alla "
    "nel nella questo cosa quale quando dove chi quanti ma si da",
    "nl": "het een de van en is dat die niet op te zijn met voor aan ik wat hoe wie waar wanneer "
    "welke hoeveel ook naar bij worden wordt werd deze door maar heeft om",
    "pl": "nie się jest na to że i w z jak do co kto gdzie kiedy ile dla czy przez ale są po być "
    "było tym który która",
    "pt": "o a os as que não e é um uma do da dos das em no na para com mais por como mas foi são "
    "você qual quando onde quem quantos isso também de se",
    "sv": "och att det en ett som är på för i av inte med till jag har kan vad hur var när vem om "
    "den de från",
    "tr": "ve bir bu için ile ne nasıl kim nerede kaç çok daha gibi olan mi mı değil ama var "
    "olarak",
}
LANGUAGES = {  # of each word
    word: [name for name, others in WORDS.items() if word in others.split()]
    for words in WORDS.values()
    for word in words.split()
}
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
    most of its frequent words.
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
    return min(counts, key=lambda name: (-counts[name], name)) if counts else OTHER


def _tell_script(letter: str) -> str:
    if letter < "\u0250":
        return "latin"
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "latin" if name == "LATIN" else SCRIPTS.get(name, name.lower() or OTHER)


def is_refusal(text: str) -> bool:
    """Return whether a text begins by refusing, such as "I'm sorry, but I can't"."""
    return REFUSAL.search(text[:OPENING]) is not None
