"""What every data source opens to: splits of encoded examples, a spec, a codec and a
fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genjax.checks import Component

Batch = dict[str, np.ndarray]


class Split(Protocol):
    """Random access to the encoded examples of one split."""

    @property
    def in_memory(self) -> bool:
        """Whether batches are indexed on the main thread; otherwise workers read them ahead."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the examples at ``indices`` [B] in model space, under the fixed batch names."""
        ...


@runtime_checkable
class HasReferences(Protocol):
    """A split whose rows have reference texts to compare the model's with."""

    def references(self) -> Sequence[str]:
        """Return the reference text of each row."""
        ...


@runtime_checkable
class HasQuestions(Protocol):
    """A split of conversations, each of which starts with a question."""

    def questions(self) -> Sequence[str]:
        """Return the question of each row."""
        ...


@runtime_checkable
class HasCorpus(Protocol):
    """A split whose rows are parts of a corpus of documents."""

    corpus: Any


@runtime_checkable
class HasDocuments(HasCorpus, Protocol):
    """A split that knows which document of its corpus each token belongs to."""

    def documents(self, indices: np.ndarray) -> np.ndarray:
        """Return the document [B, T + 1] of each token in the rows ``indices`` [B]."""
        ...


@runtime_checkable
class HasScenes(Protocol):
    """A split of pictures that come with a description."""

    scenes: Sequence[Any]


class Codec(Protocol):
    """Converts raw examples to model space and back.

    A frozen dataclass of plain fields, stored with the run.
    """

    @property
    def shown(self) -> int:
        """Number of samples that make a useful picture."""
        ...

    @property
    def levels(self) -> int | None:
        """Number of values a raw number can take, evenly spaced over [-1, 1]; None if
        continuous.
        """
        ...

    def encode(self, raw: np.ndarray) -> np.ndarray: ...

    def decode(self, samples: np.ndarray) -> np.ndarray: ...

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write a file for people (a PNG grid, a scatter plot) beside ``stem``; return its path."""
        ...


CONTINUES = 1  # the token continues a word
CONTINUED = 2  # the word may continue after the token
SPECIAL = 4  # the token is not text


@dataclass(frozen=True)
class Spec:
    """What a family must know of the data before it sees a batch.

    Attributes:
      entry: the batch entry that is modelled: "image", "signal", "points" or "tokens"; "table"
        stands for the two entries of a table, ``numeric`` and ``categorical``.
      shape: the shape of one example, [H, W, C], [T, C], [D] or [T]; for a table [D]: its numbers,
        then a one-hot block for each column of ``categorical``.
      mean: the mean training example in model space, of that shape; zeros for tokens.
      classes: the number of labels; None without labels.
      levels: the number of values of a raw pixel, evenly spaced over [-1, 1]; None if continuous.
      condition: the width of ``condition``, an example's embedded text; None without one.
      vocabulary: the number of tokens, which are 0 .. vocabulary - 1; None if the entry holds none.
      packed: whether a row of tokens holds several documents, told apart by ``segment_ids`` and
        ``positions``, and in a source by ``source_segment_ids`` and ``source_positions``. Pairs are
        packed for training only.
      token_bytes: the bytes of text that each token represents, [V]; None if unknown.
      prefixed: whether ``prefix_mask`` marks the tokens of a prefix, which is given, not predicted.
      token_kinds: the sum of the flags ``CONTINUES``, ``CONTINUED`` and ``SPECIAL`` that apply to
        each token, [V]; None if unknown.
      mask_token: the token that replaces one to be predicted; None if the vocabulary has none.
      source_length: the tokens in a row of ``source_tokens``; None if there is no source.
      source_vocabulary: the number of source tokens.
      image: the shape of the picture that a text describes; None if there is none.
      preferences: whether an example is a pair of texts, one preferred to the other (see
        ``genjax.data.chat.preferences``).
      class_names: the names of the labels 0 .. classes - 1; None if unknown.
      categories: for a table, the number of values of each column of ``categorical``: first the
        modes of each column of ``numeric``, then the categories; None for other data.
      sketch: the shape of an image's ``sketch``, [H, W, 1]; None without one.
      conditions: for a table, the columns that a conditional family takes as given, by their place
        in ``categorical``: the target, if it is one of categories.
    """

    entry: str
    shape: tuple[int, ...]
    mean: np.ndarray
    classes: int | None = None
    levels: int | None = None
    condition: int | None = None
    vocabulary: int | None = None
    packed: bool = False
    prefixed: bool = False
    token_bytes: tuple[int, ...] | None = None
    token_kinds: tuple[int, ...] | None = None
    mask_token: int | None = None
    source_length: int | None = None
    source_vocabulary: int | None = None
    image: tuple[int, ...] | None = None
    preferences: bool = False
    class_names: tuple[str, ...] | None = None
    categories: tuple[int, ...] | None = None
    conditions: tuple[int, ...] = ()
    sketch: tuple[int, ...] | None = None

    @property
    def entries(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """The example shape and dtype of every batch entry, including ``mask``."""
        tokens = self.vocabulary is not None
        if self.categories is not None:
            numbers, columns = self.shape[0] - sum(self.categories), len(self.categories)
            return {
                "numeric": ((numbers,), np.float32),
                "categorical": ((columns,), np.int32),
                "mask": ((), np.float32),
            }
        found: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            self.entry: (self.shape, np.int32 if tokens else np.float32),
            "mask": ((), np.float32),
        }
        if self.classes is not None:
            found["label"] = (), np.int32
        if self.condition is not None:
            found["condition"] = (self.condition,), np.float32
        if self.sketch is not None:
            found["sketch"] = self.sketch, np.float32
        found |= self._token_entries()
        if self.image is not None:
            found["image"] = self.image, np.float32
        return found

    def _token_entries(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """Return the entries that accompany the tokens of a text, and those of its source."""
        entries: list[tuple[str, type[np.generic]]] = []
        if self.vocabulary is not None:
            entries = [("loss_mask", np.float32)]
        if self.preferences:
            parts = (("tokens", np.int32), ("mask", np.float32), ("response", np.float32))
            sides = ("chosen", "rejected")
            entries = [(f"{side}_{part}", kind) for side in sides for part, kind in parts]
        if self.packed:
            entries += [("segment_ids", np.int32), ("positions", np.int32)]
        if self.prefixed:
            entries += [("prefix_mask", np.float32)]
        found: dict[str, tuple[tuple[int, ...], type[np.generic]]]
        found = {name: (self.shape, kind) for name, kind in entries}
        if self.source_length is not None:
            length = (self.source_length,)
            found |= {"source_tokens": (length, np.int32), "source_mask": (length, np.float32)}
            if self.packed:
                names = "source_segment_ids", "source_positions"
                found |= {name: (length, np.int32) for name in names}
        return found


@dataclass(frozen=True)
class Origin:
    """Where examples come from.

    Attributes:
      name: name of a prepared set.
      fingerprint: hash of its records.
      kind: "real", "synthetic", or "store" for records that may be either.
      generator: for synthetic records, the run that drew them, with its step, seed and own data;
        None for real ones.
      manifest: path of the file that describes its raw files or its generator.
    """

    name: str
    fingerprint: str
    kind: str = "real"
    generator: Mapping[str, Any] | None = None
    manifest: str | None = None


@dataclass(frozen=True)
class Dataset:
    """An opened source.

    Attributes:
      splits: "train" and "test", and "validation" if the source holds one out.
      spec: shapes and statistics of the training examples.
      codec: codec fitted to the training examples.
      fingerprint: hash of the contents; equal data have equal fingerprints.
      origins: origins of prepared sets; empty for other sources, which the fingerprint identifies.
      remarks: lines on what was skipped, changed or left out when the source was read.
    """

    splits: Mapping[str, Split]
    spec: Spec
    codec: Component
    fingerprint: str
    origins: tuple[Origin, ...] = ()
    remarks: tuple[str, ...] = ()
