"""Diffusion and flow matching: a network learns to denoise, and samplers draw data with it.

Noise prediction: Ho et al., arXiv 2006.11239. v: Salimans & Ho, arXiv 2202.00512. EDM: Karras et
al., arXiv 2206.00364. Flow matching and rectified flow: Lipman et al., arXiv 2210.02747; Liu et
al., arXiv 2209.03003. Classifier-free guidance: Ho & Salimans, arXiv 2207.12598. The bound and
learned schedules: ``genjax.families.diffusion.bound``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.images.given import PictureGaps, read_picture_gaps
from genjax.errors import UserError
from genjax.families.diffusion import bound as variational
from genjax.families.diffusion import conditioning
from genjax.families.diffusion.augment import NonLeaking
from genjax.families.diffusion.couplings import Coupling, NormalNoise, pair_noise
from genjax.family import (
    Batch,
    Family,
    Inputs,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    apply,
    conditions,
    find_input,
    gradient_step,
    labels,
    select_modelled,
)
from genjax.nets.conv.unet import UNet
from genjax.nets.denoiser import Denoiser
from genjax.optim import Rules
from genjax.samplers import DDIM, Denoise, fix_known, guide
from genjax.samplers.diffusion.processes import (
    Parametrization,
    Process,
    Target,
    VPCosine,
    Weighting,
    diffuse,
)

CONDITION = "condition"  # embedded requests [n, D], as an input of samples


@checks.frozen
class Denoising:
    """Sampling options of a diffusion.

    Attributes:
      solver: sampler from ``genjax.samplers``, with its number of steps.
      guidance_scale: 1 for the conditional model, 0 for the unconditional one; above 1, samples
        follow the label or prompt more closely and are less diverse.
      label: label to draw in a class-conditional model, by number or name; None draws all in turn,
        starting over every 256 samples.
      clip: whether to clip every estimate of the clean data to [-1, 1]; for images and signals.
      prompt: prompt of a text-conditional model; None for the unconditional model. A model of
        labels and text needs both or neither.
      fill: picture whose transparent part is filled in; None draws whole images.
      mask: picture that is white where ``fill`` is to be filled in; None for where it is
        transparent.
      variants: fills of the picture.
    """

    solver: Any = DDIM(50)
    guidance_scale: float = 1.0
    label: int | str | None = None
    clip: bool = False
    prompt: str | None = None
    fill: str | None = None
    mask: str | None = None
    variants: int = 16

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "guidance_scale")
        checks.between(self, 1, 4096, "variants")
        if self.mask is not None and self.fill is None:
            raise UserError("mask needs fill, the picture that it belongs to", "sampler.mask")

    def read_incomplete(self, codec: Component) -> PictureGaps | None:
        """Return the picture of ``fill``, ``variants`` times; None without it.

        Raises:
          UserError: a file cannot be read or does not fit the run's images.
        """
        if self.fill is None:
            return None
        return read_picture_gaps(self.fill, self.mask, self.variants, codec)

    def with_prompts(self, prompts: tuple[str, ...]) -> Denoising:
        """Return the options with this prompt, of which there must be exactly one."""
        if len(prompts) != 1:
            raise UserError(f"prompt must be a single text, got {len(prompts)}", "prompt")
        return dataclasses.replace(self, prompt=prompts[0])


@checks.frozen
class Diffusion(Family):
    """A network that predicts clean data from noisy data, x_t = alpha(t) x0 + sigma(t) noise.

    Its ``loss`` is the weighted squared error, averaged over an example's entries. With weighting
    "likelihood" it is the negative bound on log p(x) in nats, reported with its three terms and in
    ``bits_per_dim``: of the probabilities of raw pixel values if the data have levels, else of the
    density.

    Attributes:
      net: ``UNet`` or ``DiT`` for images, ``UNet`` for signals, ``ResidualMLP`` for points.
      process: ``VPLinear``, ``VPCosine``, ``EDM``, ``Straight`` or ``Learned``.
      target: what the network predicts, "noise", "x0", "v" or "velocity".
      weighting: "simple", "min_snr", "edm" or "likelihood".
      gamma: upper limit on the SNR in the weighting "min_snr".
      data_std: standard deviation of the data, for the target v and EDM's weighting.
      width: width of the vector that embeds time, label, text and augmentation.
      time_frequency: highest frequency of the time features, in radians per unit of t; low ones
        make predictions smooth in time.
      fourier: exponents n of the features sin(2^n pi x), cos(2^n pi x) added to the input (arXiv
        2107.00630, C), for fine detail in likelihoods.
      conditional: whether the network sees the label.
      drop_label: share of examples whose label and text are hidden in training, so that the network
        also learns the unconditional model.
      text: embedding of prompts, such as ``HashedText``, the same as for the data's ``condition``;
        None for a model without text.
      noise: noise that the process ends in, ``NormalNoise`` or ``Ring``.
      coupling: pairing of noise and examples, "independent" or "optimal".
      augment: augmentation that the network gets as a condition, so that samples do not show it.
      sampler: sampling options.
    """

    net: Component = UNet()
    process: Component = VPCosine()
    target: Target = "v"
    weighting: Weighting = "simple"
    gamma: float = 5.0
    data_std: float = 1.0
    width: int = 256
    time_frequency: float = 1000.0
    fourier: tuple[int, ...] = ()
    conditional: bool = False
    drop_label: float = 0.1
    text: Component = None
    noise: Any = NormalNoise()
    coupling: Coupling = "independent"
    augment: NonLeaking = NonLeaking()
    sampler: Denoising = Denoising()

    def __post_init__(self) -> None:
        self.make_parametrization({})
        checks.above(self, 0, "gamma")
        checks.at_least(self, 1, "width")
        checks.above(self, 0.1, "time_frequency")
        checks.share(self, "drop_label")
        plain = self.noise.gaussian and self.coupling == "independent"
        if self.learned and (self.weighting != "likelihood" or self.target != "noise"):
            raise UserError(
                'process=Learned() needs target="noise" and weighting="likelihood"', "process"
            )
        if self.weighting == "likelihood" and not plain:
            raise UserError(
                'weighting="likelihood" needs NormalNoise and the "independent" coupling',
                "weighting",
            )
        self.check_sampler(self.sampler)

    def check_sampler(self, options: Denoising) -> None:
        """Refuse sampling options that this model does not support, with a ``UserError``."""
        if options.solver.stochastic and not (
            self.noise.gaussian and self.coupling == "independent"
        ):
            raise UserError(
                "solver must be deterministic (Euler, Heun, DPMSolver, Adaptive or DDIM with eta=0)"
                f" with this noise or coupling, got {type(options.solver).__name__}",
                "solver",
            )
        conditioning.check(options, self.conditional, self.text, self.drop_label)

    @property
    def conditioned(self) -> bool:
        """Whether the network is conditioned on a label, a text or both."""
        return self.conditional or self.text is not None

    @property
    def learned(self) -> bool:
        """Whether the schedule is trained."""
        return isinstance(self.process, variational.Learned)

    @property
    def protocol(self) -> str:  # type: ignore[override]
        if self.weighting == "likelihood":
            return "a time and noise for each example; negative variational bound"
        return "a time and noise for each example"

    def bind_process(self, params: Params) -> Process:
        """Return the process, a learned one with its parameters."""
        return self.process.bind(params["schedule"]) if self.learned and params else self.process

    def make_parametrization(self, params: Params) -> Parametrization:
        """Return the parametrization of the process by the network."""
        return Parametrization(self.bind_process(params), self.target, self.data_std)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if self.conditional and spec.classes is None:
            raise UserError("family.conditional needs labels, but the data have none")
        if self.text is not None and spec.condition != self.text.width:
            has = "no condition" if spec.condition is None else f"a condition of {spec.condition}"
            raise UserError(
                f"family.text must embed in the width of the data's conditions: it has "
                f"{self.text.width} numbers, but the data have {has}",
                "family.text",
            )
        if self.sampler.clip and spec.entry not in ("image", "signal"):
            raise UserError(
                f"sampler.clip must be False for {spec.entry} data, which may leave [-1, 1]",
                "sampler.clip",
            )
        self.augment.check(spec)
        net_key, schedule_key, noise_key = jax.random.split(key, 3)
        x = select_modelled(example)
        self.noise.draw(noise_key, x.shape)  # refuses data of the wrong shape
        classes = (spec.classes or 0) if self.conditional else 0
        label = jnp.zeros(1, jnp.int32) if classes else None
        inputs = self._make_inputs(label, self.augment.make_null(1))
        module, seen = self._make_module(spec.shape, classes), self._featurise(x)
        params = {"net": module.init(net_key, seen, jnp.zeros(1), **inputs, train=False)["params"]}
        if self.learned:
            params["schedule"] = self.process.init(schedule_key)
        values = {"values": jnp.linspace(-1, 1, spec.levels)} if spec.levels else {}
        return params, {"mean": jnp.asarray(spec.mean), **values}

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        if self.conditioned and "other_label" in batch:
            raise UserError(
                "a diffusion conditioned on labels or text takes one per example: no Mixup"
            )

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            return self._compute_metrics(params, variables, batch, key, True), variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self._compute_metrics(state.params, state.variables, batch, key, False)

    def sample(self, state: State, key: jax.Array, n: int, options: Denoising) -> jax.Array:
        return self.draw_from_noise(state, key, n, options)

    def draw_from_noise(
        self,
        state: State,
        key: jax.Array,
        n: int,
        options: Any,
        text: jax.Array | None = None,
        given: jax.Array | None = None,
    ) -> jax.Array:
        """Draw samples [n, ...] from noise; ``text`` and ``given`` are those of ``denoise``."""
        start, way = jax.random.split(key)
        process, shape = self.bind_process(state.params), (n, *state.variables["mean"].shape)
        x = process.alpha_sigma(jnp.ones(()))[1] * self.noise.draw(start, shape)
        besides = {} if given is None else {"given": given}
        denoise = self.denoise(state, n, options, text, **besides)
        image, mask = find_input(state, "image"), find_input(state, "mask")
        if image is not None and mask is not None:
            denoise = fix_known(denoise, image, mask)
        return options.solver(denoise, process, x, way)

    def describe_inputs(self, state: State, options: Denoising) -> Inputs:
        """Describe the picture to fill in if the options name one, else the label."""
        if options.fill is None:
            return conditioning.describe_label(self.conditional)
        shape = state.variables["mean"].shape
        return {"image": (shape, np.float32), "mask": ((*shape[:-1], 1), np.float32)}

    def denoise(
        self,
        state: State,
        n: int,
        options: Denoising,
        text: jax.Array | None = None,
        given: jax.Array | None = None,
    ) -> Denoise:
        """Return the posterior mean, as samplers call it, for ``n`` samples; embedded ``text`` [n,
        D], or else the state's input of that kind, replaces the prompt, and ``given`` [n, ...] is
        what the network sees besides.

        Raises:
          UserError: the sampler, guidance or label does not fit the model.
        """
        self.check_sampler(options)
        label = conditioning.choose_labels(
            options.label, n, self._count_classes(state.params), state
        )
        parametrization = self.make_parametrization(state.params)

        def estimate(
            label: jax.Array | None, text: jax.Array | None, x: jax.Array, t: jax.Array
        ) -> jax.Array:
            times = jnp.full(len(x), t)
            inputs = self._make_inputs(label, self.augment.make_null(len(x)), text, given)
            output = self.predict(state.params, x, times, inputs)
            x0 = parametrization.x0(output, x, times)
            return jnp.clip(x0, -1, 1) if options.clip else x0

        text = find_input(state, CONDITION) if text is None else text
        null = jnp.full(n, self._count_classes(state.params)) if self.conditional else None
        unconditional = functools.partial(estimate, null, None)
        prompted = text is not None or options.prompt is not None
        if not self.conditioned or (self.text is not None and not prompted):
            return unconditional
        if text is None and options.prompt is not None:
            text = jnp.broadcast_to(self.text.embed(options.prompt), (n, self.text.width))
        return guide(
            functools.partial(estimate, label, text), unconditional, options.guidance_scale
        )

    def compute_terms(
        self,
        params: Params,
        variables: Variables,
        x0: jax.Array,
        label: jax.Array | None,
        key: jax.Array,
        train: bool = False,
        text: jax.Array | None = None,
        logsnr: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Return the ``loss`` of each example and, of the bound, its terms in nats, each [B].

        ``text`` is [B, D]; ``logsnr`` [2] limits the log-SNR of the times drawn; ``given`` [B, ...]
        among the variables is what the network sees besides.
        """
        keys = jax.random.split(key, 6)
        noise = pair_noise(self.coupling, x0, self.noise.draw(keys[0], x0.shape))
        augmented = self.augment.make_null(len(x0))
        if train:
            x0, augmented = self.augment(keys[1], x0)
            label, text = conditioning.hide(
                keys[2], self.drop_label, label, self._count_classes(params), text
            )
        inputs = self._make_inputs(label, augmented, text, variables.get("given"))
        inner = keys[3] if train else None
        parametrization = self.make_parametrization(params)
        process = parametrization.process
        t = process.draw_times(keys[4], len(x0), logsnr)

        if train and self.learned:

            def at(net: Params, gamma: jax.Array, rate: jax.Array, clock: jax.Array) -> jax.Array:
                alpha, sigma = (_expand_dims(a, x0) for a in variational.alpha_sigma(gamma))
                noisy = alpha * x0 + sigma * noise
                output = self._apply_net(net, params, noisy, clock, inputs, inner)
                return 0.5 * rate * _sum_examples(jnp.square(output - noise))

            diffusion = self.process.compute_low_variance_loss(
                at, params["net"], params["schedule"], t
            )
        else:
            output = self.predict(params, diffuse(process, x0, noise, t), t, inputs, inner)
            error = _sum_examples(jnp.square(output - parametrization.value(x0, noise, t)))
            diffusion = parametrization.weight(t, self.weighting, self.gamma) * error
        dims = math.prod(x0.shape[1:])
        if self.weighting != "likelihood":
            return {"loss": diffusion / dims}
        fresh = jax.random.normal(keys[5], x0.shape)
        terms = {
            "diffusion": diffusion,
            "prior": variational.prior_kl(process, x0),
            "reconstruction": variational.reconstruction(
                process, x0, fresh, variables.get("values")
            ),
        }
        loss = sum(terms.values())
        return terms | {"loss": loss, "bits_per_dim": loss / (dims * math.log(2))}

    def predict(
        self, params: Params, x: jax.Array, t: jax.Array, inputs: Any, key: jax.Array | None = None
    ) -> jax.Array:
        """Return the network's prediction [B, ...] for x_t [B, ...] at t [B]; a key means
        training.
        """
        process = self.bind_process(params)
        if self.target == "v":  # scale x_t to unit variance: EDM's c_in
            alpha, sigma = process.alpha_sigma(_expand_dims(t, x))
            x = x * jax.lax.rsqrt(jnp.square(alpha * self.data_std) + jnp.square(sigma))
        return self._apply_net(params["net"], params, x, process.clock(t), inputs, key)

    def _apply_net(
        self,
        net: Params,
        params: Params,
        x: jax.Array,
        clock: jax.Array,
        inputs: Any,
        key: jax.Array | None,
    ) -> jax.Array:
        """Apply the network, with its parameters ``net`` separate from all ``params``."""
        rngs = {} if key is None else {"dropout": key}
        module = self._make_module(x.shape[1:], self._count_classes(params))
        seen = self._featurise(x)
        outputs = apply(module, net, seen, clock, **inputs, rngs=rngs, train=key is not None)
        return outputs[..., : x.shape[-1]]

    def _compute_metrics(
        self, params: Params, variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> Metrics:
        label = labels(batch) if self.conditional else None
        text = conditions(batch) if self.text is not None else None
        # From a curriculum; the same in all rows.
        logsnr = batch["logsnr"][0] if "logsnr" in batch else None
        terms = self.compute_terms(
            params, variables, select_modelled(batch), label, key, train, text, logsnr
        )
        return {name: Mean.of(values, batch["mask"]) for name, values in terms.items()}

    def _make_module(self, shape: tuple[int, ...], classes: int) -> Denoiser:
        seen = (*shape[:-1], shape[-1] * (1 + 2 * len(self.fourier)))
        text = 0 if self.text is None else self.text.width
        settings = text, self.augment.size, self.time_frequency
        return Denoiser(self.net.denoiser(seen), self.width, classes, *settings)

    def _featurise(self, x: jax.Array) -> jax.Array:
        """Append the Fourier features of x [..., C] to it: [..., C (1 + 2 F)]."""
        angles = [2**n * math.pi * x for n in self.fourier]
        return jnp.concatenate([x, *map(jnp.sin, angles), *map(jnp.cos, angles)], -1)

    def _make_inputs(
        self,
        label: jax.Array | None,
        augmented: jax.Array | None,
        text: jax.Array | None = None,
        shown: jax.Array | None = None,
    ) -> dict[str, Any]:
        """Return the network's conditions other than time, as keyword arguments."""
        given = {"label": label, "text": text, "augment": augmented, "given": shown}
        return {name: value for name, value in given.items() if value is not None}

    def _count_classes(self, params: Params) -> int:
        """Return the number of labels, which is also the null label."""
        return len(params["net"]["label"]["embedding"]) - 1 if self.conditional else 0


def _expand_dims(a: jax.Array, x: jax.Array) -> jax.Array:
    """Append axes of length 1 to a [B], so that it broadcasts with x [B, ...]."""
    return a.reshape(-1, *[1] * (x.ndim - 1))


def _sum_examples(x: jax.Array) -> jax.Array:
    """Sum x [B, ...] over the entries of each example: [B]."""
    return x.reshape(len(x), -1).sum(-1)
