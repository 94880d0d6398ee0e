"""Texts with a label, for classifiers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Batch, Dataset
from genjax.data.sources.text import TextFiles
from genjax.data.splits import digest
from genjax.data.text.layouts import Documents, Rows
from genjax.errors import UserError


@checks.frozen
class LabelledTexts:
    """Texts of another source whose domain, the folder, file or column that it tells, is their
    label.

    Labels are the places of the domains among the sorted ones of the training text.

    Attributes:
      source: of texts, with a layout of one document a row (``Documents``).
      size: training texts that have a label, evenly spaced over all; None for all of them.
    """

    source: Component = TextFiles(layout=Documents())
    size: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "size")

    def open(self) -> Dataset:
        """Batches of the source's and ``label`` int32 [B].

        Raises:
          UserError: the source names no domains, or one alone, or rows hold several documents; a
            held-out text is of a domain that no training text is of; a folder of ``TextFiles`` has
            none of the files that are read.
        """
        if isinstance(self.source, TextFiles):
            self.source.check_domains()
        inner = self.source.open()
        name = type(self.source).__name__
        if not isinstance(self.source.layout, Documents):
            raise UserError(
                f"LabelledTexts needs one document a row: give {name} a layout Documents"
            )
        corpora = {part: split.corpus for part, split in inner.splits.items()}
        if any(corpus.domain is None for corpus in corpora.values()):
            raise UserError(
                f"LabelledTexts needs the domain of each text, which {name} does not tell"
            )
        domains = sorted(corpora["train"].domains)
        if len(domains) < 2:
            raise UserError(
                f"LabelledTexts needs texts of two domains at least, not of {domains[0]!r} alone"
            )
        splits = {}
        for part, split in inner.splits.items():
            strange = sorted(set(corpora[part].domains) - set(domains))
            if strange:
                raise UserError(
                    f"no training text is of the domain {strange[0]!r}, but one of {part} is"
                )
            label = np.array([domains.index(domain) for domain in corpora[part].domains], np.int32)
            kept = _pick_rows(split, self.size if part == "train" else None)
            splits[part] = LabelledRows(split, label[np.asarray(corpora[part].domain)], kept)
        spec = dataclasses.replace(
            inner.spec, classes=len(domains), class_names=tuple(map(str, domains))
        )
        identity = inner.fingerprint, f"labelled {self.size}"
        return Dataset(
            splits,
            spec,
            inner.codec,
            digest(part.encode() for part in identity),
            inner.origins,
            inner.remarks,
        )


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one document each with its label.

    Attributes:
      rows: of tokens.
      label: of each document [D] int32.
      kept: the rows that make up the split [N] int64.
    """

    rows: Rows
    label: np.ndarray
    kept: np.ndarray

    @property
    def in_memory(self) -> bool:
        return True

    @property
    def corpus(self) -> Any:
        """That the rows are of."""
        return self.rows.corpus

    def __len__(self) -> int:
        return len(self.kept)

    def documents(self, indices: np.ndarray) -> np.ndarray:
        """The document [B, T + 1] int64 that each token is of, -1 for padding."""
        return self.rows.documents(self.kept[indices])

    def batch(self, indices: np.ndarray) -> Batch:
        return self.rows.batch(self.kept[indices]) | {
            "label": self.label[self.documents(indices)[:, 0]]
        }


def _pick_rows(rows: Rows, size: int | None) -> np.ndarray:
    """The rows [N] of ``size`` documents evenly spaced over those that have any."""
    numbers = np.arange(len(rows))
    if size is None:
        return numbers
    document = np.concatenate(
        [rows.documents(part)[:, 0] for part in np.array_split(numbers, -(-len(rows) // 1024))]
    )
    there = np.unique(document)
    chosen = there[np.arange(min(size, len(there))) * len(there) // min(size, len(there))]
    return numbers[np.isin(document, chosen)]
