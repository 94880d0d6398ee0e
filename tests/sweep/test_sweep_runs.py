"""A sweep from its start to its table: failing runs, signals, array jobs and searches."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath
from scipy import stats

import genjax
from genjax import __main__ as command_line
from genjax.errors import Diverged, UserError
from genjax.experiment import Keep
from genjax.runs.lease import Lease
from genjax.sweep import search, sequence
from genjax.sweep.directory import find_pending, read_sweep, write_failure
from genjax.sweep.table import Metric, Row, choose_metric, make_table, print_table

ROOT = Path(__file__).parent.parent.parent
RATE = "optimizer.learning_rate.value"
CONFIG = """
import os
import signal
from dataclasses import dataclass

from genjax.experiment import Every
from tests import toy


@dataclass(frozen=True)
class Points(toy.ToyData):
    dies: bool = False

    def open(self):
        if self.dies:  # as a process that needs too much memory
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open()


def get_config(tiny=False):
    every = Every(log=2, evaluate=4, sample=0, checkpoint=4)
    return toy.experiment(data=Points(), steps=8, every=every)
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    (tmp_path / "mine.py").write_text(CONFIG, encoding="utf-8")
    return str(tmp_path / "mine.py")


@pytest.fixture
def in_process(monkeypatch):
    """Train in this process: a child takes seconds to start."""
    taken = []

    def train(sweep, entry, stop, is_enough=lambda: False):
        taken.append(entry.name)
        try:
            sequence.train_task(sweep, [e.name for e in sweep.runs].index(entry.name))
        except UserError:
            return 2
        except Diverged:
            return 3
        is_enough()
        return 0

    for module in (sequence, search):
        monkeypatch.setattr(module, "train_in_child", train)
    return taken


def run(*words: str) -> int:
    return command_line.main(["sweep", *words])


@pytest.mark.long
def test_a_killed_run_does_not_stop_the_others(config, tmp_path, capfd):
    """Each is a process of its own, whose lines are kept."""
    assert run(config, "--out", "s", "--data.dies", "true,false") == 0
    said = capfd.readouterr()
    sweep = read_sweep(tmp_path / "s")
    assert [sweep.read_state(entry) for entry in sweep.runs] == ["failed", "finished"]
    assert "failed  dies=true,seed=0: it was killed (signal 9)" in said.out
    assert "[1/2] failed: it was killed" in said.err and "held out 8/8" in said.err
    assert "held out 8/8" in (tmp_path / "s/logs/dies=false,seed=0.log").read_text("utf-8")


def test_failing_runs_are_named_and_the_rest_is_kept(config, tmp_path, in_process, capsys):
    """A refused and a diverged run; the next call trains only what is missing or retried."""
    words = [config, "--out", "s", "--optimizer.learning-rate.value", "1e-2,1e30"]
    assert run(*words, "--batch-size", "16,1000") == 0
    shown = capsys.readouterr().out
    sweep = read_sweep(tmp_path / "s")
    states = {entry.name: sweep.read_state(entry) for entry in sweep.runs}
    assert states == {
        "learning_rate=0.01,batch_size=16,seed=0": "finished",
        "learning_rate=0.01,batch_size=1000,seed=0": "finished",
        "learning_rate=1e30,batch_size=16,seed=0": "failed",
        "learning_rate=1e30,batch_size=1000,seed=0": "failed",
    }
    assert "failed  learning_rate=1e30,batch_size=16,seed=0: steps 2 to 4 were not finite" in shown
    in_process.clear()
    assert run(*words, "--batch-size", "16,1000", "--seeds", "2") == 0
    assert len(in_process) == 4 and all(name.endswith("seed=1") for name in in_process)
    in_process.clear()
    assert run("s") == 0 and in_process == []
    assert run("s", "--retry") == 0 and len(in_process) == 4
    with (tmp_path / "s" / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["finished"] for row in rows] == ["2", "2", "0", "0"]
    assert [row["failed"] for row in rows] == ["0", "0", "2", "2"]
    losses = [genjax.load(f"s/{e.name}").evaluate().numbers["loss"] for e in sweep.runs[:1]]
    results = json.loads((tmp_path / "s" / "sweep.json").read_text("utf-8"))["results"]
    assert results["combinations"][0]["figures"][0] == pytest.approx(losses[0])
    assert sum(int(row["best"]) for row in rows) == 1 and rows[0]["low"] < rows[0]["loss mean"]


def test_a_metric_that_no_run_has_is_refused_with_the_nearest(config, in_process, capsys):
    assert run(config, "--out", "s", "--seeds", "2") == 0
    assert run("s", "--table", "--metric", "train/grad_norm") == 0
    assert "train/grad_norm: mean over seeds of the last row of training" in capsys.readouterr().out
    assert run("s", "--table", "--metric", "losss") == 2
    assert "metric" in (said := capsys.readouterr().err) and "did you mean 'loss'" in said
    for words in (["--task", "2"], ["--task", "-1"], ["--task", "0", "--table"], ["--seeds", "2"]):
        assert run("s", *words) == 2
    assert run("nowhere") == 2


def test_a_signal_is_passed_on_once_and_ends_the_sweep(config, tmp_path, monkeypatch):
    """The child saves and ends; what it was training is not a failure."""
    sent = []

    class Child:
        def __init__(self, command, **options):
            assert options["start_new_session"] and command[-2:] == ["--task", "0"]
            self.stderr, self.looks = io.BytesIO(), 0

        def wait(self, timeout=None):
            self.looks += 1
            if self.looks == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            if self.looks < 4:
                raise subprocess.TimeoutExpired("child", timeout)
            return 143

        def terminate(self):
            sent.append(signal.SIGTERM)

    monkeypatch.setattr(sequence.subprocess, "Popen", Child)
    with pytest.raises(SystemExit, match="143"):
        run(config, "--out", "s", "--seeds", "2")
    sweep = read_sweep(tmp_path / "s")
    assert sent == [signal.SIGTERM]
    assert [sweep.read_state(entry) for entry in sweep.runs] == ["waiting"] * 2


@pytest.mark.long
def test_an_array_job_trains_each_run_by_its_number(config, tmp_path, in_process):
    assert run(config, "--out", "s", "--seeds", "4", "--array") == 0
    assert in_process == []
    assert run("s", "--task", "1") == 0
    assert run("s", "--array") == 0
    sweep = read_sweep(tmp_path / "s")
    assert [number for number, _ in find_pending(sweep, False)] == [0, 2, 3]
    text = (tmp_path / "s" / "array.sh").read_text("utf-8")
    assert "#SBATCH --array=0,2-3\n" in text and f"{sys.executable} -m genjax sweep" in text
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "3"}
    subprocess.run(["bash", "s/array.sh"], check=True, env=environment, capture_output=True)
    assert [sweep.read_state(e) for e in sweep.runs] == ["waiting", "finished"] * 2


def test_a_run_that_another_process_trains_has_not_failed(config, tmp_path, in_process, capsys):
    assert run(config, "--out", "s", "--seeds", "2", "--array") == 0
    sweep = read_sweep(tmp_path / "s")
    with Lease(epath.Path(sweep.find_run(sweep.runs[0]))):
        assert run("s", "--task", "0") == 2
        assert sweep.read_state(sweep.runs[0]) == "waiting"
        assert run("s", "--vmapped") == 0
    assert "seed=0 cannot train" in capsys.readouterr().err
    assert [sweep.read_state(entry) for entry in sweep.runs] == ["waiting", "finished"]


def test_the_interval_is_students_and_the_best_has_the_fewest_failures():
    row = Row({}, (1.0, 2.0, 4.0))
    low, high = stats.t.interval(0.95, 2, row.mean, stats.sem(row.figures))
    assert (row.mean - row.half, row.mean + row.half) == pytest.approx((low, high))
    assert math.isnan(Row({}, (1.0,)).half)
    keep = Keep(best="fid", larger_is_better=True)
    assert choose_metric(keep, True, None, None) == Metric("fid", True)
    assert choose_metric(keep, True, "loss", None) == Metric("loss", False)
    assert choose_metric(keep, False, None, None) == Metric("train/loss", False)
    assert choose_metric(keep, True, "kl", True) == Metric("kl", True)


def test_the_best_is_chosen_by_the_direction_and_without_failures(
    config, tmp_path, in_process, capsys
):
    rates = "1e-3,1e-2,2e-2"
    assert run(config, "--out", "s", "--optimizer.learning-rate.value", rates, "--seeds", "2") == 0
    sweep = read_sweep(tmp_path / "s")
    smaller, larger = (make_table(sweep, Metric("loss", larger)) for larger in (False, True))
    means = [row.mean for row in smaller.rows]
    assert smaller.best.mean == min(means) and larger.best.mean == max(means)
    assert "larger is better" in print_table(larger)
    best = [e for e in sweep.runs if e.values[RATE] == smaller.best.values[RATE]]
    for path in (sweep.find_run(best[0]) / "checkpoints").iterdir():
        path.rename(sweep.folder / path.name)
    write_failure(sweep.find_run(best[0]), -9, "it was killed")
    assert make_table(sweep, Metric("loss")).best.mean == sorted(means)[1]


@pytest.mark.long
def test_a_search_finds_prunes_and_continues(config, tmp_path, in_process, capsys):
    pytest.importorskip("optuna", reason="the search is an extra: pip install '.[search]'")
    words = [config, "--out", "s", "--optimizer.learning-rate.value", "1e-4..2e-2:log"]
    words += ["--family.hidden", "2,4", "--seeds", "2"]
    assert run(*words, "--search", "3") == 0
    sweep = read_sweep(tmp_path / "s")
    assert len(sweep.runs) == len(in_process) == 6
    assert all(1e-4 <= entry.values[RATE] <= 2e-2 for entry in sweep.runs)
    assert all("hidden=" in entry.name for entry in sweep.runs)
    before = list(in_process)
    assert run(*words, "--search", "5") == 0
    assert in_process[:6] == before and len(in_process) <= 10
    assert len({entry.values[RATE] for entry in read_sweep(tmp_path / "s").runs}) == 5
    capsys.readouterr()
    assert run(*words[:-2], "--search", "6") == 2
    assert "seeds: [0, 1] -> [0]" in capsys.readouterr().err
    assert run(config, "--out", "t", "--search", "3") == 2 and not Path("t").exists()
    assert run(*words, "--search", "200") == 2


def test_a_search_without_its_package_names_the_extra(config, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(config, "--out", "s", "--steps", "4..8", "--search", "2") == 2
    assert "genjax-train[search]" in capsys.readouterr().err and not Path("s").exists()


def test_a_run_much_worse_than_the_others_is_ended(config, tmp_path, in_process):
    optuna = pytest.importorskip("optuna", reason="an extra: pip install '.[search]'")
    assert run(config, "--out", "s") == 0
    sweep = read_sweep(tmp_path / "s")
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=2))
    verdicts = []
    for scale in (0.1, 0.1, 0.1, 10.0):
        judge = search._Judge(study.ask(), sweep, sweep.runs[0], Metric("loss"))
        rows = sweep.find_run(sweep.runs[0]) / "metrics.jsonl"
        rows.write_text(
            "".join(
                json.dumps({"step": step, "split": "eval", "loss": scale * (9 - step)}) + "\n"
                for step in (2, 4)
            ),
            encoding="utf-8",
        )
        verdicts.append(judge())
        study.tell(judge._trial, scale)
    assert verdicts == [False, False, False, True] and "pruned at step 2" in judge.reason
