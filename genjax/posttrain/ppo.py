"""PPO: a language model learns by reinforcement from a reward of what it writes, held near to where
it started.

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
from genjax.posttrain.minibatches import check_rows, updates
from genjax.posttrain.reward import RewardModel, score
from genjax.posttrain.rollouts import (
    Rollout,
    check_counts,
    check_prompts,
    check_vocabulary,
    draw_responses,
    features,
    find_one_answer,
    measure_agreement,
    score_rollout,
    score_tokens,
    strip_padding,
)

REWARD = "reward_run"
NEGATIVE_KL = -0.1  # nats per response; an estimate may be a little below 0 by chance
LEAST_SPREAD = 1e-12  # of returns that are all the same, of which nothing is explained
RESPONSES = ("reward", "kl", "response_length", "agreement")  # metrics of whole responses
Critic = Literal["shared", "separate"]


@checks.frozen
class PPO(FromBase):
    """A trained model of texts continues learning from rewards, by proximal policy optimisation.

    Data are prompts: rows with a ``prefix_mask``, whose prefix the policy answers, at temperature 1
    and without filters. The reward comes at the last token of a response, and at each one a penalty
    of the KL coefficient times log p - log p of the model that it started as. A train step draws a
    response to each row of a batch, and makes epochs x minibatches updates; the learning rate's
    schedule counts train steps.

    What is judged, sampled from and exported is the policy, an ``Autoregressive`` model: its
    ``loss`` is that of the texts of the data.

    Responses are drawn, and first judged, in float32. With ``precision="bfloat16"`` the updates
    hear them a little otherwise: 4e-6 nats per token by ``approx_kl`` before anything is learned,
    on ``ppo_random_walks``.

    Metrics of training: ``reward``, before penalties; ``kl`` of a response to the reference, in
    nats; ``approx_kl`` a token to the policy that drew it; ``clip_fraction``;
    ``explained_variance`` of the returns by the values; ``entropy`` a token; ``response_length``;
    ``agreement``, how often two responses to different prompts are the same; ``kl_coefficient``;
    ``policy_loss`` and ``value_loss``.

    Attributes:
      base: the run directory of an Autoregressive model: where the policy starts, and the
        reference.
      reward: a function of prompts and responses, lists of text, which gives a number for each;
        prompts with what a template puts around them, responses without their end.
      reward_run: instead, the run directory of a RewardModel of the same tokens.
      adapters: train LoRA adapters of the base, so that the reference is the base weights that they
        depend on, and no second copy; None trains all parameters.
      new_tokens: the longest response.
      longest_prompt: tokens that rows have room for; None takes the length of the data's rows.
      epochs: skips the responses.
      minibatches: updates in a pass.
      gamma: what a reward one token later counts for.
      lam: of the advantages, see ``losses.gae``.
      clip: how far the ratio of probabilities may be from 1.
      value_clip: how far a value may move.
      value_coefficient: weight of the value loss.
      entropy_coefficient: weight of a bonus for the entropy.
      kl: coefficient of the penalty; where it starts if it adapts.
      kl_target: KL in nats per response that the coefficient is adapted to; None keeps the
        coefficient.
      kl_horizon: responses over which it adapts.
      whiten: give advantages mean 0 and standard deviation 1 over a batch.
      critic: values are a linear function of the policy's features, "shared", or of those of a
        "separate" model, which starts as the base, too.
      unended: taken off the reward of a response without an end.
      kl_alarm: nats per response; training warns of a mean KL above it or clearly below 0.
      sampler: how samples are drawn; None takes the base's.
      codec: turns tokens to the texts that are rewarded; None takes that of the data.
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
        check_counts(self, ("new_tokens", "longest_prompt", "epochs", "minibatches", "kl_horizon"))
        checks.between(self, 0, 1, "gamma", "lam")
        checks.above(self, 0, "clip", "value_clip", "kl_alarm")
        checks.at_least(self, 0, "value_coefficient", "entropy_coefficient", "kl", "unended")
        checks.above(self, 0, "kl_target")
        if self.kl_target is not None and not self.kl > 0:
            raise UserError(
                "a KL coefficient that starts at 0 never adapts: give a kl above 0 with kl_target"
            )
        if (self.reward is None) == (self.reward_run is None):
            raise UserError(
                "PPO learns from a reward, a function, or from a reward_run: give one of the two"
            )
        if self.reward is not None and not callable(self.reward):
            raise UserError(f"reward is a function of prompts and responses, not {self.reward!r}")

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
                f"reward_run is a RewardModel, but {judge.run_dir} is of a "
                f"{type(judge.family).__name__}"
            )
        if room > judge.family.net.net.context:
            raise UserError(
                f"a prompt and its response are of up to {room} tokens, more than the context of "
                f"{judge.family.net.net.context} of {judge.run_dir}"
            )
        return dataclasses.replace(self, base=base.family, reward_run=judge.family)

    def with_codec(self, codec: Component) -> PPO:
        if self.unended and codec.end is None:
            raise UserError("unended needs data whose codec has a token for the end")
        return self if self.codec is not None else dataclasses.replace(self, codec=codec)

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        check_rows(rows, self.minibatches, accumulate)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        policy, _ = self.base.init(key, example, spec)
        two = example["tokens"][:, :2]
        width = jax.eval_shape(
            lambda: features(self.base, policy, two, jnp.ones(two.shape, bool), 1)
        ).shape[-1]
        # Values start at 0: advantages are the rewards themselves, until more is known.
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
        """Return {"policy", "value"} as networks use them, of those that are trained."""
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
        """Return responses to the prompts of a batch, their rewards and advantages: what ``update``
        learns from.

        Raises:
          UserError: a prompt longer than ``longest_prompt``, a reward that fails, or several
            processes.
        """
        params = self.merge_params(state.frozen, state.params)
        draws = jax.random.split(key)[0]  # the other one is of ``update``
        drawn, longest = draw_responses(self, params["policy"], batch, draws)
        if self.reward_run is None:
            rewards = score_rollout(self.reward, self.codec, drawn, longest)
        else:
            judge = State(state.step, **state.frozen[REWARD], opt_state=None, ema=None, key=key)
            rewards = score(self.reward_run, judge, *strip_padding(drawn.tokens, drawn.real))
        reference, coefficient = state.frozen[BASE]["params"], state.variables["kl_coefficient"]
        return experience(self, params, reference, drawn, rewards, coefficient, batch["mask"])

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
        return kl_remarks(numbers["kl"], self.kl_alarm)

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        return find_one_answer(numbers)


def kl_remarks(kl: float, alarm: float) -> tuple[str, ...]:
    """What to tell of a mean KL, in nats per response, that is not what it should be."""
    if kl < NEGATIVE_KL:
        return (
            f"the KL to the reference is {kl:.3g} nats a response, which a policy that draws its "
            "own responses cannot "
            "have: it finds what the reference likes better",
        )
    if kl > alarm:
        return (
            f"the KL to the reference is {kl:.3g} nats a response, above {alarm:g} "
            "(family.kl_alarm): the policy runs "
            "away; raise family.kl or lower the learning rate",
        )
    return ()


@functools.partial(jax.jit, static_argnums=0)
def experience(
    family: PPO,
    params: Params,
    reference: Params,
    drawn: Rollout,
    rewards: jax.Array,
    coefficient: jax.Array,
    weight: jax.Array,
) -> dict[str, jax.Array]:
    """Return a batch for ``update`` of responses and their rewards [B]; ``weight`` [B] is 0 for
    rows that only fill it up.

    The entries are ``tokens`` and ``real`` of the rollout, of its tokens ``log_probs``, ``values``,
    ``advantages``, ``returns`` and ``response_mask`` [B, N], and of each response ``reward``,
    ``kl``, ``response_length``, and its share of the variance of the returns, ``spread``, and of
    what of it the values do not explain, ``unexplained``, [B].

    Args:
      params: whole {"policy", "value"} that the responses were drawn from.
      reference: parameters of the model that the policy started as.
      drawn: the responses.
      rewards: of them, [B].
      coefficient: of the KL penalty.
      weight: of the responses, [B].
    """
    mask = drawn.real[:, -drawn.log_probs.shape[1] :].astype(jnp.float32)
    log_probs, values, _ = _spoken(family, params, drawn.tokens, drawn.real, mask.shape[1])
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


def _spoken(
    family: PPO, params: Params, tokens: jax.Array, real: jax.Array, new_tokens: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return log-probabilities, values and entropies [B, N] of the last ``new_tokens``, by whole
    {"policy", "value"}.
    """
    own = score_tokens(family.base, params["policy"], tokens, real, new_tokens)
    value = params["value"]
    read = (
        features(family.base, value["net"], tokens, real, new_tokens)
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
    """Of each row of x [B, N] the sum of squared distances [B] from the mean of all, where
    ``mask`` is 1.
    """
    mean = (x * mask).sum() / jnp.maximum(mask.sum(), 1)
    return (jnp.square(x - mean) * mask).sum(1)


def update(
    family: PPO, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
) -> tuple[State, Metrics]:
    """Return epochs over a batch of ``experience``, an update for each minibatch; see
    ``minibatches.updates``.
    """
    state, metrics = updates(
        functools.partial(_losses, family),
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


def _losses(family: PPO, params: Params, batch: Batch) -> Metrics:
    mask = batch["response_mask"] * batch["mask"][:, None]
    log_probs, values, entropies = _spoken(
        family, params, batch["tokens"], batch["real"], mask.shape[1]
    )
    log_ratio = (log_probs - batch["log_probs"]) * mask
    losses, clipped = clipped_policy_loss(log_ratio, batch["advantages"], family.clip)
    policy = Mean.of(losses, mask)
    value = Mean.of(
        clipped_value_loss(values, batch["values"], batch["returns"], family.value_clip), mask
    )
    if (
        family.entropy_coefficient == 0
    ):  # only reported: its gradient would cost a pass over the logits
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
