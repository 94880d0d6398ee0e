"""Draws responses to prompts, and scores their tokens under a model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.checks import Component
from genjax.data.chat.template import ends_of
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.continuation import continue_prompts
from genjax.families.rewards import decode_rows, extract_prompts, score_texts
from genjax.family import Batch, Params, Trained
from genjax.samplers.tokens.decoding import Prompts, Stops, TokenSampler

LOGITS = 2**26  # logits in memory at once, a quarter of a gigabyte
MOST_AGREEMENT = 0.95  # above it, a policy gives all prompts the same answer


class Rollout(NamedTuple):
    """Prompts and the responses drawn to them.

    Attributes:
      tokens: int32 [B, P + N], prompts left-padded, then responses.
      real: bool [B, P + N], False for padding and after the end of a response.
      log_probs: float32 [B, N], as computed by the sampler, in nats.
      ended: bool [B], whether an end token was drawn.
    """

    tokens: jax.Array
    real: jax.Array
    log_probs: jax.Array
    ended: jax.Array


def shape_rollout(rows: int, prompt: int, new_tokens: int) -> Rollout:
    """Return the shapes of ``rows`` rollouts with prompts padded to ``prompt`` tokens."""

    def make() -> Rollout:
        whole = (rows, prompt + new_tokens)
        scores, ended = jnp.zeros((rows, new_tokens)), jnp.zeros(rows, bool)
        return Rollout(jnp.zeros(whole, jnp.int32), jnp.zeros(whole, bool), scores, ended)

    shapes: Rollout = jax.eval_shape(make)
    return shapes


class TokenScores(NamedTuple):
    """Scores of drawn tokens under a model, float32.

    Attributes:
      log_probs: log p(token | earlier tokens) in nats, [B, N].
      entropy: entropy of the next-token distribution in nats, [B, N].
      features: last hidden states, [B, N, D], in the dtype of the parameters.
    """

    log_probs: jax.Array
    entropy: jax.Array
    features: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 4, 6, 7))
def draw_rollout(
    family: Autoregressive,
    params: Params,
    prompts: jax.Array,
    prompt_mask: jax.Array,
    new_tokens: int,
    key: jax.Array,
    ends: Stops = (),
    pad: int = 0,
) -> Rollout:
    """Draw responses of up to ``new_tokens`` to prompts, at temperature 1 without filters, in one
    compiled loop.

    Args:
      family: family of the policy.
      params: parameters of the policy.
      prompts: int32 [B, P], left-padded.
      prompt_mask: bool [B, P], False for padding.
      key: random key.
      ends: token sequences that end a response.
      pad: token after the end.
    """
    drawn = continue_prompts(
        family, params, Prompts(prompts, prompt_mask), TokenSampler(new_tokens), key, ends, pad
    )
    inside = jnp.arange(new_tokens)[None] < drawn.lengths[:, None]
    tokens, real = (
        jnp.concatenate([prompts, drawn.tokens], 1),
        jnp.concatenate([prompt_mask, inside], 1),
    )
    return Rollout(tokens, real, drawn.log_probs, drawn.done)


def score_tokens(
    family: Autoregressive, params: Params, tokens: jax.Array, real: jax.Array, new_tokens: int
) -> TokenScores:
    """Score the last ``new_tokens`` of tokens int32 [B, T]; ``real`` bool [B, T] is False for
    padding.

    Large logits are computed for some rows at a time, and again for the gradient.
    """
    found = compute_features(family, params, tokens, real, new_tokens)
    module = family.net.module(_vocabulary(params))

    def score_rows(rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, drawn = rows
        logits = module.apply({"params": params}, hidden, method="logits")
        log_total = jax.nn.logsumexp(logits, -1)
        hot = drawn[..., None] == jnp.arange(logits.shape[-1])[None, None]
        own = jnp.where(hot, logits, 0.0).sum(-1) - log_total
        return own, log_total - (jnp.exp(logits - log_total[..., None]) * logits).sum(-1)

    rows = found, tokens[:, -new_tokens:]
    at_once = max(1, LOGITS // (new_tokens * _vocabulary(params)))
    if at_once >= len(tokens):
        return TokenScores(*score_rows(rows), found)
    each = jax.checkpoint(lambda row: score_rows(jax.tree.map(lambda x: x[None], row)))
    own, entropy = jax.lax.map(each, rows, batch_size=at_once)
    return TokenScores(own[:, 0], entropy[:, 0], found)


def compute_features(
    family: Autoregressive, params: Params, tokens: jax.Array, real: jax.Array, new_tokens: int
) -> jax.Array:
    """Compute the features [B, N, D] that predict the last ``new_tokens``; without dropout, as in
    sampling.
    """
    segments = real.astype(jnp.int32)[:, :-1]
    positions = jnp.maximum(jnp.cumsum(segments, 1) - 1, 0)
    module = family.net.module(_vocabulary(params))
    hidden, _ = module.apply(
        {"params": params}, tokens[:, :-1], positions=positions, segment_ids=segments
    )
    return hidden[:, -new_tokens:]


def _vocabulary(params: Params) -> int:
    return len(params["embedding" if "embedding" in params else "table"])


def draw_responses(
    family: Component,
    policy: Params,
    batch: Batch,
    key: jax.Array,
    rows: slice = slice(None),
    copies: int = 1,
) -> tuple[Rollout, int]:
    """Draw a policy's responses to the prompts of a batch; also return the padded length of
    prompts.

    Args:
      family: family that trains the policy, with ``base``, ``codec``, ``new_tokens`` and
          ``longest_prompt``.
      policy: merged parameters of the policy.
      batch: batch with a ``prefix_mask``.
      key: random key.
      rows: rows of the batch whose prompts are answered.
      copies: responses per prompt, which are consecutive.

    Raises:
      UserError: a prompt is empty or longer than ``longest_prompt``, or there are several
          processes.
    """
    if jax.process_count() > 1:
        raise UserError("drawing and rewarding responses needs a single process")
    longest = family.longest_prompt or batch["tokens"].shape[1]
    sizes = np.asarray(batch["prefix_mask"][rows]).sum(1)
    if not 0 < sizes.min() <= sizes.max() <= longest:
        raise UserError(
            f"a prompt must have 1 to {longest} tokens (family.longest_prompt), got "
            f"{int(sizes.min() if sizes.min() < 1 else sizes.max())}",
            "family.longest_prompt",
        )
    known = ends_of(family.codec)
    ends, pad = tuple((end,) for end in known), known[0] if known else family.codec.pad or 0
    prompts, prompt_mask = extract_prompts(
        batch["tokens"][rows], batch["prefix_mask"][rows], longest
    )
    prompts, prompt_mask = (jnp.repeat(x, copies, 0) for x in (prompts, prompt_mask))
    return draw_rollout(
        family.base, policy, prompts, prompt_mask, family.new_tokens, key, ends, pad
    ), longest


def score_rollout(reward: Component, codec: Component, drawn: Rollout, longest: int) -> jax.Array:
    """Score each response by a reward function, float32 [B]; the first ``longest`` tokens are the
    prompt.

    Raises:
      UserError: the function fails, see ``genjax.families.rewards.score_texts``.
    """
    tokens, real = np.asarray(drawn.tokens), np.asarray(drawn.real)
    prompts = decode_rows(codec, tokens[:, :longest], real[:, :longest])
    return jnp.asarray(
        score_texts(reward, prompts, decode_rows(codec, tokens[:, longest:], real[:, longest:]))
    )


def check_policy(what: str, base: Trained, spec: Spec) -> None:
    """Refuse a base run that is not a language model of the data's tokens, with a ``UserError``."""
    if not isinstance(base.family, Autoregressive):
        raise UserError(
            f"family.base must be an Autoregressive model in {what}, but {base.run_dir} is a "
            f"{type(base.family).__name__}",
            "family.base",
        )
    if spec.source_length is not None or spec.image is not None or base.family.prefix_lm:
        raise UserError(f"{what} needs a model of plain texts: no source, no image, no prefix_lm")
    check_vocabulary(base, spec)


def check_vocabulary(other: Trained, spec: Spec) -> None:
    """Refuse a run with another size of vocabulary, with a ``UserError``."""
    if other.spec.vocabulary != spec.vocabulary:
        raise UserError(
            f"the run {other.run_dir} must have the {spec.vocabulary} tokens of the data, got "
            f"{other.spec.vocabulary}"
        )


def check_prompts(what: str, family: Component, base: Trained, spec: Spec) -> int:
    """Check base and data, and return the maximum number of tokens of a prompt with its response.

    Raises:
      UserError: the base or the data do not fit, or a prompt with its response exceeds the context.
    """
    if not spec.prefixed or spec.packed or spec.vocabulary is None:
        raise UserError(f"{what} needs prompts: unpacked rows of one text each, with a prefix_mask")
    check_policy(what, base, spec)
    room = (family.longest_prompt or spec.shape[0]) + family.new_tokens
    if room - 1 > base.family.net.context:
        raise UserError(
            f"longest_prompt + new_tokens must be <= {base.family.net.context + 1} (context of "
            f"{base.run_dir}, plus one), got {room}",
            "longest_prompt",
        )
    return room


def strip_padding(tokens: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Move the left padding of rows to the right: tokens and mask [B, T]."""
    order = jnp.argsort(~real, axis=1, stable=True)
    return jnp.take_along_axis(tokens, order, 1), jnp.take_along_axis(real, order, 1)


def find_one_answer(numbers: Mapping[str, float]) -> dict[str, str]:
    """Report a policy that gives nearly all prompts the same response."""
    agreed = numbers.get("agreement", 0.0)
    if not agreed > MOST_AGREEMENT:
        return {}
    return {
        "agreement": "the policy has collapsed: responses to different prompts are the same in "
        f"{100 * agreed:.0f} of 100 cases; raise family.kl, or check whether the reward favours "
        "one answer"
    }


def measure_agreement(
    tokens: jax.Array, real: jax.Array, new_tokens: int, weight: jax.Array
) -> jax.Array:
    """Measure the share [B] of other rows with the same response as each: of those with another
    prompt, or of all others if there is only one prompt.

    Args:
      tokens: [B, T], prompts and then responses.
      real: bool [B, T], False for padding.
      new_tokens: length of responses, at the end of T.
      weight: [B], 0 for padding rows.
    """
    place = jnp.arange(1, tokens.shape[1] + 1, dtype=jnp.uint32)
    # A 32-bit hash of each text; two texts collide with a chance of one in 4 billion.
    mixed = (tokens.astype(jnp.uint32) + 1) * jnp.uint32(2654435761)
    mixed = (mixed ^ (mixed >> 15) ^ (place * jnp.uint32(40503))[None]) * jnp.uint32(2246822519)
    mixed = jnp.where(real, mixed ^ (mixed >> 13), 0)
    prompts, answers = mixed[:, :-new_tokens].sum(1), mixed[:, -new_tokens:].sum(1)
    counted = (weight > 0)[None] & ~jnp.eye(len(tokens), dtype=bool)
    elsewhere = counted & (prompts[:, None] != prompts[None])
    counted = jnp.where(elsewhere.any(), elsewhere, counted)
    same = counted & (answers[:, None] == answers[None])
    return same.sum(1) / jnp.maximum(counted.sum(1), 1)
