"""Runs of strangers execute nothing, own runs work, and damaged files cost one line."""

import json
import shutil

import pytest
from etils import epath

import genjax
from genjax import __main__ as command_line
from genjax.errors import UserError
from genjax.runs import directory as records
from genjax.serial import stored, trust
from genjax.training import train
from tests import toy

CONFIG = """
from dataclasses import dataclass
from genjax.experiment import Every
from tests import toy
from genjax.data.sources import Points

open({marker!r}, "a").close()

@dataclass(frozen=True)
class Mine(toy.Toy):
    extra: int = 1

def get_config(tiny=False):
    return toy.experiment(family=Mine(), steps=2, every=Every(1, 0, 0, 0))
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(trust, "_HERE", set())


def as_a_stranger(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(trust, "_HERE", set())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder.parent / "state"))
        train(toy.experiment(steps=2), folder, quiet=True)
    return folder


HOSTILE = [
    {"class": "genjax_config:Evil"},
    {"function": "genjax_config:evil"},
    {"class": "payload:Evil"},
    {"function": "payload:evil"},
    {"class": "runs.x.payload:Evil"},
    {"function": "runs.x.payload:evil"},
    {"class": "genjax.evil:Evil"},
    {"class": "genjax.runs.directory:subprocess.Popen"},
    {"function": "genjax.runs.directory:subprocess.call"},
    {"function": "genjax.__main__:main"},
    {"function": "genjax.config_files:load_config"},
    {"function": "genjax.machine.disk:write"},
    {"class": "genjax.__main__:Experiment"},
    {"function": "os:makedirs"},
    {"function": "subprocess:call"},
    {"class": "subprocess:Popen", "args": "touch marker"},
    {"class": "builtins:eval"},
    {"class": ".payload:Evil"},
    {"class": "genjax_config:__loader__.Evil"},
    {"class": "genjax.families.vae:VAE.__init__.__globals__"},
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda tree: next(iter(tree.values())))
def test_nothing_of_a_hostile_run_is_executed(hostile, whole, tmp_path, monkeypatch, capsys):
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(whole, run)
    evil = f"open({str(marker)!r}, 'w').close()\ndef evil(*_): pass\n"
    for place in ("payload.py", "runs/x/payload.py", "genjax/evil.py", "run/config.py"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(evil)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    tree = json.loads((run / "config.json").read_text())
    tree["experiment"]["family"] = hostile
    (run / "config.json").write_text(json.dumps(tree))
    for command in ("show", "sample", "evaluate"):
        assert command_line.main([command, str(run)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "config.json" in error
        assert not marker.exists()


def test_an_own_config_works_here_and_needs_trust_elsewhere(tmp_path, monkeypatch, capsys):
    marker, config, run = tmp_path / "marker", tmp_path / "mine.py", tmp_path / "run"
    config.write_text(CONFIG.format(marker=str(marker)))
    assert command_line.main(["train", str(config), "--run-dir", str(run)]) == 0
    monkeypatch.setattr(trust, "_HERE", set())  # as in another process
    assert genjax.load(run).experiment.family.extra == 1
    as_a_stranger(monkeypatch, tmp_path)
    capsys.readouterr()
    assert command_line.main(["show", str(run)]) == 2
    error = capsys.readouterr().err
    assert "--trust" in error and "config.py" in error and "sha256" in error
    with pytest.raises(trust.Untrusted):
        genjax.load(run)
    assert command_line.main(["show", str(run), "--trust"]) == 0
    assert genjax.load(run, trust=True).step == 2


def test_trust_is_of_the_content_and_ends_with_its_block(tmp_path, monkeypatch):
    trust.remember([trust.file_entry(b"a")])
    monkeypatch.setattr(trust, "_HERE", set())
    assert trust.is_known(trust.file_entry(b"a")) and not trust.is_known(trust.file_entry(b"b"))
    with trust.allow(["there"]):
        assert trust.is_named_by_user("there") and not trust.is_named_by_user("elsewhere")
    assert not trust.is_named_by_user("there")


def test_a_home_that_cannot_be_written_costs_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "home").write_text("")
    trust.remember([trust.file_entry(b"a")])
    assert capsys.readouterr().err.count("\n") == 1
    assert trust.is_known(trust.file_entry(b"a"))


DAMAGE = {
    "empty": b"",
    "null": b"null",
    "list": b"[3]",
    "text": b'"x"',
    "bytes": b'{"a": "\xff"}',
    "bom": b"\xef\xbb\xbf{}",
    "utf16": "{}".encode("utf-16"),
    "cut": b'{"format": 1, "exp',
    "deep": b"[" * 100_000,
    "deep_objects": b'{"a":' * 100_000,
    "twice": b'{"format": 1, "format": 1}',
    "nan": b"NaN",
    "nul": b"\0" * 64,
    "huge": b'{"format": 1' + b"0" * 5000 + b"}",
    "folder": None,
}
WRONG = (
    None,
    True,
    -1,
    1e308,
    10**400,
    float("nan"),
    "x",
    "",
    [],
    {},
    [1, [2]],
    {"class": "x"},
    {"class": 3},
    "\0",
)


def damage(path, how):
    path.unlink()
    if DAMAGE[how] is None:
        path.mkdir()
    else:
        path.write_bytes(DAMAGE[how])


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["config.json", "codec.json"])
def test_a_damaged_file_costs_one_line_with_path_and_cure(name, how, whole, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    damage(run / name, how)
    with trust.allow(True):
        for command in ("show", "sample", "evaluate", "export"):
            assert command_line.main([command, str(run)]) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1 and str(run / name) in error and "remove it" in error


def places(tree, place=()):
    """The keys that lead to each value of a JSON tree."""
    yield place
    for key in (
        tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    ):
        yield from places(tree[key], (*place, key))


def changed(tree, place, value):
    if not place:
        return value
    copy = tree.copy()
    copy[place[0]] = changed(tree[place[0]], place[1:], value)
    return copy


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["config.json", "codec.json"])
def test_any_value_of_another_kind_is_read_or_refused_with_the_path(name, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    tree = json.loads((run / name).read_text())
    refused = 0
    for place in places(tree):
        for value in WRONG:
            (run / name).write_text(json.dumps(changed(tree, place, value)))
            with trust.allow(True):
                try:
                    records.require_experiment(run)
                    records.load_codec(epath.Path(run))
                except UserError as error:
                    refused += 1
                    assert str(run / name) in str(error), (place, value)
                    assert "\n" not in str(error)
    assert refused > 5 * len(list(places(tree)))


@pytest.mark.parametrize("how", [how for how in DAMAGE if how != "folder"])
@pytest.mark.parametrize("name", ["environment.json", "lineage.jsonl", "metrics.jsonl"])
def test_a_damaged_record_costs_no_samples(name, how, whole, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    path = run / "samples" / name if name == "lineage.jsonl" else run / name
    path.touch()
    damage(path, how)
    with trust.allow(True):
        run = genjax.load(run)
        assert len(stored_rows(run.write_samples(num=3))) == 3


def stored_rows(path):
    return path.read_text().splitlines()[1:]


def test_a_file_of_a_run_names_its_path_as_the_field(tmp_path):
    path = genjax.runs.run.epath.Path(tmp_path / "a.json")
    path.write_text("{")
    with pytest.raises(UserError) as error:
        stored.read_json(path, dict, "remove it")
    assert error.value.field == str(path)
