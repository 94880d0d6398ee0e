"""A stranger's model folder is refused in one line that names the field or the file."""

from __future__ import annotations

import json
import math
import os
import struct
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from genjax.data.text import tokenizer_check
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.interop import huggingface, weights
from genjax.interop.huggingface import load

LLAMA = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
}
BERT = {name: LLAMA[name] for name in LLAMA if name != "num_key_value_heads"} | {
    "model_type": "bert"
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 300,
    "n_positions": 8,
    "n_embd": 4,
    "n_layer": 1,
    "n_head": 2,
}


@pytest.fixture(scope="module")
def tokenizer():
    return json.loads(Subwords("bpe", 260).fit(["a text"]).tokenizer)


def whole(folder, changes):
    """Give a folder all tensors of its config, and change this."""
    (folder / "config.json").write_text(json.dumps(GPT2 | changes))
    architecture, options = huggingface._read_config(folder, huggingface.ARCHITECTURES)
    net = architecture.net(options)
    table, shapes = architecture.tensors(net, options), huggingface._shapes(net, 300)
    tensors = {one.theirs: np.zeros(one.shape(shapes), np.float32) for one in table}
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture
def folder(tmp_path, tokenizer):
    (tmp_path / "config.json").write_text(json.dumps(GPT2))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    save_file(
        {"transformer.wte.weight": np.zeros((300, 4), np.float32)}, tmp_path / "model.safetensors"
    )
    return tmp_path


def field_of_refusal(folder):
    with pytest.raises(UserError) as refusal:
        load(folder)
    assert "\n" not in str(refusal.value)
    return refusal.value.field


@pytest.mark.parametrize("name", ["n_layer", "n_embd", "n_head", "n_positions", "vocab_size"])
@pytest.mark.parametrize("value", [0, -1, "2", 1.5, True, None, [2], 10**30])
def test_a_size_that_is_no_size_is_named(name, value, folder):
    (folder / "config.json").write_text(json.dumps(GPT2 | {name: value}))
    assert field_of_refusal(folder) == name


def test_more_layers_than_the_weights_hold_are_refused(folder):
    (folder / "config.json").write_text(json.dumps(GPT2 | {"n_layer": 10**9}))
    assert field_of_refusal(folder) == "n_layer"


@pytest.mark.parametrize(
    "config", [LLAMA, LLAMA | {"model_type": "qwen2"}, BERT], ids=lambda c: c["model_type"]
)
@pytest.mark.parametrize("value", [0, -1, "8", 1.5, True, [8], 2**31, 1e300, math.nan])
def test_sizes_of_other_architectures_are_named_too(config, value, folder):
    for name in config.keys() - {"model_type"}:
        (folder / "config.json").write_text(json.dumps(config | {name: value}))
        assert field_of_refusal(folder) == name


@pytest.mark.parametrize(
    ("config", "changes", "field"),
    [
        (GPT2, {"n_head": 3}, "n_head"),
        (GPT2, {"vocab_size": 259}, "vocab_size"),
        (GPT2, {"layer_norm_epsilon": 0}, "layer_norm_epsilon"),
        (GPT2, {"resid_pdrop": 1}, "resid_pdrop"),
        (GPT2, {"initializer_range": math.nan}, "initializer_range"),
        (GPT2, {"tie_word_embeddings": "false"}, "tie_word_embeddings"),
        (LLAMA, {"num_attention_heads": 3, "num_key_value_heads": 3}, "num_attention_heads"),
        (LLAMA, {"num_key_value_heads": 3}, "num_key_value_heads"),
        (LLAMA, {"num_key_value_heads": 8}, "num_key_value_heads"),
        (LLAMA, {"head_dim": 3}, "head_dim"),
        (LLAMA, {"num_attention_heads": 8, "num_key_value_heads": 8}, "head_dim"),
        (LLAMA, {"rope_theta": math.nan}, "rope_theta"),
        (LLAMA, {"rope_theta": 1}, "rope_theta"),
        (LLAMA, {"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "factor"),
        (LLAMA, {"rms_norm_eps": -1e-6}, "rms_norm_eps"),
        (LLAMA, {"vocab_size": 100}, "vocab_size"),
        (BERT, {"num_attention_heads": 5}, "num_attention_heads"),
        (BERT, {"layer_norm_eps": math.inf}, "layer_norm_eps"),
        (BERT, {"hidden_dropout_prob": -0.1}, "hidden_dropout_prob"),
        (BERT | {"model_type": "roberta"}, {"pad_token_id": 511}, "max_position_embeddings"),
        (BERT | {"model_type": "roberta"}, {"pad_token_id": -2}, "pad_token_id"),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_named(config, changes, field, folder):
    (folder / "config.json").write_text(json.dumps(config | changes))
    assert field_of_refusal(folder) == field


def test_sizes_that_the_tensors_do_not_have_are_refused_before_anything_is_made(folder):
    (folder / "config.json").write_text(
        json.dumps(GPT2 | {"n_embd": 2**28, "vocab_size": 2**31 - 1})
    )
    tracemalloc.start()
    assert field_of_refusal(folder) == str(folder)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.parametrize(
    "changes", [{"eos_token_id": 2**40}, {"pad_token_id": 2**70}, {"bos_token_id": [[]]}]
)
def test_ids_of_tokens_that_do_not_exist_are_left_out(changes, folder):
    whole(folder, changes)
    codec = load(folder).codec
    assert (codec.start, codec.end, codec.pad) == (None, None, None)


def test_code_that_a_config_names_is_not_run_and_said(folder, capsys):
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    whole(folder, {"auto_map": {"AutoModelForCausalLM": "evil.Model"}, "trust_remote_code": True})
    capsys.readouterr()
    load(folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert "auto_map" in line and not (folder / "ran").exists()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": 1, "a": 2}', "\u00ff", '{"a": ' + "9" * 5000 + "}"]
)
def test_hostile_json_is_refused(text, folder):
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert field_of_refusal(folder) == str(folder / "config.json")


@pytest.mark.parametrize(
    "header",
    [
        b"hello",
        b"[" * 100_000,
        b'{"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}',
        b'{"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}}',
        b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 16]}}',
    ],
)
def test_a_lying_header_is_refused(header, folder):
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    assert field_of_refusal(folder) == str(path)


def test_a_header_longer_than_its_file_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    assert field_of_refusal(folder) == str(path)


@pytest.mark.parametrize("kind", ["fifo", "folder"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_is_not_a_file_is_refused_without_waiting(name, kind, folder):
    (folder / name).unlink()
    (folder / name).mkdir() if kind == "folder" else os.mkfifo(folder / name)
    field_of_refusal(folder)


@pytest.mark.parametrize("link", ["model.safetensors", "shard.safetensors"])
def test_links_out_of_the_folder_are_followed_as_the_hubs_cache_has_them(
    link, folder, tmp_path_factory
):
    whole(folder, {})
    blob = tmp_path_factory.mktemp("blobs") / "3f2a"
    (folder / "model.safetensors").replace(blob)
    (folder / link).symlink_to(blob)
    names = (
        list(weights.weights(folder).shapes) if link == weights.WHOLE else list(load_names(blob))
    )
    (folder / weights.INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, link)}))
    assert load(folder).net.width == 4


def load_names(path):
    with safe_open(path, framework="numpy") as file:
        return list(file.keys())


def test_a_pickle_is_never_read(folder):
    (folder / "model.safetensors").unlink()
    program = f"cos\nsystem\n(S'touch {folder / 'ran'}'\ntR.".encode()
    for name in ("pytorch_model.bin", "model.safetensors"):
        (folder / name).write_bytes(program)
        field_of_refusal(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../../x.safetensors", "/x.safetensors", "..", "", "a\0.safetensors", "x" * 300]
)
def test_an_index_that_leaves_the_folder_is_refused(name, folder):
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    assert field_of_refusal(folder) == str(index)


def test_the_names_of_thousands_of_tensors_are_one_short_line(folder):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"evil\n{i}": entry for i in range(3000)}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match="and 2,990 more") as refusal:
        load(folder)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 2000


@pytest.mark.parametrize(
    "part",
    [
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}},
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
    ],
)
def test_a_panic_of_the_tokenizer_is_one_line(part, folder, tokenizer):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(tokenizer | part))
    assert field_of_refusal(folder) == str(path)


def split_by(pattern):
    part = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": part}


GROWS = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
ADDED = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": False,
}


@pytest.mark.parametrize(
    "part",
    [
        split_by("(a+)+$"),
        split_by("(q+q+)+y"),
        split_by("("),
        split_by(r"(?<n>\g<n>)"),
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(k|k)+z?$"}, "content": ""}},
        {"added_tokens": [{"id": 260 + i, "content": f"t{i}", **ADDED} for i in range(30_000)]},
        {"added_tokens": [{"id": 2**32 - 1, "content": "t", **ADDED}]},
    ],
    ids=lambda part: str(part)[:60],
)
def test_a_hostile_tokenizer_is_one_line_and_nothing_of_rust(part, folder, tokenizer, capfd):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(tokenizer | part))
    assert field_of_refusal(folder) == str(path)
    assert capfd.readouterr().err == ""


def test_a_tokenizer_that_needs_too_much_is_ended(folder, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer_check, "MEMORY", 2**30)
    monkeypatch.setattr(tokenizer_check, "SECONDS", 10.0)
    path = folder / "tokenizer.json"
    path.write_text(
        json.dumps(tokenizer | {"normalizer": {"type": "Sequence", "normalizers": [GROWS] * 4}})
    )
    assert field_of_refusal(folder) == str(path)


def test_the_tokenizer_of_a_strangers_run_is_tried_too(tokenizer, capfd):
    codec = Subwords(end_token=None, tokenizer=json.dumps(tokenizer | split_by("(w+)+$")))
    with pytest.raises(UserError, match="retry-limit"):
        codec.encode("w" * 50 + "!")
    assert capfd.readouterr().err == ""
