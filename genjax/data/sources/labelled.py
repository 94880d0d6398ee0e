"""Texts with a label, for classifiers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from genjax.data.dataset import Batch, Dataset
from genjax.data.layouts import Documents, Rows
from genjax.data.sources.text import TextFiles
from genjax.data.splits import digest
from genjax.errors import UserError


@dataclass(frozen=True)
class LabelledTexts:
    """Texts of another source whose domain, the folder, file or column that it tells, is their label.

    Labels are the places of the domains among the sorted ones of the training text.

    Attributes:
      source: of texts, with a layout of one document a row (``Documents``).
    """

    source: Any = TextFiles(layout=Documents())

    def open(self) -> Dataset:
        """Batches of the source's and ``label`` int32 [B].

        Raises:
          UserError: the source tells no domains, or one alone, or rows hold several documents; a held-out text is of a
            domain that no training text is of.
        """
        inner = self.source.open()
        name = type(self.source).__name__
        if not isinstance(self.source.layout, Documents):
            raise UserError(f"LabelledTexts needs one document a row: give {name} a layout Documents")
        corpora = {part: split.corpus for part, split in inner.splits.items()}
        if any(corpus.domain is None for corpus in corpora.values()):
            raise UserError(f"LabelledTexts needs the domain of each text, which {name} does not tell")
        domains = sorted(corpora["train"].domains)
        if len(domains) < 2:
            raise UserError(f"LabelledTexts needs texts of two domains at least, not of {domains[0]!r} alone")
        splits = {}
        for part, split in inner.splits.items():
            strange = sorted(set(corpora[part].domains) - set(domains))
            if strange:
                raise UserError(f"no training text is of the domain {strange[0]!r}, but one of {part} is")
            label = np.array([domains.index(domain) for domain in corpora[part].domains], np.int32)
            splits[part] = LabelledRows(split, label[np.asarray(corpora[part].domain)])
        spec = dataclasses.replace(inner.spec, classes=len(domains))
        return Dataset(splits, spec, inner.codec, digest([inner.fingerprint.encode(), b"labelled"]))


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one document each with its label.

    Attributes:
      rows: of tokens.
      label: of each document [D] int32.
    """

    rows: Rows
    label: np.ndarray

    @property
    def in_memory(self) -> bool:
        return True

    @property
    def corpus(self) -> Any:
        """That the rows are of."""
        return self.rows.corpus

    def __len__(self) -> int:
        return len(self.rows)

    def documents(self, indices: np.ndarray) -> np.ndarray:
        """The document [B, T + 1] int64 that each token is of, -1 for padding."""
        return self.rows.documents(indices)

    def batch(self, indices: np.ndarray) -> Batch:
        return self.rows.batch(indices) | {"label": self.label[self.rows.documents(indices)[:, 0]]}
