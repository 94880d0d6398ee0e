"""Text augmentations, for `Experiment.augment`: each is a frozen dataclass, called as `augment(key,
batch) -> batch`.

A batch holds `tokens` [B, T + 1] int32, `loss_mask` of that shape, of packed rows `segment_ids` and
`positions`, and where there is a prefix `prefix_mask`.

`TokenDropout` and `TokenSwaps` damage what the model reads and leave what it predicts: the batch
comes back with `inputs` [B, T + 1] int32 next to `tokens`. A family reads `inputs` where there are
such and predicts `tokens` always; else it would learn to write the damage. `Substitution` puts a
text instead of another that is as good, so it changes `tokens` themselves, and must come before the
other two.

Padding stays as it is, and nothing crosses from one segment to another. A strength of 0 switches an
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
    """Which tokens are not padding, bool [B, T + 1]: those of a segment, or all up to the last
    that is predicted.
    """
    if "segment_ids" in batch:
        return batch["segment_ids"] > 0
    return jnp.flip(jnp.cumsum(jnp.flip(batch["loss_mask"], 1), 1), 1) > 0


def _segments(batch: Batch) -> jax.Array:
    """[B, T + 1] int32, 0 for padding."""
    return batch.get("segment_ids", real_mask(batch).astype(jnp.int32))


def _get_tokens(augmentation: Component, batch: Batch) -> jax.Array:
    if "tokens" not in batch:
        name = type(augmentation).__name__
        raise UserError(
            f"{name} is for tokens, and a batch of these data holds "
            f"{', '.join(sorted(batch)) or 'nothing'}"
        )
    return batch["tokens"]


def _check_prob(augmentation: Component) -> None:
    if not 0 <= augmentation.prob <= 1:
        raise UserError(
            f"{type(augmentation).__name__}.prob is from 0 to 1, not {augmentation.prob}"
        )


def _may_change(tokens: jax.Array, keep: tuple[int, ...]) -> jax.Array:
    """Which of ``tokens`` are none of ``keep``, bool."""
    return ~jnp.isin(tokens, jnp.asarray(keep, jnp.int32))


@checks.frozen
class TokenDropout:
    """Replaces tokens of the input by one token (word dropout,
    https://arxiv.org/abs/1511.06349).

    Attributes:
      replacement: the token that is put there, such as a codec's unknown or pad.
      prob: of each token to be replaced.
      keep: tokens that stay, such as start and end.
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
    """Swaps neighbours in what is read; no token takes part in two swaps.

    Attributes:
      prob: of each pair of neighbours to be swapped, where neither is swapped with its other
        neighbour. Half of the pairs, those that start at an even place or those that start at an
        odd one, are looked at in a row.
      keep: tokens that stay, such as start and end.
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
    """Replaces sequences of tokens by others, as a user's table of synonyms or paraphrases has
    them.

    Where sequences of the table overlap in a text, the one that starts first is taken, of several
    there the first in the table. A row keeps its length: what grows beyond it is cut off at its
    end, and a row that shrinks is filled up with its padding, or with 0. What is put in weighs as
    what it replaces; ``positions`` are counted again.

    Attributes:
      table: pairs (tokens, tokens instead); ``encode_pairs`` makes them of texts.
      prob: of each place to be replaced.
    """

    table: Table = ()
    prob: float = 0.1

    def __post_init__(self) -> None:
        _check_prob(self)
        for pair in self.table:
            if len(pair) != 2 or not all(pair) or min(min(pair[0]), min(pair[1])) < 0:
                raise UserError(
                    f"Substitution.table holds pairs of sequences of tokens, unlike {pair}"
                )

    def __call__(self, key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        tokens = _get_tokens(self, batch)
        if self.prob == 0 or not self.table:
            return dict(batch)
        if "inputs" in batch:
            raise UserError("Substitution comes before the augmentations that change inputs alone")
        wanted = jax.random.bernoulli(key, self.prob, tokens.shape)
        entries = {
            name: batch[name]
            for name in ("loss_mask", "segment_ids", "prefix_mask")
            if name in batch
        }
        size, emitted = self._emit(
            tokens, jnp.where(wanted, self._find_matches(tokens, _segments(batch)), -1), entries
        )
        changed = jax.vmap(_scatter_tokens)(
            jnp.where(real_mask(batch), size, 0), emitted
        )  # padding is emitted nowhere
        filled = jnp.arange(tokens.shape[1])[None] < jnp.where(real_mask(batch), size, 0).sum(
            1, keepdims=True
        )
        pad = jnp.where(real_mask(batch)[:, -1:], 0, tokens[:, -1:])
        changed["tokens"] = jnp.where(filled, changed["tokens"], pad)
        if "positions" in batch:
            changed["positions"] = _positions(changed["segment_ids"])
        return {**batch, **changed}

    def _find_matches(self, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        """Which pair of the table starts at each place, int32 [B, T + 1]; -1 for none."""
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
        """(how many tokens each place becomes [B, T + 1], they and their entries [B, T + 1, R])."""
        lengths = jnp.asarray([len(old) for old, _ in self.table])

        def step(
            left: jax.Array, number: jax.Array
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            """``left`` [B]: places that the sequence found before still covers."""
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
        origin = np.zeros(
            (len(self.table), longest), np.int32
        )  # which of the old tokens a new one weighs as
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
    """One row: the ``size`` [L] first of each place's ``emitted`` [L, R], one after another,
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
    """The place of each token in its segment, int32 [B, T + 1]; 0 in padding."""
    place = jnp.arange(segments.shape[1])[None]
    begins = segments != jnp.roll(segments, 1, 1).at[:, 0].set(-1)
    since = jax.lax.cummax(jnp.where(begins, place, 0), axis=1)
    return jnp.where(segments > 0, place - since, 0).astype(jnp.int32)


def encode_pairs(codec: Component, pairs: Iterable[tuple[str, str]]) -> Table:
    """The table of ``Substitution`` of pairs (text, text instead); ``codec`` has its vocabulary."""
    return tuple(
        (tuple(codec.encode(old).tolist()), tuple(codec.encode(new).tolist())) for old, new in pairs
    )
