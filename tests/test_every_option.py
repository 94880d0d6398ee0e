"""Every option that a command lists works, or is refused in one line that names it."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import pytest
import tyro
from toy import experiment

import genjax
from genjax import __main__ as command_line
from genjax import gx
from genjax.cli import parsing
from genjax.cli.data import PrepareOptions
from genjax.config_files import load_config
from genjax.experiment import Every
from genjax.parallel import Devices

CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from toy import experiment

def get_config(tiny=False):
    return experiment(steps=2)
"""
PREPARATION = """
from genjax import gx

def get_config(tiny: bool = False) -> gx.Preparation:
    readers = (gx.Csv(("*.csv",), root="."),)
    return gx.Preparation(readers=readers, stages=(gx.Linked(), gx.Splits(test=0.2)))
"""
COMMANDS = {
    "evaluate": ["evaluate", "run"],
    "export": ["export", "run"],
    "sample": ["sample", "run"],
    "sample texts": ["sample", "texts"],
    "compare": ["compare", "texts", "texts"],
    "show": ["show", "run"],
    "report": ["report", "run"],
    "watch": ["watch", "."],
    "bench": ["bench", "mine.py"],
    "data": ["data", "prepare", "people.py"],
}
LONG = {"bench", "data", "watch"}  # are left to their own tests with values that are right
WRONG = {  # where any text is a value, by the last part of its name: one that it does not mean
    "split": "nowhere",
    "prompts": "nowhere.txt",
    "sources": "nowhere.txt",
    "reward": "nowhere",
    "engine": "nowhere",
    "evaluators": "nowhere",
}


def train_texts(run_dir):
    one = {"devices": Devices(count=1)}
    genjax.train(gx.replace_fields(load_config("gpt_docs", tiny=True)[0], one), run_dir, quiet=True)


class Listed(Exception):
    """Carries the parser of a command in the place of what it has parsed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("options")
    every = Every(log=1, evaluate=2, sample=0, checkpoint=2)
    genjax.train(experiment(steps=2, every=every), folder / "run", quiet=True)
    (folder / "texts").symlink_to(trained.once("options_texts", train_texts))
    (folder / "mine.py").write_text(CONFIG.format(tests=str(Path(__file__).parent)), "utf-8")
    (folder / "people.py").write_text(PREPARATION, encoding="utf-8")
    (folder / "people.csv").write_text("name,town\nAnn,Bath\nBob,York\n", encoding="utf-8")
    return folder


def list_options(command, monkeypatch) -> list[argparse.Action]:
    """The options of a command, from its parser."""

    def tell(kind, *, default, config, **_):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            raise Listed(tyro.extras.get_parser(kind, default=default, config=config))

    with monkeypatch.context() as patch, pytest.raises(Listed) as listed:
        patch.setattr(parsing.tyro, "cli", tell)
        command_line.main([*COMMANDS[command], "--trust"])
    (parser,) = listed.value.args
    return [action for action in parser._actions if "--help" not in action.option_strings]


def run(words, capfd) -> tuple[int, str]:
    try:
        code = command_line.main([*words, "--trust"])
    except SystemExit as end:
        code = end.code
    return code, capfd.readouterr().err


def choose_value(action, command) -> list[str]:
    """A value that an option takes: of those listed, a number, or a word that names no file."""
    if action.nargs == 0:
        return []
    if action.choices:
        return [str(action.choices[0])]
    metavar = str(action.metavar)
    return ["1"] if "INT" in metavar or "FLOAT" in metavar else [f"new_{command[:4]}{action.dest}"]


def choose_wrong(action, name) -> list[str] | None:
    """A value that it does not take; None where each text is one."""
    if action.nargs == 0:
        return ["surplus"]
    if action.choices or "INT" in str(action.metavar) or "FLOAT" in str(action.metavar):
        return ["x"]
    last = name.rpartition(".")[2]
    return [WRONG[last]] if last in WRONG and not name.startswith("sampler.") else None


TEXTS = pytest.param("sample texts", marks=pytest.mark.long)  # each option compiles a sampler


@pytest.mark.long
@pytest.mark.parametrize("command", [*(c for c in COMMANDS if c != "sample texts"), TEXTS])
def test_every_option_works_or_is_refused_by_its_name(command, folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    found = list_options(command, monkeypatch)
    assert found, "no option was found"
    failed = []
    for action in found:
        option = action.option_strings[0]
        name = option.removeprefix("--")
        last = name.rpartition(".")[2].replace("-", "_")
        words = {name, last, last.removesuffix("s"), last.partition("_")[0]}
        wrong = choose_wrong(action, name)
        for value, may_work in ((choose_value(action, command), True), (wrong, False)):
            if value is None or (may_work and command in LONG):
                continue
            code, said = run([*COMMANDS[command], option, *value], capfd)
            lines = [line for line in said.splitlines() if line.startswith("genjax: ")]
            named = len(lines) == 1 and (value == ["surplus"] or any(w in lines[0] for w in words))
            if not (code == 2 and named) and not (may_work and code == 0):
                failed.append(f"{option} {' '.join(value)}: {code}, {said[-300:]!r}")
    assert not failed, "\n".join(failed)


def test_an_unknown_option_of_a_preparation_is_one_line(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    code, said = run(["data", "prepare", "people.py", "--stages.0.decision", "x.csv"], capfd)
    assert code == 2 and len(said.splitlines()) == 1 and "stages.0.decision" in said
    preparation = gx.Preparation(readers=(gx.Csv(("*.csv",)),), stages=(gx.Linked(),))
    told = parsing.parse(PrepareOptions(preparation), "data", ["--stages.0.decisions", "x.csv"])
    assert told.preparation.stages[0].decisions == "x.csv"
