"""A training step of a small BERT, next to ``transformers``' BertForMaskedLM in eager PyTorch.

4 layers, 4 heads, 128 wide, 2,048 tokens in the vocabulary, 32 rows of 64 tokens, of which 15 % are
requested; AdamW, clip 1, no dropout. Both mask each batch again, 80/10/10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LAYERS, HEADS, WIDTH, LENGTH, BATCH, VOCABULARY = 4, 4, 128, 64, 32, 2048
MASK, RATE, ASKED = 3, 1e-3, 0.15


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of genjax."""
    import numpy as np

    from benchmarks.peers import stepping
    from genjax.data.dataset import SPECIAL, Spec
    from genjax.data.sources import Digits
    from genjax.experiment import Experiment
    from genjax.families.masked_lm import MaskedLM
    from genjax.families.masking import Masking
    from genjax.nets.transformer.transformer import Transformer
    from genjax.optim import AdamW
    from genjax.schedules import Constant

    net = Transformer(
        LAYERS,
        HEADS,
        WIDTH,
        LENGTH,
        norm_first=False,
        norm_embeddings=True,
        activation="gelu",
        biases=("attention", "mix", "feed_forward", "norm", "head"),
        causal=False,
        head_transform=True,
        token_types=2,
    )
    kinds = (*[SPECIAL] * (MASK + 1), *[0] * (VOCABULARY - MASK - 1))
    mean = np.zeros(LENGTH, np.float32)
    spec = Spec(
        "tokens", (LENGTH,), mean, vocabulary=VOCABULARY, token_kinds=kinds, mask_token=MASK
    )
    batch = {
        "tokens": np.random.default_rng(0).integers(
            MASK + 1, VOCABULARY, (BATCH, LENGTH), np.int32
        ),
        "loss_mask": np.ones((BATCH, LENGTH), np.float32),
    }
    optimizer = AdamW(Constant(RATE), weight_decay=0.01, clip=1.0)
    family = MaskedLM(net, Masking(rate=ASKED))
    return stepping(
        Experiment(family, data=Digits(), optimizer=optimizer, batch_size=BATCH), spec, batch
    )


def peer_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of the PyTorch twin."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from benchmarks.peers import use_torch

    use_torch()
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    net = BertForMaskedLM(config)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    tokens = torch.randint(MASK + 1, VOCABULARY, (BATCH, LENGTH))
    attention = torch.ones_like(tokens)

    def masked() -> tuple[Any, Any]:
        asked, share = torch.rand(tokens.shape) < ASKED, torch.rand(tokens.shape)
        inputs = tokens.masked_fill(asked & (share < 0.8), MASK)
        drawn = torch.randint(MASK + 1, VOCABULARY, tokens.shape)
        return torch.where(
            asked & (share >= 0.8) & (share < 0.9), drawn, inputs
        ), tokens.masked_fill(~asked, -100)

    def run(steps: int) -> None:
        net.train()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            inputs, targets = masked()
            net(input_ids=inputs, attention_mask=attention, labels=targets).loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()

    return run
