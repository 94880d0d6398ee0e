"""Runs that train together by vmap: the numbers, files and checkpoints of single runs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal

import jax
import numpy as np
import pytest
from etils import epath

import genjax
from genjax import __main__ as command_line
from genjax import gx
from genjax.config_files import load_config
from genjax.errors import UserError
from genjax.family import make_example
from genjax.optim import Adam, Players
from genjax.runs.first_state import first_state
from genjax.runs.setup import set_up
from genjax.runs.writers import read_rows
from genjax.schedules import Constant, Linear, WarmUp
from genjax.sweep import members, numbers, vmapped
from genjax.sweep.directory import read_sweep
from tests import toy

CONFIG = """
from tests import toy
from genjax.experiment import Every

def get_config(tiny=False):
    return toy.experiment(steps=8, every=Every(log=2, evaluate=4, sample=0, checkpoint=4))
"""
VAE = """
from genjax import gx
from genjax.config_files import load_config

def get_config(tiny=False):
    changes = {"evaluators": (), "devices.count": 1, "every.sample": 0}
    return gx.replace_fields(load_config("vae_digits", tiny=True)[0], changes)
"""
SEEDS = ["--seeds", "3"]
RATE = "optimizer.learning_rate.value"


def rows_of(run_dir):
    rows = read_rows(epath.Path(run_dir) / "metrics.jsonl")
    own = ("time/", "split")
    return [{k: v for k, v in row.items() if not k.startswith(own)} for row in rows]


def same(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def arrays(run):
    return jax.device_get((run.state.params, run.state.ema, run.state.opt_state))


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CONFIG, encoding="utf-8")
    return str(tmp_path / "mine.py")


@pytest.mark.long
def test_three_seeds_together_are_three_seeds_in_sequence(tmp_path, capsys):
    """And each is loaded, evaluated and resumed as a single run."""
    out, config = tmp_path / "s", tmp_path / "vae.py"
    config.write_text(VAE, encoding="utf-8")
    assert command_line.main(["sweep", str(config), "--out", str(out), *SEEDS, "--vmapped"]) == 0
    assert re.search(r"loss +95 % +runs\n *[\d.]+ +± [\d.]+ +3 +best\n", capsys.readouterr().out)
    base = load_config(str(config))[0]
    for seed in range(3):
        one = dataclasses.replace(base, seed=seed)
        alone = genjax.train(one, tmp_path / f"{seed}", quiet=True)
        run = genjax.load(out / f"seed={seed}")
        assert run.experiment == one
        same(arrays(run), arrays(alone))
        np.testing.assert_array_equal(*(jax.random.key_data(r.state.key) for r in (run, alone)))
        mine, its = rows_of(run.run_dir), rows_of(alone.run_dir)
        assert [row.keys() for row in mine] == [row.keys() for row in its] and len(mine) == 6
        same(mine, its)
    assert run.evaluate().numbers["loss"] == pytest.approx(mine[-1]["loss"])
    longer = dataclasses.replace(one, steps=20)
    resumed = [genjax.train(longer, made.run_dir, quiet=True) for made in (run, alone)]
    assert resumed[0].step == 20
    same(*map(arrays, resumed))


def test_together_runs_stop_resume_and_lose_the_diverged(config, tmp_path, capsys, monkeypatch):
    """A signal saves all; the next call continues; a run that diverges does not stop the rest."""
    receive, seen = members.Follower.receive, []

    def interrupt(self, last, metrics):
        receive(self, last, metrics)
        seen.append(last)
        if last == 3 and len(seen) < 20:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(members.Follower, "receive", interrupt)
    rates = ["--optimizer.learning-rate.value", "1e-2,2e-2,1e30"]
    words = ["sweep", config, "--out", "s", *rates, "--vmapped"]
    with pytest.raises(SystemExit, match="143"):
        command_line.main(words)
    sweep = read_sweep(tmp_path / "s")
    assert [sweep.read_state(entry) for entry in sweep.runs] == ["started", "started", "failed"]
    assert genjax.load("s/learning_rate=0.01,seed=0").step == 4
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert command_line.main(words) == 0
    shown = capsys.readouterr().out
    assert "not finite" in shown and "failed" in shown
    alone = genjax.train(
        gx.replace_fields(load_config(config)[0], {RATE: 2e-2}), "alone", quiet=True
    )
    same(arrays(genjax.load("s/learning_rate=0.02,seed=0")), arrays(alone))
    results = json.loads((tmp_path / "s" / "sweep.json").read_text("utf-8"))["results"]
    assert [row["failed"] for row in results["combinations"]] == [0, 0, 1]
    assert results["best"]["values"] in ({RATE: 1e-2}, {RATE: 2e-2})


def test_too_little_memory_parts_the_runs(config, tmp_path, capsys, monkeypatch):
    groups = []
    train = vmapped._train_group
    monkeypatch.setattr(vmapped.checks, "room", lambda available=None: 5e5)
    monkeypatch.setattr(vmapped.Program, "measure", lambda self, count: count * 2e5)
    monkeypatch.setattr(
        vmapped, "_train_group", lambda *a: (groups.append(len(a[1])), train(*a))[0]
    )
    assert command_line.main(["sweep", config, "--out", "s", "--seeds", "3", "--vmapped"]) == 0
    assert groups == [2, 1] and "2 at once" in capsys.readouterr().err
    monkeypatch.undo()
    program = vmapped.Program(set_up(toy.experiment()), ())
    one, two = program.measure(1), program.measure(2)
    state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(program.setup.target.params))
    assert one + state < two < 3 * one


def test_a_number_that_decides_the_program_is_refused_by_name():
    experiment = load_config("vae_digits", tiny=True)[0]
    setup = set_up(gx.replace_fields(experiment, {"devices.count": 1}))
    batch = make_example(setup.data.spec)
    numbers.check_numbers(
        setup.experiment, [RATE, "family.beta.end", "optimizer.clip"], setup.target, batch
    )
    with pytest.raises(UserError) as error:
        numbers.check_numbers(
            setup.experiment, [RATE, "optimizer.weight_decay"], setup.target, batch
        )
    assert error.value.field == "optimizer.weight_decay"
    for name, values in [
        ("family.latent_dim", (4, 8)),
        ("optimizer.clip", (None, 1.0)),
        ("every.log", (1, 2)),
        ("data.bias", (0.0, 1.0)),
    ]:
        with pytest.raises(UserError) as error:
            numbers.check_together([{name: value} for value in values], [name])
        assert error.value.field == name


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (Adam(Constant(0.5)), "optimizer.learning_rate.value"),
        (Adam(WarmUp(4, Linear(1.0, 0.5))), "optimizer.learning_rate.then.start"),
        (Adam(Constant(0.5), b1=0.5), "optimizer.eps"),
    ],
    ids=["constant", "inner", "eps"],
)
def test_an_array_enters_where_the_number_was(optimizer, name):
    experiment = toy.experiment(optimizer=optimizer)
    state = first_state(set_up(experiment)).state
    batch = {"points": np.ones((16, toy.DIM), np.float32), "mask": np.ones(16, np.float32)}
    array = jax.jit(lambda x: numbers.build_step(experiment, {name: x})(state, batch, None))
    made = {value: jax.device_get(array(value)) for value in (0.25, 0.75)}
    for value, (after, metrics) in made.items():
        changed = gx.replace_fields(experiment, {name: value})
        alone, its = jax.jit(lambda e=changed: numbers.build_step(e, {})(state, batch, None))()
        same(after.params, jax.device_get(alone.params))
        same(metrics.pairs, jax.device_get(its.pairs))
    first, second = (after.params["w"]["kernel"] for after, _ in made.values())
    assert np.abs(first - second).max() > 1e-3


def test_the_rates_of_two_players_are_their_own():
    players = Players(Adam(Constant(1.0)), Adam(Constant(2.0)), discriminator_steps=1)
    experiment = toy.experiment(optimizer=players)
    rules = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "make_step", lambda _, rule: rules.append(rule))
        numbers.build_step(experiment, {"optimizer.generator.learning_rate.value": np.float32(3)})
    assert float(rules[0]["generator"].learning_rate(0)) == 3
    assert float(rules[0]["discriminator"].learning_rate(0)) == 2
