"""Draws any number of samples, in chunks of one compiled size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genjax.checks import Component
from genjax.family import Family, State
from genjax.parallel import Layout

# Samples that are drawn at once; a conditional sampler starts over with label 0 in each chunk.
CHUNK = 256


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
