"""Masked language models, which predict tokens from both sides.

BERT: Devlin et al., arXiv 1810.04805. Pseudo-likelihood: Salazar et al., arXiv 1910.14659. Gaps are
filled one token at a time, the most confident first, as in mask-predict (Ghazvininejad et al.,
arXiv 1904.09324).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import CONTINUED, CONTINUES, SPECIAL, Spec
from genjax.data.text.augment import real_mask
from genjax.errors import UserError
from genjax.families.masking import Kinds, Masking
from genjax.families.side_losses import add_side, list_sown, measure_side
from genjax.family import (
    Batch,
    Family,
    Inputs,
    Mean,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
    find_input,
    gradient_step,
)
from genjax.losses import chunked_cross_entropy
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Rules

GAP = "[MASK]"  # how a prompt marks a token to be filled in
GAPS = re.compile(r"\[MASK(?: ([0-9]{1,6}))?\]")  # or, with a number, so many of them


@checks.frozen
class Filling:
    """How the gaps of a text are filled.

    Attributes:
      prompt: text with gaps, each written [MASK], or [MASK 9] for nine of them; "" for a text of
        gaps only.
      length: number of tokens of a text of gaps only.
      temperature: divisor of the logits; 0 takes the most likely token.
      tokens: text as tokens, instead of ``prompt``.
    """

    prompt: str = ""
    length: int = 32
    temperature: float = 1.0
    tokens: tuple[int, ...] = ()

    def with_prompts(self, prompts: tuple[str, ...]) -> Filling:
        """Return the options with this prompt, of which there must be exactly one."""
        if len(prompts) != 1:
            raise UserError(f"prompt must be a single text, got {len(prompts)}", "prompt")
        if not prompts[0]:
            raise UserError(
                f"prompt must have a gap: write {GAP} where a token is missing", "prompt"
            )
        return dataclasses.replace(self, prompt=prompts[0])

    @property
    def runs(self) -> Mapping[str, str]:
        return {}

    def encode(self, codec: Component, others: Mapping[str, Trained]) -> Filling:
        """Encode the prompt as tokens with the codec of a run.

        Raises:
          UserError: the prompt has no gap, or the codec cannot encode it.
        """
        if self.tokens or not self.prompt:
            return self
        if not GAPS.search(self.prompt):
            raise UserError(
                f"prompt must have a gap: write {GAP} where a token is missing", "prompt"
            )
        lead = [] if codec.start is None else [codec.start]
        trail = [] if codec.end is None else [codec.end]
        return dataclasses.replace(self, tokens=(*lead, *encode_gaps(codec, self.prompt), *trail))

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "length")
        checks.at_least(self, 0, "temperature")


def encode_gaps(codec: Component, text: str) -> list[int]:
    """Encode a text whose gaps, [MASK] or [MASK 9], become mask tokens."""
    tokens: list[int] = []
    begin = 0
    for gap in GAPS.finditer(text):
        tokens += codec.encode(text[begin : gap.start()]).tolist() if gap.start() > begin else []
        tokens += [mask_of(codec)] * int(gap[1] or 1)
        begin = gap.end()
    return tokens + (codec.encode(text[begin:]).tolist() if text[begin:] else [])


def mask_of(codec: Component) -> int:
    """Return the mask token: the codec's, or one after all others."""
    return int(codec.vocabulary if codec.mask is None else codec.mask)


@checks.frozen
class MaskedLM(Family):
    """A masked language model; ``loss`` is in nats per masked token.

    It reads all T + 1 tokens of a row. If the codec has no mask token, one is added after the
    others.

    Attributes:
      net: non-causal ``Transformer``.
      masking: which tokens are masked.
      chunk: tokens whose logits are in memory at once; chunks without masked tokens are skipped.
      sampler: options for filling gaps.
    """

    net: Transformer = Transformer(causal=False)
    masking: Masking = Masking()
    chunk: int = 256
    sampler: Filling = Filling()

    def __post_init__(self) -> None:
        if self.net.causal:
            raise UserError(
                "net.causal must be False: a masked language model sees both sides of a gap",
                "net.causal",
            )
        if self.net.cross_attention:
            raise UserError(
                "net.cross_attention must be False: a masked language model reads only its text",
                "net.cross_attention",
            )
        checks.at_least(self, 1, "chunk")

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.vocabulary is None:
            raise UserError(f"a masked language model needs tokens, but the data are {spec.entry}")
        if spec.shape[0] > self.net.context:
            raise UserError(
                f"family.net.context must be >= {spec.shape[0]} (tokens per row of the data), got "
                f"{self.net.context}",
                "family.net.context",
            )
        if spec.token_kinds is None:
            raise UserError(
                "a masked language model needs text; these data do not say which tokens are special"
            )
        flags = np.array(spec.token_kinds)
        continues, continued, special = (
            flags & kind > 0 for kind in (CONTINUES, CONTINUED, SPECIAL)
        )
        if special.all():
            raise UserError("all tokens of the vocabulary are special: there is nothing to mask")
        mask = spec.vocabulary if spec.mask_token is None else spec.mask_token
        more = int(spec.mask_token is None)
        kinds = {
            "mask": jnp.asarray(mask, jnp.int32),
            "special": jnp.asarray(np.pad(special, (0, more), constant_values=True)),
            "ordinary": jnp.asarray(np.flatnonzero(~special), jnp.int32),
            "continues": jnp.asarray(np.pad(continues, (0, more))),
            "continued": jnp.asarray(np.pad(continued, (0, more))),
        }
        return TokenNet(self.net, spec.vocabulary + more).init(key, example["tokens"][:, :1])[
            "params"
        ], kinds

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            masking, dropout = jax.random.split(key)
            metrics, sown = self._compute_metrics(params, variables, batch, masking, dropout)
            real = self._count_inputs(batch)
            return add_side(metrics, self.net, sown, real, axis), variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        metrics, sown = self._compute_metrics(state.params, state.variables, batch, key)
        return metrics | measure_side(self.net, sown, self._count_inputs(batch))

    def _count_inputs(self, batch: Batch) -> jax.Array:
        return real_mask(batch) * batch["mask"][:, None]

    def describe_inputs(self, state: State, options: Filling) -> Inputs:
        """Describe the input: tokens of texts with gaps."""
        return {"prompt": ((self.net.context,), np.int32)}

    def sample(self, state: State, key: jax.Array, n: int, options: Filling) -> jax.Array:
        """Fill the gaps of ``n`` copies of the text, or of the texts given with the state: int32
        [n, T].

        Raises:
          UserError: the text is longer than the context, or has tokens outside the vocabulary.
        """
        given = find_input(state, "prompt")
        if given is not None:
            return fill_in(self, state, key, given, options.temperature)
        known = len(state.params["embedding"])
        tokens = jnp.asarray(options.tokens, jnp.int32)
        if not options.tokens:
            tokens = jnp.full(
                min(options.length, self.net.context), state.variables["mask"], jnp.int32
            )
        if not all(0 <= token < known for token in options.tokens):
            raise UserError(f"the text has a token outside the model's vocabulary of {known:,}")
        if len(tokens) > self.net.context:
            raise UserError(
                f"a text must have at most {self.net.context:,} tokens (context), got "
                f"{len(tokens):,}"
            )
        return fill_in(
            self, state, key, jnp.broadcast_to(tokens, (n, len(tokens))), options.temperature
        )

    def features(
        self, params: Params, batch: Batch, tokens: jax.Array, dropout: jax.Array | None = None
    ) -> jax.Array:
        """Return features [B, T, C] of ``tokens`` [B, T], which replace the batch's; a ``dropout``
        key means training.
        """
        return self._read(params, batch, tokens, dropout)[0]

    def _read(
        self, params: Params, batch: Batch, tokens: jax.Array, dropout: jax.Array | None = None
    ) -> tuple[jax.Array, Mapping[str, Any]]:
        """Return the features, and what modules sowed, see ``HasSideLosses``."""
        network, sown = self._make_network(params), list_sown(self.net)
        return read_both_sides(network, params, batch, tokens, dropout, sown)

    def compute_masked_nll(
        self, params: Params, hidden: jax.Array, tokens: jax.Array, masked: jax.Array
    ) -> jax.Array:
        """Return -log p(token) [N] in nats of tokens [N] from features [N, C] where ``masked`` [N]
        is not 0; 0 elsewhere.
        """
        rows, kernel, bias = self._make_network(params).apply(
            {"params": params}, hidden, method="head"
        )
        cap, weights = self.net.logit_softcap, masked.astype(jnp.float32)
        return chunked_cross_entropy(
            rows, kernel, tokens, bias=bias, weights=weights, softcap=cap, chunk=self.chunk
        )[0]

    def logits(self, params: Params, hidden: jax.Array) -> jax.Array:
        """Return logits, float32 [..., V], of features [..., C]."""
        return self._make_network(params).apply({"params": params}, hidden, method="logits")

    def _make_network(self, params: Params) -> Any:
        return TokenNet(self.net, len(params["embedding"]))

    def _compute_metrics(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
        dropout: jax.Array | None = None,
    ) -> tuple[Metrics, Mapping[str, Any]]:
        tokens = batch["tokens"]
        inputs, masked = self.masking(key, tokens, real_mask(batch), Kinds(**variables))
        hidden, sown = self._read(params, batch, inputs, dropout)
        weight = (masked * batch["mask"][:, None]).reshape(-1)
        nll = self.compute_masked_nll(
            params, hidden.reshape(-1, hidden.shape[-1]), tokens.reshape(-1), weight
        )
        return {"loss": Mean.of(nll, weight)}, sown


def read_both_sides(
    network: TokenNet,
    params: Params,
    batch: Batch,
    tokens: jax.Array,
    dropout: jax.Array | None = None,
    sown: Sequence[str] = (),
    types: jax.Array | None = None,
) -> tuple[jax.Array, Mapping[str, Any]]:
    """Return features [B, T, C] of ``tokens`` [B, T], each of which sees all others of its segment
    of the batch's rows, and what modules sowed into the collections ``sown``; a ``dropout`` key
    means training, ``types`` [B, T] are the tokens' types.
    """
    options: dict[str, Any] = {"positions": batch["positions"]} if "positions" in batch else {}
    options |= {} if types is None else {"types": types}
    segments = (
        batch["segment_ids"] if "segment_ids" in batch else real_mask(batch).astype(jnp.int32)
    )
    (hidden, _), found = network.apply(
        {"params": params},
        tokens,
        segment_ids=segments,
        rngs={} if dropout is None else {"dropout": dropout},
        train=dropout is not None,
        mutable=list(sown),
        **options,
    )
    return hidden, found


def fill_in(
    family: MaskedLM, state: State, key: jax.Array, tokens: jax.Array, temperature: float = 0.0
) -> jax.Array:
    """Fill every gap of tokens int32 [B, T]: one per step and row, the most confident first, given
    those filled before. Rows may end in padding of -1.

    ``temperature`` divides the logits; 0 takes the most likely token. Gaps never get special
    tokens.
    """
    kinds = Kinds(**state.variables)
    places = jnp.arange(tokens.shape[1])[None]
    batch = {"loss_mask": (tokens >= 0).astype(jnp.float32)}

    def one(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        step, tokens = carry
        gaps, read = tokens == kinds.mask, jnp.maximum(tokens, 0)
        logits = family.logits(state.params, family.features(state.params, batch, read))
        logits = jax.nn.log_softmax(jnp.where(kinds.special[None, None], -jnp.inf, logits))
        surest = jnp.where(gaps, logits.max(-1), -jnp.inf).argmax(-1)  # [B]
        row = jnp.take_along_axis(logits, surest[:, None, None], 1)[:, 0]
        if temperature == 0:
            drawn = row.argmax(-1)
        else:
            drawn = jax.random.categorical(jax.random.fold_in(key, step), row / temperature)
        return step + 1, jnp.where(
            gaps & (places == surest[:, None]), drawn[:, None].astype(jnp.int32), tokens
        )

    return jax.lax.while_loop(
        lambda carry: (carry[1] == kinds.mask).any(), one, (jnp.zeros((), jnp.int32), tokens)
    )[1]


def embed(family: MaskedLM, state: State, batch: Batch) -> jax.Array:
    """Return the mean of the last features over a row's ordinary tokens, float32 [B, C]; 0 for a
    row without any.
    """
    hidden = family.features(state.params, batch, batch["tokens"]).astype(jnp.float32)
    weight = (real_mask(batch) & ~state.variables["special"][batch["tokens"]]).astype(jnp.float32)
    return jnp.einsum("btc,bt->bc", hidden, weight) / jnp.maximum(weight.sum(-1, keepdims=True), 1)


def pseudo_log_likelihood(
    family: MaskedLM, state: State, batch: Batch
) -> tuple[jax.Array, jax.Array]:
    """Return the sum [B], in nats, of log p(token | all others) over a row's ordinary tokens, and
    their number [B].

    Each token is masked in turn, so a row costs as many passes as it has tokens.
    """
    tokens, kinds = batch["tokens"], Kinds(**state.variables)
    counts = real_mask(batch) & ~kinds.special[tokens]
    places = jnp.arange(tokens.shape[1])

    def one(place: jax.Array) -> jax.Array:
        inputs = jnp.where((places == place)[None], kinds.mask, tokens)
        hidden = family.features(state.params, batch, inputs)[:, place]
        return family.compute_masked_nll(state.params, hidden, tokens[:, place], counts[:, place])

    nll = jax.lax.map(one, places)  # [T, B]
    return -nll.sum(0), counts.sum(1).astype(jnp.float32)
