"""Text augmentations for ``Experiment.augment``: frozen dataclasses, called as `augment(key, batch)
-> batch`.

A batch holds ``tokens`` [B, T + 1] int32 and ``loss_mask`` of that shape; packed rows also have
``segment_ids`` and ``positions``, and rows with a prefix ``prefix_mask``.

``TokenDropout`` and ``TokenSwaps`` corrupt what the model reads, not what it predicts: they add
``inputs`` [B, T + 1] int32 to the batch. A family reads ``inputs`` if they exist and always
predicts ``tokens``; otherwise it would learn to write the corruption. ``Substitution`` replaces
text by equally good text, so it changes ``tokens`` themselves, and must come before the other two.

Padding is unchanged, and nothing moves from one segment to another. A probability of 0 switches an
augmentation off. All run in the compiled step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.errors import UserError

Batch = Mapping[str, jax.Array]
Table = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


def real_mask(batch: Batch) -> jax.Array:
    """Return which tokens are not padding, bool [B, T + 1]: those of a segment, or all up to the
    last predicted one.
    """
    if "segment_ids" in batch:
        return batch["segment_ids"] > 0
    return jnp.flip(jnp.cumsum(jnp.flip(batch["loss_mask"], 1), 1), 1) > 0


def _segments(batch: Batch) -> jax.Array:
    """Return the segment of each token, [B, T + 1] int32; 0 for padding."""
    return batch.get("segment_ids", real_mask(batch).astype(jnp.int32))


def _get_tokens(augmentation: Component, batch: Batch) -> jax.Array:
    if "tokens" not in batch:
        name = type(augmentation).__name__
        raise UserError(
            f"{name} needs a batch with tokens, but these data have "
            f"{', '.join(sorted(batch)) or 'nothing'}"
        )
    return batch["tokens"]


def _check_prob(augmentation: Component) -> None:
    if not 0 <= augmentation.prob <= 1:
        raise UserError(
            f"{type(augmentation).__name__}.prob must be from 0 to 1, got {augmentation.prob}",
            "prob",
        )


def _may_change(tokens: jax.Array, keep: tuple[int, ...]) -> jax.Array:
    """Return which ``tokens`` are not in ``keep``, bool of the same shape."""
    return ~jnp.isin(tokens, jnp.asarray(keep, jnp.int32))


@checks.frozen
class TokenDropout:
    """Replaces tokens of the input by one token (word dropout,
    https://arxiv.org/abs/1511.06349).

    Attributes:
      replacement: token to insert, such as a codec's unknown or padding token.
      prob: probability of replacing a token.
      keep: tokens that are never replaced, such as start and end.
    """

    replacement: int = 0
    prob: float = 0.1
    keep: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_prob(self)
        checks.at_least(self, 0, "replacement")

    def __call__(self, key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        tokens = _get_tokens(self, batch)
        if self.prob == 0:
            return dict(batch)
        inputs = batch.get("inputs", tokens)
        dropped = (
            jax.random.bernoulli(key, self.prob, tokens.shape)
            & real_mask(batch)
            & _may_change(inputs, self.keep)
        )
        return {**batch, "inputs": jnp.where(dropped, jnp.int32(self.replacement), inputs)}


@checks.frozen
class TokenSwaps:
    """Swaps neighbouring tokens of the input; no token takes part in two swaps.

    Attributes:
      prob: probability of swapping a candidate pair. The candidates in a row are the pairs that
        start at even positions, or those that start at odd ones.
      keep: tokens that are never swapped, such as start and end.
    """

    prob: float = 0.1
    keep: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_prob(self)

    def __call__(self, key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        tokens = _get_tokens(self, batch)
        if self.prob == 0:
            return dict(batch)
        inputs, segments = batch.get("inputs", tokens), _segments(batch)
        parity, draw = jax.random.split(key)
        rows, width = tokens.shape
        first = (
            jnp.arange(width)[None] + jax.random.bernoulli(parity, 0.5, (rows, 1))
        ) % 2 == 0  # [B, T + 1]
        following = jnp.roll(segments, -1, 1).at[:, -1].set(0)
        movable = _may_change(inputs, self.keep)
        both = movable & jnp.roll(movable, -1, 1) & (segments == following) & (segments > 0)
        swapped = first & both & jax.random.bernoulli(draw, self.prob, tokens.shape)
        place = jnp.arange(width)[None] + swapped - jnp.roll(swapped, 1, 1).at[:, 0].set(False)
        return {**batch, "inputs": jnp.take_along_axis(inputs, place, axis=1)}


@checks.frozen
class Substitution:
    """Replaces sequences of tokens by others, from a table of synonyms or paraphrases.

    If matches overlap, the one that starts first is taken; if several start there, the first in the
    table. Rows keep their length: a row that grows is cut off at its end, and one that shrinks is
    filled with its padding, or with 0. Inserted tokens have the weight of those they replace;
    ``positions`` are recomputed.

    Attributes:
      table: pairs (tokens, replacement tokens); ``encode_pairs`` makes them from texts.
      prob: probability of replacing a match.
    """

    table: Table = ()
    prob: float = 0.1

    def __post_init__(self) -> None:
        _check_prob(self)
        for pair in self.table:
            if len(pair) != 2 or not all(pair) or min(min(pair[0]), min(pair[1])) < 0:
                raise UserError(
                    f"Substitution.table must hold pairs of token sequences, got {pair}", "table"
                )

    def __call__(self, key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        tokens = _get_tokens(self, batch)
        if self.prob == 0 or not self.table:
            return dict(batch)
        if "inputs" in batch:
            raise UserError("Substitution must come before TokenDropout and TokenSwaps", "augment")
        wanted = jax.random.bernoulli(key, self.prob, tokens.shape)
        entries = {
            name: batch[name]
            for name in ("loss_mask", "segment_ids", "prefix_mask")
            if name in batch
        }
        size, emitted = self._emit(
            tokens, jnp.where(wanted, self._find_matches(tokens, _segments(batch)), -1), entries
        )
        # Padding is not emitted.
        changed = jax.vmap(_scatter_tokens)(jnp.where(real_mask(batch), size, 0), emitted)
        filled = jnp.arange(tokens.shape[1])[None] < jnp.where(real_mask(batch), size, 0).sum(
            1, keepdims=True
        )
        pad = jnp.where(real_mask(batch)[:, -1:], 0, tokens[:, -1:])
        changed["tokens"] = jnp.where(filled, changed["tokens"], pad)
        if "positions" in batch:
            changed["positions"] = _positions(changed["segment_ids"])
        return {**batch, **changed}

    def _find_matches(self, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        """Return which pair of the table matches at each position, int32 [B, T + 1]; -1 for
        none.
        """
        found, place = jnp.full(tokens.shape, -1), jnp.arange(tokens.shape[1])[None]
        for number, (old, _) in reversed(list(enumerate(self.table))):
            here = segments > 0
            for offset, token in enumerate(old):
                same = jnp.roll(tokens, -offset, 1) == token
                inside = (jnp.roll(segments, -offset, 1) == segments) & (
                    place + offset < tokens.shape[1]
                )
                here &= same & inside
            found = jnp.where(here, number, found)
        return found

    def _emit(
        self, tokens: jax.Array, found: jax.Array, entries: Batch
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the number of tokens emitted at each position [B, T + 1], and these tokens with
        their entries [B, T + 1, R].
        """
        lengths = jnp.asarray([len(old) for old, _ in self.table])

        def step(
            left: jax.Array, number: jax.Array
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            """Scan one position; ``left`` [B] counts positions that the last match still covers."""
            begins = (left == 0) & (number >= 0)
            covered = left > 0
            return jnp.where(begins, lengths[number] - 1, jnp.maximum(left - 1, 0)), (
                begins,
                covered,
            )

        _, (begins, covered) = jax.lax.scan(step, jnp.zeros(len(tokens), lengths.dtype), found.T)
        begins, covered = begins.T, covered.T  # [B, T + 1]
        longest = max(len(new) for _, new in self.table)
        new = np.zeros((len(self.table), longest), np.int32)
        # The old token whose weight a new one takes.
        origin = np.zeros((len(self.table), longest), np.int32)
        for number, (old, put) in enumerate(self.table):
            new[number, : len(put)] = put
            origin[number] = np.minimum(np.arange(longest), len(old) - 1)
        sizes = jnp.asarray([len(put) for _, put in self.table])
        size = jnp.where(begins, sizes[found], jnp.where(covered, 0, 1))
        emitted = {
            "tokens": jnp.where(begins[..., None], jnp.asarray(new)[found], tokens[..., None])
        }
        place = jnp.arange(tokens.shape[1])[None, :, None] + jnp.where(
            begins[..., None], jnp.asarray(origin)[found], 0
        )
        place = jnp.minimum(place, tokens.shape[1] - 1)
        for name, entry in entries.items():
            emitted[name] = jnp.take_along_axis(entry[..., None], place, axis=1)
        return size, emitted


def _scatter_tokens(size: jax.Array, emitted: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Concatenate the first ``size`` [L] tokens ``emitted`` [L, R] at each position of one row,
    [L].
    """
    length, most = emitted["tokens"].shape
    nth = jnp.arange(most)[None]
    to = (jnp.cumsum(size) - size)[:, None] + nth
    to = jnp.where(nth < size[:, None], to, length)  # beyond the end: dropped
    return {
        name: jnp.zeros(length, x.dtype).at[to].set(x, mode="drop") for name, x in emitted.items()
    }


def _positions(segments: jax.Array) -> jax.Array:
    """Return the position of each token in its segment, int32 [B, T + 1]; 0 in padding."""
    place = jnp.arange(segments.shape[1])[None]
    begins = segments != jnp.roll(segments, 1, 1).at[:, 0].set(-1)
    since = jax.lax.cummax(jnp.where(begins, place, 0), axis=1)
    return jnp.where(segments > 0, place - since, 0).astype(jnp.int32)


def encode_pairs(codec: Component, pairs: Iterable[tuple[str, str]]) -> Table:
    """Return the table of ``Substitution`` for pairs (text, replacement), by a fitted ``codec``."""
    return tuple(
        (tuple(codec.encode(old).tolist()), tuple(codec.encode(new).tolist())) for old, new in pairs
    )
