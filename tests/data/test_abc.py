"""Tunes in ABC notation: what is music of a file, copies under another title, and files."""

import numpy as np
import pytest

from genjax.data.audio.abc import AbcTunes, reduce_tune, split_tunes
from genjax.data.sources import Tunes
from genjax.data.text.layouts import Packed
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError

FILE = """% a book
X: 1
T:One
% remark
S:someone
M:6/8
K:G
"G"gfg B2A|d3 z3:|


X: 2
T:Two
M:4/4
K:D

A|d2 f2 % a remark
a4|]
"""


def test_a_tune_is_its_music():
    one, two = split_tunes(FILE.replace("\n", "\r\n"))
    assert one == ("One", 'M:6/8\nK:G\n"G"gfg B2A|d3 z3:|\n')
    assert two == ("Two", "M:4/4\nK:D\nA|d2 f2\na4|]\n")
    assert not list(split_tunes("X:1\nT:no notes\nK:C\n")) and not list(split_tunes("text"))


def test_a_copy_has_the_same_notes():
    assert reduce_tune('M:6/8\nK:G\n"G"gfg B2A|d3 z3:|\n') == "gfgB2Ad3z3"
    assert reduce_tune("K:C\ngfg B2 A | d3 !trill!z3 |]\n") == "gfgB2Ad3z3"
    assert reduce_tune("K:C\n^g2\n") != reduce_tune("K:C\ng2\n")


def test_copies_are_left_out_and_tunes_held_out_whole(tmp_path):
    tunes = "".join(f"X:{n}\nK:C\n{'abcdefg'[n % 7]}{n} c\n\n" for n in range(20))
    (tmp_path / "a.abc").write_text(tunes)
    (tmp_path / "b.abc").write_text('X:1\nT:again\nK:C\n"G"a0|c|\n')
    source = Tunes(str(tmp_path), layout=Packed(64), split=ByDocuments(0.2), cache=str(tmp_path))
    data = source.open()
    assert {name: len(part.corpus) for name, part in data.splits.items()} == {
        "train": 16,
        "test": 4,
    }
    assert any("occur before" in remark for remark in data.remarks)
    with pytest.raises(UserError):
        Tunes(str(tmp_path / "none")).open()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.abc").write_text("no tunes")
    with pytest.raises(UserError):
        Tunes(str(tmp_path / "sub")).open()


def test_samples_are_an_abc_file(tmp_path):
    codec = AbcTunes(unknown="token").fit(["M:6/8\nK:G\nabc|\n"])
    row = np.append(np.append(0, codec.encode("K:G\nabc|\n")), [0, 0])
    path = codec.write(np.stack([row, row]), tmp_path / "s")
    assert path.read_text() == "X:1\nT:Sample 1\nK:G\nabc|\n\nX:2\nT:Sample 2\nK:G\nabc|\n"
    assert [tune.text for tune in split_tunes(path.read_text())] == ["K:G\nabc|\n"] * 2
