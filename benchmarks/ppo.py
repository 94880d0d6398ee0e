"""An iteration of PPO for language models, beside a loop in eager PyTorch around ``transformers``'
GPT-2.

An iteration draws responses to prompts, at temperature 1 with a cache, none of which ends early;
rewards the texts by a plain Python function; and makes 4 epochs of 4 minibatches: a penalty of the
KL to a frozen copy, GAE, whitened advantages, clipped losses of the policy and of a value head on
its features, Adam, clip 1.

"ppo" has the sizes of the config ``ppo_random_walks``, "ppo_text" those of short answers.

Both ask for the logits of responses alone. The peer's loop does not measure entropy, clipping or
KL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Sizes(NamedTuple):
    """Of a GPT-2, and of the responses: ``rows`` of them, ``response`` tokens to ``prompt``
    tokens.
    """

    layers: int
    heads: int
    width: int
    vocabulary: int
    rows: int
    prompt: int
    response: int


SIZES = {"ppo": Sizes(2, 4, 64, 22, 128, 2, 9), "ppo_text": Sizes(4, 4, 128, 2048, 32, 32, 64)}
EPOCHS, MINIBATCHES = 4, 4
RATE, CLIP, VALUE_CLIP, KL, GAMMA, LAMBDA = 1e-4, 0.2, 0.2, 0.05, 1.0, 0.95


def character(token: int) -> str:
    """A text of tokens has one for each."""
    return chr(0x4E00 + token)


def even(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """The share of characters of each response whose code is even."""
    return [
        sum(ord(letter) % 2 == 0 for letter in response) / len(response) for response in responses
    ]


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(iterations)`` of genjax, as its loop makes them: what is collected, then the
    compiled step.
    """
    import jax
    import numpy as np

    from genjax import parallel
    from genjax.continued import apply_initial_params
    from genjax.data.dataset import Spec
    from genjax.data.sources import Digits
    from genjax.data.text.codecs import Characters
    from genjax.experiment import Experiment
    from genjax.families.autoregressive.autoregressive import Autoregressive
    from genjax.family import State, Trained, make_example
    from genjax.nets.transformer.transformer import Transformer
    from genjax.optim import Adam
    from genjax.posttrain.ppo import BASE, PPO
    from genjax.runs.setup import initial_state, make_step
    from genjax.schedules import Constant

    sizes = SIZES[case]
    rows, prompt = sizes.rows, sizes.prompt
    spec = Spec(
        "tokens",
        (prompt,),
        np.zeros(prompt, np.float32),
        vocabulary=sizes.vocabulary,
        prefixed=True,
    )
    policy = Autoregressive(
        Transformer(sizes.layers, sizes.heads, sizes.width, prompt + sizes.response)
    )
    codec = Characters("".join(map(character, range(sizes.vocabulary))))
    begins = PPO(
        BASE,
        even,
        new_tokens=sizes.response,
        epochs=EPOCHS,
        minibatches=MINIBATCHES,
        gamma=GAMMA,
        lam=LAMBDA,
        clip=CLIP,
        value_clip=VALUE_CLIP,
        kl=KL,
    )
    family = begins.resolve({BASE: Trained(BASE, policy, spec)}, spec).with_codec(codec)
    experiment = Experiment(
        family, data=Digits(), optimizer=Adam(Constant(RATE), clip=1.0), batch_size=rows
    )
    layout = parallel.start(parallel.Devices(count=1))
    plain = initial_state(experiment, spec)

    def begin() -> State:
        params, variables = policy.init(jax.random.key(1), make_example(spec), spec)
        return apply_initial_params(
            family, plain().replace(frozen={BASE: {"params": params, "variables": variables}})
        )

    step = layout.compile_step(make_step(experiment), layout.eval_shapes(begin))
    state = layout.init(begin)
    batch = layout.place(
        {
            "tokens": np.random.default_rng(0).integers(
                0, sizes.vocabulary, (rows, prompt), np.int32
            ),
            "loss_mask": np.zeros((rows, prompt), np.float32),
            "prefix_mask": np.ones((rows, prompt), np.float32),
            "mask": np.ones(rows, np.float32),
        }
    )

    def run(iterations: int) -> None:
        nonlocal state
        for _ in range(iterations):
            collected = layout.place(family.collect(state, batch, state.step_key))
            state, metrics = step(state, collected)
        jax.block_until_ready((state, metrics))

    return run


def peer_step(case: str) -> Callable[[int], None]:
    """``run(iterations)`` of the PyTorch twin."""
    import copy

    import torch
    from torch.nn.functional import cross_entropy
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, heads, width, vocabulary, rows, prompt, response = SIZES[case]
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=prompt + response,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    policy: Any = GPT2LMHeadModel(config).eval()
    reference = copy.deepcopy(policy).requires_grad_(False)
    head = torch.nn.Linear(width, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    params = [*policy.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(params, lr=RATE, weight_decay=0.0, fused=True)
    prompts = torch.randint(vocabulary, (rows, prompt))

    def log_probs(net: Any, tokens: Any) -> tuple[Any, Any]:
        """Of the responses in tokens [B, T], and the features that they are predicted from."""
        hidden = net.transformer(tokens[:, :-1], use_cache=False).last_hidden_state[:, -response:]
        logits = net.lm_head(hidden)
        losses = cross_entropy(
            logits.flatten(0, 1), tokens[:, -response:].flatten(), reduction="none"
        )
        return -losses.view(-1, response), hidden

    def texts(tokens: Any) -> list[str]:
        return ["".join(map(character, row)) for row in tokens.tolist()]

    @torch.no_grad()
    def collected() -> tuple[Any, ...]:
        tokens = policy.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            top_k=0,
            pad_token_id=0,
            min_new_tokens=response,
            max_new_tokens=response,
        )
        old, hidden = log_probs(policy, tokens)
        values = head(hidden)[..., 0]
        rewards = -KL * (old - log_probs(reference, tokens)[0])
        rewards[:, -1] += torch.tensor(even(texts(tokens[:, :prompt]), texts(tokens[:, prompt:])))
        following = torch.cat([values[:, 1:], torch.zeros(rows, 1)], 1)
        errors = rewards + GAMMA * following - values
        advantages = torch.empty_like(errors)
        sum_after = torch.zeros(rows)
        for t in reversed(range(response)):
            sum_after = errors[:, t] + GAMMA * LAMBDA * sum_after
            advantages[:, t] = sum_after
        whitened = (advantages - advantages.mean()) * torch.rsqrt(
            advantages.var(correction=0) + 1e-8
        )
        return tokens, old, values, whitened, advantages + values

    def update(tokens: Any, old: Any, values: Any, advantages: Any, returns: Any) -> None:
        now, hidden = log_probs(policy, tokens)
        value = head(hidden)[..., 0]
        ratio = torch.exp(now - old)
        policy_loss = torch.maximum(
            -advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP)
        ).mean()
        held = torch.clamp(value, values - VALUE_CLIP, values + VALUE_CLIP)
        value_loss = 0.5 * torch.maximum((value - returns) ** 2, (held - returns) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        (policy_loss + value_loss).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()

    def run(iterations: int) -> None:
        for _ in range(iterations):
            batch = collected()
            for _ in range(EPOCHS):
                for chosen in torch.randperm(rows).split(rows // MINIBATCHES):
                    update(*(part[chosen] for part in batch))

    return run
