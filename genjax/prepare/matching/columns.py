"""Choose how the columns of a table are compared, and which rows, if the user does not."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from genjax.errors import UserError

LOOKED_AT = 10_000  # distinct values of a column that are examined
FEW = 40  # most distinct values of a category
LEAST = 0.3  # fraction of the rows in which a column must have a value
DATE = re.compile(r"\d{8}|\d{4}-\d{1,2}-\d{1,2}")
CODE = re.compile(r"[^\s]*\d[^\s]*")  # a number, a postal code, an e-mail address with digits
DECIMAL = re.compile(r"[+-]?\d+\.\d+")
SIMILARITY = {  # similarity of each kind, with its levels
    "date": ("dates", (1.0, 0.85, 0.7)),
    "decimal": ("numbers", (1.0, 0.99, 0.9)),
    "code": ("edits", (1.0, 0.8, 0.6)),
    "category": ("exact", (1.0,)),
    "words": ("jaro_winkler", (1.0, 0.92, 0.8)),
}


def guess_kinds(table: pa.Table, ignore: Collection[str]) -> dict[str, str]:
    """Guess the kind of each useful column: "date", "decimal", "code", "category" or "words".

    A column with only distinct values is a key, which tells nothing about two rows; nor does one
    with a single value or with hardly any.

    Raises:
      UserError: an ignored column is unknown, or no column is left.
    """
    for name in ignore:
        if name not in table.column_names:
            raise UserError(f"linkage ignores {name!r}, which is not a column", "ignore")
    found: dict[str, str] = {}
    for name in table.column_names:
        try:
            texts = pc.cast(table[name].combine_chunks(), pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue  # lists, pictures and such
        texts = pc.utf8_trim_whitespace(texts.drop_null())
        texts = texts.filter(pc.not_equal(texts, ""))
        values = pc.unique(texts)
        if name in ignore or len(values) < 2 or len(values) == len(texts):
            continue
        if len(texts) >= LEAST * len(table):
            found[name] = _kind(values.slice(0, LOOKED_AT).to_pylist(), len(values), len(texts))
    if not found:
        raise UserError(
            "linkage finds no column to compare: all are keys, or hold a single value; list some "
            "in comparisons",
            "comparisons",
        )
    return found


def _kind(values: list[str], count: int, rows: int) -> str:
    for kind, pattern in (("date", DATE), ("decimal", DECIMAL)):
        if _share(values, pattern) > 0.9:
            return kind
    if count <= FEW and rows > 5 * count:
        return "category"
    return "code" if _share(values, CODE) > 0.6 else "words"


def _share(values: list[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.fullmatch(value) is not None for value in values) / len(values)


def choose_blocks(kinds: Mapping[str, str]) -> list[tuple[tuple[str, ...], bool, int]]:
    """Return (columns, whether by sound, window) of blocks in which duplicate rows meet.

    They meet if at least one of their columns is intact, or two of those with few values.
    """
    telling = [name for name, kind in kinds.items() if kind != "category"]
    blocks: list[tuple[tuple[str, ...], bool, int]] = []
    for name in telling:
        blocks += [((name,), False, 0), ((name,), False, 4)]
        if kinds[name] == "words":
            blocks.append(((name,), True, 0))
    names = telling if len(telling) > 1 else list(kinds)
    blocks += [((a, b), False, 0) for n, a in enumerate(names) for b in names[n + 1 :]]
    return blocks or [((name,), False, 8) for name in kinds]
