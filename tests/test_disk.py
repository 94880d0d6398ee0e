"""A full disk is one line that names it; files are whole or as they were before."""

import contextlib
import errno
import os
import subprocess

import jax
import numpy as np
import pytest
from etils import epath
from safetensors import SafetensorError

import genjax
from genjax import Every
from genjax.__main__ import main
from genjax.config_files import build_config
from genjax.data import stand_in
from genjax.data.text.codecs import Bytes, Characters
from genjax.data.text.corpus import fit_codec, tokenise
from genjax.data.text.documents import StoredTexts
from genjax.errors import UserError
from genjax.machine import disk
from genjax.prepare import synthetic
from genjax.prepare.run import prepare
from genjax.runs import directory
from genjax.runs import export as exports
from genjax.runs.writers import read_rows
from tests import toy


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, with 200 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    return genjax.train(toy.experiment(family=toy.Toy(hidden=9000), steps=1), run_dir, quiet=True)


CONFIG = """
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Texts
from genjax.prepare.stages.texts import Length

def get_config(tiny=False):
    return Preparation(
        (Texts(("raw.txt",), {root!r}, "lines"),), (Length(1, 1000),),
        licence="CC0-1.0", origin="here"
    )
"""


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path):
    path = tmp_path / ("x" * 250)
    disk.write(path, "one\n")
    with pytest.raises(KeyboardInterrupt), disk.write_atomically(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "one\n" and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        ValueError("ABORTED: Error writing: [Errno 28] no space left on device"),
        OSError("1024 requested and 512 written"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_every_form_of_a_full_disk_is_known_also_behind_another_error(error, tmp_path):
    for raised in (error, RuntimeError("a library failed")):
        raised.__cause__ = None if raised is error else error
        with (
            pytest.raises(UserError, match="on the disk .*; kept") as found,
            disk.explain_full_disk("kept", tmp_path),
        ):
            raise raised
        assert found.value.field == str(tmp_path)


def test_other_errors_are_left_alone(tmp_path):
    for error in (
        UserError("no space left on device"),
        OSError(errno.EIO, "bad"),
        ValueError("full of it"),
    ):
        with pytest.raises(type(error)) as found, disk.explain_full_disk("kept", tmp_path):
            raise error
        assert found.value is error


def test_the_disk_that_is_full_is_named_not_the_one_of_the_run(small_disk, tmp_path):
    message = f"on the disk {small_disk} "
    with (
        pytest.raises(UserError, match=message) as found,
        disk.explain_full_disk("kept", tmp_path, small_disk),
    ):
        np.save(small_disk / "tokens.npy", np.zeros(10**6))  # numpy names no path
    assert found.value.field == str(small_disk)


@pytest.mark.parametrize("to", ["safetensors", "jax"])
def test_an_export_to_a_full_disk_is_one_line_and_leaves_no_part_of_a_file(
    trained, small_disk, capsys, to
):
    assert main(["export", str(trained.run_dir), "--to", to, "--out", str(small_disk / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no space left on the disk {small_disk}" in line
    assert os.listdir(small_disk / "out") == []


def test_an_export_that_fails_leaves_the_one_before(trained, small_disk, tmp_path):
    first = exports.export(trained, "safetensors", tmp_path / "out")
    before = {path: path.read_bytes() for path in first}
    (small_disk / "model.safetensors").write_bytes(b"old")
    with pytest.raises(UserError, match="no space left"):
        exports.export(trained, "safetensors", small_disk)
    assert os.listdir(small_disk) == ["model.safetensors"]
    assert (small_disk / "model.safetensors").read_bytes() == b"old"
    assert {path: path.read_bytes() for path in first} == before


@pytest.fixture
def small_files():
    """Limits for a block how many bytes any file may have, as ``ulimit -f`` does."""
    resource = pytest.importorskip("resource", reason="needs the limits of POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def limit(size):  # no longer than needed, as pytest may write to a file, too
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


def test_an_error_without_a_path_names_that_of_the_file_that_was_written(tmp_path, small_files):
    with (
        pytest.raises(UserError, match=r"larger than the limit") as found,
        small_files(100),
        disk.explain_full_disk("kept", tmp_path / "other"),
    ):
        disk.write(tmp_path / "x.txt", "x" * 200)
    assert found.value.field == str(tmp_path / "x.txt") and os.listdir(tmp_path) == []


def test_a_token_cache_without_room_is_named_and_made_again(tmp_path, small_files):
    texts = StoredTexts("texts", tuple((f"{i}", "some text") for i in range(300)))
    codec, whole = Bytes(), tokenise(texts, Bytes(), tmp_path / "whole")
    with pytest.raises(UserError, match="token cache is unchanged") as found, small_files(1000):
        tokenise(texts, codec, tmp_path / "cache")
    assert found.value.field == str(tmp_path / "cache") and os.listdir(tmp_path / "cache") == []
    np.testing.assert_array_equal(tokenise(texts, codec, tmp_path / "cache").tokens, whole.tokens)


def test_a_fitted_codec_without_room_leaves_nothing(tmp_path, small_files):
    texts = StoredTexts("texts", (("a", "some text"),))
    with pytest.raises(UserError) as found, small_files(20):
        fit_codec(Characters(), texts, tmp_path)
    assert found.value.field == str(tmp_path) and os.listdir(tmp_path) == []
    assert fit_codec(Characters(), texts, tmp_path).characters == " emostx"


def test_stand_ins_without_room_are_named_and_leave_nothing(tmp_path, monkeypatch, small_files):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(stand_in, "_texts", lambda: {"text/a.txt": b"x" * 500, "text/b.txt": b"x"})
    for others in ("_instructions", "_sentence_pairs", "make_music"):
        monkeypatch.setattr(stand_in, others, dict)
    with pytest.raises(UserError) as found, small_files(100):
        stand_in.write_stand_ins()
    assert str(tmp_path) in found.value.field and os.listdir(tmp_path / "genjax") == []
    assert (stand_in.write_stand_ins() / "text" / "a.txt").read_bytes() == b"x" * 500


@pytest.mark.parametrize("size", [20, 1500, 5000])
def test_a_run_without_room_says_so_and_goes_on_bitwise(tmp_path, small_files, size):
    experiment = toy.experiment(steps=4, every=Every(log=1, evaluate=2, sample=2, checkpoint=2))
    whole = genjax.train(experiment, tmp_path / "whole", quiet=True)
    with (
        pytest.raises(UserError, match="what was saved before is whole") as found,
        small_files(size),
    ):
        genjax.train(experiment, tmp_path / "run", quiet=True)
    assert found.value.field.startswith(str(tmp_path / "run"))
    again = genjax.train(experiment, tmp_path / "run", quiet=True)
    jax.tree.map(np.testing.assert_array_equal, again.state.params, whole.state.params)
    rows = [read_rows(run.run_dir / "metrics.jsonl") for run in (again, whole)]
    again_losses, losses = ([row["loss"] for row in one] for one in rows)
    assert again_losses == losses
    assert not [
        path
        for path in (tmp_path / "run").rglob("*")
        if "tmp" in path.name or path.suffix == disk.PART
    ]


def test_what_a_start_without_room_left_is_no_folder_of_others(tmp_path):
    source, run_dir = tmp_path / "mine.py", epath.Path(tmp_path / "run")
    source.write_text("# a config\n")
    run_dir.mkdir()
    for name in ("config.py", "lease.json", f".1234abcd{disk.PART}"):
        (run_dir / name).write_text("# a config\n")
    directory.check_claim(run_dir, toy.experiment(), source).write()
    assert (run_dir / "config.json").exists()
    (run_dir / "config.json").unlink()
    (run_dir / "config.py").write_text("# of someone else\n")
    for folder in ("samples", "plots"):
        (run_dir / folder).rmdir()
    with pytest.raises(UserError, match="must be empty or a run directory"):
        directory.check_claim(run_dir, toy.experiment(), source)
    assert (run_dir / "config.py").read_text() == "# of someone else\n"


def test_samples_without_room_leave_no_part_of_a_file(trained, tmp_path, small_files, capsys):
    (tmp_path / "out").mkdir()
    with small_files(50):
        assert main(["sample", str(trained.run_dir), "--out", str(tmp_path / "out" / "x")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "out") in line and os.listdir(tmp_path / "out") == []


def test_a_data_set_of_samples_without_room_leaves_nothing(tmp_path, small_files):
    generator = {"run": "r", "step": 1, "seed": 0}
    with pytest.raises(UserError) as found, small_files(100):
        synthetic.write(tmp_path / "set", "set", {"text": ["some", "text"]}, generator)
    assert found.value.field.startswith(str(tmp_path)) and os.listdir(tmp_path) == []


def test_a_preparation_on_a_full_disk_is_one_line_and_goes_on(small_disk, tmp_path, capsys):
    """Daft says "channel closed" alone."""
    letters = np.random.default_rng(0).integers(97, 123, (400, 400), np.uint8)
    (tmp_path / "raw.txt").write_bytes(b"\n".join(row.tobytes() for row in letters))
    (tmp_path / "config.py").write_text(CONFIG.format(root=str(tmp_path)))
    command = ["data", "prepare", str(tmp_path / "config.py"), "--out", str(small_disk / "set")]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no space left on the disk {small_disk}" in line
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert main(command) == 0
    assert (small_disk / "set" / "manifest.json").exists()


def test_a_preparation_whose_lines_nobody_reads_is_no_fault_of_the_disk(tmp_path):
    (tmp_path / "raw.txt").write_text("some text\nand more\n")
    (tmp_path / "config.py").write_text(CONFIG.format(root=str(tmp_path)))
    preparation, _ = build_config(str(tmp_path / "config.py"))

    def say(line):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        prepare(preparation, "x", tmp_path / "set", say=say)


def test_a_run_that_cannot_be_written_to_is_judged_and_sampled_all_the_same(
    trained, tmp_path, capsys, monkeypatch
):
    before = os.listdir(trained.run_dir)

    def refused(path, *_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))

    with monkeypatch.context() as patched:
        patched.setattr(disk, "write", refused)
        assert main(["evaluate", str(trained.run_dir)]) == 0
        assert "note: " in (found := capsys.readouterr()).out and not found.err
        assert main(["show", str(trained.run_dir)]) == 0
        assert main(["sample", str(trained.run_dir)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(trained.run_dir / "samples") in line and os.strerror(errno.EROFS) in line
    assert main(["sample", str(trained.run_dir), "--out", str(tmp_path / "x")]) == 0
    assert sorted(os.listdir(trained.run_dir)) == sorted(before)
