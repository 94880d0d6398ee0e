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
        """Indexed a batch at a time on the main thread; otherwise read by workers, ahead."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Batch:
        """The examples at ``indices`` [B] in model space, under the fixed batch names."""
        ...


@runtime_checkable
class HasReferences(Protocol):
    """A split whose rows have a text to compare the model's with."""

    def references(self) -> Sequence[str]:
        """The reference of each row."""
        ...


@runtime_checkable
class HasQuestions(Protocol):
    """A split of conversations, which start with questions."""

    def questions(self) -> Sequence[str]: ...


@runtime_checkable
class HasCorpus(Protocol):
    """A split whose rows are parts of a corpus of documents."""

    corpus: Any


@runtime_checkable
class HasDocuments(HasCorpus, Protocol):
    """A split that knows which document of its corpus each token is of."""

    def documents(self, indices: np.ndarray) -> np.ndarray:
        """Documents [B, T + 1] of the tokens of rows ``indices`` [B]."""
        ...


@runtime_checkable
class HasScenes(Protocol):
    """A split of pictures that come with a description."""

    scenes: Sequence[Any]


class Codec(Protocol):
    """Raw examples to model space and back.

    A frozen dataclass of plain fields, kept with the run.
    """

    @property
    def shown(self) -> int:
        """How many samples make a picture that tells something."""
        ...

    @property
    def levels(self) -> int | None:
        """Values that a raw number takes, evenly spread over [-1, 1]; None if values are
        continuous.
        """
        ...

    def encode(self, raw: np.ndarray) -> np.ndarray: ...

    def decode(self, samples: np.ndarray) -> np.ndarray: ...

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write what a person opens (a PNG grid, a scatter plot) next to ``stem``; returns its
        path.
        """
        ...


CONTINUES, CONTINUED, SPECIAL = (
    1,
    2,
    4,
)  # a token that continues a word; one after which a word continues; no text


@dataclass(frozen=True)
class Spec:
    """What a family must know of the data before it sees a batch.

    Attributes:
      entry: the batch entry that is modelled, "image", "signal", "points" or "tokens"; "table" for
        the two of a table, ``numeric`` and ``categorical``.
      shape: the shape of one example, [H, W, C], [T, C], [D] or [T]; of a table [D], its numbers
        and then a one-hot block for each column of ``categorical``.
      mean: the mean of the training examples in model space, of that shape; zeros of tokens.
      classes: the number of labels, None without labels.
      levels: values that a raw pixel takes, evenly spread over [-1, 1]; None if values are
        continuous.
      condition: the width of ``condition``, an example's embedded text; None without.
      vocabulary: tokens are 0 .. vocabulary - 1; None if the entry holds none.
      packed: whether a row of tokens holds several documents, distinguished by ``segment_ids`` and
        ``positions``, of a source by ``source_segment_ids`` and ``source_positions``; in training
        alone where there is a source.
      token_bytes: bytes of text that each token represents, [V]; None if they are not known.
      prefixed: a ``prefix_mask`` tells the tokens of the prefix, which is given, not predicted.
      token_kinds: of each token [V] the sum of those of ``CONTINUES``, ``CONTINUED`` and
        ``SPECIAL`` that hold of it; None if that is not known.
      mask_token: represents a token that is to be found out; None if the vocabulary has none.
      source_length: tokens in a row of ``source_tokens``; None if there is no source.
      source_vocabulary: of the source's tokens.
      image: shape of the picture that a text is about; None if there is none.
      preferences: an example is two texts to choose from, as ``genjax.data.chat.preferences`` has
        them.
      class_names: what the labels 0 .. classes - 1 are called; None if that is not known.
      categories: of a table, how many values each column of ``categorical`` takes: first the modes
        of each column of ``numeric``, then the categories; None of other data.
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

    @property
    def entries(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """The shape of one example and the dtype of every entry of a batch, ``mask`` among them."""
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
        found |= self._token_entries()
        if self.image is not None:
            found["image"] = self.image, np.float32
        return found

    def _token_entries(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """Those beside the tokens of a text, which have its shape, and those of its source."""
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
      name: of a prepared set.
      fingerprint: of its records.
      kind: "real", "synthetic", or "store" of records of which some may be either.
      generator: of synthetic records, the run that drew them, with its step, seed and own data;
        None of real ones.
      manifest: the path of the file that tells of its raw files or its generator.
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
      splits: "train" and "test", and "validation" where the source holds one out.
      spec: shapes and statistics of the training examples.
      codec: fitted on the training examples.
      fingerprint: of the contents; equal data, equal fingerprint.
      origins: of prepared sets; none of other sources, which are known by their fingerprint.
      remarks: what was skipped, changed or left out when the source was read, a line for each
        reading.
    """

    splits: Mapping[str, Split]
    spec: Spec
    codec: Component
    fingerprint: str
    origins: tuple[Origin, ...] = ()
    remarks: tuple[str, ...] = ()
