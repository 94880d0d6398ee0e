"""Draws any number of samples, in chunks of one compiled size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genjax.checks import Component
from genjax.data.images.decode import note
from genjax.errors import UserError
from genjax.family import INPUTS, Family, State
from genjax.parallel import Layout
from genjax.samplers.options import Accepts, Selects, decode_samples

# Samples that are drawn at once; a conditional sampler starts over with label 0 in each chunk.
CHUNK = 256
TRIES, FEW_TRIES = 100, 10  # rounds of drawing until samples must be accepted, or may be refused
AGAIN = 2**30  # folded into the key when samples are drawn again


def draw_samples(
    layout: Layout,
    family: Family,
    state: State,
    key: jax.Array,
    n: int,
    options: Component,
    chunk: int = CHUNK,
) -> np.ndarray:
    """Draw ``n`` samples in model space, in chunks of one compiled size, so that any number fits in
    memory.
    """
    draw = layout.compile_evaluation(type(family).sample, static_argnums=(0, 3, 4))
    return map_chunks(lambda key, size: draw(family, state, key, size, options), key, n, chunk)


def draw_finished(
    layout: Layout,
    family: Family,
    state: State,
    key: jax.Array,
    n: int,
    options: Component,
    codec: Component,
    strict: bool = True,
) -> np.ndarray:
    """Draw ``n`` samples and finish them with the codec, see ``draw_accepted``."""

    def draw(key: jax.Array) -> np.ndarray:
        return draw_samples(layout, family, state, key, n, options)

    pinned = INPUTS in (state.frozen or {})
    return draw_accepted(draw, key, options, codec, pinned, strict)


def draw_accepted(
    draw: Callable[[jax.Array], np.ndarray],
    key: jax.Array,
    options: Component,
    codec: Component,
    pinned: bool = False,
    strict: bool = True,
) -> np.ndarray:
    """Draw samples and finish them with the codec; those that the encoded options or the codec
    refuse are drawn again, a limited number of times.

    Args:
      draw: draws samples in model space, always as many.
      pinned: whether a sample belongs to its row, which has inputs of its own.
      strict: whether it is an error if some are still refused in the end; if not, a line says so.

    Raises:
      UserError: too many samples are refused; the message counts them.
    """
    samples = np.asarray(decode_samples(draw(key), options, codec))
    accepted = _accept(samples, options, codec)
    if accepted is None or accepted.all():
        return samples
    samples, accepted = samples.copy(), accepted.copy()
    tries = options.tries if isinstance(options, Selects) else TRIES
    tries = tries if strict else min(tries, FEW_TRIES)
    for number in range(1, tries):
        again = draw(jax.random.fold_in(key, AGAIN + number))
        again = np.asarray(decode_samples(again, options, codec))
        good = _accept(again, options, codec)
        good = np.ones(len(again), bool) if good is None else good
        rows = np.flatnonzero(~accepted & good) if pinned else np.flatnonzero(~accepted)
        found = again[rows] if pinned else again[good]
        rows, found = rows[: len(found)], found[: len(rows)]
        samples[rows], accepted[rows] = found, True
        if accepted.all():
            return samples
    line = (
        f"{int((~accepted).sum()):,} of {len(samples):,} samples are still refused after {tries:,} "
        "rounds of drawing: the model rarely draws what is asked for"
    )
    if strict:
        raise UserError(
            f"{line}; ask for fewer samples (num) or for something more common, or raise "
            "sampler.tries",
            "sampler.tries",
        )
    note(line)
    return samples


def _accept(samples: np.ndarray, options: Component, codec: Component) -> np.ndarray | None:
    """Return which samples the options and the codec accept, bool [N]; None for all."""
    by_options = options.select(samples, codec) if isinstance(options, Selects) else None
    by_codec = codec.accept(samples) if isinstance(codec, Accepts) else None
    if by_options is None or by_codec is None:
        return by_codec if by_options is None else by_options
    return by_options & by_codec


def lower_draw(
    layout: Layout, family: Family, state: State, key: jax.Array, n: int, options: Component
) -> Any:
    """Trace the drawing of a chunk, for ``Ahead``; of ``state`` only shapes and places matter."""
    draw = layout.compile_evaluation(type(family).sample, static_argnums=(0, 3, 4))
    return draw.lower(family, state, key, min(n, CHUNK), options)


def map_chunks(
    draw: Callable[[jax.Array, int], Any], key: jax.Array, n: int, chunk: int = CHUNK
) -> np.ndarray:
    """Draw ``n`` samples by ``draw(key, size)``, always of one size, so that any number fits in
    memory.
    """
    size = min(n, chunk)
    # Each chunk leaves the device before the next is drawn.
    chunks = [np.asarray(draw(jax.random.fold_in(key, i), size)) for i in range(-(-n // size))]
    return np.concatenate(chunks)[:n]


def cycle_labels(count: int, classes: int) -> np.ndarray:
    """Return the labels [N] of the first ``count`` samples of ``draw_samples``, if they take all
    labels in turn.

    With more than ``CHUNK`` classes, the last are never requested.
    """
    return np.arange(count) % CHUNK % classes
