"""LoRA for any family (Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from genjax import checks, trees
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.family import Batch, Metrics, Params, State, Trained, Variables, make_example
from genjax.optim import Rules
from genjax.posttrain.adapters import Adapters, apply_apart
from genjax.posttrain.continued import BASE, FromBase


@runtime_checkable
class _ClipsWeights(Protocol):
    weight_clip: float | None


@checks.frozen
class LoRA(FromBase):
    """Trains another run's model further by adapters.

    The base weights are in ``State.frozen``, which is saved once; parameters, optimizer state and
    checkpoints hold only the adapters. The base model with merged adapters is evaluated, sampled
    and exported.

    Attributes:
      base: run directory of the model, of any family that does not depend on other runs.
      adapters: options of the adapters.
      sampler: sampling options; None uses the base's.
    """

    base: Component = "runs/gpt_docs"
    adapters: Adapters = Adapters()

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> LoRA:
        other = others[BASE]
        if isinstance(other.family, _ClipsWeights) and other.family.weight_clip is not None:
            raise UserError(
                "base must not clip its weights (weight_clip), which would clip the adapters, as "
                f"{other.run_dir} does",
                "base",
            )
        there, here = (_shapes(other.family, of) for of in (other.spec, spec))
        wrong = [
            f"{path} has shape {there.get(path, 'none')} there, {here.get(path, 'none')} here"
            for path in there | here
            if here.get(path) != there.get(path)
        ]
        if wrong:
            raise UserError(
                f"base must fit the data, but {other.run_dir} does not: {'; '.join(wrong)}", "base"
            )
        return dataclasses.replace(self, base=other.family)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        params, variables = jax.eval_shape(lambda: self.base.init(key, example, spec))
        return self.adapters.init(key, params), jax.tree.map(
            lambda v: jnp.zeros(v.shape, v.dtype), variables
        )

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        base = state.frozen[BASE]
        return self.adapters.start_from(state.params, base["params"]), jax.tree.map(
            jnp.copy, base["variables"]
        )

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        base, merged = state.frozen[BASE]["params"], self.adapters.merge_apart
        rules: Any
        if isinstance(optimizer, Mapping):  # a rule for each part of the family
            rules = {
                part: dataclasses.replace(
                    rule, through=lambda params, part=part: merged(base[part], params)
                )
                for part, rule in optimizer.items()
            }
        else:
            rules = dataclasses.replace(optimizer, through=lambda params: merged(base, params))
        with apply_apart():
            return self.base.train_step(state, batch, optimizer=rules, axis=axis)

    @property
    def key_numbers(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.wrapped.key_numbers

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        return self.wrapped.find_collapse(numbers)

    def eval_state(self, state: State) -> State:
        state = state.for_eval()
        merged = self.adapters.merge(state.frozen[BASE]["params"], state.params)
        return self.base.eval_state(state.replace(params=merged, ema=None, frozen=None))


def _shapes(family: Component, spec: Spec) -> dict[str, list[int]]:
    """Return the shapes of the parameters of a family for such data, by path."""
    params, _ = jax.eval_shape(lambda: family.init(jax.random.key(0), make_example(spec), spec))
    return {path: list(leaf.shape) for path, leaf in trees.named_leaves(params)}
