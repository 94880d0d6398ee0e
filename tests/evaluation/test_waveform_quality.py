"""Judging after the waveform: tones survive it, deaf models are found, and copies of recordings
score as recordings do.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.audio.mel import MelCodec
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Spec
from genjax.data.splits import Arrays
from genjax.errors import UserError
from genjax.evaluation.audio.waveform import WaveformQuality, through_waveform
from genjax.evaluation.drawing import cycle_labels
from genjax.evaluation.images.diversity import Diversity
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.judge import Model
from genjax.families.classifier import Classifier
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.vae import VAE
from genjax.family import State
from genjax.parallel import Devices
from tests.evaluation.test_bias import Planted

pytest.importorskip("librosa", reason="it is of an extra: pip install '.[audio]'")

RUN = "runs/ears"
PITCHES = 400, 1_000, 1_800, 3_000  # Hz of each label, in four quarters of the bands
CODEC = MelCodec(8_000, 16, 12, window=256, hop=64, high=15.0, iterations=4)
SHAPE = (16, 12, 1)


class LoudestQuarter(nn.Module):
    """The mean of each label's own bands."""

    @nn.compact
    def __call__(self, x, mask=None, *, train=False):
        return x.reshape(len(x), 4, -1).mean(-1)


@dataclass(frozen=True)
class Quarters:
    def backbone(self, axis=None):
        return LoudestQuarter()


def ears() -> Model:
    """A classifier that takes a sound for the label whose bands are the loudest."""
    params = {"head": {"kernel": 50 * jnp.eye(4), "bias": jnp.zeros(4)}}
    variables = {"mean": jnp.zeros(SHAPE), "batch_stats": {}}
    state = State(jnp.zeros((), jnp.int32), params, None, variables, None, jax.random.key(0))
    spec = Spec("image", SHAPE, np.zeros(SHAPE, np.float32), classes=4)
    return Model(Classifier(Quarters()), state, spec, CODEC, f"run {RUN}")


def levels(label, seed):
    """Spectrograms in dB [N, 16, 12, 1] of noisy tones of ``label`` [N]."""
    draw = np.random.default_rng(seed)
    time = np.arange(CODEC.length) / 8_000
    waves = np.sin(
        2 * np.pi * np.array(PITCHES)[label][:, None] * time + draw.uniform(0, 6, (len(label), 1))
    )
    noisy = 9_000 * waves + draw.normal(0, 300, waves.shape)
    return CODEC.analyse(noisy.astype(np.int16)[..., None])


@pytest.fixture(scope="module")
def tones():
    """The levels of each split, and their labels: 40 to train on, 24 held out."""
    labels = {"train": np.arange(40) % 4, "test": np.arange(24) % 4}
    return {
        name: (levels(label, len(label)), label.astype(np.int32)) for name, label in labels.items()
    }


def drawing(tones, drawn, codec=CODEC):
    """A subject whose samples are the images [N, 16, 12, 1]."""
    splits = {name: Arrays("image", raw, label, codec) for name, (raw, label) in tones.items()}
    spec = Spec("image", SHAPE, np.zeros(SHAPE, np.float32), classes=4)
    model = Model(Diffusion(conditional=True), None, spec, codec, "step 0")
    layout = parallel.start(Devices(count=1))
    return Planted(model, splits, "test", jax.random.key(0), layout, 16, {RUN: ears()}, drawn=drawn)


def test_a_model_that_draws_what_it_is_asked_for_is_heard_as_recordings_are(tones):
    raw, label = tones["test"]
    assert np.array_equal(label, cycle_labels(24, 4))
    found = WaveformQuality(RUN, 24)(drawing(tones, CODEC.encode(raw)))
    for way in ("", "_waveform"):
        assert found.numbers[f"real_accuracy{way}"] == found.numbers[f"sample_accuracy{way}"] == 1
        real, sample = (found.numbers[f"{name}_frechet{way}"] for name in ("real", "sample"))
        np.testing.assert_allclose(sample, real, rtol=1e-9)
    assert found.numbers["real_frechet"] < found.numbers["real_frechet_waveform"]
    assert found.pictures["heard"].dtype == np.uint8 and len(found.remarks) == 4
    assert "24 recordings of test; waveforms by 4 iterations of Griffin-Lim" in found.protocol


def test_a_deaf_model_agrees_by_chance_and_the_recordings_stay_what_they_are(tones):
    raw, _ = tones["test"]
    found = WaveformQuality(RUN, 24)(drawing(tones, CODEC.encode(np.repeat(raw[2:3], 24, 0))))
    assert found.numbers["sample_accuracy"] == found.numbers["sample_accuracy_waveform"] == 0.25
    assert found.numbers["real_accuracy_waveform"] == 1
    assert found.numbers["sample_frechet"] > 10 * found.numbers["real_frechet"]
    assert "by label: 0 0%, 1 0%, 2 100%, 3 0%" in found.remarks[2]


def test_the_way_through_a_waveform_is_that_of_the_codec(tones):
    images = CODEC.encode(tones["test"][0][:3])
    again = through_waveform(CODEC, images)
    assert again.shape == images.shape and not np.array_equal(again, images)
    assert np.array_equal(again, CODEC.encode(CODEC.analyse(CODEC.synthesise(images))))


def test_other_codecs_families_and_too_few_samples_are_refused(tones):
    with pytest.raises(UserError, match="needs mel spectrograms"):
        raw = (np.zeros((24, *SHAPE), np.uint8), tones["test"][1])
        other = drawing({"train": raw, "test": raw}, np.zeros((24, *SHAPE)), ImageCodec(*SHAPE))
        WaveformQuality(RUN, 24)(other)
    spec = Spec("image", SHAPE, np.zeros(SHAPE, np.float32), classes=4)
    with pytest.raises(UserError, match="class-conditional"):
        WaveformQuality(RUN).check(VAE(), spec, {RUN: ears()})
    with pytest.raises(UserError) as error:
        WaveformQuality(RUN, 4).check(Diffusion(conditional=True), spec, {RUN: ears()})
    assert error.value.field == "samples"


def test_planted_copies_of_recordings_are_found_and_one_sound_alone_is_no_diversity(tones):
    """The evaluators of images take spectrograms as they are."""
    train = CODEC.encode(tones["train"][0])
    fresh = CODEC.encode(levels(np.arange(40) % 4, 7))
    evaluator = Memorisation(samples=40, false_alarms=0.05, shown=4)
    clean = evaluator(drawing(tones, fresh)).numbers["copies_pixels"]
    planted = np.concatenate([train[:10] + 0.01, fresh[10:]])
    copied = evaluator(drawing(tones, planted))
    assert copied.numbers["copies_pixels"] >= 0.25 > 0.15 > clean
    assert copied.pictures["suspicious_pixels"].dtype == np.uint8
    one = Diversity(samples=40)(drawing(tones, np.repeat(fresh[:1], 40, 0)))
    varied = Diversity(samples=40)(drawing(tones, fresh))
    assert one.numbers["diversity_pixels"] == 0
    assert 0.8 < varied.numbers["diversity_pixels"] < 1.25
