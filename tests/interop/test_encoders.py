"""Masked language models of transformers come in and go out with equal logits, in random shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.interop.huggingface import load, save
from tests.interop.test_huggingface import tokenizer_of

torch = pytest.importorskip("torch", reason="compares with PyTorch")
transformers = pytest.importorskip(
    "transformers", reason="the peer is transformers: pip install '.[reference]'"
)

V, T = 300, 11
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


KINDS = {"DistilBert": draw_distilbert}


def make(kind, fields, seed=0):
    """A model of transformers with random weights, those of norms and biases, too."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**fields)
    peer = getattr(transformers, f"{kind}ForMaskedLM")(config)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
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
