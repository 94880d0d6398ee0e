"""Runs that draw spectrograms are served as sounds."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the server is an extra: pip install '.[serve]'")
pytest.importorskip("librosa", reason="it is of an extra: pip install '.[audio]'")

import genjax
from genjax import gx
from genjax.data.audio.mel import MelCodec
from genjax.data.audio.signals import SignalCodec, read_wav
from tests import serving


def test_a_spectrogram_is_answered_as_the_sound_it_stands_for(trained):
    def train(run_dir):
        tones = gx.Tones(size=24, test_size=8)
        data = gx.MelSpectrograms(tones, bands=8, frames=8, window=128, hop=64)
        family = gx.VAE(
            latent_dim=2,
            coder=gx.MLPCoder(hidden=(8,)),
            likelihood=gx.Gaussian("shared", 0.2),
            conditional=True,
        )
        serving.train_tiny(gx.Experiment(family=family, data=data, steps=2, batch_size=8), run_dir)

    run_dir = trained.once("serve_mel", train)
    with serving.Served([f"mel={run_dir}"]) as served:
        body = {"model": "mel", "input": "3", "voice": "any", "seed": 5}
        status, headers, sound = served.ask("/v1/audio/speech", body)
        refused, _, _ = served.ask("/v1/images/generations", {"model": "mel", "prompt": ""})
    assert (status, headers["content-type"], refused) == (200, "audio/wav", 400)
    run = genjax.load(run_dir)
    options = dataclasses.replace(run.family.sampler, label=3)
    want = run.codec.synthesise(run.sample(1, 5, options))[0]
    signal, rate = read_wav(sound)
    assert rate == 4_000 and signal.shape == (7 * 64, 1) and np.abs(signal).max() == 32_767
    np.testing.assert_array_equal(signal, want)


def test_both_codecs_of_sounds_synthesise():
    signal = SignalCodec(8_000, 5)
    np.testing.assert_array_equal(signal.synthesise(np.full((2, 5, 1), 0.5)), 16_384)
    mel = MelCodec(8_000, 8, 8, 128, 64, high=20.0)
    assert mel.synthesise(np.full((2, 8, 8, 1), -1.0)).shape == (2, 448, 1)
