"""Diffusion models learn from a reward of what they draw, by weighted regression or from pairs of
samples.

Reward-weighted regression: Peters & Schaal, ICML 2007; for diffusion models Lee et al., arXiv
2302.12192. Diffusion-DPO: Wallace et al., arXiv 2311.12908. The divergence of two samplers' paths:
Fan et al., arXiv 2305.16381.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.image_rewards import score_images
from genjax.family import (
    Batch,
    Mean,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
    gradient_step,
    labels,
)
from genjax.losses import preference_loss
from genjax.optim import Rules
from genjax.posttrain.continued import BASE, FromBase
from genjax.samplers.diffusion.processes import diffuse
from genjax.samplers.diffusion.steps import Step, walk

Method = Literal["weighted", "dpo"]


@checks.frozen
class RewardedDiffusion(FromBase):
    """A trained diffusion of images continues learning from rewards of its own samples.

    A train step draws several samples for each row of a batch, of the row's label where the base is
    given labels, asks the reward, and makes ``updates`` gradient steps on them, each with new times
    and noise; all samples of a row share these. Samples are drawn by the ancestral sampler
    (``DDPM`` with the small variance) without guidance, estimates of clean data held within [-1,
    1]. The error of an image is that which the base was trained with, the mean over pixels of the
    weighted squared error, without dropout; labels are hidden as often as from the base. The
    learning rate's schedule counts train steps.

    - "weighted": the errors of a row's samples, weighted by the softmax of reward / temperature
      over them.
    - "dpo": -log sigmoid(-beta (d_best - d_worst)), where d is how much larger the error of the
      policy is than that of the base, for the best and the worst sample of a row. Of two with equal
      rewards each is the better one by half.

    What is judged, sampled from and exported is the policy, a ``Diffusion``.

    Metrics of training: ``reward``, the mean of the samples; ``policy_loss``, which with ``data``
    times ``data_loss`` makes the ``loss``; ``effective_samples`` of a row, 1 over the sum of
    squared weights ("weighted"); ``accuracy``, how often the policy's error has moved more in
    favour of the better sample ("dpo"); and ``kl`` of the paths of the policy's sampler to those of
    the base's, see ``draw_samples``.

    Attributes:
      base: the run directory of a Diffusion of images: where the policy starts, and the reference.
      reward: a function of images, float32 [N, H, W, C] in [-1, 1], and labels, int [N] or None if
        the base is unconditional, which gives a number for each.
      method: "weighted" or "dpo".
      samples: that are drawn for a row, at least 2.
      steps: of the sampler that draws them.
      updates: gradient steps on the samples of a batch.
      temperature: of "weighted"; the lower, the more the best sample counts.
      beta: of "dpo"; the higher, the nearer to the base the policy stays.
      data: weight of the error of the row's own image, which holds the policy near to the data.
      sampler: how samples of the policy are drawn when it is judged; None takes the base's.
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
            raise UserError(f"reward is a function of images and labels, not {self.reward!r}")
        for name, least in (("samples", 2), ("steps", 2), ("updates", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is at least {least}, not {getattr(self, name)}")
        checks.above(self, 0, "temperature", "beta")
        checks.at_least(self, 0, "data")

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> RewardedDiffusion:
        base = others[BASE]
        if not isinstance(base.family, Diffusion) or base.spec.entry != "image":
            raise UserError(
                "RewardedDiffusion starts from a Diffusion of images, pixel by pixel, but the run "
                f"{base.run_dir} is "
                f"of a {type(base.family).__name__} of {base.spec.entry} (family.base)"
            )
        base.check(spec)
        if base.family.text is not None:
            raise UserError(
                f"RewardedDiffusion is for models of labels or of images alone: {base.run_dir} "
                "reads text"
            )
        if base.family.conditional and base.spec.classes != spec.classes:
            raise UserError(
                f"the run {base.run_dir} knows {base.spec.classes} labels, but the data have "
                f"{spec.classes}"
            )
        if (
            base.family.learned
            or not base.family.noise.gaussian
            or base.family.coupling != "independent"
        ):
            raise UserError(
                "RewardedDiffusion needs a process that is not Learned and independent Gaussian "
                "noise, "
                f"unlike those of {base.run_dir}"
            )
        return dataclasses.replace(self, base=base.family)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        return self.base.init(key, example, spec)[0], {}

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        return jax.tree.map(jnp.copy, state.frozen[BASE]["params"]), state.variables

    def collect(self, state: State, batch: Batch, key: jax.Array) -> Batch:
        """Return samples for the rows of a batch and what they are worth: what ``update`` learns
        from.

        Entries next to the batch's own, of B rows: ``drawn`` [B, K, H, W, C] and ``weight`` [B, K],
        of all samples, or of the best and the worst the share of the time that each is preferred;
        ``times`` [B, updates]; ``row`` [B], which the noise is drawn by; ``reward`` and ``kl`` [B],
        means over all of a row's samples.

        Raises:
          UserError: a reward that fails, or several processes.
        """
        if jax.process_count() > 1:
            raise UserError("RewardedDiffusion draws and rewards its samples in one process")
        rows, shape = len(batch["mask"]), batch["image"].shape[1:]
        label = jnp.repeat(labels(batch), self.samples) if self.base.conditional else None
        draws, times, _ = jax.random.split(key, 3)  # the last is of ``update``
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
            images, weight = best_and_worst(images, rewards)
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

    def _draw_times(self, key: jax.Array, rows: int) -> jax.Array:
        """Return [rows, updates]: of each update evenly spaced over the rows, in random order, as
        these keep their places.
        """

        def of_update(key: jax.Array) -> jax.Array:
            drawing, order = jax.random.split(key)
            return jax.random.permutation(order, self.base.process.draw_times(drawing, rows))

        return jax.vmap(of_update, out_axes=1)(jax.random.split(key, self.updates))

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        return update(self, state, batch, optimizer=optimizer, axis=axis)

    def eval_state(self, state: State) -> State:
        variables = state.frozen[BASE]["variables"]
        return self.base.eval_state(
            state.for_eval().replace(variables=variables, ema=None, frozen=None)
        )


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
    """Return samples [N, H, W, C] by the ancestral sampler, and for each what its path adds to the
    KL [N], in nats.

    Each step but the last draws x' from a normal distribution around a mean that depends on x
    through the estimate of the clean data alone, with the variance of q(x' | x, x0). The paths of
    two models start alike, so that their KL is the mean, over paths of the first, of the sum over
    these steps of the squared distance of the two means over twice the variance, which is 1/2 (SNR'
    - SNR) |x0 - x0_reference|^2 (Kingma et al., arXiv 2107.00630). The last step, to the clean
    data, adds no noise and does not count. It bounds the KL of what the paths end in before that
    step.

    Args:
      base: of both models.
      steps: of the sampler, at least 2.
      shape: of the samples.
      params: of the model that draws.
      reference: of the one that the KL is to.
      label: int [N]; None for an unconditional model.
      key: of the draws.
    """
    inputs = _make_inputs(base, label, shape[0])

    def estimate(params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
        times = jnp.full(len(x), t)
        return jnp.clip(
            base.make_parametrization(params).x0(base.predict(params, x, times, inputs), x, times),
            -1,
            1,
        )

    def step(carry: tuple[jax.Array, jax.Array], here: Step) -> tuple[jax.Array, jax.Array]:
        x, kl = carry
        x0, other = estimate(params, x, here.t), estimate(reference, x, here.t)
        gained = jnp.square(here.next_alpha / here.next_sigma) - jnp.square(here.alpha / here.sigma)
        kl = kl + jnp.where(here.last, 0.0, 0.5 * gained * jnp.square(x0 - other).sum((1, 2, 3)))
        forward = jnp.square(here.sigma) - jnp.square(
            here.alpha / here.next_alpha * here.next_sigma
        )
        variance = jnp.maximum(forward, 0) * jnp.square(here.next_sigma / here.sigma)
        kept = jnp.sqrt(jnp.maximum(jnp.square(here.next_sigma) - variance, 0))
        fresh = jnp.sqrt(variance) * jax.random.normal(jax.random.fold_in(way, here.number), shape)
        return here.next_alpha * x0 + kept * here.noise(x0, x) + fresh, kl

    start, way = jax.random.split(key)
    x = base.process.alpha_sigma(jnp.ones(()))[1] * jax.random.normal(start, shape)
    return walk(step, base.process, steps, (x, jnp.zeros(shape[0])))


def best_and_worst(images: jax.Array, rewards: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the samples [B, K, ...] of each row those of the highest and the lowest of rewards [B, K]:
    [B, 2, ...].

    And the share of the time that each is preferred [B, 2]: always and never, or half of it where
    rewards are equal.
    """
    rows = jnp.arange(len(images))[:, None]
    # Of equal rewards the last is the highest and the first the lowest, so that a pair is of two
    # samples.
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
    """``family.updates`` gradient steps on what ``collect`` gives; ``step`` counts one. Metrics are
    means over all.

    Noise depends on a row's number in the whole batch, so that it makes no difference how many
    devices share it.
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
            return losses(
                family, params, reference, batch, batch["times"][:, number], fresh
            ), variables

        return gradient_step(loss, rule, state, batch, fresh, axis=axis)

    state, several = jax.lax.scan(one, state, jnp.arange(family.updates))
    return state.replace(step=state.step + 1), jax.tree.map(lambda x: x.sum(0), several)


def losses(
    family: RewardedDiffusion,
    params: Params,
    reference: Params,
    batch: Batch,
    t: jax.Array,
    key: jax.Array,
) -> Metrics:
    """Return the metrics of a batch of ``collect`` at times t [B], with noise and hidden labels by
    ``key`` and the row.
    """
    base, mask, weight = family.base, batch["mask"], batch["weight"]
    noise_keys, hide_keys = jax.vmap(
        lambda row: jax.random.split(jax.random.fold_in(key, row)), out_axes=1
    )(batch["row"])
    noise = jax.vmap(lambda key: jax.random.normal(key, batch["image"].shape[1:]))(noise_keys)
    label = None
    if base.conditional:
        hidden = jax.vmap(lambda key: jax.random.bernoulli(key, base.drop_label))(hide_keys)
        label = jnp.where(hidden, _null(params), batch["label"])
    images, count = batch["drawn"], weight.shape[1]
    if family.data:
        images = jnp.concatenate([images, batch["image"][:, None]], 1)
    found = errors(base, params, images, noise, t, label)
    several = {name: batch[name] for name in ("reward", "kl")}
    if family.method == "weighted":
        several["policy_loss"] = (weight * found[:, :count]).sum(1)
        several["effective_samples"] = 1 / jnp.square(weight).sum(1)
    else:
        moved = found[:, :count] - errors(base, reference, batch["drawn"], noise, t, label)
        margin = -family.beta * (moved[:, 0] - moved[:, 1])
        pair = jnp.stack([preference_loss(margin), preference_loss(-margin)], 1)
        several["policy_loss"] = (weight * pair).sum(1)
        several["accuracy"] = (margin > 0).astype(jnp.float32)
    several["loss"] = several["policy_loss"]
    if family.data:
        several["data_loss"] = found[:, count]
        several["loss"] = several["policy_loss"] + family.data * found[:, count]
    return {name: Mean.of(values, mask) for name, values in several.items()}


def errors(
    base: Diffusion,
    params: Params,
    images: jax.Array,
    noise: jax.Array,
    t: jax.Array,
    label: jax.Array | None,
) -> jax.Array:
    """Return the weighted squared error of each image [B, K], the mean over pixels.

    Args:
      base: of the model.
      params: of the model.
      images: [B, K, H, W, C].
      noise: [B, H, W, C], shared by the images of a row.
      t: [B], likewise.
      label: int [B], likewise; None for an unconditional model.
    """
    count = images.shape[1]
    flat = images.reshape(-1, *images.shape[2:])
    noise, t = jnp.repeat(noise, count, 0), jnp.repeat(t, count)
    inputs = _make_inputs(base, None if label is None else jnp.repeat(label, count), len(flat))
    parametrization = base.make_parametrization(params)
    output = base.predict(params, diffuse(parametrization.process, flat, noise, t), t, inputs)
    error = jnp.square(output - parametrization.value(flat, noise, t)).mean((1, 2, 3))
    return (parametrization.weight(t, base.weighting, base.gamma) * error).reshape(-1, count)


def _make_inputs(base: Diffusion, label: jax.Array | None, n: int) -> dict[str, jax.Array]:
    """Return the conditions of ``n`` images that are not augmented, apart from the time."""
    given = {"label": label, "augment": base.augment.make_null(n)}
    return {name: value for name, value in given.items() if value is not None}


def _null(params: Params) -> int:
    """Return the label of no label, the last that is embedded."""
    return len(params["net"]["label"]["embedding"]) - 1
