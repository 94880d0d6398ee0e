"""The configs as a whole: published sizes, and chains that train without any data folder."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest

from genjax.__main__ import main
from genjax.config_files import load_config
from genjax.data import stand_in
from genjax.data.dataset import Spec
from genjax.serial.config_places import list_configs
from tests.configs.checks import check_whole_form, configs

FOLDERS = (
    "autoregressive",
    "captioner",
    "classifier",
    "diffusion",
    "gan",
    "masked_lm",
    "posttrain",
    "reward",
    "vae",
)


@pytest.mark.parametrize(
    ("name", "vocabulary", "source", "published"),
    [
        ("makemore_mlp", 27, None, 11_897),
        ("multi30k_de_en", 5893, 7853, 9_038_341),
        ("gpt2_124m_gpu", 50_257, None, 124_439_808),
        (
            "gpt_shakespeare_gpu",
            65,
            None,
            10_646_784 + 256 * 384,
        ),  # nanoGPT counts no positions: 10.65M
        ("gpt_shakespeare_char", 65, None, 795_904 + 64 * 128),  # 0.80M
    ],
)
def test_nets_have_the_published_sizes(name, vocabulary, source, published):
    family = load_config(name)[0].family
    spec = Spec("tokens", (9,), np.zeros(9, np.float32), vocabulary=vocabulary)
    if source is not None:
        spec = dataclasses.replace(spec, source_length=8, source_vocabulary=source)
    example = {entry: np.zeros((1, *shape), kind) for entry, (shape, kind) in spec.entries.items()}
    params, _ = jax.eval_shape(lambda: family.init(jax.random.key(0), example, spec))
    assert sum(p.size for p in jax.tree.leaves(params)) == published


def test_each_folder_of_configs_has_its_file_of_tests():
    assert {path.parent.name for path in list_configs().values()} == {*FOLDERS, "prepare"}


@pytest.mark.skipif(
    "GENJAX_DATA" not in os.environ, reason="then the tests of each folder of configs say the same"
)
@pytest.mark.parametrize("name", [name for folder in FOLDERS for name in configs(folder)])
def test_the_whole_form_is_sound_without_a_data_folder(name, monkeypatch):
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    check_whole_form(name, monkeypatch)


@pytest.mark.long
def test_a_chain_of_three_runs_trains_without_a_data_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    stand_in._say.cache_clear()
    assert main(["train", "dpo_preferences", "--tiny", "--devices.count", "1"]) == 0
    assert "generated stand-ins for its folder" in capfd.readouterr().err
    for name in ("gpt_books_tiny", "sft_instructions_tiny", "dpo_preferences_tiny"):
        rows = (tmp_path / "runs" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(rows[-1])["step"] == 4
