"""Sound files of other formats, rates and channels, and digits that are spoken by synthesis."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from genjax.data.audio.formants import TAKES, VOICES, speak_digits
from genjax.data.audio.signals import Sound, wav_bytes
from genjax.data.audio.sound_files import mix_channels, read_file, resample
from genjax.data.sources import SpokenDigits, WavFolder
from genjax.errors import UserError

RNG = np.random.default_rng(0)


def tone(hertz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    """A sine as int16 [T, 1]."""
    wave = np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    return np.rint(20_000 * wave).astype(np.int16)[:, None]


def encoded(sound: np.ndarray, rate: int, kind: str) -> bytes:
    """The bytes of a FLAC or OGG file."""
    soundfile = pytest.importorskip("soundfile", reason="it is of an extra: pip install '.[audio]'")
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format=kind)
    return buffer.getvalue()


def open_folder(root: Path, length: int = 60, **fields):
    return WavFolder(str(root), 8_000, length, test_fraction=0.0, **fields).open()


def pitch(signal: np.ndarray, rate: int) -> float:
    """The frequency of the strongest partial of a signal [T, 1]."""
    power = np.abs(np.fft.rfft(signal[:, 0] * np.hanning(len(signal))))
    return float(power.argmax() * rate / len(signal))


def test_flac_is_read_exactly_and_ogg_nearly():
    sound = RNG.integers(-32_768, 32_768, (500, 2)).astype(np.int16)
    found = read_file(encoded(sound, 22_050, "FLAC"), ".flac")
    assert np.array_equal(found.signal, sound) and found[1:] == (22_050, 0)
    smooth = tone(440, 8_000)
    found = read_file(encoded(smooth, 8_000, "OGG"), ".ogg")
    assert len(found.signal) == len(smooth) and abs(pitch(found.signal, 8_000) - 440) < 3


def test_the_formats_of_a_folder_give_the_same_examples(tmp_path):
    sounds = {}
    for number, (suffix, kind) in enumerate(((".wav", ""), (".FLAC", "FLAC"), (".flac", "FLAC"))):
        sound = RNG.integers(-9_000, 9_000, (60, 1)).astype(np.int16)
        content = encoded(sound, 8_000, kind) if kind else wav_bytes(sound, 8_000)
        (tmp_path / f"{number}{suffix}").write_bytes(content)
        sounds[number] = sound
    for memory in (1.0, 0.0):
        data = open_folder(tmp_path, memory_gb=memory)
        found = data.codec.decode(data.splits["train"].batch(np.arange(3))["signal"])
        assert {one.tobytes() for one in found} == {one.tobytes() for one in sounds.values()}


def test_bad_files_are_named_in_one_line(tmp_path):
    good = encoded(tone(440, 8_000), 8_000, "FLAC")
    (tmp_path / "a.flac").write_bytes(good)
    (tmp_path / "b.flac").write_bytes(b"fLaC" + bytes(40))
    (tmp_path / "c.ogg").write_bytes(b"no sound at all")
    (tmp_path / "d.wav").write_bytes(wav_bytes(np.zeros((0, 1), np.int16), 8_000))
    with pytest.raises(UserError) as error:
        open_folder(tmp_path)
    text = str(error.value)
    assert "\n" not in text and text.count("3 of 4") == 1
    assert all(name in text for name in ("b.flac (", "c.ogg (", "d.wav (it holds no sound)"))
    with pytest.raises(ValueError, match="holds no sound"):
        read_file(encoded(np.zeros((0, 1), np.int16), 8_000, "WAV"), ".flac")


@pytest.mark.parametrize("rate", [4_000, 11_025, 44_100, 48_000])
def test_resampling_keeps_pitch_level_and_time(rate):
    there = resample(Sound(tone(440, rate), rate), 8_000, 4_000)
    assert there.rate == 8_000 and abs(len(there.signal) - 4_000) <= 1
    inside = there.signal[400:-400].astype(float)
    assert abs(pitch(there.signal, 8_000) - 440) < 2
    assert abs(np.sqrt(2 * np.square(inside).mean()) / 20_000 - 1) < 0.02
    expected = tone(440, 8_000)[: len(there.signal)]
    assert np.abs(inside - expected[400:-400]).max() < 500


def test_resampling_removes_what_the_lower_rate_cannot_hold():
    there = resample(Sound(tone(6_000, 44_100), 44_100), 8_000, 4_000)
    assert np.abs(there.signal[400:-400]).max() < 200  # of 20,000


def test_only_the_part_that_is_kept_is_resampled():
    noise = RNG.integers(-9_000, 9_000, (44_100, 1)).astype(np.int16)
    whole = resample(Sound(noise, 44_100), 8_000, 8_000).signal
    part = resample(Sound(noise, 44_100), 8_000, 300).signal
    assert np.array_equal(whole[:300], part)


def test_a_folder_of_other_rates_and_channels_is_converted_on_request(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(tone(440, 44_100), 44_100))
    (tmp_path / "b.wav").write_bytes(wav_bytes(np.repeat(tone(440, 8_000), 2, 1), 8_000))
    for fields, bad in (({}, 2), ({"resample": True}, 1), ({"mix": True}, 1)):
        with pytest.raises(UserError, match=f"{bad} of 2"):
            open_folder(tmp_path, 3_000, **fields)
    both = {"resample": True, "mix": True}
    opened = [open_folder(tmp_path, 3_000, memory_gb=m, **both) for m in (1.0, 0.0)]
    assert opened[0].fingerprint == opened[1].fingerprint
    for data in opened:
        sounds = data.codec.decode(data.splits["train"].batch(np.arange(2))["signal"])
        assert all(abs(pitch(one, 8_000) - 440) < 3 for one in sounds)
    with pytest.raises(UserError) as error:
        WavFolder(str(tmp_path), 8_000, 10, channels=2, mix=True)
    assert error.value.field == "mix"


@pytest.mark.parametrize("rate", [1, 999, 4_000_000_000])
def test_a_rate_that_no_sound_has_is_not_resampled(rate):
    with pytest.raises(ValueError, match="its rate must be from"):
        resample(Sound(tone(440, 8_000), rate), 8_000, 100)


def test_channels_are_averaged():
    signal = np.array([[3, 5], [-7, -8], [32_767, 32_767]], np.int16)
    assert mix_channels(Sound(signal, 8_000)).signal.tolist() == [[4], [-8], [32_767]]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(UserError, match=r"soundfile.*genjax-train\[audio\]"):
        open_folder(tmp_path)


def test_digits_are_spoken_where_there_are_no_recordings(monkeypatch):
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    spoken = speak_digits()
    count = 10 * len(VOICES) * TAKES
    assert len(spoken.offsets) == count + 1 and np.abs(spoken.audio).max() < 32_767
    assert np.array_equal(np.bincount(spoken.label), [count // 10] * 10)
    data = SpokenDigits(length=4_096).open()
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes == {"train": count - 50 * len(VOICES), "test": 50 * len(VOICES)}
    assert data.spec.classes == 10
    assert SpokenDigits(length=4_096, label="speaker").open().spec.classes == len(VOICES)


def test_spoken_digits_differ_by_their_formants(monkeypatch):
    """The nearest mean spectrum of the training part names most of the test part."""
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    data = SpokenDigits(length=4_096).open()

    def spectra(name: str) -> tuple[np.ndarray, np.ndarray]:
        batch = data.splits[name].batch(np.arange(len(data.splits[name])))
        frames = batch["signal"][..., 0].reshape(-1, 16, 256) * np.hanning(256)
        power = np.abs(np.fft.rfft(frames))[..., 1:129].reshape(-1, 16, 16, 8).mean(-1)
        level = np.log(power + 1e-2).reshape(len(power), -1)
        return level, batch["label"]

    (train, known), (test, label) = spectra("train"), spectra("test")
    means = np.stack([train[known == digit].mean(0) for digit in range(10)])
    found = np.square(test[:, None] - means).sum(-1).argmin(1)
    assert (found == label).mean() > 0.6  # a tenth by chance
