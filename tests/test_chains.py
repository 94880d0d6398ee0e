"""Runs that begin with others: those are made first, gone on with, or taken from elsewhere."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import genjax
from genjax import __main__ as command_line
from genjax.config_files import load_config, load_run_config
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents, RandomWindows
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.classifier import Classifier
from genjax.interop.huggingface import Pretrained, save
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD
from genjax.parallel import Devices
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.lora import BASE, LoRA
from genjax.runs.checkpoint_files import newest_step
from genjax.runs.pretrained import with_base
from genjax.schedules import Constant
from genjax.start_from import StartFrom

ONE = Devices(count=1)
EVERY = Every(log=1, evaluate=0, sample=0, checkpoint=0)
TEXT = "The for statement is used to iterate over the elements of a sequence.\n" * 40
STEPS = load_config("vae_digits", tiny=True)[0].steps
CHAINED = """import dataclasses
from genjax.config_files import load_config
from genjax.start_from import StartFrom

def get_config(tiny=False):
    base, _ = load_config("vae_digits", tiny=True)
    return dataclasses.replace(base, steps=4, seed=4, start_from=StartFrom("runs/vae_digits_tiny"))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chained.py").write_text(CHAINED)
    return tmp_path


def test_a_run_directory_names_its_config():
    experiment, path = load_run_config("runs/vae_digits")
    assert path.stem == "vae_digits" and experiment == load_config("vae_digits")[0]
    assert (
        load_run_config("elsewhere/vae_digits_tiny")[0] == load_config("vae_digits", tiny=True)[0]
    )
    assert load_run_config("runs/nothing") is None


def test_the_run_that_another_starts_from_is_trained_first_and_once(here, capsys):
    options = ["train", "chained.py", "--devices.count", "1"]
    assert command_line.main(options) == 0
    said = capsys.readouterr().err
    assert "runs/vae_digits_tiny is not there: it is trained first" in said
    assert f"began from runs/vae_digits_tiny, step {STEPS}, parameters: " in said
    base = here / "runs" / "vae_digits_tiny"
    assert newest_step(base) == STEPS
    assert (base / "config.py").exists()
    rows = (base / "metrics.jsonl").read_text()
    assert command_line.main([*options, "--run-dir", "again"]) == 0
    assert (
        "trained first" not in capsys.readouterr().err
        and (base / "metrics.jsonl").read_text() == rows
    )
    base.rename(here / "gone")
    assert command_line.main([*options, "--steps", "8"]) == 0, (
        "a run that has started needs it no more"
    )
    assert "trained first" not in capsys.readouterr().err and not base.exists()


def test_one_that_was_stopped_goes_on_first(here, capsys):
    with pytest.raises(SystemExit, match="0"):
        command_line.main(["train", "chained.py", "--devices.count", "1", "--max-minutes", "0"])
    assert f"of {STEPS}; the same command continues" in capsys.readouterr().err
    step = newest_step(here / "runs" / "vae_digits_tiny")
    assert 0 < step < STEPS and newest_step(here / "runs" / "chained") is None
    assert command_line.main(["train", "chained.py", "--devices.count", "1"]) == 0
    assert (
        f"runs/vae_digits_tiny stands at step {step} of {STEPS}: it is trained first"
        in capsys.readouterr().err
    )
    assert (
        newest_step(here / "runs" / "vae_digits_tiny") == STEPS
        and newest_step(here / "runs" / "chained") == 4
    )


def test_another_run_may_take_its_place(here, capsys):
    base, _ = load_config("vae_digits", tiny=True)
    genjax.train(dataclasses.replace(base, seed=9, steps=4, devices=ONE), here / "mine", quiet=True)
    assert command_line.main(["train", "chained.py", "--from", "mine", "--devices.count", "1"]) == 0
    assert (
        "began from mine, step 4" in capsys.readouterr().err
        and not (here / "runs" / "vae_digits_tiny").exists()
    )
    stored = json.loads((here / "runs" / "chained" / "config.json").read_text())
    assert stored["experiment"]["start_from"]["run"] == "mine"
    for source in ("mine", "./mine"):
        assert (
            command_line.main(["train", "chained.py", "--from", source, "--devices.count", "1"])
            == 0
        )
    assert (
        command_line.main(["train", "chained.py", "--from", "other", "--devices.count", "1"]) == 2
    )
    assert "runs/chained has started with mine: give another --run-dir" in capsys.readouterr().err
    assert command_line.main(["train", "chained.py", "--from", "nowhere", "--run-dir", "b"]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model in Hugging Face's layout, and a folder of text."""
    folder = tmp_path_factory.mktemp("model")
    codec = Subwords("bpe", 280).fit([TEXT])
    net = Transformer(1, 2, 8, 24)
    params = jax.device_get(
        net.module(280).init(jax.random.key(0), np.zeros((1, 1), np.int32))["params"]
    )
    save(Pretrained(net, params, codec), folder / "model")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text(TEXT)
    return folder


def texts(model, layout, codec):
    split = ByDocuments(test=0.2)
    root, cache = str(model / "texts"), str(model / "cache")
    return TextFiles(root, "*.txt", "lines", codec=codec, layout=layout, split=split, cache=cache)


@pytest.mark.long
def test_a_model_of_others_is_gone_on_with_in_its_own_tokens_and_net(model, tmp_path, capsys):
    data = texts(model, RandomWindows(12), Characters())
    told = Experiment(
        Autoregressive(Transformer(2, 2, 16, 32)), data, SGD(Constant(0.0)), steps=1, batch_size=4
    )
    told = dataclasses.replace(told, every=EVERY, devices=ONE)
    whole = with_base(told, str(model / "model"), str(tmp_path / "whole"))
    assert whole.family.net.context == 24 and whole.start_from.run == str(tmp_path / "whole_from")
    run = genjax.train(whole, tmp_path / "whole", quiet=True)
    assert type(run.codec) is Subwords and run.codec.vocabulary == 280
    assert "text is encoded with the tokens of" in capsys.readouterr().err
    lora = with_base(
        dataclasses.replace(told, family=LoRA("unused", Adapters(2))),
        str(model / "model"),
        str(tmp_path / "l"),
    )
    adapted = genjax.train(lora, tmp_path / "l", quiet=True)
    learned = genjax.load(tmp_path / "whole_from").state.params
    (tmp_path / "whole_from").rename(tmp_path / "gone")  # a run that has started needs it no more
    again = dataclasses.replace(told, steps=2)
    assert (
        genjax.train(
            with_base(again, str(model / "model"), str(tmp_path / "whole")), tmp_path / "whole"
        ).step
        == 2
    )
    (tmp_path / "gone").rename(tmp_path / "whole_from")
    assert with_base(told, str(model / "model"), str(tmp_path / "m") + "/").start_from.run == str(
        tmp_path / "m_from"
    )
    with pytest.raises(UserError, match="m_from holds another model than .*texts: remove it"):
        with_base(told, str(model / "texts"), str(tmp_path / "m"))
    for found in (run.state.params, adapted.state.frozen[BASE]["params"]):
        jax.tree.map(
            np.testing.assert_array_equal,
            dict(jax.device_get(found)),
            dict(jax.device_get(learned)),
        )
    assert genjax.load(tmp_path / "l").evaluate().numbers == adapted.evaluate().numbers


@pytest.mark.parametrize("text", [b'{"model_ty', b"\xff\xfe", b"5"])
def test_a_damaged_model_is_told_and_leaves_nothing(model, tmp_path, text):
    shutil.copytree(model / "model", tmp_path / "model")
    (tmp_path / "model" / "config.json").write_bytes(text)
    told = Experiment(LoRA("unused", Adapters(2)), texts(model, RandomWindows(12), Characters()))
    with pytest.raises(UserError, match="config.json is damaged"):
        with_base(told, str(tmp_path / "model"), str(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_somebody_else_is_never_cleared(model, tmp_path):
    (tmp_path / "run_from").mkdir()
    (tmp_path / "run_from" / "mine.txt").write_text("mine")
    told = Experiment(LoRA("unused", Adapters(2)), texts(model, RandomWindows(12), Characters()))
    for _ in range(2):
        with pytest.raises(
            UserError, match="run_from exists already, but .*model would be imported there"
        ):
            with_base(told, str(model / "model"), str(tmp_path / "run"))
    assert (tmp_path / "run_from" / "mine.txt").read_text() == "mine"


def test_what_stands_on_a_net_takes_that_of_the_other_run(model, tmp_path):
    from genjax.data.sources import LabelledTexts

    data = LabelledTexts(texts(model, Documents(12), Subwords()))
    start = StartFrom("unused", (("^", "backbone/tokens/"),))
    told = Experiment(
        Classifier(TokenBackbone(Transformer(2, 2, 16, 32), "last")), data, start_from=start
    )
    found = with_base(told, str(model / "model"), str(tmp_path / "run"))
    assert found.family.net.net.context == 24 and found.family.net.pool == "last"
    assert found.start_from.rules == start.rules


def test_a_codec_with_a_vocabulary_stays_and_has_to_be_that_of_the_run(model, tmp_path):
    letters = Characters("".join(sorted(set(TEXT))))
    data = texts(model, RandomWindows(12), letters)
    told = Experiment(
        Autoregressive(Transformer(1, 2, 8, 24)), data, SGD(Constant(0.0)), steps=1, batch_size=4
    )
    told = dataclasses.replace(told, every=EVERY, devices=ONE)
    with pytest.raises(UserError, match="the tokens of .*_from are not those of these data"):
        genjax.train(
            with_base(told, str(model / "model"), str(tmp_path / "a")), tmp_path / "a", quiet=True
        )
    assert Path(tmp_path / "a_from" / "config.json").exists()
