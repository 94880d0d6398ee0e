"""Adapters of the package peft come in and go out, and the merged logits stay equal."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import genjax
from genjax.data.sources.text import TextFiles
from genjax.data.text.codecs import Bytes
from genjax.data.text.layouts import Blocks
from genjax.errors import UserError
from genjax.interop import huggingface, peft
from genjax.interop.peft import LowRank
from genjax.nets.transformer.transformer import Transformer
from genjax.posttrain.adapters import Adapters
from genjax.runs.export import export
from genjax.runs.pretrained import import_adapters, import_run
from tests.interop.test_encoder_weights import make
from tests.interop.test_huggingface import (
    BERT,
    GPT2,
    LLAMA,
    QWEN3,
    TEXT,
    TOKENS,
    V,
    logits_of,
    made,
    parameters,
    put,
)

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip(
    "transformers", reason="the peer is transformers: pip install '.[reference]'"
)

DISTILBERT = {
    **{"vocab_size": V, "dim": 12, "n_layers": 2, "n_heads": 3, "hidden_dim": 20},
    "max_position_embeddings": 18,
}
NEOX = {
    **{"vocab_size": V, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3},
    **{"intermediate_size": 20, "max_position_embeddings": 16, "rotary_pct": 0.5},
}
CASES = {
    "llama": ("Llama", LLAMA, {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "llama, ranks of modules, head": (
        "Llama",
        LLAMA,
        {
            "target_modules": ["k_proj", "up_proj", "lm_head"],
            "rank_pattern": {"k_proj": 2, "model.layers.1.mlp.up_proj": 5},
            "alpha_pattern": {"^lm_head": 3},
        },
    ),
    "gpt2, fused": ("GPT2", GPT2, {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "qwen3, by the root of the rank, one layer": (
        "Qwen3",
        QWEN3,
        {"target_modules": r".*layers\.1\..*(o|gate)_proj", "use_rslora": True},
    ),
    "gpt-neox, fused head by head": (
        "GPTNeoX",
        NEOX,
        {"target_modules": ["query_key_value", "dense_4h_to_h"]},
    ),
    "bert": ("Bert", BERT, {"target_modules": ["query", "intermediate.dense"]}),
    "distilbert": ("DistilBert", DISTILBERT, {"target_modules": ["q_lin", "lin1"]}),
}


def build(kind, fields):
    return make(kind, fields) if kind == "DistilBert" else made(kind, fields)


def merge(model, low):
    """The model with its adapters merged."""
    adapters = Adapters(low.rank, low.alpha, low.targets)
    shapes = jax.eval_shape(lambda: adapters.init(jax.random.key(0), model.params))
    same = jax.tree.map(lambda one, other: one.shape == other.shape, shapes, dict(low.params))
    assert jax.tree.all(same)  # the targets match these matrices alone
    return dataclasses.replace(model, params=adapters.merge(model.params, low.params))


@pytest.mark.parametrize("case", CASES)
def test_merged_logits_are_those_of_peft_in_both_directions(case, tmp_path):
    theirs = pytest.importorskip("peft", reason="the peer is peft: pip install peft accelerate")
    kind, fields, options = CASES[case]
    peer = build(kind, fields)
    model = huggingface.load(put(tmp_path / "base", peer))
    adapted = theirs.get_peft_model(peer, theirs.LoraConfig(r=3, lora_alpha=7, **options))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    adapted.eval().save_pretrained(tmp_path / "theirs")
    expected = logits_of(adapted)
    low = peft.load(tmp_path / "theirs", model.net, model.params)
    merged = merge(model, low)
    got = np.asarray(jax.jit(merged.logits)(TOKENS))
    assert np.abs(got - logits_of(build(kind, fields))).max() > 0.01  # the adapters do something
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)

    peft.save(low, tmp_path / "ours", model.net, model.params)
    again = theirs.PeftModel.from_pretrained(build(kind, fields), tmp_path / "ours").eval()
    np.testing.assert_allclose(logits_of(again), expected, rtol=1e-4, atol=1e-4)
    back = peft.load(tmp_path / "ours", model.net, model.params)
    one, other = (jax.tree.leaves(merge(model, part).params) for part in (back, low))
    for mine, same in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, same, rtol=1e-5, atol=1e-6)


def draw_adapters(net, adapters, params):
    """Random adapters of a net, none of them 0."""
    draw = np.random.default_rng(2)
    shapes = jax.eval_shape(lambda: adapters.init(jax.random.key(0), params))
    return jax.tree.map(lambda leaf: draw.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("scanned", [False, True])
def test_adapters_of_our_own_open_there(scanned, tmp_path):
    """Queries and values get other adapters each, where GPT-2 has one layer for both and keys."""
    theirs = pytest.importorskip("peft", reason="the peer is peft: pip install peft accelerate")
    net = Transformer(2, 2, 8, 16, biases=(), scan_layers=scanned)
    params = jax.tree.map(lambda leaf: leaf - 0.4, parameters(net, V))  # of both signs
    adapters = Adapters(2, 5.0, ("(query|value)/kernel", "down/kernel"))
    mine = draw_adapters(net, adapters, params)
    model = huggingface.Pretrained(net, params, Bytes())
    huggingface.save(model, tmp_path / "base")
    peft.save(LowRank(2, 5.0, adapters.targets, mine), tmp_path / "adapters", net, params)
    stored = json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())
    downs = [f"transformer.h.{i}.mlp.c_proj" for i in (0, 1)]  # attention has a c_proj, too
    assert stored["target_modules"] == ["c_attn", *downs]
    assert set(stored["rank_pattern"].values()) == {4}
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    peer = theirs.PeftModel.from_pretrained(base, tmp_path / "adapters").eval()
    merged = dataclasses.replace(model, params=adapters.merge(params, mine))
    np.testing.assert_allclose(
        logits_of(peer), jax.jit(merged.logits)(TOKENS), rtol=1e-4, atol=1e-4
    )


NET = Transformer(
    **{"layers": 2, "heads": 2, "width": 8, "context": 16, "biases": (), "tied": False},
    **{"positions": "rotary", "norm": "rms", "activation": "swiglu"},
)


@pytest.fixture
def folder(tmp_path):
    """Adapters of a Llama, as they are written here."""
    params = parameters(NET, V)
    adapters = Adapters(3, 6.0, ("query/kernel", "^head_kernel"))
    mine = draw_adapters(NET, adapters, params)
    peft.save(LowRank(3, 6.0, adapters.targets, mine), tmp_path, NET, params)
    return tmp_path


def refused(folder, net=NET):
    """Return the field of the error for a folder of adapters."""
    with pytest.raises(UserError) as error:
        peft.load(folder, net, parameters(net, V))
    assert "\n" not in str(error.value) and str(error.value.field) in str(error.value)
    return error.value.field


def change(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_was_written_is_read_again(folder):
    low = peft.load(folder, NET, parameters(NET, V))
    adapters = Adapters(3, 6.0, ("query/kernel", "^head_kernel"))
    assert (low.rank, low.alpha) == (3, 6.0)
    assert low.targets == ("^head_kernel$", "^layer_\\d+/attention/query/kernel$")
    expected = draw_adapters(NET, adapters, parameters(NET, V))
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(low.params), dict(expected)))


@pytest.mark.parametrize(
    "fields",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"modules_to_save": ["lm_head"]},
        {"init_lora_weights": "pissa"},
        {"layer_replication": [[0, 1], [0, 2]]},
        {"target_parameters": ["experts"]},
        {"trainable_token_indices": [3]},
        {"a_method_of_tomorrow": {"on": True}},
        {"r": 0},
        {"lora_alpha": "much"},
        {"lora_dropout": -0.5},
        {"rank_pattern": {"(a+)+$": 3}},
        {"rank_pattern": {"q_proj": 2.5}},
        {"alpha_pattern": [8]},
        {"target_modules": ["q_proj", "lm_head", "v_proj"]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_adapters_cannot_express_is_refused_by_its_field(fields, folder):
    change(folder, **fields)
    assert refused(folder) == next(iter(fields))


def test_weights_that_do_not_fit_are_refused(folder):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(folder, r=4)  # than in the weights
    assert refused(folder) == str(path)
    change(folder, r=3)
    assert refused(folder, dataclasses.replace(NET, width=12)) == str(path)
    assert refused(folder, dataclasses.replace(NET, tied=True)) == "target_modules"
    name = "base_model.model.lm_head.base_layer.weight"
    save_file(tensors | {name: np.zeros((V, 8), np.float32)}, path)
    assert refused(folder) == str(path)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    save_file(tensors | {name: np.zeros(8, np.float32)}, path)
    assert refused(folder) == str(path)
    path.rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="pickle"):
        peft.load(folder, NET, parameters(NET, V))
    (folder / "adapter_config.json").unlink()
    assert refused(folder) == str(folder)


@pytest.mark.parametrize(
    "adapters, field",
    [
        (Adapters(2, whole=("norm",)), "adapters.whole"),
        (Adapters(2, targets=("kernel", "^embedding")), "adapters.targets"),
    ],
)
def test_what_peft_cannot_express_is_refused(adapters, field, tmp_path):
    params = parameters(NET, V)
    low = LowRank(2, 2.0, adapters.targets, draw_adapters(NET, adapters, params))
    with pytest.raises(UserError) as error:
        peft.save(low, tmp_path / "out", NET, params)
    assert error.value.field == field and not (tmp_path / "out").exists()


def test_adapters_become_a_run_that_is_exported_again(folder, tmp_path):
    model = huggingface.Pretrained(NET, parameters(NET, V), Bytes())
    huggingface.save(model, tmp_path / "model")
    (tmp_path / "texts").mkdir()
    for name in "ab":
        (tmp_path / "texts" / f"{name}.txt").write_text(TEXT * 9)
    data = TextFiles(root=str(tmp_path / "texts"), layout=Blocks(12), cache=str(tmp_path / "cache"))
    import_run(tmp_path / "model", tmp_path / "base", data)
    run = import_adapters(folder, tmp_path / "adapted", str(tmp_path / "base"))
    low = peft.load(folder, NET, model.params)
    expected = jax.tree.leaves(merge(model, low).params)
    got = jax.tree.leaves(run.model().state.params)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    export(run, "peft", tmp_path / "out")
    one, other = (load_file(f / "adapter_model.safetensors") for f in (folder, tmp_path / "out"))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    with pytest.raises(UserError) as error:
        import_adapters(folder, tmp_path / "adapted", str(tmp_path / "base"))
    assert error.value.field == str(tmp_path / "adapted")
    with pytest.raises(UserError) as error:
        export(genjax.load(tmp_path / "base"), "peft")
    assert error.value.field == "family"
