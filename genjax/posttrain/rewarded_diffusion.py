"""Trains diffusion models on rewards of their samples, by weighted regression or on pairs of
samples.

Reward-weighted regression: Peters & Schaal, ICML 2007; for diffusion models Lee et al., arXiv
2302.12192. Diffusion-DPO: Wallace et al., arXiv 2311.12908. The KL of sampling paths: Fan et al.,
arXiv 2305.16381.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar, Literal

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
from genjax.losses import preference_loss
from genjax.optim import Rules
from genjax.posttrain.continued import BASE
from genjax.posttrain.painters import Painter, estimate_clean, find_null, make_inputs
from genjax.samplers.diffusion.ancestral import posterior_mean, posterior_variance
from genjax.samplers.diffusion.processes import diffuse
from genjax.samplers.diffusion.steps import Step, walk

Method = Literal["weighted", "dpo"]


@checks.frozen
class RewardedDiffusion(Painter):
    """Trains an image diffusion model on rewards of its own samples.

    A train step draws several samples for each row of a batch, with the row's label if the base is
    conditional, computes their rewards, and makes ``updates`` gradient steps on them. Each update
    has new times and noise, shared by all samples of a row. Samples are drawn by the ancestral
    sampler (``DDPM`` with the small variance) without guidance, with estimates of the clean data
    clipped to [-1, 1]. The error of an image is the base's training loss, without dropout; labels
    are hidden as often as in the base's training. The learning rate schedule counts train steps.

    - "weighted": the errors of a row's samples, weighted by the softmax of reward / temperature. -
    "dpo": -log sigmoid(-beta (d_best - d_worst)), where d is the error of the policy minus that of
    the base, for the best and the worst sample of a row. Two samples with equal rewards count half
    in each order.

    The policy, a ``Diffusion``, is evaluated, sampled and exported.

    Training metrics: ``reward``, the mean over samples; ``policy_loss``, which with ``data`` times
    ``data_loss`` adds up to ``loss``; ``effective_samples`` of a row, 1 over the sum of squared
    weights ("weighted"); ``accuracy``, how often the policy's error has changed in favour of the
    better sample ("dpo"); and ``kl`` of the policy's sampling paths to those of the base, in nats,
    see ``draw_samples``.

    Attributes:
      base: run directory of a Diffusion of images: the initial policy, and the reference.
      reward: function of images, float32 [N, H, W, C] in [-1, 1], and labels, int [N] or None if
          the base is unconditional, that returns a number for each image.
      method: "weighted" or "dpo".
      samples: samples drawn per row, at least 2.
      steps: sampling steps.
      updates: gradient steps on the samples of a batch.
      temperature: temperature of "weighted"; the lower, the more the best sample counts.
      beta: strength of the pull to the base in "dpo"; the higher, the closer the policy stays.
      data: weight of the error of the row's own image, which keeps the policy close to the data.
      sampler: sampling options for evaluation; None uses the base's.
    """

    base: Component = "runs/diffusion_digits"
    reward: Component = None
    method: Method = "dpo"
    samples: int = 4
    steps: int = 20
    updates: int = 4
    temperature: float = 0.1
    beta: float = 100.0
    data: float = 0.0

    key_numbers: ClassVar[tuple[str, ...]] = ("reward", "kl")

    def __post_init__(self) -> None:
        if not callable(self.reward):
            raise UserError(
                f"reward must be a function of images and labels, got {self.reward!r}", "reward"
            )
        checks.at_least(self, 2, "samples", "steps")
        checks.at_least(self, 1, "updates")
        checks.above(self, 0, "temperature", "beta")
        checks.at_least(self, 0, "data")

    def collect(self, state: State, batch: Batch, key: jax.Array) -> Batch:
        """Draw samples for the rows of a batch; return them with their weights, for ``update``.

        Entries added to the batch's, of B rows: ``drawn`` [B, K, H, W, C], all samples or the best
        and the worst; ``weight`` [B, K], their weights or the shares with which each is preferred;
        ``times`` [B, updates]; ``row`` [B], which seeds the noise; ``reward`` and ``kl`` [B], means
        over a row's samples.

        Raises:
          UserError: the reward fails, or there are several processes.
        """
        if jax.process_count() > 1:
            raise UserError("RewardedDiffusion needs a single process")
        rows, shape = len(batch["mask"]), batch["image"].shape[1:]
        label = jnp.repeat(labels(batch), self.samples) if self.base.conditional else None
        draws, times, _ = jax.random.split(key, 3)  # ``update`` uses the last one
        count = rows * self.samples
        images, kl = draw_samples(
            self.base,
            self.steps,
            (count, *shape),
            state.params,
            state.frozen[BASE]["params"],
            label,
            draws,
        )
        asked = None if label is None else np.asarray(label)
        rewards = jnp.asarray(
            score_images(self.reward, np.asarray(images), asked).reshape(rows, self.samples)
        )
        images = images.reshape(rows, self.samples, *shape)
        if self.method == "weighted":
            weight = jax.nn.softmax(rewards / self.temperature)
        else:
            images, weight = pick_best_and_worst(images, rewards)
        condition = {"label": batch["label"]} if self.base.conditional else {}
        return condition | {
            "mask": batch["mask"],
            "image": batch["image"],
            "drawn": images,
            "weight": weight,
            "times": self._draw_times(times, rows),
            "row": jnp.arange(rows),
            "reward": rewards.mean(1),
            "kl": kl.reshape(rows, self.samples).mean(1),
        }

    def shape_collected(self, state: State, batch: Batch) -> Batch:
        """Return the shapes of what ``collect`` returns for a batch, without drawing anything."""
        image = batch["image"]
        rows, kept = len(image), self.samples if self.method == "weighted" else 2
        shapes = {
            "mask": (rows,),
            "drawn": (rows, kept, *image.shape[1:]),
            "weight": (rows, kept),
            "times": (rows, self.updates),
            "reward": (rows,),
            "kl": (rows,),
        }
        floats = jax.eval_shape(lambda: {name: jnp.zeros(shape) for name, shape in shapes.items()})
        row = jax.eval_shape(lambda: jnp.arange(rows))
        condition = {"label": batch["label"]} if self.base.conditional else {}
        return {**condition, "image": image, "row": row, **floats}

    def _draw_times(self, key: jax.Array, rows: int) -> jax.Array:
        """Draw times [rows, updates], those of each update evenly spaced and shuffled over the
        rows.
        """

        def of_update(key: jax.Array) -> jax.Array:
            drawing, order = jax.random.split(key)
            return jax.random.permutation(order, self.base.process.draw_times(drawing, rows))

        return jax.vmap(of_update, out_axes=1)(jax.random.split(key, self.updates))

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        return update(self, state, batch, optimizer=optimizer, axis=axis)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def draw_samples(
    base: Diffusion,
    steps: int,
    shape: tuple[int, ...],
    params: Params,
    reference: Params,
    label: jax.Array | None,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Draw samples [N, H, W, C] by the ancestral sampler; also return the KL of each path [N], in
    nats.

    Each step but the last draws x' from a normal distribution whose mean depends on the model only
    through its estimate of the clean data, with the variance of q(x' | x, x0). The KL of the paths
    of two models is then the mean, over paths of the first, of the sum over these steps of the
    squared distance of the two means over twice the variance: 1/2 (SNR' - SNR) |x0 -
    x0_reference|^2 (Kingma et al., arXiv 2107.00630). The last step, to the clean data, adds no
    noise and does not count. The KL of paths bounds that of their ends before the last step.

    Args:
      base: family of both models.
      steps: sampling steps, at least 2.
      shape: shape of the samples.
      params: parameters of the model that draws.
      reference: parameters of the model that the KL is to.
      label: int [N]; None for an unconditional model.
      key: random key.
    """
    inputs = make_inputs(base, label, shape[0])

    def step(carry: tuple[jax.Array, jax.Array], here: Step) -> tuple[jax.Array, jax.Array]:
        x, kl = carry
        times = jnp.full(len(x), here.t)
        x0, other = (estimate_clean(base, one, x, times, inputs) for one in (params, reference))
        gained = jnp.square(here.next_alpha / here.next_sigma) - jnp.square(here.alpha / here.sigma)
        kl = kl + jnp.where(here.last, 0.0, 0.5 * gained * jnp.square(x0 - other).sum((1, 2, 3)))
        drawn = jax.random.normal(jax.random.fold_in(way, here.number), shape)
        fresh = jnp.sqrt(posterior_variance(here)) * drawn
        return posterior_mean(here, x0, x) + fresh, kl

    start, way = jax.random.split(key)
    x = base.process.alpha_sigma(jnp.ones(()))[1] * jax.random.normal(start, shape)
    return walk(step, base.process, steps, (x, jnp.zeros(shape[0])))


def pick_best_and_worst(images: jax.Array, rewards: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pick the samples of each row [B, K, ...] with the highest and the lowest reward: [B, 2, ...].

    Also return the shares [B, 2] with which each is preferred: 1 and 0, or 1/2 each for equal
    rewards.
    """
    rows = jnp.arange(len(images))[:, None]
    # Of equal rewards the last counts as the highest and the first as the lowest, so that a pair
    # has two samples.
    chosen = jnp.argsort(rewards, axis=1)[:, jnp.array([-1, 0])]
    best, worst = rewards.max(1), rewards.min(1)
    share = jnp.where(best > worst, 1.0, 0.5)
    return images[rows, chosen], jnp.stack([share, 1 - share], 1)


def update(
    family: RewardedDiffusion,
    state: State,
    batch: Batch,
    *,
    optimizer: Rules,
    axis: str | None = None,
) -> tuple[State, Metrics]:
    """Make ``family.updates`` gradient steps on a batch of ``collect``; ``step`` increases by one.
    Metrics are means over all updates.

    Noise depends on a row's number in the whole batch, so the result does not depend on the number
    of devices.
    """
    reference = state.frozen[BASE]["params"]
    key = jax.random.split(state.step_key, 3)[2]
    rule = dataclasses.replace(
        optimizer, learning_rate=lambda updates: optimizer.learning_rate(updates // family.updates)
    )

    def one(state: State, number: jax.Array) -> tuple[State, Metrics]:
        fresh = jax.random.fold_in(key, number)

        def loss(
            params: Params, variables: Variables, batch: Batch, _: jax.Array
        ) -> tuple[Metrics, Variables]:
            return compute_metrics(
                family, params, reference, batch, batch["times"][:, number], fresh
            ), variables

        return gradient_step(loss, rule, state, batch, fresh, axis=axis)

    state, several = jax.lax.scan(one, state, jnp.arange(family.updates))
    return state.replace(step=state.step + 1), jax.tree.map(lambda x: x.sum(0), several)


def compute_metrics(
    family: RewardedDiffusion,
    params: Params,
    reference: Params,
    batch: Batch,
    t: jax.Array,
    key: jax.Array,
) -> Metrics:
    """Compute the metrics of a batch of ``collect`` at times t [B]; ``key`` and the row seed noise
    and hidden labels.
    """
    base, mask, weight = family.base, batch["mask"], batch["weight"]
    noise_keys, hide_keys = jax.vmap(
        lambda row: jax.random.split(jax.random.fold_in(key, row)), out_axes=1
    )(batch["row"])
    noise = jax.vmap(lambda key: jax.random.normal(key, batch["image"].shape[1:]))(noise_keys)
    label = None
    if base.conditional:
        hidden = jax.vmap(lambda key: jax.random.bernoulli(key, base.drop_label))(hide_keys)
        label = jnp.where(hidden, find_null(params), batch["label"])
    images, count = batch["drawn"], weight.shape[1]
    if family.data:
        images = jnp.concatenate([images, batch["image"][:, None]], 1)
    found = compute_errors(base, params, images, noise, t, label)
    several = {name: batch[name] for name in ("reward", "kl")}
    if family.method == "weighted":
        several["policy_loss"] = (weight * found[:, :count]).sum(1)
        several["effective_samples"] = 1 / jnp.square(weight).sum(1)
    else:
        moved = found[:, :count] - compute_errors(base, reference, batch["drawn"], noise, t, label)
        margin = -family.beta * (moved[:, 0] - moved[:, 1])
        pair = jnp.stack([preference_loss(margin), preference_loss(-margin)], 1)
        several["policy_loss"] = (weight * pair).sum(1)
        several["accuracy"] = (margin > 0).astype(jnp.float32)
    several["loss"] = several["policy_loss"]
    if family.data:
        several["data_loss"] = found[:, count]
        several["loss"] = several["policy_loss"] + family.data * found[:, count]
    return {name: Mean.of(values, mask) for name, values in several.items()}


def compute_errors(
    base: Diffusion,
    params: Params,
    images: jax.Array,
    noise: jax.Array,
    t: jax.Array,
    label: jax.Array | None,
) -> jax.Array:
    """Compute the weighted squared error of each image [B, K], averaged over pixels.

    Args:
      base: family of the model.
      params: parameters of the model.
      images: [B, K, H, W, C].
      noise: [B, H, W, C], shared by the images of a row.
      t: times [B], likewise.
      label: int [B], likewise; None for an unconditional model.
    """
    count = images.shape[1]
    flat = images.reshape(-1, *images.shape[2:])
    noise, t = jnp.repeat(noise, count, 0), jnp.repeat(t, count)
    inputs = make_inputs(base, None if label is None else jnp.repeat(label, count), len(flat))
    parametrization = base.make_parametrization(params)
    output = base.predict(params, diffuse(parametrization.process, flat, noise, t), t, inputs)
    error = jnp.square(output - parametrization.value(flat, noise, t)).mean((1, 2, 3))
    return (parametrization.weight(t, base.weighting, base.gamma) * error).reshape(-1, count)
