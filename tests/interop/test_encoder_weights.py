"""Masked language models of transformers come in and go out with equal logits, in random shapes."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.interop import weights
from genjax.interop.huggingface import load, save
from tests.interop.test_huggingface import tokenizer_of

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip(
    "transformers", reason="the peer is transformers: pip install '.[reference]'"
)

V, T = 300, 11
ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
TOKENS = np.random.default_rng(0).integers(5, V, (2, T)).astype(np.int32)


def draw_distilbert(rng):
    heads = int(rng.choice([1, 2, 3]))
    return {
        "vocab_size": V,
        "dim": heads * int(rng.choice([5, 7, 8])),
        "n_layers": int(rng.integers(1, 4)),
        "n_heads": heads,
        "hidden_dim": int(rng.integers(9, 33)),
        "max_position_embeddings": T + int(rng.integers(0, 8)),
        "activation": str(rng.choice(["gelu", "relu", "gelu_new"])),
        "sinusoidal_pos_embds": bool(rng.integers(2)),
        "tie_word_embeddings": bool(rng.integers(2)),
    }


def draw_modernbert(rng):
    heads, layers = int(rng.choice([1, 2, 3])), int(rng.integers(1, 5))
    fields = {
        "vocab_size": V,
        "hidden_size": heads * int(rng.choice([4, 6, 8])),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": int(rng.integers(9, 33)),
        "max_position_embeddings": T + int(rng.integers(0, 8)),
        "local_attention": int(rng.integers(2, 9)),
        "hidden_activation": (activation := str(rng.choice(["gelu", "silu"]))),
        "classifier_activation": activation,
        "norm_eps": float(rng.choice([1e-5, 1e-3])),
        "pad_token_id": 0,
        **{"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    }
    names = ("attention_bias", "mlp_bias", "norm_bias", "decoder_bias", "classifier_bias")
    fields |= {name: bool(rng.integers(2)) for name in (*names, "tie_word_embeddings")}
    if rng.integers(2):
        return fields | {"global_attn_every_n_layers": int(rng.integers(1, 4))}
    kinds = ["full_attention", "sliding_attention"]
    thetas = zip(kinds, (300.0, 20.0), strict=True)
    return fields | {
        "layer_types": rng.choice(kinds, layers).tolist(),
        "rope_parameters": {k: {"rope_type": "default", "rope_theta": t} for k, t in thetas},
    }


KINDS = {"DistilBert": draw_distilbert, "ModernBert": draw_modernbert}


def make(kind, fields, seed=0):
    """A model of transformers with random weights, those of norms and biases, too."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**fields)
    peer = getattr(transformers, f"{kind}ForMaskedLM")(config)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return peer.eval()


def logits_of(peer, **told):
    with torch.no_grad():
        return peer(torch.from_numpy(TOKENS).long(), **told).logits.numpy()


def put(folder, peer):
    """Save the peer, with a tokenizer of bytes."""
    peer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_of("words"))
    return folder


def compare(kind, fields, folder, seed=0):
    """Assert that logits are equal in both directions; return the largest difference."""
    peer = make(kind, fields, seed)
    model = load(put(folder / "theirs", peer))
    assert model.kind == peer.config.model_type and model.vocabulary == V
    mask = np.asarray([[1] * T, [1] * (T - 4) + [0] * 4], np.int32)
    expected = logits_of(peer, attention_mask=torch.from_numpy(mask))
    got = np.asarray(jax.jit(model.logits)(TOKENS, segment_ids=jnp.asarray(mask)))
    np.testing.assert_allclose(got[mask > 0], expected[mask > 0], rtol=1e-4, atol=1e-4)

    save(model, folder / "ours")
    again, told = type(peer).from_pretrained(folder / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    back = logits_of(again.eval(), attention_mask=torch.from_numpy(mask))
    np.testing.assert_allclose(back[mask > 0], expected[mask > 0], rtol=1e-4, atol=1e-4)
    loaded = load(folder / "ours")
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(loaded.params), dict(model.params)))
    assert model.net == loaded.net
    return float(np.abs(got - expected)[mask > 0].max())


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers_in_both_directions(kind, tmp_path):
    compare(kind, KINDS[kind](np.random.default_rng(1)), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_twenty_random_models_are_those_of_transformers(kind, tmp_path):
    worst = 0.0
    for seed in range(20):
        fields = KINDS[kind](np.random.default_rng(seed))
        worst = max(worst, compare(kind, fields, tmp_path / str(seed), seed))
    print(f"{kind}: largest difference of 20 models {worst:.1e}")


def test_a_header_as_long_as_the_mark_of_a_pickle_is_none(tmp_path):
    """640 is written as the bytes 80 02, with which a pickle begins."""
    name = next(
        "a" * count
        for count in range(600)
        if len(json.dumps({"a" * count: ENTRY}, separators=(",", ":"))) == 640
    )
    header = json.dumps({name: ENTRY}, separators=(",", ":")).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert path.read_bytes().startswith(b"\x80\x02")
    assert weights.weights(tmp_path).shapes == {name: (1,)}
