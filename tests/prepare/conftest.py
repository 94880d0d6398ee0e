"""What tests of preparations share."""

import pyarrow as pa
import pytest

from genjax.prepare import engine


@pytest.fixture(autouse=True)
def native():
    """Daft in this process."""
    engine.begin(engine.NATIVE)


@pytest.fixture
def judged():
    """A function of a row stage and columns: the table that goes on, and the reasons."""

    def judge(stage, **columns):
        return stage.rows(pa.table(columns))

    return judge
