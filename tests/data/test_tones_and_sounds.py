"""Sources of signals: tones have the spectrum that is said, files come as they are, and bad
ones are named.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from genjax.data.audio.signals import read_wav, wav_bytes
from genjax.data.sources import SpokenDigits, Tones, WavFolder
from genjax.data.sources.tones import DECAY, LOUDNESS, PITCHES
from genjax.errors import UserError

RNG = np.random.default_rng(0)
AUDIO = Path(os.environ.get("GENJAX_DATA", "/nowhere")).expanduser() / "audio"


@pytest.fixture(scope="module")
def tones():
    return Tones(400, 100).open()


def test_tones_sound_at_the_pitch_of_their_label(tones):
    batch = tones.splits["train"].batch(np.arange(400))
    signal, label = batch["signal"][..., 0], batch["label"]
    assert (
        batch["signal"].shape == (400, 512, 1)
        and signal.dtype == np.float32
        and label.dtype == np.int32
    )
    assert tones.spec.entry == "signal" and tones.spec.shape == (512, 1) and tones.spec.classes == 8
    assert set(label) == set(range(8))
    power = np.abs(np.fft.rfft(signal * np.hanning(512), 8192))
    frequency = np.fft.rfftfreq(8192, 1 / 4000)
    # Whatever the phases, the harmonics stand where they should: their sum is the largest of all
    # pitches' sums.
    bins = np.abs(frequency[None, None] - np.outer(PITCHES, [1, 2, 3])[..., None]).argmin(
        -1
    )  # [8, 3]
    assert np.array_equal((power[:, bins] * [1, 0.5, 0.3]).sum(-1).argmax(-1), label)
    lowest = frequency[
        power[:, (frequency > 230) & (frequency < 550)].argmax(1) + np.argmax(frequency > 230)
    ]
    np.testing.assert_allclose(lowest, np.array(PITCHES)[label], atol=6)


def test_tones_fall_as_fast_and_are_as_loud_as_is_said(tones):
    signal = tones.splits["train"].batch(np.arange(400))["signal"][..., 0].astype(np.float64)
    peak = np.abs(signal).max(1)
    assert peak.max() < LOUDNESS[1] and peak.min() > 0.3 * LOUDNESS[0]
    halves = np.square(signal).reshape(400, 2, 256).sum(-1)
    decay = 2 * 256 / 4000 / np.log(halves[:, 0] / halves[:, 1])  # energy falls twice as fast
    assert (
        DECAY[0] * 0.8 < decay.min() < 1.3 * DECAY[0]
        and 0.7 * DECAY[1] < np.quantile(decay, 0.95) < 1.5 * DECAY[1]
    )


def test_tones_depend_on_the_seed_and_their_place_alone(tones):
    more = Tones(500, 100).open()
    for name in ("signal", "label"):
        few, many = (data.splits["train"].batch(np.arange(400))[name] for data in (tones, more))
        assert np.array_equal(few, many)
    assert (
        Tones(400, 100).open().fingerprint
        == tones.fingerprint
        != Tones(400, 100, seed=1).open().fingerprint
    )
    train, test = (tones.splits[name].batch(np.arange(100))["signal"] for name in ("train", "test"))
    assert not (train[:, None, :40] == test[None, :, :40]).all((2, 3)).any()


def test_bad_tones_are_refused():
    for fields, words in (
        ({"size": 0}, "size"),
        ({"length": 0}, "length"),
        ({"rate": 3139}, "rate must be > 3140 Hz"),
    ):
        with pytest.raises(UserError, match=words):
            Tones(**fields)


def save(path: Path, length: int = 60, rate: int = 8000, channels: int = 1) -> np.ndarray:
    """Writes a random sound; returns it, [T, C]."""
    sound = RNG.integers(-20000, 20000, (length, channels)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(sound, rate))
    return sound


def open_folder(root: Path, **fields):
    return WavFolder(
        **{"root": str(root), "rate": 8000, "length": 50, "test_fraction": 0, **fields}
    ).open()


def test_sounds_are_those_of_the_files_cut_and_padded(tmp_path):
    truth = [
        save(tmp_path / f"{i}.wav", length, channels=2) for i, length in enumerate((20, 50, 90))
    ]
    (tmp_path / ".hidden.wav").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no sound")
    data = open_folder(tmp_path, channels=2)
    assert data.spec.entry == "signal" and data.spec.shape == (50, 2) and data.spec.classes is None
    found = data.codec.decode(data.splits["train"].batch(np.arange(3))["signal"])
    assert np.array_equal(found[0, :20], truth[0]) and not found[0, 20:].any()
    assert np.array_equal(found[1], truth[1]) and np.array_equal(found[2], truth[2][:50])
    np.testing.assert_allclose(data.spec.mean, data.codec.encode(found).mean(0), atol=1e-6)


def test_lazy_sounds_equal_those_in_memory_and_travel_to_workers(tmp_path):
    for i in range(12):
        save(tmp_path / f"{i % 3}" / f"{i}.WAV")
    memory, lazy = (open_folder(tmp_path, memory_gb=size, test_fraction=0.3) for size in (1.0, 0.0))
    assert memory.splits["train"].in_memory and not lazy.splits["train"].in_memory
    assert memory.fingerprint == lazy.fingerprint and memory.spec.classes == 3
    assert sum(map(len, memory.splits.values())) == 12 and set(memory.splits) == {"train", "test"}
    for name, split in lazy.splits.items():
        rows = np.arange(len(split))
        a, b = (s.batch(rows) for s in (memory.splits[name], pickle.loads(pickle.dumps(split))))
        assert a.keys() == b.keys() == {"signal", "label"}
        assert all(np.array_equal(a[key], b[key]) for key in a)
    save(tmp_path / "0" / "0.WAV")
    assert open_folder(tmp_path, test_fraction=0.3).fingerprint != memory.fingerprint


def test_labels_come_from_folders_or_from_names(tmp_path):
    truth = {}
    for speaker in ("zoe", "ann"):
        for digit in (7, 3):
            truth[save(tmp_path / speaker / f"{digit}_{speaker}.wav").tobytes()] = (
                digit == 7,
                speaker == "zoe",
            )
    for pattern, place in ((r"([^/_]+)_[^/]*$", 0), (None, 1)):
        data = open_folder(tmp_path, pattern=pattern, length=60)
        batch = data.splits["train"].batch(np.arange(4))
        assert data.spec.classes == 2
        sounds = data.codec.decode(batch["signal"])
        assert batch["label"].tolist() == [truth[sound.tobytes()][place] for sound in sounds]
    with pytest.raises(UserError, match=r"finds no label in ann/3_ann\.wav"):
        open_folder(tmp_path, pattern="(9)_")


def test_a_relative_folder_is_looked_for_below_the_data(tmp_path, monkeypatch):
    sound = save(tmp_path / "data" / "sounds" / "a.wav", 50)
    monkeypatch.setenv("GENJAX_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    data = open_folder(Path("sounds"))
    assert np.array_equal(
        data.codec.decode(data.splits["train"].batch(np.arange(1))["signal"])[0], sound
    )


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_files_that_do_not_fit_are_named(tmp_path, memory):
    save(tmp_path / "good.wav")
    save(tmp_path / "a.wav", rate=44_100)
    save(tmp_path / "b.wav", channels=2)
    (tmp_path / "c.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:-9])
    (tmp_path / "d.wav").write_text("no sound at all")
    with pytest.raises(UserError) as error:
        open_folder(tmp_path, memory_gb=memory)
    text = str(error.value)
    assert (
        "4 of 5" in text
        and "a.wav (its rate must be 8,000 Hz, got 44,100; resample converts it)" in text
    )
    assert (
        "b.wav (its channels must be 1, got 2; mix averages them)" in text
        and "c.wav (it is cut off: its header says" in text
        and "1 more" in text
    )


def test_a_file_lost_later_is_named(tmp_path):
    save(tmp_path / "a.wav")
    split = open_folder(tmp_path, memory_gb=0).splits["train"]
    (tmp_path / "a.wav").unlink()
    with pytest.raises(UserError, match=r"a\.wav"):
        split.batch(np.arange(1))


def test_missing_and_empty_folders_and_bad_fields_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no sound files"):
        open_folder(tmp_path)
    save(tmp_path / "a.wav")
    with pytest.raises(UserError, match="one usable sound file"):
        open_folder(tmp_path, test_fraction=0.5)
    for fields, words in (
        ({"rate": 0}, "rate"),
        ({"test_fraction": 1.0}, "test_fraction"),
        ({"pattern": "("}, "must be a regular expression"),
        ({"pattern": "a"}, "must have a group"),
    ):
        with pytest.raises(UserError, match=words):
            open_folder(tmp_path, **fields)


def stored_digits(folder: Path) -> list[np.ndarray]:
    """Twelve short recordings of two digits by one speaker in the form of the real file."""
    parts = [RNG.integers(-99, 99, length).astype(np.int16) for length in range(10, 22)]
    np.savez(
        folder / "fsdd.npz",
        audio=np.concatenate(parts),
        offsets=np.cumsum([0, *map(len, parts)]),
        label=np.arange(12) // 6,
        speaker=np.zeros(12, np.uint8),
        index=np.arange(12) % 6,
        sample_rate=8000,
    )
    return parts


def test_spoken_digits_are_cut_out_of_their_file_and_split_as_published(tmp_path, monkeypatch):
    (tmp_path / "audio").mkdir()
    parts = stored_digits(tmp_path / "audio")
    monkeypatch.setenv("GENJAX_DATA", str(tmp_path))
    data = SpokenDigits(length=15).open()
    train, test = (
        split.batch(np.arange(len(split))) for split in (data.splits["train"], data.splits["test"])
    )
    assert train["label"].tolist() == [0, 1] and test["label"].tolist() == [0] * 5 + [1] * 5
    raw = data.codec.decode(test["signal"])[..., 0]
    assert np.array_equal(raw[0], [*parts[0], *[0] * 5]) and np.array_equal(raw[9], parts[10][:15])
    assert data.codec.rate == 8000 and data.spec.classes == 2
    assert SpokenDigits(length=15, label="speaker").open().spec.classes == 1


def test_missing_and_damaged_spoken_digits_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no .*fsdd.npz"):
        SpokenDigits(str(tmp_path)).open()
    np.savez(tmp_path / "fsdd.npz", audio=np.zeros(3))
    with pytest.raises(UserError, match="damaged"):
        SpokenDigits(str(tmp_path)).open()
    (tmp_path / "fsdd.npz").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match="damaged"):
        SpokenDigits(str(tmp_path)).open()
    with pytest.raises(UserError, match="did you mean 'speaker'"):
        SpokenDigits(label="speakers")
    with pytest.raises(UserError, match="length"):
        SpokenDigits(length=0)


@pytest.mark.skipif(
    not (AUDIO / "fsdd.npz").is_file(),
    reason="needs fsdd.npz in $GENJAX_DATA/audio (GENJAX_DATA unset?)",
)
def test_the_real_spoken_digits_are_those_of_the_file_and_serve_as_a_folder_too(tmp_path):
    data = SpokenDigits().open()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 2700, "test": 300}
    test = data.splits["test"].batch(np.arange(300))
    assert np.array_equal(np.bincount(test["label"]), [30] * 10) and data.spec.shape == (4096, 1)
    assert SpokenDigits(label="speaker").open().spec.classes == 6
    for i in range(0, 300, 30):  # as upstream names them: digit_speaker_index.wav
        sound = data.codec.decode(test["signal"][i])
        (tmp_path / f"{test['label'][i]}_speaker_{i}.wav").write_bytes(wav_bytes(sound, 8000))
    folder = open_folder(tmp_path, length=4096, pattern=r"(\d)_")
    assert folder.spec.classes == 10
    again = folder.splits["train"].batch(np.arange(10))
    want = {
        (int(label), signal.tobytes())
        for label, signal in zip(test["label"][::30], test["signal"][::30], strict=True)
    }
    assert {
        (int(la), s.tobytes()) for la, s in zip(again["label"], again["signal"], strict=True)
    } == want
    assert read_wav((tmp_path / "0_speaker_0.wav").read_bytes())[1] == 8000
