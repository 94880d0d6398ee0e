"""The Transformer with the weights of GPT-2, Llama and BERT gives what `transformers` gives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.positions import Rotary
from genjax.nets.token_net import TokenNet
from genjax.nets.transformer import Transformer

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip("transformers", reason="the peer is transformers: pip install '.[reference]'")

V, T = 19, 7
TOKENS = np.random.default_rng(0).integers(0, V, (2, T)).astype(np.int32)


def dense(weight, bias=None, transpose=True):
    """PyTorch keeps matrices as [out, in]."""
    return {"kernel": weight.T if transpose else weight} | ({} if bias is None else {"bias": bias})


def norm(weight, bias=None):
    return {"scale": weight} | ({} if bias is None else {"bias": bias})


def arrays(peer):
    """Random weights, the norms' and biases' too, written into the peer and returned by name."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return {name: value.numpy() for name, value in peer.eval().state_dict().items()}


def check(net, params, expected, **inputs):
    module = TokenNet(net, V)
    variables = {"params": jax.tree.map(jnp.asarray, params)}

    @jax.jit
    def run(tokens):
        hidden, _ = module.apply(variables, tokens, **inputs)
        return module.apply(variables, hidden, method="logits")

    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), TOKENS))["params"]
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables["params"])
    np.testing.assert_allclose(run(TOKENS), expected, rtol=1e-4, atol=1e-4)


def logits_of(peer, **inputs):
    with torch.no_grad():
        return peer(torch.from_numpy(TOKENS).long(), **inputs).logits.numpy()


def test_gpt2():
    peer = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=V, n_positions=16, n_embd=12, n_layer=2, n_head=3)
    )
    w = arrays(peer)
    params = {
        "embedding": w["transformer.wte.weight"],
        "position_embedding": w["transformer.wpe.weight"],
        "final_norm": norm(w["transformer.ln_f.weight"], w["transformer.ln_f.bias"]),
    }
    for i in range(2):
        at = f"transformer.h.{i}."
        kernels = np.split(w[at + "attn.c_attn.weight"], 3, 1)
        biases = np.split(w[at + "attn.c_attn.bias"], 3)
        attention = {
            name: dense(k, b, False) for name, k, b in zip(("query", "key", "value"), kernels, biases, strict=True)
        }
        attention["mix"] = dense(w[at + "attn.c_proj.weight"], w[at + "attn.c_proj.bias"], False)
        params[f"layer_{i}"] = {
            "attention_norm": norm(w[at + "ln_1.weight"], w[at + "ln_1.bias"]),
            "attention": attention,
            "feed_forward_norm": norm(w[at + "ln_2.weight"], w[at + "ln_2.bias"]),
            "feed_forward": {
                "up": dense(w[at + "mlp.c_fc.weight"], w[at + "mlp.c_fc.bias"], False),
                "down": dense(w[at + "mlp.c_proj.weight"], w[at + "mlp.c_proj.bias"], False),
            },
        }
    check(Transformer(2, 3, 12, 16), params, logits_of(peer))


@pytest.mark.parametrize("scaled", [False, True])
def test_llama(scaled):
    rope = {"rope_type": "default", "rope_theta": 100.0}
    if scaled:
        rope |= {
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    config = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        rope_parameters=rope,
    )
    peer = transformers.LlamaForCausalLM(config)
    w = arrays(peer)
    params = {
        "embedding": w["model.embed_tokens.weight"],
        "head_kernel": w["lm_head.weight"],
        "final_norm": norm(w["model.norm.weight"]),
    }
    for i in range(2):
        at = f"model.layers.{i}."
        names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "mix": "o_proj"}
        params[f"layer_{i}"] = {
            "attention_norm": norm(w[at + "input_layernorm.weight"]),
            "attention": {ours: dense(w[f"{at}self_attn.{theirs}.weight"]) for ours, theirs in names.items()},
            "feed_forward_norm": norm(w[at + "post_attention_layernorm.weight"]),
            "feed_forward": {name: dense(w[f"{at}mlp.{name}_proj.weight"]) for name in ("up", "gate", "down")},
        }
    rotary = Rotary(100.0, 4.0, 16) if scaled else Rotary(100.0)
    net = Transformer(
        2,
        4,
        16,
        64,
        kv_heads=2,
        hidden=20,
        positions="rotary",
        rotary=rotary,
        norm="rms",
        norm_epsilon=1e-6,
        activation="swiglu",
        biases=(),
        tied=False,
    )
    check(net, params, logits_of(peer))


def test_bert():
    config = transformers.BertConfig(
        vocab_size=V,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=16,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
    )
    peer = transformers.BertForMaskedLM(config)
    w = arrays(peer)

    def linear(name):
        return dense(w[name + ".weight"], w[name + ".bias"])

    def layer_norm(name):
        return norm(w[name + ".weight"], w[name + ".bias"])

    params = {
        "embedding": w["bert.embeddings.word_embeddings.weight"],
        "position_embedding": w["bert.embeddings.position_embeddings.weight"],
        "type_embedding": w["bert.embeddings.token_type_embeddings.weight"],
        "embedding_norm": layer_norm("bert.embeddings.LayerNorm"),
        "transform": linear("cls.predictions.transform.dense"),
        "transform_norm": layer_norm("cls.predictions.transform.LayerNorm"),
        "head_bias": w["cls.predictions.bias"],
    }
    for i in range(2):
        at = f"bert.encoder.layer.{i}."
        params[f"layer_{i}"] = {
            "attention": {name: linear(f"{at}attention.self.{name}") for name in ("query", "key", "value")}
            | {"mix": linear(at + "attention.output.dense")},
            "attention_norm": layer_norm(at + "attention.output.LayerNorm"),
            "feed_forward": {
                "up": linear(at + "intermediate.dense"),
                "down": linear(at + "output.dense"),
            },
            "feed_forward_norm": layer_norm(at + "output.LayerNorm"),
        }
    net = Transformer(
        2,
        3,
        12,
        16,
        hidden=20,
        norm_first=False,
        norm_embeddings=True,
        norm_epsilon=1e-12,
        activation="gelu",
        biases=("attention", "mix", "feed_forward", "norm", "head"),
        causal=False,
        head_transform=True,
        token_types=2,
    )
    types = np.asarray([[0] * 3 + [1] * 4, [0] * 7])
    mask = np.asarray([[1] * T, [1] * 4 + [0] * 3])
    expected = logits_of(peer, token_type_ids=torch.from_numpy(types), attention_mask=torch.from_numpy(mask))
    # The peer lets padding see real tokens, here it sees itself: only real places are compared.
    real = jnp.asarray(mask, bool)[..., None]
    module = TokenNet(net, V)
    variables = {"params": jax.tree.map(jnp.asarray, params)}
    hidden, _ = module.apply(variables, TOKENS, segment_ids=jnp.asarray(mask), types=jnp.asarray(types))
    got = module.apply(variables, hidden, method="logits")
    np.testing.assert_allclose(jnp.where(real, got, 0), jnp.where(real, expected, 0), rtol=1e-4, atol=1e-4)
    check(net, params, logits_of(peer))
