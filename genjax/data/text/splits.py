"""Split documents into training and held-out parts."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from genjax import checks
from genjax.data.splits import HOLD_OUT, digest
from genjax.data.stream import permutation
from genjax.data.tables.tables import TableTexts
from genjax.data.text.documents import FileTexts, Piece, TextRows, shorten_path
from genjax.errors import UserError


class TextSplit(Protocol):
    """How documents are split; a frozen dataclass, as written in configs."""

    def split(self, texts: TextRows) -> Mapping[str, TextRows]:
        """Return the parts by name: "train", and "test" and "validation" if they exist.

        Nothing is read before the pieces are requested.
        """
        ...


def _check_fractions(test: float, validation: float) -> None:
    if not (test >= 0 <= validation and test + validation < 1):
        raise UserError(
            f"test and validation must be fractions >= 0 whose sum is < 1, got {test} and "
            f"{validation}"
        )


@checks.frozen
class ByCharacters:
    """Splits all text by characters: the first for training, the next for "validation", the last
    for "test". A document may be cut in two.

    Attributes:
      test: fraction of the characters; 0 for no such part.
      validation: fraction of the characters; 0 for no such part.
    """

    test: float = 0.1
    validation: float = 0.0

    def __post_init__(self) -> None:
        _check_fractions(self.test, self.validation)

    def split(self, texts: TextRows) -> Mapping[str, TextRows]:
        train, seen = 1 - self.test - self.validation, 1 - self.test
        ends = {
            "train": round(train, 12),
            "validation": round(seen, 12),
            "test": 1.0,
        }  # rounded, as 1 - 0.9 is not exactly 0.1
        found: dict[str, TextRows] = {}
        begin = 0.0
        for name, end in ends.items():
            if end > begin:
                found[name] = Span(texts, begin, end)
            begin = end
        return found


@dataclass(frozen=True)
class Span:
    """The characters between two fractions, ``begin`` and ``end``, of all, rounded down."""

    texts: TextRows
    begin: float
    end: float

    @property
    def title(self) -> str:
        return f"{self.texts.title}, from {self.begin:g} to {self.end:g} of its characters"

    @property
    def fingerprint(self) -> str:
        return digest(
            [self.texts.fingerprint.encode(), f"characters {self.begin} {self.end}".encode()]
        )

    def iterate_pieces(self) -> Iterator[Piece]:
        total = sum(len(piece.text) for piece in self.texts.iterate_pieces())
        begin, end = int(total * self.begin), int(total * self.end)
        at = 0
        for text, document, ends, domain in self.texts.iterate_pieces():
            low, high = max(begin - at, 0), min(end - at, len(text))
            if low < high:
                yield Piece(text[low:high], document, ends or at + high == end, domain)
            at += len(text)
            if at >= end:
                return


@checks.frozen
class ByDocuments:
    """Splits whole documents at random. The choice depends on the seed and their number.

    Attributes:
      test: fraction of the documents, but at least one document; 0 for no such part.
      validation: fraction of the documents, but at least one document; 0 for no such part.
      seed: seed of the permutation.
    """

    test: float = 0.1
    validation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_fractions(self.test, self.validation)
        checks.at_least(self, 0, "seed")

    def split(self, texts: TextRows) -> Mapping[str, TextRows]:
        names = ["train"] + ["validation"] * (self.validation > 0) + ["test"] * (self.test > 0)
        return {name: Chosen(texts, self, name) for name in names}

    def choose_documents(self, count: int, name: str) -> np.ndarray:
        """Return which of ``count`` documents belong to a part, bool [D]."""
        sizes = [max(1, round(count * f)) if f else 0 for f in (self.test, self.validation)]
        if sum(sizes) >= count:
            raise UserError(
                f"{count} documents are too few to hold out {sizes[0]} for test and {sizes[1]} for "
                "validation"
            )
        order = permutation(self.seed, HOLD_OUT, count)
        test, validation, train = np.split(order, np.cumsum(sizes))
        result = np.zeros(count, bool)
        result[{"test": test, "validation": validation, "train": train}[name]] = True
        return result


@dataclass(frozen=True)
class Chosen:
    """The documents of one part of ``ByDocuments``."""

    texts: TextRows
    split: ByDocuments
    name: str

    @property
    def title(self) -> str:
        return f"{self.texts.title}, {self.name}"

    @property
    def fingerprint(self) -> str:
        return digest([self.texts.fingerprint.encode(), f"{self.split} {self.name}".encode()])

    @functools.cached_property
    def _chosen(self) -> np.ndarray:
        return self.split.choose_documents(
            sum(piece.ends for piece in self.texts.iterate_pieces()), self.name
        )

    def iterate_pieces(self) -> Iterator[Piece]:
        number = 0
        for piece in self.texts.iterate_pieces():
            if self._chosen[number]:
                yield piece
            number += piece.ends


@checks.frozen
class ByFiles:
    """Holds out the files that match a pattern; all others are for training.

    Attributes:
      test: pattern of paths below the root, such as "test/*.txt", or of absolute paths; empty for
        no such part.
      validation: another pattern; a file that matches both is in "test".
    """

    test: str = "test*"
    validation: str = ""

    def split(self, texts: TextRows) -> Mapping[str, TextRows]:
        if not isinstance(texts, FileTexts | TableTexts):
            raise UserError("ByFiles can only split files, but these documents are not files")
        found: dict[str, list[Any]] = {"train": [], "validation": [], "test": []}
        for path in texts.paths:
            name = shorten_path(path, texts.root)
            part = [
                part
                for part in ("test", "validation")
                if fnmatch.fnmatchcase(name, pattern := os.path.expanduser(getattr(self, part)))
                or (os.path.isabs(pattern) and fnmatch.fnmatchcase(str(path.absolute()), pattern))
            ]
            found[[*part, "train"][0]].append(path)
        for name, pattern in (("train", "*"), ("validation", self.validation), ("test", self.test)):
            if pattern and not found[name]:
                raise UserError(
                    f"{name} must match a file: none of the {len(texts.paths):,} files of "
                    f"{texts.root} fits {self}",
                    name,
                )
        return {
            name: dataclasses.replace(texts, paths=tuple(paths))
            for name, paths in found.items()
            if paths
        }
