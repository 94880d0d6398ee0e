"""Four voices as tokens: what an encoding by hand gives, chords by their names, and keys that move
tokens as they move notes.
"""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.config_files import to_json
from genjax.data.audio.augment import Transposition
from genjax.data.audio.rolls import find_bars
from genjax.data.audio.voices import CHORDS, OTHER, VoiceCodec, name_chord
from genjax.data.sources import ChoraleVoices
from genjax.data.text.layouts import Packed
from genjax.errors import UserError
from genjax.serial.stored import from_json

# Soprano, alto, tenor, bass.
PIECE = np.array([[72, 67, 64, 48], [72, 67, 64, 48], [71, 67, 62, 55], [-1, -1, -1, -1]])


def test_a_step_is_soprano_bass_alto_tenor():
    codec = VoiceCodec(36, 81)
    ids = codec.encode(PIECE)
    assert ids.tolist()[:4] == [72 - 34, 48 - 34, 67 - 34, 64 - 34] and ids.tolist()[-4:] == [1] * 4
    assert codec.vocabulary == 48 and codec.per_step == 4
    np.testing.assert_array_equal(codec.decode(np.append(0, ids)), PIECE)
    assert from_json(json.loads(json.dumps(to_json(codec)))) == codec


def test_a_chord_comes_before_its_notes():
    codec = VoiceCodec(36, 81, chords=True)
    ids = codec.encode(PIECE).reshape(-1, 5)
    assert (ids[:, 0] - codec.first_chord).tolist() == [0, 0, 7, OTHER + 1]
    assert codec.vocabulary == 48 + CHORDS == 98  # TonicNet's
    np.testing.assert_array_equal(codec.decode(ids.reshape(-1)), PIECE)


@pytest.mark.parametrize(
    ("notes", "chord"),
    [
        ((72, 67, 64, 48), 0),  # C major
        ((72, 67, 64, 52), 0),  # its first inversion
        ((72, 69, 64, 57), 12 + 9),  # A minor
        ((72, 67, 64, 57), 12 + 9),  # A minor seventh, though C major is in it
        ((71, 65, 62, 59), 24 + 11),  # B diminished
        ((68, 64, 60, 48), 36),  # C augmented
        ((65, 62, 59, 55), 7),  # G seventh
        ((64, 64, 60, 48), 0),  # a third alone
        ((67, 67, 60, 48), OTHER),  # a fifth alone
        ((62, 60, 50, 48), OTHER),
        ((-1, -1, -1, -1), OTHER + 1),
    ],
)
def test_chords_have_their_names(notes, chord):
    assert name_chord(notes) == chord


def test_transposed_tokens_are_those_of_the_transposed_piece():
    codec = VoiceCodec(36, 90, chords=True)
    rows = jnp.asarray(np.append(0, codec.encode(PIECE)))[None].astype(jnp.int32)
    augment = Transposition(5, 6, highest=codec.first_chord - 1, chords=codec.first_chord)
    seen = set()
    for seed in range(12):
        batch = {"tokens": rows, "loss_mask": jnp.ones(rows.shape).at[:, 0].set(0)}
        out = np.asarray(augment(jax.random.key(seed), batch)["tokens"])[0]
        shift = int(out[2] - rows[0, 2])
        moved = np.where(PIECE < 0, -1, PIECE + shift)
        np.testing.assert_array_equal(out[1:], codec.encode(moved))
        seen.add(shift)
    assert len(seen) > 4


def test_a_melody_is_placed_on_the_soprano():
    assert VoiceCodec().place_melody(np.array([60, -1])).tolist() == [
        26,
        -1,
        -1,
        -1,
        1,
        -1,
        -1,
        -1,
        0,
    ]
    assert VoiceCodec(chords=True).place_melody(np.array([60])).tolist() == [-1, 26, -1, -1, -1, 0]
    for bad in ([100], [-1, -1]):
        with pytest.raises(UserError) as error:
            VoiceCodec().place_melody(np.array(bad))
        assert error.value.field == "melody"


def test_what_is_no_note_is_silence():
    codec = VoiceCodec(chords=True)
    row = np.array([0, 60, 40, 60, 0, 40, 60, 40])
    assert codec.decode(row).tolist() == [[74, -1, 74, -1]]
    assert len(codec.read_samples(row[None])[0]) == 0  # the end stops it within a step


def test_held_notes_are_bars_of_their_voice():
    assert find_bars(PIECE)[:2] == [("tab:red", 72, 0, 2), ("tab:red", 71, 2, 3)]
    assert find_bars([(60,), (60,)]) == [("0.3", 60, 0, 2)]


def test_samples_are_written_with_a_picture(tmp_path):
    codec = VoiceCodec()
    row = np.append(np.append(0, codec.encode(PIECE)), 0)
    assert codec.write(row[None], tmp_path / "s") == tmp_path / "s.mid"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.mid", "s.png", "s.wav"]


def save(folder, pieces) -> str:
    path = folder / "jsb_16th_separated.json.gz"
    path.write_bytes(gzip.compress(json.dumps(pieces).encode()))
    return str(folder)


def test_chorales_are_rows_of_voices(tmp_path):
    piece = PIECE.tolist()
    root = save(tmp_path, {"train": [piece, piece[:1]], "valid": [piece], "test": [piece]})
    data = ChoraleVoices(root, layout=Packed(16)).open()
    assert list(data.splits) == ["train", "validation", "test"] and data.spec.vocabulary == 48
    first = data.splits["train"].batch(np.array([0]))
    assert first["tokens"][0, :5].tolist() == [0, 38, 14, 33, 30]
    assert (
        int(
            sum(
                data.splits["train"].batch(np.array([i]))["loss_mask"].sum()
                for i in range(len(data.splits["train"]))
            )
        )
        == 22
    )


@pytest.mark.parametrize(
    "pieces", [{"train": []}, {"train": [[[60, 61]]]}, {"train": [[[200] * 4]]}]
)
def test_damaged_chorales_are_refused(tmp_path, pieces):
    with pytest.raises(UserError):
        ChoraleVoices(save(tmp_path, pieces)).open()


def test_stand_ins_serve_a_user_without_data(monkeypatch):
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    data = ChoraleVoices().open()
    piece = data.codec.decode(data.splits["train"].corpus.document(0))
    assert piece.shape[1] == 4 and (piece[:, :-1] >= piece[:, 1:]).all()
