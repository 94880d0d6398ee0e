"""A config imports modules beside it, and its run keeps copies and needs nothing else."""

import shutil
import sys
import textwrap

import pytest

import genjax
from genjax.__main__ import main
from genjax.config_files import load_config
from genjax.errors import UserError
from genjax.runs.export import export
from genjax.serial import neighbours, trust

CONFIG = """
from dataclasses import dataclass
from genjax.experiment import Every
from tests import toy
import ntop
from npack.blocks import Mine
{more}

def get_config(tiny=False):
    from nlate import steps
    return toy.experiment(family=Mine(extra=ntop.EXTRA), steps=steps(), every=Every(1, 0, 0, 0))
"""
FILES = {
    "ntop.py": "import json\nfrom ndeep import EXTRA\nassert __file__.endswith('ntop.py')\n",
    "ndeep.py": "EXTRA = 5\n",
    "nlate.py": "def steps():\n    return 2\n",
    "npack/blocks.py": """
        from dataclasses import dataclass
        from tests import toy
        from .more import BASE

        @dataclass(frozen=True)
        class Mine(toy.Toy):
            extra: int = BASE
    """,
    "npack/more.py": "BASE = 1\n",
    "unused.py": "raise RuntimeError('nobody imports this')\n",
}


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(trust, "_HERE", set())
    path, before = list(sys.meta_path), set(sys.modules)
    yield
    sys.meta_path[:] = path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("ntop", "ndeep", "nlate", "npack"):
            del sys.modules[name]


def write_config(folder, more="", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (FILES | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    (folder / "mine.py").write_text(CONFIG.format(more=more))
    return folder / "mine.py"


def as_a_stranger(tmp_path, monkeypatch):
    """Another user on another machine, where nothing is left of the config's folder."""
    shutil.rmtree(tmp_path / "mine")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(trust, "_HERE", set())
    for finder in [f for f in sys.meta_path if isinstance(f, neighbours.Neighbours)]:
        finder.uninstall()


def test_a_run_keeps_what_its_config_imports_and_stands_alone(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path / "mine")
    assert main(["train", str(config), "--run-dir", str(tmp_path / "run")]) == 0
    copies = tmp_path / "run" / neighbours.FOLDER
    found = {str(path.relative_to(copies)) for path in copies.rglob("*.py")}
    assert found == {"ntop.py", "ndeep.py", "nlate.py", "npack/blocks.py", "npack/more.py"}
    assert genjax.load(tmp_path / "run").experiment.family.extra == 5
    as_a_stranger(tmp_path, monkeypatch)
    moved = tmp_path / "elsewhere"
    (tmp_path / "run").rename(moved)
    capsys.readouterr()
    assert main(["show", str(moved)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "npack.blocks:Mine" in error and "--trust" in error
    for allowed in (True, ["npack.blocks", "tests.toy"], ["genjax_config", "tests.toy"]):
        run = genjax.load(moved, trust=allowed)
        assert run.step == 2 and run.experiment.family.extra == 5
        module = sys.modules[type(run.experiment.family).__module__]
        assert module.__file__ == str(moved / neighbours.FOLDER / "npack" / "blocks.py")
    assert main(["evaluate", str(moved), "--trust"]) == 0


def test_an_altered_copy_is_not_trusted(tmp_path, monkeypatch):
    config = write_config(tmp_path / "mine")
    main(["train", str(config), "--run-dir", str(tmp_path / "run")])
    monkeypatch.setattr(trust, "_HERE", set())  # as in another process
    assert genjax.load(tmp_path / "run").step == 2
    marker = tmp_path / "marker"
    for name in ("ndeep.py", "npack/__init__.py", "another.py"):
        path = tmp_path / "run" / neighbours.FOLDER / name
        before = path.read_text() if path.exists() else None
        path.write_text(f"open({str(marker)!r}, 'w').close()\nEXTRA = 5\n")
        with pytest.raises(trust.Untrusted):
            genjax.load(tmp_path / "run")
        path.unlink() if before is None else path.write_text(before)
    assert not marker.exists() and genjax.load(tmp_path / "run").step == 2


def test_neighbours_of_one_name_in_two_folders_are_two(tmp_path):
    one, two = (
        write_config(tmp_path / name, **{"ndeep.py": f"EXTRA = {extra}\n"})
        for name, extra in (("a", 7), ("b", 8))
    )
    for path, extra in ((one, 7), (two, 8), (one, 7)):
        experiment, _ = load_config(str(path))
        assert experiment.family.extra == extra
        assert extra == sys.modules["ndeep"].EXTRA
    (tmp_path / "a" / "ndeep.py").write_text("EXTRA = 9\n")
    assert load_config(str(one))[0].family.extra == 9
    assert main(["train", str(one), "--run-dir", str(tmp_path / "run")]) == 0
    # the run's own copy is a config, too
    assert load_config(str(tmp_path / "run" / "config.py"))[0].family.extra == 9


def test_a_neighbour_that_fails_is_named_and_what_is_elsewhere_is_no_neighbour(tmp_path):
    config = write_config(tmp_path / "mine", **{"ndeep.py": "EXTRA = 1 / 0\n"})
    with pytest.raises(UserError, match="mine.py, line 5, failed: ZeroDivisionError"):
        load_config(str(config))
    config = write_config(tmp_path / "mine", "import jax, random, ngone")
    for name in ("jax", "random"):  # imported already, and of the standard library
        (tmp_path / "mine" / f"{name}.py").write_text("raise RuntimeError('not this one')\n")
    with pytest.raises(UserError, match="failed: ModuleNotFoundError: No module named 'ngone'"):
        load_config(str(config))
    files = neighbours.read_neighbours(config, config.read_bytes())
    assert not {"jax.py", "random.py", "unused.py"} & set(files)


def test_what_is_too_much_to_copy_is_refused(tmp_path):
    config = write_config(tmp_path / "mine")
    for number in range(neighbours.MOST):
        (tmp_path / "mine" / "npack" / f"m{number}.py").write_text("")
    with pytest.raises(UserError, match="imports npack from its folder.*install it as a package"):
        load_config(str(config))


def test_an_export_takes_them_along_and_another_config_leaves_none_behind(tmp_path):
    config = write_config(tmp_path / "mine")
    run = tmp_path / "run"
    main(["train", str(config), "--run-dir", str(run)])
    export(genjax.load(run), "safetensors", tmp_path / "out")
    for name in ("config.py", f"{neighbours.FOLDER}/npack/more.py"):
        assert (tmp_path / "out" / name).read_bytes() == (run / name).read_bytes()
    (tmp_path / "mine" / "ntop.py").write_text("EXTRA = 5\n")
    assert main(["train", str(config), "--run-dir", str(run), "--steps", "3"]) == 0
    assert not (run / neighbours.FOLDER / "ndeep.py").exists()
