"""Policies that continue learning: responses drawn to prompts, and what models say of each of
their tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
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

LOGITS = 2**26  # that are in memory at once, a quarter of a gigabyte
MOST_AGREEMENT = 0.95  # of responses to different prompts; above it a policy has one answer


class Rollout(NamedTuple):
    """Prompts and the responses drawn to them.

    Attributes:
      tokens: int32 [B, P + N], prompts left-padded, then responses.
      real: bool [B, P + N], False for padding and for what is after the end of a response.
      log_probs: float32 [B, N], as the sampler had them.
      ended: bool [B], whether the end was drawn.
    """

    tokens: jax.Array
    real: jax.Array
    log_probs: jax.Array
    ended: jax.Array


class TokenScores(NamedTuple):
    """What a model predicts of drawn tokens; float32.

    Attributes:
      log_probs: log p(token | those before it), [B, N].
      entropy: of the distribution that the token is drawn from, in nats, [B, N].
      features: that it is predicted from, [B, N, D], in the type of the parameters.
    """

    log_probs: jax.Array
    entropy: jax.Array
    features: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 4, 6, 7))
def rollout(
    family: Autoregressive,
    params: Params,
    prompts: jax.Array,
    asked: jax.Array,
    new_tokens: int,
    key: jax.Array,
    ends: Stops = (),
    pad: int = 0,
) -> Rollout:
    """Return responses of up to ``new_tokens`` to prompts, drawn at temperature 1 without filters,
    in one compiled loop.

    Args:
      family: of the policy.
      params: of the policy.
      prompts: int32 [B, P], left-padded.
      asked: bool [B, P], True for real tokens.
      key: of the draws.
      ends: sequences of tokens that end a response.
      pad: token after the end.
    """
    drawn = continue_prompts(
        family, params, Prompts(prompts, asked), TokenSampler(new_tokens), key, ends, pad
    )
    inside = jnp.arange(new_tokens)[None] < drawn.lengths[:, None]
    tokens, real = jnp.concatenate([prompts, drawn.tokens], 1), jnp.concatenate([asked, inside], 1)
    return Rollout(tokens, real, drawn.log_probs, drawn.done)


def score_tokens(
    family: Autoregressive, params: Params, tokens: jax.Array, real: jax.Array, new_tokens: int
) -> TokenScores:
    """Score the last ``new_tokens`` of tokens int32 [B, T], ``real`` bool [B, T].

    Where the logits would be large they are made for some of the rows at a time, and again for the
    gradient.
    """
    found = features(family, params, tokens, real, new_tokens)
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


def features(
    family: Autoregressive, params: Params, tokens: jax.Array, real: jax.Array, new_tokens: int
) -> jax.Array:
    """Those that the last ``new_tokens`` are predicted from, [B, N, D]; without dropout, as
    the tokens were drawn.
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
    """Return responses of a policy to the prompts of a batch, and the room that prompts have.

    Args:
      family: what trains the policy: with its ``base``, ``codec``, ``new_tokens`` and
        ``longest_prompt``.
      policy: whole parameters.
      batch: with a ``prefix_mask``.
      key: of the draws.
      rows: of the batch, whose prompts are answered.
      copies: responses to each prompt, which follow on each other.

    Raises:
      UserError: a prompt that is empty or longer than ``longest_prompt``, or several processes.
    """
    if jax.process_count() > 1:
        raise UserError("responses are drawn and rewarded in one process")
    longest = family.longest_prompt or batch["tokens"].shape[1]
    sizes = np.asarray(batch["prefix_mask"][rows]).sum(1)
    if not 0 < sizes.min() <= sizes.max() <= longest:
        raise UserError(
            f"prompts are of 1 to {longest} tokens (family.longest_prompt), but there is one of "
            f"{int(sizes.min() if sizes.min() < 1 else sizes.max())}"
        )
    known = ends_of(family.codec)
    ends, pad = tuple((end,) for end in known), known[0] if known else family.codec.pad or 0
    prompts, asked = extract_prompts(batch["tokens"][rows], batch["prefix_mask"][rows], longest)
    prompts, asked = (jnp.repeat(x, copies, 0) for x in (prompts, asked))
    return rollout(family.base, policy, prompts, asked, family.new_tokens, key, ends, pad), longest


def score_rollout(reward: Component, codec: Component, drawn: Rollout, longest: int) -> jax.Array:
    """What a plain function thinks of each response, float32 [B]; ``longest`` tokens are the
    prompt's.

    Raises:
      UserError: it fails; see ``rewards_of_texts``.
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
            f"{what} starts from an Autoregressive model, but the run {base.run_dir} is of a "
            f"{type(base.family).__name__} (family.base)"
        )
    if spec.source_length is not None or spec.image is not None or base.family.prefix_lm:
        raise UserError(f"{what} is for models of texts alone: no source, no image, no prefix_lm")
    check_vocabulary(base, spec)


def check_vocabulary(other: Trained, spec: Spec) -> None:
    """Refuse a run that knows another number of tokens, with a ``UserError``."""
    if other.spec.vocabulary != spec.vocabulary:
        raise UserError(
            f"the run {other.run_dir} knows {other.spec.vocabulary} tokens, but the data have "
            f"{spec.vocabulary}"
        )


def check_prompts(what: str, family: Component, base: Trained, spec: Spec) -> int:
    """Return the most tokens of a prompt and its response together.

    Raises:
      UserError: the base or the data are not for responses to prompts, or there is no room.
    """
    if not spec.prefixed or spec.packed or spec.vocabulary is None:
        raise UserError(
            f"{what} answers prompts: its data are rows of one text each with a prefix_mask, not "
            "packed"
        )
    check_policy(what, base, spec)
    room = (family.longest_prompt or spec.shape[0]) + family.new_tokens
    if room - 1 > base.family.net.context:
        raise UserError(
            f"a prompt and its response are of up to {room} tokens, more than the context of "
            f"{base.family.net.context} of {base.run_dir} and one; give a smaller longest_prompt "
            "or new_tokens"
        )
    return room


def check_counts(family: Component, names: Sequence[str]) -> None:
    """Refuse hyper-parameters below 1, with a ``UserError``."""
    for name in names:
        value = getattr(family, name)
        if value is not None and value < 1:
            raise UserError(f"{name} is at least 1, not {value}")


def strip_padding(tokens: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return rows without the padding before them: tokens and mask [B, T]."""
    order = jnp.argsort(~real, axis=1, stable=True)
    return jnp.take_along_axis(tokens, order, 1), jnp.take_along_axis(real, order, 1)


def find_one_answer(numbers: Mapping[str, float]) -> dict[str, str]:
    """What a policy says that gives nearly all prompts the same response."""
    agreed = numbers.get("agreement", 0.0)
    if not agreed > MOST_AGREEMENT:
        return {}
    return {
        "agreement": f"the policy has collapsed: two responses are the same in {100 * agreed:.0f} "
        "of 100 cases, whatever their prompts; raise family.kl, draw at a higher temperature, or "
        "see whether the reward pays for one answer"
    }


def measure_agreement(
    tokens: jax.Array, real: jax.Array, new_tokens: int, weight: jax.Array
) -> jax.Array:
    """How many of the others have the same response as each [B], as a share: of those with another
    prompt, or of all others where there is one prompt.

    Args:
      tokens: [B, T], prompts and then responses.
      real: where a token stands, bool [B, T].
      new_tokens: that a response has room for, at the end of T.
      weight: 0 for rows that only fill the batch up, [B].
    """
    place = jnp.arange(1, tokens.shape[1] + 1, dtype=jnp.uint32)
    # A number of 32 bits for each text; two texts of one number by chance are one in 4 billion.
    mixed = (tokens.astype(jnp.uint32) + 1) * jnp.uint32(2654435761)
    mixed = (mixed ^ (mixed >> 15) ^ (place * jnp.uint32(40503))[None]) * jnp.uint32(2246822519)
    mixed = jnp.where(real, mixed ^ (mixed >> 13), 0)
    prompts, answers = mixed[:, :-new_tokens].sum(1), mixed[:, -new_tokens:].sum(1)
    counted = (weight > 0)[None] & ~jnp.eye(len(tokens), dtype=bool)
    elsewhere = counted & (prompts[:, None] != prompts[None])
    counted = jnp.where(elsewhere.any(), elsewhere, counted)
    same = counted & (answers[:, None] == answers[None])
    return same.sum(1) / jnp.maximum(counted.sum(1), 1)
