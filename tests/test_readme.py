"""What the README prints, works as printed."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import genjax
from genjax import __main__ as command_line
from genjax.data.sources import ImageFolder
from genjax.experiment import built_config, load_config
from genjax.parallel import Devices
from genjax.runs.export import export

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip().removeprefix("python -m genjax ")
    for line in README.splitlines()
    if line.startswith("python -m genjax ")
]
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    for name in ("vae_digits", "classifier_digits", "gpt_docs"):
        experiment, path = load_config(name, tiny=True)
        experiment = dataclasses.replace(experiment, devices=Devices(count=1))
        genjax.train(experiment, folder / "runs" / name, source=path, quiet=True)
    # In the place of a run that stands on another, one that draws texts as well.
    shutil.copytree(folder / "runs" / "gpt_docs", folder / "runs" / "sft_rule")
    return folder


def test_it_is_whole():
    assert len(COMMANDS) >= 8 and len(BLOCKS) == 4
    assert not re.findall(r"\b[A-Z]+_[A-Z]+\b", README.replace("RUN_DIR", "").replace("GENJAX_DATA", ""))
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links and all((Path(__file__).parent.parent / link).exists() for link in links)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(command, folder, monkeypatch, capsys):
    """Training commands are read to the last option but not run; `bench` is left to its own tests."""
    monkeypatch.chdir(folder)
    name, target, *options = shlex.split(command)
    if name in ("sample", "evaluate", "export", "show"):
        assert command_line.main([name, target, *options]) == 0
        assert capsys.readouterr().out
        return
    if name == "compare":
        parsed = command_line._parse(command_line.CompareOptions(), name, options[1:])
        assert not options[0].startswith("-") and parsed != command_line.CompareOptions()
        return
    if name == "data":
        assert (name, target) == ("data", "prepare") and built_config(options[0], "--tiny" in options[1:])
        return
    experiment, _ = load_config(target)
    if "--help" in options:
        with pytest.raises(SystemExit, match="0"):
            command_line.main([name, target, *options])
        assert "--family.latent-dim" in capsys.readouterr().out
    else:
        parsed = command_line._parse(command_line.TrainOptions(experiment), name, options)
        assert bool(options) == (parsed != command_line.TrainOptions(experiment))


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(BLOCKS[0], scope)
    assert scope["run"].step == scope["experiment"].steps


def test_weights_go_out_and_come_in_as_the_readme_says(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = genjax.load(folder / "runs" / "vae_digits")
    export(run, out="runs/vae_digits/export/jax", num=3)
    export(genjax.load(folder / "runs" / "gpt_docs"), "huggingface", "models/gpt2")
    scope: dict = {}
    exec(BLOCKS[3], scope)
    np.testing.assert_allclose(scope["images"], run.sample(3), rtol=1e-5, atol=1e-6)
    assert 0 < scope["numbers"]["loss"] < 20


def test_the_config_of_the_readme_is_one(tmp_path):
    (tmp_path / "mine.py").write_text(BLOCKS[1])
    for tiny in (False, True):
        experiment, _ = load_config(str(tmp_path / "mine.py"), tiny)
        assert isinstance(experiment.data, ImageFolder)


def test_the_family_of_the_readme_learns_and_goes_on(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(BLOCKS[2])
    common = ["--run-dir", str(tmp_path / "run"), "--devices.count", "1", "--every.log", "100"]
    for steps in ("100", "200"):
        assert command_line.main(["train", str(tmp_path / "mine.py"), "--steps", steps, *common]) == 0
    rows = genjax.load(tmp_path / "run").evaluate().numbers
    assert rows["loss"] < 0.5
    assert command_line.main(["sample", str(tmp_path / "run"), "--num", "3"]) == 0
