"""Generative adversarial networks (Goodfellow et al., arXiv 1406.2661), with later losses and
regularisation.

Losses and penalties: ``genjax.families.gan.losses``. R1 and R2: Mescheder et al., arXiv 1801.04406,
lazily as in Karras et al., arXiv 1912.04958. Projection of labels: Miyato & Koyama, arXiv
1802.05637. Packing: Lin et al., arXiv 1712.04086. Minibatch standard deviation and growing
resolution: Karras et al., arXiv 1710.10196. Rows of tables: Xu et al., arXiv 1907.00503, without
their conditional vector.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError, unknown_name
from genjax.families.diffusion.conditioning import describe_label
from genjax.families.gan import losses as adversarial
from genjax.families.gan.augment import DiscriminatorAugment
from genjax.families.gan.losses import GANLoss
from genjax.families.gan.players import NORMALISED, Nets, Normalised, derive_category_key
from genjax.family import (
    Batch,
    Family,
    Inputs,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    gradient_step,
    labels,
    select_modelled,
)
from genjax.nets.gan.generators import MLPGenerator
from genjax.nets.gan.progressive import Progressive
from genjax.nets.mlp import MLPBackbone
from genjax.optim import Rules

LEAST_SPREAD = (
    0.02  # spread of fakes over that of real examples; below it the generator has collapsed
)


@checks.frozen
class LatentSampler:
    """Sampling options of a GAN.

    Attributes:
      truncation: number of standard deviations at which the normal latents are truncated; None for
        none.
      label: label to draw in a class-conditional model, by number or name; None draws all in turn,
        starting over every 256 samples.
    """

    truncation: float | None = None
    label: int | str | None = None

    def __post_init__(self) -> None:
        checks.above(self, 0, "truncation")


@checks.frozen
class GAN(Family):
    """A generator of samples from Gaussian latents, and a discriminator that tells them from real
    data.

    ``Experiment.optimizer`` is ``Players``, an optimizer for each. Among the metrics, ``loss`` is
    the generator's; ``accuracy_real`` and ``accuracy_fake`` are the discriminator's (for a loss
    without a decision boundary, the share of pairs in the right order), and ``penalty`` is its
    regularisation. For ``oscillation`` and ``fake_spread`` see ``genjax.families.gan.losses``.
    Batch norm and ``minibatch_std`` couple the rows of a batch, so microbatches differ from the
    whole batch.

    Attributes:
      latent_dim: number of latents.
      generator: ``MLPGenerator``, ``ConvGenerator``, ``ResNetGenerator``, ``R3Generator`` or
        ``Progressive``.
      discriminator: ``MLPBackbone``, ``MaxoutBackbone``, ``ConvBackbone``, ``ResNetDiscriminator``,
        ``R3Discriminator`` or ``Progressive``.
      loss: "non_saturating", "minimax", "wasserstein", "hinge", "least_squares" or "relativistic".
      label_smoothing: amount by which the target of real examples is lowered from 1, for the first
        two losses.
      gradient_penalty: weight of (gradient norm - 1)^2 between real and fake, for the Wasserstein
        loss; 10 in the paper.
      weight_clip: limit to which the discriminator's parameters are clipped, for the Wasserstein
        loss.
      r1: weight of half the squared gradient norm at real examples.
      r2: the same at fakes.
      penalty_every: interval between penalties, in steps; each is multiplied by it.
      spectral_norm: nets whose matrices are divided by their largest singular value.
      minibatch_std: whether the discriminator sees how much its features vary over the batch.
      pack: number of examples that the discriminator judges together.
      conditional: whether both players see the label.
      augment: augmentation in front of the discriminator.
      init_std: standard deviation of the initial weights of all matrices; None for the defaults of
        the nets.
      temperature: temperature of the Gumbel-softmax that draws the categories of a table; lower is
        closer to one-hot.
      sampler: sampling options.
    """

    latent_dim: int = 64
    generator: Component = MLPGenerator()
    discriminator: Component = MLPBackbone()
    loss: GANLoss = "non_saturating"
    label_smoothing: float = 0.0
    gradient_penalty: float = 0.0
    weight_clip: float | None = None
    r1: float = 0.0
    r2: float = 0.0
    penalty_every: int = 1
    spectral_norm: Normalised = "none"
    minibatch_std: bool = False
    pack: int = 1
    conditional: bool = False
    augment: DiscriminatorAugment = DiscriminatorAugment()
    init_std: float | None = None
    temperature: float = 0.2
    sampler: LatentSampler = LatentSampler()

    key_numbers: ClassVar[tuple[str, ...]] = (
        "discriminator_loss",
        "accuracy_real",
        "accuracy_fake",
    )

    def __post_init__(self) -> None:
        if self.spectral_norm not in NORMALISED:
            raise unknown_name("spectral_norm", self.spectral_norm, NORMALISED)
        checks.at_least(self, 1, "latent_dim", "pack", "penalty_every")
        checks.at_least(self, 0, "gradient_penalty", "r1", "r2")
        checks.numbers(
            self, ("label_smoothing",), "at least 0 and below 0.5", lambda x: 0 <= x < 0.5
        )
        checks.above(self, 0, "weight_clip")
        checks.above(self, 0, "init_std")
        checks.above(self, 0, "temperature")
        if self.pack > 1 and (self.conditional or self.nets.progressive):
            raise UserError(
                f"pack must be 1 with labels or a growing resolution, got {self.pack}", "pack"
            )
        if self.nets.progressive != isinstance(self.discriminator, Progressive):
            raise UserError(
                "generator and discriminator must both be Progressive, or neither", "generator"
            )
        self._check_loss()

    def _check_loss(self) -> None:
        wasserstein = self.loss == "wasserstein"
        if self.label_smoothing and self.loss not in ("non_saturating", "minimax"):
            raise UserError(
                f"label_smoothing must be 0 for the {self.loss} loss", "label_smoothing"
            )
        if self.gradient_penalty and not wasserstein:
            raise UserError(
                f"gradient_penalty must be 0 for the {self.loss} loss: use r1 or r2",
                "gradient_penalty",
            )
        if self.weight_clip is not None and not wasserstein:
            raise UserError(f"weight_clip must be None for the {self.loss} loss", "weight_clip")
        if self.weight_clip is not None and self.gradient_penalty:
            raise UserError(
                "weight_clip and gradient_penalty exclude one another: set one of them",
                "weight_clip",
            )
        bounded = (
            self.gradient_penalty
            or self.weight_clip
            or self.r1
            or self.r2
            or self.spectral_norm != "none"
        )
        if wasserstein and not bounded:
            raise UserError(
                'loss="wasserstein" needs gradient_penalty, weight_clip, r1, r2 or spectral_norm',
                "loss",
            )
        if self.penalty_every > 1 and not self._penalised:
            raise UserError(
                "penalty_every must be 1 without a penalty (gradient_penalty, r1 or r2), got "
                f"{self.penalty_every}",
                "penalty_every",
            )
        if self.augment.target is not None and not adversarial.has_boundary(self.loss):
            raise UserError(
                f"augment.target must be None for the {self.loss} loss, which has no boundary",
                "augment.target",
            )

    @property
    def nets(self) -> Nets:
        """The networks of both players."""
        return Nets(
            self.latent_dim,
            self.generator,
            self.discriminator,
            self.spectral_norm,
            self.minibatch_std,
            self.pack,
            self.conditional,
            self.temperature,
        )

    @property
    def _penalised(self) -> bool:
        return bool(self.gradient_penalty or self.r1 or self.r2)

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Report fakes that hardly differ: the generator maps all latents to one example."""
        spread = numbers.get("fake_spread", math.inf)
        if not spread < LEAST_SPREAD:
            return {}
        return {
            "fake_spread": "the generator has collapsed: its examples vary "
            f"{100 * spread:.2g} % as much as the real ones, so all latents give nearly the same "
            "example; lower the learning rates, or regularise the discriminator (r1, "
            "spectral_norm, pack)"
        }

    @property
    def protocol(self) -> str:  # type: ignore[override]
        return "as many fakes as real examples"

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if self.augment.policy and spec.entry != "image":
            raise UserError(
                "augment.policy is for images; other data cannot be flipped or cut out so"
            )
        if self.conditional and spec.classes is None:
            raise UserError("family.conditional needs labels, but the data have none")
        params, variables = self.nets.init(key, example, spec, self.init_std)
        if self._penalised and variables["batch_stats"]["discriminator"]:
            raise UserError(
                "a gradient penalty (gradient_penalty, r1 or r2) needs a discriminator without "
                "batch norm"
            )
        game = {
            "augment_prob": jnp.float32(self.augment.prob),
            "gauges": adversarial.start_gauges(),
        }
        return params, variables | game

    def eval_state(self, state: State) -> State:
        """Return the state for evaluation. Averaged parameters get batch statistics of their own,
        as the moving ones fit only the live parameters.
        """
        state = super().eval_state(state)
        if state.ema is None or not state.variables["batch_stats"]["generator"]:
            return state
        return state.replace(variables=jax.jit(self.nets.measure_statistics)(state))

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        if not isinstance(optimizer, Mapping):
            raise UserError(
                "a GAN has two players: optimizer=Players(generator=..., discriminator=...)"
            )
        if self.conditional and "other_label" in batch:
            raise UserError("a class-conditional GAN takes one label per example: no Mixup")
        state = state.replace(variables=self.nets.set_stage(state.variables, batch))
        shares = self.nets.split_batch(batch, optimizer["discriminator"].repeats)
        state, critic = self._discriminator_steps(state, shares, optimizer, axis)

        last = jax.tree.map(lambda x: x[-1], shares)
        # The generator is trained on the fakes that the discriminator saw last; XLA computes them
        # once.
        key = jax.random.fold_in(state.step_key, len(shares["mask"]) - 1)
        discriminator = optimizer["discriminator"].cast_params(state.params["discriminator"])
        loss = functools.partial(self._generator_loss, discriminator, axis)
        state, metrics = gradient_step(
            loss, optimizer, state, last, key, part="generator", axis=axis
        )

        logit, square = critic.pop("logit").value, critic.pop("logit_square").value
        real, fake = critic["accuracy_real"].value, critic["accuracy_fake"].value
        gauges, prob = state.variables["gauges"], state.variables["augment_prob"]
        moving = adversarial.update_gauges(gauges, logit, square, real, fake)
        # The augmentation adapts to the sign of real logits, over all devices.
        rows = batch["mask"].size * (1 if axis is None else jax.lax.axis_size(axis))
        updated = moving, self.augment.adapt(prob, 2 * real - 1, rows)
        moving, prob = jax.tree.map(  # skipped steps do not count
            lambda new, old: jnp.where(critic["skipped"].sum > 0, old, new), updated, (gauges, prob)
        )
        changed = state.variables | {"gauges": moving, "augment_prob": prob}
        numbers = {"oscillation": adversarial.oscillation(moving)}
        if self.augment.target is not None:
            numbers["augment_prob"] = prob
        if "spread" in metrics:
            critic["fake_spread"] = metrics.pop("spread")
        metrics = {
            "loss": metrics.pop("loss"),
            "discriminator_loss": critic.pop("loss"),
            "skipped": jax.tree.map(jnp.add, critic.pop("skipped"), metrics.pop("skipped")),
            **{f"generator_{name}": mean for name, mean in metrics.items()},
            **{f"discriminator_{name}": critic.pop(name) for name in metrics},
            **critic,
            **{name: Mean(value, jnp.ones(())) for name, value in numbers.items()},
        }
        return state.replace(step=state.step + 1, variables=changed), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        x, label = select_modelled(batch, state.variables), self._get_label(batch)
        params, _ = self.nets.normalise(
            "discriminator", state.params["discriminator"], state.variables, False
        )

        def judged(x: jax.Array) -> jax.Array:
            return self.nets.discriminate(params, state.variables, x, label)[0]

        real, fake = (
            self.nets.resize_to_stage(state, x, judged)
            for x in (x, self.nets.sample(state, key, len(x), label, None))
        )
        mask = self.nets.pack_mask(batch["mask"])
        right = adversarial.hits(self.loss, real, fake)
        return {
            "loss": Mean.of(adversarial.generator_loss(self.loss, fake, real), mask),
            "discriminator_loss": Mean.of(
                adversarial.discriminator_loss(self.loss, real, fake), mask
            ),
            "accuracy_real": Mean.of(right[0], mask),
            "accuracy_fake": Mean.of(right[1], mask),
        }

    def sample(self, state: State, key: jax.Array, n: int, options: LatentSampler) -> jax.Array:
        label = self.nets.choose_label(state, n, options.label)
        return self.nets.sample(state, key, n, label, options.truncation)

    def describe_inputs(self, state: State, options: LatentSampler) -> Inputs:
        return describe_label(self.conditional)

    def _discriminator_steps(
        self, state: State, shares: Batch, optimizer: Rules, axis: str | None
    ) -> tuple[State, Metrics]:
        """Update the discriminator on each share [R, B, ...] of the batch, and sum the metrics."""
        generator = optimizer["generator"].cast_params(state.params["generator"])
        due = state.step % self.penalty_every == 0
        loss = functools.partial(self._discriminator_loss, generator, due, axis)

        def one(state: State, piece: Any) -> tuple[State, Metrics]:
            share, number = piece
            key = jax.random.fold_in(state.step_key, number)
            state, metrics = gradient_step(
                loss, optimizer, state, share, key, part="discriminator", axis=axis
            )
            if (limit := self.weight_clip) is not None:
                clipped = jax.tree.map(
                    lambda p: jnp.clip(p, -limit, limit), state.params["discriminator"]
                )
                state = state.replace(params=state.params | {"discriminator": clipped})
            return state, metrics

        count = len(shares["mask"])
        if count == 1:
            return one(state, (jax.tree.map(lambda x: x[0], shares), jnp.zeros((), jnp.int32)))
        state, metrics = jax.lax.scan(one, state, (shares, jnp.arange(count)))
        return state, jax.tree.map(lambda x: x.sum(0), metrics)

    def _discriminator_loss(
        self,
        generator: Params,
        due: jax.Array,
        axis: str | None,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[Metrics, Variables]:
        """Compute the discriminator's loss; ``generator`` is the generator's parameters, ``due``
        whether a penalty is.
        """
        keys = jax.random.split(key, 5)
        x, label, mask = select_modelled(batch, variables), self._get_label(batch), batch["mask"]
        generator, _ = self.nets.normalise("generator", generator, variables, False)
        z, drawn = self.nets.draw_latents(keys[0], len(x)), derive_category_key(keys[0])
        fake, _ = self.nets.generate(
            generator, variables, z, label, x.shape, axis, key=drawn, train=True
        )
        x, fake = (
            self.augment(k, each, variables["augment_prob"])
            for k, each in ((keys[1], x), (keys[2], fake))
        )
        params, variables = self.nets.normalise("discriminator", params, variables, True)
        discriminator = functools.partial(
            self.nets.discriminate, params, label=label, mask=mask, axis=axis, key=keys[3]
        )
        real_logits, variables = discriminator(variables, x)
        fake_logits, variables = discriminator(variables, fake)

        packs = self.nets.pack_mask(mask)
        losses = adversarial.discriminator_loss(
            self.loss, real_logits, fake_logits, self.label_smoothing
        )
        right = adversarial.hits(self.loss, real_logits, fake_logits)
        metrics = {
            "accuracy_real": Mean.of(right[0], packs),
            "accuracy_fake": Mean.of(right[1], packs),
            "logit": Mean.of(fake_logits, packs),
            "logit_square": Mean.of(jnp.square(fake_logits), packs),
        }
        if self._penalised:

            def penalty() -> jax.Array:
                weights = self.gradient_penalty, self.r1, self.r2
                return self.penalty_every * adversarial.compute_penalty(
                    lambda x: discriminator(variables, x)[0], x, fake, keys[4], weights, self.pack
                )

            penalties = jax.lax.cond(due, penalty, lambda: jnp.zeros_like(losses))
            metrics["penalty"] = Mean.of(penalties, packs)
            losses = losses + penalties
        return metrics | {"loss": Mean.of(losses, packs)}, variables

    def _generator_loss(
        self,
        discriminator: Params,
        axis: str | None,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[Metrics, Variables]:
        """Compute the generator's loss; ``discriminator`` is the discriminator's parameters,
        applied with the statistics of this batch.
        """
        keys = jax.random.split(key, 5)  # as the discriminator's loss does
        x, label, mask = select_modelled(batch, variables), self._get_label(batch), batch["mask"]
        params, variables = self.nets.normalise("generator", params, variables, True)
        z, drawn = self.nets.draw_latents(keys[0], len(x)), derive_category_key(keys[0])
        fake, variables = self.nets.generate(
            params, variables, z, label, x.shape, axis, key=drawn, train=True
        )
        discriminator, _ = self.nets.normalise("discriminator", discriminator, variables, False)
        logits = functools.partial(
            self.nets.discriminate,
            discriminator,
            variables,
            label=label,
            mask=mask,
            axis=axis,
            key=keys[3],
        )
        fake_logits, _ = logits(self.augment(keys[2], fake, variables["augment_prob"]))
        real_logits = fake_logits
        if self.loss == "relativistic":
            real_logits, _ = logits(self.augment(keys[1], x, variables["augment_prob"]))
        losses = adversarial.generator_loss(self.loss, fake_logits, real_logits)
        metrics = {"loss": Mean.of(losses, self.nets.pack_mask(mask))}
        if len(x) > 1 or axis is not None:
            spread = jax.lax.stop_gradient(adversarial.measure_spread(fake, x, axis))
            metrics["spread"] = Mean(spread, jnp.ones(()))
        return metrics, variables

    def _get_label(self, batch: Batch) -> jax.Array | None:
        return labels(batch) if self.conditional else None
