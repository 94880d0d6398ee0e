"""The two kinds of split, in memory and lazy, and how a source makes a ``Dataset`` of them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from genjax.data.dataset import Batch, Codec, Dataset, Spec
from genjax.data.stream import permutation
from genjax.errors import UserError

# Philox streams that do not collide with those of the epochs, which count up from 0.
HOLD_OUT = 2**63
DRAW = 2**63 + 2**32
MOST_MADE = 1_000_000  # examples of a split that a source may generate in memory

ENCODED_LIMIT = 64 * 2**20  # bytes of a split that is kept encoded

Raw = tuple[np.ndarray, np.ndarray | None]  # raw examples [B, ...] and labels [B]


@dataclass(frozen=True)
class Arrays:
    """A split in memory; images stay uint8 until a batch is requested.

    Attributes:
      entry: the batch entry of the examples.
      raw: the raw examples [N, ...].
      label: the labels [N] int32, or None.
      codec: codec that converts raw examples to model space.
    """

    entry: str
    raw: np.ndarray
    label: np.ndarray | None
    codec: Codec

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.raw)

    def batch(self, indices: np.ndarray) -> Batch:
        examples = (
            self.codec.encode(self.raw[indices])
            if self._encoded is None
            else self._encoded[indices]
        )
        batch = {self.entry: examples}
        return (
            batch if self.label is None else batch | {"label": self.label[indices].astype(np.int32)}
        )

    @functools.cached_property
    def _encoded(self) -> np.ndarray | None:
        """All encoded examples of a small set; None for a larger one, whose batches are encoded on
        request, because floats take four times the memory.
        """
        return self.codec.encode(self.raw) if 4 * self.raw.size <= ENCODED_LIMIT else None

    def take(self, indices: np.ndarray) -> Arrays:
        """Return a split of only the examples at ``indices`` [M]."""
        chosen = _contiguous(indices)  # a slice copies nothing
        label = None if self.label is None else self.label[chosen]
        return Arrays(self.entry, self.raw[chosen], label, self.codec)


@dataclass(frozen=True)
class Lazy:
    """A split that is read and decoded a batch at a time.

    Attributes:
      entry: the batch entry of the examples.
      read: picklable function from storage rows [B] to raw examples [B, ...] and labels [B] or
        None.
      rows: the storage rows [N] int64 that make up this split.
      codec: codec that converts raw examples to model space.
      classes: the number of classes that labels are checked against.
    """

    entry: str
    read: Callable[[np.ndarray], Raw]
    rows: np.ndarray
    codec: Codec
    classes: int | None = None

    @property
    def in_memory(self) -> bool:
        return False

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Batch:
        examples, label = self.read(self.rows[indices])
        label = _check_labels(label, self.classes)
        batch = {self.entry: self.codec.encode(examples)}
        return batch if label is None else batch | {"label": label.astype(np.int32)}

    def take(self, indices: np.ndarray) -> Lazy:
        """Return a split of only the examples at ``indices`` [M]."""
        return dataclasses.replace(self, rows=self.rows[indices])


def _contiguous(indices: np.ndarray) -> np.ndarray | slice:
    """Return a slice of the same indices [N] if they follow each other, else the indices."""
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return slice(int(indices[0]), int(indices[0]) + len(indices))
    return indices


Stored = Arrays | Lazy


def hold_out(split: Stored, count: int) -> tuple[Stored, Stored]:
    """Return the split without ``count`` held-out examples, and those examples.

    The choice depends only on the split's size. Both keep the order of storage, which reads faster
    than a shuffled one.

    Raises:
      UserError: nothing would be left to train on.
    """
    if not 0 < count < len(split):
        raise UserError(f"cannot hold out {count:,} of {len(split):,} training examples")
    shuffled = permutation(0, HOLD_OUT, len(split))
    return split.take(np.sort(shuffled[count:])), split.take(np.sort(shuffled[:count]))


def mean_example(split: Stored, limit: int = 2048) -> np.ndarray:
    """Return the mean example [...] float32 in model space.

    It is exact for a split in memory; otherwise it is taken over ``limit`` evenly spaced examples,
    because reading all of them would take a whole pass.
    """
    size = len(split)
    chosen = (
        np.arange(size) if split.in_memory or size <= limit else np.arange(limit) * size // limit
    )
    parts = np.array_split(chosen, -(-len(chosen) // 256))
    total = sum(split.batch(part)[split.entry].sum(axis=0, dtype=np.float64) for part in parts)
    return (total / len(chosen)).astype(np.float32)


def dataset(
    splits: Mapping[str, Stored],
    *,
    classes: int | None,
    fingerprint: str,
    class_names: tuple[str, ...] | None = None,
    mean: np.ndarray | None = None,
) -> Dataset:
    """Return the ``Dataset`` of ``splits``, whose spec and codec come from "train".

    Args:
      classes: number of labels; None without labels.
      fingerprint: hash of the contents.
      class_names: names of the labels in their order; None if unknown.
      mean: mean training example; None to compute it.

    Raises:
      UserError: a label is not in 0 .. ``classes`` - 1; a lazy split raises this once it is read.
    """
    checked: dict[str, Stored] = {}
    for name, split in splits.items():
        if isinstance(split, Lazy):
            checked[name] = dataclasses.replace(split, classes=classes)
        else:
            checked[name] = dataclasses.replace(split, label=_check_labels(split.label, classes))
    train = checked["train"]
    mean = mean_example(train) if mean is None else mean
    spec = Spec(
        entry=train.entry,
        shape=mean.shape,
        mean=mean,
        classes=classes,
        levels=train.codec.levels,
        class_names=class_names,
    )
    return Dataset(splits=checked, spec=spec, codec=train.codec, fingerprint=fingerprint)


def _check_labels(label: np.ndarray | None, classes: int | None) -> np.ndarray | None:
    """Return the labels, or None if all are -1, as TFDS writes hidden ones."""
    if label is not None and label.size and label.max() == -1 == label.min():
        return None
    if (
        label is not None
        and classes is not None
        and label.size
        and not 0 <= label.min() <= label.max() < classes
    ):
        raise UserError(
            f"labels must be from 0 to {classes - 1}, got {label.min()} to {label.max()}"
        )
    return label


def array_fingerprint(splits: Mapping[str, Arrays]) -> str:
    """Return a hash of everything in the splits, including the order of the examples."""
    return digest(
        part
        for name, split in sorted(splits.items())
        for array in (split.raw, split.label)
        if array is not None
        for part in (
            f"{name} {array.dtype.str} {array.shape}".encode(),
            np.ascontiguousarray(array).data,
        )
    )


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """Return the blake2b hash of ``parts`` as 32 hex digits."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.hexdigest()
