"""Models of transformers come in and go out with the same logits, tokens and texts; what does
not fit is named.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import pickle
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genjax.data.audio.music import ChoraleCodec
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.family import State
from genjax.interop.huggingface import Pretrained, load, save
from genjax.nets.transformer.positions import Rotary
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import MuP, Transformer

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip(
    "transformers", reason="the peer is transformers: pip install '.[reference]'"
)

TEXT = (
    "The for statement is used to iterate over the elements of a sequence; it's évident — "
    "naïve?\n  x = 1\n"
)
V, T = 300, 9
TOKENS = np.random.default_rng(0).integers(5, V, (2, T)).astype(np.int32)

GPT2 = {"vocab_size": V, "n_positions": 16, "n_embd": 12, "n_layer": 2, "n_head": 3}
LLAMA = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-4,
    "tie_word_embeddings": False,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 50.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
BERT = {
    "vocab_size": V,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 18,
    "layer_norm_eps": 1e-6,
}
QWEN3 = LLAMA | {"head_dim": 6}
SLIDING = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0}
CASES = {
    "gpt2": ("GPT2", GPT2),
    "gpt2 wider, relu, untied": (
        "GPT2",
        GPT2
        | {"n_embd": 20, "n_head": 2, "n_layer": 1, "n_inner": 24, "activation_function": "relu"}
        | {"layer_norm_epsilon": 1e-3, "tie_word_embeddings": False, "resid_pdrop": 0.0},
    ),
    "llama": ("Llama", LLAMA),
    "llama multi-query, tied, llama3": (
        "Llama",
        LLAMA | {"num_key_value_heads": 1, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    "llama with biases, linear, head_dim": (
        "Llama",
        LLAMA
        | {
            "attention_bias": True,
            "mlp_bias": True,
            "head_dim": 6,
            "hidden_act": "gelu_pytorch_tanh",
        }
        | {
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
            "num_key_value_heads": 4,
        },
    ),
    "mistral": ("Mistral", LLAMA | {"sliding_window": 4}),
    "qwen2": ("Qwen2", LLAMA | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", QWEN3 | SLIDING),
    "bert": ("Bert", BERT),
    "bert untied, gelu_new, one type": (
        "Bert",
        BERT
        | {
            "tie_word_embeddings": False,
            "hidden_act": "gelu_new",
            "type_vocab_size": 1,
            "num_hidden_layers": 1,
        },
    ),
    "roberta": ("Roberta", BERT | {"type_vocab_size": 1, "pad_token_id": 1}),
    "roberta, another padding": (
        "Roberta",
        BERT | {"type_vocab_size": 1, "pad_token_id": 4, "hidden_size": 18},
    ),
}


def made(kind, fields):
    """A model of transformers with random weights, those of norms and biases, too."""
    masked = kind in ("Bert", "Roberta")
    model = {"GPT2": "GPT2LMHeadModel"}.get(
        kind, f"{kind}ForMaskedLM" if masked else f"{kind}ForCausalLM"
    )
    torch.manual_seed(0)
    peer = getattr(transformers, model)(getattr(transformers, f"{kind}Config")(**fields))
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return peer.eval()


def tokenizer_of(kind="bytes"):
    """A tokenizer.json of fewer tokens than ``V``: bytes, with a start before each text, or
    WordPiece.
    """
    special = {
        "bytes": ("<|endoftext|>",),
        "started": ("<s>", "</s>"),
        "words": ("[PAD]", "[CLS]", "[SEP]", "[MASK]"),
    }
    codec = Subwords(
        "wordpiece" if kind == "words" else "bpe", 280, special[kind], None, special[kind][-1]
    )
    codec = codec.fit([TEXT])
    stored = json.loads(codec.tokenizer)
    around = {"started": ("<s>", None), "words": ("[CLS]", "[SEP]")}.get(kind)
    if around is not None:
        pieces = [{"Sequence": {"id": "A", "type_id": 0}}]
        marks = [{"SpecialToken": {"id": name, "type_id": 0}} if name else None for name in around]
        single = [piece for piece in (marks[0], *pieces, marks[1]) if piece]
        numbers = {token["content"]: token["id"] for token in stored["added_tokens"]}
        stored["post_processor"] = {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                n: {"id": n, "ids": [numbers[n]], "tokens": [n]} for n in around if n
            },
        }
    return json.dumps(stored)


def put(folder, peer, kind="bytes", **options):
    peer.save_pretrained(folder, **options)
    (folder / "tokenizer.json").write_text(tokenizer_of(kind))
    return folder


def logits_of(peer, tokens=TOKENS, **told):
    with torch.no_grad():
        return peer(torch.from_numpy(tokens).long(), **told).logits.numpy()


def agree(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_logits_are_equal_there_and_back(case, tmp_path):
    kind, fields = CASES[case]
    peer = made(kind, fields)
    model = load(put(tmp_path / "theirs", peer))
    assert model.kind == kind.lower() and model.vocabulary == V
    expected = logits_of(peer)
    agree(jax.jit(model.logits)(TOKENS), expected)

    save(model, tmp_path / "ours")
    again, told = type(peer).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    agree(logits_of(again.eval()), expected)
    assert kind != "Roberta" or again.config.pad_token_id == fields["pad_token_id"]
    back = load(tmp_path / "ours")
    assert dataclasses.replace(back.net, dropout=0, attention_dropout=0) == dataclasses.replace(
        model.net, dropout=0, attention_dropout=0
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(back.params), dict(model.params)))


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_padding_and_kinds_of_tokens_are_told(kind, tmp_path):
    peer = made(kind, BERT | {"type_vocab_size": 2, "pad_token_id": 1})
    model = load(put(tmp_path, peer, "words"))
    tokens, types = TOKENS.copy(), np.asarray([[0] * 4 + [1] * 5, [0] * T])
    mask = np.asarray([[1] * T, [1] * 5 + [0] * 4])
    tokens[mask == 0] = 1  # RoBERTa finds positions by its padding token
    told = {"attention_mask": torch.from_numpy(mask), "token_type_ids": torch.from_numpy(types)}
    expected = logits_of(peer, tokens, **told)
    got = jax.jit(model.logits)(tokens, segment_ids=jnp.asarray(mask), types=jnp.asarray(types))
    agree(got[mask > 0], expected[mask > 0])


@pytest.mark.parametrize("case", ["gpt2", "llama multi-query, tied, llama3"])
def test_greedy_texts_are_equal_token_for_token(case, tmp_path):
    kind, fields = CASES[case]
    peer = made(kind, fields)
    model = load(put(tmp_path, peer))
    state = State(jnp.zeros((), jnp.int32), model.params, None, {}, None, jax.random.key(0))
    options = Decoding(steps=8, temperature=0.0, tokens=tuple(TOKENS[0, :5].tolist()))
    ours = jax.jit(lambda state, key: Autoregressive(model.net).sample(state, key, 1, options))(
        state, state.key
    )
    with torch.no_grad():
        asked = torch.from_numpy(TOKENS[:1, :5]).long()
        theirs = peer.generate(
            asked, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    np.testing.assert_array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_become_float32(dtype, tmp_path):
    peer = made("GPT2", GPT2).to(getattr(torch, dtype))
    model = load(put(tmp_path, peer))
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype("float32")}
    agree(jax.jit(model.logits)(TOKENS), logits_of(peer.float()))


def test_shards_are_read_like_one_file_and_all_that_are_missing_are_named(tmp_path):
    peer = made("Llama", LLAMA)
    folder = put(tmp_path, peer, max_shard_size="5KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 3
    agree(jax.jit(load(folder).logits)(TOKENS), logits_of(peer))
    shards[0].unlink()
    shards[2].unlink()
    refused(folder, f"lacks 2 of {len(shards)} shards: {shards[0].name}, {shards[2].name}")
    (folder / "model.safetensors.index.json").unlink()
    refused(
        folder, f"{len(shards) - 2} of {len(shards)} shards, but no model.safetensors.index.json"
    )


@pytest.mark.parametrize("kind", ["bytes", "started", "words"])
def test_texts_go_round_through_the_tokenizer(kind, tmp_path):
    peer = made("Bert" if kind == "words" else "GPT2", BERT if kind == "words" else GPT2)
    model = load(put(tmp_path / "theirs", peer, kind))
    save(model, tmp_path / "ours")
    text = "it's used to iterate over a sequence" if kind == "words" else TEXT
    for folder in ("theirs", "ours"):
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / folder)
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == model.codec.encode(text).tolist()
        assert theirs.decode(ids, skip_special_tokens=True) == model.codec.decode(np.asarray(ids))
    assert model.codec.decode(np.asarray([*ids, V - 1])) == model.codec.decode(
        np.asarray(ids)
    )  # a row without a token
    start, end = {"bytes": (None, None), "started": (0, None), "words": (1, 2)}[kind]
    assert (model.codec.start, model.codec.vocabulary) == (start, V)
    assert kind == "bytes" or model.codec.end == end
    assert (
        "token_type_ids" in theirs("a") if kind == "words" else "token_type_ids" not in theirs("a")
    )


def test_special_tokens_are_those_of_the_configs(tmp_path):
    folder = put(tmp_path, made("GPT2", GPT2 | {"eos_token_id": 0, "bos_token_id": 0}))
    assert (load(folder).codec.end, load(folder).codec.start, load(folder).codec.pad) == (
        0,
        None,
        None,
    )
    change(folder, eos_token_id=[7, 0])
    assert load(folder).codec.end == 7
    fields = {"eos_token": {"content": "<|endoftext|>"}, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    assert (load(folder).codec.end, load(folder).codec.pad) == (0, 0)


CODECS = {
    "characters": Characters().fit([TEXT]),
    "characters with an end": dataclasses.replace(
        Characters(delimiter=True, unknown="token").fit([TEXT])
    ),
    "bytes": Bytes(),
    "bytes with an end": Bytes(delimiter=True),
}


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_of_our_own_becomes_a_tokenizer(name, tmp_path):
    codec = CODECS[name]
    net = Transformer(1, 2, 8, 16)
    save(Pretrained(net, parameters(net, codec.vocabulary), codec), tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(TEXT, add_special_tokens=False)["input_ids"] == codec.encode(TEXT).tolist()
    assert theirs.decode(codec.encode(TEXT)) == TEXT
    assert (theirs.eos_token_id, theirs.bos_token_id) == (codec.end, codec.end)
    if codec is CODECS["characters with an end"]:
        assert (
            theirs("Ω", add_special_tokens=False)["input_ids"] == codec.encode("Ω").tolist() == [1]
        )
    start = (
        [] if codec.start is None else [codec.start]
    )  # a codec with an end has it at the start, too
    assert theirs(TEXT)["input_ids"] == start + codec.encode(TEXT).tolist()
    again = load(tmp_path).codec
    assert again.encode(TEXT).tolist() == codec.encode(TEXT).tolist()
    assert (again.start, again.end, again.pad) == (codec.start, codec.end, codec.pad)
    if name == "characters":
        with pytest.raises(UserError, match="the tokenizer cannot encode the text: .*Missing"):
            again.encode("Ω")


def parameters(net, vocabulary, seed=0):
    """Random ones, those of norms and biases, too."""
    shapes = jax.eval_shape(
        lambda: TokenNet(net, vocabulary).init(jax.random.key(0), TOKENS[:, :1])
    )["params"]
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draw.normal(0.5, 0.2, leaf.shape), jnp.float32), shapes
    )


ROTARY = {"positions": "rotary", "norm": "rms", "activation": "swiglu"}
NETS = {
    "gpt2 without biases, scanned": ("GPT2LMHeadModel", {"biases": (), "scan_layers": True}),
    "gpt2 of another hidden width": (
        "GPT2LMHeadModel",
        {"hidden": 24, "activation": "relu2", "tied": False},
    ),
    "llama with some biases": (
        "LlamaForCausalLM",
        {**ROTARY, "kv_heads": 1, "biases": ("attention",)},
    ),
    "llama, stretched": (
        "LlamaForCausalLM",
        {**ROTARY, "rotary": Rotary(100.0, 2.0, 8), "biases": (), "head_width": 6},
    ),
    "mistral": ("MistralForCausalLM", {**ROTARY, "biases": (), "window": 3, "tied": False}),
    "qwen3": ("Qwen3ForCausalLM", {**ROTARY, "biases": (), "qk_norm": True}),
    "qwen3 with a window": (
        "Qwen3ForCausalLM",
        {**ROTARY, "biases": (), "qk_norm": True, "window": 3},
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_of_our_own_opens_there_with_equal_logits(name, tmp_path):
    expected, options = NETS[name]
    net = Transformer(2, 2, 8, 16, **options)
    model = Pretrained(net, parameters(net, V), Bytes())
    save(model, tmp_path)
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(peer).__name__ == expected
    agree(logits_of(peer), jax.jit(model.logits)(TOKENS))


@pytest.mark.parametrize(
    "options, said",
    [
        ({"attention_softcap": 5.0, "mup": MuP()}, "nearest is gpt2, but attention_softcap is 5.0"),
        ({"positions": "sinusoidal"}, "positions is 'sinusoidal' (gpt2: 'learned')"),
        (
            {**ROTARY, "activation": "gelu"},
            "nearest is llama, but activation is 'gelu' (llama: 'swiglu')",
        ),
        ({"biases": ("head",)}, "head has biases"),
        ({"kv_heads": 1}, "kv_heads is 1 (gpt2: 2)"),
        (
            {"heads": 3, "head_width": 4},
            "nearest is gpt2, but n_head in gpt2 must be a divisor of n_embd",
        ),
    ],
)
def test_what_stands_in_the_way_of_saving_is_named(options, said, tmp_path):
    net = Transformer(**{"layers": 1, "heads": 2, "width": 8, "context": 16, **options})
    with pytest.raises(UserError) as refusal:
        save(Pretrained(net, {"embedding": np.zeros((V, 8))}, Bytes()), tmp_path / "out")
    assert said in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_other_kinds_and_codecs_are_refused(tmp_path):
    net = Transformer(1, 2, 8, 16)
    model = Pretrained(net, parameters(net, V), Bytes(), "llama")
    with pytest.raises(UserError, match="nearest is llama, but .*positions is 'learned'"):
        save(model, tmp_path)
    with pytest.raises(UserError, match="unknown architecture 'gtp2'; did you mean 'gpt2'"):
        save(dataclasses.replace(model, kind="gtp2"), tmp_path)
    with pytest.raises(UserError, match="Words cannot be converted to a Hugging Face tokenizer"):
        save(dataclasses.replace(model, kind=None, codec=Words(("a",))), tmp_path)
    with pytest.raises(
        UserError, match="a ChoraleCodec cannot be converted to a Hugging Face tokenizer"
    ):
        save(dataclasses.replace(model, kind=None, codec=ChoraleCodec(30, 90, 4, 120.0)), tmp_path)


def change(folder, **fields):
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | fields))


def refused(folder, said):
    with pytest.raises(UserError) as refusal:
        load(folder)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One good folder of each kind, to copy from."""
    root = tmp_path_factory.mktemp("models")
    for kind, fields in (
        ("GPT2", GPT2),
        ("Llama", LLAMA),
        ("Qwen2", LLAMA),
        ("Bert", BERT),
        ("Roberta", BERT),
    ):
        put(root / kind, made(kind, fields))
    return root


@pytest.mark.parametrize(
    "kind, fields, said",
    [
        (
            "GPT2",
            {"model_type": "mamba"},
            "the architecture 'mamba' is not supported, only gpt2, llama, mistral",
        ),
        ("GPT2", {"model_type": None}, "the architecture None is not supported"),
        (
            "GPT2",
            {"architectures": ["GPT2ForSequenceClassification"]},
            "GPT2ForSequenceClassification is not supported",
        ),
        (
            "GPT2",
            {"scale_attn_by_inverse_layer_idx": True, "add_cross_attention": True},
            "add_cross_attention True",
        ),
        ("GPT2", {"activation_function": "tanh"}, "activation_function 'tanh' in"),
        ("GPT2", {"n_embd": "wide"}, "n_embd in"),
        ("GPT2", {"layer_norm_epsilon": "small"}, "layer_norm_epsilon in"),
        ("GPT2", {"n_head": 5}, "n_head in"),
        (
            "GPT2",
            {"quantization_config": {"bits": 4}},
            "quantization_config {'bits': 4} (only None)",
        ),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "original_max_position_embeddings in",
        ),
        (
            "Llama",
            {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "rope_type 'dynamic'",
        ),
        ("Llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "llama3", "factor": 2.0}},
            "original_max_position_embeddings in",
        ),
        ("Llama", {"hidden_act": "gelu"}, "hidden_act 'gelu' in"),
        (
            "Qwen2",
            SLIDING | {"layer_types": ["full_attention", "chunked_attention"]},
            "layer_types in",
        ),
        ("Qwen2", SLIDING | {"layer_types": None, "max_window_layers": "1"}, "max_window_layers"),
        ("Bert", {"is_decoder": True}, "is_decoder True (only False)"),
        (
            "Bert",
            {"position_embedding_type": "relative_key"},
            "position_embedding_type 'relative_key'",
        ),
        ("Roberta", {"hidden_act": "relu"}, "hidden_act 'relu' in"),
    ],
)
def test_an_option_that_is_not_supported_is_named(kind, fields, said, folders, tmp_path):
    shutil.copytree(folders / kind, tmp_path / kind)
    change(tmp_path / kind, **fields)
    refused(tmp_path / kind, said)


def test_rotary_options_of_older_configs_are_read(folders, tmp_path):
    shutil.copytree(folders / "Llama", tmp_path / "Llama")
    change(
        tmp_path / "Llama",
        rope_parameters=None,
        rope_theta=500.0,
        rope_scaling={"type": "linear", "factor": 2.0},
    )
    assert load(tmp_path / "Llama").net.rotary == Rotary(500.0, 2.0)
    change(tmp_path / "Llama", rope_scaling=LLAMA3)
    assert load(tmp_path / "Llama").net.rotary == Rotary(50.0, 4.0, 16)
    change(tmp_path / "Llama", rope_scaling=None)
    assert load(tmp_path / "Llama").net.rotary == Rotary(500.0)


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("config.json", None, "has no config.json: it is not a model in Hugging Face's layout"),
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[1]", "config.json is damaged"),
        ("config.json", '{"model_type": ["gpt2"]}', "config.json is damaged"),
        (
            "config.json",
            '{"model_type": "gpt2", "architectures": "BertModel"}',
            "BertModel is not supported",
        ),
        ("tokenizer.json", None, "has no tokenizer.json; transformers can convert"),
        ("tokenizer.json", "{}", "is not a usable tokenizer.json"),
        ("tokenizer_config.json", "[", "tokenizer_config.json is damaged"),
        ("model.safetensors", None, "has no weights: neither model.safetensors nor"),
        ("model.safetensors", "", "is not a complete safetensors file"),
        ("model.safetensors", "version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
def test_a_file_that_is_missing_or_damaged_is_named(name, text, said, folders, tmp_path):
    shutil.copytree(folders / "GPT2", tmp_path / "GPT2")
    if text is None:
        (tmp_path / "GPT2" / name).unlink()
    else:
        (tmp_path / "GPT2" / name).write_text(text)
    refused(tmp_path / "GPT2", said)


def test_values_of_another_kind_are_refused_or_passed_over(folders, tmp_path):
    shutil.copytree(folders / "GPT2", tmp_path / "GPT2")
    named = tmp_path / "GPT2" / "tokenizer_config.json"
    named.write_text(json.dumps({"eos_token": ["a"]}))
    load(tmp_path / "GPT2")
    change(tmp_path / "GPT2", activation_function=["gelu"])
    refused(tmp_path / "GPT2", "activation_function ['gelu'] in")


def test_a_file_downloaded_by_half_is_refused(folders, tmp_path):
    shutil.copytree(folders / "GPT2", tmp_path / "GPT2")
    path = tmp_path / "GPT2" / "model.safetensors"
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:100], whole[:-1]):
        path.write_bytes(part)
        refused(tmp_path / "GPT2", f"{path} is not a complete safetensors file, fetch it again")


def test_pickles_are_refused_unread_with_the_way_to_convert_them(folders, tmp_path):
    shutil.copytree(folders / "GPT2", tmp_path / "GPT2")
    (tmp_path / "GPT2" / "model.safetensors").unlink()
    touched = tmp_path / "touched"

    class Trap:
        def __reduce__(self):
            return touched.touch, ()

    for name, write in (("pytorch_model.bin", torch.save), ("model.safetensors", torch.save)):
        write({"x": Trap()}, tmp_path / "GPT2" / name)
        refused(
            tmp_path / "GPT2",
            f"{name} in {tmp_path / 'GPT2'} is refused: a pickle could run any program",
        )
        refused(tmp_path / "GPT2", ".save_pretrained(")
    (tmp_path / "GPT2" / "model.safetensors").write_bytes(pickle.dumps({"x": Trap()}))
    refused(tmp_path / "GPT2", "a pickle could run any program")
    assert not touched.exists()


def test_all_tensors_that_do_not_fit_are_named_at_once(folders, tmp_path):
    shutil.copytree(folders / "GPT2", tmp_path / "GPT2")
    path = tmp_path / "GPT2" / "model.safetensors"
    tensors = load_file(path)
    del tensors["transformer.ln_f.bias"], tensors["transformer.h.1.mlp.c_fc.weight"]
    tensors["transformer.wpe.weight"] = np.zeros((3, 12), np.float32)
    tensors["score.weight"] = np.zeros(2, np.float32)
    tensors["transformer.h.2.ln_1.bias"] = np.zeros(12, np.float32)
    tensors["transformer.h.0.attn.bias"] = np.ones(
        (1, 1, 16, 16), np.float32
    )  # a buffer of older checkpoints
    save_file(tensors, path)
    refused(
        tmp_path / "GPT2",
        "missing: transformer.ln_f.bias, transformer.h.1.mlp.c_fc.weight; "
        "not known: score.weight, transformer.h.2.ln_1.bias; "
        "of another shape: transformer.wpe.weight [3, 12] instead of [16, 12]",
    )


def test_checkpoints_of_the_bare_model_and_of_old_names_are_read(folders, tmp_path):
    for kind, renamed in (
        ("GPT2", lambda name: name.removeprefix("transformer.")),
        (
            "Bert",
            lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "Norm.bias", "Norm.beta"
            ),
        ),
    ):
        shutil.copytree(folders / kind, tmp_path / kind)
        path = tmp_path / kind / "model.safetensors"
        save_file({renamed(name): tensor for name, tensor in load_file(path).items()}, path)
        one, other = load(tmp_path / kind), load(folders / kind)
        assert jax.tree.all(jax.tree.map(np.array_equal, dict(one.params), dict(other.params)))


def test_a_head_that_is_no_copy_of_the_embedding_is_refused(folders, tmp_path):
    shutil.copytree(folders / "GPT2", tmp_path / "GPT2")
    path = tmp_path / "GPT2" / "model.safetensors"
    tensors = load_file(path)
    embedding = tensors["transformer.wte.weight"]
    save_file(tensors | {"lm_head.weight": embedding}, path)
    load(tmp_path / "GPT2")
    save_file(tensors | {"lm_head.weight": embedding + 1}, path)
    refused(tmp_path / "GPT2", "lm_head.weight in")
    del tensors["transformer.wte.weight"]
    save_file(tensors | {"lm_head.weight": embedding}, path)  # one name of two that share an array
    np.testing.assert_array_equal(load(tmp_path / "GPT2").params["embedding"], embedding)


def test_an_index_that_leads_out_of_its_folder_is_refused(folders, tmp_path):
    shutil.copytree(folders / "GPT2", tmp_path / "GPT2")
    (tmp_path / "GPT2" / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = tmp_path / "GPT2" / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"transformer.wte.weight": "../elsewhere.safetensors"}})
    )
    refused(tmp_path / "GPT2", "names files outside its folder")
    for text in ("{}", '{"weight_map": {"transformer.wte.weight": 5}}'):
        index.write_text(text)
        refused(tmp_path / "GPT2", "index.json is damaged")


def test_integers_are_no_weights(folders, tmp_path):
    shutil.copytree(folders / "GPT2", tmp_path / "GPT2")
    path = tmp_path / "GPT2" / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"transformer.ln_f.bias": np.zeros(12, np.int8)}, path)
    refused(
        tmp_path / "GPT2",
        "must be floats, but are quantised or integers: transformer.ln_f.bias (I8)",
    )


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    folder = put(
        tmp_path, made("GPT2", GPT2 | {"vocab_size": 250, "eos_token_id": 0, "bos_token_id": 0})
    )
    refused(folder, "vocab_size must be >= ")


def test_a_name_at_the_hub_fetches_nothing_but_text_and_safetensors(folders, monkeypatch):
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(folders / "GPT2")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load("someone/some-model").kind == "gpt2"
    assert asked["name"] == "someone/some-model"
    patterns, left_out = asked["allow_patterns"], asked["ignore_patterns"]

    def fetched(path):
        wanted = any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
        return wanted and not any(fnmatch.fnmatch(path, pattern) for pattern in left_out)

    assert all(map(fetched, ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors")))
    assert not any(
        map(
            fetched, ("pytorch_model.bin", "model.pt", "code.py", "onnx/model.safetensors", "x.pkl")
        )
    )


def test_no_network_no_folder_and_no_package_are_one_line_each(monkeypatch, tmp_path):
    refused(tmp_path / "nowhere", "there is no folder")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(
        "someone/nothing-that-is-cached",
        "there is no folder someone/nothing-that-is-cached, and the hub does not",
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("gpt2", "pip install 'genjax-train[hub]'")
