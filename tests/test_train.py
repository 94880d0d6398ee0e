"""The loop: exact resume over real processes, signals, non-finite steps, a full disk, one
compilation.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import genjax
from genjax.continued import Continued
from genjax.data.sources import Digits
from genjax.errors import Diverged, UserError
from genjax.experiment import Every, Keep
from genjax.families.likelihoods import Gaussian
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder
from genjax.optim import Adam
from genjax.runs import writers
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.setup import set_up
from genjax.runs.stop import Stop
from genjax.schedules import Constant, Linear
from genjax.training import run_loop
from tests import toy

OFTEN = Every(log=3, evaluate=10, sample=0, checkpoint=10)


def rows(run_dir, split=None):
    found = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in found]
    return [row for row in timeless if split in (None, row["split"])]


def assert_bitwise_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    unkey = lambda s: s.replace(key=jax.random.key_data(s.key))  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, unkey(a), unkey(b))


def go(run_dir, **changes):
    return genjax.train(toy.experiment(**changes), run_dir, quiet=True)


def run_toy(experiment, run_dir):
    """The loop alone: a class defined in a test function cannot be written into a config.json."""
    run_dir.mkdir()
    setup = set_up(experiment, run_dir)
    with Stop() as stop, Checkpoints(setup.run_dir) as checkpoints:
        run_loop(setup, checkpoints, stop, float("inf"), True)


def test_it_learns_and_returns_what_load_returns(run_dir):
    run = go(run_dir, ema=0.9, every=OFTEN)
    losses = [row["loss"] for row in rows(run_dir, "train")]
    assert losses[-1] < 0.5 * losses[0]
    assert [row["step"] for row in rows(run_dir, "train")] == [3, 6, 9, 12, 15, 18, 20]
    assert [row["step"] for row in rows(run_dir, "eval")] == [10, 20]
    assert_bitwise_equal(run.state, genjax.load(run_dir).state)
    assert (run_dir / "plots" / "loss.png").stat().st_size > 1000


def test_a_row_is_the_mean_since_the_row_before_with_the_rate_of_its_step(run_dir, tmp_path):
    optimizer = Adam(Linear(1e-2, 0.0))
    go(run_dir, optimizer=optimizer, every=Every(log=5, evaluate=0, sample=0, checkpoint=0))
    go(tmp_path / "each", optimizer=optimizer)
    each = rows(tmp_path / "each", "train")
    for row in rows(run_dir, "train"):
        window = each[row["step"] - 5 : row["step"]]
        np.testing.assert_allclose(row["loss"], np.mean([r["loss"] for r in window]), rtol=1e-6)
        np.testing.assert_allclose(
            row["learning_rate"], 1e-2 * (1 - (row["step"] - 1) / 20), rtol=1e-5
        )


def test_the_same_command_goes_on_bitwise_in_the_middle_of_a_row(tmp_path):
    """Stopped at step 7 between the rows of 6 and 9, with Adam, EMA, shuffling over epochs and
    several steps.
    """
    settings = dict(optimizer=Adam(), ema=0.99, every=OFTEN, steps=40)
    whole = go(tmp_path / "whole", **settings)
    for steps in (7, 13, 40):
        parts = go(tmp_path / "parts", **settings | {"steps": steps})
    assert_bitwise_equal(whole.state, parts.state)
    # A run of 7 steps ends with rows at 7; all others are the same to the last bit.
    kept = [row for row in rows(tmp_path / "parts") if row["step"] not in (7, 13)]
    after = [row["step"] for row in rows(tmp_path / "whole")]
    assert [row["step"] for row in kept] == after
    same = [
        row for row in kept if row["step"] not in (9, 15)
    ]  # whose windows the ends at 7 and 13 had emptied
    assert same == [row for row in rows(tmp_path / "whole") if row["step"] not in (9, 15)]


PROGRAM = """
import sys
from dataclasses import replace
from genjax.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

CONFIG = '''
"""A VAE whose steps take their time, so that it can be killed in between."""
import time
from dataclasses import dataclass
from genjax.data.sources import Digits
from genjax.experiment import Every, Experiment
from genjax.families.vae import VAE
from genjax.continued import Continued
from genjax.families.likelihoods import Bernoulli
from genjax.nets.mlp import MLPCoder
from genjax.optim import Adam
from genjax.schedules import Cosine
from genjax.parallel import Devices


@dataclass(frozen=True)
class Slow(Continued, VAE):
    delay: float = 0.0

    def collect(self, state, batch, key):
        time.sleep(self.delay)
        return batch


def get_config(tiny=False):
    return Experiment(
        family=Slow(latent_dim=4, coder=MLPCoder(hidden=(32,)), likelihood=Bernoulli(), delay=0.02),
        data=Digits(), optimizer=Adam(Cosine(1e-3), clip=1.0), steps=120, batch_size=64, ema=0.99,
        every=Every(log=7, evaluate=20, sample=0, checkpoint=20), devices=Devices(count=1),
    )
'''


def start(folder, name):
    (folder / "slow.py").write_text(CONFIG)
    command = [sys.executable, "-c", PROGRAM, "train", "slow.py", "--run-dir", name]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in ["", *sys.path])
    }
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )


def heed_signals():
    """Undo what the shell that runs the tests ignores, as nohup and background jobs do."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for_step(run_dir, step, process):
    """However busy the machine is: only an end of the process ends it without the step, and
    without a checkpoint, which is written beside the steps.
    """
    while process.poll() is None:
        saved = any(path.name.isdigit() for path in (run_dir / "checkpoints").glob("*"))
        if (
            saved
            and (run_dir / "metrics.jsonl").exists()
            and any(row["step"] >= step for row in rows(run_dir))
        ):
            return
        time.sleep(0.05)
    raise AssertionError(f"{run_dir} never came to step {step}: {process.stderr.read()}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = start(folder, "whole")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return folder / "whole"


@pytest.mark.parametrize(
    "signals",
    [
        {signal.SIGKILL: -9, signal.SIGTERM: 143},
        pytest.param({signal.SIGINT: 130, signal.SIGHUP: 129}, marks=pytest.mark.long),
    ],
    ids=["kill", "hangup"],
)
def test_killed_and_started_again_equals_uninterrupted_bitwise(tmp_path, uninterrupted, signals):
    """One run is ended by each signal in turn, and started again."""
    saved = 0
    for step, (number, code) in zip((28, 70), signals.items(), strict=True):
        process = start(tmp_path, "killed")
        wait_for_step(tmp_path / "killed", step, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == code, errors
        assert not saved or f"resuming from step {saved}" in errors
        stopped = rows(tmp_path / "killed")[-1]["step"]
        assert stopped < 120
        saved = max(
            int(p.name) for p in (tmp_path / "killed" / "checkpoints").iterdir() if p.name.isdigit()
        )
        assert saved % 20 == 0 if number == signal.SIGKILL else saved >= stopped
    again = start(tmp_path, "killed")
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert f"resuming from step {saved}" in errors
    assert_bitwise_equal(genjax.load(uninterrupted).state, genjax.load(tmp_path / "killed").state)
    assert rows(uninterrupted) == rows(tmp_path / "killed")


def test_a_finished_run_says_so(run_dir, capfd):
    go(run_dir)
    before = (run_dir / "metrics.jsonl").read_text()
    go(run_dir)
    assert "is finished: step 20 of 20" in capfd.readouterr().err
    assert (run_dir / "metrics.jsonl").read_text() == before


def test_a_time_limit_saves_and_the_same_call_goes_on(run_dir):
    first = genjax.train(toy.experiment(), run_dir, quiet=True, max_minutes=0)
    assert first.step == 1
    assert_bitwise_equal(go(run_dir).state, go(run_dir.parent / "whole").state)


def test_the_step_is_traced_once(run_dir):
    traces = []

    @dataclass(frozen=True)
    class Counting(toy.Toy):
        def train_step(self, state, batch, *, optimizer, axis=None):
            traces.append(axis)
            return super().train_step(state, batch, optimizer=optimizer, axis=axis)

    experiment = toy.experiment(family=Counting(), every=OFTEN)
    run_toy(experiment, run_dir)
    assert len(traces) == 1


def test_three_non_finite_steps_in_a_row_stop_the_run(run_dir):
    every = Every(log=1, evaluate=0, sample=0, checkpoint=5)
    with pytest.raises(
        Diverged, match="steps 13 to 15 were not finite.*last good checkpoint is step 10"
    ):
        go(run_dir, family=toy.Toy(breaks_at=12, breaks_for=9), every=every)
    assert genjax.load(run_dir).step == 10
    assert [row["loss"] for row in rows(run_dir)][12:] == [None, None]


def test_fewer_are_skipped_and_leave_no_trace_in_the_parameters(run_dir):
    run = go(run_dir, family=toy.Toy(breaks_at=4, breaks_for=2))
    assert run.step == 20 and run.state.opt_state.updates == 18
    assert [row["skipped"] for row in rows(run_dir)].count(1.0) == 2
    assert rows(run_dir)[-1]["loss"] < rows(run_dir)[0]["loss"]


def test_no_checkpoint_is_written_of_a_step_that_was_not_finite(run_dir):
    every = Every(log=1, evaluate=0, sample=0, checkpoint=5)
    go(run_dir, family=toy.Toy(breaks_at=9, breaks_for=1), every=every, keep=Keep(newest=9))
    assert sorted(int(p.name) for p in (run_dir / "checkpoints").iterdir()) == [5, 15, 20]


def test_a_run_whose_last_step_is_not_finite_is_finished_all_the_same(run_dir):
    """The bad update was skipped, so the state is that of the step before, and no later step
    could be waited for.
    """
    run = go(run_dir, family=toy.Toy(breaks_at=19, breaks_for=1))
    assert run.step == genjax.load(run_dir).step == 20
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.state.params))


def test_a_stop_waits_for_a_finite_step(run_dir):
    experiment = toy.experiment(family=toy.Toy(breaks_at=0, breaks_for=2))
    assert genjax.train(experiment, run_dir, quiet=True, max_minutes=0).step == 3


@pytest.mark.parametrize(
    "name", ["environment.json", "codec.json", "metrics.jsonl", "checkpoints/10/metrics/metrics"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"5", b"null", b'{"a": 1}', b"\xff\xfe"])
def test_a_damaged_record_costs_no_checkpoint(finished, tmp_path, name, content):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    run = go(tmp_path / "run", steps=24, every=OFTEN)
    assert run.step == 24
    assert_bitwise_equal(run.state, genjax.load(tmp_path / "run").state)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    go(run_dir, every=OFTEN)
    return run_dir


def test_a_full_disk_leaves_the_copy_of_the_config_whole(run_dir, tmp_path, monkeypatch):
    source = tmp_path / "mine.py"
    source.write_text("# a config", encoding="utf-8")
    genjax.train(toy.experiment(steps=5), run_dir, source=source, quiet=True)
    kind = type(epath.Path("."))
    write = kind.write_bytes

    def full(self, content):
        if content == b"# another":
            write(self, b"#")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    source.write_text("# another", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(kind, "write_bytes", full)
        with pytest.raises(UserError, match="no space left"):
            genjax.train(toy.experiment(), run_dir, source=source, quiet=True)
    assert (run_dir / "config.py").read_text(encoding="utf-8") == "# a config"
    assert not [path for path in run_dir.iterdir() if path.name.endswith(".new")]


def test_a_config_may_be_mended_before_the_first_step_and_not_after(run_dir):
    bad = replace(toy.experiment().optimizer, freeze=("typo",))
    with pytest.raises(UserError, match="typo"):
        go(run_dir, optimizer=bad)
    go(run_dir, steps=5)
    (run_dir / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="holds another config"):
        go(run_dir, seed=3)


def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_afterwards(run_dir, monkeypatch):
    row = writers.Writers.write_row

    def full(self, step, split, numbers):
        if step == 17:
            raise OSError(errno.ENOSPC, "No space left on device")
        row(self, step, split, numbers)

    every = Every(log=1, evaluate=0, sample=0, checkpoint=5)
    with monkeypatch.context() as patch:
        patch.setattr(writers.Writers, "write_row", full)
        with pytest.raises(UserError, match="no space left on the disk"):
            go(run_dir, every=every)
    assert genjax.load(run_dir).step == 15
    assert_bitwise_equal(
        go(run_dir, every=every).state, go(run_dir.parent / "whole", every=every).state
    )


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.long
def test_a_disk_that_is_really_full_is_one_line_and_the_run_goes_on_once_there_is_room(small_disk):
    options = ["--steps", "40", "--every.log", "20", "--every.evaluate", "0", "--every.sample", "0"]
    command = [sys.executable, "-m", "genjax", "train", "vae_digits", "--run-dir", "run", *options]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in ["", *sys.path])
    }
    settings = dict(cwd=small_disk, env=environment, capture_output=True, text=True, timeout=300)
    full = subprocess.run([*command, "--every.checkpoint", "20"], **settings)
    told = [line for line in full.stderr.splitlines() if not line.startswith("step ")]
    assert (
        full.returncode == 2
        and len(told) == 1
        and f"no space left on the disk {small_disk}" in told[0]
    ), full.stderr
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    again = subprocess.run(command, **settings)
    assert again.returncode == 0, again.stderr
    assert genjax.load(small_disk / "run").step == 40


def test_a_run_directory_of_another_config_is_refused_with_its_differences(run_dir):
    go(run_dir)
    with pytest.raises(
        UserError, match=r"seed: 0 -> 1; optimizer.clip: None -> 1.0|optimizer.clip.*seed"
    ):
        go(run_dir, seed=1, optimizer=replace(toy.experiment().optimizer, clip=1.0))
    with pytest.raises(UserError, match="family: Toy -> VAE"):
        go(run_dir, family=VAE())
    before = (run_dir / "config.json").read_text()
    go(run_dir, steps=22, every=OFTEN, data=toy.ToyData(root="there"))
    assert (run_dir / "config.json").read_text() != before
    assert genjax.load(run_dir).step == 22


def test_a_folder_that_is_no_run_directory_is_left_alone(run_dir):
    run_dir.mkdir()
    (run_dir / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="must be empty or a run directory"):
        go(run_dir)
    assert [p.name for p in run_dir.iterdir()] == ["thesis.txt"]


def test_data_that_have_changed_are_refused(run_dir, monkeypatch):
    go(run_dir, steps=5)
    opened = toy.ToyData(bias=1.0).open()
    monkeypatch.setattr(toy.ToyData, "open", lambda self: opened)
    with pytest.raises(UserError, match="data have changed"):
        go(run_dir)


def test_collect_runs_on_the_host_before_every_step(run_dir):
    seen = []

    @dataclass(frozen=True)
    class Collecting(Continued, toy.Toy):
        def collect(self, state, batch, key):
            seen.append((int(state.step), np.asarray(jax.random.key_data(key)).tolist()))
            return {name: np.zeros_like(value) for name, value in batch.items()} | {
                "mask": np.ones(16, np.float32)
            }

    experiment = toy.experiment(family=Collecting(), steps=3)
    run_toy(experiment, run_dir)
    assert [step for step, _ in seen] == [0, 1, 2]
    assert len({tuple(key) for _, key in seen}) == 3
    assert [row["loss"] for row in rows(run_dir)] == [0.0, 0.0, 0.0]
    with pytest.raises(UserError, match="steps_per_dispatch must be 1"):
        replace(experiment, steps_per_dispatch=3, every=Every(0, 0, 0, 0))
    with pytest.raises(UserError, match="Collecting collects on the host: .* no augment"):
        replace(experiment, augment=(AddNoise(0.5),))


def test_augmentation_is_compiled_seeded_by_the_step_and_repeats(tmp_path):
    runs = [tmp_path / name for name in ("a", "b", "plain")]
    for run_dir in runs[:2]:
        go(run_dir, augment=(AddNoise(0.5),))
    go(runs[2])
    a, b, plain = ([row["loss"] for row in rows(run_dir)] for run_dir in runs)
    assert a == b and a != plain


@dataclass(frozen=True)
class AddNoise:
    scale: float

    def __call__(self, key, batch):
        return batch | {
            "points": batch["points"] + self.scale * jax.random.normal(key, batch["points"].shape)
        }


def test_bfloat16_trains_to_about_the_same_loss(tmp_path):
    settings = dict(
        family=VAE(latent_dim=4, coder=MLPCoder((32,))),
        data=Digits(),
        optimizer=Adam(Constant(1e-3)),
        steps=60,
    )
    exact = go(tmp_path / "exact", **settings)
    rounded = go(tmp_path / "rounded", **settings | {"precision": "bfloat16"})
    a, b = (rows(r.run_dir, "train")[-1]["loss"] for r in (exact, rounded))
    assert a != b
    np.testing.assert_allclose(a, b, rtol=0.03)
    assert {x.dtype for x in jax.tree.leaves(rounded.state.params)} == {jnp.dtype("float32")}


def test_a_learned_variance_is_not_rounded(tmp_path):
    """0.1 and 0.1005 are one number in bfloat16."""
    rounded = dict(data=Digits(), precision="bfloat16", steps=1)
    losses = [
        go(
            tmp_path / str(value),
            family=VAE(coder=MLPCoder((8,)), likelihood=Gaussian("shared", value)),
            **rounded,
        )
        for value in (0.1, 0.1005)
    ]
    a, b = (rows(run.run_dir, "train")[0]["loss"] for run in losses)
    assert a != b
