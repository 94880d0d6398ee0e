"""What is compiled here is tiny: it runs for less time than it takes to optimise it."""

import pytest


@pytest.fixture(autouse=True)
def quickly(compiled_quickly):
    pass
