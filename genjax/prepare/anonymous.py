"""Personal data out of texts: e-mail and web addresses, telephone and card numbers, IP addresses.

Patterns find what has a form. They do not find names, places, or numbers of other kinds; the data card says so.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from genjax.errors import UserError, unknown
from genjax.prepare.stage import Stage, checked, mapped, replaced, texts_of

if TYPE_CHECKING:
    from daft import DataFrame

# In the order in which they are looked for: an address at a host is no web address, a card number no telephone number.
PATTERNS = {
    "email": r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,63}(?![\w-])",
    "url": r"(?<!\w)(?:https?|ftp)://[^\s<>\"'\])}]+|(?<![\w.@])www\.(?:[\w-]+\.)+[^\W\d_]{2,}[^\s<>\"'\])}]*",
    "ip": r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?=[0-9A-Fa-f:]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:]{2,39})(?![\w:]|\.\d)",
    "card": r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])",
    "phone": r"(?<![\w.-])(?<!\d[ /])\+?(?:\(\d{1,5}\)|\d)(?:[ ./-]?[ ]?(?:\(\d{1,5}\)|\d)){6,16}(?![\w-]|[ ./]\d)",
}
ROUNDS = 600_000  # of the hash by which another key is noticed
LEAST_DIGITS, MOST_DIGITS = 8, 15  # of a telephone number (ITU E.164)
GROUPS = re.compile(r"\d+")
DATE = re.compile(r"(?:(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d)(?!\d)")


@dataclass(frozen=True)
class Anonymous(Stage):
    """Puts a mark in the place of personal data: "<email>", or with pseudonyms "<email:8c1f03ab52>".

    A pseudonym is a keyed hash (HMAC's use of BLAKE2b), the same for the same value, so that who is who stays, and
    nobody without the key can find out by trying. The key is that of the environment, never of a config or a file.

    Attributes:
      kinds: "email", "url", "ip", "card" (with a right check digit) and "phone".
      pseudonyms: tell values apart; the key stands in ``key_variable``.
      key_variable: of the environment.
      of: columns of texts.
    """

    kinds: tuple[str, ...] = ("email", "url", "ip", "card", "phone")
    pseudonyms: bool = False
    key_variable: str = "GENJAX_PSEUDONYM_KEY"
    of: tuple[str, ...] = ("text",)

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in PATTERNS:
                raise unknown("kind of personal data", kind, PATTERNS)

    @property
    def remark(self) -> str:
        return (
            f"patterns looked for {', '.join(self.kinds)}. Not found are names, postal addresses, dates of birth, user "
            "names, numbers of passports and accounts, telephone numbers of one or two groups without a leading 0 or "
            "+, and what is spelt out or written in an unusual form"
        )

    def __call__(self, records: DataFrame) -> DataFrame:
        checked(records, self.of)
        rows = functools.partial(_anonymous, self, self._key())
        return mapped(rows, records.schema().to_pyarrow_schema(), records)

    def _key(self) -> bytes:
        """The secret key of pseudonyms; none without them."""
        key = os.environ.get(self.key_variable, "") if self.pseudonyms else ""
        if self.pseudonyms and not key:
            raise UserError(f"pseudonyms need a secret key: set the environment variable {self.key_variable}")
        return key.encode()

    def inputs(self) -> Mapping[str, str]:
        if not self.pseudonyms:
            return {}
        # So slow a hash that a key cannot be found by trying.
        return {self.key_variable: hashlib.pbkdf2_hmac("sha256", self._key(), b"genjax", ROUNDS, 8).hex()}

    def text(self, text: str, key: bytes = b"") -> str:
        """A text with marks in the place of personal data; with a key, marks that tell values apart."""
        for kind, pattern in _patterns(self.kinds):
            text = pattern.sub(functools.partial(_mark, kind, key), text)
        return text


def _anonymous(stage: Anonymous, key: bytes, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
    for column in stage.of:
        texts = [None if text is None else stage.text(text, key) for text in texts_of(table, column)]
        table = replaced(table, column, texts)
    return table, [None] * len(table)


@functools.cache
def _patterns(kinds: tuple[str, ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(pattern)) for kind, pattern in PATTERNS.items() if kind in kinds)


def _mark(kind: str, key: bytes, match: re.Match[str]) -> str:
    """What stands in the place of a match; the match itself where it is none of the kind."""
    value = match[0]
    if not CHECKS.get(kind, bool)(value):
        return value
    end = ""
    if kind == "url":  # a full stop after it ends the sentence
        stripped = value.rstrip(".,;:!?")
        value, end = stripped, value[len(stripped) :]
    if not key:
        return f"<{kind}>{end}"
    told = value.casefold() if kind == "email" else re.sub(r"\D", "", value) if kind in ("card", "phone") else value
    found = hashlib.blake2b(told.encode(), key=hashlib.blake2b(key).digest(), digest_size=5, person=kind.encode())
    return f"<{kind}:{found.hexdigest()}>{end}"


def _is_card(value: str) -> bool:
    """Whether the last digit is that of Luhn's formula (ISO/IEC 7812)."""
    digits = [int(digit) for digit in value if digit.isdigit()][::-1]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0 and any(digits)


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_phone(value: str) -> bool:
    """Whether it has as many digits as a telephone number, in groups or after a 0 or +, and begins with no date."""
    digits = sum(letter.isdigit() for letter in value)
    grouped = len(GROUPS.findall(value)) > 2 or value[0] in "+0("
    return LEAST_DIGITS <= digits <= MOST_DIGITS and grouped and not DATE.match(value)


CHECKS: dict[str, Callable[[str], bool]] = {"card": _is_card, "ip": _is_ip, "phone": _is_phone}
