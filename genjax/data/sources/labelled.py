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
    """Labels the texts of another source by their domain: a folder, a file or a column.

    Labels are indices in the sorted domains of the training text.

    Attributes:
      source: source of texts, whose layout has one document per row (``Documents``).
      size: number of training texts with a label, evenly spaced over all; None for all of them.
    """

    source: Component = TextFiles(layout=Documents())
    size: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "size")

    def open(self) -> Dataset:
        """Open the data set; batches hold the entries of the source and ``label`` int32 [B].

        Raises:
          UserError: the source has fewer than two domains, or several documents in a row; a
            held-out text has a domain without training texts; a folder of ``TextFiles`` has no
            matching file.
        """
        if isinstance(self.source, TextFiles):
            self.source.check_domains()
        inner = self.source.open()
        name = type(self.source).__name__
        if not isinstance(self.source.layout, Documents):
            raise UserError(
                f"LabelledTexts needs one document per row: set layout=Documents() of {name}"
            )
        corpora = {part: split.corpus for part, split in inner.splits.items()}
        if any(corpus.domain is None for corpus in corpora.values()):
            raise UserError(
                f"LabelledTexts needs the domain of each text, which {name} does not have"
            )
        domains = sorted(corpora["train"].domains)
        if len(domains) < 2:
            raise UserError(
                f"LabelledTexts needs texts of at least two domains, got only {domains[0]!r}"
            )
        splits = {}
        for part, split in inner.splits.items():
            strange = sorted(set(corpora[part].domains) - set(domains))
            if strange:
                raise UserError(
                    f"a text of {part} has the domain {strange[0]!r}, which no training text has"
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
    """Rows of one document with its label.

    Attributes:
      rows: rows of tokens.
      label: label of each document [D] int32.
      kept: indices of the rows in the split [N] int64.
    """

    rows: Rows
    label: np.ndarray
    kept: np.ndarray

    @property
    def in_memory(self) -> bool:
        return True

    @property
    def corpus(self) -> Any:
        """The corpus of the rows."""
        return self.rows.corpus

    def __len__(self) -> int:
        return len(self.kept)

    def documents(self, indices: np.ndarray) -> np.ndarray:
        """Return the document of each token, [B, T + 1] int64; -1 for padding."""
        return self.rows.documents(self.kept[indices])

    def batch(self, indices: np.ndarray) -> Batch:
        return self.rows.batch(self.kept[indices]) | {
            "label": self.label[self.documents(indices)[:, 0]]
        }


def _pick_rows(rows: Rows, size: int | None) -> np.ndarray:
    """Return the rows [N] of ``size`` documents, evenly spaced over those with rows."""
    numbers = np.arange(len(rows))
    if size is None:
        return numbers
    document = np.concatenate(
        [rows.documents(part)[:, 0] for part in np.array_split(numbers, -(-len(rows) // 1024))]
    )
    there = np.unique(document)
    chosen = there[np.arange(min(size, len(there))) * len(there) // min(size, len(there))]
    return numbers[np.isin(document, chosen)]
