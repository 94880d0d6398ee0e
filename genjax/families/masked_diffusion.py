"""Masked diffusion: tokens are hidden one after another, and a network learns to bring them back.

The absorbing-state diffusion in continuous time of MDLM (Sahoo et al., arXiv 2406.07524) and MD4
(Shi et al., arXiv 2406.04329). Its bound is the mean over all orders of an any-order autoregressive
model (Hoogeboom et al., arXiv 2110.02037), which is how held-out texts are judged here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.data.dataset import Spec
from genjax.data.text.augment import real_mask
from genjax.errors import UserError
from genjax.families.diffusion import conditioning
from genjax.families.masked_lm import read_both_sides
from genjax.families.unmasking import Unmasking, share_masked, unmask
from genjax.family import (
    Batch,
    Family,
    Inputs,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    find_input,
    gradient_step,
    labels,
)
from genjax.losses import chunked_cross_entropy
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Rules

EARLIEST = 1e-3  # least time in training, as in MDLM: the weights grow as 1 / t
Masks = Literal["linear", "cosine", "counts"]


@checks.frozen
class MaskedDiffusion(Family):
    """A masked diffusion of tokens; ``loss`` is an upper bound on -log p in nats per token.

    At time t each token is masked with probability 1 - alpha(t), and
    ``-alpha'(t) / (1 - alpha(t))`` times the sum of -log p(token | what is left) over the masked
    ones is the bound in the mean over t. The network sees no time. It never predicts the mask
    token, and what is not masked stays as it is (SUBS).

    Held-out texts are judged with the first token of a row or document given, as by an
    autoregressive model, so that both losses are of the same tokens. A prefix (layout ``Prefixed``)
    is given in training as well. If the codec has no mask token, one is added after the others. If
    the codec knows how many bytes a token represents, evaluation also reports ``bits_per_byte``.

    Attributes:
      net: non-causal ``Transformer``.
      masks: how tokens are masked in training: with the probability t ("linear") or sin(pi t / 2)
        ("cosine") at a time t, evenly spread over the batch; or a number of tokens that is uniform
        from 1 to all ("counts"), whose bound is the same and less noisy.
      draws: masks, of a uniform number of tokens each, with which a held-out row is judged.
      conditional: whether the network sees the label, which is added to each token's embedding.
      drop_label: share of rows whose label is hidden in training, as guidance needs.
      chunk: tokens whose logits are in memory at once.
      sampler: sampling options.
    """

    net: Transformer = Transformer(causal=False)
    masks: Masks = "linear"
    draws: int = 4
    conditional: bool = False
    drop_label: float = 0.1
    chunk: int = 1024
    sampler: Unmasking = Unmasking()

    key_numbers: ClassVar[tuple[str, ...]] = ("bits_per_byte",)

    @property
    def protocol(self) -> str:  # type: ignore[override]
        return f"an upper bound from {self.draws} random masks of each row"

    def __post_init__(self) -> None:
        plain = {"causal": False, "cross_attention": False, "token_types": 0, "experts": None}
        for name, value in plain.items():
            if getattr(self.net, name) != value:
                raise UserError(
                    f"net.{name} must be {value} in a masked diffusion, got "
                    f"{getattr(self.net, name)}",
                    f"net.{name}",
                )
        checks.at_least(self, 1, "chunk", "draws")
        checks.share(self, "drop_label")
        conditioning.check_guidance(self.sampler.guidance_scale, self.conditional, self.drop_label)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.vocabulary is None:
            raise UserError(f"a masked diffusion needs tokens, but the data are {spec.entry}")
        if spec.source_length is not None or spec.image is not None:
            raise UserError("a masked diffusion reads only its text, but these data have a source")
        if spec.shape[0] > self.net.context:
            raise UserError(
                f"family.net.context must be >= {spec.shape[0]} (tokens per row of the data), got "
                f"{self.net.context}",
                "family.net.context",
            )
        if self.conditional and (spec.classes is None or spec.packed):
            reason = "the data have none" if spec.classes is None else "rows are packed"
            raise UserError(
                f"family.conditional needs a label for each row, but {reason}", "family.conditional"
            )
        more = int(spec.mask_token is None)
        variables = {
            "mask": jnp.asarray(spec.vocabulary if more else spec.mask_token, jnp.int32),
        }
        if spec.token_bytes is not None:
            in_bytes = np.pad(np.asarray(spec.token_bytes, np.float32), (0, more))
            variables["token_bytes"] = jnp.asarray(in_bytes)
        kinds = (spec.classes or 0) + 1 if self.conditional else 0
        net = dataclasses.replace(self.net, token_types=kinds)
        module = TokenNet(net, spec.vocabulary + more)
        return module.init(key, example["tokens"][:, :1])["params"], variables

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            hiding, start, which, dropout = jax.random.split(key, 4)
            label = labels(batch) if self.conditional else None
            null = self._count_classes(params)
            label, _ = conditioning.hide(hiding, self.drop_label, label, null, None)
            free = real_mask(batch)
            if "prefix_mask" in batch:
                free &= batch["prefix_mask"] == 0
            drawn = draw_masks(self.masks, which, spread_evenly(start, len(free)), free)
            bound = self.bound(params, variables, batch, *drawn, label, dropout)
            count = (free * batch["mask"][:, None]).sum()
            return {"loss": Mean((bound * batch["mask"]).sum(), count)}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        label = labels(batch) if self.conditional else None
        free = find_judged(batch)

        def judge(draw: tuple[jax.Array, jax.Array]) -> jax.Array:
            drawn = draw_masks("counts", *draw, free)
            return self.bound(state.params, state.variables, batch, *drawn, label)

        start, which = jax.random.split(key)
        spread = spread_evenly(start, self.draws * len(free)).reshape(self.draws, -1)
        bound = jax.lax.map(judge, (jax.random.split(which, self.draws), spread)).mean(0)  # [B]
        weight = free * batch["mask"][:, None]
        total = jnp.sum(bound * batch["mask"])
        metrics = {"loss": Mean(total, weight.sum())}
        if "token_bytes" in state.variables:
            in_bytes = state.variables["token_bytes"][batch["tokens"]]
            metrics["bits_per_byte"] = Mean(total / math.log(2), (in_bytes * weight).sum())
        return metrics

    def describe_inputs(self, state: State, options: Unmasking) -> Inputs:
        """Describe the inputs: tokens of texts with gaps, and labels of a conditional model."""
        text: Inputs = {"prompt": ((self.net.context,), np.int32)}
        return text | conditioning.describe_label(self.conditional)

    def sample(self, state: State, key: jax.Array, n: int, options: Unmasking) -> jax.Array:
        """Draw the gaps of ``n`` copies of the text, or of the texts given with the state: int32
        [n, T].

        Raises:
          UserError: the text is longer than the context, or has tokens outside the vocabulary.
        """
        return self.draw(state, key, n, options)[0]

    def draw(
        self, state: State, key: jax.Array, n: int, options: Unmasking
    ) -> tuple[jax.Array, jax.Array]:
        """Draw as ``sample`` does; also return the number of evaluations, of which guidance makes
        two passes each.
        """
        conditioning.check_guidance(options.guidance_scale, self.conditional, self.drop_label)
        params, mask = state.params, state.variables["mask"]
        classes = self._count_classes(params)
        label = conditioning.choose_labels(options.label, n, classes, state)
        tokens = find_input(state, "prompt")
        if tokens is None:
            tokens = jnp.tile(self._make_text(params, mask, options), (n, 1))
        batch = {"loss_mask": (tokens >= 0).astype(jnp.float32)}

        def read(tokens: jax.Array, label: jax.Array | None) -> jax.Array:
            hidden = self.features(params, batch, jnp.maximum(tokens, 0), label)
            logits = self._make_network(params).apply({"params": params}, hidden, method="logits")
            never = jnp.arange(logits.shape[-1]) == mask
            return jax.nn.log_softmax(jnp.where(never[None, None], -jnp.inf, logits))

        def guess(tokens: jax.Array) -> jax.Array:
            own = read(tokens, label)
            if label is None or options.guidance_scale == 1:
                return own
            free = read(tokens, jnp.full_like(label, classes))
            never = jnp.isneginf(own)  # the mask token, whose difference would be NaN
            far = free + options.guidance_scale * (jnp.where(never, 0, own) - free)
            return jax.nn.log_softmax(jnp.where(never, -jnp.inf, far))

        return unmask(guess, key, tokens, mask, options)

    def features(
        self,
        params: Params,
        batch: Batch,
        tokens: jax.Array,
        label: jax.Array | None = None,
        dropout: jax.Array | None = None,
    ) -> jax.Array:
        """Return features [B, T, C] of ``tokens`` [B, T], which replace the batch's, for labels
        [B]; a ``dropout`` key means training.
        """
        types = None if label is None else jnp.broadcast_to(label[:, None], tokens.shape)
        network = self._make_network(params)
        return read_both_sides(network, params, batch, tokens, dropout, types=types)[0]

    def bound(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        masked: jax.Array,
        weight: jax.Array,
        label: jax.Array | None = None,
        dropout: jax.Array | None = None,
    ) -> jax.Array:
        """Return the bound [B] of the rows of a batch in nats, as one draw estimates it.

        Args:
          masked: bool [B, T], which tokens are masked.
          weight: [B], weight of their -log p.
          label: labels [B] of a conditional model.
          dropout: random key; None for no dropout.
        """
        tokens, mask = batch["tokens"], variables["mask"]
        inputs = jnp.where(masked, mask, tokens)
        hidden = self.features(params, batch, inputs, label, dropout)
        rows, kernel, bias = self._make_network(params).apply(
            {"params": params}, hidden, method="head"
        )
        # The mask token is left out: the others move down by one above it.
        others = jnp.arange(len(kernel) - 1)
        others += others >= mask
        targets = (tokens - (tokens > mask)).reshape(-1)
        counted = (masked * batch["mask"][:, None]).astype(jnp.float32)
        nll, _ = chunked_cross_entropy(
            rows.reshape(len(targets), -1),
            kernel[others],
            targets,
            bias=None if bias is None else bias[others],
            # Sorting out tokens without weight does not pay for a single chunk.
            weights=counted.reshape(-1) if len(targets) > self.chunk else None,
            softcap=self.net.logit_softcap,
            chunk=self.chunk,
        )
        return weight * (nll.reshape(tokens.shape) * counted).sum(1)

    def _make_text(self, params: Params, mask: jax.Array, options: Unmasking) -> jax.Array:
        """Return the text [T] whose gaps are drawn."""
        known, context = len(params["embedding"]), self.net.context
        if not options.tokens:
            return jnp.full(min(options.length, context), mask, jnp.int32)
        if not all(0 <= token < known for token in options.tokens):
            raise UserError(f"the text has a token outside the model's vocabulary of {known:,}")
        if len(options.tokens) > context:
            raise UserError(
                f"a text must have at most {context:,} tokens (context), with its gaps, got "
                f"{len(options.tokens):,}",
                "sampler.length",
            )
        return jnp.asarray(options.tokens, jnp.int32)

    def _make_network(self, params: Params) -> Any:
        kinds = len(params["type_embedding"]) if self.conditional else 0
        return TokenNet(dataclasses.replace(self.net, token_types=kinds), len(params["embedding"]))

    def _count_classes(self, params: Params) -> int:
        """Return the number of labels, which is also the null label."""
        return len(params["type_embedding"]) - 1 if self.conditional else 0


def find_judged(batch: Batch) -> jax.Array:
    """Return which tokens of a held-out batch are judged, bool [B, T]: those that an autoregressive
    model predicts.
    """
    free = batch["loss_mask"] > 0
    return free & (batch["prefix_mask"] == 0) if "prefix_mask" in batch else free


def spread_evenly(key: jax.Array, count: int) -> jax.Array:
    """Return numbers [count] in [0, 1) at equal distances, from a random start: each is uniform
    (Kingma et al., arXiv 2107.00630, appendix I.1).
    """
    return (jax.random.uniform(key) + jnp.arange(count) / count) % 1.0


def draw_masks(
    masks: Masks, key: jax.Array, spread: jax.Array, free: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw which of the ``free`` tokens [B, T] are masked, bool [B, T], and the weight [B] of each
    row in the bound.

    Args:
      masks: how, see ``MaskedDiffusion.masks``.
      key: random key.
      spread: uniform numbers [B], for the time or the number of masked tokens.
      free: bool [B, T].
    """
    chance = jax.random.uniform(key, free.shape)
    if masks == "counts":
        total = free.sum(1)
        count = 1 + jnp.minimum(jnp.floor(spread * total).astype(jnp.int32), total - 1)
        rank = jnp.argsort(jnp.argsort(jnp.where(free, chance, 2.0), axis=1), axis=1)
        return free & (rank < count[:, None]), total / jnp.maximum(count, 1)
    t = EARLIEST + (1 - EARLIEST) * spread
    return free & (chance < share_masked(masks, t)[:, None]), weigh_time(masks, t)


def weigh_time(masks: Literal["linear", "cosine"], t: jax.Array) -> jax.Array:
    """Return the weight -alpha'(t) / (1 - alpha(t)) of masked tokens at time t."""
    return 1 / t if masks == "linear" else jnp.pi / 2 / jnp.tan(jnp.pi / 2 * t)
