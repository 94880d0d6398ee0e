"""Evaluation and sampling are compiled in threads before they are due."""

import threading
from dataclasses import dataclass

import jax
import pytest

from genjax.evaluation.ahead import Ahead
from genjax.experiment import Every
from genjax.parallel import Devices
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.setup import set_up
from genjax.runs.stop import Stop
from genjax.training import run_loop
from tests import toy

PLACES = {
    "single": Devices(count=1),
    "pmapped": Devices(count=4),
    "sharded": Devices(count=4, mode="sharded", fsdp=2),
}


def traced_where(run_dir, devices, **changes):
    """Train a toy; return what was traced in which thread, in which order."""
    traced = []

    def note(name):
        traced.append((name, threading.current_thread().name.partition("_")[0]))

    @dataclass(frozen=True)
    class Noting(toy.Toy):
        def evaluate(self, state, batch, key):
            note("evaluate")
            return super().evaluate(state, batch, key)

        def sample(self, state, key, n, options):
            note("sample")
            return super().sample(state, key, n, options)

    experiment = toy.experiment(family=Noting(), devices=devices, **changes)
    run_dir.mkdir()
    setup = set_up(experiment, run_dir)
    with Stop() as stop, Checkpoints(setup.run_dir) as checkpoints:
        run_loop(setup, checkpoints, stop, float("inf"), True)
    return traced


@pytest.mark.parametrize("mode", PLACES)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_each_is_traced_and_compiled_once_in_its_thread(run_dir, mode, ema):
    every = Every(log=1, evaluate=10, sample=10, checkpoint=0)
    compiled = []

    def listen(name, seconds, fun_name="", **more):
        if name.endswith("backend_compile_duration") and fun_name in ("jit(both)", "jit(sample)"):
            compiled.append((fun_name, threading.current_thread().name.partition("_")[0]))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        traced = traced_where(run_dir, PLACES[mode], ema=ema, every=every)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert sorted(compiled) == [("jit(both)", "compile"), ("jit(sample)", "compile")]
    assert sorted(traced) == [("evaluate", "compile"), ("sample", "compile")]


def test_what_is_never_due_is_not_compiled(run_dir):
    every = Every(log=1, evaluate=0, sample=0, checkpoint=0)
    assert traced_where(run_dir, Devices(count=1), every=every) == []


def test_an_error_is_left_to_who_needs_the_program():
    def fail():
        raise ValueError("no")

    with Ahead() as ahead:
        ahead.start("evaluate", fail)
        ahead.wait("evaluate")
        ahead.wait("sample")
