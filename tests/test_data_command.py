"""``genjax data`` as a user meets it, and the configs of preparations."""

import json

import pytest

from genjax.config_files import build_config, load_config
from genjax.errors import UserError
from genjax.serial.config_places import configs_folder
from tests.test_main import cli, flat, refused

CONFIGS = sorted(path.stem for path in configs_folder().glob("prepare/*.py"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("config", CONFIGS)
def test_the_tiny_form_of_a_preparation_makes_a_set(here, config):
    result = cli("data", "prepare", config, "--tiny")
    assert result.code == 0, result.err
    folder = here / "prepared" / f"{config}_tiny"
    assert result.out.splitlines()[-2:] == [
        f"card      prepared/{config}_tiny/card.md",
        f"manifest  prepared/{config}_tiny/manifest.json",
    ]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["origin"] == "real" and manifest["licence"] != "not stated"
    assert sum(shard["rows"] for shard in manifest["shards"]) == manifest["stages"][-1]["kept"] > 9
    again = cli("data", "prepare", config, "--tiny")
    assert again.code == 0 and again.out.count("done before") == len(manifest["stages"])


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_of_a_preparation_builds(config):
    preparation, path = build_config(config)
    assert f"genjax data prepare {config}" in path.read_text().split('"""')[1]
    assert preparation.stages and preparation.origin != "not stated"
    with pytest.raises(UserError, match="returned Preparation, not an Experiment"):
        load_config(config)


def test_fields_are_options(here):
    (here / "raw").mkdir()
    (here / "raw" / "a.rst").write_text(
        "The first text of all is long enough to stay.\n\nToo short.\n"
    )
    options = (
        "--readers.0.root",
        "raw",
        "--readers.0.files",
        "*.rst",
        "--stages.1.least",
        "20",
        "--out",
        "out",
    )
    result = cli("data", "prepare", "prepare_books", *options)
    assert result.code == 0, result.err
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["stages"][2]["dropped"] == {"too short": 1}
    assert manifest["preparation"]["stages"][1]["least"] == 20


def test_mistakes_are_told(here, monkeypatch):
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    refused(
        cli("data", "prepare", "prepare_books"),
        "name the folder of the raw files as root, or set GENJAX_DATA",
    )
    refused(
        cli("data", "prepar", "prepare_books"),
        "unknown command of data 'prepar'; did you mean 'prepare'",
    )
    refused(cli("data", "prepare"), "data needs prepare CONFIG before its options")
    refused(cli("data", "prepare", "vae_digits"), "returned Experiment, not a Preparation")
    refused(cli("data", "prepare", "prepare_book"), "did you mean 'prepare_books'")
    refused(
        cli("data", "prepare", "prepare_books", "--tiny", "--max-bad", "3"),
        "max_bad must be from 0 to 1",
    )
    refused(
        cli("data", "prepare", "prepare_books", "--tiny", "--engine", "spark"),
        "engine must be 'native', 'ray' or",
    )
    result = cli("data", "prepare", "prepare_books", "--max-bda", "1")
    assert result.code == 2 and "--max-bad" in flat(result.err)
    assert not list(here.iterdir())
