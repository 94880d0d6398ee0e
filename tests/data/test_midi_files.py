"""MIDI files of one's own: what our own writer wrote comes back; damaged ones are refused."""

import pytest

from genjax.data.audio.music import ChoraleCodec
from genjax.data.audio.notes import midi_bytes
from genjax.data.sources import MidiFolder
from genjax.data.text.layouts import Documents
from genjax.errors import UserError

pytest.importorskip("symusic", reason="symusic is not installed: the extra music")

from genjax.data.audio.midi import find_steps, read_melody, read_notes

PIECE = [(72, 67, 60), (72, 67, 60), (74, 60), (), (60,)]


def test_what_was_written_comes_back():
    content = midi_bytes(PIECE, 120, 90.0)
    assert find_steps(read_notes(content, 4)) == PIECE
    assert find_steps(read_notes(content, 8)) == [step for step in PIECE for _ in range(2)]


def test_a_melody_is_the_highest_note(tmp_path):
    (tmp_path / "m.mid").write_bytes(midi_bytes(PIECE, 120, 90.0))
    assert read_melody(tmp_path / "m.mid", 4).tolist() == [72, 72, 74, -1, 60]


@pytest.mark.parametrize("name", ["none", "text", "cut", "off"])
def test_a_melody_that_cannot_be_used_is_refused(tmp_path, name):
    whole = midi_bytes(PIECE, 120, 90.0)
    files = {"text": b"no music", "cut": whole[:-9], "off": midi_bytes(PIECE, 100, 90.0)}
    if name in files:
        (tmp_path / name).write_bytes(files[name])
    with pytest.raises(UserError) as error:
        read_melody(tmp_path / name, 4)
    assert error.value.field == "melody"


def fill(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.mid").write_bytes(content)
    return MidiFolder(str(folder), ChoraleCodec(steps_per_quarter=4), Documents(64), 0.3)


def test_a_folder_is_read_and_its_notes_counted(tmp_path):
    whole = midi_bytes(PIECE, 120, 90.0)
    (tmp_path / "readme.txt").write_text("not music")
    source = fill(tmp_path, a=whole, b=whole, c=midi_bytes(PIECE, 100, 90.0))
    data = source.open()
    assert sorted(data.splits) == ["test", "train"] and data.spec.vocabulary == 90
    pieces = [
        data.codec.decode(part.corpus.document(n)[:-1])
        for part in data.splits.values()
        for n in range(len(part.corpus))
    ]
    assert len(pieces) == 3 and PIECE in pieces
    assert any("moved to a step" in remark for remark in data.remarks)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    whole = midi_bytes(PIECE, 120, 90.0)
    with pytest.raises(UserError) as error:
        fill(tmp_path, a=whole, broken=whole[:40]).open()
    assert "broken.mid" in str(error.value)
    with pytest.raises(UserError):
        MidiFolder(str(tmp_path / "missing")).open()


def test_notes_that_the_codec_does_not_know_are_refused(tmp_path):
    source = fill(tmp_path, low=midi_bytes([(10,)], 120, 90.0), a=midi_bytes(PIECE, 120, 90.0))
    with pytest.raises(UserError) as error:
        source.open()
    assert "low.mid" in str(error.value)
