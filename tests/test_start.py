"""A run that begins with the parameters of another."""

import dataclasses

import jax
import numpy as np
import pytest

import genjax
from genjax.data.sources import LabelledTexts, TextFiles
from genjax.data.text.codecs import Characters, Words
from genjax.data.text.layouts import Documents, Packed
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.classifier import Classifier
from genjax.families.masked_lm import MaskedLM
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from genjax.start_from import StartFrom, transfer_params, transfer_variables
from tests import toy

NET = Transformer(
    layers=1, heads=2, width=8, context=13, causal=False, biases=("head",), head_transform=True
)
UNDER = (("^", "backbone/tokens/"),)


def test_paths_go_where_the_first_rule_says():
    learned = {"a": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}, "b": {"kernel": np.ones(4)}}
    params = {"x": {"kernel": np.zeros((2, 3)), "scale": np.zeros(3)}, "b": {"kernel": np.zeros(4)}}
    found = transfer_params(params, learned, StartFrom("run", (("^a/k", "x/k"), ("^b/", "b/"))))
    assert found.params["x"]["kernel"].all() and found.params["b"]["kernel"].all()
    assert not found.params["x"]["scale"].any()
    assert (
        set(found.loaded) == {"x/kernel", "b/kernel"}
        and found.new == ("x/scale",)
        and found.left == ("a/bias",)
    )
    same = transfer_params(params, learned, StartFrom("run"))
    assert same.loaded == ("b/kernel",) and set(same.left) == {"a/kernel", "a/bias"}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("^nothing", "x"),), "'\\^nothing' matches no parameter; there are a/kernel, b/kernel"),
        ((("kernel", "bias"),), "no parameter of run has a place here"),
        ((("^a/", "b/"), ("^b/", "b/")), "a/kernel and b/kernel both go to b/kernel"),
        ((("^a/", "c/"),), r"a/kernel \[2\] to c/kernel \[3\]"),
        ((("(", "x"),), "not a regular expression"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rules, message):
    learned = {"a": {"kernel": np.ones(2)}, "b": {"kernel": np.ones(2)}}
    params = {"b": {"kernel": np.zeros(2)}, "c": {"kernel": np.zeros(3)}}
    with pytest.raises(UserError, match=message):
        transfer_params(params, learned, StartFrom("run", rules))


def test_a_run_begins_where_the_other_ended(tmp_path):
    base = genjax.train(toy.experiment(steps=8, ema=0.9), tmp_path / "base", quiet=True)
    told = dataclasses.replace(
        toy.experiment(steps=4, ema=0.9), start_from=StartFrom(str(tmp_path / "base")), seed=7
    )
    no_step = dataclasses.replace(told, optimizer=Adam(Constant(0.0)))
    run = genjax.train(no_step, tmp_path / "run", quiet=True)
    averaged = jax.device_get(base.state.ema)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(run.state.params), averaged)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        jax.device_get(run.state.ema),
        averaged,
    )


def test_what_both_have_of_a_reshaped_parameter_is_loaded():
    learned = {
        "positions": np.arange(6.0).reshape(3, 2),
        "head": np.ones((2, 4)),
        "kept": np.ones(2),
    }
    params = {
        "positions": np.full((5, 2), -1.0),
        "head": np.full((2, 3), -1.0),
        "kept": np.zeros(2),
    }
    start = StartFrom("run", reshape=("positions", "head"))
    found = transfer_params(params, learned, start)
    wanted = [[0, 1], [2, 3], [4, 5], [-1, -1], [-1, -1]]
    np.testing.assert_array_equal(found.params["positions"], wanted)
    assert (np.asarray(found.params["head"]) == 1).all() and found.loaded == ("kept",)
    assert set(found.reshaped) == {
        "positions [3, 2] to positions [5, 2]",
        "head [2, 4] to head [2, 3]",
    }
    told = found.format_table("run")
    assert told[0] == "began from run, parameters: 1 loaded, 2 reshaped, 0 new, 0 left"
    assert "  reshaped  positions [3, 2] to positions [5, 2]" in told
    with pytest.raises(UserError, match=r"head \[2, 4\] to head \[2, 3\]"):
        transfer_params(params, learned, StartFrom("run", reshape=("positions",)))
    with pytest.raises(UserError, match=r"positions \[6\] to positions"):
        transfer_params(params, learned | {"positions": np.zeros(6)}, start)
    with pytest.raises(UserError, match="start_from.reshape: 'nothing' matches no parameter"):
        transfer_params(params, params, StartFrom("run", reshape=("nothing",)))


def test_statistics_come_along_where_they_fit():
    mine = {"mean": np.zeros(2), "batch_stats": {"a": np.zeros(3), "b": np.zeros(2)}}
    learned = {
        "mean": np.ones(2),
        "batch_stats": {"a": np.ones(3), "b": np.ones(4), "c": np.ones(1)},
    }
    found = transfer_variables(mine, learned, StartFrom("run"))
    assert (
        found["batch_stats"]["a"].all()
        and not found["batch_stats"]["b"].any()
        and not found["mean"].any()
    )
    assert not transfer_variables(mine, learned, StartFrom("run", variables=()))["batch_stats"][
        "a"
    ].any()


def test_it_goes_on_bitwise_and_without_the_other(tmp_path):
    genjax.train(toy.experiment(steps=8), tmp_path / "base", quiet=True)
    told = dataclasses.replace(
        toy.experiment(steps=8), start_from=StartFrom(str(tmp_path / "base")), seed=7
    )
    whole = genjax.train(told, tmp_path / "whole", quiet=True)
    genjax.train(dataclasses.replace(told, steps=4), tmp_path / "parts", quiet=True)
    (tmp_path / "base").rename(tmp_path / "gone")
    parts = genjax.train(told, tmp_path / "parts", quiet=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(whole.state.params),
        jax.device_get(parts.state.params),
    )
    with pytest.raises(
        UserError, match="start_from needs the run .*base, which is not there; make it"
    ):
        genjax.train(told, tmp_path / "third", quiet=True)


def texts(tmp_path, codec):
    for name, word in (("a", "sun"), ("b", "moon"), ("c", "star")):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{name}.txt").write_text(
            f"the {word} is up\n\nno {word}\nhere\n\n" * 30
        )
    split = ByDocuments(test=0.2)
    return TextFiles(
        str(tmp_path / "texts"),
        "*.txt",
        "paragraphs",
        "utf-8",
        codec,
        Documents(12),
        split,
        str(tmp_path),
    )


def test_paragraphs_are_documents_and_their_file_is_the_label(tmp_path):
    data = LabelledTexts(texts(tmp_path, Words())).open()
    assert data.spec.classes == 3 and len(data.splits["train"]) + len(data.splits["test"]) == 180
    batch = data.splits["train"].batch(np.arange(len(data.splits["train"])))
    assert set(batch["label"].tolist()) == {0, 1, 2}
    for tokens, label in zip(batch["tokens"], batch["label"], strict=True):
        assert ("sun", "moon", "star")[label] in data.codec.decode(tokens)
    two = [data.codec.decode(row) for row in batch["tokens"] if "here" in data.codec.decode(row)]
    assert two and all(text.startswith("no ") for text in two), (
        "lines without an empty one between belong together"
    )


@pytest.mark.long
def test_a_classifier_of_texts_starts_from_a_masked_language_model(tmp_path):
    special = ("[PAD]", "[MASK]")
    source = texts(tmp_path, Subwords("bpe", 270, special, None, None, "[PAD]", "[MASK]"))
    every = Every(log=4, evaluate=4, sample=0, checkpoint=4)
    common = {"steps": 12, "batch_size": 16, "every": every, "devices": Devices(count=1)}
    genjax.train(Experiment(MaskedLM(NET), source, **common), tmp_path / "mlm", quiet=True)
    base = genjax.load(tmp_path / "mlm")
    told = Experiment(
        Classifier(TokenBackbone(NET)),
        LabelledTexts(source),
        Adam(Constant(0.0)),
        start_from=StartFrom(str(tmp_path / "mlm"), UNDER),
        **common,
    )
    run = genjax.train(told, tmp_path / "still", quiet=True)
    tokens, learned = run.state.params["backbone"]["tokens"], base.state.params
    assert tokens.keys() == learned.keys() - {"transform", "transform_norm", "head_bias"}
    jax.tree.map(np.testing.assert_array_equal, tokens, {name: learned[name] for name in tokens})
    moved = genjax.train(
        dataclasses.replace(told, optimizer=Adam(Constant(0.03)), steps=40),
        tmp_path / "run",
        quiet=True,
    )
    assert moved.evaluate().numbers["accuracy"] > 0.9

    letters = Characters("\n abcdefghijklmnopqrstuvwxyz")
    other = dataclasses.replace(
        told, data=LabelledTexts(dataclasses.replace(source, codec=letters))
    )
    with pytest.raises(UserError, match="the tokens of .*mlm are not those of these data"):
        genjax.train(other, tmp_path / "other", quiet=True)


def test_padding_does_not_change_what_a_text_is_taken_for():
    for pool in ("mean", "first", "last"):
        module = TokenBackbone(NET, pool).backbone(None, 9)
        tokens = np.array([[3, 4, 5, -1, -1], [3, 4, 5, 6, 7]], np.int32)
        params = module.init(jax.random.key(0), tokens)
        found = module.apply(params, tokens)
        np.testing.assert_allclose(
            found[:1], module.apply(params, tokens[:1, :3]), rtol=1e-5, atol=1e-6
        )
        assert np.abs(found[0] - found[1]).max() > 1e-3


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="start_from.run must be a run directory"):
        StartFrom("")
    assert StartFrom().run is None
    with pytest.raises(UserError, match="must fit tokens data, got a"):
        genjax.train(
            Experiment(Classifier(), LabelledTexts(texts(tmp_path, Words()))),
            tmp_path / "a",
            quiet=True,
        )
    with pytest.raises(UserError, match="must fit image data, got a"):
        genjax.train(
            Experiment(Classifier(TokenBackbone(NET)), toy.Pictures()), tmp_path / "b", quiet=True
        )
    with pytest.raises(UserError, match="LabelledTexts needs one document per row: set"):
        LabelledTexts(dataclasses.replace(texts(tmp_path, Words()), layout=Packed(8))).open()
    with pytest.raises(UserError, match='pool must be "mean" or "last"'):
        TokenBackbone(dataclasses.replace(NET, causal=True), "first")
