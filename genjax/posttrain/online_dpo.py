"""Online DPO: trains a language model on preferences between responses that it draws itself.

Guo et al., arXiv 2402.04792.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.family import Batch, Mean, Metrics, Params
from genjax.losses import preference_loss
from genjax.posttrain.groups import Grouped, find_ties
from genjax.posttrain.ppo import RESPONSES
from genjax.posttrain.rollouts import score_tokens


@checks.frozen
class OnlineDPO(Grouped):
    """Trains a language model to prefer the better of its own responses to a prompt, by DPO.

    The data are prompts, and a batch counts responses, as in ``GRPO``. Of each group the response
    with the highest reward is chosen and the one with the lowest rejected, the first of equals;
    groups with equal rewards teach nothing. The loss is that of ``DPO``: -log sigmoid(beta times
    the difference of their log-ratios to the reference, the initial model). With the default of two
    responses this is the paper's method, whose judge is here the reward.

    The policy, an ``Autoregressive`` model, is evaluated, sampled and exported; its ``loss`` is on
    the texts of the data. Responses are drawn in float32, as in ``PPO``.

    Training metrics: ``reward``; ``kl`` to the reference, in nats per response, before the updates;
    ``tied``, the share of groups with equal rewards, whose ``loss`` and ``margin`` are 0;
    ``accuracy``, the share of groups whose chosen response has the higher log-ratio, where a tie of
    either kind counts half; ``margin`` between log-ratios, times beta; ``entropy`` of both, in nats
    per token; ``response_length``, in tokens; ``agreement``, how often responses to different
    prompts are the same.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy, and the reference.
      reward: function of prompts and responses, lists of texts, that returns a number for each
        response; prompts include the chat template, responses have no end token.
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
      group: responses per prompt.
      new_tokens: maximum length of a response, in tokens.
      longest_prompt: maximum length of a prompt, in tokens; None for the length of the data's rows.
      epochs: passes over the responses of a step.
      minibatches: updates per pass, each on whole groups.
      kl_alarm: training warns of a mean KL above this, in nats per response, or clearly below 0.
      codec: codec that decodes texts for the reward; None uses the data's.
      beta: strength of the pull to the reference; the higher, the closer the policy stays.
      sampler: sampling options; None uses the base's.
    """

    group: int = 2
    beta: float = 0.1

    key_numbers: ClassVar[tuple[str, ...]] = ("reward", "kl", "accuracy")
    joint: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.above(self, 0, "beta")

    def compare(self, judged: Mapping[str, jax.Array], kl: jax.Array) -> dict[str, jax.Array]:
        return {"tied": find_ties(judged["reward"], self.group).astype(jnp.float32)}

    def compute_metrics(self, params: Params, batch: Batch) -> Metrics:
        """Compute the metrics of groups, with entries [G, group, ...]."""
        rewards = batch["reward"]
        places = jnp.stack([rewards.argmax(1), rewards.argmin(1)], 1)  # [G, 2]

        def choose(name: str) -> jax.Array:
            """The entries of the chosen and the rejected response, [2 G, T]."""
            found = jnp.take_along_axis(batch[name], places[..., None], 1)
            return found.reshape(-1, found.shape[-1])

        mask = choose("response_mask")
        own = score_tokens(self.base, params, choose("tokens"), choose("real"), mask.shape[1])
        gained = ((own.log_probs - choose("reference_log_probs")) * mask).sum(1).reshape(-1, 2)
        margin = self.beta * (gained[:, 0] - gained[:, 1])
        groups, untied = batch["mask"][:, 0], 1 - batch["tied"][:, 0]
        means = {name: Mean.of(batch[name], batch["mask"]) for name in (*RESPONSES, "tied")}
        return means | {
            "loss": Mean.of(preference_loss(margin) * untied, groups),
            "accuracy": Mean.of((jnp.sign(margin * untied) + 1) / 2, groups),
            "margin": Mean.of(margin * untied, groups),
            "entropy": Mean.of(own.entropy, mask * jnp.repeat(groups, 2)[:, None]),
        }
