"""Best of n: the highest of the rewards of the same draws that sampling gives, each of its own
prompt.
"""

import dataclasses
import math

import numpy as np
import pytest

import genjax
from genjax import __main__ as command_line
from genjax.cli.best_of import Best, draw_best
from genjax.config_files import load_config
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant

ONE = Devices(count=1)


def share_of_b(prompts, responses):
    return [response.count("b") / max(1, len(response)) for response in responses]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    (folder / "a.txt").write_text("a ban ana\nnab b\n" * 40)
    codec, split = Characters(" abn", delimiter=True), ByDocuments(test=0.2)
    data = TextFiles(str(folder), "*.txt", "lines", codec=codec, layout=Documents(11), split=split)
    family = Autoregressive(
        Transformer(layers=1, heads=2, width=8, context=12), sampler=Decoding(steps=8)
    )
    every = Every(log=10, evaluate=0, sample=0, checkpoint=0)
    told = Experiment(
        family, data, Adam(Constant(0.03)), steps=10, batch_size=8, every=every, devices=ONE
    )
    return genjax.train(told, folder / "run", quiet=True)


def test_the_best_of_the_draws_of_several_seeds(run):
    told = []

    def reward(prompts, responses):
        told.append((tuple(prompts), tuple(responses)))
        return share_of_b(prompts, responses)

    options = Decoding(steps=8, prompts=("a", "na", "b"))
    found = draw_best(run, reward, 4, num=7, seed=2, options=options)
    draws = [run.sample(7, 8 + k, options) for k in range(4)]
    turns = ("a", "na", "b", "a", "na", "b", "a")
    assert found.rewards.shape == (4, 7) and [prompts for prompts, _ in told] == [turns] * 4
    for number, (sample, value) in enumerate(zip(found.samples, found.reward, strict=True)):
        which = int(found.rewards[:, number].argmax())
        np.testing.assert_array_equal(sample, draws[which][number])
        assert value == found.rewards[:, number].max()
        np.testing.assert_allclose(value, share_of_b([""], [told[which][1][number]])[0], rtol=1e-6)
    assert found.reward.mean() > found.rewards.mean() + 0.1


def test_what_was_gained_is_told_and_nan_loses():
    assert (
        Best(np.zeros((1, 3)), np.full((3, 1), np.nan)).describe()
        == "no reward of 3 samples is a number"
    )
    assert Best(np.zeros((1, 3)), np.array([[np.inf], [0.0]])).reward == [np.inf]
    found = Best(np.zeros((2, 3)), np.array([[1.0, np.nan], [0.0, np.nan], [2.0, 5.0]]))
    np.testing.assert_array_equal(found.reward, [2.0, 5.0])
    bound = math.log(3) - 2 / 3
    assert (
        found.describe()
        == f"mean reward 3.5, of all drawn 2; best of 3, so at most {bound:.3g} nats from the model"
    )


@pytest.mark.long
def test_images_are_chosen_as_pixels(tmp_path):
    told, _ = load_config("gan_digits", tiny=True)
    gan = genjax.train(dataclasses.replace(told, devices=ONE), tmp_path / "gan", quiet=True)
    light = lambda images, labels: images.mean((1, 2, 3))  # noqa: E731
    found = draw_best(gan, light, 3, num=4)
    draws = [gan.sample(4, k).mean((1, 2, 3)) for k in range(3)]
    np.testing.assert_allclose(found.samples.mean((1, 2, 3)), np.max(draws, 0), rtol=1e-6)


def test_the_command_writes_the_chosen_and_says_what_is_wrong(run, capsys):
    called = ["sample", str(run.run_dir), "--num", "3", "--best-of", "4"]
    assert command_line.main([*called, "--reward", "tests.test_best_of:share_of_b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0].startswith("mean reward ")
        and "best of 4" in lines[0]
        and lines[1].endswith("seed_0_best_of_4.txt")
    )
    assert command_line.main(["show", lines[1]]) == 0
    assert "seed 0, each the best of 4 by tests.test_best_of:share_of_b" in capsys.readouterr().out
    for more, words in (
        ((), "give both or neither"),
        (
            ("--reward", "tests.test_best_of:share_of_c"),
            "unknown class or function of tests.test_best_of 'share_of_c'",
        ),
        (("--reward", "no_such_module:f"), "no_such_module:f, which cannot be imported"),
        (("--reward", "tests.test_best_of:share_of_b", "--stream"), "stream must be left out"),
    ):
        assert command_line.main([*called, *more]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(UserError, match="best_of must be >= 2, got 1"):
        draw_best(run, share_of_b, 1)
    with pytest.raises(UserError, match=r"response, 3, got an array of shape \[1\]"):
        draw_best(run, lambda prompts, responses: [1.0], 2, num=3)
    with pytest.raises(UserError, match="got 2147483648"):
        draw_best(run, share_of_b, 2, num=3, seed=2**31)
