"""Exponents, dimensions, scores of ensembles and spectra against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import gx
from genjax.data.simulation.codec import FieldCodec, TrajectoryCodec
from genjax.evaluation.simulation.exponents import (
    compute_kaplan_yorke,
    find_exponents,
    follow_neighbours,
    read_reference,
)
from genjax.evaluation.simulation.fidelity import (
    find_first_above,
    find_spectrum,
    measure_distance,
)
from genjax.evaluation.simulation.lyapunov import find_of_system
from genjax.evaluation.simulation.neighbours import NeighbourDivergence
from genjax.evaluation.simulation.scores import (
    compute_fair_crps,
    compute_spread_ratio,
    count_ranks,
    find_p_of_flatness,
)


def test_exponents_of_a_linear_map_are_the_logarithms_of_its_eigenvalues():
    triangle = jnp.array([[2.0, 1.0, 0.5], [0.0, 0.5, 3.0], [0.0, 0.0, 0.1]])
    found = find_exponents(
        lambda y, key: y @ triangle.T / 1.0,
        jnp.zeros((2, 3)),
        jax.random.PRNGKey(0),
        3,
        200,
        50,
    )
    np.testing.assert_allclose(found, [np.log([2, 0.5, 0.1])] * 2, atol=1e-3)


def test_exponents_of_the_henon_map_sum_to_the_logarithm_of_b():
    def step(y, key):
        return jnp.stack([1 - 1.4 * y[:, 0] ** 2 + y[:, 1], 0.3 * y[:, 0]], -1)

    start = 0.1 * jax.random.normal(jax.random.PRNGKey(0), (20, 2))
    found = np.asarray(find_exponents(step, start, jax.random.PRNGKey(1), 2, 1000, 50)).mean(0)
    np.testing.assert_allclose(found.sum(), np.log(0.3), atol=1e-3)
    np.testing.assert_allclose(found[0], 0.4192, atol=0.01)  # published
    np.testing.assert_allclose(compute_kaplan_yorke(found), 1.258, atol=0.01)


def test_neighbours_part_at_the_exponent_of_the_map():
    """The logistic map x -> 4 x (1 - x) has the exponent log 2."""
    x = np.random.default_rng(0).random(40)
    states = []
    for _ in range(300):
        states.append(x)
        x = 4 * x * (1 - x)
    found = NeighbourDivergence(steps=(0, 6), apart=2, warm_up=0).fit_slope(
        np.stack(states, 1)[..., None]
    )
    np.testing.assert_allclose(found, np.log(2), rtol=0.05)


@pytest.mark.parametrize("apart", [1, 4])
def test_neighbours_of_one_trajectory_are_some_steps_apart(apart):
    angle = 2 * np.pi * np.arange(25) / 40  # on a circle all distances stay
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)[None]
    chord = 2 * np.sin(np.pi * apart / 40)
    np.testing.assert_allclose(follow_neighbours(circle, 5, apart), np.log(chord), rtol=1e-5)


def test_the_dimension_follows_from_the_exponents():
    assert compute_kaplan_yorke(np.array([0.9, 0.0, -14.57])) == pytest.approx(2 + 0.9 / 14.57)
    assert compute_kaplan_yorke(np.array([-1.0, -2.0])) == 0
    assert compute_kaplan_yorke(np.array([1.0, -0.5, -1.0])) == pytest.approx(2.5)
    assert np.isnan(compute_kaplan_yorke(np.array([1.0, -0.5])))


def lorenz(count, steps):
    source = gx.Trajectories(length=3, size=count, test_size=2)
    data = source.open()
    given = data.splits["train"].batch(np.arange(0, 2 * count, 2))["signal"][:, :1]
    return np.asarray(find_of_system(data.codec, given, jax.random.PRNGKey(0), 3, steps, 40)) / 0.05


def test_exponents_of_lorenz_sum_to_the_divergence():
    assert lorenz(4, 20).sum(1) == pytest.approx(-(10 + 1 + 2.667), rel=1e-4)


@pytest.mark.long
def test_exponents_of_lorenz_are_within_5_percent_of_those_of_dysts():
    reference = read_reference("Lorenz")
    if reference is None:
        pytest.skip("dysts is not installed")
    found = lorenz(48, 2000).mean(0)
    assert found[0] == pytest.approx(reference.lyapunov, rel=0.05)
    assert compute_kaplan_yorke(found) == pytest.approx(reference.kaplan_yorke, rel=0.05)
    assert abs(found[1]) < 0.01  # along the flow


def test_without_dysts_there_is_no_reference(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert read_reference("Lorenz") is None


def test_fair_crps_of_normal_draws_is_the_closed_form_for_any_number_of_members():
    rng = np.random.default_rng(0)
    truth = np.full(40_000, 0.7)
    # Gneiting & Raftery 2007: y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi) of the standard normal.
    phi, below = np.exp(-0.245) / np.sqrt(2 * np.pi), 0.758036
    exact = 0.7 * (2 * below - 1) + 2 * phi - 1 / np.sqrt(np.pi)
    for members in (2, 5, 20):
        drawn = rng.normal(size=(members, len(truth)))
        assert compute_fair_crps(drawn, truth).mean() == pytest.approx(exact, abs=0.01)
    pairs = rng.normal(size=(7, 3))
    direct = np.abs(pairs - 1).mean(0) - np.abs(pairs[:, None] - pairs).sum((0, 1)) / (2 * 7 * 6)
    np.testing.assert_allclose(compute_fair_crps(pairs, np.ones(3)), direct)


def test_ranks_and_spread_tell_a_calibrated_ensemble_from_a_narrow_one():
    rng = np.random.default_rng(1)
    centre = rng.normal(size=4000)
    truth = centre + rng.normal(size=4000)
    for width, calibrated in ((1.0, True), (0.5, False)):
        members = centre + width * rng.normal(size=(9, 4000))
        ranks = count_ranks(members, truth)
        assert ranks.sum() == 4000 and len(ranks) == 10
        assert (find_p_of_flatness(ranks) > 0.01) == calibrated
        assert (abs(compute_spread_ratio(members, truth) - 1) < 0.05) == calibrated
    assert count_ranks(np.array([[1.0], [2.0]]), np.array([1.5])).tolist() == [0, 1, 0]


def test_spectra_find_the_frequency_of_a_wave():
    time = np.arange(64)
    codec = TrajectoryCodec(("x",), 1.0, (0.0,), (1.0,))
    waves = np.sin(2 * np.pi * 8 * time / 64 + np.arange(3)[:, None])[..., None]
    spectrum = find_spectrum(waves, codec)
    assert spectrum[:, 0].argmax() + 1 == 8
    assert measure_distance(10 * spectrum + 1, 10 * spectrum + 1) == 0
    assert measure_distance(np.ones((4, 1)), 10 * np.ones((4, 1))) == pytest.approx(1, abs=1e-6)
    fields = FieldCodec(("u",), 1.0, (0.0,), (1.0,))
    rows = np.cos(2 * np.pi * 3 * np.arange(16) / 16)
    field = np.broadcast_to(rows[:, None], (2, 1, 16, 16))[..., None]
    assert find_spectrum(field, fields)[:, 0].argmax() + 1 == 3


def test_the_first_step_above_a_bound_is_found_and_nan_counts_as_above():
    error = np.array([[0.1, 0.5, 0.1], [0.1, 0.2, 0.3], [0.1, np.nan, 0.1]])
    assert find_first_above(error, 0.4).tolist() == [1, 3, 1]
