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
from safetensors.numpy import load_file

from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.family import State
from genjax.interop import huggingface, weights
from genjax.interop.huggingface import load, save

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip(
    "transformers", reason="the peer is transformers: pip install '.[reference]'"
)

MANY, FEWER = 20, 8  # random configs per family in the long test; of those with tests elsewhere
# Products of odd shapes fail in torch's grouped kernel, and soft-caps in its fused attention.
PLAINLY = {"attn_implementation": "eager", "experts_implementation": "eager"}
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


# Few, so that nearly all configs share their compiled operations: heads, heads of keys, width of a
# head, width, hidden width, tokens. In the last two the heads are not as wide as the model.
SHAPES = (
    (4, 2, 4, 16, 21, 71),
    (6, 3, 6, 36, 25, 83),
    (2, 1, 8, 16, 9, 97),
    (4, 1, 6, 20, 13, 71),
    (3, 3, 8, 12, 30, 76),
)


def shape(rng, *, head_dim=True, among=SHAPES):
    """Return sizes, without ``head_dim`` of heads that are as wide as the model."""
    heads, keys, head, width, hidden, tokens = pick(rng, *(among if head_dim else SHAPES[:3]))
    return ({"head_dim": head} if head_dim else {}) | {
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "max_position_embeddings": 32,
        "initializer_range": 0.3,
        "tie_word_embeddings": flag(rng),
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def part(rng, sizes):
    """Return a share of a head that is whole pairs of its 4, 6 or 8 entries."""
    return pick(
        rng, 0.5 if sizes["hidden_size"] // sizes["num_attention_heads"] % 4 == 0 else 0.34, 1.0
    )


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
            "rope_parameters": rope(rng) | {"partial_rotary_factor": part(rng, sizes)},
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
    share = part(rng, sizes)
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


def experts(rng):
    count, active = pick(rng, (1, 1), (3, 2), (5, 3))
    return {
        "num_local_experts": count,
        "num_experts_per_tok": active,
        "rope_parameters": rope(rng, ("default", "yarn")),
    }


def mixtral(rng):
    return (
        shape(rng, among=SHAPES[2:4])
        | eps(rng)
        | experts(rng)
        | {"sliding_window": pick(rng, None, 3)}
    )


def qwen3_moe(rng):
    sizes = shape(rng, among=SHAPES[2:4])
    return (
        sizes
        | eps(rng)
        | experts(rng)
        | {
            "attention_bias": flag(rng),
            "use_sliding_window": flag(rng),
            "sliding_window": 3,
            "moe_intermediate_size": pick(rng, 9, 13),
            "norm_topk_prob": flag(rng),
            "mlp_only_layers": pick(rng, [], [1]),
            "decoder_sparse_step": 1,
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
    "mixtral": ("Mixtral", mixtral),
    "qwen3_moe": ("Qwen3Moe", qwen3_moe),
}


def build(name, fields, seed):
    """A model of transformers with random weights, those of norms and biases, too."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**fields)
    model = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")
    peer = model._from_config(config, **PLAINLY)
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
    again, told = type(peer).from_pretrained(folder / "ours", output_loading_info=True, **PLAINLY)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    back = read_net(folder / "ours", json.loads((folder / "ours" / "config.json").read_text()))
    assert dataclasses.replace(back, dropout=0) == dataclasses.replace(model.net, dropout=0)
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
    count = FEWER if kind in ("llama", "qwen2") else MANY
    worst = [compare(kind, seed, tmp_path / str(seed), tokenizer) for seed in range(1, count + 1)]
    print(kind, "largest difference there to here, here to there:", *np.max(worst, 0))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["gpt_neox", "gemma3_text", "smollm3", "qwen3_moe"])
def test_greedy_texts_are_equal_token_for_token(kind, tmp_path, tokenizer):
    """With the cache here, and that of transformers there."""
    name, draw = FAMILIES[kind]
    rng = np.random.default_rng([7, *kind.encode()])
    peer = build(name, draw(rng), 7)
    model = load(put(tmp_path, peer, tokenizer))
    asked = rng.integers(1, 70, 5)  # 0 is padding there
    state = State(jnp.zeros((), jnp.int32), model.params, None, {}, None, jax.random.key(0))
    options = Decoding(steps=12, temperature=0.0, tokens=tuple(asked.tolist()))
    ours = jax.jit(lambda state, key: Autoregressive(model.net).sample(state, key, 1, options))(
        state, state.key
    )
    with torch.no_grad():
        theirs = peer.generate(
            torch.from_numpy(asked)[None],
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    np.testing.assert_array_equal(ours, theirs.numpy())


SIZES = {
    "vocab_size": 70,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PAIRS = {"short_factor": [1.0], "long_factor": [2.0]}


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("gemma3", {}, "model_type"),
        ("gemma2", {"architectures": ["Gemma2ForSequenceClassification"]}, "architectures"),
        ("gpt_neox", {"rotary_pct": 0.3}, "partial_rotary_factor"),
        ("gpt_neox", {"hidden_act": "tanh"}, "hidden_act"),
        ("olmo2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("olmo2", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type"),
        (
            "llama",
            {"rope_scaling": {"type": "yarn", "factor": 2.0}},
            "original_max_position_embeddings",
        ),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation"),
        ("gemma2", {"query_pre_attn_scalar": 2.5}, "query_pre_attn_scalar"),
        ("gemma2", {"layer_types": [FULL, "chunked_attention"]}, "layer_types"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3_text", {"rope_parameters": {FULL: 3}}, "rope_parameters"),
        ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers"),
        ("smollm3", {"no_rope_layers": [1, 2]}, "no_rope_layers"),
        (
            "smollm3",
            {"layer_types": [FULL, SLIDING], "sliding_window": 3},
            "use_sliding_window",
        ),
        ("phi3", {"rope_scaling": {"type": "su", **PAIRS}}, "original_max_position_embeddings"),
        (
            "phi3",
            {"original_max_position_embeddings": 8, "rope_scaling": {"type": "su", **PAIRS}},
            "short_factor",
        ),
        ("mixtral", {"num_experts_per_tok": 9}, "num_experts_per_tok"),
        ("mixtral", {"router_aux_loss_coef": -1}, "router_aux_loss_coef"),
        ("qwen3_moe", {"mlp_only_layers": [0, 1]}, "mlp_only_layers"),
        ("qwen3_moe", {"mlp_only_layers": [2]}, "mlp_only_layers"),
    ],
)
def test_what_a_net_cannot_express_is_refused_by_its_field(kind, fields, named, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SIZES | fields | {"model_type": kind}))
    with pytest.raises(UserError) as refusal:
        load(tmp_path)
    assert refusal.value.field == named
    assert "\n" not in str(refusal.value)


OLDER = {
    "gpt_neox": ("GPTNeoX", {"rotary_pct": 0.5, "rotary_emb_base": 500}),
    "gemma2": ("Gemma2", {}),
    "gemma3_text": (
        "Gemma3Text",
        {
            "num_hidden_layers": 7,
            "sliding_window_pattern": 3,
            "rope_theta": 1e5,
            "rope_local_base_freq": 50.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 5, "rope_theta": 5e6}),
    "phi3": (
        "Phi3",
        {
            "original_max_position_embeddings": 8,
            "max_position_embeddings": 64,
            "sliding_window": 7,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 2.0],
                "long_factor": [3.0, 4.0],
            },
        },
    ),
    "qwen2": ("Qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 5}),
    "mixtral": ("Mixtral", {}),
    "qwen3_moe": ("Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "head_dim": 6}),
    "olmo2": ("Olmo2", {"rope_scaling": None}),
}


@pytest.mark.parametrize("kind", OLDER)
def test_older_and_missing_options_mean_what_they_mean_to_transformers(kind, tmp_path):
    """A config as checkpoints at the hub have it, and the same as transformers writes it."""
    name, fields = OLDER[kind]
    fields = SIZES | fields
    newer = json.loads(getattr(transformers, f"{name}Config")(**fields).to_json_string(False))
    nets = [
        read_net(tmp_path, values | {"model_type": kind, "architectures": None})
        for values in (fields, newer)
    ]
    assert nets[0] == nets[1]


def read_net(folder, values):
    (folder / "config.json").write_text(json.dumps(values))
    architecture, options = huggingface._read_config(folder, huggingface.ARCHITECTURES)
    return architecture.net(options)


def test_halves_stay_halves_on_demand_and_shards_are_read_one_by_one(
    tmp_path, tokenizer, monkeypatch
):
    fields = SIZES | {"head_dim": 4, "query_pre_attn_scalar": 4}
    peer = build("Gemma2", fields, 0).to(torch.bfloat16)
    folder = put(tmp_path / "theirs", peer, tokenizer, max_shard_size="3KB")
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    plain = load(folder)
    opened = []

    def opening(path, framework):
        opened.append(path.name)
        return safe_open(path, framework=framework)

    safe_open = weights.safe_open
    monkeypatch.setattr(weights, "safe_open", opening)
    model = load(folder, keep_dtype=True)
    assert opened[len(shards) :] == shards  # first all headers, then each once
    for (path, kept), wide in zip(
        jax.tree.leaves_with_path(model.params), jax.tree.leaves(plain.params), strict=True
    ):
        norm = "norm" in jax.tree_util.keystr(path)  # 1 + weight, which bfloat16 does not hold
        assert kept.dtype == (jnp.float32 if norm else jnp.bfloat16)
        np.testing.assert_array_equal(kept.astype(jnp.float32), wide)
    save(model, tmp_path / "ours")
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    for name, tensor in peer.state_dict().items():
        if name in stored:
            assert stored[name].dtype == jnp.bfloat16
            np.testing.assert_array_equal(
                stored[name].astype(np.float32), tensor.float().numpy(), err_msg=name
            )
    assert type(peer).from_pretrained(tmp_path / "ours").dtype == torch.bfloat16
