"""Signals in 16 bits and back, WAV files of every width, and pictures of waveforms."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
from etils import epath
from PIL import Image

from genjax.data.audio.signals import (
    HEIGHT,
    PAUSE,
    SCALE,
    WIDTH,
    SignalCodec,
    pad_signal,
    read_wav,
    wav_bytes,
    waveform,
)
from genjax.errors import UserError


def file_of(values: np.ndarray, width: int, rate: int = 8000) -> bytes:
    """A WAV file of whole numbers [T, C] in the file's own ``width`` bytes."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((values.shape[1], width, rate, 0, "NONE", ""))
        file.writeframes(
            b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in values.ravel())
        )
    return buffer.getvalue()


def test_every_16_bit_number_survives_the_way_to_model_space_and_back():
    raw = np.arange(-SCALE, SCALE).astype(np.int16).reshape(1, -1, 2)
    codec = SignalCodec(8000, SCALE, 2)
    encoded = codec.encode(raw)
    assert encoded.dtype == np.float32 and encoded.min() == -1 and encoded.max() < 1
    assert np.array_equal(codec.decode(encoded), raw) and codec.decode(encoded).dtype == np.int16


def test_what_is_too_loud_or_no_number_is_clipped_and_silent():
    samples = np.array([-3.0, -1.0, np.nan, 1.0, np.inf, -np.inf]).reshape(1, 6, 1)
    assert SignalCodec(8000, 6).decode(samples).ravel().tolist() == [
        -SCALE,
        -SCALE,
        0,
        *[SCALE - 1] * 2,
        -SCALE,
    ]


@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_written_one_after_another_with_a_pause_between(tmp_path, channels):
    raw = np.random.default_rng(0).integers(-9000, 9000, (3, 100, channels)).astype(np.int16)
    codec = SignalCodec(1000, 100, channels)
    path = codec.write(codec.encode(raw), epath.Path(tmp_path) / "new" / "step_1.5")
    assert path.name == "step_1.5.wav"
    sound, rate = read_wav(path.read_bytes())
    pause = round(PAUSE * 1000)
    assert rate == 1000 and sound.shape == (3 * 100 + 2 * pause, channels)
    for number, signal in enumerate(raw):
        start = number * (100 + pause)
        assert np.array_equal(sound[start : start + 100], signal)
        assert not sound[start + 100 : start + 100 + pause].any()
    assert Image.open(tmp_path / "new" / "step_1.5.png").height > HEIGHT * channels


def test_a_waveform_is_dark_between_the_least_and_the_greatest_value():
    quiet = np.zeros((1000, 1), np.int16)
    assert np.flatnonzero((waveform(quiet) < 100).any(1)).tolist() == [HEIGHT // 2]
    square = np.where(np.arange(1000) % 2, SCALE - 1, -SCALE).astype(np.int16)[:, None]
    assert (waveform(square) < 100).all()
    step = np.concatenate([np.full(500, SCALE // 2), np.full(500, -SCALE // 2)]).astype(np.int16)
    dark = waveform(np.stack([step, quiet[:, 0]], 1)) < 100  # two channels, one below the other
    assert dark.shape == (2 * HEIGHT, WIDTH)
    rows = [np.flatnonzero(dark[:HEIGHT, column]).mean() for column in (10, WIDTH - 10)]
    np.testing.assert_allclose(rows, [HEIGHT / 4, 3 * HEIGHT / 4], atol=1)
    assert waveform(np.zeros((1, 1), np.int16)).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_files_of_all_widths_give_the_same_sound(width):
    truth = np.random.default_rng(1).integers(-128, 128, (50, 2)) * 256
    shifted = truth * 256 ** (width - 2) if width >= 2 else truth // 256 + 128
    sound, rate = read_wav(file_of(shifted, width))
    assert rate == 8000 and sound.dtype == np.int16
    assert np.array_equal(sound, truth)


def test_what_is_no_wav_file_is_refused_with_the_reason():
    whole = wav_bytes(np.zeros((20, 1), np.int16), 8000)
    floating = bytearray(whole)
    # the format's number of IEEE floats, which have 32 or 64 bits
    floating[20:22] = struct.pack("<H", 3)
    for content, words in (
        (b"", "not a WAV file"),
        (b"RIFFnothing at all", "not a WAV file"),
        (bytes(floating), "have 16 bits"),
        (wav_bytes(np.zeros((0, 1), np.int16), 8000), "no sound"),
        (whole[:-7], "cut off"),
    ):
        with pytest.raises(ValueError, match=words):
            read_wav(content)


def test_signals_are_cut_or_followed_by_silence():
    signal = np.arange(1, 11, dtype=np.int16).reshape(5, 2)
    assert np.array_equal(pad_signal(signal, 3), signal[:3])
    longer = pad_signal(signal, 7)
    assert np.array_equal(longer[:5], signal) and not longer[5:].any() and longer.dtype == np.int16


def test_bad_codecs_are_refused():
    for fields in ((0, 8, 1), (8, 0, 1), (8, 8, 0)):
        with pytest.raises(UserError, match="at least 1"):
            SignalCodec(*fields)
