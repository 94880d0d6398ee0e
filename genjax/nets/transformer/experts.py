"""A mixture of experts: feed-forward layers of which each token takes the few that its router
chooses.

Shazeer et al., arXiv 1701.06538; Switch: Fedus et al., arXiv 2101.03961; GShard: Lepikhin et al.,
arXiv 2006.16668; Mixtral: Jiang et al., arXiv 2401.04088. No token is dropped: tokens are sorted by
expert, and each expert multiplies as many as chose it (MegaBlocks, arXiv 2211.15841).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.machine.target import COUNTED, map_experts, target_platform
from genjax.nets.transformer.feed_forward import GATED, Activation, FeedForward, activate
from genjax.nets.transformer.grouped_product import multiply_groups

ROUTING = "routing"  # the collection that layers of experts sow a ``Routing`` into


@checks.frozen
class Experts:
    """Hyper-parameters of layers of experts, which take the place of the feed-forward layers.

    A token's router is a softmax over all experts; of the ``active`` most likely, the outputs are
    added with the probabilities as weights. The losses are added to those of ``Autoregressive``,
    ``CodePrior``, ``NextScale`` and ``MaskedLM`` in training; each is a mean over tokens and
    layers, and padding does not count.

    Attributes:
      count: number of experts, E. Several devices may share them: ``devices.tensor`` must divide
        it.
      active: number of experts that a token takes, at most ``count``.
      hidden: width of each expert's hidden layer; None for that of the net.
      renormalise: whether the weights of the chosen experts are divided by their sum, as in
        Mixtral, or are the plain probabilities, as in Switch.
      shared: hidden width of one more expert that every token takes with weight 1 (DeepSeekMoE, Dai
        et al., arXiv 2401.06066); 0 for none.
      shared_gate: whether the shared expert's weight is the sigmoid of a learned product instead,
        as in Qwen2-MoE.
      dense: numbers of the layers, from 0, that keep a plain feed-forward layer.
      balance: weight of the load-balancing loss E sum_i f_i p_i, f_i being the share of the choices
        that fell on expert i in the whole batch, p_i its mean probability. It is 1 if loads are
        even, at most E. (Switch, equations 4 to 6.)
      z_loss: weight of the squared log-sum-exp of the router's logits (ST-MoE, Zoph et al., arXiv
        2202.08906).
    """

    count: int = 8
    active: int = 2
    hidden: int | None = None
    renormalise: bool = True
    shared: int = 0
    shared_gate: bool = False
    dense: tuple[int, ...] = ()
    balance: float = 0.01
    z_loss: float = 0.001

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "count", "active", "hidden")
        checks.at_least(self, 0, "shared", "dense", "balance", "z_loss")
        if self.active > self.count:
            raise UserError(
                f"active must be at most {self.count} (count), got {self.active}", "active"
            )
        if self.shared_gate and not self.shared:
            raise UserError("shared must be above 0 with shared_gate, got 0", "shared")


class Routing(NamedTuple):
    """What the router of a layer decided; axes before B, if any, are layers stacked by a scan.

    Attributes:
      probabilities: float32 [..., B, T, E].
      chosen: int32 [..., B, T, K], the experts of each token, the likeliest first.
      log_total: float32 [..., B, T], log-sum-exp of the logits.
    """

    probabilities: jax.Array
    chosen: jax.Array
    log_total: jax.Array


class Side(NamedTuple):
    """What a net adds to the loss of a batch.

    Attributes:
      added: float32 [B, T], what each token adds.
      measures: float32 [B, T] each, or [] for those of the whole batch, by name.
    """

    added: jax.Array
    measures: Mapping[str, jax.Array]


class Load(NamedTuple):
    """Measures of the routing of each token, mean over layers; float32 [B, T] but for ``entropy``.

    Attributes:
      balance: E sum_i f_i p_i with the token's own p; its mean over tokens is the loss.
      z: squared log-sum-exp of the logits.
      entropy: of the shares f, over log E: 1 if loads are even, 0 if one expert takes all; [].
    """

    balance: jax.Array
    z: jax.Array
    entropy: jax.Array


def measure_load(sown: Mapping[str, Any], real: jax.Array, axis: str | None = None) -> Load:
    """Measure how even the loads are.

    The shares f are those of the whole batch over all devices (Qiu et al., arXiv 2501.11873): with
    those of a device, the loss would ask for even loads of every few texts.

    Args:
      sown: the collection ``ROUTING``, with at least one layer.
      real: [B, T], 1 for tokens that count, 0 for padding.
      axis: mapped axis over whose devices the batch is spread, if any.
    """
    found = jax.tree.leaves(sown, is_leaf=lambda x: isinstance(x, Routing))
    layers = [_measure_layer(routing, real, axis) for routing in found]
    counts = [x.probabilities.shape[0] if x.probabilities.ndim == 4 else 1 for x in found]
    return jax.tree.map(lambda *parts: sum(parts) / sum(counts), *layers)


def _measure_layer(routing: Routing, real: jax.Array, axis: str | None) -> Load:
    """Return the sums over the stacked layers of a ``Routing``."""
    experts = routing.probabilities.shape[-1]
    hot = jax.nn.one_hot(routing.chosen, experts).sum(-2)  # [..., B, T, E]
    taken = jnp.einsum("...bte,bt->...e", hot, real.astype(jnp.float32))
    if axis is not None:
        taken = jax.lax.psum(taken, axis)
    share = taken / jnp.maximum(taken.sum(-1, keepdims=True), 1)
    balance = experts * jnp.einsum("...bte,...e->...bt", routing.probabilities, share)
    surprise = -jnp.log(jnp.where(share > 0, share, 1))
    entropy = (share * surprise).sum(-1) / jnp.log(max(experts, 2))
    z = jnp.square(routing.log_total)
    balance, z = (x.reshape(-1, *real.shape).sum(0) for x in (balance, z))
    return Load(balance, z, entropy.sum())


class ExpertLayer(nn.Module):
    """A router and its experts: [B, T, C] -> the same.

    The parameters are ``router/kernel`` [C, E], ``experts/up/kernel`` [E, C, H] and so on, with the
    experts first, and those of ``shared``, a ``FeedForward``.

    Attributes:
      experts: hyper-parameters.
      hidden: hidden width of an expert, H.
      activation: activation, see ``FeedForward``.
      bias: whether the experts' layers have biases.
      kernel_init: initializer of the first layers.
      last_init: initializer of the last layers.
    """

    experts: Experts
    hidden: int
    activation: Activation
    bias: bool
    kernel_init: nn.initializers.Initializer
    last_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        options, flat = self.experts, x.reshape(-1, x.shape[-1])
        gates, routing = self._route(x)
        self.sow(ROUTING, "layer", routing, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        layers = _ExpertKernels(
            options.count,
            self.hidden,
            self.activation in GATED,
            self.bias,
            self.kernel_init,
            self.last_init,
            name="experts",
        )(x)
        y = map_experts(
            functools.partial(add_experts, self.activation), (x, gates, routing.chosen), layers
        )
        if not options.shared:
            return y
        every = FeedForward(
            options.shared,
            self.activation,
            self.bias,
            self.kernel_init,
            self.last_init,
            name="shared",
        )(flat)
        if options.shared_gate:
            gate = nn.Dense(
                1, use_bias=False, dtype=x.dtype, kernel_init=self.kernel_init, name="shared_gate"
            )
            every = every * jax.nn.sigmoid(gate(flat))
        return y + every.reshape(x.shape)

    def _route(self, x: jax.Array) -> tuple[jax.Array, Routing]:
        """Return the weights [B, T, K] of each token's experts, and how they were chosen."""
        options = self.experts
        router = nn.Dense(
            options.count,
            use_bias=False,
            dtype=jnp.float32,  # small logits decide between experts (Switch, section 2.4)
            kernel_init=self.kernel_init,
            name="router",
        )
        logits = router(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], options.count)
        log_total = jax.nn.logsumexp(logits, -1)
        probabilities = jnp.exp(logits - log_total[..., None])
        weights, chosen = jax.lax.top_k(probabilities, options.active)
        if options.renormalise:
            weights = weights / weights.sum(-1, keepdims=True)
        return weights.astype(x.dtype), Routing(probabilities, chosen, log_total)


class _ExpertKernels(nn.Module):
    """The parameters of the experts, by layer: {"up": {"kernel": [E, C, H], "bias": [E, H]}, ...}
    in the dtype of the input.
    """

    count: int
    hidden: int
    gated: bool
    bias: bool
    kernel_init: nn.initializers.Initializer
    last_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, dict[str, jax.Array]]:
        width = x.shape[-1]
        shapes = {"up": (width, self.hidden)} | (
            {"gate": (width, self.hidden)} if self.gated else {}
        )
        return {
            name: _Kernels(
                (self.count, *shape),
                self.bias,
                self.last_init if name == "down" else self.kernel_init,
                x.dtype,
                name=name,
            )()
            for name, shape in (shapes | {"down": (self.hidden, width)}).items()
        }


class _Kernels(nn.Module):
    """The kernels [E, D, H] and biases [E, H] of one layer."""

    shape: tuple[int, ...]
    bias: bool
    initializer: nn.initializers.Initializer
    dtype: Any

    @nn.compact
    def __call__(self) -> dict[str, jax.Array]:
        count, _, outputs = self.shape
        found = {"kernel": self.param("kernel", self.initializer, self.shape)}
        if self.bias:
            found["bias"] = self.param("bias", nn.initializers.zeros, (count, outputs))
        return {name: value.astype(self.dtype) for name, value in found.items()}


def add_experts(
    activation: Activation,
    rows: tuple[jax.Array, jax.Array, jax.Array],
    layers: Mapping[str, Mapping[str, jax.Array]],
    first: jax.Array | int = 0,
) -> jax.Array:
    """Add up the outputs of each token's experts, times their weights: [B, T, C] -> the same.

    Args:
      activation: activation of the experts.
      rows: tokens [B, T, C], weights [B, T, K] and experts int32 [B, T, K].
      layers: parameters of some of the experts, see ``ExpertLayer``; the others give 0.
      first: number of the first of them.
    """
    x, weights, chosen = rows
    count, active = len(layers["down"]["kernel"]), chosen.shape[-1]
    own = chosen.reshape(-1) - first  # [N K]
    own = jnp.where((own >= 0) & (own < count), own, count)
    order = jnp.argsort(own)  # stable
    place = jnp.argsort(order)
    sizes = jnp.bincount(own, length=count)
    sorted_rows = _sort_rows(active, x.reshape(-1, x.shape[-1]), order, place)

    def apply(name: str, y: jax.Array) -> jax.Array:
        y = multiply_groups(y, layers[name]["kernel"], sizes)
        if "bias" not in layers[name]:
            return y
        bias = layers[name]["bias"].at[own[order]].get(mode="fill", fill_value=0)
        return y + bias

    y = apply("up", sorted_rows)
    y = (
        activate(activation, apply("gate", sorted_rows)) * y
        if "gate" in layers
        else activate(activation, y)
    )
    y = _restore_rows(apply("down", y), order, place).reshape(-1, active, x.shape[-1])
    return jnp.einsum("nkc,nk->nc", y, weights.reshape(-1, active)).reshape(x.shape)


def _sort_rows(active: int, x: jax.Array, order: jax.Array, place: jax.Array) -> jax.Array:
    """Repeat each row [N, C] ``active`` times and sort: [N K, C]."""
    return _sort(active, x, order, place) if _by_hand() else x[order // active]


def _restore_rows(y: jax.Array, order: jax.Array, place: jax.Array) -> jax.Array:
    """Bring sorted rows [N K, C] back into the order of the tokens."""
    return _restore(y, order, place) if _by_hand() else y[place]


def _by_hand() -> bool:
    """Return whether gradients written by hand are used, which have a reverse mode only."""
    return target_platform() != COUNTED


# The gradient of a gather is a scatter, which is slow; that of a permutation is a gather, too.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sort(active: int, x: jax.Array, order: jax.Array, place: jax.Array) -> jax.Array:
    return x[order // active]


_sort.defvjp(
    lambda active, x, order, place: (x[order // active], place),
    lambda active, place, slope: (
        slope[place].reshape(-1, active, slope.shape[-1]).sum(1),
        None,
        None,
    ),
)


@jax.custom_vjp
def _restore(y: jax.Array, order: jax.Array, place: jax.Array) -> jax.Array:
    return y[place]


_restore.defvjp(
    lambda y, order, place: (y[place], order), lambda order, slope: (slope[order], None, None)
)
