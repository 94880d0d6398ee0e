"""Mixtures of sources: who comes how often, one codec for all, and clear words where sources
do not fit together.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest

import genjax
from genjax.config_files import check_resumable
from genjax.data.dataset import Origin
from genjax.data.order.curriculum import ByDifficulty
from genjax.data.order.difficulty import ByFunction
from genjax.data.sources import Digits, Mixture, Points, TextFiles
from genjax.data.stream import batches, pad_batches
from genjax.data.text.codecs import Bytes, Characters
from genjax.data.text.layouts import Blocks
from genjax.data.text.splits import ByCharacters
from genjax.errors import UserError
from genjax.schedules import Constant, Linear, Piecewise, Schedule
from tests import toy
from tests.test_train import assert_bitwise_equal

NEAR, FAR = toy.ToyData(bias=0.0), toy.ToyData(bias=1000.0)
MOVING = Mixture((NEAR, FAR), (Linear(1.0, 0.0, 10), Linear(0.0, 1.0)), steps=10)


def far(batch):
    """Which examples [B] are of the second source."""
    return batch["points"].mean(1) > 500


def read(source, count, position=0, batch_size=20, rows=slice(None)):
    split = source.open().splits["train"]
    with closing(
        batches(split, seed=2, position=position, batch_size=batch_size, rows=rows)
    ) as stream:
        return list(islice(stream, count))


def test_shares_follow_the_schedules():
    found = [int(far(batch).sum()) for batch in read(MOVING, 13)]
    assert found == [2 * step for step in range(11)] + [20, 20]
    switched = Mixture((NEAR, FAR), (Constant(1.0), Piecewise((0.0, 3.0), (5,))), steps=6)
    assert [int(far(batch).sum()) for batch in read(switched, 8)] == [0] * 5 + [15] * 3


def test_an_epoch_of_a_part_has_each_of_its_examples_once():
    points = np.concatenate([batch["points"][~far(batch)] for batch in read(MOVING, 11)])
    whole = NEAR.open().splits["train"].batch(np.arange(160))["points"]
    assert len(points) == 110 and len(np.unique(points, axis=0)) == 110
    assert (points[:, None] == whole[None]).all(-1).any(1).all()


def test_processes_and_a_resumed_run_see_the_same():
    whole = read(MOVING, 15)
    halves = zip(
        read(MOVING, 15, rows=slice(0, 10)), read(MOVING, 15, rows=slice(10, 20)), strict=True
    )
    for batch, (one, two) in zip(whole, halves, strict=True):
        assert np.array_equal(batch["points"], np.concatenate([one["points"], two["points"]]))
    for done in (4, 12):
        for later, batch in zip(read(MOVING, 3, 20 * done), whole[done:], strict=False):
            assert np.array_equal(later["points"], batch["points"])


def test_held_out_splits_are_those_of_the_sources_end_to_end():
    data = MOVING.open()
    test = data.splits["test"]
    assert len(test) == 80 and len(data.splits["train"]) == 320
    found = np.concatenate([batch["points"][batch["mask"] == 1] for batch in pad_batches(test, 30)])
    wanted = [source.open().splits["test"].batch(np.arange(40))["points"] for source in (NEAR, FAR)]
    assert np.array_equal(found, np.concatenate(wanted))
    rows = np.array([79, 0, 40, 39, 40])
    assert np.array_equal(test.batch(rows)["points"], found[rows])
    np.testing.assert_allclose(
        data.spec.mean, (NEAR.open().spec.mean + FAR.open().spec.mean) / 2, rtol=1e-6
    )
    assert data.fingerprint != replace(MOVING, sources=(FAR, NEAR)).open().fingerprint


@pytest.mark.parametrize("several", [1, 2])
def test_a_run_goes_on_bitwise(run_dir, several):
    data = replace(MOVING, sources=(NEAR, toy.ToyData(bias=1.0)))
    told = dict(
        data=data,
        steps=12,
        steps_per_dispatch=several,
        every=replace(toy.experiment().every, log=4),
    )
    whole = genjax.train(toy.experiment(**told), run_dir / "whole", quiet=True)
    genjax.train(toy.experiment(**told | {"steps": 8}), run_dir / "parts", quiet=True)
    parts = genjax.train(toy.experiment(**told), run_dir / "parts", quiet=True)
    assert_bitwise_equal(whole.state, parts.state)


def texts(folder, name, text, **fields):
    (folder / f"{name}.txt").write_text(text)
    layout, split = Blocks(4), ByCharacters(0.25)
    return TextFiles(
        str(folder / f"{name}.txt"),
        layout=layout,
        split=split,
        cache=str(folder / "cache"),
        **fields,
    )


def test_texts_share_the_codec_of_the_first_or_the_one_that_is_given(tmp_path):
    first, second = texts(tmp_path, "a", "abcdabcd" * 8), texts(tmp_path, "b", "badcab" * 8)
    data = Mixture((first, second)).open()
    assert data.codec == Characters("abcd") and data.spec.vocabulary == 4
    given = Mixture((first, second), codec=Characters("abcdef")).open()
    assert given.codec == Characters("abcdef")
    row = given.splits["test"].batch(np.array([len(given.splits["test"]) - 2]))["tokens"][0]
    assert given.codec.decode(row) in "badcab" * 8
    with pytest.raises(UserError, match="'z'"):
        Mixture((first, texts(tmp_path, "c", "abz" * 20))).open()
    with pytest.raises(
        UserError, match="sources 0 and 1 of a mixture differ in vocabulary: 4 and 256"
    ):
        Mixture((first, replace(second, codec=Bytes()))).open()


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (lambda: Mixture(()), "one schedule per source, got 2 for 0"),
        (lambda: Mixture((NEAR,)), "one schedule per source, got 2 for 1"),
        (lambda: Mixture((NEAR, FAR), (0.5, 0.5)), "weights.0 must be a Schedule"),
        (
            lambda: Mixture((NEAR, Mixture((NEAR, FAR)))).open(),
            "must not contain a Mixture, got one as source 1",
        ),
        (lambda: Mixture((NEAR, FAR), steps=0), "steps must be at least 1"),
        (
            lambda: Mixture((Digits(), Points())).open(),
            "sources 0 and 1 of a mixture differ in entry: 'image' and",
        ),
        (
            lambda: Mixture((NEAR, FAR), (Linear(1.0, -1.0), Constant(1.0)), 4).open(),
            "got .* at step 3",
        ),
        (
            lambda: Mixture((NEAR, FAR), (Linear(1.0, 0.0), Linear(2.0, 0.0)), 4).open(),
            "got .* at step 4",
        ),
        (
            lambda: Mixture((NEAR, FAR), (Constant(float("nan")), Constant(1.0)), 4).open(),
            "value must be finite",
        ),
    ],
)
def test_what_makes_no_mixture_is_refused(mixture, message):
    with pytest.raises(UserError, match=message):
        mixture()


@dataclass(frozen=True)
class Known(toy.ToyData):
    """A source whose origin is known."""

    def open(self):
        return replace(super().open(), origins=(Origin(f"set {self.bias}", f"print {self.bias}"),))


def test_a_mixture_tells_where_all_of_its_examples_come_from():
    data = Mixture((Known(bias=1.0), NEAR, Known(bias=2.0)), (Constant(1.0),) * 3).open()
    assert [origin.name for origin in data.origins] == ["set 1.0", "set 2.0"]


def test_the_sources_of_a_mixture_may_move_but_not_change():
    stored = toy.experiment(data=MOVING)
    check_resumable(
        stored, toy.experiment(data=replace(MOVING, sources=(NEAR, replace(FAR, root="there"))))
    )
    with pytest.raises(UserError, match="data.sources.1.bias: 1000.0 -> 7.0"):
        check_resumable(
            stored, toy.experiment(data=replace(MOVING, sources=(NEAR, toy.ToyData(bias=7.0))))
        )


def norm(batch):
    return np.square(batch["points"]).sum(1)


def test_a_mixture_has_an_order_of_its_own(run_dir):
    experiment = toy.experiment(data=MOVING, curriculum=ByDifficulty(ByFunction(norm)))
    with pytest.raises(UserError, match="must not order examples of a mixture"):
        genjax.train(experiment, run_dir, quiet=True)


def test_weights_are_any_schedules():
    assert isinstance(MOVING.weights[1], Schedule)
    assert MOVING.open().splits["train"].order.units[:3].tolist() == [
        [2**20, 0],
        [943718, 104858],
        [838861, 209715],
    ]
