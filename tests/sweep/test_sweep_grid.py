"""The grid of a sweep: what options list, how runs are named, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path

import pytest

from genjax import __main__ as command_line
from genjax.config_files import load_config
from genjax.errors import UserError
from genjax.sweep import directory, grid
from genjax.sweep.ranges import Range
from genjax.sweep.values import list_fields, read_lists, split_options

RATE = "optimizer.learning_rate.value"


@pytest.fixture(scope="module")
def experiment():
    return load_config("vae_digits", tiny=True)[0]


def values(experiment, *words):
    _, options = split_options(words, ())
    return grid.read_values(experiment, read_lists(experiment, options))


def points(experiment, *words, seeds=1, most=100):
    return grid.make_points(experiment, values(experiment, *words), seeds, most)


def test_a_list_is_parted_at_commas_and_repeated_options_add_to_it(experiment):
    found = values(
        experiment,
        *("--optimizer.learning-rate.value", "1e-3,3e-4"),
        *("--family.latent-dim=4", "--family.latent-dim", "8, 16"),
        *("--optimizer.clip", "none,1.5", "--precision", "float32,bfloat16"),
    )
    assert found == {
        RATE: [1e-3, 3e-4],
        "family.latent_dim": [4, 8, 16],
        "optimizer.clip": [None, 1.5],
        "precision": ["float32", "bfloat16"],
    }


def test_a_tuple_and_a_text_are_listed_by_repeating_the_option(experiment):
    words = ["--family.coder.hidden", "32", "16", "--family.coder.hidden", "8"]
    assert values(experiment, *words) == {"family.coder.hidden": [(32, 16), (8,)]}
    assert values(experiment, "--keep.best", "a\\,b", "--keep.best", "kl") == {
        "keep.best": ["a,b", "kl"]
    }


def test_each_field_of_a_config_can_be_named(experiment):
    fields = list_fields(experiment)
    assert {"steps", RATE, "family.beta.end", "evaluators.0.num", "every.log"} <= set(fields)
    assert fields["steps"] is int and "family" not in fields


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--optimizer.learnin-rate.value", "1"], "optimizer.learnin_rate.value"),
        (["--optimizer.learning-rate", "1"], "optimizer.learning_rate"),
        (["--optimizer.learning-rate.value", "1e-3,x"], RATE),
        (["--optimizer.learning-rate.value", "1e-3,1e-2..1"], RATE),
        (["--optimizer.learning-rate.value"], RATE),
        (["--optimizer.learning-rate.value", ""], RATE),
        (["--optimizer.learning-rate.value", "1e-3,,1"], RATE),
        (["--optimizer.learning-rate.value", "1e-3,0.001"], RATE),
        (["--optimizer.learning-rate.value", "1,nan"], RATE),
        (["--optimizer.learning-rate.value", "1,-1"], RATE),
        (["--steps", "1.5"], "steps"),
        (["--steps", "10", "20"], "steps"),
        (["--steps", "16,-16"], "steps"),
        (["--precision", "float32,float16"], "precision"),
        (["--family.coder.hidden", "32,16"], "family.coder.hidden"),
        (["--keep.best", "loss,kl"], "keep.best"),
        (["--seed", "1,1"], "seed"),
        (["--seed", "-1,1"], "seed"),
    ],
)
def test_a_wrong_list_is_refused_by_its_field(experiment, words, field):
    with pytest.raises(UserError, match=field.split(".")[-1]) as error:
        points(experiment, *words)
    assert error.value.field == field


def test_the_grid_is_a_product_with_seeds_from_the_first_on(experiment):
    made = points(experiment, "--family.latent-dim", "4,8", "--seed", "5", seeds=3)
    found = [(p.experiment.family.latent_dim, p.experiment.seed) for p in made]
    assert found == [(4, 5), (4, 6), (4, 7), (8, 5), (8, 6), (8, 7)]
    listed = points(experiment, "--seed", "1,4")
    assert [p.experiment.seed for p in listed] == [1, 4]
    with pytest.raises(UserError) as error:
        points(experiment, "--seed", "1,4", seeds=2)
    assert error.value.field == "seeds"


def test_a_combination_is_checked_as_a_whole(experiment):
    together = ["--steps-per-dispatch", "3", "--every.log", "3,6", "--every.evaluate", "0"]
    assert len(points(experiment, *together, "--every.sample", "0", "--every.checkpoint", "0")) == 2
    with pytest.raises(UserError, match="every.log=2"):
        points(experiment, "--steps-per-dispatch", "2,4", "--every.log", "8,4,2")


def test_a_million_runs_are_refused_with_their_number(experiment):
    many = ",".join(map(str, range(1, 1001)))
    with pytest.raises(UserError, match="1,000,000") as error:
        points(experiment, "--steps", many, "--batch-size", many)
    assert error.value.field == "max_runs"
    with pytest.raises(UserError, match=r"2,000,000"):
        points(experiment, "--steps", "16,32", seeds=1_000_000)


@pytest.mark.parametrize("value", [1e-4, 3e-4, 0.001, 0.5, 1.0, 128.0, 1e5, 0.0, 2.5e-7, -0.25])
def test_a_number_is_written_in_the_shorter_way_and_exactly(value):
    written = grid.write_value(value)
    assert float(written) == value and len(written) <= len(repr(value))
    assert grid.write_value(float(Decimal(written))) == written


def test_runs_are_named_by_what_differs():
    run = {RATE: 1e-4, "family.net.width": 8, "family.text": "a/b", "seed": 2}
    assert grid.name_run(run, [RATE, "family.net.width"]) == "learning_rate=1e-4,net.width=8,seed=2"
    assert grid.name_run(run, []) == "seed=2"
    names = {grid.name_run({**run, "family.text": t}, ["family.text"]) for t in ("a/b", "a:b")}
    assert len(names) == 2 and not any("/" in name or ":" in name for name in names)
    long = grid.name_run({"family.text": "x" * 500, "seed": 0}, ["family.text"])
    assert len(long) < 200
    same = grid.shorten_names(["optimizer.generator.b1", "family.generator.b1"])
    assert list(same.values()) == ["optimizer.generator.b1", "family.generator.b1"]


def sweep(folder: Path, *words: str) -> int:
    return command_line.main(["sweep", "vae_digits", "--tiny", "--out", str(folder), *words])


def test_a_changed_grid_keeps_the_numbers_and_names_of_its_runs(tmp_path, experiment):
    source = load_config("vae_digits")[1]
    rates = ["--optimizer.learning-rate.value", "1e-3,3e-4"]
    first = directory.open_sweep(tmp_path / "s", "vae_digits", experiment)
    first, new = directory.add_points(first, points(experiment, *rates))
    directory.claim_runs(first, new, source)
    assert list(new) == ["learning_rate=1e-3,seed=0", "learning_rate=3e-4,seed=0"]
    again = directory.open_sweep(tmp_path / "s", "vae_digits", experiment)
    wider = [*rates[:1], "0.0003,1e-2", "--family.latent-dim", "16,4"]
    again, new = directory.add_points(again, points(experiment, *wider))
    assert [e.name for e in again.runs[:2]] == [e.name for e in first.runs]
    assert list(new) == [
        "learning_rate=3e-4,latent_dim=4,seed=0",
        "learning_rate=0.01,latent_dim=16,seed=0",
        "learning_rate=0.01,latent_dim=4,seed=0",
    ]
    assert again.runs[0].values == {RATE: 1e-3, "family.latent_dim": 16, "seed": 0}
    (tmp_path / "s" / first.runs[0].name / "config.json").unlink()
    assert list(directory.add_points(first, points(experiment, *rates))[1]) == [first.runs[0].name]


def test_listing_and_refusing_write_nothing(tmp_path, capsys):
    assert sweep(tmp_path / "s", "--seeds", "2", "--list") == 0
    assert capsys.readouterr().out.split() == ["0", "waiting", "seed=0", "1", "waiting", "seed=1"]
    for words in (["--seeds", "0"], ["--seeds", "101"], ["--bogus", "1"], ["stray"]):
        assert sweep(tmp_path / "s", *words) == 2
    assert sweep(tmp_path / "s", "--vmapped", "--family.latent-dim", "4,8") == 2
    assert "latent_dim" in capsys.readouterr().err
    assert sweep(tmp_path / "s", "--vmapped", "--seeds", "2", "--devices.count", "2") == 2
    assert "devices.count" in capsys.readouterr().err
    one = ["--vmapped", "--devices.count", "1"]
    assert sweep(tmp_path / "s", *one, "--optimizer.weight-decay", "0.1,0.2") == 2
    assert "optimizer.weight_decay" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_another_sweep_or_other_files_are_left_alone(tmp_path, experiment):
    folder = tmp_path / "s"
    first = directory.open_sweep(folder, "vae_digits", experiment)
    first, new = directory.add_points(first, points(experiment))
    directory.claim_runs(first, new, load_config("vae_digits")[1])
    with pytest.raises(UserError, match="steps: 16 -> 32") as error:
        directory.open_sweep(folder, "vae_digits", dataclasses.replace(experiment, steps=32))
    assert error.value.field == "out"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError) as error:
        directory.open_sweep(tmp_path / "other", "vae_digits", experiment)
    assert error.value.field == "out"
    (folder / "sweep.json").write_text(json.dumps({"format": 1, "runs": [{}]}), encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        directory.read_sweep(folder)


def test_ranges_are_read_for_a_search_alone(experiment):
    words = ["--optimizer.learning-rate.value", "1e-5..1e-2:log", "--family.latent-dim", "4..16"]
    _, options = split_options([*words, "--precision", "float32"], ())
    lists = read_lists(experiment, options)
    assert grid.read_space(experiment, lists) == {
        RATE: Range(1e-5, 1e-2, True),
        "family.latent_dim": Range(4, 16),
        "precision": ["float32"],
    }
    with pytest.raises(UserError) as error:
        grid.read_values(experiment, lists)
    assert error.value.field == RATE
    _, options = split_options(["--keep.best", "a/../b"], ())
    assert grid.read_space(experiment, read_lists(experiment, options)) == {"keep.best": ["a/../b"]}
    for word in ("1e-2..1e-5", "0..1:log", "1..x", "1..nan", "1..1", "float32..bfloat16"):
        name = "precision" if word.startswith("float32") else "optimizer.learning-rate.value"
        _, options = split_options([f"--{name}", word], ())
        with pytest.raises(UserError) as error:
            grid.read_space(experiment, read_lists(experiment, options))
        assert error.value.field == name.replace("-", "_")
