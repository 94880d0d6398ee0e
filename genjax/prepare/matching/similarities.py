"""Similarities of values of a table: 1 for equal values, 0 for values with nothing in common.

Values are normalised texts, given as two columns ``left`` and ``right`` [M]. The character loops
are Daft's, in Rust.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genjax.errors import UserError

if TYPE_CHECKING:
    from daft import Expression


def exact(left: pa.Array, right: pa.Array) -> np.ndarray:
    """Return 1 for equal values and 0 for others, [M]."""
    return pc.equal(left, right).to_numpy(zero_copy_only=False).astype(np.float64)


def jaro_winkler(left: pa.Array, right: pa.Array) -> np.ndarray:
    """Return the Jaro-Winkler similarity of names and other words, [M] (Winkler, 1990, "String
    comparator metrics and enhanced decision rules").
    """
    return _compute_pairs(left, right, lambda a, b: a.jaro_winkler_similarity(b))


def edits(left: pa.Array, right: pa.Array) -> np.ndarray:
    """Return 1 minus the fraction of characters to insert, drop, replace, or swap with the next,
    [M] (Damerau, 1964).
    """
    return 1 - _distances(left, right) / _longer(left, right)


def dates(left: pa.Array, right: pa.Array) -> np.ndarray:
    """Return ``edits`` of the digits of dates, YYYYMMDD, with swapping day and month as one edit,
    [M].
    """
    left, right = (pc.replace_substring_regex(side, "[^0-9]", "") for side in (left, right))
    swapped = pc.replace_substring_regex(right, "^([0-9]{4})([0-9]{2})([0-9]{2})$", r"\1\3\2")
    apart = np.minimum(_distances(left, right), _distances(left, swapped) + 1)
    return 1 - apart / np.maximum(_longer(left, right), 1)


def numbers(left: pa.Array, right: pa.Array) -> np.ndarray:
    """Return 1 minus the difference relative to the larger number, but at least 0, [M].

    Raises:
      UserError: one is not a number.
    """
    try:
        a, b = (
            pc.cast(side, pa.float64()).to_numpy(zero_copy_only=False) for side in (left, right)
        )
    except pa.ArrowInvalid as error:
        raise UserError(f"values must be numbers to compare them as such: {error}") from None
    larger = np.maximum(np.abs(a), np.abs(b))
    return np.maximum(0.0, 1 - np.abs(a - b) / np.where(larger, larger, 1))


SIMILARITIES: dict[str, Callable[[pa.Array, pa.Array], np.ndarray]] = {
    "exact": exact,
    "jaro_winkler": jaro_winkler,
    "edits": edits,
    "dates": dates,
    "numbers": numbers,
}


def soundex(values: pa.Array) -> pa.Array:
    """Return the English Soundex code [N] of words, a letter and three digits; values that do not
    start with a letter are unchanged.
    """
    import daft

    found = (
        daft.from_arrow(pa.table({"value": values})).select(daft.col("value").soundex()).to_arrow()
    )
    return found["value"].combine_chunks()


def _compute_pairs(
    left: pa.Array, right: pa.Array, how: Callable[[Expression, Expression], Expression]
) -> np.ndarray:
    import daft

    pairs = daft.from_arrow(pa.table({"left": left, "right": right}))
    found = pairs.select(how(daft.col("left"), daft.col("right")).alias("found")).to_arrow()
    return found["found"].to_numpy().astype(np.float64)


def _distances(left: pa.Array, right: pa.Array) -> np.ndarray:
    return _compute_pairs(left, right, lambda a, b: a.damerau_levenshtein_distance(b))


def _longer(left: pa.Array, right: pa.Array) -> np.ndarray:
    a, b = (pc.utf8_length(side).to_numpy(zero_copy_only=False) for side in (left, right))
    return np.maximum(a, b)
