"""Judging: every example counts once, the average is judged, draws repeat, pictures have their size."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel, runs
from genjax.data.pictures import CELL, GAP
from genjax.data.sources import Digits, Points
from genjax.data.stream import padded
from genjax.errors import UserError
from genjax.evaluation.judge import Findings, Subject, default_split, held_out_metrics, judge, sampled
from genjax.evaluation.reconstruction import Interpolations, Reconstructions
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder
from genjax.parallel import Devices
from tests import toy


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


@dataclass(frozen=True)
class Counting(toy.Toy):
    """Besides its loss, how many rows it saw, their sum, and a draw."""

    def evaluate(self, state, batch, key):
        ones = jnp.ones_like(batch["mask"])
        noise = jax.random.normal(key, ())
        return super().evaluate(state, batch, key) | {
            "points": toy.Mean.of(batch["points"].sum(-1), batch["mask"]),
            "rows": toy.Mean((ones * batch["mask"]).sum(), jnp.ones(())),
            "noise": toy.Mean(noise, jnp.ones(())),
        }


def a_state(experiment):
    """The state of step 0 with an average that is not the parameters."""
    state = runs.initial_state(experiment, experiment.data.open().spec)()
    return state.replace(ema=jax.tree.map(lambda p: 0.5 * p + 0.1, state.params))


def direct_loss(params, x):
    again = x @ np.asarray(params["w"]["kernel"]) @ np.asarray(params["v"]["kernel"])
    return np.square(again - x).sum(-1).mean()


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40, 64])  # of 40 examples
def test_every_held_out_example_counts_exactly_once(layout, batch_size):
    experiment = toy.experiment(family=Counting())
    split = experiment.data.open().splits["test"]
    state = a_state(experiment)
    compiled = layout.compile_evaluation(experiment.family.evaluate)
    found = held_out_metrics(layout, compiled, state, split, batch_size, jax.random.key(0))
    x = split.batch(np.arange(len(split)))["points"]
    np.testing.assert_allclose(found["loss"], direct_loss(state.params, x), rtol=1e-5)
    np.testing.assert_allclose(found["points"], x.sum(-1).mean(), rtol=1e-4)
    batches = len(list(padded(split, batch_size)))
    np.testing.assert_allclose(found["rows"] * batches, 40, rtol=1e-6)
    assert all(type(value) is float for value in found.values())


def test_eight_devices_find_the_same():
    experiment = toy.experiment()
    split, state = experiment.data.open().splits["test"], a_state(experiment)
    layouts = [parallel.start(Devices(count=count)) for count in (1, 8)]
    one, eight = (
        held_out_metrics(x, x.compile_evaluation(experiment.family.evaluate), state, split, 16, jax.random.key(0))
        for x in layouts
    )
    np.testing.assert_allclose(one["loss"], eight["loss"], rtol=1e-6)


def test_the_average_is_judged_and_twice_gives_the_same(layout):
    experiment = toy.experiment(family=Counting(), ema=0.9)
    data, state = experiment.data.open(), a_state(experiment)
    compiled = layout.compile_evaluation(experiment.family.evaluate)
    first, second = (runs.evaluate(layout, experiment, data, state, compiled, "test").numbers for _ in range(2))
    assert first == second
    x = data.splits["test"].batch(np.arange(40))["points"]
    np.testing.assert_allclose(first["loss"], direct_loss(state.ema, x), rtol=1e-5)
    assert abs(first["loss"] - direct_loss(state.params, x)) > 0.1
    bare = runs.evaluate(layout, experiment, data, state.replace(ema=None), compiled, "test").numbers
    np.testing.assert_allclose(bare["loss"], direct_loss(state.params, x), rtol=1e-5)


def test_the_draws_of_an_evaluation_are_the_same_at_every_step_of_a_run(layout):
    experiment = toy.experiment(family=Counting())
    data, state = experiment.data.open(), a_state(experiment)
    compiled = layout.compile_evaluation(experiment.family.evaluate)
    later = state.replace(step=state.step + 100)
    first, second = (runs.evaluate(layout, experiment, data, s, compiled, "test").numbers for s in (state, later))
    assert first["noise"] == second["noise"] != 0
    other = state.replace(key=jax.random.key(123))
    assert runs.evaluate(layout, experiment, data, other, compiled, "test").numbers["noise"] != first["noise"]


def test_a_run_refuses_a_split_that_is_not_there(layout):
    experiment = toy.experiment()
    data = experiment.data.open()
    run = runs.Run(experiment, None, 0, a_state(experiment), data.spec, data.codec, layout)
    with pytest.raises(UserError, match="unknown split 'tset'; did you mean 'test'"):
        run.evaluate("tset")


def test_the_validation_split_is_watched_where_there_is_one():
    assert default_split({"train": 0, "test": 0}) == "test"
    assert default_split({"train": 0, "test": 0, "validation": 0}) == "validation"


def test_evaluators_are_asked_in_turn_and_see_the_same_subject():
    seen = []

    def first(subject):
        seen.append(subject)
        return Findings({"a": 1.0}, {"picture": np.zeros((2, 2, 1), np.uint8)})

    def second(subject):
        seen.append(subject)
        return Findings({"b": 2.0})

    found = judge("subject", (first, second))
    assert seen == ["subject", "subject"]
    assert dict(found.numbers) == {"a": 1.0, "b": 2.0} and list(found.pictures) == ["picture"]
    assert judge("subject", ()) == Findings()


@pytest.mark.parametrize(("n", "calls"), [(1, 1), (5, 1), (8, 1), (9, 2), (21, 3)])
def test_samples_come_in_chunks_and_the_first_do_not_depend_on_what_follows(layout, n, calls):
    traced = []

    @dataclass(frozen=True)
    class Sampling(toy.Toy):
        def sample(self, state, key, n, options):
            traced.append(n)
            return super().sample(state, key, n, options)

    experiment = toy.experiment(family=Sampling())
    state, key = a_state(experiment), jax.random.key(3)
    draw = lambda n: sampled(layout, experiment.family, state, key, n, 0, chunk=8)  # noqa: E731
    found = draw(n)
    assert traced == [min(n, 8)]  # one size, compiled once
    assert isinstance(found, np.ndarray) and found.shape == (n, toy.DIM)
    np.testing.assert_array_equal(found, draw(40)[:n])
    assert len(np.unique(found, axis=0)) == n  # no chunk repeats another
    assert -(-n // 8) == calls


def subject(layout, experiment, split="test", rows=None):
    data = experiment.data.open()
    splits = dict(data.splits)
    if rows is not None:
        splits[split] = splits[split].take(np.arange(rows))
    state = runs.initial_state(experiment, data.spec)()
    compile = layout.compile_evaluation
    return Subject(experiment.family, state, splits, split, data.codec, data.spec, jax.random.key(0), compile)


@pytest.fixture(scope="module")
def digits(layout):
    experiment = toy.experiment(family=VAE(2, MLPCoder((4,))), data=Digits())
    return lambda **changes: subject(layout, experiment, **changes)


def size(rows, columns, side=8):
    enlarged = side * -(-CELL // side)
    return (rows * (enlarged + GAP) + GAP, columns * (enlarged + GAP) + GAP, 1)


@pytest.mark.parametrize(("num", "rows", "columns"), [(8, None, 8), (1, None, 1), (8, 3, 3)])
def test_reconstructions_stand_under_their_images(digits, num, rows, columns):
    on = digits(rows=rows)
    (picture,) = Reconstructions(num)(on).pictures.values()
    assert picture.shape == size(2, columns) and picture.dtype == np.uint8
    held_out = on.codec.decode(on.splits["test"].batch(np.arange(columns))["image"])
    factor = CELL // 8
    first = picture[GAP : GAP + CELL : factor, GAP : GAP + CELL : factor]
    np.testing.assert_array_equal(first, held_out[0])


@pytest.mark.parametrize(
    ("rows", "steps", "have", "shown"), [(4, 8, None, 4), (1, 2, None, 1), (4, 3, 3, 1), (4, 3, 1, 1)]
)
def test_interpolations_are_one_walk_a_row(digits, rows, steps, have, shown):
    on = digits(rows=have)
    (picture,) = Interpolations(rows, steps)(on).pictures.values()
    assert picture.shape == size(shown, steps) and picture.dtype == np.uint8


def test_interpolations_begin_and_end_at_reconstructions(digits):
    on = digits()
    on = dataclasses.replace(on, state=on.state.replace(params=jax.tree.map(lambda p: 3 * p, on.state.params)))
    walk = Interpolations(rows=1, steps=5)(on).pictures["interpolations"]
    again = Reconstructions(2)(on).pictures["reconstructions"]
    cell = slice(GAP, GAP + CELL)
    column = lambda i: slice(GAP + i * (CELL + GAP), GAP + i * (CELL + GAP) + CELL)  # noqa: E731
    assert not np.array_equal(walk[cell, column(0)], walk[cell, column(4)])
    for at, image in ((0, 0), (4, 1)):
        a, b = walk[cell, column(at)], again[column(1), column(image)]
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1  # the batches differ: rounding may, too


@pytest.mark.parametrize("evaluator", [Reconstructions(), Interpolations()])
def test_pictures_of_points_are_refused(layout, evaluator):
    experiment = toy.experiment(family=VAE(2, MLPCoder((4,))), data=Points(size=10, test_size=5))
    with pytest.raises(UserError, match="need images, but the data are points"):
        evaluator(subject(layout, experiment))
