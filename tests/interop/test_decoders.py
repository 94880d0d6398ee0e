"""Decoders of transformers with random configs of odd shapes have equal logits here, and there
again.
"""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.interop.huggingface import load, save

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip(
    "transformers", reason="the peer is transformers: pip install '.[reference]'"
)

MANY = 20  # random configs per family in the long test
FULL, SLIDING = "full_attention", "sliding_attention"


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer.json of fewer tokens than any model here has rows."""
    stored = json.loads(Subwords("wordpiece", 60, ("[PAD]",), None, "[PAD]").fit(["abc"]).tokenizer)
    return json.dumps(stored)


def pick(rng, *options):
    return options[rng.integers(len(options))]


def flag(rng):
    return bool(rng.integers(2))


def shape(rng, *, head_dim=True):
    """Return sizes that all families share: grouped heads, and heads of other widths than the
    model's.
    """
    heads, keys = pick(rng, (2, 1), (4, 2), (4, 1), (4, 4), (2, 2), (6, 3))
    sizes = {
        "vocab_size": int(rng.integers(70, 100)),
        "hidden_size": pick(rng, 2, 4) * heads * pick(rng, 1, 2),
        "intermediate_size": int(rng.integers(9, 40)),
        "num_hidden_layers": pick(rng, 2, 2, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "max_position_embeddings": 32,
        "initializer_range": 0.3,
        "tie_word_embeddings": flag(rng),
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if head_dim:
        sizes["head_dim"] = pick(rng, 4, 6, 8)
    else:
        sizes["hidden_size"] = pick(rng, 4, 8) * heads
    return sizes


def eps(rng, name="rms_norm_eps"):
    return {name: pick(rng, 1e-6, 1e-5, 1e-3)}


def rope(rng, kinds=("default", "linear", "llama3", "yarn")):
    base = {"rope_theta": pick(rng, 50.0, 500.0, 10_000.0)}
    kind = pick(rng, *kinds)
    factor = {"factor": pick(rng, 2.0, 4.0)}
    trained = {"original_max_position_embeddings": pick(rng, 4, 8, 16)}
    if kind == "default":
        return base | {"rope_type": kind}
    if kind == "linear":
        return base | factor | {"rope_type": kind}
    if kind == "llama3":
        turns = {"low_freq_factor": 0.5, "high_freq_factor": 2.0}
        return base | factor | trained | turns | {"rope_type": kind}
    more = pick(
        rng,
        {},
        {"attention_factor": 1.3},
        {"mscale": 0.7, "mscale_all_dim": 1.2},
        {"beta_fast": 3.0, "beta_slow": 0.2, "truncate": False},
    )
    return base | factor | trained | more | {"rope_type": kind}


def neox(rng):
    sizes = shape(rng, head_dim=False)
    del sizes["num_key_value_heads"]
    return (
        sizes
        | eps(rng, "layer_norm_eps")
        | {
            "use_parallel_residual": pick(rng, True, True, False),
            "attention_bias": pick(rng, True, True, False),
            "hidden_act": pick(rng, "gelu", "gelu_new", "relu"),
            "rope_parameters": rope(rng) | {"partial_rotary_factor": pick(rng, 0.5, 1.0)},
        }
    )


def olmo2(rng):
    return shape(rng) | eps(rng) | {"attention_bias": flag(rng), "rope_parameters": rope(rng)}


def types(rng, layers):
    return [pick(rng, FULL, SLIDING) for _ in range(layers)]


def gemma(rng):
    sizes = shape(rng)
    return (
        sizes
        | eps(rng)
        | {
            "attention_bias": flag(rng),
            "query_pre_attn_scalar": pick(rng, 3, 8, 20),
            "sliding_window": pick(rng, 2, 5),
            "layer_types": types(rng, sizes["num_hidden_layers"]),
            "final_logit_softcapping": pick(rng, 2.0, 30.0, None),
            "hidden_activation": pick(rng, "gelu_pytorch_tanh", "silu"),
        }
    )


def gemma2(rng):
    return gemma(rng) | {
        "attn_logit_softcapping": pick(rng, 1.5, 50.0, None),
        "rope_parameters": rope(rng),
    }


def gemma3(rng):
    bases = {
        FULL: rope(rng, ("default", "linear", "yarn")),
        SLIDING: rope(rng, ("default",)),
    }
    return gemma(rng) | {"rope_parameters": bases}


def smollm3(rng):
    sizes = shape(rng)
    windowed = flag(rng)
    return (
        sizes
        | eps(rng)
        | {
            "attention_bias": flag(rng),
            "mlp_bias": flag(rng),
            "use_sliding_window": windowed,
            "sliding_window": pick(rng, 2, 5) if windowed else None,
            "no_rope_layers": [int(rng.integers(2)) for _ in range(sizes["num_hidden_layers"])],
            "rope_parameters": rope(rng),
        }
    )


def phi3(rng):
    sizes = shape(rng, head_dim=False)
    share = pick(rng, 0.5, 1.0)
    pairs = int(sizes["hidden_size"] // sizes["num_attention_heads"] * share) // 2
    turned = rope(rng, ("default",))
    if rng.integers(3):
        turned |= {
            "rope_type": "longrope",
            "short_factor": rng.uniform(0.5, 2, pairs).tolist(),
            "long_factor": rng.uniform(2, 9, pairs).tolist(),
        }
    return (
        sizes
        | eps(rng)
        | {
            "sliding_window": pick(rng, None, 3),
            "original_max_position_embeddings": pick(rng, 4, 16),  # rows here are 9 tokens long
            "rope_parameters": turned | {"partial_rotary_factor": share},
        }
    )


def llama(rng):
    return shape(rng) | eps(rng) | {"mlp_bias": flag(rng), "rope_parameters": rope(rng)}


def qwen2(rng):
    sizes = shape(rng, head_dim=False)
    windowed = flag(rng)
    every = types(rng, sizes["num_hidden_layers"]) if windowed else None
    return (
        sizes
        | eps(rng)
        | {
            "use_sliding_window": windowed,
            "sliding_window": pick(rng, 2, 5),
            "layer_types": every,
            "rope_parameters": rope(rng),
        }
    )


FAMILIES = {
    "llama": ("Llama", llama),
    "qwen2": ("Qwen2", qwen2),
    "gpt_neox": ("GPTNeoX", neox),
    "olmo2": ("Olmo2", olmo2),
    "gemma2": ("Gemma2", gemma2),
    "gemma3_text": ("Gemma3Text", gemma3),
    "smollm3": ("SmolLM3", smollm3),
    "phi3": ("Phi3", phi3),
}


def build(name, fields, seed):
    """A model of transformers with random weights, those of norms and biases, too."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**fields)
    model = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")
    peer = model._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return peer.eval()


def put(folder, peer, tokenizer, **options):
    peer.save_pretrained(folder, **options)
    (folder / "tokenizer.json").write_text(tokenizer)
    return folder


def logits_of(peer, tokens):
    with torch.no_grad():
        return peer(torch.from_numpy(tokens).long()).logits.numpy()


def compare(kind, seed, folder, tokenizer):
    """Return the largest differences of the logits, there to here and here to there."""
    name, draw = FAMILIES[kind]
    rng = np.random.default_rng([seed, *kind.encode()])
    peer = build(name, draw(rng), seed)
    tokens = rng.integers(0, 70, (2, 9)).astype(np.int32)
    model = load(put(folder / "theirs", peer, tokenizer))
    assert model.kind == kind
    expected, found = logits_of(peer, tokens), np.asarray(model.logits(tokens))
    save(model, folder / "ours")
    again, told = type(peer).from_pretrained(
        folder / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    back = load(folder / "ours")
    assert dataclasses.replace(back.net, dropout=0) == dataclasses.replace(model.net, dropout=0)
    returned = logits_of(again.eval(), tokens)
    for other in (found, returned):
        np.testing.assert_allclose(other, expected, rtol=1e-4, atol=1e-4)
    return np.abs(found - expected).max(), np.abs(returned - expected).max()


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_random_config_has_equal_logits_both_ways(kind, tmp_path, tokenizer):
    compare(kind, 0, tmp_path, tokenizer)


@pytest.mark.long
@pytest.mark.parametrize("kind", FAMILIES)
def test_many_random_configs_have_equal_logits_both_ways(kind, tmp_path, tokenizer):
    worst = [compare(kind, seed, tmp_path / str(seed), tokenizer) for seed in range(1, MANY + 1)]
    print(kind, "largest difference there to here, here to there:", *np.max(worst, 0))
