"""Two processes that train in one run directory: one goes on, the other says so and loses
nothing.
"""

import pytest

from benchmarks.two_writers import pair


@pytest.mark.long
def test_one_of_two_trains_and_the_killed_one_does_not_block_its_successor(tmp_path):
    assert pair(tmp_path / "run", kill=True) == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_of_twenty_pairs_all_are_sound(tmp_path, number):
    assert pair(tmp_path / "run", kill=number % 2 == 1) == ""
