"""Pitches of tones: pure ones, those of the source, and what is a copy."""

import jax
import numpy as np
import pytest

from genjax import gx, parallel
from genjax.data.sources.tones import PITCHES
from genjax.errors import UserError
from genjax.evaluation.audio.tones import ToneQuality, explain_energy, find_spectra
from genjax.evaluation.judge import Model
from genjax.parallel import Devices
from tests.evaluation.test_bias import Planted

FAMILY = gx.Diffusion(net=gx.UNet((8,), 1, ()), conditional=True)


@pytest.fixture(scope="module")
def data():
    return gx.Tones(size=200, test_size=96).open()


def judge(data, drawn):
    layout = parallel.start(Devices(count=1))
    model = Model(FAMILY, None, data.spec, data.codec, "planted")
    evaluator = ToneQuality(len(drawn))
    evaluator.check(FAMILY, data.spec, {})
    return evaluator(
        Planted(model, data.splits, "test", jax.random.key(0), layout, 16, drawn=drawn)
    ).numbers


def in_turn(data, count):
    """Training tones whose labels are 0 to 7 in turn."""
    batch = data.splits["train"].batch(np.arange(200))
    places = [np.flatnonzero(batch["label"] == label) for label in range(8)]
    return batch["signal"][[places[i % 8][i // 8] for i in range(count)]]


def test_harmonics_explain_their_own_tone_alone():
    time = np.arange(512) / 4_000
    tones = np.stack(
        [np.sin(2 * np.pi * f * time + 1) - np.cos(6 * np.pi * f * time) / 3 for f in PITCHES]
    )
    shares = explain_energy(tones, 4_000)
    np.testing.assert_allclose(np.diag(shares), 1, atol=1e-6)
    assert (shares - np.eye(8)).max() < 0.95 and (shares.argmax(1) == np.arange(8)).all()
    noise = np.random.default_rng(0).normal(size=(400, 512))
    np.testing.assert_allclose(explain_energy(noise, 4_000).mean(), 6 / 512, rtol=0.1)
    assert not explain_energy(np.zeros((1, 512)), 4_000).any()


def test_training_tones_are_heard_right_and_found_as_copies(data):
    numbers = judge(data, in_turn(data, 96))
    assert numbers["pitch_accuracy"] == 1 and numbers["pitch_accuracy_held_out"] > 0.98
    assert numbers["copies"] == 1 and 0.8 < numbers["diversity"] < 1.2
    assert numbers["harmonic"] > 0.8


def test_tones_of_another_pitch_and_equal_ones_are_told(data):
    moved = np.roll(in_turn(data, 96), 1, axis=0)
    assert judge(data, moved)["pitch_accuracy"] < 0.02
    same = np.repeat(in_turn(data, 1), 96, axis=0)
    assert judge(data, same)["diversity"] < 1e-3
    np.testing.assert_allclose(find_spectra(same[..., 0]), find_spectra(-same[..., 0]))


def test_other_models_are_refused(data):
    with pytest.raises(UserError):
        ToneQuality().check(gx.Diffusion(net=gx.UNet((8,), 1, ())), data.spec, {})
