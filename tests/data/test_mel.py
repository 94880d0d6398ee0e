"""Mel spectrograms: levels as computed apart, the way back to sound, and what a source makes of
sounds.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import scipy.signal

from genjax.data.audio.mel import MelCodec
from genjax.data.audio.signals import read_wav, wav_bytes
from genjax.data.audio.spectrograms import MelSpectrograms
from genjax.data.sources import Digits, Tones, WavFolder
from genjax.errors import UserError

librosa = pytest.importorskip("librosa", reason="it is of an extra: pip install '.[audio]'")

RATE, LENGTH = 8_000, 192 * 31
CODEC = MelCodec(RATE, 32, 32)
FITTED = dataclasses.replace(CODEC, high=20.0)


def tone(hertz: float, amplitude: float = 0.5) -> np.ndarray:
    """A sine as int16 [1, T, 1]."""
    wave = np.sin(2 * np.pi * hertz * np.arange(LENGTH) / RATE)
    return np.rint(32767 * amplitude * wave).astype(np.int16)[None, :, None]


def test_levels_are_those_of_a_windowed_transform_through_slaneys_bands():
    noise = np.random.default_rng(0).integers(-9_000, 9_000, (3, LENGTH, 1)).astype(np.int16)
    unit = noise[..., 0] / np.abs(noise[..., 0]).max(1, keepdims=True)
    padded = np.pad(unit, ((0, 0), (256, 256)))
    frames = np.stack([padded[:, i * 192 : i * 192 + 512] for i in range(32)], 1)  # [3, 32, 512]
    window = scipy.signal.get_window("hann", 512)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    bands = power @ librosa.filters.mel(sr=RATE, n_fft=512, n_mels=32).T  # [3, frames, bands]
    expected = 10 * np.log10(bands).transpose(0, 2, 1)
    np.testing.assert_allclose(CODEC.analyse(noise)[..., 0], expected, atol=1e-3)


def test_loudness_is_not_modelled_and_silence_has_the_lowest_level():
    loud, quiet = CODEC.analyse(tone(700, 0.8)), CODEC.analyse(tone(700, 0.1))
    strong = loud > loud.max() - 40  # below, the quantisation of 16 bits shows
    np.testing.assert_allclose(loud[strong], quiet[strong], atol=0.3)
    silent = CODEC.analyse(np.zeros((1, LENGTH, 1), np.int16))
    np.testing.assert_allclose(silent, -100, atol=1e-3)
    assert np.array_equal(FITTED.encode(silent), np.full_like(silent, -1))


def test_levels_become_values_of_an_image_and_pictures_have_low_bands_below():
    levels = np.array([-90.0, -40.0, -10.0, 20.0, 33.0], np.float32)
    np.testing.assert_allclose(FITTED.encode(levels), [-1, -1, 0, 1, 1])
    samples = np.full((2, 32, 32, 1), -1.0)
    samples[0, 0] = 1  # the lowest band
    samples[1, 5, 7] = np.nan
    drawn = FITTED.decode(samples)
    assert drawn.dtype == np.uint8 and drawn[0, -1].min() == 255 and not drawn[0, :-1].any()
    assert not drawn[1].any()
    with pytest.raises(UserError) as error:
        CODEC.encode(levels)
    assert error.value.field == "high"


@pytest.mark.parametrize("hertz", [250, 700, 1_900])
def test_a_tone_keeps_its_pitch_on_the_way_back_to_sound(hertz):
    image = FITTED.encode(CODEC.analyse(tone(hertz)))
    sound = FITTED.synthesise(image)
    assert sound.shape == (1, LENGTH, 1) and sound.dtype == np.int16
    assert np.abs(sound.astype(int)).max() == 32767
    power = np.abs(np.fft.rfft(sound[0, :, 0] * np.hanning(LENGTH)))
    found = power.argmax() * RATE / LENGTH
    edges = librosa.mel_frequencies(34, fmin=0, fmax=RATE / 2)  # 32 bands and the ends
    band = np.searchsorted(edges, hertz)
    assert edges[band - 1] - 20 < found < edges[band] + 20  # a band has one pitch alone
    again = FITTED.encode(CODEC.analyse(sound))
    assert np.abs(again - image).mean() < 0.1
    assert np.array_equal(FITTED.synthesise(image), sound)


def test_files_are_one_sound_after_another_and_silence_is_silent(tmp_path):
    samples = np.concatenate([FITTED.encode(CODEC.analyse(tone(500))), -np.ones((1, 32, 32, 1))])
    path = FITTED.write(samples, tmp_path / "two")
    sound, rate = read_wav(path.read_bytes())
    assert rate == RATE and len(sound) == 2 * LENGTH + 1_600
    assert sound[:LENGTH].any() and not sound[LENGTH:].any()
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


def test_a_source_of_sounds_becomes_one_of_images_fitted_to_its_training_part():
    tones = Tones(300, 60, length=16 * 31)
    inner, data = tones.open(), MelSpectrograms(tones, window=128, hop=16).open()
    assert data.spec.entry == "image" and data.spec.shape == (32, 32, 1)
    assert data.spec.classes == 8 and data.spec.levels is None
    rows = np.arange(len(inner.splits["test"]))
    found, raw = (d.splits["test"].batch(rows) for d in (data, inner))
    assert np.array_equal(found["label"], raw["label"])
    levels = data.codec.analyse(inner.codec.decode(raw["signal"]))
    np.testing.assert_allclose(found["image"], data.codec.encode(levels), atol=1e-6)
    train = data.splits["train"].batch(np.arange(len(data.splits["train"])))["image"]
    assert 0.0005 < (train == 1).mean() < 0.002  # one level in a thousand is clipped
    same, other = (
        MelSpectrograms(tones, window=128, hop=16, range_db=size).open() for size in (60.0, 50.0)
    )
    assert same.fingerprint == data.fingerprint != other.fingerprint


def test_short_sounds_are_padded(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.wav").write_bytes(wav_bytes(tone(400)[0, :900], RATE))
    data = MelSpectrograms(
        WavFolder(str(tmp_path), RATE, 900, test_fraction=0.0), frames=12, hop=256
    ).open()
    image = data.splits["train"].batch(np.arange(3))["image"]
    assert image.shape == (3, 32, 12, 1) and data.spec.classes is None
    assert image[:, :, 2].max() > 0.5 and (image[:, :, 6:] == -1).all()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"hop": 300}, "hop"),
        ({"bands": 200}, "bands"),
        ({"range_db": 0.0}, "range_db"),
        ({"frames": 1}, "frames"),
        ({"window": 8}, "window"),
        ({"source": Digits()}, "source"),
    ],
)
def test_bad_fields_are_refused(fields, field):
    with pytest.raises(UserError) as error:
        MelSpectrograms(**fields).open()
    assert error.value.field == field


def test_stereo_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(np.zeros((90, 2), np.int16), RATE))
    with pytest.raises(UserError) as error:
        MelSpectrograms(WavFolder(str(tmp_path), RATE, 90, 2, test_fraction=0.0)).open()
    assert error.value.field == "source"


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(UserError, match=r"librosa.*genjax-train\[audio\]"):
        MelSpectrograms(Tones(20, 10)).open()
