"""Refuse a run whose processes were started with different configs or data."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping

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
    agree_soon(lambda: facts, 1)


def agree_soon(look: Callable[[], Mapping[str, str]], times: int = 6) -> None:
    """Compare facts, and look again every two seconds while they differ, such as files on a disk
    of the network that other machines see later.

    Raises:
      UserError: a process still differs; the same one on all processes.
    """
    if jax.process_count() == 1:
        return
    for attempt in range(times):
        first, *others = _gather(Guest(jax.process_index(), socket.gethostname(), look()))
        differences = [d for other in others if (d := find_difference(first, other)) is not None]
        if not differences:
            return
        if attempt + 1 < times:
            time.sleep(2.0)
    # All end now: none must take the end of another for the reason.
    jax.distributed.shutdown()
    raise differences[0]


def _gather(guest: Guest) -> list[Guest]:
    """Return what every process says, in the order of their numbers."""
    content = np.frombuffer(json.dumps(vars(guest)).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(content.size)).reshape(-1)
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: content.size] = content
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    lines = [bytes(row[:size]) for row, size in zip(rows, sizes, strict=True)]
    return [found for line in lines if (found := Guest.parse(line)) is not None]
