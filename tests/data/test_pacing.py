"""Pacings: the closed forms, at both ends and in between."""

import math

import numpy as np
import pytest

from genjax.data.order.pacing import LinearPacing, RootPacing, StepPacing
from genjax.errors import UserError


@pytest.mark.parametrize(
    ("pacing", "shares"),
    [
        (LinearPacing(0.2, 8), [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1]),
        (StepPacing(0.4, 8, 3), [0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.8, 0.8, 1, 1]),
        (StepPacing(0.1, 3, 1), [0.1, 0.1, 0.1, 1, 1, 1, 1, 1, 1, 1]),
        (
            RootPacing(0.6, 4),
            [0.6, math.sqrt(0.52), math.sqrt(0.68), math.sqrt(0.84), 1, 1, 1, 1, 1, 1],
        ),
        (RootPacing(1.0, 4), [1] * 10),
    ],
)
def test_shares_are_the_closed_forms(pacing, shares):
    found = pacing(np.arange(10))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, shares, rtol=1e-14)
    assert (found[np.array(shares) == 1] == 1).all()  # exactly, as the plain order begins there
    assert [float(pacing(np.int64(step))) for step in range(10)] == found.tolist()


@pytest.mark.parametrize("kind", [StepPacing, LinearPacing, RootPacing])
def test_shares_rise_to_1_and_stay(kind):
    found = kind(0.05, 97)(np.arange(300))
    assert (np.diff(found) >= 0).all() and found[0] == 0.05
    assert (found[:97] < 1).all() and (found[97:] == 1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearPacing(0.0), "pacing.start must be > 0"),
        (lambda: RootPacing(1.5), "pacing.start must be > 0"),
        (lambda: StepPacing(0.5, 0), "pacing.steps must be a whole number >= 1"),
        (lambda: StepPacing(0.5, 3, 4), "stairs must be from 1 to 3"),
    ],
)
def test_what_is_no_pacing_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
