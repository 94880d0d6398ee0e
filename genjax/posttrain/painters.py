"""What policies that are diffusion models of images share: their base, conditions and estimates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Self

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion.diffusion import Diffusion
from genjax.family import Batch, Params, State, Trained, Variables
from genjax.posttrain.continued import BASE, FromBase


@checks.frozen
class Painter(FromBase):
    """The base class of families that train a diffusion of images further, all its parameters."""

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> Self:
        check_painter(others[BASE], spec)
        return dataclasses.replace(self, base=others[BASE].family)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        return self.base.init(key, example, spec)[0], {}

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        return jax.tree.map(jnp.copy, state.frozen[BASE]["params"]), state.variables

    def eval_state(self, state: State) -> State:
        variables = state.frozen[BASE]["variables"]
        return self.base.eval_state(
            state.for_eval().replace(variables=variables, ema=None, frozen=None)
        )


def check_painter(base: Trained, spec: Spec) -> None:
    """Refuse a base run that is not a diffusion of the data's images by a fixed Gaussian process,
    with a ``UserError``.
    """
    if not isinstance(base.family, Diffusion) or base.spec.entry != "image":
        raise UserError(
            f"family.base must be a run of a Diffusion of images, but {base.run_dir} is a "
            f"{type(base.family).__name__} of {base.spec.entry}",
            "family.base",
        )
    base.check(spec)
    if base.family.text is not None:
        raise UserError(
            f"family.base must not be conditioned on text, as {base.run_dir} is", "family.base"
        )
    if base.family.conditional and base.spec.classes != spec.classes:
        raise UserError(
            f"family.base must have the {spec.classes} labels of the data, but {base.run_dir} "
            f"has {base.spec.classes}",
            "family.base",
        )
    if (
        base.family.learned
        or not base.family.noise.gaussian
        or base.family.coupling != "independent"
    ):
        raise UserError(
            "family.base must have a fixed process and independent Gaussian noise, unlike "
            f"{base.run_dir}",
            "family.base",
        )


def make_inputs(base: Diffusion, label: jax.Array | None, n: int) -> dict[str, jax.Array]:
    """Return the conditions of ``n`` unaugmented images, other than the time."""
    given = {"label": label, "augment": base.augment.make_null(n)}
    return {name: value for name, value in given.items() if value is not None}


def find_null(params: Params) -> int:
    """Return the null label, the last one of the embedding."""
    return len(params["net"]["label"]["embedding"]) - 1


def estimate_clean(
    base: Diffusion, params: Params, x: jax.Array, t: jax.Array, inputs: dict[str, jax.Array]
) -> jax.Array:
    """Estimate the clean images of x [N, H, W, C] at times t [N], clipped to [-1, 1]."""
    found = base.make_parametrization(params).x0(base.predict(params, x, t, inputs), x, t)
    return jnp.clip(found, -1, 1)
