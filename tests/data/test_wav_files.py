"""WAV files of every form that scipy or soundfile write, made by hand where these are missing."""

from __future__ import annotations

import io
import itertools
import struct
import warnings

import numpy as np
import pytest
from scipy.io import wavfile

from genjax.data.audio.signals import Sound, read_sound, read_wav, wav_bytes
from genjax.data.sources import WavFolder
from genjax.errors import UserError
from genjax.prepare import reading
from genjax.prepare.readers import Waves

STEP = 2.0**-15
WAVE = np.stack([np.sin(np.arange(60) / 3) * 0.9, np.linspace(-1, 1, 60)], -1)  # [T, C]
GUID = bytes.fromhex("0000 1000 8000 00aa 0038 9b71")


def chunks(*parts: tuple[bytes, bytes], order: str = "<") -> bytes:
    return b"".join(n + struct.pack(f"{order}I", len(c)) + c + bytes(len(c) % 2) for n, c in parts)


def form_of(
    coding: int, channels: int, bits: int, rate: int = 8000, order: str = "<", block: int = 0
) -> bytes:
    block = block or channels * bits // 8
    return struct.pack(f"{order}HHIIHH", coding, channels, rate, rate * block, block, bits)


def riff(*parts: tuple[bytes, bytes], order: str = "<") -> bytes:
    body = b"WAVE" + chunks(*parts, order=order)
    return (b"RIFF" if order == "<" else b"RIFX") + struct.pack(f"{order}I", len(body)) + body


def whole(values: np.ndarray, bits: int, order: str = "<") -> bytes:
    """Numbers in [-1, 1] as whole ones of so many bits, that of 8 without a sign."""
    most = 2 ** (bits - 1)
    numbers = [min(round(value * most), most - 1) for value in values.ravel().tolist()]
    if bits == 8:
        return bytes(number + 128 for number in numbers)
    return b"".join(
        n.to_bytes(bits // 8, "little" if order == "<" else "big", signed=True) for n in numbers
    )


def near(content: bytes, values: np.ndarray = WAVE, step: float = STEP) -> Sound:
    """The sound of a file whose values are those, to a step."""
    sound = read_sound(content)
    assert sound.signal.dtype == np.int16 and sound.signal.shape == values.shape
    assert np.abs(sound.signal * STEP - values).max() <= step
    assert sound.rate == 8000
    return sound


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "int64", "float32", "float64"])
@pytest.mark.filterwarnings("error")
def test_whatever_scipy_writes_is_read_to_a_step(kind, channels):
    values = WAVE[:, :channels]
    most = {"uint8": 2**7, "int16": 2**15, "int32": 2**31, "int64": 2**63}.get(kind)
    stored = (
        values
        if most is None
        else np.clip(
            np.rint(values * most), -most, np.nextafter(most, 0) if most > 2**53 else most - 1
        )
    )
    stored = (stored + 128 if kind == "uint8" else stored).astype(kind)
    for rate in (1, 8000, 384_000):
        buffer = io.BytesIO()
        wavfile.write(buffer, rate, stored[:, 0] if channels == 1 else stored)
        sound = (
            near(buffer.getvalue(), values, 2**-7 if kind == "uint8" else STEP)
            if rate == 8000
            else None
        )
        assert read_wav(buffer.getvalue())[1] == rate
        assert sound is None or sound.clipped == 0


def test_whatever_soundfile_writes_is_read_to_a_step_or_refused_by_name():
    soundfile = pytest.importorskip("soundfile", reason="pip install soundfile")
    for form, kind in itertools.product(
        ("WAV", "WAVEX", "RF64"), soundfile.available_subtypes("WAV")
    ):
        if not soundfile.check_format(form, kind):
            continue
        buffer = io.BytesIO()
        coarse = {"PCM_U8": 2**-7, "ULAW": 2**-5, "ALAW": 2**-5}
        if kind.startswith(("PCM", "FLOAT", "DOUBLE")) or kind in coarse:
            soundfile.write(buffer, WAVE * 0.9, 8000, format=form, subtype=kind)
            near(buffer.getvalue(), WAVE * 0.9, coarse.get(kind, STEP))
        elif kind != "MPEG_LAYER_III":  # which it says it writes, and does not
            soundfile.write(buffer, WAVE[:, 0] * 0.9, 8000, format=form, subtype=kind)
            with pytest.raises(ValueError, match="it is coded as"):
                read_sound(buffer.getvalue())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16, 24, 32, 64])
def test_whole_numbers_of_all_widths_in_either_order_of_bytes(bits, order):
    parts = (b"fmt ", form_of(1, 2, bits, order=order)), (b"data", whole(WAVE, bits, order))
    near(riff(*parts, order=order), step=2**-7 if bits == 8 else STEP)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [32, 64])
def test_floats_in_either_order_plain_and_extensible(bits, order):
    data = WAVE.astype(f"{order}f{bits // 8}").tobytes()
    near(riff((b"fmt ", form_of(3, 2, bits, order=order)), (b"data", data), order=order))
    tail = GUID if order == "<" else bytes.fromhex("0000 0010 8000 00aa 0038 9b71")
    more = struct.pack(f"{order}HHII", 22, bits, 3, 3) + tail
    near(
        riff((b"fmt ", form_of(0xFFFE, 2, bits, order=order) + more), (b"data", data), order=order)
    )


def test_24_bits_in_four_bytes():
    numbers = np.rint(WAVE * (2**23 - 1)).astype(np.int64) << 8
    near(riff((b"fmt ", form_of(1, 2, 24, block=8)), (b"data", numbers.astype("<i4").tobytes())))


@pytest.mark.parametrize(
    ("coding", "ends"),
    [
        (6, {0x55: -8, 0xD5: 8, 0x2A: -32256, 0xAA: 32256}),
        (7, {0x00: -32124, 0x80: 32124, 0x7F: 0, 0xFF: 0}),
    ],
)
def test_both_laws_are_those_of_the_standard(coding, ends):
    """The least and the greatest of each law's values in ITU-T G.711; all are two to a size,
    of either sign.
    """
    every = read_sound(riff((b"fmt ", form_of(coding, 1, 8)), (b"data", bytes(range(256))))).signal[
        :, 0
    ]
    assert {code: every[code] for code in ends} == ends
    assert np.array_equal(every[:128], -every[128:])
    assert len(set(every[128:].tolist())) == 128 and abs(every.astype(int)).max() == max(
        ends.values()
    )


@pytest.mark.parametrize("coding", [6, 7])
def test_what_a_law_codes_is_read_to_its_step(coding):
    """The nearest code of each value is at most half of the law's local step away: 1/32 of the
    value.
    """
    every = read_sound(riff((b"fmt ", form_of(coding, 1, 8)), (b"data", bytes(range(256))))).signal[
        :, 0
    ]
    codes = (
        np.abs(every[None].astype(int) * STEP - WAVE.ravel()[:, None] * 0.97)
        .argmin(1)
        .astype(np.uint8)
    )
    signal = read_sound(riff((b"fmt ", form_of(coding, 2, 8)), (b"data", codes.tobytes()))).signal
    assert (np.abs(signal * STEP - WAVE * 0.97) <= np.abs(WAVE) / 32 + 2**-12).all()


PLAIN = riff((b"fmt ", form_of(1, 2, 16)), (b"data", whole(WAVE, 16)))
AT = PLAIN.index(b"data") + 4


def sized(riff_size: int | None, data_size: int | None, content: bytes = PLAIN) -> bytes:
    """A file whose header says other sizes."""
    found = bytearray(content)
    found[4:8] = found[4:8] if riff_size is None else struct.pack("<I", riff_size)
    at = content.index(b"data") + 4
    found[at : at + 4] = found[at : at + 4] if data_size is None else struct.pack("<I", data_size)
    return bytes(found)


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0, 0),
        (36, 0),
        (0xFFFFFFFF, 0),
        (0, 0xFFFFFFFF),
        (0x7FFFF024, 0x7FFFF000),
        (0x80000024, 0x80000000),
        (0xFFFFFFFF, 0xFFFFFFFF - 36),
        (0, None),
        (0xFFFFFFFF, None),
        (17, None),
    ],
)
@pytest.mark.filterwarnings("error")
def test_files_that_do_not_know_their_length_are_read_to_their_end(riff_size, data_size):
    near(sized(riff_size, data_size))
    if data_size is not None:
        near(sized(riff_size, data_size) + b"\1")  # a part of a sample


def rf64(data_size: int, inner: int = 0xFFFFFFFF, name: bytes = b"RF64") -> bytes:
    parts = (
        (b"ds64", struct.pack("<QQQI", 0, data_size, 60, 0)),
        (b"fmt ", form_of(1, 2, 16)),
        (b"data", whole(WAVE, 16)),
    )
    body = (
        bytearray(chunks(*parts, (b"LIST", b"INFOodd")))
        if data_size == 240
        else bytearray(chunks(*parts))
    )
    at = body.index(b"data") + 4
    body[at : at + 4] = struct.pack("<I", inner)
    return name + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + bytes(body)


def test_files_with_sizes_of_64_bits():
    near(rf64(240))
    near(rf64(240, name=b"BW64"))
    near(rf64(240, inner=240))
    near(rf64(0))
    near(rf64(2**64 - 1))
    with pytest.raises(
        ValueError, match="cut off: its header says 1,250,000,000 samples, the file has 60"
    ):
        read_sound(rf64(5_000_000_000))


@pytest.mark.filterwarnings("error")
def test_other_chunks_may_stand_anywhere():
    form, data = (b"fmt ", form_of(1, 2, 16)), (b"data", whole(WAVE, 16))
    odd = (b"LIST", b"INFOodd")
    near(
        riff(
            (b"JUNK", bytes(27)),
            form,
            odd,
            (b"fact", struct.pack("<I", 60)),
            data,
            odd,
            (b"id3 ", b"x"),
        )
    )
    near(riff(form, data) + b"trailing bytes")
    unpadded = b"WAVE" + chunks(form) + b"LIST" + struct.pack("<I", 7) + b"INFOodd" + chunks(data)
    near(b"RIFF" + struct.pack("<I", len(unpadded)) + unpadded)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PLAIN[:-9], "it is cut off: its header says 60 samples, the file has 57"),
        (PLAIN[: AT + 4], "it is cut off: its header says 60 samples, the file has 0"),
        (PLAIN[: AT - 2], "it is cut off: it ends before its samples"),
        (PLAIN[:30], "it is cut off"),
        (sized(0, 1000), "cut off: its header says 250 samples, the file has 60"),
        (b"", "not a WAV file"),
        (b"RIFF", "not a WAV file"),
        (b"fLaC" + PLAIN, "not a WAV file"),
        (riff((b"data", b"1234")), "its format does not come before"),
        (riff((b"fmt ", b"short"), (b"data", b"1234")), "its format is cut off"),
        (riff((b"fmt ", form_of(1, 1, 16)), (b"data", b"")), "it holds no sound"),
        (
            riff((b"fmt ", form_of(1, 1, 16)), (b"data", b""), (b"LIST", b"INFO")),
            "it holds no sound",
        ),
        (riff((b"fmt ", form_of(1, 1, 16, rate=0)), (b"data", b"1234")), "its rate is 0 Hz"),
        (riff((b"fmt ", form_of(1, 0, 16)), (b"data", b"1234")), "0 channels of 16 bits"),
        (riff((b"fmt ", form_of(1, 1, 0, block=2)), (b"data", b"1234")), "1 channels of 0 bits"),
        (riff((b"fmt ", form_of(1, 1, 72)), (b"data", bytes(9))), "have 72 bits"),
        (riff((b"fmt ", form_of(3, 1, 16)), (b"data", b"1234")), "have 16 bits"),
        (
            riff((b"fmt ", form_of(2, 1, 4, block=256)), (b"data", b"1234")),
            "coded as Microsoft ADPCM",
        ),
        (riff((b"fmt ", form_of(0x11, 1, 4, block=256)), (b"data", b"1234")), "coded as IMA ADPCM"),
        (riff((b"fmt ", form_of(0x55, 1, 0, block=1)), (b"data", b"1234")), "coded as MP3"),
        (riff((b"fmt ", form_of(0x1234, 1, 16)), (b"data", b"1234")), "coded as format 0x1234"),
        (riff((b"fmt ", form_of(0xFFFE, 1, 16) + bytes(24)), (b"data", b"1234")), "extensible"),
        (riff((b"fmt ", form_of(0xFFFE, 1, 16)), (b"data", b"1234")), "extensible"),
    ],
)
def test_what_is_not_read_says_why(content, words):
    with pytest.raises(ValueError, match=words) as error:
        read_sound(content)
    assert "\n" not in str(error.value)


def floats(values: list[float]) -> bytes:
    return riff((b"fmt ", form_of(3, 1, 32)), (b"data", np.array(values, "<f4").tobytes()))


def test_floats_beyond_full_scale_are_clipped_and_counted_and_those_that_are_no_numbers_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound = read_sound(floats([-1.5, -1, -0.5, 0, 1e-9, 0.5, 1, 3e38, np.inf]))
    assert sound.signal[:, 0].tolist() == [-32768, -32768, -16384, 0, 0, 16384, 32767, 32767, 32767]
    assert sound.clipped == 3
    with pytest.raises(ValueError, match=r"2 of its 3 values are not numbers"):
        read_sound(floats([np.nan, 0, -np.nan]))


def test_a_folder_takes_all_of_them_counts_what_is_clipped_and_names_what_is_passed_over(
    tmp_path, capsys
):
    (tmp_path / "A.WAV").write_bytes(floats([0, 0.5, 2, -2]))
    (tmp_path / "b.Wave").write_bytes(
        sized(0, 0, wav_bytes(np.array([[0], [16384]], np.int16), 8000))
    )
    (tmp_path / "c.wav").write_bytes(floats([0, 0.5]))
    for name in ("x.mp3", "y.aac", "Y.AAC", "z.m4a"):
        (tmp_path / name).write_bytes(b"sound")
    data = WavFolder(str(tmp_path), 8000, 4, test_fraction=0).open()
    signals = data.splits["train"].batch(np.arange(3))["signal"][..., 0]
    assert signals.tolist() == [[0, 0.5, 1 - STEP, -1], [0, 0.5, 0, 0], [0, 0.5, 0, 0]]
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"{tmp_path}: 4 of 7 files skipped: 2 .aac, 1 .m4a, 1 .mp3"
    assert "1 of 3 sound files have values beyond full scale; 2 are clipped" in second


def test_a_preparation_keeps_them_counts_what_is_clipped_and_quarantines_what_is_cut(tmp_path):
    (tmp_path / "a.wav").write_bytes(floats([2, 0]))
    (tmp_path / "b.wav").write_bytes(sized(0xFFFFFFFF, 0xFFFFFFFF))
    (tmp_path / "c.wav").write_bytes(PLAIN[:-9])
    plan, schema = reading.plan_reading([Waves(("*.wav",), str(tmp_path))])
    reading.read_files(plan, schema, tmp_path / "out")
    ((what, change),) = reading.changes(tmp_path / "out").items()
    assert change.times == 1 and "beyond full scale" in what
    assert len(list((tmp_path / "out" / "kept").iterdir())) == 2
    assert len(list((tmp_path / "out" / "dropped").iterdir())) == 1


def test_a_cut_file_in_a_folder_is_named_with_what_is_missing(tmp_path):
    (tmp_path / "a.wav").write_bytes(PLAIN[:-9])
    with pytest.raises(
        UserError, match=r"a\.wav \(it is cut off: its header says 60 samples, the file has 57\)"
    ):
        WavFolder(str(tmp_path), 8000, 4, channels=2, test_fraction=0).open()
