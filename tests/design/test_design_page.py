"""The page on designs: its commands and its Python work on tiny runs, one trained on another."""

import dataclasses
import shlex

import numpy as np
import pytest
from PIL import Image

import genjax
from genjax import __main__ as command_line
from genjax.config_files import load_config
from genjax.parallel import Devices
from tests.test_docs import OF_DESIGN, blocks

NAMES = ("attributes_to_shapes", "sketch_to_shapes", "vae_fashion_mlp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("design")
    for name in NAMES:
        experiment, path = load_config(name, tiny=True)
        experiment = dataclasses.replace(experiment, devices=Devices(count=1))
        if name == "sketch_to_shapes":
            base = str(folder / "runs" / "attributes_to_shapes")
            family = dataclasses.replace(experiment.family, base=base)
            experiment = dataclasses.replace(experiment, family=family)
        genjax.train(experiment, folder / "runs" / name, source=path, quiet=True)
    lines = np.zeros((16, 16), np.uint8)
    lines[4, 4:12] = 255
    Image.fromarray(lines).save(folder / "sketch.png")
    part = np.full((16, 16, 4), 200, np.uint8)
    part[8:, :, 3] = 0
    Image.fromarray(part).save(folder / "part.png")
    return folder


@pytest.mark.long
def test_every_command_on_designs_works(folder, monkeypatch, capsys):
    pytest.importorskip("cma", reason="cma is not installed: the extra design")
    monkeypatch.chdir(folder)
    ours = [c for c in OF_DESIGN if "_to_fashion" not in c]
    assert {c.split()[0] for c in ours} == {"sample", "design"} and len(ours) >= 6
    for command in ours:
        small = ["--search.steps", "2", "--search.num", "3"] if command[:6] == "design" else []
        assert command_line.main([*shlex.split(command), *small]) == 0, command
    pairs = folder / "runs" / "vae_fashion_mlp" / "samples"
    assert list(pairs.glob("*design*.png")) and list(pairs.glob("*design*.csv"))


@pytest.mark.long
def test_known_pixels_stay_and_the_python_of_the_page_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    config, fill = blocks("design.md")
    scope: dict = {}
    exec(fill, scope)
    np.testing.assert_array_equal(scope["filled"][:, :8], scope["image"][:, :8])
    exec(config, scope)
    assert scope["get_config"](tiny=True).steps == 8


@pytest.mark.long
def test_designs_between_two_pictures_start_and_end_there(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    shirt = np.zeros((28, 28), np.uint8)
    shirt[4:24, 8:20] = 180
    Image.fromarray(shirt).save("first.png")
    Image.fromarray(shirt.T).save("second.png")
    run = ["design", "runs/vae_fashion_mlp", "--between", "first.png", "second.png"]
    assert command_line.main([*run, "--search.num", "5", "--out", "way.png"]) == 0
    assert len((folder / "way.csv").read_text().splitlines()) == 6


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ["sample", "runs/sketch_to_shapes", "--sampler.sketch", "part28.png"],
        ["sample", "runs/attributes_to_shapes", "--sampler.fill", "sketch.png"],
        ["sample", "runs/attributes_to_shapes", "--prompt", "a purple sofa"],
        ["design", "runs/attributes_to_shapes"],
        ["design", "runs/vae_fashion_mlp", "--brief", "nothing_of_the_kind"],
    ],
)
def test_bad_input_is_one_line_and_2(folder, words, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save("part28.png")
    assert command_line.main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("genjax: ") and len(said) == 1, said
