"""Draws the gaps of texts from a masked diffusion: in any order, several at once, block by block.

Ancestral steps: Sahoo et al., arXiv 2406.07524. The most confident tokens first: MaskGIT (Chang et
al., arXiv 2202.04200). The largest margins first: Kim et al., arXiv 2502.06768. Blocks from left
to right: Nie et al., arXiv 2502.09992.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.errors import UserError
from genjax.families.masked_lm import GAPS, Filling, encode_gaps, mask_of
from genjax.family import Trained

Schedule = Literal["linear", "cosine"]
Order = Literal["ancestral", "random", "confident", "margin"]


@checks.frozen
class Unmasking(Filling):
    """How the gaps of a text are drawn by a masked diffusion.

    Attributes:
      prompt: text with gaps anywhere, each written [MASK], or [MASK 9] for nine of them. A text
        without gaps is continued; "" for a text of gaps only.
      length: number of tokens of a continuation, or of a text of gaps only.
      temperature: divisor of the logits; 0 takes the most likely token.
      tokens: text as tokens, instead of ``prompt``.
      steps: number of steps, over all blocks; fewer than gaps draw several tokens at once, which do
        not know of each other.
      order: which gaps a step fills: each with the same probability ("ancestral"), a fixed number
        at random ("random"), those whose token drawn is most likely ("confident"), or those whose
        two most likely tokens differ most in probability ("margin").
      schedule: share of gaps left at time t from 1 to 0: t ("linear"), or sin(pi t / 2) ("cosine"),
        which fills fewer at first.
      block: number of tokens filled completely before the next so many, from left to right; None
        fills the text as a whole.
      guidance_scale: weight of the label, as in classifier-free guidance (arXiv 2412.10193); 1 for
        the conditional model.
      label: label to draw in a class-conditional model, by number or name; None draws all in turn,
        starting over every 256 samples.
    """

    steps: int = 64
    order: Order = "ancestral"
    schedule: Schedule = "linear"
    block: int | None = None
    guidance_scale: float = 1.0
    label: int | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.between(self, 1, 100_000, "steps")
        checks.at_least(self, 1, "block")
        checks.at_least(self, 0, "guidance_scale")

    def with_prompts(self, prompts: tuple[str, ...]) -> Unmasking:
        if len(prompts) != 1:
            raise UserError(f"prompt must be a single text, got {len(prompts)}", "prompt")
        return dataclasses.replace(self, prompt=prompts[0], tokens=())

    def encode(self, codec: Component, others: Mapping[str, Trained]) -> Unmasking:
        """Encode the prompt as tokens with the codec of a run; without one, the text is a start
        token, if there is one, and gaps.
        """
        if self.tokens:
            return self
        lead = () if codec.start is None else (codec.start,)
        tokens = (*lead, *encode_gaps(codec, self.prompt))
        if not GAPS.search(self.prompt):
            tokens = (*tokens, *[mask_of(codec)] * self.length)
        elif codec.end is not None:
            tokens = (*tokens, codec.end)
        return dataclasses.replace(self, tokens=tokens)

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """The text as tokens, if it is encoded."""
        return (self.tokens,)


def share_masked(schedule: Schedule, t: jax.Array | np.ndarray) -> jax.Array:
    """Return the share of tokens that are masked at time t, 1 - alpha: from 0 at 0 to 1 at 1."""
    t = jnp.asarray(t, jnp.float32)
    return t if schedule == "linear" else jnp.sin(jnp.pi / 2 * t)


def unmask(
    guess: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    tokens: jax.Array,
    mask: jax.Array,
    options: Unmasking,
) -> tuple[jax.Array, jax.Array]:
    """Fill every gap of tokens int32 [B, T]; return them and the number of evaluations.

    A step that fills nothing evaluates nothing.

    Args:
      guess: function of tokens [B, T] that returns log p(token) [B, T, V] at every place.
      mask: mask token.
    """
    length = tokens.shape[1]
    size = min(options.block or length, length)
    blocks = -(-length // size)
    steps = max(1, round(options.steps / blocks))
    shares = share_masked(options.schedule, np.linspace(1, 0, steps + 1))
    # Without the rounding of sin(pi / 2 t) at both ends.
    shares = shares.at[0].set(1.0).at[-1].set(0.0)
    inside = jnp.arange(length)[None] // size
    unknown = tokens == mask

    def step(
        carry: tuple[jax.Array, jax.Array], number: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        tokens, calls = carry
        which, what = jax.random.split(jax.random.fold_in(key, number))
        block, place = number // steps, number % steps
        gaps = (tokens == mask) & (inside == block)
        if options.order == "ancestral":
            leaves = 1 - shares[place + 1] / shares[place]
            wanted = (gaps & jax.random.bernoulli(which, leaves, gaps.shape)).sum(1)
        else:
            left = jnp.floor((unknown & (inside == block)).sum(1) * shares[place + 1])
            wanted = jnp.maximum(gaps.sum(1) - left.astype(jnp.int32), 0)

        def fill(tokens: jax.Array) -> jax.Array:
            log_p = guess(tokens)
            if options.temperature == 0:
                drawn = log_p.argmax(-1).astype(tokens.dtype)
            else:
                drawn = jax.random.categorical(what, log_p / options.temperature)
            chosen = choose(_score(options.order, which, log_p, drawn), gaps, wanted)
            return jnp.where(chosen, drawn.astype(tokens.dtype), tokens)

        some = wanted.any()
        return (jax.lax.cond(some, fill, lambda tokens: tokens, tokens), calls + some), None

    carry = tokens, jnp.zeros((), jnp.int32)
    return jax.lax.scan(step, carry, jnp.arange(blocks * steps))[0]


def choose(score: jax.Array, gaps: jax.Array, wanted: jax.Array) -> jax.Array:
    """Return the ``wanted`` [B] gaps [B, T] of each row with the highest scores [B, T], bool."""
    order = jnp.argsort(jnp.where(gaps, -score, jnp.inf), axis=1, stable=True)
    rank = jnp.argsort(order, axis=1)
    return gaps & (rank < wanted[:, None])


def _score(order: Order, key: jax.Array, log_p: jax.Array, drawn: jax.Array) -> jax.Array:
    """Return how early each place [B, T] is filled."""
    if order == "confident":
        return jnp.take_along_axis(log_p, drawn[..., None], -1)[..., 0]
    if order == "margin":
        first, second = jnp.moveaxis(jnp.exp(jax.lax.top_k(log_p, 2)[0]), -1, 0)
        return first - second
    # Not the key of the ancestral draws themselves, whose sum says how many are filled.
    return jax.random.uniform(jax.random.fold_in(key, 1), log_p.shape[:2])
