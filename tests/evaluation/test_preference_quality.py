"""Preference quality against cases by hand, what it refuses, and every pair of a split once."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.dataset import Spec
from genjax.data.sources import RulePreferences
from genjax.errors import UserError
from genjax.evaluation.judge import Model, Subject
from genjax.evaluation.likelihood.classification import bin_by_confidence
from genjax.evaluation.text.preference_quality import Judged, PreferenceQuality, compute_cosine
from genjax.family import Family
from genjax.parallel import Devices
from tests import toy

SPEC = Spec("chosen_tokens", (8,), np.zeros(8, np.float32), vocabulary=9, preferences=True)


@dataclass(frozen=True)
class Lengths(Family):
    """Rewards a response with ``weight`` for each of its tokens."""

    weight: float = 0.1

    def score_pairs(self, state, batch):
        return tuple(
            self.weight * batch[f"{side}_response"].sum(-1) for side in ("chosen", "rejected")
        )


def judged(chosen, rejected, chosen_length, rejected_length):
    return Judged(
        *(
            np.array(values, np.float64)
            for values in (chosen, rejected, chosen_length, rejected_length)
        )
    )


def test_the_numbers_by_hand():
    #        longer, right; longer, wrong; shorter, right; shorter, right; as long, a tie
    pairs = judged([2, 0, 1, 3, 1], [1, 1, 0, 0, 1], [5, 6, 2, 3, 4], [3, 2, 4, 4, 4])
    numbers = pairs.to_metrics()
    assert numbers["preference_accuracy"] == pytest.approx(3.5 / 5)
    assert numbers["preference_error"] == pytest.approx(np.sqrt(0.7 * 0.3 / 5))
    assert numbers["longer_wins"] == pytest.approx(2.5 / 5)
    assert numbers["accuracy_longer"] == 0.5 and numbers["accuracy_shorter"] == 1.0
    rewards, lengths = [2, 0, 1, 3, 1, 1, 1, 0, 0, 1], [5, 6, 2, 3, 4, 3, 2, 4, 4, 4]
    assert numbers["length_correlation"] == pytest.approx(np.corrcoef(rewards, lengths)[0, 1])
    wanted = (1 * 2 - 1 * 4 - 1 * 2 - 3 * 1) / np.sqrt((1 + 1 + 1 + 9) * (4 + 16 + 4 + 1))
    assert numbers["pair_length_correlation"] == pytest.approx(wanted)


def test_the_calibration_by_hand():
    half, sure = 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-3))  # 0.622 and 0.953
    pairs = judged([0.5, 0, 0.5, 3, 0], [0, 0.5, 0, 0, 0], [1] * 5, [1] * 5)
    table = pairs.bin_calibration(10)
    np.testing.assert_array_equal(table.examples, [0, 0, 0, 0, 1, 0, 3, 0, 0, 1])
    np.testing.assert_allclose(table.accuracy[[4, 6, 9]], [0.5, 2 / 3, 1])
    np.testing.assert_allclose(table.confidence[[4, 6, 9]], [0.5, half, sure])
    np.testing.assert_allclose(table.error, (0 + 3 * abs(2 / 3 - half) + (1 - sure)) / 5)


def test_what_the_order_of_the_two_and_a_prompt_of_its_own_do_not_change():
    draw = np.random.default_rng(0)
    a, b, n, m = (
        draw.normal(size=50),
        draw.normal(size=50),
        draw.integers(1, 9, 50),
        draw.integers(1, 9, 50),
    )
    one, other = judged(a, b, n, m).to_metrics(), judged(b, a, m, n).to_metrics()
    for name in ("length_correlation", "pair_length_correlation"):
        assert one[name] == pytest.approx(other[name])
    assert one["preference_accuracy"] == pytest.approx(1 - other["preference_accuracy"])
    higher = draw.normal(size=50)
    moved = judged(a + higher, b + higher, n, m).to_metrics()
    for name in one.keys() - {"length_correlation"}:
        assert moved[name] == pytest.approx(one[name])
    assert abs(moved["length_correlation"] - one["length_correlation"]) > 1e-3


def test_what_is_missing_has_no_number():
    numbers = judged([1, 2], [0, 0], [3, 3], [3, 3]).to_metrics()
    assert not {"accuracy_longer", "accuracy_shorter"} & numbers.keys()
    assert (
        numbers["length_correlation"] == numbers["pair_length_correlation"] == 0
        and numbers["longer_wins"] == 0.5
    )
    assert compute_cosine(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize(("batch_size", "devices"), [(16, 1), (8, 8)])
def test_every_pair_is_judged_once(batch_size, devices):
    """50 pairs: the last batch is padded."""
    data = RulePreferences(60, 50).open()
    layout = parallel.start(Devices(count=devices))
    model = Model(Lengths(), jnp.zeros(()), data.spec, data.codec, "step 0")
    on = Subject(model, data.splits, "test", jax.random.key(1), layout, batch_size)
    found = PreferenceQuality(bins=10)(on)
    batch = data.splits["test"].batch(np.arange(50))
    chosen, rejected = (batch[f"{side}_response"].sum(-1) for side in ("chosen", "rejected"))
    wins = (np.sign(chosen - rejected) + 1) / 2
    assert found.numbers["preference_accuracy"] == pytest.approx(wins.mean())
    assert found.numbers["longer_wins"] == found.numbers["preference_accuracy"], (
        "it goes by the length alone"
    )
    assert found.numbers["accuracy_longer"] == 1 and found.numbers["accuracy_shorter"] == 0
    assert found.numbers["length_correlation"] == pytest.approx(1)
    assert found.numbers["pair_length_correlation"] == pytest.approx(1)
    p = 1 / (1 + np.exp(-0.1 * abs(chosen - rejected)))
    assert found.numbers["preference_ece"] == pytest.approx(
        bin_by_confidence(p, wins, 10).error, rel=1e-4
    )
    assert (
        found.protocol
        == "50 pairs of test, 10 bins of equal width, lengths in tokens of the response"
    )
    picture = found.pictures["preferences"]
    assert picture.dtype == np.uint8 and picture.shape[-1] == 3 and picture.std() > 10


def test_families_and_data_without_pairs_are_refused():
    PreferenceQuality().check(Lengths(), SPEC, {})
    with pytest.raises(UserError, match="scores pairs of responses, got a Toy"):
        PreferenceQuality().check(toy.Toy(), SPEC, {})
    points = Spec("points", (2,), np.zeros(2, np.float32))
    with pytest.raises(UserError, match="needs pairs of responses, but the data are of points"):
        PreferenceQuality().check(Lengths(), points, {})
    with pytest.raises(UserError, match="bins must be at least 2"):
        PreferenceQuality(bins=1)
