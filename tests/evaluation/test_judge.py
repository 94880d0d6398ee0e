"""Judging: every example counts once, the average is judged, draws repeat, pictures have their
size.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import genjax
from genjax import parallel
from genjax.data.pictures import CELL, GAP
from genjax.data.sources import Digits, Points
from genjax.data.stream import pad_batches
from genjax.errors import UserError
from genjax.evaluation.drawing import draw_samples
from genjax.evaluation.images.reconstruction import Interpolations, Reconstructions
from genjax.evaluation.judge import (
    Evaluator,
    Findings,
    Judge,
    Subject,
    default_split,
    evaluate_split,
    judge,
    make_model,
)
from genjax.experiment import Every
from genjax.families.likelihoods import Gaussian
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder
from genjax.parallel import Devices
from genjax.runs.run import Run
from genjax.runs.setup import initial_state
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
    state = initial_state(experiment, experiment.data.open().spec)()
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
    found = evaluate_split(layout, compiled, state, split, batch_size, jax.random.key(0))
    x = split.batch(np.arange(len(split)))["points"]
    np.testing.assert_allclose(found["loss"], direct_loss(state.params, x), rtol=1e-5)
    np.testing.assert_allclose(found["points"], x.sum(-1).mean(), rtol=1e-4)
    batches = len(list(pad_batches(split, batch_size)))
    np.testing.assert_allclose(found["rows"] * batches, 40, rtol=1e-6)
    assert all(type(value) is float for value in found.values())


def test_eight_devices_find_the_same():
    experiment = toy.experiment()
    split, state = experiment.data.open().splits["test"], a_state(experiment)
    layouts = [parallel.start(Devices(count=count)) for count in (1, 8)]
    one, eight = (
        evaluate_split(
            x, x.compile_evaluation(experiment.family.evaluate), state, split, 16, jax.random.key(0)
        )
        for x in layouts
    )
    np.testing.assert_allclose(one["loss"], eight["loss"], rtol=1e-6)


def judged(layout, experiment, data, state, split="test"):
    return Judge.of(experiment, layout, data, (), {})(state, split).numbers


def test_the_average_is_judged_and_twice_gives_the_same(layout):
    experiment = toy.experiment(family=Counting(), ema=0.9)
    data, state = experiment.data.open(), a_state(experiment)
    first, second = (judged(layout, experiment, data, state) for _ in range(2))
    assert first == second
    x = data.splits["test"].batch(np.arange(40))["points"]
    np.testing.assert_allclose(first["loss"], direct_loss(state.ema, x), rtol=1e-5)
    assert abs(first["loss"] - direct_loss(state.params, x)) > 0.1
    bare = judged(layout, experiment, data, state.replace(ema=None))
    np.testing.assert_allclose(bare["loss"], direct_loss(state.params, x), rtol=1e-5)


def test_the_draws_of_an_evaluation_are_the_same_at_every_step_of_a_run(layout):
    experiment = toy.experiment(family=Counting())
    data, state = experiment.data.open(), a_state(experiment)
    first, second = (
        judged(layout, experiment, data, s) for s in (state, state.replace(step=state.step + 100))
    )
    assert first["noise"] == second["noise"] != 0
    other = state.replace(key=jax.random.key(123))
    assert judged(layout, experiment, data, other)["noise"] != first["noise"]


def test_a_run_refuses_a_split_that_is_not_there(layout, tmp_path):
    experiment = toy.experiment()
    data = experiment.data.open()
    run = Run(experiment, tmp_path, 0, a_state(experiment), data.spec, data.codec, layout)
    with pytest.raises(UserError, match="unknown split 'tset'; did you mean 'test'"):
        run.evaluate("tset")


def test_the_validation_split_is_watched_where_there_is_one():
    assert default_split({"train": 0, "test": 0}) == "test"
    assert default_split({"train": 0, "test": 0, "validation": 0}) == "validation"


@dataclass(frozen=True)
class Says(Evaluator):
    """Finds what it is told, and remembers whom it saw."""

    name: str = "a"
    value: float = 1.0
    seen: list = dataclasses.field(default_factory=list)

    def __call__(self, subject):
        self.seen.append(subject)
        return Findings(
            {self.name: self.value},
            {f"{self.name}_picture": np.zeros((2, 2, 1), np.uint8)},
            "how",
            ("so",),
        )


def test_evaluators_are_asked_in_turn_and_every_number_has_its_protocol(layout):
    on = subject(layout, toy.experiment(seed=3))
    seen: list = []
    report = judge(
        on, (Says("a", 1.0, seen), Says("b", 2.0, seen), Says("a", 4.0, seen)), {"loss": 3.0}
    )
    assert seen == [on, on, on]
    assert dict(report.numbers) == {
        "loss": 3.0,
        "a": 1.0,
        "b": 2.0,
        "a_2": 4.0,
    }  # neither hides the other
    assert (
        list(report.pictures) == ["a_picture", "b_picture", "a_picture_2"]
        and report.remarks == ("so",) * 3
    )
    assert dict(report.protocols) == {
        "loss": "whole test split, 40 examples; step 0, parameters, seed 3",
        "a": "how; step 0, parameters, seed 3",
        "b": "how; step 0, parameters, seed 3",
        "a_2": "how; step 0, parameters, seed 3",
    }


def test_an_average_is_named_in_the_protocol(layout):
    on = subject(layout, toy.experiment(ema=0.9))
    assert (
        judge(on, (), {"loss": 0.0})
        .protocols["loss"]
        .endswith("step 0, averaged (EMA) parameters, seed 0")
    )


def rows(family, state, batch, key, scale):
    return {"points": scale * batch["points"], "first": batch["points"][:, 0]}


@pytest.mark.parametrize(("limit", "count"), [(None, 40), (7, 7), (16, 16), (99, 40)])
def test_what_is_collected_has_each_example_once_and_no_padding(layout, limit, count):
    on = subject(layout, toy.experiment())  # batches of 16
    found = on.collect(rows, 2.0, limit=limit)
    x = on.splits["test"].batch(np.arange(count) * 40 // count)["points"]  # spread evenly
    np.testing.assert_array_equal(found["points"], 2 * x)
    np.testing.assert_array_equal(found["first"], x[:, 0])
    assert len(on.collect(rows, 1.0, split="train")["first"]) == 160


def loss_of(family, state, batch, key, factor):
    return {
        "loss": toy.Mean(
            *(factor * x for x in family.evaluate(state, batch, key)["loss"][:1]),
            batch["mask"].sum(),
        )
    }


@pytest.mark.parametrize("limit", [None, 5])
def test_metrics_of_an_evaluator_run_over_a_split_or_its_beginning(layout, limit):
    on = subject(layout, toy.experiment())
    for split in ("train", "test"):
        size = len(on.splits[split])
        x = on.splits[split].batch(np.arange(limit or size) * size // (limit or size))["points"]
        found = on.compute_metrics(loss_of, 3.0, split=split, limit=limit)["loss"]
        np.testing.assert_allclose(found, 3 * direct_loss(on.model.state.params, x), rtol=1e-5)


def test_evaluators_on_request_are_not_asked_while_training(run_dir):
    always, late = Says("always", 1.0), Says("late", 2.0, while_training=False)
    experiment = toy.experiment(
        evaluators=(always, late), every=Every(log=1, evaluate=10, sample=0, checkpoint=0)
    )
    run = genjax.train(experiment, run_dir, quiet=True)
    assert (len(always.seen), len(late.seen)) == (2, 0)
    assert {"always", "late"} <= run.evaluate().numbers.keys()


@dataclass(frozen=True)
class Compares(Evaluator):
    """Finds the loss of another run's parameters."""

    other: str = ""

    @property
    def runs(self):
        return (self.other,)

    def __call__(self, subject):
        other = subject.others[self.other]
        return Findings({"step": float(other.state.step)}, protocol=other.origin)


def test_an_evaluator_gets_the_run_that_it_names(tmp_path):
    genjax.train(toy.experiment(steps=3), tmp_path / "other", quiet=True)
    evaluators = (Compares(str(tmp_path / "other")),)
    every = Every(log=1, evaluate=20, sample=0, checkpoint=0)
    run = genjax.train(
        toy.experiment(evaluators=evaluators, every=every), tmp_path / "run", quiet=True
    )
    report = run.evaluate()
    assert report.numbers["step"] == 3
    assert (
        report.protocols["step"]
        == f"run {tmp_path / 'other'}, step 3, parameters, seed 0; step 20, parameters, seed 0"
    )


def test_a_missing_run_is_refused_before_the_first_step_with_the_command_that_makes_it(tmp_path):
    every = Every(log=1, evaluate=20, sample=0, checkpoint=0)
    for name, config in (("vae_digits", "vae_digits"), ("mine", "CONFIG")):
        evaluators = (Compares(str(tmp_path / name)),)
        with pytest.raises(
            UserError,
            match=f"Compares needs the run .*make it: python -m genjax train {config} --run",
        ):
            genjax.train(
                toy.experiment(evaluators=evaluators, every=every), tmp_path / "run", quiet=True
            )
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


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
    draw = lambda n: draw_samples(layout, experiment.family, state, key, n, 0, chunk=8)  # noqa: E731
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
    state = initial_state(experiment, data.spec)()
    model = make_model(experiment, state, data.spec, data.codec)
    return Subject(model, splits, split, jax.random.key(0), layout, experiment.batch_size)


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
    found = Reconstructions(num)(on)
    (picture,) = found.pictures.values()
    whole = on.splits["test"].batch(np.arange(len(on.splits["test"])))
    _, again = on.model.family.reconstruct(on.model.state, whole, on.key)
    np.testing.assert_allclose(
        found.numbers["reconstruction_mse"], np.square(again - whole["image"]).mean(), rtol=1e-5
    )
    assert picture.shape == size(2, columns) and picture.dtype == np.uint8
    held_out = on.model.codec.decode(on.take_examples(columns)["image"])
    factor = CELL // 8
    first = picture[GAP : GAP + CELL : factor, GAP : GAP + CELL : factor]
    np.testing.assert_array_equal(first, held_out[0])


@pytest.mark.parametrize(
    ("rows", "steps", "have", "shown"),
    [(4, 8, None, 4), (1, 2, None, 1), (4, 3, 3, 1), (4, 3, 1, 1)],
)
def test_interpolations_are_one_walk_a_row(digits, rows, steps, have, shown):
    on = digits(rows=have)
    (picture,) = Interpolations(rows, steps)(on).pictures.values()
    assert picture.shape == size(shown, steps) and picture.dtype == np.uint8


def test_interpolations_begin_and_end_at_reconstructions(digits):
    on = digits()
    state = on.model.state.replace(params=jax.tree.map(lambda p: 3 * p, on.model.state.params))
    on = dataclasses.replace(on, model=dataclasses.replace(on.model, state=state))
    walk = Interpolations(rows=1, steps=5)(on).pictures["interpolations"]
    again = Reconstructions(2)(on).pictures["reconstructions"]
    cell = slice(GAP, GAP + CELL)
    column = lambda i: slice(GAP + i * (CELL + GAP), GAP + i * (CELL + GAP) + CELL)  # noqa: E731
    assert not np.array_equal(walk[cell, column(0)], walk[cell, column(4)])
    for at, image in ((0, 0), (4, 1)):
        a, b = walk[cell, column(at)], again[column(1), column(image)]
        assert (
            np.abs(a.astype(int) - b.astype(int)).max() <= 1
        )  # the batches differ: rounding may, too


@pytest.mark.parametrize("evaluator", [Reconstructions(), Interpolations()])
def test_what_an_evaluator_cannot_judge_is_refused_before_the_first_step(run_dir, evaluator):
    every = Every(log=1, evaluate=20, sample=0, checkpoint=0)
    points = Points(size=10, test_size=5)
    family = VAE(2, MLPCoder((4,)), Gaussian())
    with pytest.raises(UserError, match="needs images, but the data are points"):
        evaluator.check(family, points.open().spec, {})
    experiment = toy.experiment(
        family=family, data=points, evaluators=(evaluator,), every=every, batch_size=2
    )
    with pytest.raises(UserError, match="needs images"):
        genjax.train(experiment, run_dir, quiet=True)
    assert not (run_dir / "metrics.jsonl").exists()
    genjax.train(
        dataclasses.replace(experiment, evaluators=()), run_dir, quiet=True
    )  # fixed, it begins


def test_an_evaluator_of_another_family_is_refused():
    spec = Digits().open().spec
    with pytest.raises(UserError, match="Interpolations needs a VAE, got a Toy"):
        Interpolations().check(toy.Toy(), spec, {})
    with pytest.raises(UserError, match=r"needs a family with reconstruct\(\), got a Toy"):
        Reconstructions().check(toy.Toy(), spec, {})


def test_evaluators_may_change_when_a_run_goes_on(run_dir):
    every = Every(log=1, evaluate=10, sample=0, checkpoint=10)
    genjax.train(
        toy.experiment(steps=10, every=every, evaluators=(Says("a", 1.0),)), run_dir, quiet=True
    )
    genjax.train(
        toy.experiment(steps=20, every=every, evaluators=(Says("b", 1.0), Says("c"))),
        run_dir,
        quiet=True,
    )
    rows = [
        r
        for r in genjax.runs.writers.read_rows(epath.Path(run_dir / "metrics.jsonl"))
        if r["split"] == "eval"
    ]
    assert "a" in rows[0] and {"b", "c"} <= rows[1].keys() and "a" not in rows[1]


def test_a_part_is_spread_over_a_split_that_is_sorted_by_class(layout):
    on = subject(layout, toy.experiment(family=VAE(2, MLPCoder((4,))), data=Digits()))
    split = on.splits["train"]
    in_order = dataclasses.replace(
        on, splits={"train": split.take(np.argsort(split.label, kind="stable"))}
    )
    counts = np.bincount(in_order.take_examples(100, "train")["label"], minlength=10)
    assert counts.min() >= 9 and counts.sum() == 100
