"""Low-rank adapters: only products of two thin matrices, added to those of a trained model, are
trained.

LoRA: Hu et al., arXiv 2106.09685.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks, trees
from genjax.checks import Component
from genjax.errors import UserError
from genjax.family import Params

DOWN, UP = "lora_a", "lora_b"  # the names of A and B
LEARNED = "lora_learned"  # and of W, beside which they stand


@checks.frozen
class Adapters:
    """Low-rank adapters: a trained matrix W [m, n] becomes W + (alpha / rank) A B.

    A, [m, rank], starts random and B, [rank, n], at 0, so that the model does not change at first.
    The kernel of a convolution [h, w, in, out] is one matrix [h w in, out].

    Attributes:
      rank: rank of the adapters.
      alpha: the adapters are scaled by alpha / rank, so that the learning rate need not change with
        the rank.
      targets: regular expressions on parameter paths; matching matrices get adapters.
      whole: regular expressions on paths of parameters that are trained directly, such as norms or
        a head.
      stacked: regular expressions on paths of layers stacked by a scan, each of which gets its own
        adapters.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("kernel",)
    whole: tuple[str, ...] = ()
    stacked: tuple[str, ...] = ("(^|/)layers/",)

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "rank")
        checks.above(self, 0, "alpha")
        checks.some(self, "targets")
        for name in ("targets", "whole", "stacked"):
            trees.check_syntax(f"adapters.{name}", getattr(self, name))

    def init(self, key: jax.Array, params: Params) -> Params:
        """Create the trainable parameters for ``params``, of which only the shapes matter: a
        subtree of their paths.

        Raises:
          UserError: a pattern matches nothing.
        """
        matrices = [(path, leaf) for path, leaf in trees.named_leaves(params) if leaf.ndim >= 2]
        trees.check_patterns("adapters.targets", self.targets, dict(matrices))
        trees.check_patterns("adapters.whole", self.whole, params)
        keys = iter(jax.random.split(key, len(matrices)))

        def adapter(stacked: bool, leaf: Any) -> dict[str, jax.Array] | None:
            count, rows, columns = _matrix(leaf.shape, stacked)
            if min(rows, columns) == 0:
                return None
            bound = 1 / math.sqrt(rows)
            lead = (count,) if stacked else ()
            down = jax.random.uniform(
                next(keys), (*lead, rows, self.rank), minval=-bound, maxval=bound
            )
            return {DOWN: down, UP: jnp.zeros((*lead, self.rank, columns))}

        def chosen(tree: Any, whole: Component, target: Component, stacked: Any) -> Any:
            if isinstance(tree, Mapping):
                parts = {
                    name: chosen(tree[name], whole[name], target[name], stacked[name])
                    for name in tree
                }
                return {name: part for name, part in parts.items() if part is not None} or None
            if whole:
                # ``start_from`` replaces this by the learned parameter.
                return jnp.zeros(tree.shape, tree.dtype)
            return adapter(stacked, tree) if target and tree.ndim >= 2 else None

        found = chosen(
            params,
            *(
                trees.match_paths(rules, params)
                for rules in (self.whole, self.targets, self.stacked)
            ),
        )
        if found is None:
            raise UserError(
                f"adapters.targets must match a matrix, but {', '.join(self.targets)} match none",
                "adapters.targets",
            )
        return found

    def start_from(self, mine: Params, learned: Params) -> Params:
        """Replace the parameters from ``init`` that are trained directly by the learned ones."""
        if not isinstance(mine, Mapping):
            return jnp.copy(learned)  # a copy, as the buffers of the state are donated
        return (
            mine
            if DOWN in mine
            else {name: self.start_from(mine[name], learned[name]) for name in mine}
        )

    def merge(self, learned: Params, mine: Params) -> Params:
        """Merge the trained parameters into the learned ones."""
        if not isinstance(mine, Mapping):
            return mine
        if DOWN in mine:
            return learned + (self.alpha / self.rank) * (mine[DOWN] @ mine[UP]).reshape(
                learned.shape
            )
        return {
            name: self.merge(learned[name], mine[name]) if name in mine else learned[name]
            for name in learned
        }

    def merge_apart(self, learned: Params, mine: Params) -> Params:
        """Merge as ``merge`` does, but put W, A and (alpha / rank) B beside each ``kernel``, for
        ``apply_apart``. What is not used of them costs nothing in a compiled step.
        """
        if not isinstance(mine, Mapping) or DOWN in mine:
            return self.merge(learned, mine)
        merged = {
            name: self.merge_apart(learned[name], mine[name]) if name in mine else learned[name]
            for name in learned
        }
        kernel = mine.get("kernel")
        if isinstance(kernel, Mapping) and DOWN in kernel:
            up = (self.alpha / self.rank) * kernel[UP]
            merged |= {LEARNED: learned["kernel"], DOWN: kernel[DOWN], UP: up}
        return merged


def apply_apart() -> contextlib.AbstractContextManager[None]:
    """Return a context in which dense layers with parameters of ``merge_apart`` compute x W + (x A)
    B instead of x (W + A B).

    Its gradient needs no product of the size of W, which is a third of the products of a step.
    """
    return nn.intercept_methods(_apply_dense)


def _apply_dense(
    call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    layer = context.module
    if (
        not isinstance(layer, nn.Dense)
        or context.method_name != "__call__"
        or not layer.has_variable("params", LEARNED)
    ):
        return call(*args, **kwargs)
    params = layer.variables["params"]
    bias = params["bias"] if layer.use_bias else None
    (x,) = args
    x, learned, down, up, bias = nn.dtypes.promote_dtype(
        x, params[LEARNED], params[DOWN], params[UP], bias, dtype=layer.dtype
    )
    flat = x.reshape(-1, x.shape[-1])
    y = flat @ learned + (flat @ down) @ up
    return (y if bias is None else y + bias[None]).reshape(*x.shape[:-1], -1)


def _matrix(shape: tuple[int, ...], stacked: bool) -> tuple[int, int, int]:
    """Return the layers, rows and columns of a matrix, or a stack of one per layer; 0 rows if it is
    none.
    """
    count, rest = (shape[0], shape[1:]) if stacked else (1, shape)
    return (count, math.prod(rest[:-1]), rest[-1]) if len(rest) >= 2 else (count, 0, 0)


def init_trainable(adapters: Adapters | None, key: jax.Array, params: Params) -> Params:
    """Return the trainable parameters of a model: its own, or those of adapters."""
    return params if adapters is None else adapters.init(key, params)


def copy_learned(adapters: Adapters | None, mine: Params, learned: Params) -> Params:
    """Return the trainable parameters at step 0, for learned parameters, in new buffers."""
    return (
        jax.tree.map(jnp.copy, learned) if adapters is None else adapters.start_from(mine, learned)
    )


def merge_trainable(adapters: Adapters | None, learned: Params, mine: Params) -> Params:
    """Return the model's parameters, given the trained ones and those that it started with."""
    return mine if adapters is None else adapters.merge(learned, mine)
