"""Answers with citations that are sound, and others with one fault planted in each."""

import dataclasses
import random
import unicodedata
import uuid

WORDS = """
the cat sleeps on a warm mat while rain falls over Zürich and 3,141 boats drift past café
Noël; prices rose 12.5 % in May (a record). Ärzte sagen, es sei gut. naïve résumé Ελλάδα
Москва growth isn't over-stated said Müller’s aide at half past nine of 1987
"""
CJK = "東京は日本の首都です。京都には古い寺が多い。大阪は商人の町として知られる。"
MARKS = (("“", "”"), ('"', '"'), ("„", "“"), ("«", "»"), ("»", "«"), ("「", "」"), ("« ", " »"))
KINDS = ("invented id", "altered quote", "wrong source", "uncited quote")


@dataclasses.dataclass(frozen=True)
class Planted:
    """An answer, the records that it may cite, and its fault; "" of a sound one."""

    answer: str
    records: dict[str, str]
    fault: str


def make_id(draw: random.Random) -> str:
    """An id in the form of the store's."""
    return str(uuid.UUID(int=draw.getrandbits(128), version=4))


def make_records(draw: random.Random, count: int = 4) -> dict[str, str]:
    """Texts of which each has words of its own, so that no quote stands in two by chance."""
    records = {}
    for number, one in enumerate(make_id(draw) for _ in range(count)):
        own = [f"{word}{number}" if word.isalpha() else word for word in WORDS.split()]
        text = " ".join(draw.choice(own) for _ in range(60))
        if number % 4 == 1:
            at = draw.randrange(5)
            text = f"{text} {CJK[at:]}{number} {text}"
        if number % 4 == 2:
            text = unicodedata.normalize("NFD", text).replace(" ", "\n", 3)
        records[one] = text
    return records


def choose_quote(draw: random.Random, text: str) -> str:
    """A few words of a text, of those that have their number in them at both ends."""
    words = text.split()
    while True:
        first = draw.randrange(len(words) - 8)
        part = words[first : first + draw.randrange(3, 9)]
        good = [part[0], part[-1]]
        if all(any(c.isdigit() for c in w) and any(c.isalpha() for c in w) for w in good):
            return " ".join(part)


def dress(draw: random.Random, quote: str) -> str:
    """The quote as a writer may put it: other blanks, other apostrophes and dashes, other marks."""
    if draw.random() < 0.3:
        quote = quote.replace(" ", draw.choice(("  ", "\n", "\u00a0")), 1)
    if draw.random() < 0.3:
        quote = quote.replace("’", "'").replace("-", "–")
    if draw.random() < 0.3:
        quote = unicodedata.normalize(draw.choice(("NFC", "NFD")), quote)
    if draw.random() < 0.2:
        quote = quote[0].swapcase() + quote[1:]
    opening, closing = draw.choice(MARKS)
    stop = draw.choice(("", "", ".", ","))
    return f"{opening}{quote}{stop}{closing}"


def cite(draw: random.Random, quote: str, one: str) -> str:
    """A sentence with a quote and its citation."""
    form = draw.randrange(7)
    brackets = draw.choice((f"[{one}]", f"[ {one} ]", f"【{one}】", f"([{one}])"))
    return (
        f"{quote} {brackets}.",
        f"It says {quote}, {brackets}.",
        f"It says {quote}. {brackets}",
        f"According to {brackets}, {quote}.",
        f"As Dr. Smith notes in {brackets}, the answer is {quote}.",
        f"- {quote} {brackets}\n- {quote}{brackets}",
        f"{quote} and again {quote} {brackets}.",
    )[form]


def alter(draw: random.Random, quote: str) -> str:
    """A quote with one thing changed that changes what it says."""
    words = quote.split()
    inner = draw.randrange(1, len(words) - 1) if len(words) > 2 else 0
    form = draw.randrange(7)
    if form == 0:
        words[inner] = "never"
    elif form == 1:
        words.insert(inner, "not")
    elif form == 2 and len(words) > 2:
        del words[inner]
        if " ".join(words) in quote:
            words.append("indeed")
    elif form == 3:
        at = next(i for i, c in enumerate(words[0]) if c.isdigit())
        words[0] = words[0][:at] + str((int(words[0][at]) + 5) % 10) + words[0][at + 1 :]
    elif form == 4:  # a letter of another script that looks the same
        at = next(i for i, w in enumerate(words) if any(c.isalpha() for c in w))
        c = next(c for c in words[at] if c.isalpha())
        words[at] = words[at].replace(c, "ɑ", 1)
    elif form == 5:
        words[-1] = words[-1].upper() if words[-1].upper() != words[-1] else f"{words[-1]}x"
    else:
        words[-1] = words[-1][:-1] if len(words[-1]) > 1 else "gone"
    return " ".join(words)


def make_sound(seed: int) -> Planted:
    """An answer of one to three sound citations."""
    draw = random.Random(seed)
    records = make_records(draw)
    said = []
    for _ in range(draw.randrange(1, 4)):
        one = draw.choice(list(records))
        said.append(cite(draw, dress(draw, choose_quote(draw, records[one])), one))
    if draw.random() < 0.2:  # quotes that overlap
        one = draw.choice(list(records))
        quote = choose_quote(draw, records[one])
        first, last = quote.split(" ", 1)[1], quote.rsplit(" ", 1)[0]
        said.append(f"“{first}” [{one}] and “{last}” [{one}].")
    if draw.random() < 0.2:  # quotes of two records in one sentence
        (a, b), both = draw.sample(list(records), 2), draw.random() < 0.5
        p, q = choose_quote(draw, records[a]), choose_quote(draw, records[b])
        said.append(f"“{p}” and “{q}” [{a}][{b}]." if both else f"[{a}] has “{p}”, [{b}] “{q}”.")
    return Planted(draw.choice((" ", "\n", "\n\n")).join(said), records, "")


def make_faulty(seed: int) -> Planted:
    """A sound answer with a fault of one kind put in somewhere."""
    draw = random.Random(seed)
    sound = make_sound(seed + 10_000)
    kind = KINDS[seed % len(KINDS)]
    one, other = draw.sample(list(sound.records), 2)
    text = sound.records[one]
    quote = choose_quote(draw, text)
    if kind == "invented id":
        made = draw.choice(
            (make_id(draw), one[:-1] + ("0" if one[-1] != "0" else "1"), "7", "doc-9")
        )
        planted = cite(draw, dress(draw, quote), made)
    elif kind == "altered quote":
        planted = cite(draw, "“" + alter(draw, quote) + "”", one)
    elif kind == "wrong source":
        planted = cite(draw, dress(draw, quote), other)
        if draw.random() < 0.3:
            planted = f"“{quote}” [{one}, {other}]."
    else:
        planted = f"It is known that {dress(draw, quote)} all the same."
    parts = [planted, sound.answer] if draw.random() < 0.5 else [sound.answer, planted]
    return Planted("\n\n".join(parts), sound.records, kind)
