"""A model of Hugging Face's becomes a run that samples, is judged, shown and exported again."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import __main__ as command_line
from genjax.data.sources import PythonDocs
from genjax.data.sources.text import TextFiles
from genjax.data.text.layouts import Blocks
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.families.masked_lm import MaskedLM
from genjax.interop.huggingface import Pretrained, load, save
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import Transformer
from genjax.runs.pretrained import import_run

TEXT = "The for statement is used to iterate over the elements of a sequence.\n" * 40
CODEC = Subwords("bpe", 280).fit([TEXT])
ROWS = 290  # more than the tokenizer has tokens


def stored(folder, codec=CODEC, **options):
    net = Transformer(1, 2, 8, 24, **options)
    shapes = jax.eval_shape(
        lambda: TokenNet(net, ROWS).init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    )
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: draw.normal(0, 0.3, leaf.shape).astype(np.float32), shapes["params"]
    )
    model = Pretrained(net, params, codec)
    save(model, folder)
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    stored(folder / "model")
    (folder / "texts").mkdir()
    for name in "ab":
        (folder / "texts" / f"{name}.txt").write_text(TEXT)
    data = TextFiles(root=str(folder / "texts"), layout=Blocks(12), cache=str(folder / "cache"))
    return import_run(folder / "model", folder / "run", data)


def test_it_is_a_run_like_any_other(run, capsys):
    run_dir = str(run.run_dir)
    expected = load(run.run_dir.parent / "model")
    assert run.step == 0 and run.codec.vocabulary == run.spec.vocabulary == ROWS
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(run.state.params), dict(expected.params)))
    assert (
        command_line.main(
            ["sample", run_dir, "--num", "2", "--sampler.prompt", "The", "--sampler.steps", "9"]
        )
        == 0
    )
    written = capsys.readouterr().out.strip()
    texts = Path(written).read_text(encoding="utf-8")
    assert texts.startswith("The") and texts.count("The") >= 2
    assert command_line.main(["show", run_dir]) == 0
    assert "embedding" in capsys.readouterr().out


def test_its_loss_is_what_its_logits_say(run):
    found = run.evaluate("test").numbers
    rows = run.experiment.data.open().splits["test"]
    batch = rows.batch(np.arange(len(rows)))
    logits = jax.jit(load(run.run_dir.parent / "model").logits)(batch["tokens"][:, :-1])
    log_probs = jax.nn.log_softmax(logits)
    nll = -np.take_along_axis(np.asarray(log_probs), batch["tokens"][:, 1:, None], -1)[..., 0]
    weight = batch["loss_mask"][:, 1:]
    np.testing.assert_allclose(found["loss"], (nll * weight).sum() / weight.sum(), rtol=1e-4)
    bits = (
        (nll * weight).sum()
        / math.log(2)
        / (run.codec.token_bytes[batch["tokens"][:, 1:]] * weight).sum()
    )
    np.testing.assert_allclose(found["bits_per_byte"], bits, rtol=1e-4)


def test_it_goes_out_as_it_came_in(run, capsys):
    assert command_line.main(["export", str(run.run_dir), "--to", "huggingface"]) == 0
    again, before = load(run.run_dir / "export" / "huggingface"), load(run.run_dir.parent / "model")
    assert again.net == before.net and again.kind == "gpt2"
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(again.params), dict(before.params)))
    assert again.codec.encode(TEXT).tolist() == CODEC.encode(TEXT).tolist()
    capsys.readouterr()


def test_text_that_ships_with_python_judges_it_where_no_data_are_given(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stored(tmp_path / "model")
    run = import_run(tmp_path / "model", tmp_path / "run")
    assert isinstance(run.experiment.data, PythonDocs) and run.experiment.data.layout.length == 24


def test_an_encoder_makes_a_run_that_fills_gaps_and_goes_out_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    encoder = {
        "norm_first": False,
        "norm_embeddings": True,
        "causal": False,
        "head_transform": True,
        "token_types": 2,
    }
    special = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
    codec = Subwords("bpe", 280, special, "[CLS]", "[SEP]", "[PAD]", "[MASK]").fit([TEXT])
    biases = ("attention", "mix", "feed_forward", "norm", "head")
    before = stored(tmp_path / "bert", codec, **encoder, biases=biases)
    run = import_run(tmp_path / "bert", tmp_path / "run")
    assert run.codec.mask == 3 and isinstance(run.experiment.family, MaskedLM)
    tokens = jnp.asarray([codec.encode("The for statement")])
    found = run.experiment.family.features(
        run.state.params, {"loss_mask": np.ones(tokens.shape)}, tokens
    )
    logits = run.experiment.family.logits(run.state.params, found)
    np.testing.assert_allclose(
        logits, jax.jit(load(tmp_path / "bert").logits)(tokens), rtol=1e-5, atol=1e-5
    )
    asked = ["--num", "1", "--prompt", "The [MASK] statement"]
    assert command_line.main(["sample", str(run.run_dir), *asked]) == 0
    assert Path(capsys.readouterr().out.strip()).read_text(encoding="utf-8").startswith("The")
    assert command_line.main(["export", str(run.run_dir), "--to", "huggingface"]) == 0
    again = load(tmp_path / "run" / "export" / "huggingface")
    assert again.kind == "bert"
    jax.tree.map(np.testing.assert_array_equal, dict(again.params), dict(before.params))


def test_what_makes_no_run_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="must be empty or missing"):
        import_run(run.run_dir.parent / "model", run.run_dir)
    with pytest.raises(UserError, match="has no config.json"):
        import_run(tmp_path, tmp_path / "run")
    data = dataclasses.replace(run.experiment.data, layout=Blocks(99))
    with pytest.raises(UserError, match=r"family\.net\.context must be >= 99, as the rows have 99"):
        import_run(run.run_dir.parent / "model", tmp_path / "run", data)


def test_its_config_holds_no_copy_of_the_tokenizer(run):
    config = (run.run_dir / "config.json").read_text()
    assert (
        len(config) < 10_000 and json.loads(config)["experiment"]["data"]["codec"]["rows"] == ROWS
    )
    assert genjax.load(run.run_dir).codec.encode(TEXT).tolist() == CODEC.encode(TEXT).tolist()
