"""Transformers over tokens, compared with PyTorch: training steps and generation.

``gpt`` is a training step of nanoGPT's CPU model: 4 layers, 4 heads, 128 wide, 12 rows of 64
characters, AdamW, clip 1; ``gpt_compiled`` the same compared with ``torch.compile``.
``generate_small`` and ``generate_small_16`` draw 1 and 16 texts that fill the context of that
model, next to ``transformers.generate`` with its cache; ``generate_124m`` draws 63 tokens of one
text by GPT-2's smallest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, VOCABULARY = 4, 4, 128, 64, 12, 65
RATE, DECAY, BETAS = 1e-3, 0.1, (0.9, 0.99)
ROWS = {"generate_small": 1, "generate_small_16": 16, "generate_124m": 1}


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of genjax."""
    import numpy as np

    from benchmarks.peers import stepping
    from genjax.data.dataset import Spec
    from genjax.data.sources import Digits
    from genjax.experiment import Experiment
    from genjax.families.autoregressive.autoregressive import Autoregressive
    from genjax.nets.transformer.transformer import Transformer
    from genjax.optim import AdamW
    from genjax.schedules import Constant

    large = case == "generate_124m"
    net = (
        Transformer()
        if large
        else Transformer(LAYERS, HEADS, WIDTH, CONTEXT, activation="gelu", biases=())
    )
    family, vocabulary = Autoregressive(net), 50_257 if large else VOCABULARY
    spec = Spec("tokens", (CONTEXT + 1,), np.zeros(CONTEXT + 1, np.float32), vocabulary=vocabulary)
    if case in ROWS:
        return _drawing(family, spec, ROWS[case])
    optimizer = AdamW(Constant(RATE), b1=BETAS[0], b2=BETAS[1], weight_decay=DECAY, clip=1.0)
    batch = {
        "tokens": np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, CONTEXT + 1), np.int32),
        "loss_mask": np.ones((BATCH, CONTEXT + 1), np.float32),
    }
    return stepping(
        Experiment(family, data=Digits(), optimizer=optimizer, batch_size=BATCH), spec, batch
    )


def _drawing(family: Any, spec: Any, rows: int) -> Callable[[int], None]:
    import dataclasses

    import jax
    import jax.numpy as jnp

    from genjax.family import init_state
    from genjax.optim import Adam

    key = jax.random.key(0)
    example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in spec.entries.items()}

    @jax.jit
    def begin() -> Any:
        params, variables = family.init(key, example, spec)
        return init_state(params, variables, Adam().build(1), key)

    state = begin()
    options = dataclasses.replace(family.sampler, steps=CONTEXT - 1, tokens=(0,))
    draw = jax.jit(lambda state, key: family.sample(state, key, rows, options))

    def run(steps: int) -> None:
        for i in range(steps):
            jax.block_until_ready(draw(state, jax.random.key(i)))

    return run


def peer_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of the PyTorch twin."""
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.peers import use_torch

    use_torch()
    if case in ROWS:
        return _torch_drawing(case)
    net: Any = torch_net()
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS)
    tokens = torch.randint(VOCABULARY, (BATCH, CONTEXT + 1))
    model = torch.compile(net) if case == "gpt_compiled" else net

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            logits = model(tokens[:, :-1])
            cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()

    return run


def torch_net() -> Any:
    """Return a PyTorch module: tokens [B, T] -> logits [B, T, V]."""
    import torch
    from torch import nn
    from torch.nn.functional import gelu, scaled_dot_product_attention

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm_a, self.norm_b = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
            self.joined = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
            self.mix = nn.Linear(WIDTH, WIDTH, bias=False)
            self.hidden = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
            self.output = nn.Linear(4 * WIDTH, WIDTH, bias=False)

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            parts = self.joined(self.norm_a(x)).view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            y = scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
            x = x + self.mix(y.transpose(1, 2).reshape(b, t, WIDTH))
            return x + self.output(gelu(self.hidden(self.norm_b(x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.places = nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.norm = nn.LayerNorm(WIDTH, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
            return self.norm(self.blocks(x)) @ self.tokens.weight.T

    return GPT()


def _torch_drawing(case: str) -> Callable[[int], None]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    if case == "generate_124m":
        config = GPT2Config()
    else:
        config = GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=CONTEXT,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            bos_token_id=None,
            eos_token_id=None,
        )
    net = GPT2LMHeadModel(config).eval()
    prompt = torch.zeros((ROWS[case], 1), dtype=torch.long)
    steps_asked = {"min_new_tokens": CONTEXT - 1, "max_new_tokens": CONTEXT - 1}

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                mask = torch.ones_like(prompt)
                net.generate(
                    prompt,
                    attention_mask=mask,
                    do_sample=True,
                    top_k=0,
                    pad_token_id=0,
                    **steps_asked,
                )

    return run
