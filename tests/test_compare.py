"""Two runs beside each other: wins, divergence, diversity, and what is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest

import genjax
from genjax import __main__ as command_line
from genjax.cli.runs.compared import compare, win_rates
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

NET = Transformer(layers=1, heads=2, width=8, context=12)
ONE = Devices(count=1)
LETTERS = Characters(" abn", delimiter=True)


def language_model(folder, name, line, codec=LETTERS, steps=30):
    (folder / name).mkdir()
    (folder / name / "a.txt").write_text(f"{line}\n" * 40)
    data = TextFiles(
        str(folder / name),
        "*.txt",
        "lines",
        codec=codec,
        layout=Documents(11),
        split=ByDocuments(test=0.2),
    )
    family = Autoregressive(NET, sampler=Decoding(steps=8))
    every = Every(log=10, evaluate=0, sample=0, checkpoint=0)
    told = Experiment(
        family, data, Adam(Constant(0.03)), steps=steps, batch_size=8, every=every, devices=ONE
    )
    return genjax.train(told, folder / f"run_{name}", quiet=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return language_model(folder, "banana", "a ban ana"), language_model(folder, "nab", "nab b")


def share_of_b(prompts, responses):
    return [response.count("b") / max(1, len(response)) for response in responses]


def test_wins_count_ties_half_and_nothing_below_all_else():
    found = win_rates(np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 2.0, 1.0, -5.0]))
    assert found["win_rate"] == 2.5 / 4
    assert found["reward_a"] == 2.0 and found["reward_b"] == 0.0
    z, n, p = 1.96, 4, 0.625  # Wilson's interval
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose(
        [found["win_rate_low"], found["win_rate_high"]], [centre - half, centre + half]
    )


def test_a_run_beside_itself_neither_wins_nor_diverges(runs, tmp_path):
    found = compare(runs[0], runs[0], share_of_b, num=20, out=tmp_path).numbers
    assert found["win_rate"] == 0.5 and found["reward_a"] == found["reward_b"]
    assert abs(found["kl_b_from_a"]) < 1e-4 and found["distinct_2_a"] == found["distinct_2_b"]


def test_two_runs_are_told_apart(runs, tmp_path):
    found = compare(*runs, share_of_b, num=40, seed=3, out=tmp_path)
    assert found.numbers["win_rate"] > 0.7 and found.numbers["win_rate_low"] > 0.5
    assert min(found.numbers["kl_b_from_a"], found.numbers["kl_a_from_b"]) > 1
    page = found.path.read_text()
    assert page.count("A (") == page.count("B (") == 16 and "nab b" in page and "a ban" in page
    stored = json.loads((tmp_path / "compare.json").read_text())
    assert stored["numbers"] == found.numbers and stored["a"].endswith("run_banana")
    again = compare(*runs, share_of_b, num=40, seed=3, out=tmp_path)
    assert again.numbers == found.numbers


def test_prompts_are_answered_in_turn_and_divergence_is_of_the_answers(runs, tmp_path):
    heard = []

    def reward(prompts, responses):
        heard.append((list(prompts), list(responses)))
        return [float(len(response)) for response in responses]

    found = compare(*runs, reward, num=6, prompts=("b", "na"), out=tmp_path)
    assert all(prompts == ["b", "na"] * 3 for prompts, _ in heard)
    for name, drawer, other in (("b_from_a", 1, 0), ("a_from_b", 0, 1)):
        each, sizes = [], []
        for prompt, answer in zip(*heard[drawer], strict=True):
            given, drawn = [0, *LETTERS.encode(prompt)], LETTERS.encode(answer).tolist()
            drawn += [0] * (len(drawn) < 8)  # its end, where it has come to one
            tokens = np.array([[*given, *drawn]], np.int32)
            counts = (np.arange(tokens.shape[1]) >= len(given)).astype(np.float32)[None]
            batch = {"tokens": tokens, "loss_mask": counts, "mask": np.ones(1)}
            nll = []
            for run in (runs[drawer], runs[other]):
                model = run.model()
                told = model.family.predict(model.state.params, batch)
                nll.append(float((told.nll * told.weight).sum()))
            each.append(nll[1] - nll[0])
            sizes.append(len(drawn))
        np.testing.assert_allclose(found.numbers[f"kl_{name}"], np.mean(each), rtol=1e-4, atol=1e-4)
        assert found.numbers[f"tokens_{'ab'[drawer]}"] == np.mean(sizes)


def test_images_stand_side_by_side(tmp_path):
    base, _ = load_config("vae_digits", tiny=True)
    both = [
        genjax.train(
            dataclasses.replace(base, seed=seed, devices=ONE), tmp_path / str(seed), quiet=True
        )
        for seed in (0, 1)
    ]
    brightness = lambda images, labels: images.mean((1, 2, 3))  # noqa: E731
    found = compare(*both, brightness, num=5)
    means = [run.sample(5).clip(-1, 1).mean() for run in both]
    np.testing.assert_allclose(
        [found.numbers["reward_a"], found.numbers["reward_b"]], means, rtol=1e-6
    )
    assert (
        found.path == tmp_path / "1" / "compare" / "0" / "side_by_side.png" and found.path.exists()
    )


def test_the_command_says_what_was_found_and_what_is_wrong(runs, tmp_path, capsys):
    a, b = (str(run.run_dir) for run in runs)
    assert (
        command_line.main(["compare", a, b, "--num", "4", "--prompt", "b", "--out", str(tmp_path)])
        == 0
    )
    out = capsys.readouterr().out
    assert (
        "kl_b_from_a" in out and "win_rate" not in out and str(tmp_path / "side_by_side.txt") in out
    )
    for options, message in (
        ([a], "compare needs RUN_A RUN_B"),
        ([a, "nowhere"], "must be a run directory"),
        ([a, b, "--num", "1"], "num must be at least 2"),
        ([a, b, "--reward", a], "must be a run of a reward model, got a Autoregressive"),
        ([a, b, "--split", "tests"], "test"),
        ([a, b, "--seed", "-1"], "seed must be from 0 to"),
        ([a, b, "--seed", "9" * 20], "seed must be"),
    ):
        assert command_line.main(["compare", *options]) == 2
        assert message in capsys.readouterr().err


def test_what_does_not_compare_is_refused(runs, tmp_path):
    other = language_model(tmp_path, "other", "abc", Characters("abc", delimiter=True), steps=1)
    with pytest.raises(UserError, match="must have the same tokens"):
        compare(runs[0], other, out=tmp_path)
    with pytest.raises(UserError, match=r"response, 4, got an array of shape \[1\]"):
        compare(*runs, lambda prompts, responses: [1.0], num=4, out=tmp_path)
    base, _ = load_config("vae_digits", tiny=True)
    images = genjax.train(dataclasses.replace(base, devices=ONE), tmp_path / "images", quiet=True)
    with pytest.raises(UserError, match="must both draw texts, or both images"):
        compare(runs[0], images, out=tmp_path)
    with pytest.raises(UserError, match="prompts must not be given for images"):
        compare(images, images, prompts=("a",), out=tmp_path)
