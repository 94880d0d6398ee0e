"""DDPO: trains a diffusion model on rewards by policy gradients over its denoising steps.

Black et al., arXiv 2305.13301, the form with importance sampling. With a KL penalty it is DPOK (Fan
et al., arXiv 2305.16381).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.errors import UserError
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.image_rewards import score_images
from genjax.family import (
    Batch,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    gradient_step,
    labels,
)
from genjax.losses import clipped_policy_loss, kl_k3
from genjax.optim import Rules
from genjax.posttrain.continued import BASE
from genjax.posttrain.grpo import compute_group_advantages
from genjax.posttrain.painters import Painter, estimate_clean, make_inputs
from genjax.samplers.diffusion.ancestral import posterior_mean, posterior_variance
from genjax.samplers.diffusion.steps import Step, make_steps, walk


@checks.frozen
class DDPO(Painter):
    """Trains an image diffusion model on rewards of its own samples, by policy gradients.

    Denoising is a chain of decisions: each step of the ancestral sampler but the last draws from a
    normal distribution, whose mean the model moves, and the reward is given at the end. A train
    step draws several samples for each row of a batch, with the row's label if the base is
    conditional, and makes ``updates`` gradient steps; each takes one denoising step of each sample,
    in random order and none twice. Its loss is PPO's clipped one of the step's density, with the
    advantage of the sample over the others of its row, in units of their standard deviation.
    Samples are drawn by the ``DDPM`` sampler with the small variance, without guidance, dropout or
    hidden labels, with estimates of the clean data clipped to [-1, 1]. The learning rate schedule
    counts train steps.

    The policy, a ``Diffusion``, is evaluated, sampled and exported.

    Training metrics: ``reward``, the mean over samples; ``policy_loss``, which with ``kl_weight``
    times ``kl_loss`` adds up to ``loss``; ``clip_fraction`` of steps; ``approx_kl`` to the policy
    that drew them, in nats per step; and ``kl`` of the policy's sampling paths to those of the
    base, in nats, before the updates.

    Attributes:
      base: run directory of a Diffusion of images: the initial policy, and the reference.
      reward: function of images, float32 [N, H, W, C] in [-1, 1], and labels, int [N] or None if
          the base is unconditional, that returns a number for each image.
      samples: samples drawn per row, at least 2.
      steps: sampling steps.
      updates: gradient steps on the samples of a batch, fewer than ``steps``.
      clip: how far the ratio of densities of a step may be from 1.
      kl_weight: weight of the KL to the base at the step, in nats.
      sampler: sampling options for evaluation; None uses the base's.
    """

    base: Component = "runs/diffusion_digits"
    reward: Component = None
    samples: int = 4
    steps: int = 20
    updates: int = 8
    clip: float = 0.2
    kl_weight: float = 0.0

    key_numbers: ClassVar[tuple[str, ...]] = ("reward", "kl")

    def __post_init__(self) -> None:
        if not callable(self.reward):
            raise UserError(
                f"reward must be a function of images and labels, got {self.reward!r}", "reward"
            )
        checks.at_least(self, 2, "samples", "steps")
        checks.between(self, 1, self.steps - 1, "updates")
        checks.above(self, 0, "clip")
        checks.at_least(self, 0, "kl_weight")

    def collect(self, state: State, batch: Batch, key: jax.Array) -> Batch:
        """Draw samples for the rows of a batch; return their paths and advantages, for ``update``.

        The entries, of B rows: ``path`` [B, K, S, H, W, C], x before each step; ``log_probs`` [B,
        K, S - 1] of the steps but the last; ``order`` [B, K, updates], the steps to learn from;
        ``advantage`` [B, K]; ``reward`` and ``kl`` [B], means over a row's samples.

        Raises:
          UserError: the reward fails, or there are several processes.
        """
        if jax.process_count() > 1:
            raise UserError("DDPO needs a single process")
        rows, shape = len(batch["mask"]), batch["image"].shape[1:]
        label = jnp.repeat(labels(batch), self.samples) if self.base.conditional else None
        draws, order, _ = jax.random.split(key, 3)
        images, drawn = draw_paths(
            self.base,
            self.steps,
            (rows * self.samples, *shape),
            state.params,
            state.frozen[BASE]["params"],
            label,
            draws,
        )
        asked = None if label is None else np.asarray(label)
        rewards = jnp.asarray(score_images(self.reward, np.asarray(images), asked))
        return self._make_batch(batch, drawn, rewards, order)

    def _make_batch(
        self, batch: Batch, drawn: dict[str, jax.Array], rewards: jax.Array, key: jax.Array
    ) -> Batch:
        rows = len(batch["mask"])
        advantage, _ = compute_group_advantages(rewards, self.samples, scale_by_std=True)
        steps = jnp.broadcast_to(jnp.arange(self.steps - 1), (rows, self.samples, self.steps - 1))
        order = jax.random.permutation(key, steps, axis=2, independent=True)[..., : self.updates]
        each = {
            name: x.reshape(rows, self.samples, *x.shape[1:])
            for name, x in (drawn | {"reward": rewards, "advantage": advantage}).items()
        }
        condition = {"label": batch["label"]} if self.base.conditional else {}
        means = {name: each[name].mean(1) for name in ("reward", "kl")}
        return condition | each | means | {"mask": batch["mask"], "order": order}

    def shape_collected(self, state: State, batch: Batch) -> Batch:
        """Return the shapes of what ``collect`` returns for a batch, without drawing anything."""
        count, image = len(batch["mask"]) * self.samples, batch["image"].shape[1:]

        def make(state: State, batch: Batch) -> Batch:
            drawn = {
                "path": jnp.zeros((count, self.steps, *image)),
                "log_probs": jnp.zeros((count, self.steps - 1)),
                "kl": jnp.zeros(count),
            }
            return self._make_batch(batch, drawn, jnp.zeros(count), state.key)

        return jax.eval_shape(make, state, batch)

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        reference = state.frozen[BASE]["params"]
        rule = dataclasses.replace(
            optimizer,
            learning_rate=lambda updates: optimizer.learning_rate(updates // self.updates),
        )

        def one(state: State, number: jax.Array) -> tuple[State, Metrics]:
            def loss(
                params: Params, variables: Variables, batch: Batch, _: jax.Array
            ) -> tuple[Metrics, Variables]:
                return self._compute_metrics(params, reference, batch, number), variables

            key = jax.random.fold_in(state.step_key, number)
            return gradient_step(loss, rule, state, batch, key, axis=axis)

        state, several = jax.lax.scan(one, state, jnp.arange(self.updates))
        return state.replace(step=state.step + 1), jax.tree.map(lambda x: x.sum(0), several)

    def _compute_metrics(
        self, params: Params, reference: Params, batch: Batch, number: jax.Array
    ) -> Metrics:
        """Compute the metrics of one denoising step of each sample, the ``number``th in order."""
        place = batch["order"][:, :, number]  # [B, K]
        rows, count = place.shape
        x, ahead = take_steps(batch["path"], place), take_steps(batch["path"], place + 1)
        here = jax.tree.map(
            lambda all_: all_[place].reshape(-1, *[1] * (x.ndim - 1)),
            make_steps(self.base.process, self.steps),
        )
        label = jnp.repeat(batch["label"], count) if self.base.conditional else None
        inputs, times = make_inputs(self.base, label, len(x)), here.t.reshape(-1)
        x0 = estimate_clean(self.base, params, x, times, inputs)
        log_ratio = step_log_prob(here, x0, x, ahead) - take_steps(batch["log_probs"], place)
        loss, clipped = clipped_policy_loss(log_ratio, batch["advantage"].reshape(-1), self.clip)
        each = {
            "policy_loss": loss,
            "clip_fraction": clipped,
            "approx_kl": kl_k3(jnp.zeros_like(log_ratio), log_ratio),
        }
        each["loss"] = loss
        if self.kl_weight:
            other = estimate_clean(self.base, reference, x, times, inputs)
            each["kl_loss"] = step_kl(here, x0, other).reshape(-1)
            each["loss"] = loss + self.kl_weight * each["kl_loss"]
        of_rows = {name: values.reshape(rows, count).mean(1) for name, values in each.items()}
        of_rows |= {name: batch[name] for name in ("reward", "kl")}
        return {name: Mean.of(values, batch["mask"]) for name, values in of_rows.items()}


# x, what it was before each step, the log-probabilities of the steps, the KL so far.
Path = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def draw_paths(
    base: Diffusion,
    steps: int,
    shape: tuple[int, ...],
    params: Params,
    reference: Params,
    label: jax.Array | None,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Draw samples [N, H, W, C] by the ancestral sampler, and what their paths were: ``path`` [N,
    S, H, W, C], x before each of ``steps`` S; ``log_probs`` [N, S - 1] of the steps but the last;
    and ``kl`` [N], see ``genjax.posttrain.rewarded_diffusion.draw_samples``.
    """
    inputs = make_inputs(base, label, shape[0])
    start, way = jax.random.split(key)

    def step(carry: Path, here: Step) -> Path:
        x, path, log_probs, kl = carry
        times = jnp.full(len(x), here.t)
        x0, other = (estimate_clean(base, one, x, times, inputs) for one in (params, reference))
        drawn = jax.random.normal(jax.random.fold_in(way, here.number), shape)
        ahead = posterior_mean(here, x0, x) + jnp.sqrt(posterior_variance(here)) * drawn
        kl = kl + jnp.where(here.last, 0.0, step_kl(here, x0, other))
        # That of the last step is written to no place.
        found = step_log_prob(here, x0, x, ahead)
        return ahead, path.at[:, here.number].set(x), log_probs.at[:, here.number].set(found), kl

    x = base.process.alpha_sigma(jnp.ones(()))[1] * jax.random.normal(start, shape)
    path, log_probs = jnp.zeros((shape[0], steps, *shape[1:])), jnp.zeros((shape[0], steps - 1))
    x, path, log_probs, kl = walk(
        step, base.process, steps, (x, path, log_probs, jnp.zeros(shape[0]))
    )
    return x, {"path": path, "log_probs": log_probs, "kl": kl}


def take_steps(entries: jax.Array, place: jax.Array) -> jax.Array:
    """Return the entries [B K, ...] of [B, K, S, ...] at the steps ``place`` [B, K]."""
    at = place.reshape(*place.shape, *[1] * (entries.ndim - 2))
    found = jnp.take_along_axis(entries, at, 2)[:, :, 0]
    return found.reshape(-1, *entries.shape[3:])


def step_log_prob(here: Step, x0: jax.Array, x: jax.Array, ahead: jax.Array) -> jax.Array:
    """Return the log-density [N] of ``ahead`` [N, ...] as the result of a step from x, given the
    estimate of the clean data, in nats, up to a constant of the step.
    """
    far = jnp.square(ahead - posterior_mean(here, x0, x)).reshape(len(x), -1).sum(1)
    return -far / (2 * jnp.maximum(posterior_variance(here).reshape(-1), 1e-20))


def step_kl(here: Step, x0: jax.Array, other: jax.Array) -> jax.Array:
    """Return the KL [N] between the results of a step for two estimates of the clean data, in
    nats.
    """
    gained = jnp.square(here.next_alpha / here.next_sigma) - jnp.square(here.alpha / here.sigma)
    return 0.5 * gained.reshape(-1) * jnp.square(x0 - other).reshape(len(x0), -1).sum(1)
