"""Refuse a run whose processes were started with different configs or data."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from genjax.machine.meeting import Guest, find_difference


def agree(facts: Mapping[str, str]) -> None:
    """Compare facts with those of all other processes, which call this at the same time.

    Args:
      facts: what must be the same everywhere, by the name of its field.

    Raises:
      UserError: a process differs; the same one on all processes.
    """
    if jax.process_count() == 1:
        return
    first, *others = _gather(Guest(jax.process_index(), socket.gethostname(), facts))
    for other in others:
        difference = find_difference(first, other)
        if difference is not None:
            # All end now: none must take the end of another for the reason.
            jax.distributed.shutdown()
            raise difference


def _gather(guest: Guest) -> list[Guest]:
    """Return what every process says, in the order of their numbers."""
    content = np.frombuffer(json.dumps(vars(guest)).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(content.size)).reshape(-1)
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: content.size] = content
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    lines = [bytes(row[:size]) for row, size in zip(rows, sizes, strict=True)]
    return [found for line in lines if (found := Guest.parse(line)) is not None]
