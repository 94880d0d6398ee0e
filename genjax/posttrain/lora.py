"""LoRA: matrices of a trained model are moved by products of two thin ones, which alone are trained.

Hu et al., arXiv 2106.09685.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from genjax import trees
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.family import Batch, Family, Metrics, Params, State, Trained, example_of

BASE = "base"
DOWN, UP = "lora_a", "lora_b"  # the names of A and B


@dataclass(frozen=True)
class LoRA(Family):
    """Another run's model, trained further by adapters: a matrix W [m, n] becomes W + (alpha / rank) A B.

    The base weights stand in ``State.frozen``, which is saved once; parameters, optimizer state and checkpoints are of
    the adapters. A, [m, rank], begins random and B, [rank, n], at 0, so that the first step is of the base model. The
    kernel of a convolution [h, w, in, out] is one matrix [h w in, out].

    What is judged, sampled from and exported is the base model with the adapters merged in.

    Attributes:
      base: the run directory of the model, of any family that stands on no other run.
      rank: of the adapters.
      alpha: the adapters' scale is alpha / rank, so that another rank needs no other learning rate.
      targets: regular expressions on paths of parameters; the matrices among those get adapters.
      whole: regular expressions on paths of parameters that are trained as they are, such as norms or a head.
      stacked: regular expressions on paths of layers stacked by a scan: each layer has adapters of its own.
      sampler: how samples are drawn; None takes the base's.
    """

    base: Any = "runs/gpt_docs"
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("kernel",)
    whole: tuple[str, ...] = ()
    stacked: tuple[str, ...] = ("(^|/)layers/",)
    sampler: Any = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"rank of the adapters is at least 1, not {self.rank}")
        if not self.alpha > 0:
            raise UserError(f"alpha is above 0, but {self.alpha} is not")
        if not self.targets:
            raise UserError("LoRA needs targets: regular expressions on the paths of matrices, such as 'kernel'")
        for name in ("targets", "whole", "stacked"):
            trees.check_syntax(f"family.{name}", getattr(self, name))

    @property
    def runs(self) -> Mapping[str, str]:
        return {BASE: self.base}

    def on(self, others: Mapping[str, Trained], spec: Spec) -> LoRA:
        other = others[BASE]
        if getattr(other.family, "weight_clip", None) is not None:
            raise UserError(f"the run {other.run_dir} clips its weights (weight_clip): LoRA would clip the adapters")
        there, here = (_shapes(other.family, of) for of in (other.spec, spec))
        wrong = [
            f"{path} {there.get(path, 'nothing')} there and {here.get(path, 'nothing')} here"
            for path in there | here
            if here.get(path) != there.get(path)
        ]
        if wrong:
            raise UserError(f"the run {other.run_dir} has learned other data: {'; '.join(wrong)}")
        return dataclasses.replace(self, base=other.family)

    @property
    def plain(self) -> Family:
        return self.base if self.sampler is None else dataclasses.replace(self.base, sampler=self.sampler)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Any]:
        params, variables = jax.eval_shape(lambda: self.base.init(key, example, spec))
        matrices = [(path, leaf) for path, leaf in trees.named_leaves(params) if leaf.ndim >= 2]
        trees.check_patterns("family.targets", self.targets, dict(matrices))
        trees.check_patterns("family.whole", self.whole, params)
        keys = iter(jax.random.split(key, len(matrices)))

        def adapter(stacked: bool, leaf: Any) -> dict[str, jax.Array] | None:
            count, rows, columns = _matrix(leaf.shape, stacked)
            if min(rows, columns) == 0:
                return None
            bound = 1 / math.sqrt(rows)
            lead = (count,) if stacked else ()
            down = jax.random.uniform(next(keys), (*lead, rows, self.rank), minval=-bound, maxval=bound)
            return {DOWN: down, UP: jnp.zeros((*lead, self.rank, columns))}

        def chosen(tree: Any, whole: Any, target: Any, stacked: Any) -> Any:
            if isinstance(tree, Mapping):
                parts = {name: chosen(tree[name], whole[name], target[name], stacked[name]) for name in tree}
                return {name: part for name, part in parts.items() if part is not None} or None
            if whole:
                return jnp.zeros(tree.shape, tree.dtype)  # ``begun`` puts the base's in its place
            return adapter(stacked, tree) if target and tree.ndim >= 2 else None

        told = (trees.matches(rules, params) for rules in (self.whole, self.targets, self.stacked))
        return chosen(params, *told), jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), variables)

    def begun(self, state: State) -> State:
        base = jax.tree.map(jnp.copy, state.frozen[BASE])  # its own buffers: those of the state are donated

        def taken(mine: Any, learned: Any) -> Any:
            if not isinstance(mine, Mapping):
                return learned
            if DOWN in mine:
                return mine
            return {name: taken(mine[name], learned[name]) for name in mine}

        params = taken(state.params, base["params"])
        ema = None if state.ema is None else jax.tree.map(jnp.copy, {name: params[name] for name in state.ema})
        return state.replace(params=params, ema=ema, variables=base["variables"])

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Any, axis: str | None = None
    ) -> tuple[State, Metrics]:
        base = state.frozen[BASE]["params"]
        rules: Any
        if isinstance(optimizer, Mapping):  # of a family with parts
            rules = {
                part: dataclasses.replace(rule, through=lambda params, part=part: self.merged(base[part], params))
                for part, rule in optimizer.items()
            }
        else:
            rules = dataclasses.replace(optimizer, through=lambda params: self.merged(base, params))
        return self.base.train_step(state, batch, optimizer=rules, axis=axis)

    def judged(self, state: State) -> State:
        state = state.for_eval()
        merged = self.merged(state.frozen[BASE]["params"], state.params)
        return self.base.judged(state.replace(params=merged, ema=None, frozen=None))

    def merged(self, base: Params, params: Params) -> Params:
        """The base parameters with those that are trained put in or added."""
        if not isinstance(params, Mapping):
            return params
        if DOWN in params:
            product = params[DOWN] @ params[UP]
            return base + (self.alpha / self.rank) * product.reshape(base.shape)
        return {name: self.merged(base[name], params[name]) if name in params else base[name] for name in base}


def _matrix(shape: tuple[int, ...], stacked: bool) -> tuple[int, int, int]:
    """Layers, rows and columns of what is one matrix, or one a layer; 0 rows of what is none."""
    count, rest = (shape[0], shape[1:]) if stacked else (1, shape)
    return (count, math.prod(rest[:-1]), rest[-1]) if len(rest) >= 2 else (count, 0, 0)


def _shapes(family: Any, spec: Spec) -> dict[str, list[int]]:
    """Of the parameters of a family of such data."""
    params, _ = jax.eval_shape(lambda: family.init(jax.random.key(0), example_of(spec), spec))
    return {path: list(leaf.shape) for path, leaf in trees.named_leaves(params)}
