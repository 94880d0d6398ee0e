"""Which files of a folder are taken, and what is said of the others."""

from __future__ import annotations

import os
import socket
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.data.images.files import fitting, folder_labels, list_files
from genjax.data.sources import ImageFolder, LabelledTexts, TextFiles, WavFolder
from genjax.data.text.layouts import Documents
from genjax.errors import UserError
from genjax.prepare import reading
from genjax.prepare import run as preparing
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Images, Texts


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def png(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path, "PNG")


def taken(root: Path, **options: bool) -> list[str]:
    return list_files(root, {".png"}, "images", **options)


def test_links_are_followed_to_files_and_folders_and_one_line_counts_what_is_passed_over(
    tmp_path, capsys, monkeypatch
):
    root = tmp_path / "root"
    make(
        root,
        "cats/a.PNG",
        "cats/deep/b.png",
        "cats/notes.txt",
        "cats/x.png/y.png",
        "dogs/c.png",
        "cats/README",
    )
    make(
        root,
        "cats/.DS_Store",
        "cats/Thumbs.db",
        "__MACOSX/cats/._a.png",
        ".git/d.png",
        "cats/more.txt",
    )
    make(tmp_path, "elsewhere/e.png")
    (root / "eels").symlink_to(tmp_path / "elsewhere")
    (root / "fish").symlink_to(root / "dogs")  # under both names
    (root / "dogs" / "one.png").symlink_to(root / "cats" / "a.PNG")
    (root / "cats" / "broken.png").symlink_to("nowhere")
    (root / "cats" / "itself.png").symlink_to("itself.png")
    (root / "cats" / "up").symlink_to("..")
    os.mkfifo(root / "cats" / "pipe.png")
    monkeypatch.chdir(root / "cats")  # as the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
    found = taken(root)
    assert found == [
        "cats/a.PNG",
        "cats/deep/b.png",
        "cats/x.png/y.png",
        "dogs/c.png",
        "dogs/one.png",
        "eels/e.png",
        "fish/c.png",
        "fish/one.png",
    ]
    assert capsys.readouterr().err == (
        f"{root}: 12 of 20 files skipped: 4 hidden, 2 .txt, 2 broken links, 2 pipes, sockets "
        "or devices, "
        "1 looping link, 1 without a suffix\n"
        f"{root}: links give 3 files a second name; one name may be held out while the "
        "other is trained on\n"
    )


def test_a_folder_that_holds_all_kinds_of_links_ends(tmp_path, capsys):
    for i in range(12):
        make(tmp_path, f"{i}/a.png")
        for j in range(12):
            (tmp_path / f"{i}" / f"to{j}").symlink_to(tmp_path / f"{j}")
    found = taken(tmp_path)
    assert {f"{i}/a.png" for i in range(12)} <= set(found) and len(found) <= 12 * 101
    assert "looping links" in capsys.readouterr().err
    chain = tmp_path / "chain"
    for i in range(40):  # 2**40 paths to the last
        make(chain, f"{i}/a.png")
        for name in ("x", "y"):
            (chain / f"{i}" / name).symlink_to(chain / f"{min(i + 1, 39)}")
    assert len(list_files(chain / "0", {".png"}, "images")) < 40 * 101


def test_links_that_lead_out_of_a_closed_folder_are_not_followed(tmp_path, capsys):
    root = tmp_path / "root"
    make(root, "cats/a.png", "dogs/b.png", "pool/c.png")
    make(tmp_path, "secret/s.png", "root2/t.png")
    (root / "cats" / "in").symlink_to("../pool")
    (root / "cats" / "out").symlink_to("../../secret")
    (root / "cats" / "file.png").symlink_to("/etc/passwd")
    (root / "dogs" / "beside").symlink_to(tmp_path / "root2")
    assert taken(root, closed=True) == ["cats/a.png", "cats/in/c.png", "dogs/b.png", "pool/c.png"]
    assert capsys.readouterr().err == f"{root}: 3 of 7 files skipped: 3 links that lead out\n" + (
        f"{root}: links give 1 files a second name; one name may be held out while the "
        "other is trained on\n"
    )
    assert len(taken(root)) == 7
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    assert taken(linked, closed=True) == taken(root, closed=True)
    (root / "eels").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match='class "eels" .* 1 link that leads out'):
        taken(root, closed=True)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: make(folder, *(f"{i}.heic" for i in range(12))), "12 .heic"),
        (lambda folder: make(folder, "a.txt", "b.txt", "deep/c.heic"), "2 .txt, 1 .heic"),
        (lambda folder: folder.mkdir(), "it is empty"),
        (lambda folder: folder.symlink_to("nowhere"), "1 broken link"),
        (lambda folder: make(folder, ".hidden.png"), "1 hidden"),
    ],
)
def test_a_label_without_any_file_is_refused_by_name(tmp_path, spoil, words):
    for name in ("cats", "dogs"):
        png(tmp_path / name / "a.png")
    assert len(taken(tmp_path)) == 2
    spoil(tmp_path / "eels")
    with pytest.raises(UserError) as error:
        ImageFolder(str(tmp_path)).open()
    assert (
        'class "eels"' in str(error.value)
        and words in str(error.value)
        and "\n" not in str(error.value)
    )
    assert error.value.field == str(tmp_path / "eels")
    png(tmp_path / "outside.png")  # folders are no labels then
    assert len(taken(tmp_path)) == 3


def test_a_label_whose_images_are_all_damaged_is_not_left_out(tmp_path):
    for name in ("cats", "dogs"):
        png(tmp_path / name / "a.png")
        png(tmp_path / name / "b.png", 9)
    make(tmp_path, "cats/c.png")
    ImageFolder(str(tmp_path), on_error="skip").open()
    make(tmp_path, "dogs/a.png", "dogs/b.png")
    with pytest.raises(
        UserError, match='class "dogs" .* no image that can be used: dogs/a.png .* 1 more'
    ):
        ImageFolder(str(tmp_path), on_error="skip").open()


def test_a_folder_of_other_files_says_what_it_holds(tmp_path):
    make(tmp_path, "a.heic", "b.heic", "c.mp3")
    with pytest.raises(UserError, match="holds no images; it has 2 .heic, 1 .mp3"):
        ImageFolder(str(tmp_path)).open()
    with pytest.raises(
        UserError,
        match=r"holds no sound files \(.flac, .ogg, .wav, .wave\); it has 2 .heic, 1 .mp3",
    ):
        WavFolder(str(tmp_path), 8000, 4).open()


def test_names_that_are_not_in_utf_8_are_refused(tmp_path):
    make(tmp_path, "a.png")
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="must be in UTF-8: rename it") as error:
        taken(tmp_path)
    str(error.value).encode()
    with pytest.raises(UserError, match="must be in UTF-8: rename it"):
        TextFiles(str(tmp_path), "*.png").open()


def test_names_whose_accents_are_spelt_otherwise_are_one_label():
    names = [unicodedata.normalize(form, "caf\u00e9") + f"/{form}.png" for form in ("NFC", "NFD")]
    labels, classes = folder_labels([*names, "zoo/a.png"])
    assert classes == 2 and labels.tolist() == [0, 0, 1]
    assert folder_labels(names) == (None, None)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["a.txt"]),
        (
            "**/*.txt",
            ["a.txt", "books/b.txt", "books/deep/c.txt", "linked/b.txt", "linked/deep/c.txt"],
        ),
        ("books/*.txt", ["books/b.txt"]),
        ("./books/*.txt", ["books/b.txt"]),
        ("books/**", ["books/D.TXT", "books/b.txt", "books/deep/c.txt"]),
        ("*/deep/?.txt", ["books/deep/c.txt", "linked/deep/c.txt"]),
        ("[ab].txt", ["a.txt"]),
        ("books/b.txt", ["books/b.txt"]),
        (".*.txt", [".h.txt"]),
        ("nowhere/*.txt", []),
        ("nowhere/a.txt", []),
        ("books", []),
    ],
)
def test_patterns_are_those_of_a_shell_and_follow_links(tmp_path, pattern, found):
    make(
        tmp_path, "a.txt", "books/b.txt", "books/deep/c.txt", "books/D.TXT", ".h.txt", ".hid/e.txt"
    )
    (tmp_path / "linked").symlink_to("books")
    (tmp_path / "books" / "deep" / "up").symlink_to("../..")
    assert fitting(tmp_path, pattern).names == found
    assert list(Texts((pattern,), str(tmp_path)).find_files().paths if found else ()) == [
        f"{tmp_path}/{n}" for n in found
    ]


def test_text_files_take_capitals_by_default_and_say_what_a_pattern_leaves_out(tmp_path, capsys):
    make(tmp_path, "notes.md", "c.text")
    for name in ("a.txt", "B.TXT"):
        (tmp_path / name).write_text("what it holds, what it holds", encoding="utf-8")
    texts = TextFiles(str(tmp_path), layout=Documents(8), cache=str(tmp_path / "cache")).open()
    assert {name for split in texts.splits.values() for name in split.corpus.domains} == {
        "a.txt",
        "B.TXT",
    }
    assert "2 of 4 files skipped: 1 .md, 1 .text\n" in capsys.readouterr().err
    TextFiles(
        str(tmp_path), "[a-z]*.txt", layout=Documents(8), cache=str(tmp_path / "cache")
    ).open()
    told = capsys.readouterr().err
    assert (
        "3 of 4 files skipped: 1 .md, 1 .text, 1 .txt; 1 would match in another case, such as "
        "B.TXT" in told
    )
    with pytest.raises(
        UserError, match=r"no file of .* matches 'b\*\.txt'; B\.TXT would in another case"
    ):
        TextFiles(str(tmp_path), "b*.txt").open()


def test_a_preparation_counts_what_no_reader_takes_in_the_log_and_on_its_card(tmp_path, capsys):
    raw = tmp_path / "raw"
    for number in range(3):
        png(raw / "cats" / f"{number}.png", number)
    png(raw / "cats" / "3.PNG", 3)
    make(raw, "cats/a.heic", "cats/b.heic", "cats/.DS_Store")
    (raw / "linked").symlink_to("cats")
    (raw / "cats" / "up").symlink_to("..")
    os.mkfifo(raw / "cats" / "pipe.png")
    readers = (Images(("cats/*.png",), str(raw)), Images(("linked/*.png",), str(raw)))
    preparing.prepare(Preparation(readers), "x", tmp_path / "out", say=str)
    line = "10 of 16 files skipped: 4 .heic, 2 .png, 2 hidden, 2 pipes, sockets or devices"
    assert (
        f"{raw}: {line}; 2 would match in another case, such as cats/3.PNG\n"
        in capsys.readouterr().err
    )
    card = (tmp_path / "out" / "card.md").read_text(encoding="utf-8")
    assert (
        "- 10 files that no reader takes: 4 .heic, 2 .png, 2 hidden, 2 pipes, sockets or devices"
        in card
    )
    plan, _ = reading.plan_reading(
        [Images(("cats/*.png",), str(raw)), Images(("cats/*.PNG",), str(raw))]
    )
    assert reading.passed_over(plan) == {".heic": 2, "hidden": 1, "pipe, socket or device": 1}


def test_an_unreadable_folder_is_counted(tmp_path, capsys, monkeypatch):
    make(tmp_path, "a.png", "locked/b.png")
    scandir = os.scandir

    def locked(path: object) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)  # as root may read everything
    assert taken(tmp_path) == ["a.png"]
    assert capsys.readouterr().err.endswith("1 of 2 files skipped: 1 unreadable folder\n")


def test_a_label_of_texts_without_any_text_is_refused(tmp_path):
    for name in ("cats/a.txt", "dogs/a.txt", "eels/a.docx"):
        make(tmp_path, name)
        (tmp_path / name).write_text(f"what {name} holds", encoding="utf-8")
    source = TextFiles(str(tmp_path), "*/*.txt", layout=Documents(8), cache=str(tmp_path / "cache"))
    with pytest.raises(UserError, match="domain 'eels' .* has no file that matches .*: 1 .docx"):
        LabelledTexts(source).open()
