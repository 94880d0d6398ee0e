"""Examples in the order of their difficulty: scores by closed forms, kept with the run, and a
run that goes on.
"""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

import genjax
from genjax import config_files, parallel
from genjax.config_files import dumps, loads
from genjax.continued import Continued
from genjax.data.dataset import Dataset, Spec
from genjax.data.order.curriculum import ByDifficulty, NoiseLevels
from genjax.data.order.difficulty import ByFunction, ReferenceLoss, TextLength
from genjax.data.order.pacing import LinearPacing
from genjax.data.splits import Arrays
from genjax.errors import UserError
from genjax.experiment import Every
from genjax.parallel import Devices
from genjax.runs.ordering import SCORES, score_examples
from tests import toy
from tests.test_known import Knowing
from tests.test_train import assert_bitwise_equal

ONE = parallel.start(Devices(count=1))


def norm(batch):
    return np.square(batch["points"]).sum(1)


def size(batch):
    return len(batch["points"])


def words(batch):
    return np.full(len(batch["points"]), "hard")


def unknown_at_37(batch):
    return np.where(norm(batch) == norm(train(np.array([37])))[0], np.nan, 1.0)


def train(rows):
    return toy.ToyData().open().splits["train"].batch(rows)


@dataclass(frozen=True)
class Rows:
    """Three rows of text, of 1, 4 and 2 characters that are predicted."""

    mask: np.ndarray

    in_memory = True

    def __len__(self):
        return 3

    def batch(self, indices):
        return {"tokens": np.zeros((len(indices), 6), np.int32), "loss_mask": self.mask[indices]}


def test_length_counts_the_tokens_that_are_predicted():
    mask = np.array([[0, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]], np.float32)
    spec = Spec("tokens", (6,), np.zeros(6, np.float32), vocabulary=4)
    data = Dataset({"train": Rows(mask)}, spec, None, "rows")
    assert score_examples(TextLength(), data, ONE, 2).tolist() == [1, 4, 2]
    with pytest.raises(UserError, match="TextLength needs a batch with loss_mask"):
        score_examples(TextLength(), toy.ToyData().open(), ONE, 16)


@pytest.mark.parametrize("devices", [Devices(count=1), Devices(count=8)], ids=lambda d: d.count)
def test_a_function_scores_each_example_once_and_in_order(devices):
    found = score_examples(
        ByFunction(norm), toy.ToyData().open(), parallel.start(devices), 48
    )  # 160 examples: 3.3 batches
    np.testing.assert_array_equal(found, norm(train(np.arange(160))).astype(np.float64))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return genjax.train(
        toy.experiment(ema=0.9), tmp_path_factory.mktemp("reference") / "run", quiet=True
    )


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 48), (8, 16)])
def test_the_loss_under_another_run_is_that_of_each_example_by_its_averaged_parameters(
    reference, devices, batch_size
):
    layout = parallel.start(Devices(count=devices))
    found = score_examples(
        ReferenceLoss(str(reference.run_dir)), toy.ToyData().open(), layout, batch_size
    )
    params, points = reference.state.for_eval().params, train(np.arange(160))["points"]
    again = points @ np.asarray(params["w"]["kernel"]) @ np.asarray(params["v"]["kernel"])
    np.testing.assert_allclose(found, np.square(again - points).sum(1), rtol=1e-4)


@dataclass(frozen=True)
class Guessing(toy.Toy):
    """Its loss is a random number."""

    def evaluate(self, state, batch, key):
        mean = self.loss(state.params, batch)
        return {"loss": mean._replace(sum=jax.random.uniform(key) * mean.weight)}


def test_what_another_run_draws_does_not_depend_on_the_batches(tmp_path):
    run = genjax.train(toy.experiment(family=Guessing(), steps=1), tmp_path / "run", quiet=True)
    score, data = ReferenceLoss(str(run.run_dir)), toy.ToyData().open()
    one, other = score_examples(score, data, ONE, 48), score_examples(score, data, ONE, 7)
    assert np.array_equal(one, other) and len(np.unique(one)) == 160


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (ByFunction(size), r"ByFunction gives int64 of shape \(\) for a batch of 16 examples"),
        (ByFunction(words), "ByFunction gives <U4 of shape"),
        (
            ByFunction(unknown_at_37),
            "ByFunction gives nan, which is not a score, for training example 37",
        ),
    ],
)
def test_what_is_no_score_is_refused(score, message):
    with pytest.raises(UserError, match=message):
        score_examples(score, toy.ToyData().open(), ONE, 16)


def test_a_reference_that_is_missing_or_of_other_data_is_refused(reference, tmp_path):
    missing = toy.experiment(curriculum=ByDifficulty(ReferenceLoss(str(tmp_path / "none"))))
    with pytest.raises(UserError, match="ReferenceLoss needs the run .*, which is not there"):
        genjax.train(missing, tmp_path / "run", quiet=True)
    points = np.zeros((4, 3), np.float32)
    data = toy.ToyData().open()
    narrow = Arrays("points", points, None, replace(data.codec, dim=3))
    other = Dataset({"train": narrow}, Spec("points", (3,), points[0]), narrow.codec, "narrow")
    with pytest.raises(
        UserError, match=r"was trained on points of shape \[6\], but the data are points of"
    ):
        score_examples(ReferenceLoss(str(reference.run_dir)), other, ONE, 2)
    with pytest.raises(UserError, match="function must be a function from a config file"):
        ByFunction(3)  # type: ignore[arg-type]


def test_a_reference_that_is_named_as_a_config_is_trained_first(run_dir, monkeypatch):
    here, config = str(run_dir / "reference"), (toy.experiment(steps=2), None)
    monkeypatch.setattr(
        config_files, "load_run_config", lambda name: config if name == here else None
    )
    genjax.train(
        toy.experiment(curriculum=ByDifficulty(ReferenceLoss(here)), steps=2),
        run_dir / "run",
        quiet=True,
    )
    assert genjax.load(here).step == 2


SETTINGS = {
    "curriculum": ByDifficulty(ByFunction(norm), LinearPacing(0.1, 8)),
    "steps": 16,
    "every": Every(log=4, evaluate=0, sample=0, checkpoint=4),
}


@pytest.mark.parametrize(("several", "devices"), [(1, Devices(count=8)), (4, Devices(count=1))])
def test_a_run_goes_on_bitwise_within_the_pacing_and_after(run_dir, several, devices):
    told = SETTINGS | {"steps_per_dispatch": several, "devices": devices}
    whole = genjax.train(toy.experiment(**told), run_dir / "whole", quiet=True)
    for steps in (4, 12, 16):
        parts = genjax.train(
            toy.experiment(**told | {"steps": steps}), run_dir / "parts", quiet=True
        )
    assert_bitwise_equal(whole.state, parts.state)
    plain = genjax.train(
        toy.experiment(**told | {"curriculum": None}), run_dir / "plain", quiet=True
    )
    assert not np.array_equal(plain.state.params["w"]["kernel"], whole.state.params["w"]["kernel"])


def test_stacked_steps_see_what_single_ones_do(run_dir):
    single = genjax.train(toy.experiment(**SETTINGS), run_dir / "single", quiet=True)
    stacked = genjax.train(
        toy.experiment(**SETTINGS, steps_per_dispatch=4), run_dir / "stacked", quiet=True
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        single.state.params,
        stacked.state.params,
    )


def test_scores_are_kept_with_the_run_as_their_reference_may_be_gone(reference, run_dir, capfd):
    here = run_dir / "reference"
    genjax.train(reference.experiment, here, quiet=True)
    told = toy.experiment(
        **SETTINGS | {"curriculum": ByDifficulty(ReferenceLoss(str(here)), LinearPacing(0.1, 8))}
    )
    whole = genjax.train(told, run_dir / "whole")
    assert "scored 160 examples by ReferenceLoss" in capfd.readouterr().err
    genjax.train(replace(told, steps=4), run_dir / "parts", quiet=True)
    capfd.readouterr()
    here.rename(run_dir / "gone")
    parts = genjax.train(told, run_dir / "parts")
    assert "scored" not in capfd.readouterr().err
    assert_bitwise_equal(whole.state, parts.state)
    np.save(run_dir / "parts" / SCORES, np.zeros(3))
    genjax.train(
        replace(told, steps=16), run_dir / "parts", quiet=True
    )  # finished: nothing is read
    with pytest.raises(UserError, match="holds 3 scores, but there are 160 training examples"):
        genjax.train(replace(told, steps=20), run_dir / "parts", quiet=True)


def test_scores_of_a_run_without_a_checkpoint_are_made_anew(run_dir):
    genjax.train(toy.experiment(**SETTINGS), run_dir / "whole", quiet=True)
    (run_dir / "parts").mkdir(parents=True)
    (run_dir / "parts" / "config.json").write_text(dumps(toy.experiment(**SETTINGS)))
    np.save(run_dir / "parts" / SCORES, np.zeros(160))
    genjax.train(toy.experiment(**SETTINGS), run_dir / "parts", quiet=True)
    assert (run_dir / "parts" / SCORES).read_bytes() == (run_dir / "whole" / SCORES).read_bytes()


def test_what_a_family_knows_of_its_examples_may_be_ordered_but_not_changed(run_dir):
    told = SETTINGS | {"family": Knowing()}
    genjax.train(toy.experiment(**told), run_dir, quiet=True)
    rows = (run_dir / "metrics.jsonl").read_text()
    assert rows.count('"wrong": 0.0') == 4
    with pytest.raises(UserError, match="no augment, and no curriculum but an order"):
        toy.experiment(family=Knowing(), curriculum=Changing())


@dataclass(frozen=True)
class Changing(NoiseLevels):
    """Follows any family."""

    def check(self, family):
        pass


@dataclass(frozen=True)
class Collecting(Continued, toy.Toy):
    def collect(self, state, batch, key):
        return batch


def test_a_family_that_collects_may_be_given_an_order_but_no_other_batches(run_dir):
    whole = genjax.train(
        toy.experiment(**SETTINGS, family=Collecting()), run_dir / "collected", quiet=True
    )
    plain = genjax.train(toy.experiment(**SETTINGS), run_dir / "plain", quiet=True)
    jax.tree.map(np.testing.assert_array_equal, whole.state.params, plain.state.params)
    with pytest.raises(UserError, match="no curriculum but an order"):
        toy.experiment(family=Collecting(), curriculum=Changing())


def test_a_function_comes_back_through_text():
    experiment = toy.experiment(curriculum=ByDifficulty(ByFunction(norm)))
    assert loads(dumps(experiment)) == experiment
