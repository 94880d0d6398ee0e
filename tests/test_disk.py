"""A full disk is one line that names it; files are whole or as they were before."""

import errno
import os
import subprocess

import numpy as np
import pytest
from safetensors import SafetensorError

import genjax
from genjax import disk, exports
from genjax.__main__ import main
from genjax.errors import UserError
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


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path):
    path = tmp_path / ("x" * 250)
    disk.write(path, "one\n")
    with pytest.raises(KeyboardInterrupt), disk.whole(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "one\n" and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
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
        with pytest.raises(UserError, match="on the disk .*; kept") as found, disk.watched("kept", tmp_path):
            raise raised
        assert found.value.field == str(tmp_path)


def test_other_errors_are_left_alone(tmp_path):
    for error in (
        UserError("no space left on device"),
        OSError(errno.EIO, "bad"),
        ValueError("full of it"),
    ):
        with pytest.raises(type(error)) as found, disk.watched("kept", tmp_path):
            raise error
        assert found.value is error


def test_the_disk_that_is_full_is_named_not_the_one_of_the_run(small_disk, tmp_path):
    message = f"on the disk {small_disk} "
    with pytest.raises(UserError, match=message) as found, disk.watched("kept", tmp_path, small_disk):
        np.save(small_disk / "tokens.npy", np.zeros(10**6))  # numpy names no path
    assert found.value.field == str(small_disk)


@pytest.mark.parametrize("to", ["safetensors", "jax"])
def test_an_export_to_a_full_disk_is_one_line_and_leaves_no_part_of_a_file(trained, small_disk, capsys, to):
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
