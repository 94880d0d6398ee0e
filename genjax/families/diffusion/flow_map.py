"""Flow maps: a network that jumps from noise to data in one step, or in a few.

It learns its flow and, from that or from a trained one, the map along it: self-distillation in the
frame of Boffi et al., arXiv 2505.18825. The conditions are in ``genjax.families.diffusion.jumps``.
Folded guidance: Geng et al., arXiv 2505.13447, section 4.2.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.continued import Continued
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion import conditioning, jumps
from genjax.families.diffusion.flow_teacher import check_teacher, predict_velocity
from genjax.families.diffusion.jumps import Form, expand_times
from genjax.family import (
    Batch,
    Inputs,
    Mean,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
    apply,
    gradient_step,
    labels,
    select_modelled,
)
from genjax.nets.denoiser import Denoiser
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import Rules
from genjax.samplers.diffusion.processes import Straight, diffuse

TEACHER = "teacher"
FLOOR = 1e-3  # added to an error before it divides, see ``FlowMap.power``


@runtime_checkable
class MakesDenoiser(Protocol):
    """A net that is conditioned on a vector, which may embed two times."""

    def denoiser(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the network: ``module(x [B, *shape], vector [B, E], train=...)`` -> [B, *shape]."""
        ...


@checks.frozen
class Jumps:
    """Sampling options of a flow map.

    Attributes:
      steps: number of jumps, of equal length in time.
      renoise: whether each jump goes to the data, and fresh noise leads back to the next time: the
        sampler of consistency models (arXiv 2303.01469, algorithm 1).
      label: label to draw in a class-conditional model, by number or name; None draws all in turn,
        starting over every 256 samples.
    """

    steps: int = 1
    renoise: bool = False
    label: int | str | None = None

    def __post_init__(self) -> None:
        checks.between(self, 1, 100_000, "steps")


class Drawn(NamedTuple):
    """Examples with the times and the noise drawn for them.

    Attributes:
      x: x_t [B, ...].
      velocity: noise - x0 [B, ...], which is v(x, t) in the mean over all that lead to x_t.
      t: start of the jump [B].
      r: its end [B].
      share: share of the way of the first of two jumps [B].
      label: labels [B], some hidden; None for an unconditional model.
      dropout: random key; None for no dropout.
    """

    x: jax.Array
    velocity: jax.Array
    t: jax.Array
    r: jax.Array
    share: jax.Array
    label: jax.Array | None
    dropout: jax.Array | None


@checks.frozen
class FlowMap(Continued):
    """A network u(x, t, r) of the mean velocity of the flow x_t = (1 - t) x0 + t noise from t to r.

    Part of each batch learns the velocity, u(x, t, t), as flow matching does: its mean squared
    error is ``flow``. The others learn that jumps follow it: the mean square of the residual of the
    chosen condition is ``jump``. With a teacher both follow the velocity of the teacher, and
    ``flow`` is the distance from that. ``loss`` is the mean over the batch.

    Attributes:
      net: ``UNet`` or ``DiT`` for images, ``UNet`` for signals, ``ResidualMLP`` for points.
      form: condition of a jump, "lagrangian", "eulerian" or "progressive".
      detach: whether the derivative in the first two has no gradient, as in MeanFlow.
      start: velocity from which the Eulerian form starts: "model" for u(x, t, t), or the teacher's;
        "sample" for noise - x0, as in MeanFlow, also with guidance.
      halves: whether both jumps of the progressive form are of equal length, else of any.
      flow_share: share of the batch that learns the velocity.
      to_data: share of the jumps that end at r = 0. With the Eulerian form and 1 the model is a
        consistency model: sample it in one jump, or with ``renoise``.
      power: power p of the weights 1 / (error + 0.001)^p of examples in the loss (arXiv 2505.13447,
        section 4.3); 0 for none.
      guidance_scale: guidance that the flow itself gets, so that a jump still takes one evaluation;
        1 for the conditional model, above 1 samples follow the label more closely.
      teacher: run directory of a ``Diffusion`` with a ``Straight`` process of the same data, whose
        flow is distilled; None to learn the flow as well.
      width: width of the vector that embeds times and label.
      time_frequency: highest frequency of the time features, in radians per unit of t; as the model
        is differentiated by its times, far lower than that of a diffusion.
      conditional: whether the network sees the label.
      drop_label: share of examples whose label is hidden in training, as guidance needs.
      sampler: sampling options.
    """

    key_numbers: ClassVar[tuple[str, ...]] = ("flow", "jump")

    net: Component = ResidualMLP()
    form: Form = "lagrangian"
    detach: bool = True
    start: Literal["model", "sample"] = "model"
    halves: bool = True
    flow_share: float = 0.5
    to_data: float = 0.0
    power: float = 0.0
    guidance_scale: float = 1.0
    teacher: Component = None
    width: int = 128
    time_frequency: float = 10.0
    conditional: bool = False
    drop_label: float = 0.1
    sampler: Jumps = Jumps()

    def __post_init__(self) -> None:
        if not isinstance(self.net, MakesDenoiser):
            raise UserError(
                "net must take two times (ResidualMLP, UNet or DiT), got "
                f"{type(self.net).__name__}",
                "net",
            )
        checks.share(self, "drop_label")
        checks.between(self, 0, 1, "flow_share", "to_data")
        checks.at_least(self, 0, "power", "guidance_scale")
        checks.at_least(self, 2, "width")
        checks.above(self, 0.1, "time_frequency")
        if self.flow_share == 0 and self.teacher is None:
            raise UserError("flow_share must be > 0 without a teacher, got 0", "flow_share")
        conditioning.check_guidance(self.guidance_scale, self.conditional, self.drop_label)

    @property
    def runs(self) -> Mapping[str, str]:
        return {} if self.teacher is None else {TEACHER: self.teacher}

    @property
    def protocol(self) -> str:  # type: ignore[override]
        return "two times and a noise for each example"

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> FlowMap:
        if self.teacher is None:
            return self
        check_teacher(others[TEACHER], spec, self.conditional, self.guidance_scale)
        return dataclasses.replace(self, teacher=others[TEACHER].family)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if self.conditional and spec.classes is None:
            raise UserError("family.conditional needs labels, but the data have none")
        x, t = select_modelled(example), jnp.zeros(1)
        label = jnp.zeros(1, jnp.int32) if self.conditional else None
        module = self._make_module(x.shape[1:], (spec.classes or 0) if self.conditional else 0)
        params = {"net": module.init(key, x, t, label, end=t, train=False)["params"]}
        if self.form != "progressive":
            self._check_derivative(params, x, t)
        return params, {"mean": jnp.asarray(spec.mean)}

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        if self.conditional and "other_label" in batch:
            raise UserError("a flow map conditioned on labels takes one per example: no Mixup")

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            parts = self._split(batch)
            errors = self.measure(params, state.frozen, parts, key, train=True)
            metrics = {name: Mean.of(e, parts[name]["mask"]) for name, e in errors.items()}
            weighted = self._weigh(jnp.concatenate(list(errors.values())))
            masks = jnp.concatenate([part["mask"] for part in parts.values()])
            return metrics | {"loss": Mean.of(weighted, masks)}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        both = {"flow": batch, "jump": batch}
        errors = self.measure(state.params, state.frozen, both, key, train=False)
        flow, jump = (self._weigh(error) for error in errors.values())
        errors["loss"] = self.flow_share * flow + (1 - self.flow_share) * jump
        return {name: Mean.of(error, batch["mask"]) for name, error in errors.items()}

    def sample(self, state: State, key: jax.Array, n: int, options: Jumps) -> jax.Array:
        start, way = jax.random.split(key)
        classes = self._count_classes(state.params)
        label = conditioning.choose_labels(options.label, n, classes, state)
        mean = functools.partial(self.predict, state.params, label, None)

        def step(x: jax.Array, here: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            t, r, number = here
            end = jnp.zeros(()) if options.renoise else r
            x = jumps.jump(mean, x, jnp.full(n, t), jnp.full(n, end))
            if options.renoise:
                fresh = jax.random.normal(jax.random.fold_in(way, number), x.shape)
                x = diffuse(Straight(), x, fresh, r)
            return x, None

        times = jnp.linspace(1.0, 0.0, options.steps + 1)
        x = jax.random.normal(start, (n, *state.variables["mean"].shape))
        return jax.lax.scan(step, x, (times[:-1], times[1:], jnp.arange(options.steps)))[0]

    def describe_inputs(self, state: State, options: Jumps) -> Inputs:
        return conditioning.describe_label(self.conditional)

    def predict(
        self,
        params: Params,
        label: jax.Array | None,
        dropout: jax.Array | None,
        x: jax.Array,
        t: jax.Array,
        r: jax.Array,
    ) -> jax.Array:
        """Return the mean velocity u [B, ...] at x [B, ...] from t [B] to r [B]; a ``dropout`` key
        means training.
        """
        module = self._make_module(x.shape[1:], self._count_classes(params))
        given = {} if label is None else {"label": label}
        rngs, train = ({}, False) if dropout is None else ({"dropout": dropout}, True)
        return apply(module, params["net"], x, t, end=r, **given, rngs=rngs, train=train)

    def measure(
        self, params: Params, frozen: Any, parts: Mapping[str, Batch], key: jax.Array, train: bool
    ) -> dict[str, jax.Array]:
        """Return the mean square [B] of the residuals "flow" and "jump", each of its part of a
        batch.
        """
        measures = {"flow": self.compare_flow, "jump": self.compare_jump}
        errors = {}
        for number, (name, part) in enumerate(parts.items()):
            drawn = self.draw(params, part, jax.random.fold_in(key, number), train, name == "jump")
            residual = measures[name](params, frozen, drawn)
            errors[name] = jnp.square(residual).reshape(len(residual), -1).mean(-1)
        return errors

    def draw(
        self, params: Params, batch: Batch, key: jax.Array, train: bool, jumping: bool = True
    ) -> Drawn:
        """Draw the noise of a batch and its times, two if ``jumping``, else one; hide labels if
        training.

        Times are uniform: in [0, 1], or of two in the triangle of t >= r.
        """
        keys = jax.random.split(key, 6)
        x0 = select_modelled(batch)
        noise = jax.random.normal(keys[0], x0.shape)
        times = jax.random.uniform(keys[1], (1 + jumping, len(x0)))
        r, t = times.min(0), times.max(0)
        r = jnp.where(jax.random.bernoulli(keys[2], self.to_data, r.shape), 0.0, r)
        label = labels(batch) if self.conditional else None
        if train:
            null = self._count_classes(params)
            label, _ = conditioning.hide(keys[3], self.drop_label, label, null, None)
        share = jax.random.uniform(keys[4], t.shape)
        x = diffuse(Straight(), x0, noise, t)
        return Drawn(x, noise - x0, t, r, share, label, keys[5] if train else None)

    def compare_flow(self, params: Params, frozen: Any, drawn: Drawn) -> jax.Array:
        """Return u(x, t, t) less the velocity that it learns, [B, ...]."""
        aim = self._aim(params, frozen, drawn, sampled=self.teacher is None)
        t = drawn.t
        return self.predict(params, drawn.label, drawn.dropout, drawn.x, t, t) - aim

    def compare_jump(self, params: Params, frozen: Any, drawn: Drawn) -> jax.Array:
        """Return the residual [B, ...] of the condition of a jump."""
        mean = functools.partial(self.predict, params, drawn.label, drawn.dropout)
        x, t, r = drawn.x, drawn.t, drawn.r
        match self.form:
            case "lagrangian":
                follow = functools.partial(self._follow, params, frozen, drawn.label)
                return jumps.lagrangian(mean, follow, x, t, r, self.detach)
            case "eulerian":
                start = self._aim(params, frozen, drawn, sampled=self.start == "sample")
                return jumps.eulerian(mean, x, t, r, start, self.detach)
            case "progressive":
                return jumps.progressive(mean, x, t, r, 0.5 if self.halves else drawn.share)

    def _aim(self, params: Params, frozen: Any, drawn: Drawn, *, sampled: bool) -> jax.Array:
        """Return the velocity [B, ...] at x_t, guided: the sample's, or the one that is followed.

        It has no gradient.
        """
        if not sampled:
            aim = self._follow(params, frozen, drawn.label, drawn.x, drawn.t)
            return jax.lax.stop_gradient(aim)
        if drawn.label is None or self.guidance_scale == 1:
            return drawn.velocity
        null = jnp.full_like(drawn.label, self._count_classes(params))
        free = self.predict(params, null, None, drawn.x, drawn.t, drawn.t)
        scale = jnp.where(drawn.label == null, 1.0, self.guidance_scale)
        return jax.lax.stop_gradient(free + expand_times(scale, free) * (drawn.velocity - free))

    def _follow(
        self, params: Params, frozen: Any, label: jax.Array | None, x: jax.Array, t: jax.Array
    ) -> jax.Array:
        """Return the velocity v(x, t) [B, ...] that jumps follow: the teacher's, guided, or
        u(x, t, t), which has learned the guidance.
        """
        if self.teacher is None:
            return self.predict(params, label, None, x, t, t)
        theirs = functools.partial(predict_velocity, self.teacher, frozen[TEACHER]["params"], x, t)
        if label is None or self.guidance_scale == 1:
            return theirs(label)
        free = theirs(jnp.full_like(label, self._count_classes(params)))
        return free + self.guidance_scale * (theirs(label) - free)

    def _split(self, batch: Batch) -> dict[str, Batch]:
        """Split a batch into the parts that learn the "flow" and the "jump", those with rows."""
        first = round(self.flow_share * len(batch["mask"]))
        if self.teacher is None:
            first = max(first, 1)
        parts = {
            "flow": {name: value[:first] for name, value in batch.items()},
            "jump": {name: value[first:] for name, value in batch.items()},
        }
        return {name: part for name, part in parts.items() if len(part["mask"])}

    def _weigh(self, error: jax.Array) -> jax.Array:
        """Return errors [B] times their weights, which have no gradient."""
        return error / jax.lax.stop_gradient(error + FLOOR) ** self.power

    def _make_module(self, shape: tuple[int, ...], classes: int) -> Denoiser:
        net = self.net.denoiser(shape)
        return Denoiser(net, self.width, classes, frequency=self.time_frequency, two_times=True)

    def _count_classes(self, params: Params) -> int:
        """Return the number of labels, which is also the null label."""
        return len(params["net"]["label"]["embedding"]) - 1 if self.conditional else 0

    def _check_derivative(self, params: Params, x: jax.Array, t: jax.Array) -> None:
        """Refuse a net that ``jax.jvp`` cannot differentiate."""

        def differentiate(params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
            mean = functools.partial(self.predict, params, None, None)
            return jumps.eulerian(mean, x, t, t, x)

        try:  # JAX refuses it when it lowers the program, not yet when it traces it
            jax.jit(differentiate).lower(*jax.eval_shape(lambda: (params, x, t)))
        except TypeError as error:
            raise UserError(
                f"net must allow jax.jvp, which {type(self.net).__name__} does not: choose "
                f'form="progressive" ({error})',
                "net",
            ) from None
