"""Per-example losses: arrays [B, ...] in, [B] or [B, Z] out, in nats, never reduced over the batch.

Those of PPO are per token, [B, T].
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp


def _sum_example(values: jax.Array) -> jax.Array:
    # A product with ones: XLA's CPU back end would fuse a sum over [H, W, C] with its terms and not
    # vectorise a short last axis. Summing a binary cross-entropy over 128 x 28x28x1 took 7 ms that
    # way, and 0.4 ms as a product.
    flat = values.reshape(values.shape[0], -1)
    return jnp.dot(flat, jnp.ones(flat.shape[1], flat.dtype), precision="highest")


def bernoulli_nll(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return -log p of targets under independent Bernoullis; the cross-entropy for targets between
    0 and 1.
    """
    softplus = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return _sum_example(softplus - targets * logits)


def gaussian_nll(mean: jax.Array, log_variance: jax.Array, targets: jax.Array) -> jax.Array:
    """Return -log density of targets under independent Gaussians; ``log_variance`` broadcasts."""
    squared = jnp.square(targets - mean) * jnp.exp(-log_variance)
    return _sum_example(0.5 * (squared + log_variance + math.log(2 * math.pi)))


def discretized_logistic_nll(
    mean: jax.Array, log_scale: jax.Array, targets: jax.Array, levels: int
) -> jax.Array:
    """Return -log P of targets on ``levels`` evenly spaced values in [-1, 1]: logistics integrated
    over bins, open at both ends.

    ``log_scale`` broadcasts. The difference of two sigmoids is s(a) - s(b) = s(a) s(-b) (1 - exp(b
    - a)), which is stable however far in a tail a bin is.
    """
    half = 1 / (levels - 1)
    scale = jnp.exp(jnp.maximum(log_scale, -7.0))  # narrower than a bin, where the gradient dies
    centred = targets - mean
    upper, lower = (centred + half) / scale, (centred - half) / scale
    lowest, highest = targets < -1 + half, targets > 1 - half
    width = jnp.log(-jnp.expm1(-2 * half / scale))
    log_p = (
        jnp.where(highest, 0.0, jax.nn.log_sigmoid(upper))
        + jnp.where(lowest, 0.0, jax.nn.log_sigmoid(-lower))
        + jnp.where(lowest | highest, 0.0, width)
    )
    return _sum_example(-log_p)


def gaussian_kl(
    mean: jax.Array,
    log_variance: jax.Array,
    prior_mean: jax.Array | float = 0.0,
    prior_log_variance: jax.Array | float = 0.0,
) -> jax.Array:
    """Return the closed-form KL(N(mean, exp(log_variance)) || prior) of each dimension, [B, Z]; the
    prior is N(0, 1) by default.
    """
    squared = jnp.square(mean - prior_mean) * jnp.exp(-jnp.asarray(prior_log_variance))
    return 0.5 * (
        squared + jnp.exp(log_variance - prior_log_variance) - 1 - log_variance + prior_log_variance
    )


def cross_entropy(logits: jax.Array, label: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Return -log p(label) [B] under softmax(logits [B, K]).

    With ``smoothing`` the target keeps 1 - smoothing and spreads the rest evenly over all classes,
    including its own (Szegedy et al., arXiv 1512.00567). A label out of range gives NaN, so that it
    is noticed.
    """
    log_p = jax.nn.log_softmax(logits)
    hot = label[:, None] == jnp.arange(logits.shape[-1])[None]
    nll = jnp.where(hot.any(-1), -jnp.where(hot, log_p, 0.0).sum(-1), jnp.nan)
    return nll if smoothing == 0 else (1 - smoothing) * nll - smoothing * log_p.mean(-1)


def preference_loss(margin: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Return -log sigmoid(margin) [B], the loss of preferring the one of two whose score is higher
    by ``margin`` [B].

    The model is that of Bradley and Terry (1952). ``smoothing`` is the assumed share of wrong
    choices.
    """
    nll = -jax.nn.log_sigmoid(margin)
    return (
        nll if smoothing == 0 else (1 - smoothing) * nll - smoothing * jax.nn.log_sigmoid(-margin)
    )


def chunked_cross_entropy(
    hidden: jax.Array,
    kernel: jax.Array,
    targets: jax.Array,
    *,
    bias: jax.Array | None = None,
    weights: jax.Array | None = None,
    softcap: float | None = None,
    chunk: int = 1024,
) -> tuple[jax.Array, jax.Array]:
    """Return -log p(target) [N], and the log-sum-exp of each token's logits [N]; reverse mode only.

    Logits are hidden kernel^T + bias, bounded by softcap * tanh(logits / softcap). They are in
    memory for ``chunk`` tokens at a time, and computed again for the gradient. Products are in the
    dtype of ``hidden``, sums in float32. The square of the second result, weighted and averaged, is
    the z-loss (Chowdhery et al., arXiv 2204.02311).

    Args:
      hidden: [N, D].
      kernel: [V, D], such as the embedding table.
      targets: int [N]; a target out of range gives NaN.
      bias: [V]; None for none.
      weights: [N]; tokens with weight 0 are skipped and give 0, others are not scaled. None for
          all.
      chunk: tokens per chunk.
    """
    n = len(hidden)
    targets = targets.astype(jnp.int32)
    if n <= chunk and weights is None:
        logits = _apply_softcap(_logits(hidden, kernel, bias), softcap)
        return cross_entropy(logits, targets), jax.nn.logsumexp(logits, -1)
    size = min(chunk, n)
    count = jnp.asarray(n, jnp.int32)
    if weights is not None:  # tokens that count come first; the loop stops after them
        order = jnp.argsort(weights == 0, stable=True)
        back = jnp.zeros_like(order).at[order].set(jnp.arange(n, dtype=order.dtype))
        hidden, targets, count = hidden[order], targets[order], (weights != 0).sum(dtype=jnp.int32)
    hidden = jnp.pad(hidden, ((0, -n % size), (0, 0)))
    nll, log_total = _chunked(
        softcap, size, hidden, kernel, bias, jnp.pad(targets, (0, -n % size)), count
    )
    return (nll[:n], log_total[:n]) if weights is None else (nll[back], log_total[back])


def multiply(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Compute the einsum ``spec`` of two arrays of one dtype, with sums and result in float32.

    In bfloat16, the products of its gradient are in bfloat16, too, and it has reverse mode only:
    JAX's own gradient would widen both arrays to float32, whose products are many times slower on
    a GPU. Each letter must stand in two of the three terms.
    """
    if jnp.float32 in (left.dtype, right.dtype):
        return jnp.einsum(spec, left, right, preferred_element_type=jnp.float32)
    return _multiply(spec, left, right)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _multiply(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(spec, left, right, preferred_element_type=jnp.float32)


def _multiply_fwd(spec: str, left: jax.Array, right: jax.Array) -> tuple[jax.Array, Any]:
    return _multiply(spec, left, right), (left, right)


def _multiply_bwd(
    spec: str, saved: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    left, right = saved
    inputs, out = spec.split("->")
    a, b = inputs.split(",")
    slope = slope.astype(left.dtype)
    return (
        jnp.einsum(f"{out},{b}->{a}", slope, right),
        jnp.einsum(f"{out},{a}->{b}", slope, left),
    )


_multiply.defvjp(_multiply_fwd, _multiply_bwd)


def _logits(hidden: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Map [C, D], [V, D], [V] -> float32 [C, V]."""
    logits = multiply("nd,vd->nv", hidden, kernel.astype(hidden.dtype))
    return logits if bias is None else logits + bias.astype(jnp.float32)[None]


def _apply_softcap(logits: jax.Array, softcap: float | None) -> jax.Array:
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _chunked(
    softcap: float | None,
    size: int,
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    targets: jax.Array,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Compute both results for the first ``count`` of N tokens, 0 for the others; N is a multiple
    of ``size``.
    """

    def one(i: jax.Array, results: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, wanted = (jax.lax.dynamic_slice_in_dim(a, i * size, size) for a in (hidden, targets))
        logits = _apply_softcap(_logits(rows, kernel, bias), softcap)
        log_total = jax.nn.logsumexp(logits, -1)
        own = logits.at[jnp.arange(size), wanted].get(
            mode="fill", fill_value=jnp.nan, wrap_negative_indices=False
        )
        real = i * size + jnp.arange(size) < count
        new = (jnp.where(real, x, 0.0) for x in (log_total - own, log_total))
        a, b = (
            jax.lax.dynamic_update_slice_in_dim(all_, x, i * size, 0)
            for all_, x in zip(results, new, strict=True)
        )
        return a, b

    zeros = jnp.zeros(len(hidden), jnp.float32)
    return jax.lax.fori_loop(0, -(-count // size), one, (zeros, zeros))


def _chunked_fwd(
    softcap: float | None, size: int, *inputs: Any
) -> tuple[tuple[jax.Array, jax.Array], Any]:
    results = _chunked(softcap, size, *inputs)
    return results, (*inputs, results[1])


def _chunked_bwd(
    softcap: float | None, size: int, saved: Any, cotangents: tuple[jax.Array, jax.Array]
) -> Any:
    hidden, kernel, bias, targets, count, log_total = saved
    own, total = cotangents

    def one(i: jax.Array, grads: Any) -> Any:
        d_hidden, d_kernel, d_bias = grads
        rows, wanted, log_z, g, z = (
            jax.lax.dynamic_slice_in_dim(a, i * size, size)
            for a in (hidden, targets, log_total, own, total)
        )
        real = i * size + jnp.arange(size) < count
        g, z = jnp.where(real, g, 0.0), jnp.where(real, z, 0.0)
        logits = _apply_softcap(_logits(rows, kernel, bias), softcap)
        hot = wanted[:, None] == jnp.arange(len(kernel))[None]
        slope = jnp.exp(logits - log_z[:, None]) * (g + z)[:, None] - jnp.where(
            hot, g[:, None], 0.0
        )
        slope = jnp.where(real[:, None], slope, 0.0)
        if softcap is not None:
            slope = slope * (1 - jnp.square(logits / softcap))
        if bias is not None:
            d_bias = d_bias + slope.sum(0)
        slope = slope.astype(hidden.dtype)
        d_rows = jnp.einsum("nv,vd->nd", slope, kernel.astype(hidden.dtype))
        d_kernel = d_kernel + jnp.einsum(
            "nv,nd->vd", slope, rows, preferred_element_type=jnp.float32
        )
        return jax.lax.dynamic_update_slice_in_dim(d_hidden, d_rows, i * size, 0), d_kernel, d_bias

    d_bias = None if bias is None else jnp.zeros(bias.shape, jnp.float32)
    start = jnp.zeros_like(hidden), jnp.zeros(kernel.shape, jnp.float32), d_bias
    d_hidden, d_kernel, d_bias = jax.lax.fori_loop(0, -(-count // size), one, start)
    d_bias = None if bias is None or d_bias is None else d_bias.astype(bias.dtype)
    return d_hidden, d_kernel.astype(kernel.dtype), d_bias, None, None


_chunked.defvjp(_chunked_fwd, _chunked_bwd)


def gae(
    rewards: jax.Array, values: jax.Array, mask: jax.Array, gamma: float, lam: float
) -> tuple[jax.Array, jax.Array]:
    """Compute generalised advantage estimates and the returns that values should predict, [B, T]
    each.

    Schulman et al., arXiv 1506.02438. An episode ends after its last step, with value 0.

    Args:
      rewards: [B, T], rewards of the steps.
      values: [B, T], values before the steps.
      mask: [B, T], 1 for the steps of an episode, 0 after it, where both results are 0.
      gamma: discount per step.
      lam: lambda; 0 trusts the values, 1 the rewards.
    """

    def one(
        carry: tuple[jax.Array, jax.Array], step: Any
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        advantage, following = carry
        reward, value, real = step
        advantage = real * (reward + gamma * following - value + gamma * lam * advantage)
        return (advantage, real * value), advantage

    nothing = jnp.zeros_like(rewards[:, 0])
    steps = (rewards.T, values.T, mask.T)
    advantages = jax.lax.scan(one, (nothing, nothing), steps, reverse=True)[1].T
    return advantages, (advantages + values) * mask


def whiten(x: jax.Array, mask: jax.Array, shift_mean: bool = True) -> jax.Array:
    """Scale x of any shape to standard deviation 1 where ``mask`` is 1, and shift it to mean 0
    unless ``shift_mean`` is False.

    The variance is the biased one. Masked entries become 0.
    """
    count = jnp.maximum(mask.sum(), 1)
    mean = (x * mask).sum() / count
    centred = (x - mean) * mask
    scaled = centred * jax.lax.rsqrt(jnp.square(centred).sum() / count + 1e-8)
    return scaled if shift_mean else scaled + mean * mask


def clipped_policy_loss(
    log_ratio: jax.Array, advantages: jax.Array, clip: float
) -> tuple[jax.Array, jax.Array]:
    """Return PPO's loss of each action (Schulman et al., arXiv 1707.06347, equation 7), and 1 where
    it is clipped.

    Args:
      log_ratio: log p(action) minus its value when the action was drawn.
      advantages: advantages of the actions.
      clip: how far the ratio may be from 1 before the loss is clipped.
    """
    ratio = jnp.exp(log_ratio)
    plain, held = -advantages * ratio, -advantages * jnp.clip(ratio, 1 - clip, 1 + clip)
    return jnp.maximum(plain, held), (held > plain).astype(jnp.float32)


def clipped_value_loss(
    values: jax.Array, old: jax.Array, returns: jax.Array, clip: float
) -> jax.Array:
    """Return half the squared error of each value, or that of the value clipped to within ``clip``
    of the ``old`` one, if larger.
    """
    held = jnp.clip(values, old - clip, old + clip)
    return 0.5 * jnp.maximum(jnp.square(values - returns), jnp.square(held - returns))


def kl_k1(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Return the k1 estimate of KL(p || q) for draws from p: log p - log q, unbiased, which may be
    negative (Schulman, 2020).
    """
    return log_p - log_q


def kl_k3(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Return the k3 estimate of KL(p || q) for draws from p: q / p - 1 - log(q / p), unbiased and
    never negative (Schulman, 2020).
    """
    return jnp.expm1(log_q - log_p) - (log_q - log_p)


def adapt_kl_coefficient(
    coefficient: jax.Array | float,
    kl: jax.Array | float,
    target: float,
    examples: jax.Array | float,
    horizon: float,
) -> jax.Array:
    """Adapt the coefficient of a KL penalty to bring the KL to ``target`` (Ziegler et al., arXiv
    1909.08593).

    Args:
      coefficient: coefficient that gave this KL.
      kl: mean KL over examples.
      target: target KL, above 0.
      examples: number of examples seen with this coefficient.
      horizon: number of examples over which the coefficient changes by the relative error, clipped
          to 0.2.
    """
    error = jnp.clip(kl / target - 1, -0.2, 0.2)
    return coefficient * (1 + error * examples / horizon)
