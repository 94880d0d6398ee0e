"""PPO: trains a language model by reinforcement learning on rewards of its responses, close to
where it started.

Schulman et al., arXiv 1707.06347; for language models Ziegler et al., arXiv 1909.08593, and Ouyang
et al., arXiv 2203.02155.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.family import Batch, Mean, Metrics, Params, State, Trained, Variables
from genjax.losses import (
    adapt_kl_coefficient,
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    kl_k1,
    kl_k3,
    whiten,
)
from genjax.optim import Rules
from genjax.posttrain import adapters
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE, FromBase
from genjax.posttrain.minibatches import check_rows, run_updates
from genjax.posttrain.reward import RewardModel, score
from genjax.posttrain.rollouts import (
    Rollout,
    check_prompts,
    check_vocabulary,
    compute_features,
    draw_responses,
    find_one_answer,
    measure_agreement,
    score_rollout,
    score_tokens,
    shape_rollout,
    strip_padding,
)

REWARD = "reward_run"
NEGATIVE_KL = -0.1  # nats per response; an estimate may be a little below 0 by chance
LEAST_SPREAD = 1e-12  # below it returns count as constant, and nothing is explained
RESPONSES = ("reward", "kl", "response_length", "agreement")  # metrics of whole responses
Critic = Literal["shared", "separate"]


@checks.frozen
class PPO(FromBase):
    """Trains a language model on rewards, by proximal policy optimisation.

    The data are prompts: rows with a ``prefix_mask``, whose prefix the policy answers, at
    temperature 1 and without filters. The reward is given at the last token of a response. Each
    token has a penalty: the KL coefficient times its log-ratio to the reference, the initial model.
    A train step draws a response to each row of a batch and makes epochs x minibatches updates; the
    learning rate schedule counts train steps.

    The policy, an ``Autoregressive`` model, is evaluated, sampled and exported; its ``loss`` is on
    the texts of the data.

    Responses are drawn and first scored in float32. With ``precision="bfloat16"`` the recomputed
    log-probabilities of the updates differ a little: ``approx_kl`` is 4e-6 nats per token before
    the first update, on ``ppo_random_walks``.

    Training metrics: ``reward``, before penalties; ``kl`` to the reference, in nats per response;
    ``approx_kl`` to the policy that drew the token, in nats per token; ``clip_fraction``;
    ``explained_variance`` of the returns by the values; ``entropy``, in nats per token;
    ``response_length``, in tokens; ``agreement``, how often responses to different prompts are the
    same; ``kl_coefficient``; ``policy_loss`` and ``value_loss``.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy, and the reference.
      reward: function of prompts and responses, lists of texts, that returns a number for each
        response; prompts include the chat template, responses have no end token.
      reward_run: run directory of a RewardModel with the same tokens, instead of ``reward``.
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
      new_tokens: maximum length of a response, in tokens.
      longest_prompt: maximum length of a prompt, in tokens; None for the length of the data's rows.
      epochs: passes over the responses of a step.
      minibatches: updates per pass.
      gamma: discount per token.
      lam: lambda of generalised advantage estimation, see ``losses.gae``.
      clip: how far the probability ratio may be from 1.
      value_clip: how far a value may move from its old one.
      value_coefficient: weight of the value loss.
      entropy_coefficient: weight of a bonus for the entropy.
      kl: coefficient of the KL penalty, or its initial value.
      kl_target: KL in nats per response that the coefficient adapts to; None keeps it fixed.
      kl_horizon: number of responses over which it adapts.
      whiten: whether advantages are normalised to mean 0 and standard deviation 1 over a batch.
      critic: "shared" for values linear in the policy's  compute_features, "separate" for those of
        another copy of the base.
      unended: amount subtracted from the reward of a response without an end token.
      kl_alarm: training warns of a mean KL above this, in nats per response, or clearly below 0.
      sampler: sampling options; None uses the base's.
      codec: codec that decodes texts for the reward; None uses the data's.
    """

    base: Component = "runs/gpt_docs"
    reward: Component = None
    reward_run: Component = None
    adapters: Adapters | None = None
    new_tokens: int = 64
    longest_prompt: int | None = None
    epochs: int = 4
    minibatches: int = 4
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    value_coefficient: float = 1.0
    entropy_coefficient: float = 0.0
    kl: float = 0.1
    kl_target: float | None = None
    kl_horizon: int = 10_000
    whiten: bool = True
    critic: Critic = "shared"
    unended: float = 0.0
    kl_alarm: float = 50.0
    codec: Component = None

    key_numbers: ClassVar[tuple[str, ...]] = ("reward", "kl", "entropy")

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "new_tokens", "longest_prompt", "epochs", "minibatches")
        checks.at_least(self, 1, "kl_horizon")
        checks.between(self, 0, 1, "gamma", "lam")
        checks.above(self, 0, "clip", "value_clip", "kl_alarm")
        checks.at_least(self, 0, "value_coefficient", "entropy_coefficient", "kl", "unended")
        checks.above(self, 0, "kl_target")
        if self.kl_target is not None and not self.kl > 0:
            raise UserError(
                f"kl must be > 0 with kl_target, as a coefficient of 0 never adapts, got {self.kl}",
                "kl",
            )
        if (self.reward is None) == (self.reward_run is None):
            raise UserError(
                "reward and reward_run exclude one another: give exactly one of them", "reward"
            )
        if self.reward is not None and not callable(self.reward):
            raise UserError(
                f"reward must be a function of prompts and responses, got {self.reward!r}", "reward"
            )

    @property
    def runs(self) -> Mapping[str, str]:
        return {**super().runs} | ({} if self.reward_run is None else {REWARD: self.reward_run})

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> PPO:
        base = others[BASE]
        room = check_prompts("PPO", self, base, spec)
        if self.reward_run is None:
            return dataclasses.replace(self, base=base.family)
        check_vocabulary(others[REWARD], spec)
        judge = others[REWARD]
        if not isinstance(judge.family, RewardModel):
            raise UserError(
                f"reward_run must be a run of a RewardModel, but {judge.run_dir} is a "
                f"{type(judge.family).__name__}",
                "reward_run",
            )
        if room > judge.family.net.net.context:
            raise UserError(
                f"a prompt with its response must have <= {judge.family.net.net.context} tokens "
                f"(context of {judge.run_dir}), got up to {room}"
            )
        return dataclasses.replace(self, base=base.family, reward_run=judge.family)

    def with_codec(self, codec: Component) -> PPO:
        if self.unended and codec.end is None:
            raise UserError("unended needs data whose codec has an end token", "unended")
        return self if self.codec is not None else dataclasses.replace(self, codec=codec)

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        check_rows(rows, self.minibatches, accumulate)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        policy, _ = self.base.init(key, example, spec)
        two = example["tokens"][:, :2]
        width = jax.eval_shape(
            lambda: compute_features(self.base, policy, two, jnp.ones(two.shape, bool), 1)
        ).shape[-1]
        # Values start at 0, so that advantages start as plain returns.
        value = {"head": {"kernel": jnp.zeros((width, 1)), "bias": jnp.zeros(1)}}
        trained = adapters.init_trainable(self.adapters, key, policy)
        if self.critic == "separate":
            value["net"] = jax.tree.map(jnp.copy, trained)
        return {"policy": trained, "value": value}, {
            "kl_coefficient": jnp.asarray(self.kl, jnp.float32)
        }

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        learned = state.frozen[BASE]["params"]
        value = {
            name: adapters.copy_learned(self.adapters, part, learned) if name == "net" else part
            for name, part in state.params["value"].items()
        }
        params = {
            "policy": adapters.copy_learned(self.adapters, state.params["policy"], learned),
            "value": value,
        }
        return params, state.variables

    def merge_params(self, frozen: Any, params: Params) -> Params:
        """Return the networks' parameters {"policy", "value"}, given the trained ones."""
        learned = frozen[BASE]["params"]
        value = {
            name: adapters.merge_trainable(self.adapters, learned, part) if name == "net" else part
            for name, part in params["value"].items()
        }
        return {
            "policy": adapters.merge_trainable(self.adapters, learned, params["policy"]),
            "value": value,
        }

    def collect(self, state: State, batch: Batch, key: jax.Array) -> Batch:
        """Draw responses to the prompts of a batch; return them with rewards and advantages, for
        ``update``.

        Raises:
          UserError: a prompt is longer than ``longest_prompt``, the reward fails, or there are
              several processes.
        """
        params = self.merge_params(state.frozen, state.params)
        draws = jax.random.split(key)[0]  # ``update`` uses the other one
        drawn, longest = draw_responses(self, params["policy"], batch, draws)
        if self.reward_run is None:
            rewards = score_rollout(self.reward, self.codec, drawn, longest)
        else:
            judge = State(state.step, **state.frozen[REWARD], opt_state=None, ema=None, key=key)
            rewards = score(self.reward_run, judge, *strip_padding(drawn.tokens, drawn.real))
        reference, coefficient = state.frozen[BASE]["params"], state.variables["kl_coefficient"]
        return make_experience(self, params, reference, drawn, rewards, coefficient, batch["mask"])

    def shape_collected(self, state: State, batch: Batch) -> Batch:
        """Return the shapes of what ``collect`` returns for a batch, without drawing anything."""
        rows, prompt = batch["tokens"].shape
        drawn = shape_rollout(rows, self.longest_prompt or prompt, self.new_tokens)

        def make(state: State, drawn: Rollout, rewards: jax.Array) -> Batch:
            params = self.merge_params(state.frozen, state.params)
            reference = state.frozen[BASE]["params"]
            coefficient = state.variables["kl_coefficient"]
            return make_experience(self, params, reference, drawn, rewards, coefficient, rewards)

        return jax.eval_shape(make, state, drawn, jax.ShapeDtypeStruct((rows,), "float32"))

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        return update(self, state, batch, optimizer=optimizer, axis=axis)

    def eval_state(self, state: State) -> State:
        state = state.for_eval()
        policy = adapters.merge_trainable(
            self.adapters, state.frozen[BASE]["params"], state.params["policy"]
        )
        variables = state.frozen[BASE]["variables"]
        return self.base.eval_state(
            state.replace(params=policy, variables=variables, ema=None, frozen=None)
        )

    def warnings(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        return describe_kl(numbers["kl"], self.kl_alarm)

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        return find_one_answer(numbers)


def describe_kl(kl: float, alarm: float) -> tuple[str, ...]:
    """Return warnings about a mean KL, in nats per response, that is negative or above
    ``alarm``.
    """
    if kl < NEGATIVE_KL:
        return (
            f"the KL to the reference is {kl:.3g} nats per response, but cannot be negative: "
            "the policy draws what the reference finds more likely",
        )
    if kl > alarm:
        return (
            f"the KL to the reference is {kl:.3g} nats per response, above {alarm:g} "
            "(family.kl_alarm): raise family.kl or lower the learning rate",
        )
    return ()


@functools.partial(jax.jit, static_argnums=0)
def make_experience(
    family: PPO,
    params: Params,
    reference: Params,
    drawn: Rollout,
    rewards: jax.Array,
    coefficient: jax.Array,
    weight: jax.Array,
) -> dict[str, jax.Array]:
    """Make the batch for ``update`` from responses and their rewards [B]; ``weight`` [B] is 0 for
    padding rows.

    Its entries are ``tokens`` and ``real`` of the rollout; ``log_probs``, ``values``,
    ``advantages``, ``returns`` and ``response_mask`` per token [B, N]; and per response [B]
    ``reward``, ``kl``, ``response_length``, ``agreement``, its part of the variance of the returns,
    ``spread``, and of what the values do not explain of it, ``unexplained``.

    Args:
      params: merged {"policy", "value"} that the responses were drawn from.
      reference: parameters of the initial policy.
      drawn: responses.
      rewards: rewards of the responses, [B].
      coefficient: coefficient of the KL penalty.
      weight: weights of the responses, [B].
    """
    mask = drawn.real[:, -drawn.log_probs.shape[1] :].astype(jnp.float32)
    log_probs, values, _ = _score_responses(family, params, drawn.tokens, drawn.real, mask.shape[1])
    known = score_tokens(family.base, reference, drawn.tokens, drawn.real, mask.shape[1]).log_probs
    kl = kl_k1(log_probs, known) * mask
    lengths = mask.sum(1)
    last = jnp.arange(mask.shape[1])[None] == lengths[:, None] - 1
    given = rewards - family.unended * ~drawn.ended
    steps = jnp.where(last, given[:, None], 0.0) - coefficient * kl
    advantages, returns = gae(steps, values, mask, family.gamma, family.lam)
    weighed = mask * weight[:, None]
    return {
        "mask": weight,
        "tokens": drawn.tokens,
        "real": drawn.real,
        "response_mask": mask,
        "log_probs": log_probs,
        "values": values,
        "advantages": whiten(advantages, weighed) if family.whiten else advantages,
        "returns": returns,
        "reward": rewards,
        "kl": kl.sum(1),
        "response_length": lengths,
        "agreement": measure_agreement(drawn.tokens, drawn.real, mask.shape[1], weight),
        "spread": _squared_deviations(returns, weighed),
        "unexplained": _squared_deviations(returns - values, weighed),
    }


def _score_responses(
    family: PPO, params: Params, tokens: jax.Array, real: jax.Array, new_tokens: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute log-probabilities, values and entropies [B, N] of the last ``new_tokens``, for merged
    {"policy", "value"}.
    """
    own = score_tokens(family.base, params["policy"], tokens, real, new_tokens)
    value = params["value"]
    read = (
        compute_features(family.base, value["net"], tokens, real, new_tokens)
        if "net" in value
        else own.features
    )
    flat = read.reshape(-1, read.shape[-1]).astype(jnp.float32)
    values = (
        flat @ value["head"]["kernel"].astype(jnp.float32)
        + value["head"]["bias"].astype(jnp.float32)[None]
    )
    return own.log_probs, values.reshape(own.log_probs.shape), own.entropy


def _squared_deviations(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Sum the squared deviations of each row of x [B, N] from the overall mean, where ``mask`` is
    1: [B].
    """
    mean = (x * mask).sum() / jnp.maximum(mask.sum(), 1)
    return (jnp.square(x - mean) * mask).sum(1)


def update(
    family: PPO, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
) -> tuple[State, Metrics]:
    """Train on a batch of ``make_experience`` for all epochs; see ``minibatches.run_updates``."""
    state, metrics = run_updates(
        functools.partial(_compute_metrics, family),
        functools.partial(family.merge_params, state.frozen),
        family.epochs,
        family.minibatches,
        state,
        batch,
        optimizer=optimizer,
        axis=axis,
    )
    coefficient = state.variables["kl_coefficient"]
    metrics["kl_coefficient"] = Mean(coefficient, jnp.ones(()))
    if family.kl_target is not None:
        seen = metrics["kl"].weight / family.epochs
        moved = adapt_kl_coefficient(
            coefficient, metrics["kl"].value, family.kl_target, seen, family.kl_horizon
        )
        moved = jnp.where(metrics["skipped"].sum > 0, coefficient, moved)
        state = state.replace(variables={**state.variables, "kl_coefficient": moved})
    return state, metrics


def _compute_metrics(family: PPO, params: Params, batch: Batch) -> Metrics:
    mask = batch["response_mask"] * batch["mask"][:, None]
    log_probs, values, entropies = _score_responses(
        family, params, batch["tokens"], batch["real"], mask.shape[1]
    )
    log_ratio = (log_probs - batch["log_probs"]) * mask
    losses, clipped = clipped_policy_loss(log_ratio, batch["advantages"], family.clip)
    policy = Mean.of(losses, mask)
    value = Mean.of(
        clipped_value_loss(values, batch["values"], batch["returns"], family.value_clip), mask
    )
    if family.entropy_coefficient == 0:
        # Only reported; its gradient would cost a pass over the logits.
        entropies = jax.lax.stop_gradient(entropies)
    entropy = Mean.of(entropies, mask)
    total = (
        policy.sum + family.value_coefficient * value.sum - family.entropy_coefficient * entropy.sum
    )
    of_response = {name: Mean.of(batch[name], batch["mask"]) for name in RESPONSES}
    spread = jnp.sum(batch["spread"] * batch["mask"])
    explained = jnp.where(
        spread > LEAST_SPREAD, spread - jnp.sum(batch["unexplained"] * batch["mask"]), 0.0
    )
    return of_response | {
        "explained_variance": Mean(explained, jnp.maximum(spread, LEAST_SPREAD)),
        "loss": Mean(total, policy.weight),
        "policy_loss": policy,
        "value_loss": value,
        "entropy": entropy,
        "approx_kl": Mean.of(kl_k3(batch["log_probs"], batch["log_probs"] + log_ratio), mask),
        "clip_fraction": Mean.of(clipped, mask),
    }
