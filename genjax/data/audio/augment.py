"""Augmentation of music as tokens, for ``Experiment.augment``."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.data.text.augment import real_mask
from genjax.errors import UserError

Batch = Mapping[str, jax.Array]

ROOTS, QUALITIES = 12, 4  # of chord tokens


@checks.frozen
class Transposition:
    """Transposes all notes of a piece by the same random number of semitones, drawn uniformly.

    Consecutive note tokens must be a semitone apart, as in ``ChoraleCodec`` and ``VoiceCodec``; a
    piece whose notes would leave their range is unchanged. The order of the notes in a step stays
    valid.

    Attributes:
      down: largest number of semitones down.
      up: largest number of semitones up.
      lowest: token of the lowest note.
      highest: token of the highest note.
      chords: token of the first of 48 chords, 12 roots of each of four qualities, whose roots move
        with the notes; None if there are none.
    """

    down: int = 5
    up: int = 6
    lowest: int = 2
    highest: int = 89
    chords: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "down", "up", "lowest", "chords")
        checks.ordered(self, "lowest", "highest")

    def __call__(self, key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Return the batch with transposed ``tokens`` [B, T + 1]; each piece of a packed row has
        its own shift.
        """
        if "tokens" not in batch:
            raise UserError("Transposition needs a batch with tokens", "augment")
        tokens = batch["tokens"]
        width = tokens.shape[1]
        piece = batch.get(
            "segment_ids", real_mask(batch).astype(jnp.int32)
        )  # index of the piece, 0 for padding, at most T + 1
        notes = (tokens >= self.lowest) & (tokens <= self.highest) & (piece > 0)
        drawn = jax.random.randint(key, (len(tokens), width + 1), -self.down, self.up + 1)
        shift = jnp.take_along_axis(drawn, piece, 1)  # [B, T + 1]
        moved = tokens + shift
        leaves = notes & ((moved < self.lowest) | (moved > self.highest))
        rows = jnp.broadcast_to(jnp.arange(len(tokens))[:, None], piece.shape)
        stays = jnp.zeros((len(tokens), width + 1), bool).at[rows, piece].max(leaves)
        goes = ~jnp.take_along_axis(stays, piece, 1)
        changed = jnp.where(notes & goes, moved, tokens)
        if self.chords is not None:
            number = tokens - self.chords
            chord = (number >= 0) & (number < ROOTS * QUALITIES) & (piece > 0)
            root = self.chords + number // ROOTS * ROOTS + (number + shift) % ROOTS
            changed = jnp.where(chord & goes, root, changed)
        return {**batch, "tokens": changed}
