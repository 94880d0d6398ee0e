"""Which part of the documents trains and which is held out."""

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
    """Parts of documents; frozen dataclasses, as written in configs."""

    def split(self, texts: TextRows) -> Mapping[str, TextRows]:
        """Parts by name: "train", and "test" and "validation" if there are such.

        Reads nothing before the pieces are requested.
        """
        ...


def _check_fractions(test: float, validation: float) -> None:
    if not (test >= 0 <= validation and test + validation < 1):
        raise UserError(
            f"test and validation are fractions that leave some to train on, not {test} and "
            f"{validation}"
        )


@checks.frozen
class ByCharacters:
    """The first characters of all text train, the next are "validation", the last "test"; documents
    are cut in two.

    Attributes:
      test: fraction of the characters; 0 holds out none.
      validation: fraction of the characters.
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
        }  # 1 - 0.9 is not 0.1
        found: dict[str, TextRows] = {}
        begin = 0.0
        for name, end in ends.items():
            if end > begin:
                found[name] = Span(texts, begin, end)
            begin = end
        return found


@dataclass(frozen=True)
class Span:
    """The characters from a fraction ``begin`` to a fraction ``end`` of all, rounded down."""

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
    """Whole documents by a permutation that the seed and their number decide.

    Attributes:
      test: fraction of the documents, at least one of them; 0 holds out none.
      validation: fraction of the documents, at least one of them; 0 holds out none.
      seed: of the permutation.
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
        """Which of ``count`` documents are of that part, bool [D]."""
        sizes = [max(1, round(count * f)) if f else 0 for f in (self.test, self.validation)]
        if sum(sizes) >= count:
            raise UserError(
                f"{count} documents are too few to hold out {sizes[0]} to test and {sizes[1]} to "
                "validate"
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
    """Files that are given; all others train.

    Attributes:
      test: a pattern of paths below the root, such as "test/*.txt", or an absolute one; empty for
        none.
      validation: a pattern, too; a file that fits both is of "test".
    """

    test: str = "test*"
    validation: str = ""

    def split(self, texts: TextRows) -> Mapping[str, TextRows]:
        if not isinstance(texts, FileTexts | TableTexts):
            raise UserError("ByFiles splits files, and these documents are none")
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
                    f"none of the {len(texts.paths):,} files of {texts.root} is of {name} by {self}"
                )
        return {
            name: dataclasses.replace(texts, paths=tuple(paths))
            for name, paths in found.items()
            if paths
        }
