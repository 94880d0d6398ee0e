"""Chorales as tokens and as files: the MIDI is read back by a small reader of the tests, the
WAV by its spectrum.
"""

import gzip
import io
import json
import os
import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from genjax.config_files import to_json
from genjax.data.audio.music import END, STEP, ChoraleCodec
from genjax.data.audio.notes import RATE, find_notes, midi_bytes, wav_bytes
from genjax.data.sources import Chorales
from genjax.data.text.layouts import Documents, Packed
from genjax.errors import UserError
from genjax.serial.stored import from_json

PIECE = [(72, 67, 60), (72, 67, 60), (74, 60), (), (60,)]
MUSIC = Path(os.environ.get("GENJAX_DATA", "/nowhere")).expanduser() / "music"


def read_midi(content: bytes) -> tuple[list[tuple[int, int, int]], int, float]:
    """((note, start, stop in ticks) by start, length in ticks, quarters a minute)."""
    kind, length, form, tracks, ticks = struct.unpack(">4sIHHH", content[:14])
    assert (kind, length, form, tracks, ticks) == (b"MThd", 6, 0, 1, 480)
    assert content[14:18] == b"MTrk" and struct.unpack(">I", content[18:22])[0] == len(content) - 22
    at, now, sounding, found, tempo = 22, 0, {}, [], 0.0
    while True:
        delta = 0
        while True:
            byte = content[at]
            at += 1
            delta = delta << 7 | byte & 0x7F
            if byte < 0x80:
                break
        now += delta
        status = content[at]
        if status == 0xFF:
            what, size = content[at + 1], content[at + 2]
            if what == 0x2F:
                assert at + 3 == len(content) and not sounding
                return sorted(found, key=lambda one: (one[1], one[0])), now, tempo
            tempo = 60e6 / int.from_bytes(content[at + 3 : at + 3 + size], "big")
            at += 3 + size
        else:
            note, velocity = content[at + 1 : at + 3]
            at += 3
            if status == 0x90 and velocity:
                assert note not in sounding
                sounding[note] = now
            else:
                found.append((note, sounding.pop(note), now))


def test_steps_are_spelled_from_the_highest_note_down():
    codec = ChoraleCodec(60, 80)
    assert codec.vocabulary == 23 and codec.step == STEP and codec.start == codec.end == END
    assert codec.encode([(60, 67, 60), ()]).tolist() == [9, 2, 1, 1]
    assert codec.decode(np.array([0, 2, 9, 9, 1, 1, 3])) == [
        (67, 60),
        (),
        (61,),
    ]  # as samples may have them
    assert from_json(json.loads(json.dumps(to_json(codec)))) == codec


def test_any_piece_comes_back():
    rng = np.random.default_rng(0)
    piece = [
        tuple(sorted(set(rng.integers(21, 109, rng.integers(0, 6)).tolist()), reverse=True))
        for _ in range(300)
    ]
    codec = ChoraleCodec()
    ids = codec.encode(piece)
    assert codec.decode(ids) == piece and (ids == codec.step).sum() == 300


def test_notes_that_go_on_are_held():
    assert find_notes(PIECE) == [(60, 0, 3), (67, 0, 2), (72, 0, 2), (74, 2, 3), (60, 4, 5)]


def test_the_midi_file_holds_the_notes_at_their_times():
    notes, length, tempo = read_midi(midi_bytes(PIECE, 120, 72.0))
    assert notes == [(note, 120 * start, 120 * stop) for note, start, stop in find_notes(PIECE)]
    assert length == 600 and abs(tempo - 72) < 1e-3


def test_the_wav_file_sounds_the_right_pitches():
    with wave.open(io.BytesIO(wav_bytes([(69,), (69,), (), ()], 0.5))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
    assert abs(len(sound) / RATE - 2) < 0.1
    spectrum = np.abs(np.fft.rfft(sound[:RATE]))  # one second: bins of 1 Hz
    assert spectrum.argmax() == 440 and spectrum[880] > 10 * spectrum[600]
    assert (
        np.abs(sound).max() == pytest.approx(0.9 * 32767, abs=1)
        and not sound[round(1.1 * RATE) :].any()
    )
    assert len(wav_bytes([], 0.5)) > 44  # no steps, a short silence


def test_samples_are_written_one_after_another(tmp_path):
    codec = ChoraleCodec(quarters_per_minute=240.0)
    row = np.concatenate([[END], codec.encode(PIECE), [END], codec.encode([(90,)])])
    path = codec.write(np.stack([row, row]), tmp_path / "s")
    notes, length, _ = read_midi(path.read_bytes())
    assert path.name == "s.mid" and length == 480 * (5 + 4 + 5)
    assert [n for n, *_ in notes] == [n for n, *_ in find_notes(PIECE)] * 2 and (
        tmp_path / "s.wav"
    ).stat().st_size > 1000
    assert codec.write(np.zeros((1, 4), np.int32), tmp_path / "none").exists()


def save(folder: Path, pieces: dict) -> str:
    (folder / "jsb_quarter.json.gz").write_bytes(gzip.compress(json.dumps(pieces).encode()))
    return str(folder)


def test_chorales_are_rows_of_tokens(tmp_path):
    pieces = {"train": [[[60, 64], [62]], [[65]]], "valid": [[[60]]], "test": [[[70], [], [71]]]}
    data = Chorales(save(tmp_path, pieces), layout=Documents(9)).open()
    assert list(data.splits) == ["train", "validation", "test"] and data.spec.vocabulary == 90
    found = data.splits["train"].batch(np.array([0, 1]))
    assert found["tokens"].tolist() == [
        [0, 45, 41, 1, 43, 1, 0, 0, 0, 0],
        [0, 46, 1, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert found["loss_mask"].sum(1).tolist() == [6, 3]
    assert data.codec.decode(data.splits["test"].corpus.document(0)) == [(70,), (), (71,)]
    changed = Chorales(save(tmp_path, pieces | {"valid": [[[61]]]}), layout=Documents(9)).open()
    assert changed.fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: Chorales(str(f)).open(), "cannot be read"),
        (lambda f: Chorales(save(f, {"train": []})).open(), "holds no chorales"),
        (
            lambda f: Chorales(save(f, {"train": [[[200]]]})).open(),
            "notes must be from 21 to 108, got 200 in step 0",
        ),
        (lambda f: Chorales(resolution="8th"), "resolution must be one of 'quarter', '16th'"),
        (lambda f: ChoraleCodec(60, 50), r"highest must be at least 60 \(lowest\)"),
        (lambda f: ChoraleCodec(steps_per_quarter=7), "a divisor of 480"),
    ],
)
def test_what_makes_no_music_is_refused(make, message, tmp_path):
    with pytest.raises(UserError, match=message):
        make(tmp_path)


@pytest.mark.skipif(not MUSIC.is_dir(), reason="needs $GENJAX_DATA/music (GENJAX_DATA unset?)")
@pytest.mark.parametrize(
    ("resolution", "steps"), [("quarter", [13807, 4602, 4725]), ("16th", [55228, 18408, 18900])]
)
def test_the_real_chorales_have_the_published_split(resolution, steps):
    data = Chorales(resolution=resolution, layout=Packed(1024)).open()
    made = [data.splits[name].corpus for name in ("train", "validation", "test")]
    assert [len(corpus) for corpus in made] == [229, 76, 77]
    assert [int((corpus.tokens == data.codec.step).sum()) for corpus in made] == steps
    longest = max(int(np.diff(corpus.starts).max()) for corpus in made) + 1
    assert longest == {"quarter": 789, "16th": 3168}[resolution]
