"""Batches hold the same examples in the same order on any number of processes, from any step on."""

import numpy as np
import pytest

from genjax.data.stream import batches
from tests import toy

SIZE, STEPS = 16, 25  # two and a half epochs of 160 examples


def read(position, processes, number, several=1):
    """The examples of one process from a position to the last step."""
    share = SIZE // processes
    source = batches(
        toy.ToyData().open().splits["train"],
        seed=3,
        position=position,
        batch_size=SIZE,
        rows=slice(number * share, (number + 1) * share),
        several=several,
    )
    count = (STEPS - position // SIZE) // several
    found = np.stack([next(source)["points"] for _ in range(count)])
    source.close()
    return found.reshape(-1, *found.shape[-2:])


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
@pytest.mark.parametrize("several", [1, 5])
@pytest.mark.parametrize("step", [0, 5, 15])
def test_processes_together_read_what_one_reads(processes, several, step):
    whole = read(0, 1, 0)
    parts = [read(step * SIZE, processes, i, several) for i in range(processes)]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole[step:])
