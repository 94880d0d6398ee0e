"""Compiled programs are kept on disk, and only as many as fit; what a start takes is measured."""

import os
import warnings

from benchmarks import start
from genjax.machine import programs

UNSET = (*programs.VARIABLES, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


def unset(monkeypatch):
    for name in UNSET:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


def test_programs_are_kept_below_the_folder(tmp_path, monkeypatch):
    unset(monkeypatch)
    programs.keep_programs(tmp_path)
    place = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert os.path.dirname(place) == str(tmp_path / "programs") and os.path.isdir(place)


def test_the_environment_goes_first(tmp_path, monkeypatch):
    unset(monkeypatch)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    programs.keep_programs(tmp_path)
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere" and not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path, monkeypatch):
    unset(monkeypatch)
    (tmp_path / "programs").write_text("a file")
    programs.keep_programs(tmp_path)
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_the_least_recently_used_leave_first(tmp_path):
    for number in range(5):
        path = tmp_path / f"p{number}"
        path.write_bytes(b"x" * 10)
        os.utime(path, (number, number))
    os.utime(tmp_path / "p0", (9, 0))  # old, but read last
    programs.trim(tmp_path, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p0", "p3", "p4"]
    programs.trim(tmp_path, 30)
    assert len(list(tmp_path.iterdir())) == 3


def test_damaged_programs_are_removed_and_other_warnings_are_shown(tmp_path, monkeypatch, capsys):
    unset(monkeypatch)
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(message))
    programs.keep_programs(tmp_path)
    place = os.environ["JAX_COMPILATION_CACHE_DIR"]
    warnings.showwarning("another matter", UserWarning, "a.py", 1)
    assert os.path.isdir(place) and shown == ["another matter"]
    said = "Error reading persistent compilation cache entry for 'jit_f': ZstdError: cut"
    for _ in range(2):
        warnings.showwarning(UserWarning(said), UserWarning, "a.py", 1)
    assert not os.path.exists(place) and len(shown) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_start_is_measured_by_clock_and_cpu(tmp_path):
    code = "import time; time.sleep(0.2); sum(range(10_000_000))"
    row = start.measure("sleep and work", ("-c", code), tmp_path, 1)
    assert row.seconds > 0.2 and 0.02 < row.cpu < row.seconds + 0.1
