"""An iteration of PPO for language models, compared with a loop in eager PyTorch around
``transformers``' GPT-2.

An iteration draws responses to prompts, at temperature 1 with a cache, none of which ends early;
rewards the texts by a plain Python function; and makes 4 epochs of 4 minibatches: a penalty of the
KL to a frozen copy, GAE, whitened advantages, clipped losses of the policy and of a value head on
its features, Adam, clip 1.

"ppo" has the sizes of the config ``ppo_random_walks``, "ppo_text" those of short answers.

Both ask for the logits of responses alone. The peer's loop does not measure entropy, clipping or
KL.
"""

from __future__ import annotations

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
    """Return the character that stands for a token."""
    return chr(0x4E00 + token)


def even(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Return the share of characters of each response whose code is even."""
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
    from genjax.runs.setup import make_step

    sizes = SIZES[case]
    experiment, begin = _genjax_run(sizes)
    layout = parallel.start(parallel.Devices(count=1))
    step = layout.compile_step(make_step(experiment), layout.eval_shapes(begin))
    state = layout.init(begin)
    shape = sizes.rows, sizes.prompt
    batch = layout.place(
        {
            "tokens": np.random.default_rng(0).integers(0, sizes.vocabulary, shape, np.int32),
            "loss_mask": np.zeros(shape, np.float32),
            "prefix_mask": np.ones(shape, np.float32),
            "mask": np.ones(sizes.rows, np.float32),
        }
    )

    def run(iterations: int) -> None:
        nonlocal state
        for _ in range(iterations):
            collected = experiment.family.collect(state, batch, state.step_key)
            state, metrics = step(state, layout.place(collected))
        jax.block_until_ready((state, metrics))

    return run


def _genjax_run(sizes: Sizes) -> tuple[Any, Callable[[], Any]]:
    """Return the experiment, and what makes its first state, in which the policy is the base."""
    import jax
    import numpy as np

    from genjax.continued import apply_initial_params
    from genjax.data.dataset import Spec
    from genjax.data.sources import Digits
    from genjax.data.text.codecs import Characters
    from genjax.experiment import Experiment
    from genjax.families.autoregressive.autoregressive import Autoregressive
    from genjax.family import State, Trained, make_example
    from genjax.nets.transformer.transformer import Transformer
    from genjax.optim import Adam
    from genjax.posttrain.continued import BASE
    from genjax.posttrain.ppo import PPO
    from genjax.runs.setup import initial_state
    from genjax.schedules import Constant

    prompt, words = sizes.prompt, sizes.vocabulary
    mean = np.zeros(prompt, np.float32)
    spec = Spec("tokens", (prompt,), mean, vocabulary=words, prefixed=True)
    net = Transformer(sizes.layers, sizes.heads, sizes.width, prompt + sizes.response)
    policy, codec = Autoregressive(net), Characters("".join(map(character, range(words))))
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
    optimizer = Adam(Constant(RATE), clip=1.0)
    experiment = Experiment(family, data=Digits(), optimizer=optimizer, batch_size=sizes.rows)
    plain = initial_state(experiment, spec)

    def begin() -> State:
        params, variables = policy.init(jax.random.key(1), make_example(spec), spec)
        frozen = {BASE: {"params": params, "variables": variables}}
        return apply_initial_params(family, plain().replace(frozen=frozen))

    return experiment, begin


def peer_step(case: str) -> Callable[[int], None]:
    """``run(iterations)`` of the PyTorch twin."""
    import torch

    from benchmarks.peers import use_torch

    use_torch()
    peer = Peer(SIZES[case])

    def run(iterations: int) -> None:
        for _ in range(iterations):
            batch = peer.collect()
            for _ in range(EPOCHS):
                for chosen in torch.randperm(peer.sizes.rows).split(peer.sizes.rows // MINIBATCHES):
                    peer.update(*(part[chosen] for part in batch))

    return run


class Peer:
    """The PyTorch twin's policy, frozen copy, value head and optimizer."""

    def __init__(self, sizes: Sizes) -> None:
        import copy

        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        self.sizes = sizes
        config = GPT2Config(
            vocab_size=sizes.vocabulary,
            n_positions=sizes.prompt + sizes.response,
            n_embd=sizes.width,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.policy: Any = GPT2LMHeadModel(config).eval()
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)
        self.head = torch.nn.Linear(sizes.width, 1)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.params = [*self.policy.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.params, lr=RATE, weight_decay=0.0, fused=True)
        self.prompts = torch.randint(sizes.vocabulary, (sizes.rows, sizes.prompt))

    def log_probs(self, net: Any, tokens: Any) -> tuple[Any, Any]:
        """Of the responses in tokens [B, T], and the features that they are predicted from."""
        from torch.nn.functional import cross_entropy

        response = self.sizes.response
        hidden = net.transformer(tokens[:, :-1], use_cache=False).last_hidden_state[:, -response:]
        logits = net.lm_head(hidden)
        losses = cross_entropy(
            logits.flatten(0, 1), tokens[:, -response:].flatten(), reduction="none"
        )
        return -losses.view(-1, response), hidden

    def collect(self) -> tuple[Any, ...]:
        """Draw responses and reward them."""
        import torch

        prompt, response = self.sizes.prompt, self.sizes.response
        with torch.no_grad():
            tokens = self.policy.generate(
                self.prompts,
                attention_mask=torch.ones_like(self.prompts),
                do_sample=True,
                top_k=0,
                pad_token_id=0,
                min_new_tokens=response,
                max_new_tokens=response,
            )
            old, hidden = self.log_probs(self.policy, tokens)
            values = self.head(hidden)[..., 0]
            rewards = -KL * (old - self.log_probs(self.reference, tokens)[0])
            rewards[:, -1] += torch.tensor(
                even(_texts(tokens[:, :prompt]), _texts(tokens[:, prompt:]))
            )
            advantages = _advantages(rewards, values)
            whitened = (advantages - advantages.mean()) * torch.rsqrt(
                advantages.var(correction=0) + 1e-8
            )
        return tokens, old, values, whitened, advantages + values

    def update(self, tokens: Any, old: Any, values: Any, advantages: Any, returns: Any) -> None:
        """Make a step on a minibatch."""
        import torch

        now, hidden = self.log_probs(self.policy, tokens)
        value = self.head(hidden)[..., 0]
        ratio = torch.exp(now - old)
        policy_loss = torch.maximum(
            -advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP)
        ).mean()
        held = torch.clamp(value, values - VALUE_CLIP, values + VALUE_CLIP)
        value_loss = 0.5 * torch.maximum((value - returns) ** 2, (held - returns) ** 2).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (policy_loss + value_loss).backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()


def _texts(tokens: Any) -> list[str]:
    return ["".join(map(character, row)) for row in tokens.tolist()]


def _advantages(rewards: Any, values: Any) -> Any:
    """GAE of rewards and values [B, T]."""
    import torch

    following = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], 1)
    errors = rewards + GAMMA * following - values
    advantages = torch.empty_like(errors)
    sum_after = torch.zeros(len(values))
    for t in reversed(range(errors.shape[1])):
        sum_after = errors[:, t] + GAMMA * LAMBDA * sum_after
        advantages[:, t] = sum_after
    return advantages
