"""The results in the docstrings of the configs, and the page that is made of them."""

import json
import shlex
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks import kept_runs, results
from genjax.errors import UserError
from genjax.report.published import Result, parse

CONFIGS = Path(__file__).parent.parent / "configs"
GOOD = """Digits.

    python -m genjax train digits

Result: of a sentence, not of a block.

Result:
    command: python -m genjax train digits --steps 8
      --seed 1
    data: digits: small ones
    hardware: one core
    minutes: 3 to 4.5
    seeds: 0, 1
    metric: accuracy, %
    value: 92.70, -3
    error: 0.5

Result:
    command: python -m genjax train digits
    data: digits
    value: not yet run
    reason: there was no GPU
"""


def block(**changes: str) -> str:
    """A docstring with one good block, of which some lines are changed or, if empty, left out."""
    lines = {"command": "train", "data": "digits", "metric": "nats", "value": "1.5"} | changes
    return "Result:\n" + "".join(f"    {key}: {text}\n" for key, text in lines.items() if text)


def test_every_config_has_results_and_no_other_file_is_read():
    read = results.read_folder(CONFIGS)
    assert {CONFIGS / path for path in read} == set(CONFIGS.glob("*/*.py")) and len(read) >= 70
    for path, found in read.items():
        for result in found:
            words = shlex.split(result.command)
            command = ["data", "prepare"] if path.parts[0] == "prepare" else ["train"]
            assert words[:3] == ["python", "-m", "genjax"], path
            assert not result.minutes or result.hardware, path
            assert words[3:].count(path.stem) == 1 and words[3:][: len(command)] == command, path


def test_the_page_is_current():
    assert results.main(["--check"]) == 0


def test_configs_for_a_gpu_have_a_plan_and_a_small_form():
    read = {path.stem: found for path, found in results.read_folder(CONFIGS).items()}
    for name, found in read.items():
        planned = [result for result in found if result.planned]
        assert bool(planned) == name.endswith("_gpu"), name
        for result in planned:
            assert not any(other.planned for other in read[result.sibling.split()[0]]), result


def test_a_plan_that_is_not_there_is_refused():
    (result,) = parse(block(value="not yet run", planned="abacus", sibling="digits"), "digits.py")
    with pytest.raises(UserError) as error:
        results.plan_line(Path("vae/digits.py"), result)
    assert error.value.field == "vae/digits.py"


def test_values_are_the_numbers_of_the_kept_runs():
    named = set()
    for path, found in results.read_folder(CONFIGS).items():
        for result in found:
            assert kept_runs.agrees(result), (path, result.value, result.kept)
            named |= {folder for folder, _ in result.kept}
    folders = {path.name: path for path in kept_runs.FOLDER.iterdir()}
    assert named == set(folders), "each kept run is a result's, and the other way round"
    for path in folders.values():
        assert {file.name for file in path.iterdir()} == {"eval.json", "metrics.jsonl"}
        assert sum(file.stat().st_size for file in path.iterdir()) <= kept_runs.SIZE
        text = "".join(file.read_text("utf-8") for file in path.iterdir())
        assert not kept_runs.ABSOLUTE.search(text)


def test_a_run_is_kept_thinned_and_without_paths(tmp_path):
    run, folder = tmp_path / "run", tmp_path / "kept"
    run.mkdir()
    with pytest.raises(UserError) as error:
        kept_runs.keep(run, folder)
    assert error.value.field == "run_dir" and not folder.exists()
    numbers = {"step": 500, "share": 0.87654, "nats": 12.344, "protocol": "of /home/me/runs/other"}
    (run / "eval.json").write_text(json.dumps(numbers))
    rows = [{"step": n, "split": "train", "loss": 1 / n} for n in range(1, 501)]
    rows.append({"step": 500, "split": "eval", "loss": 0.25})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept_runs.keep(run, folder)
    assert json.loads((folder / "eval.json").read_text()) == numbers | {"protocol": "of other"}
    kept = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(kept) == kept_runs.ROWS + 1 and kept[0] == rows[0] and kept[-1] == rows[-1]
    for kept, value, agrees in [
        ("kept:nats", "12.3", True),
        ("kept:nats", "12.4", False),
        ("kept:share, kept:nats", "87.7, 12.34", True),
        ("kept:share", "0.88", True),
    ]:
        (result,) = parse(block(value=value, kept=kept), "digits.py")
        assert kept_runs.agrees(result, tmp_path) is agrees
    (result,) = parse(block(kept="kept:other"), "digits.py")
    with pytest.raises(UserError) as error:
        kept_runs.agrees(result, tmp_path)
    assert error.value.field == "kept"


def test_a_block_keeps_what_is_written():
    first, second = parse(GOOD, "digits.py")
    assert first == Result(
        command="python -m genjax train digits --steps 8 --seed 1",
        data="digits: small ones",
        metric="accuracy, %",
        value=(Decimal("92.70"), Decimal(-3)),
        error=(Decimal("0.5"),),
        seeds=(0, 1),
        minutes="3 to 4.5",
        hardware="one core",
    )
    assert str(first.value[0]) == "92.70"
    assert second.value == () and second.reason == "there was no GPU"
    assert parse("A docstring without any.", "digits.py") == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"valeu": "1.5"},
        {"value": ""},
        {"value": "about 3"},
        {"value": "1.5,"},
        {"value": "nan"},
        {"value": "1e3"},
        {"value": "not run"},
        {"metric": ""},
        {"data": ""},
        {"command": ""},
        {"reason": "no GPU"},
        {"planned": "h200", "sibling": "digits"},
        {"value": "not yet run", "planned": "h200"},
        {"value": "not yet run", "sibling": "digits"},
        {"seeds": "0, 1"},
        {"seeds": "0.5"},
        {"seeds": "-1"},
        {"value": "1, 2, 3", "error": "0.1, 0.2"},
        {"minutes": "long"},
        {"kept": "digits"},
        {"kept": "a:b, c:d"},
        {"value": "1, 2, 3", "minutes": "3, 4"},
        {"value": "not yet run", "minutes": "3"},
        {"value": "not yet run", "hardware": "one core"},
    ],
)
def test_a_faulty_block_is_refused(changes):
    assert parse(block(), "digits.py")[0].value == (Decimal("1.5"),)
    with pytest.raises(UserError) as error:
        parse(block(**changes), "digits.py")
    assert error.value.field == "digits.py"


@pytest.mark.parametrize("line", ["    no colon", "    value: 2.5", "not indented: 1", "    data:"])
def test_a_faulty_line_is_refused(line):
    with pytest.raises(UserError) as error:
        parse(block() + line + "\n", "digits.py")
    assert error.value.field == "digits.py"


def test_the_command_writes_checks_and_refuses(tmp_path, capsys):
    configs, page = tmp_path / "configs", tmp_path / "results.md"
    note = configs / "vae" / "digits.py"
    note.parent.mkdir(parents=True)
    note.write_text(f'"""{GOOD}"""\n')
    assert results.main(["--check"], configs, page) == 1 and not page.exists()
    assert results.main([], configs, page) == 0 and results.main(["--check"], configs, page) == 0
    text = page.read_text()
    assert (
        "| [digits](../configs/vae/digits.py) `--steps 8 --seed 1` | digits: small ones |" in text
    )
    assert "| 92.70±0.5, -3±0.5 (seeds 0, 1) |" in text and "there was no GPU" in text
    note.write_text(note.read_text().replace("92.70", "92.71"))
    assert results.main(["--check"], configs, page) == 1 and "92.70" in page.read_text()
    note.write_text('"""No block."""\n')
    capsys.readouterr()
    assert results.main([], configs, page) == 2 and page.read_text() == text
    assert str(note) in capsys.readouterr().err
    (configs / "unknown").mkdir()
    (configs / "unknown" / "digits.py").write_text(f'"""{GOOD}"""\n')
    with pytest.raises(UserError):
        results.read_folder(configs)
