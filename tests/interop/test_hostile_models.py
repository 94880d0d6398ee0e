"""A stranger's model folder is refused in one line that names the field or the file."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from genjax.data.subwords import Subwords
from genjax.errors import UserError
from genjax.interop.huggingface import load

GPT2 = {"model_type": "gpt2", "vocab_size": 300, "n_positions": 8, "n_embd": 4, "n_layer": 1, "n_head": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return json.loads(Subwords("bpe", 260).fit(["a text"]).tokenizer)


@pytest.fixture
def folder(tmp_path, tokenizer):
    (tmp_path / "config.json").write_text(json.dumps(GPT2))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    save_file({"transformer.wte.weight": np.zeros((300, 4), np.float32)}, tmp_path / "model.safetensors")
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


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": 1, "a": 2}', "\u00ff", '{"a": ' + "9" * 5000 + "}"])
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


@pytest.mark.parametrize("name", ["../../x.safetensors", "/x.safetensors"])
def test_an_index_that_leaves_the_folder_is_refused(name, folder):
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    assert field_of_refusal(folder) == str(index)


@pytest.mark.parametrize(
    "part",
    [
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}},
        {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
                            "pair": [], "special_tokens": {}}},
    ],
)  # fmt: skip
def test_a_panic_of_the_tokenizer_is_one_line(part, folder, tokenizer):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(tokenizer | part))
    assert field_of_refusal(folder) == str(path)
