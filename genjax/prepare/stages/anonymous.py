"""Remove personal data from texts: e-mail and web addresses, telephone, card and bank account
numbers, IP addresses.

Patterns only find data with a known form, not names, places or other numbers; the data card says
so.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from genjax import checks
from genjax.errors import UserError, unknown_name
from genjax.prepare.stage import (
    Changes,
    Stage,
    check_columns,
    get_texts,
    map_records,
    replace_column,
)

if TYPE_CHECKING:
    from daft import DataFrame

Places = Iterator[tuple[int, int]]
Report = Callable[[str, str], None]  # takes what was done, and the form of the value
SPACE, HYPHEN = " \u00a0\u202f", "\u2010\u2011-"  # in numbers, including non-breaking ones
DIGITS_BEFORE = rf"(?<!\d[/{SPACE}])"
# A number does not start within a word or another number, but may follow the full stop of "Tel.".
NUMBER = rf"(?:(?<![\w.{HYPHEN}])|(?<=[^\W\d_]\.))"
AMOUNT = rf"[1-9]\d{{0,2}}(?:(?:[.\u00a0\u202f]\d{{3}})+,\d|(?:[.{SPACE}]\d{{3}})+[{SPACE}]?[€$£¥])"
# An area code before a slash between blanks: "0621 / 12345", but not the day of "05 / 06 / 2024".
SLASHED = (
    rf"(?:\+\d{{1,3}}[{SPACE}]?(?:\(0\)[{SPACE}]?)?\d{{2,4}}|0\d{{2,4}}|\(0?\d{{2,5}}\))"
    rf"[{SPACE}]/[{SPACE}]"
)
QUAD = r"\d{1,3}(?:\.\d{1,3}){3}"
REST = r"[^\s<>\"'\])}]"  # characters of a web address
# Patterns, ignoring case, in order of precedence: a web address may contain an e-mail address, and
# a card number is not a telephone number. Repetitions are bounded or unambiguous, so that the time
# is linear in the length of the text.
PATTERNS = {
    "url": rf"(?<!\w)(?:(?:https?|ftp)://|[a-z][a-z\d+.-]{{1,19}}://[^\s/@<>]{{1,200}}@){REST}+"
    rf"|(?<![\w.@])(?![\w.+-]{{1,64}}@)www\.(?:[\w-]{{1,63}}\.){{1,20}}[^\W\d_]{{2,}}{REST}*",
    "email": r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+"
    r"(?:xn--[a-z\d-]{0,58}[a-z\d]|[^\W\d_]{2,63})(?![^\W_]|_\w)",
    "ip": rf"(?<![\w.])(?<![\da-f:]:)(?:[\da-f]{{0,4}}:){{2,8}}"
    rf"(?:{QUAD}|[\da-f]{{1,4}}|(?<=::))(?!\w|\.\d|:[\w:])"
    rf"|(?<![\w.]){QUAD}(?!\w|\.\d)",
    "iban": rf"(?<!\w)[A-Z]{{2}}\d{{2}}(?:[{SPACE}]?[A-Z\d]){{11,30}}(?!\w)",
    "card": rf"{NUMBER}\d(?:[{SPACE}{HYPHEN}]?\d){{12,}}(?![{HYPHEN}]?\w)",
    "phone": rf"{NUMBER}{DIGITS_BEFORE}(?<![€$£¥])(?<![€$£¥][{SPACE}])(?!{AMOUNT})"
    rf"(?:{SLASHED}\d(?:[{SPACE}{HYPHEN}]?\d){{3,30}}|\+?(?:\(\d{{1,5}}\)|\d)"
    rf"(?:(?:[./{HYPHEN}][{SPACE}]?|[{SPACE}]{{1,2}})?(?:\(\d{{1,5}}\)|\d)){{6,30}})(?![{HYPHEN}]?\w|[./{SPACE}]\d)",
}
# How reliable a match is.
SURE = {
    "url": "known by its form only",
    "email": "known by its form only",
    "ip": "a valid address",
    "iban": "checked by its check digits",
    "card": "checked by its check digit",
    "phone": "known by its form only",
}
FORM = " .,:;/+-()@_#%?=&[]"  # characters shown in the form of a value
LONGEST_FORM = 30
PSEUDONYM = 8  # bytes; among 10^8 values the chance of a collision is one in several thousand
ROUNDS = 600_000  # rounds of the hash that detects another key
LEAST_DIGITS, MOST_DIGITS = 8, 15  # digits of a telephone number (ITU E.164)
LEAST_IBAN = 15
LEAST_CARD, MOST_CARD, CARD_GROUPS = 13, 19, 5
DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # digit sum of twice a digit
GROUPS = re.compile(r"\d+")
# Dates and decimal numbers, which occur next to telephone numbers in tables.
DATE = r"(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d"
OTHER = re.compile(rf"(?<![\d./+{HYPHEN}])(?:(?:{DATE})(?!\d)|\d+\.\d+(?!\.?\d))")
# What separates telephone numbers.
APART = re.compile(rf"[./{HYPHEN}][{SPACE}]|[{SPACE}]{{2}}|[/{SPACE}](?=[(0])")
# Labels before numbers that are not personal data.
LABEL = re.compile(
    r"(?:(?<![^\W_])(?:v|ver|version|release|firmware|build|kernel|driver|python|java|section|sec|chapter|figure|table|"
    r"rfc|pmid|isbn(?:-1[03])?|issn|ismn|ean|upc|gtin|asin|sku|doi|order|invoice|receipt|reference|ref|serial|part|"
    r"model|item|article|product|tracking|parcel|shipment|ticket|case|issue|id|hash|checksum|lot|batch|bestellung|"
    r"[^\W\d_]*(?:bestell|auftrags|rechnungs|artikel|serien|kunden|sendungs|teile)(?:nummer|nr))"
    r"(?:[ -](?:no|nr|num|number|nummer|code|id))?[.:#=]*|[§№#]|[^\W\d_]/)\s*$",
    re.IGNORECASE,
)
YEAR = re.compile(r"\((?:19|20)\d\d\)")  # in a citation: 36 (1995) 235-251
BEFORE = 40  # characters before a number that are searched for a label
SUM = re.compile(r"[ ][+*×÷=^<>][ ]?[\d(]|[*×÷^]")  # after a number in a formula
THOUSANDS = re.compile(r"[1-9]\d?(?:[.\u00a0\u202f]\d{3}){2,}")


@checks.frozen
class Anonymous(Stage):
    """Replaces personal data by marks: "<email>", or with pseudonyms "<email:8c1f03ab52d97e46>".

    A pseudonym is a keyed hash (HMAC with BLAKE2b). Equal values have equal pseudonyms, and nobody
    without the key can find a value by trying. The key comes from the environment, never from a
    config or a file.

    Attributes:
      kinds: "email", "url", "ip", "iban" and "card" (both with valid check digits) and "phone".
      pseudonyms: whether marks tell values apart; this needs a key in ``key_variable``.
      key_variable: name of the environment variable with the key.
      of: columns of texts.
    """

    kinds: tuple[str, ...] = ("email", "url", "ip", "iban", "card", "phone")
    pseudonyms: bool = False
    key_variable: str = "GENJAX_PSEUDONYM_KEY"
    of: tuple[str, ...] = ("text",)

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in PATTERNS:
                raise unknown_name("kind of personal data", kind, PATTERNS)

    @property
    def remark(self) -> str:
        return (
            f"patterns search for {', '.join(self.kinds)}. Not found are names, postal addresses, "
            "dates of birth, user "
            "names, numbers of passports, numbers after a word that names another kind (version, "
            "ISBN, order, "
            "serial), telephone numbers of one or two groups without a leading 0 or +, or with the "
            "form of a decimal number or of thousands (030.1234567, 12.345.678), the shortest IPv6 "
            "addresses (::1), and what is spelt out or written in an unusual form"
        )

    def __call__(self, records: DataFrame) -> DataFrame:
        check_columns(records, self.of)
        rows = functools.partial(_anonymous, self, self._read_key())
        return map_records(rows, records.schema().to_pyarrow_schema(), records)

    def _read_key(self) -> bytes:
        """Return the secret key of pseudonyms; b"" without them."""
        key = os.environ.get(self.key_variable, "") if self.pseudonyms else ""
        if self.pseudonyms and not key:
            raise UserError(
                f"pseudonyms need a secret key: set the environment variable {self.key_variable}"
            )
        return os.fsencode(key)  # the same bytes in every locale

    def hash_inputs(self) -> Mapping[str, str]:
        if not self.pseudonyms:
            return {}
        # This hash is so slow that a key cannot be found by trying.
        return {
            self.key_variable: hashlib.pbkdf2_hmac(
                "sha256", self._read_key(), b"genjax", ROUNDS, 8
            ).hex()
        }

    def redact(self, text: str) -> str:
        return self.anonymise_text(text)

    def anonymise_text(self, text: str, key: bytes = b"", report: Report | None = None) -> str:
        """Return a text with marks instead of personal data; with a key, marks tell values apart.

        Args:
          text: the text.
          key: key of pseudonyms; b"" for none.
          report: function that takes what was done, and the form of the value.
        """
        for kind, pattern in _patterns(self.kinds):
            text = pattern.sub(functools.partial(_mark_match, kind, key, report or _nothing), text)
        return text


def _anonymous(stage: Anonymous, key: bytes, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
    changes = Changes(len(table))
    for column in stage.of:
        texts = [
            None
            if text is None
            else stage.anonymise_text(text, key, functools.partial(_count, changes, row))
            for row, text in enumerate(get_texts(table, column))
        ]
        table = replace_column(table, column, texts)
    return changes.beside(table), [None] * len(table)


def _nothing(what: str, form: str) -> None:
    """Report nothing."""


def _count(changes: Changes, row: int, what: str, form: str) -> None:
    changes.add(row, what, 1, form)


def _form(value: str) -> str:
    """Return the form of a value, with a for each letter and 0 for each digit, cut if it is
    long.
    """
    form = "".join(
        "a" if c.isalpha() else "0" if c.isdigit() else c if c in FORM else "?" for c in value
    )
    return form if len(form) <= LONGEST_FORM else form[: LONGEST_FORM - 1] + "…"


@functools.cache
def _patterns(kinds: tuple[str, ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    # A pseudonym of only digits looks like a number, so existing marks are skipped.
    mark = rf"<(?:{'|'.join(PATTERNS)}):[\da-f]{{{2 * PSEUDONYM}}}>"
    found = {kind: f"{mark}|{pattern}" for kind, pattern in PATTERNS.items() if kind in kinds}
    return tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in found.items())


def _mark_match(kind: str, key: bytes, report: Report, match: re.Match[str]) -> str:
    """Replace the personal data of a kind in a match by marks."""
    value, done, end = match[0], "", 0
    if value[0] == "<":
        return value
    before = match.string[max(0, match.start() - BEFORE) : match.start()]
    places = list(PLACES.get(kind, _all)(value))
    if kind in ("ip", "card", "phone") and LABEL.search(before):
        if places:
            report(
                f"{kind} unchanged after a word that names another kind of number",
                _form(value),
            )
        return value
    if kind == "phone" and value[0] != "+" and SUM.match(match.string, match.end()):
        if places:
            report("phone unchanged in a formula", _form(value))
        return value
    for start, stop in places:
        report(f"{kind} replaced, {SURE[kind]}", _form(value[start:stop]))
        done += value[end:start] + _mark(kind, key, value[start:stop])
        end = stop
    return done + value[end:]


def _mark(kind: str, key: bytes, value: str) -> str:
    if not key:
        return f"<{kind}>"
    form = (
        value.casefold()
        if kind == "email"
        else re.sub(r"\D", "", value)
        if kind in ("card", "phone")
        else value
    )
    secret = hashlib.blake2b(key).digest()
    found = hashlib.blake2b(form.encode(), key=secret, digest_size=PSEUDONYM, person=kind.encode())
    return f"<{kind}:{found.hexdigest()}>"


def _all(value: str) -> Places:
    yield 0, len(value)


def _url(value: str) -> Places:
    yield 0, len(value.rstrip(".,;:!?"))  # a full stop after it ends the sentence


def _ip(value: str) -> Places:
    """Yield the whole match, or its last part if only that is an address ("12:30:10.0.0.1")."""
    tail = value.rfind(":") + 1
    if _is_ip(value):
        yield 0, len(value)
    elif tail and "." in value and _is_ip(value[tail:]):
        yield tail, len(value)


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    if "." in value:
        return True
    # Not scopes (a::b, f64::E) and slices (1::2) in program code.
    groups = [group for group in value.split(":") if group]
    return any(map(str.isdigit, value)) and (
        len(groups) > 3 or any(len(group) == 4 for group in groups)
    )


def _ibans(value: str) -> Places:
    """Yield the longest prefix of whole groups with valid check digits (ISO 13616), as words may
    follow.
    """
    for stop in range(len(value), LEAST_IBAN - 1, -1):
        if stop == len(value) or value[stop] in SPACE:
            code = re.sub(rf"[{SPACE}]", "", value[:stop])
            turned = code[4:] + code[:4]
            long = len(code) >= LEAST_IBAN and code.isupper()
            if long and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1:
                yield 0, stop
                return


def _cards(value: str) -> Places:
    """Yield runs of whole groups with a valid check digit, as other numbers, such as the month of
    expiry, may be next to them.
    """
    found = list(GROUPS.finditer(value))
    groups = [match[0] for match in found]
    if _is_card("".join(groups)):
        yield 0, len(value)
        return
    first = 0
    while first < len(groups):
        run = "".join(groups[first : first + CARD_GROUPS])
        for last in range(min(first + CARD_GROUPS, len(groups)), first, -1):
            if len(run) < LEAST_CARD:
                break
            if _is_card(run):
                yield found[first].start(), found[last - 1].end()
                first = last - 1
                break
            run = run[: -len(groups[last - 1])]
        first += 1


def _is_card(digits: str) -> bool:
    """Return whether digits have the length and the Luhn check digit of a card (ISO/IEC 7812)."""
    if not LEAST_CARD <= len(digits) <= MOST_CARD or _is_isbn(digits):
        return False
    total = sum(map(int, digits[::-2])) + sum(DOUBLED[int(digit)] for digit in digits[-2::-2])
    return total % 10 == 0 and total > 0


def _is_isbn(digits: str) -> bool:
    """Return whether digits are an ISBN with a valid check digit."""
    if len(digits) != 13 or digits[:3] not in ("978", "979"):
        return False
    return (sum(map(int, digits[::2])) + 3 * sum(map(int, digits[1::2]))) % 10 == 0


def _is_series(groups: list[str], value: str) -> bool:
    """Return whether groups are a series of numbers: equally spaced, or of four digits each."""
    if value[:1] in ("+", "("):
        return False
    steps = {int(b) - int(a) for a, b in itertools.pairwise(groups)}
    even = (
        len(groups) > 2
        and len(steps) == 1
        and (steps <= {1, -1} or all(g[-1] == "0" for g in groups))
    )
    return even or (len(groups) > 2 and all(len(g) == 4 and g[0] != "0" for g in groups))


def _phones(value: str) -> Places:
    """Yield telephone numbers between dates and decimal numbers; too many digits for one are
    several.
    """
    for start, stop in _find_between(OTHER, value, 0, len(value)):
        if _is_phone(value[start:stop]):
            yield start, stop
        elif sum(map(str.isdigit, value[start:stop])) > MOST_DIGITS:
            yield from (
                place
                for place in _find_between(APART, value, start, stop)
                if _is_phone(value[slice(*place)])
            )


def _find_between(pattern: re.Pattern[str], value: str, start: int, stop: int) -> Places:
    """Yield the parts between matches, without surrounding separators."""
    for begin, end in [
        *(match.span() for match in pattern.finditer(value, start, stop)),
        (stop, stop),
    ]:
        part = value[start:begin].rstrip(f"./{SPACE}{HYPHEN}")
        yield start + len(part) - len(part.lstrip(f"./{SPACE}{HYPHEN}")), start + len(part)
        start = end


def _is_phone(value: str) -> bool:
    """Return whether a value has as many digits as a telephone number, in groups or after a 0 or +,
    and is not a list or a plain number.
    """
    groups = GROUPS.findall(value)
    grouped = len(groups) > 2 or value[:1] in ("+", "0", "(")
    listed = sum(len(group) == 1 for group in groups) > 2  # 1 2 3, or 1.2.3
    enough = LEAST_DIGITS <= sum(map(len, groups)) <= MOST_DIGITS
    other = (
        listed
        or _is_series(groups, value)
        or _is_isbn("".join(groups))
        or YEAR.search(value) is not None
    )
    return enough and grouped and not other and not THOUSANDS.fullmatch(value)


PLACES: dict[str, Callable[[str], Places]] = {
    "url": _url,
    "ip": _ip,
    "iban": _ibans,
    "card": _cards,
    "phone": _phones,
}
