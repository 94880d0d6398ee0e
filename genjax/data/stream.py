"""The order of the examples as a pure function of (seed, position).

The position is one integer, the examples consumed by all processes together, so a run resumes
exactly on any number of hosts: each takes its own rows of the same global batch.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from genjax.data.dataset import Batch, Split
from genjax.errors import UserError


def raw_bits(seed: int, stream: int, count: int, first: int = 0) -> np.ndarray:
    """Return the random words first .. first + count - 1 [count] uint64 of Philox keyed by (seed,
    stream).

    Raw bits, because numpy does not promise that its Generator stays the same between versions. The
    cost does not depend on ``first``.
    """
    key = np.array([seed % 2**64, stream % 2**64], dtype=np.uint64)
    counter, skipped = divmod(first, 4)  # Philox gives four words per count
    return np.random.Philox(key=key, counter=counter).random_raw(skipped + count)[skipped:]


def permutation(seed: int, stream: int, size: int) -> np.ndarray:
    """Return a permutation [size] int64 of ``range(size)``, the same on every numpy version."""
    return np.argsort(raw_bits(seed, stream, size), kind="stable")


@functools.lru_cache(maxsize=4)  # a batch may straddle two epochs, and two splits may take turns
def order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Return the order [size] int64 of the examples in ``epoch``; read-only, as it is cached."""
    result = permutation(seed, epoch, size)
    result.setflags(write=False)
    return result


def indices(seed: int, position: int, count: int, size: int) -> np.ndarray:
    """Return the indices [count] int64 of the examples at position .. position + count - 1.

    Epoch e covers the positions e * size .. (e + 1) * size - 1; ``count`` may span several epochs.

    Raises:
      UserError: when the split is empty.
    """
    if size < 1:
        raise UserError("the split holds no examples to train on")
    first, last = position // size, (position + count - 1) // size
    parts = [
        order(seed, epoch, size)[max(position - epoch * size, 0) : position + count - epoch * size]
        for epoch in range(first, last + 1)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


class Order(Protocol):
    """Maps positions to examples. Picklable, so that worker processes can hold it."""

    def __call__(self, seed: int, position: int, count: int, batch_size: int) -> np.ndarray:
        """Return the indices [count] int64 of the examples at position .. position + count - 1.

        Position p belongs to step p // batch_size.
        """
        ...


@runtime_checkable
class HasOrder(Protocol):
    """A split that prescribes its order; None leaves it to the loop."""

    order: Order | None


@dataclass(frozen=True)
class Shuffled:
    """Visits each example once an epoch.

    Attributes:
      size: number of examples.
    """

    size: int

    def __call__(self, seed: int, position: int, count: int, batch_size: int) -> np.ndarray:
        return indices(seed, position, count, self.size)


def own_order(split: Split) -> Order | None:
    """Return the order that a split prescribes, as a mixture does; None for most."""
    return split.order if isinstance(split, HasOrder) else None


@dataclass(frozen=True)
class _Ordered:
    """Maps a batch number to the batch of an endless stream.

    Picklable, so that worker processes can hold it.
    """

    split: Split
    order: Order
    seed: int
    position: int
    batch_size: int
    rows: slice
    several: int

    def __call__(self, number: int) -> Batch:
        count = self.several * self.batch_size
        chosen = self.order(self.seed, self.position + int(number) * count, count, self.batch_size)
        chosen = chosen.reshape(self.several, self.batch_size)[:, self.rows]
        batch = self.split.batch(chosen.ravel()) | {"mask": np.ones(chosen.size, np.float32)}
        shape = chosen.shape if self.several > 1 else chosen.shape[1:]
        return {name: value.reshape(*shape, *value.shape[1:]) for name, value in batch.items()}


@dataclass(frozen=True)
class _Padded:
    """Maps a batch number to the padded batch of one pass in order."""

    split: Split
    batch_size: int
    rows: slice
    total: int

    def __call__(self, number: int) -> Batch:
        chosen = (int(number) * self.batch_size + np.arange(self.batch_size))[self.rows]
        real = chosen < self.total
        return self.split.batch(np.where(real, chosen, 0)) | {"mask": real.astype(np.float32)}


def _iterate(make: _Ordered | _Padded, count: int, workers: int) -> Generator[Batch, None, None]:
    """Yield the batches 0 to count - 1: made here for a split in memory, otherwise ahead by
    Grain.
    """
    if make.split.in_memory:
        yield from map(make, range(count))
        return
    import grain

    threads = min(8, os.cpu_count() or 1)  # also the number of batches held ready
    dataset = (
        grain.MapDataset.range(count)
        .map(make)
        .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    )
    if workers > 0:
        from absl import flags

        if not flags.FLAGS.is_parsed():
            # Grain's workers read absl flags, which only absl.app would parse.
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    iterator = iter(dataset)
    try:
        for batch in iterator:
            # Workers hand over shared memory that is freed with the iterator: copy it.
            yield {name: np.array(value) for name, value in batch.items()} if workers > 0 else batch
    finally:
        iterator.close()


def batches(
    split: Split,
    *,
    seed: int,
    position: int,
    batch_size: int,
    rows: slice = slice(None),
    several: int = 1,
    workers: int = 0,
    order: Order | None = None,
) -> Generator[Batch, None, None]:
    """Yield shuffled batches without end, starting at ``position``.

    Args:
      seed: seed of the order.
      position: examples consumed so far by all processes together.
      batch_size: size of the global batch.
      rows: this process's rows of the global batch.
      several: batches stacked in each item, read as one.
      workers: processes that read a split that is not in memory; 0 reads it with threads.
      order: order of the examples; None takes the split's own, else each example once an epoch.

    Yields:
      The split's entries [B, ...] and ``mask`` [B] float32 of ones, where B counts ``rows``;
      [several, B, ...] when several > 1. Close the iterator (``contextlib.closing``) to stop the
      readers.
    """
    _check(split, batch_size, workers)
    order = order or own_order(split) or Shuffled(len(split))
    return _iterate(
        _Ordered(split, order, seed, position, batch_size, rows, several), 2**62, workers
    )


def pad_batches(
    split: Split,
    batch_size: int,
    rows: slice = slice(None),
    limit: int | None = None,
    workers: int = 0,
) -> Generator[Batch, None, None]:
    """Yield every example, or the first ``limit``, once and in order, for evaluation.

    Yields:
      The split's entries [B, ...] and ``mask`` [B] float32. The last batch is padded to
      ``batch_size`` with copies of row 0 under mask 0, so that all batches have the same shape and
      all processes the same number of batches.
    """
    _check(split, batch_size, workers)
    total = len(split) if limit is None else min(limit, len(split))
    return _iterate(_Padded(split, batch_size, rows, total), -(-total // batch_size), workers)


def _check(split: Split, batch_size: int, workers: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size must be >= 1, got {batch_size}", "batch_size")
    if workers < 0:
        raise UserError(f"workers must be >= 0, got {workers}", "workers")
    if len(split) < 1:
        raise UserError("the split holds no examples")
