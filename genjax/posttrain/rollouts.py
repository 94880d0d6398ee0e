"""Responses drawn to prompts, and what a policy and a value function say of each of their tokens."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genjax.families.autoregressive import Autoregressive
from genjax.families.continuation import continued
from genjax.family import Params
from genjax.samplers.decoding import Stops, TokenSampler


class Heard(NamedTuple):
    """What a policy and a value function say of drawn tokens; all float32 [B, N].

    Attributes:
      log_probs: log p(token | those before it).
      values: what was expected before the token.
      entropy: of the distribution that the token is drawn from, in nats.
    """

    log_probs: jax.Array
    values: jax.Array
    entropy: jax.Array


class Rollout(NamedTuple):
    """Prompts and the responses drawn to them.

    Attributes:
      tokens: int32 [B, P + N], prompts padded at the beginning, then responses.
      real: bool [B, P + N], False for padding and for what stands after the end of a response.
      sampled: float32 [B, N], the log-probabilities as the sampler had them.
      log_probs: float32 [B, N], of the policy.
      values: float32 [B, N].
      reference: float32 [B, N], log-probabilities of the model that it began as.
      ended: bool [B], whether the end was drawn.
    """

    tokens: jax.Array
    real: jax.Array
    sampled: jax.Array
    log_probs: jax.Array
    values: jax.Array
    reference: jax.Array
    ended: jax.Array


def heard(family: Autoregressive, params: Params, tokens: jax.Array, real: jax.Array, new_tokens: int) -> Heard:
    """What {"policy", "value"} say of the last ``new_tokens`` of tokens int32 [B, T], ``real`` bool [B, T]."""
    hidden = features(family, params["policy"], tokens, real, new_tokens)
    log_p = _log_softmax(family, params["policy"], hidden)
    value = params["value"]
    read = features(family, value["net"], tokens, real, new_tokens) if "net" in value else hidden
    flat = read.reshape(-1, read.shape[-1]).astype(jnp.float32)
    values = flat @ value["head"]["kernel"].astype(jnp.float32) + value["head"]["bias"].astype(jnp.float32)[None]
    own = _of_tokens(log_p, tokens)
    return Heard(own, values.reshape(own.shape), -(jnp.exp(log_p) * log_p).sum(-1))


def features(family: Autoregressive, params: Params, tokens: jax.Array, real: jax.Array, new_tokens: int) -> jax.Array:
    """Those that the last ``new_tokens`` are predicted from, [B, N, D]; without dropout, as the tokens were drawn."""
    segments = real.astype(jnp.int32)[:, :-1]
    positions = jnp.maximum(jnp.cumsum(segments, 1) - 1, 0)
    module = family.net.module(_vocabulary(params))
    hidden, _ = module.apply({"params": params}, tokens[:, :-1], positions=positions, segment_ids=segments)
    return hidden[:, -new_tokens:]


def _log_softmax(family: Autoregressive, params: Params, hidden: jax.Array) -> jax.Array:
    """[B, N, D] -> [B, N, V]."""
    module = family.net.module(_vocabulary(params))
    return jax.nn.log_softmax(module.apply({"params": params}, hidden, method="logits"))


def _of_tokens(log_p: jax.Array, tokens: jax.Array) -> jax.Array:
    """The log-probabilities [B, N] of the last N of tokens int32 [B, T], of log_p [B, N, V]."""
    return jnp.take_along_axis(log_p, tokens[:, -log_p.shape[1] :, None], 2)[..., 0]


def _vocabulary(params: Params) -> int:
    return len(params["embedding" if "embedding" in params else "table"])


@functools.partial(jax.jit, static_argnums=(0, 5, 7, 8))
def rollout(
    family: Autoregressive,
    params: Params,
    reference: Params,
    prompts: jax.Array,
    asked: jax.Array,
    new_tokens: int,
    key: jax.Array,
    ends: Stops = (),
    pad: int = 0,
) -> Rollout:
    """Responses of up to ``new_tokens`` to prompts, in one compiled loop, and what models say of their tokens.

    Args:
      family: of the policy.
      params: {"policy", "value"}.
      reference: parameters of another policy.
      prompts: int32 [B, P], padded at the beginning.
      asked: bool [B, P], True for real tokens.
      key: of the draws.
      ends: sequences of tokens that end a response.
      pad: what stands behind the end.
    """
    drawing = continued(family, params["policy"], prompts, asked, TokenSampler(new_tokens), key, ends, pad)
    tokens = jnp.concatenate([prompts, drawing.tokens], 1)
    inside = jnp.arange(new_tokens)[None] < drawing.lengths[:, None]
    real = jnp.concatenate([asked, inside], 1)
    own = heard(family, params, tokens, real, new_tokens)
    before = _log_softmax(family, reference, features(family, reference, tokens, real, new_tokens))
    known = _of_tokens(before, tokens)
    return Rollout(tokens, real, drawing.log_probs, own.log_probs, own.values, known, drawing.done)


def from_the_left(tokens: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows without the padding before them: tokens and mask [B, T]."""
    order = jnp.argsort(~real, axis=1, stable=True)
    return jnp.take_along_axis(tokens, order, 1), jnp.take_along_axis(real, order, 1)
