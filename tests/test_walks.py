"""The five walks of docs/walks run as they stand, on the small files that they make themselves."""

import json
import re
import shlex
from pathlib import Path

import pytest

import genjax
from genjax import __main__ as command_line

WALKS = sorted((Path(__file__).parent.parent / "docs" / "walks").glob("*.md"))
QUICK = ("images",)
# What a run as long as the page says must reach: (number of eval.json, least, most).
REACHED = {
    "images": ("reconstruction_mse", 0.0, 0.08),
    "texts": ("bits_per_byte", 0.2, 1.5),
    "pairs": ("bleu", 60.0, 100.1),
    "table": ("tstr_auc", 0.6, 1.0),
    "preferences": ("accuracy", 0.8, 1.0),
}


def walk(page: Path, tiny: bool) -> None:
    """Write the files of a page, run those that make data, then its commands."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        name = block.splitlines()[0].removeprefix("# ")
        Path(name).write_text(block, encoding="utf-8")
        if name.startswith("make_"):
            exec(compile(block, name, "exec"), {"__name__": "__main__"})
    commands = re.findall(r"^python -m genjax (.*)$", text, flags=re.MULTILINE)
    assert [command.split()[0] for command in commands][-3:] == ["train", "evaluate", "sample"]
    for command in commands:
        words = shlex.split(command)
        extra = ["--devices.count", "1", *(["--tiny"] if tiny else [])]
        assert command_line.main(words + (extra if words[0] == "train" else [])) == 0, command


def test_there_are_five_walks_and_all_are_linked():
    assert {page.stem for page in WALKS} == set(REACHED)
    docs = WALKS[0].parents[1]
    linked = (docs / "data.md").read_text(encoding="utf-8")
    assert all(f"(walks/{page.name})" in linked for page in WALKS)
    for page in WALKS:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), (page.name, link)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page.stem in QUICK else pytest.mark.long, id=page.stem)
        for page in WALKS
    ],
)
def test_a_walk_runs_without_a_data_folder(page, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    walk(page, tiny=True)
    shown = capfd.readouterr()
    assert "held out (" in shown.err and "GENJAX_DATA" not in shown.err
    run = genjax.load(Path("runs") / page.stem)
    numbers = json.loads((Path("runs") / page.stem / "eval.json").read_text())
    assert run.step >= 4 and REACHED[page.stem][0] in numbers
    assert list(Path("runs", page.stem, "samples").iterdir()) or Path("drawn.csv").exists()


@pytest.mark.long
@pytest.mark.parametrize("page", WALKS, ids=lambda page: page.stem)
def test_a_walk_reaches_what_it_is_for(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    walk(page, tiny=False)
    name, least, most = REACHED[page.stem]
    value = json.loads((Path("runs") / page.stem / "eval.json").read_text())[name]
    assert least < value <= most, (name, value)
