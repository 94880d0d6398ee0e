"""ControlNet: a trained diffusion is frozen, and a copy of its first blocks learns to follow
sketches (Zhang et al., arXiv 2302.05543).

The copy sees the noisy image and the sketch. What it adds to the frozen network passes through maps
that start at 0, so that the model is the base's at step 0 and departs from it as it learns. The
copy shares the base's frozen embedding of time and request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.continued import Continued
from genjax.data.dataset import Spec
from genjax.data.design.sketches import read_sketch
from genjax.errors import UserError
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.family import (
    Batch,
    Family,
    Inputs,
    Mean,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
    conditions,
    find_input,
    labels,
    select_modelled,
)
from genjax.nets.denoiser import Denoiser
from genjax.optim import Rules, UpdateRule

BASE, SKETCH, CONTROL = "base", "sketch", "control"


@runtime_checkable
class Controllable(Protocol):
    """A net that can be controlled by a sketch, such as ``DiT``."""

    def controller(self, shape: tuple[int, ...], copied: int) -> nn.Module:
        """Build the control: ``module(x [B, *shape], vector [B, E], sketch [B, H, W, S])`` -> what
        is added inside the net.
        """
        ...


@checks.frozen
class SketchSampling(Denoising):
    """Sampling options of a diffusion that follows a sketch.

    Attributes:
      sketch: picture of the sketch, of the size of the model's images; None takes the edges of the
        first training example. All samples follow it.
      follow: whether samples follow the sketch; if not, they are the base's.
    """

    sketch: str | None = None
    follow: bool = True

    @property
    def runs(self) -> Mapping[str, str]:
        """No other run is needed."""
        return {}

    def encode(self, codec: Component, others: Mapping[str, Any]) -> Denoising:
        """Return the options with the pixels of the sketch.

        Raises:
          UserError: the sketch cannot be read, is empty, or has another size than the images.
        """
        if self.sketch is None or not self.follow:
            return self
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(Denoising)}
        lines = read_sketch(self.sketch, codec)
        return DrawnSketch(**given, lines=tuple(lines.ravel().tolist()))


@checks.frozen
class DrawnSketch(Denoising):
    """``SketchSampling`` with the sketch in the form of the model.

    Attributes:
      lines: its pixels, row by row: 1 on a line.
    """

    lines: tuple[float, ...] = ()


@checks.frozen
class SketchDiffusion(Diffusion):
    """A diffusion whose network is controlled by a sketch; without one it is the base's.

    Attributes:
      copied: blocks of the control.
      sampler: sampling options.
    """

    copied: int = 2
    sampler: Denoising = SketchSampling()

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.sketch is None:
            raise UserError("the data must have sketches: wrap them in Sketched(...)", "data")
        params, variables = super().init(key, example, spec)
        module = self._make_module(spec.shape, self._count_classes(params))
        x, sketch = select_modelled(example), example[SKETCH]
        made = module.init(key, x, jnp.zeros(len(x)), given=sketch, train=False)["params"]
        net = {**params["net"], CONTROL: made[CONTROL]}
        return {**params, "net": net}, {**variables, SKETCH: sketch[0]}

    def sample(self, state: State, key: jax.Array, n: int, options: Denoising) -> jax.Array:
        """Draw ``n`` samples that follow the sketches given as inputs, else that of the options."""
        sketch = find_input(state, SKETCH)
        if isinstance(options, SketchSampling) and not options.follow:
            return self.draw_from_noise(state, key, n, options)
        if sketch is None:
            sketch = state.variables[SKETCH]
            if isinstance(options, DrawnSketch):
                sketch = jnp.reshape(jnp.asarray(options.lines, jnp.float32), sketch.shape)
            sketch = jnp.broadcast_to(sketch, (n, *sketch.shape))
        return self.draw_from_noise(state, key, n, options, given=sketch)

    def describe_inputs(self, state: State, options: Denoising) -> Inputs:
        found = super().describe_inputs(state, options)
        if options.fill is not None:
            return found
        return found | {SKETCH: (state.variables[SKETCH].shape, np.float32)}

    def _compute_metrics(
        self, params: Params, variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> Metrics:
        label = labels(batch) if self.conditional else None
        text = conditions(batch) if self.text is not None else None
        seen = variables | {"given": batch[SKETCH]}
        x = select_modelled(batch)
        terms = self.compute_terms(params, seen, x, label, key, train, text)
        return {name: Mean.of(values, batch["mask"]) for name, values in terms.items()}

    def _make_module(self, shape: tuple[int, ...], classes: int) -> Denoiser:
        module = super()._make_module(shape, classes)
        return module.clone(control=self.net.controller(shape, self.copied))


@checks.frozen
class ControlNet(Continued):
    """Trains a control of another run's diffusion by sketches, ``Sketched`` data.

    Attributes:
      base: run directory of a diffusion over images whose network is a ``DiT``.
      copied: first blocks of the network that are copied.
      sampler: sampling options.
    """

    base: Component = "runs/attributes_to_shapes"
    copied: int = 2
    sampler: SketchSampling = SketchSampling()

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "copied")

    @property
    def runs(self) -> Mapping[str, str]:
        return {BASE: self.base}

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> ControlNet:
        run_dir, family = others[BASE].run_dir, others[BASE].family
        if type(family) is not Diffusion or not isinstance(family.net, Controllable):
            of = f" over {type(family.net).__name__}" if isinstance(family, Diffusion) else ""
            raise UserError(
                f"base must be a Diffusion whose net is a DiT, but {run_dir} is a "
                f"{type(family).__name__}{of}",
                "base",
            )
        if family.learned or family.fourier:
            raise UserError(
                f"base must have a fixed process and no Fourier features, which {run_dir} has",
                "base",
            )
        others[BASE].check(spec)
        return dataclasses.replace(self, base=family)

    @property
    def wrapped(self) -> Family:
        given = {f.name: getattr(self.base, f.name) for f in dataclasses.fields(Diffusion)}
        return SketchDiffusion(**given | {"sampler": self.sampler}, copied=self.copied)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        params, variables = self.wrapped.init(key, example, spec)
        return {CONTROL: params["net"][CONTROL]}, variables

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        """Copy the base's blocks; the new maps keep their initial values."""
        control, net = state.params[CONTROL], state.frozen[BASE]["params"]["net"]["net"]
        copies = {name: net.get(name, values) for name, values in control.items()}
        return {CONTROL: jax.tree.map(jnp.copy, copies)}, state.variables

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        assert isinstance(optimizer, UpdateRule), "a control has no parts"
        base = state.frozen[BASE]["params"]
        rule = dataclasses.replace(optimizer, through=lambda params: _join(base, params))
        return self.wrapped.train_step(state, batch, optimizer=rule, axis=axis)

    def eval_state(self, state: State) -> State:
        state = state.for_eval()
        joined = _join(state.frozen[BASE]["params"], state.params)
        return state.replace(params=joined, ema=None, frozen=None)


def _join(base: Params, control: Params) -> Params:
    """Return the parameters of the base's network with the control."""
    return {**base, "net": {**base["net"], **control}}
