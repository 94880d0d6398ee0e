"""What README and docs print, works as printed."""

import dataclasses
import functools
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import genjax
from genjax import __main__ as command_line
from genjax.cli.bench import BenchOptions
from genjax.cli.options import CompareOptions, TrainOptions
from genjax.cli.parsing import parse
from genjax.cli.plan import PlanOptions
from genjax.cli.runs.launch import read_job
from genjax.cli.runs.watch import WatchOptions
from genjax.config_files import build_config, load_config
from genjax.data.audio.notes import midi_bytes
from genjax.data.sources import ImageFolder
from genjax.parallel import Devices
from genjax.plan.targets import find_target
from genjax.runs.export import export

ROOT = Path(__file__).parent.parent
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}
COMMANDS = sorted(
    {
        line.split("    #")[0].split("  #")[0].strip().removeprefix("python -m genjax ")
        for page in PAGES.values()
        for line in page.splitlines()
        if line.startswith("python -m genjax ")
    }
)
# On runs that need a package of an extra; they have a test of their own.
OF_SOUND = [c for c in COMMANDS if "_spoken_digits" in c and not c.startswith("train ")]
# On runs that are trained from each other; they have a test of their own as well.
DESIGNED = ("_to_shapes", "_to_fashion", "vae_fashion_mlp")
OF_DESIGN = [
    c for c in COMMANDS if any(run in c for run in DESIGNED) and not c.startswith("train ")
]
LARGEST = 6 * 1024  # bytes of the README
EXAMPLE = 60  # lines of a family, a source or an evaluator


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGES[page], flags=re.DOTALL)


def train_tiny(name, run_dir):
    experiment, path = load_config(name, tiny=True)
    experiment = dataclasses.replace(experiment, devices=Devices(count=1))
    genjax.train(experiment, run_dir, source=path, quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("docs")
    texts = ("gpt_docs", "music_jsb_16th", "mdlm_shakespeare", "multi_token_shakespeare")
    others = ("flow_lorenz", "tabddpm_abalone", "video_moving_mnist")
    for name in ("vae_digits", "classifier_digits", *texts, *others):
        run_dir = trained.once(f"docs_{name}", functools.partial(train_tiny, name))
        shutil.copytree(run_dir, folder / "runs" / name)
    # In the place of a run that depends on another, one that draws texts as well.
    shutil.copytree(folder / "runs" / "gpt_docs", folder / "runs" / "sft_rule")
    (folder / "melody.mid").write_bytes(midi_bytes([(67,), (67,), (69,), (71,)], 120, 90.0))
    (folder / "gaps.csv").write_text("Sex,Length,Rings\nF,,9\n,0.5,\n", encoding="utf-8")
    (folder / "prompts.txt").write_text("The\nA list\n", encoding="utf-8")
    return folder


def test_the_front_page_is_short():
    assert len(PAGES["README.md"].encode()) <= LARGEST
    assert len(COMMANDS) >= 25
    unfilled = re.findall(r"\b[A-Z]+_[A-Z]+\b", PAGES["README.md"])
    assert set(unfilled) <= {"RUN_DIR", "GENJAX_DATA"}  # all else is a name that nobody filled in


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    here = ROOT if (ROOT / page).exists() else ROOT / "docs"
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]) if "://" not in link]
    assert all((here / link.split("#")[0]).exists() for link in links)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in OF_SOUND + OF_DESIGN])
def test_a_command_works(command, folder, monkeypatch, capsys):
    """Training commands are read to the last option but not run; `bench` is left to its own
    tests.
    """
    monkeypatch.chdir(folder)
    name, target, *options = shlex.split(command)
    if "--sampler.melody" in options:
        pytest.importorskip("symusic", reason="symusic is not installed: the extra music")
    if name == "watch":
        assert (target, parse(WatchOptions(), name, options)) == ("runs", WatchOptions())
        return
    if name == "bench":
        parsed = parse(BenchOptions(load_config(target)[0]), name, options)
        assert parsed.profile == ("--profile" in options)
        return
    if name in ("sample", "evaluate", "export", "show", "report"):
        assert command_line.main([name, target, *options]) == 0
        assert capsys.readouterr().out
        return
    if name == "compare":
        parsed = parse(CompareOptions(), name, options[1:])
        assert not options[0].startswith("-") and parsed != CompareOptions()
        return
    if name == "sweep":
        assert command_line.main([name, target, *options, "--list"]) == 0
        assert "waiting" in capsys.readouterr().out
        return
    if name == "plan":
        parsed = parse(PlanOptions(load_config(target)[0]), name, options)
        assert all(find_target(machine) for machine in parsed.on)
        return
    if name == "launch":
        if target in ("local", "ssh"):
            assert read_job(target, options[0], options[1:])[1].config == options[0]
        else:
            assert command_line.main([name, target, *options]) == 0
            assert "train" in capsys.readouterr().out
        return
    if name == "data":
        assert (name, target) == ("data", "prepare") and build_config(
            options[0], "--tiny" in options[1:]
        )
        return
    experiment, _ = load_config(target)
    if "--help" in options:
        with pytest.raises(SystemExit, match="0"):
            command_line.main([name, target, *options])
        assert "--family.latent-dim" in capsys.readouterr().out
    else:
        parsed = parse(TrainOptions(experiment), name, options)
        assert bool(options) == (parsed != TrainOptions(experiment))


def test_the_commands_on_sounds_work(tmp_path, monkeypatch):
    pytest.importorskip("librosa", reason="it is of an extra: pip install '.[audio]'")
    monkeypatch.chdir(tmp_path)
    experiment, path = load_config("vae_spoken_digits", tiny=True)
    experiment = dataclasses.replace(experiment, devices=Devices(count=1))
    genjax.train(experiment, tmp_path / "runs" / "vae_spoken_digits", source=path, quiet=True)
    assert {command.split()[0] for command in OF_SOUND} == {"sample", "evaluate"}
    for command in OF_SOUND:
        assert command_line.main(shlex.split(command)) == 0
    assert list(tmp_path.glob("runs/*/samples/*.wav"))


def test_the_python_of_the_front_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("README.md")
    scope: dict = {}
    exec(block, scope)
    assert scope["run"].step == scope["experiment"].steps == 20


def test_weights_go_out_and_come_in(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = genjax.load(folder / "runs" / "vae_digits")
    export(run, out="runs/vae_digits/export/jax", num=3)
    export(genjax.load(folder / "runs" / "gpt_docs"), "huggingface", "models/gpt2")
    (block,) = blocks("interop.md")
    scope: dict = {}
    exec(block, scope)
    np.testing.assert_allclose(scope["images"], run.sample(3), rtol=1e-5, atol=1e-6)
    assert 0 < scope["numbers"]["loss"] < 20


def test_the_config_that_is_shown_is_one(tmp_path):
    (block,) = blocks("configs.md")
    (tmp_path / "mine.py").write_text(block)
    for tiny in (False, True):
        experiment, _ = load_config(str(tmp_path / "mine.py"), tiny)
        assert isinstance(experiment.data, ImageFolder) and experiment.steps == (
            8 if tiny else 20_000
        )


@pytest.mark.parametrize(
    ("number", "metric", "most"),
    [
        (0, "loss", 0.5),
        (1, "loss", 10.0),
        (2, "spread", 3.0),
        (3, "loss", 3.0),
        (4, "loss", 2.0),
    ],
)
def test_whatever_is_ones_own_runs_and_resumes(number, metric, most, tmp_path):
    block = blocks("add_a_family.md")[number]
    assert len(block.splitlines()) < EXAMPLE
    (tmp_path / "mine.py").write_text(block)
    common = ["--run-dir", str(tmp_path / "run"), "--devices.count", "1", "--every.log", "100"]
    for steps in ("100", "200"):
        assert (
            command_line.main(["train", str(tmp_path / "mine.py"), "--steps", steps, *common]) == 0
        )
    run = genjax.load(tmp_path / "run")
    assert run.step == 200 and run.evaluate().numbers[metric] < most
    assert command_line.main(["sample", str(tmp_path / "run"), "--num", "3"]) == 0


def test_the_chain_of_the_store_runs(folder, tmp_path, monkeypatch, capsys):
    """Two runs are sampled into a store, scored, searched, and exported as preferences."""
    pytest.importorskip("sqlalchemy", reason="the store is an extra: pip install '.[store]'")
    pytest.importorskip("lancedb", reason="the store is an extra: pip install '.[store]'")
    for name in ("gpt_docs", "sft_rule"):
        shutil.copytree(folder / "runs" / name, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    count = (
        "def count(prompts, responses):\n    return [sum(map(str.isalpha, r)) for r in responses]"
    )
    (tmp_path / "letters.py").write_text(count)
    lines = [line for line in PAGES["store.md"].splitlines() if line.startswith("genjax ")]
    assert len(lines) == 10
    for line in lines:
        assert command_line.main(shlex.split(line)[1:]) == 0, line
    said = capsys.readouterr().out
    assert re.search(r"response +0 real +16 synthetic", said) and "A list" in said
    scope: dict = {}
    for block in blocks("store.md"):
        exec(block, scope)
    assert scope["liked"] == 1
    rows = (tmp_path / "pairs.jsonl").read_text().splitlines()
    for name in ("pairs", "same_pairs"):
        assert sum(map(len, scope[name].splits.values())) == len(rows) > 0


def test_the_page_on_privacy_holds(tmp_path, monkeypatch, capsys):
    """A store is made, filled, searched, kept, and given another key."""
    for name in ("sqlalchemy", "lancedb", "cryptography"):
        pytest.importorskip(name, reason="the store is an extra: pip install '.[store]'")
    monkeypatch.chdir(tmp_path)
    said = {}
    for line in PAGES["privacy.md"].splitlines():
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        elif line.startswith("genjax "):
            assert command_line.main(shlex.split(line)[1:]) == 0, line
            said[shlex.split(line)[2]] = capsys.readouterr().out
    assert len(said) == 10 and "ann@example.org" in said["search"]
    assert "rows      " in said["rotate"] and "anonymise rules" in said["privacy"]
    assert b"ann@example.org" not in b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )


def test_the_page_on_access_holds(tmp_path, monkeypatch, capsys):
    """A role that sees a part of a store, and a token of it."""
    pytest.importorskip("sqlalchemy", reason="the store is an extra: pip install '.[store]'")
    monkeypatch.chdir(tmp_path)
    lines = [line for line in PAGES["access.md"].splitlines() if line.startswith("genjax ")]
    assert len(lines) == 9
    for line in lines:
        assert command_line.main(shlex.split(line)[1:]) == 0, line
    said = capsys.readouterr().out
    token = (tmp_path / "ben.token").read_text().strip()
    assert (tmp_path / "ben.token").stat().st_mode & 0o777 == 0o600 and token not in said
    assert re.search(r"prompt +1 real", said) and "revoked   1" in said
    assert command_line.main(["store", "show", "talk.db", "--token", "ben.token"]) == 2
    assert "token is unknown, revoked or expired" in capsys.readouterr().err


def test_the_page_on_the_audit_trail_holds(tmp_path, monkeypatch, capsys):
    """Each command runs on a store in which ann has a session."""
    pytest.importorskip("sqlalchemy", reason="the store is an extra: pip install '.[store]'")
    from genjax.store.opening import open_store
    from genjax.store.records import Prompt, Session

    monkeypatch.chdir(tmp_path)
    with open_store("talk.db", create=True) as store:
        store.add(Session(id="s", origin="real", user="ann"), Prompt(origin="real", session="s"))
    lines = [line for line in PAGES["audit.md"].splitlines() if line.startswith("genjax ")]
    assert len(lines) == 10
    for line in lines:
        assert command_line.main(shlex.split(line)[1:]) == 0, line
    said = capsys.readouterr().out
    assert "erase     1 session" in said and "forgotten 2 records" in said
    assert command_line.main(["store", "audit", "verify", "talk.db"]) == 0


@pytest.mark.long
def test_the_page_on_sweeps_holds(tmp_path, monkeypatch, capsys):
    """Its tiny form trains together and as a task; processes are left to their own tests."""
    from genjax.sweep import search, sequence

    monkeypatch.chdir(tmp_path)
    started = []
    for module in (search, sequence):
        train = lambda sweep, entry, *_: started.append(entry.name) or 0  # noqa: E731
        monkeypatch.setattr(module, "train_in_child", train)
    lines = [line for line in PAGES["sweep.md"].splitlines() if line.startswith("genjax ")]
    assert len(lines) == 6
    for line in lines:
        words = shlex.split(line)[1:]
        tiny = (
            ["--tiny", "--every.sample", "0", "--every.evaluate", "0"]
            if words[1] == "vae_digits"
            else []
        )
        if "--search" in words:
            pytest.importorskip("optuna", reason="the search is an extra: pip install '.[search]'")
        assert command_line.main([words[0], words[1], *tiny, *words[2:]]) == 0, line
    said = capsys.readouterr().out
    assert said.count("best") >= 2 and "3 tasks; submit it with: sbatch" in said
    assert started[:2] == ["learning_rate=3e-4,seed=0", "learning_rate=3e-4,seed=1"]
    assert genjax.load("sweeps/together/learning_rate=1e-3,seed=2").step == 16
    assert genjax.load("sweeps/array/seed=2").step == 16


def test_the_page_on_the_server_holds(folder, tmp_path, monkeypatch, capsys):
    """Its command starts and answers, its client is answered."""
    for name in ("fastapi", "sqlalchemy", "openai"):
        pytest.importorskip(name, reason="of extras: pip install '.[serve,store,test]'")
    from tests.serving import Served

    shutil.copytree(folder / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    (line,) = [line for line in PAGES["serve.md"].splitlines() if line.startswith("genjax ")]
    words = shlex.split(line.replace("8000", "0"))[1:]
    assert command_line.main([*words, "--check"]) == 0
    assert '{"status":"ok"}' in capsys.readouterr().out
    (block,) = blocks("serve.md")
    scope: dict = {}
    with Served(["runs/gpt_docs"]) as served:
        exec(block.replace("http://127.0.0.1:8000", served.url), scope)
    assert scope["answer"].usage.completion_tokens == 40


def test_the_page_on_monitoring_runs(folder, tmp_path, monkeypatch, capsys):
    """A server starts and keeps requests; all else reads them, and what was drawn."""
    for name in ("fastapi", "sqlalchemy", "wordllama"):
        pytest.importorskip(name, reason="of extras: pip install '.[serve,store]'")
    from tests.serving import Served

    shutil.copytree(folder / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    lines = [line for line in PAGES["monitoring.md"].splitlines() if line.startswith("genjax ")]
    serves, *rest = (shlex.split(line)[1:] for line in lines)
    assert command_line.main([*serves[:-3], "0", *serves[-2:], "--check"]) == 0
    from genjax.serve.recording import Recorder
    from genjax.store.opening import open_store

    with Served(["runs/gpt_docs"], recorder=Recorder(open_store("watched.db"))) as served:
        body = {"model": "gpt_docs", "prompt": "The ", "max_tokens": 8}
        assert served.ask("/v1/completions", body)[0] == 200
    capsys.readouterr()
    said = []
    for words in rest:
        assert command_line.main(words) == 0, words
        said.append(capsys.readouterr().out)
    assert re.search(r"gpt_docs +1 .* 0\.0000 ", said[0]) and "requests  1" in said[1]
    drift = said[5]
    assert drift.startswith("reference  80 responses\nwindow     80 responses\ntest")
    assert "embedding" in drift and "moved" in said[-1] and "failing" in said[-1]
