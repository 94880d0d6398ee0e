"""Generated records of people, some of them repeated with typing errors, so that the truth is
known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from genjax import checks
from genjax.prepare.files import Files
from genjax.prepare.readers import Found, Reader
from genjax.prepare.stage import ARROW

COLUMNS = (
    "rec_id",
    "given_name",
    "surname",
    "street_number",
    "address_1",
    "suburb",
    "postcode",
    "date_of_birth",
)
SYLLABLES = (
    "an",
    "bel",
    "cor",
    "da",
    "el",
    "fin",
    "go",
    "har",
    "is",
    "jo",
    "ka",
    "lu",
    "mar",
    "no",
    "ri",
    "so",
    "ta",
)
SUBURBS = 30
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@checks.frozen
class GeneratedPeople(Reader):
    """Generates people, and for some a second record with one to three errors, like the FEBRL sets.

    ``rec_id`` tells the truth: "rec-N-org" and "rec-N-dup-0" are the same person.

    Attributes:
      count: number of people.
      twice: number of people with two records.
      seed: seed of all draws.
    """

    count: int = 400
    twice: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "count")
        checks.at_least(self, 0, "twice", "seed")
        checks.ordered(self, "twice", "count")

    def find_files(self) -> Files:
        return Files("generated", ("people",))

    def digest(self, files: Files, path: str) -> str:
        return repr(self)

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([(name, ARROW) for name in COLUMNS])

    def read(self, files: Files, path: str, left: Counter[str] | None = None) -> Iterator[Found]:
        rng = np.random.default_rng(self.seed)
        suburbs = [(_word(rng, 3), str(rng.integers(1000, 9999))) for _ in range(SUBURBS)]
        people = [self._make_person(rng, number, suburbs) for number in range(self.count)]
        for number in range(self.twice):
            again = dict(people[number], rec_id=f"rec-{number}-dup-0")
            for name in rng.choice(COLUMNS[1:], rng.integers(1, 4), replace=False):
                again[name] = _slip(rng, again[name])
            people.append(again)
        for place, row in enumerate(people):
            yield Found(f"row-{place:09d}", {name: value or None for name, value in row.items()})

    def _make_person(
        self, rng: np.random.Generator, number: int, suburbs: list[tuple[str, str]]
    ) -> dict[str, str]:
        suburb, postcode = suburbs[rng.integers(SUBURBS)]
        born = f"{rng.integers(1920, 2005)}{rng.integers(1, 13):02}{rng.integers(1, 29):02}"
        street = f"{_word(rng, 2)} {rng.choice(['street', 'place', 'road'])}"
        values = (
            _word(rng, 2),
            _word(rng, 3),
            str(rng.integers(1, 300)),
            street,
            suburb,
            postcode,
            born,
        )
        return dict(zip(COLUMNS, (f"rec-{number}-org", *values), strict=True))


def _word(rng: np.random.Generator, syllables: int) -> str:
    return "".join(rng.choice(SYLLABLES, syllables))


def _slip(rng: np.random.Generator, value: str) -> str:
    """Return a value with a typing error: one character replaced, dropped, inserted or swapped with
    the next, or the whole value missing.
    """
    at = int(rng.integers(len(value)))
    digits = value[at].isdigit()
    other = str(rng.integers(10)) if digits else LETTERS[rng.integers(len(LETTERS))]
    slips = (
        value[:at] + other + value[at + 1 :],
        value[:at] + value[at + 1 :],
        value[:at] + other + value[at:],
        value[:at] + value[at + 1 : at + 2] + value[at] + value[at + 2 :],
        "",
    )
    return slips[rng.integers(len(slips))]
