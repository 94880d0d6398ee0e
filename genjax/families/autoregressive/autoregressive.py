"""Autoregressive language models: each token is predicted from those before it.

GPT: Radford et al., 2018 and 2019. Encoder-decoder models: Vaswani et al., arXiv 1706.03762. The
z-loss: Chowdhery et al., arXiv 2204.02311.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.collapse import find_signs
from genjax.families.autoregressive.encoder import make_encoder
from genjax.families.autoregressive.generation import (
    Ahead,
    DrawLoop,
    TokenReader,
    align_prompts,
    check_stream,
    draw_texts,
    stream_texts,
)
from genjax.families.autoregressive.predictions import (
    Attends,
    Predictions,
    Reading,
    count_inputs,
    name_offsets,
    score_offset,
    weigh_targets,
)
from genjax.families.autoregressive.request import DRAFT, Decoding, Request
from genjax.families.side_losses import add_side, list_sown, measure_side
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
)
from genjax.nets.transformer.cache import Memory
from genjax.nets.transformer.token_net import unstack_layers
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Rules


@checks.frozen
class Autoregressive(Family):
    """A language model trained on next-token prediction; ``loss`` is in nats per target token.

    If the codec knows how many bytes a token represents, evaluation also reports ``bits_per_byte``,
    which compares models with different vocabularies.

    Losses of the net's own, as those of experts, are added in training, see ``add_side``; the sum
    of cross-entropies is then ``nll``.

    If the data have a source, an encoder with the same hyper-parameters, but no experts, reads it
    and the decoder attends to it. If they have a prefix (layout ``Prefixed``), only what follows it
    is predicted.

    Attributes:
      net: ``Transformer``, ``NgramMLP``, or ``Bigram`` as the baseline.
      chunk: tokens whose logits are in memory at once.
      z_loss: weight of the squared log-sum-exp of the logits, added to the loss in training to keep
        logits in the precise range of bfloat16.
      sampler: decoding options.
      ahead_weight: weight of the losses of the tokens after the next, if the net predicts several
        (``Transformer.ahead``): in training their sums are added to that of the next token and
        divided by its number. They are reported as ``nll_2``, ``nll_3`` and so on; the ``loss`` of
        an evaluation is that of the next token alone.
      prefix_lm: whether tokens of the prefix see one another in both directions, as in an encoder
        (Raffel et al., arXiv 1910.10683, section 3.2.1). In sampling the prefix is the prompt or,
        past the context, the tokens that are re-encoded.
    """

    net: Component = Transformer()
    chunk: int = 1024
    z_loss: float = 0.0
    sampler: Decoding = Decoding()
    prefix_lm: bool = False
    ahead_weight: float = 1.0

    key_numbers: ClassVar[tuple[str, ...]] = ("bits_per_byte", "reading_gain", "load_entropy")

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "chunk")
        checks.at_least(self, 0, "z_loss", "ahead_weight")
        if isinstance(self.net, Attends) and not self.net.causal:
            raise UserError(
                "net.causal must be True: an autoregressive model must not see what it predicts",
                "net.causal",
            )
        if self.prefix_lm and not isinstance(self.net, Attends):
            raise UserError(
                f"prefix_lm needs a net with attention, got a {type(self.net).__name__}",
                "prefix_lm",
            )
        if self.prefix_lm and self.net.attention == "kernel":
            raise UserError(
                'net.attention must be "auto", "xla" or "blocked" with prefix_lm, got "kernel"',
                "net.attention",
            )

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        self._check(spec)
        variables, tokens = self._make_constants(spec), example["tokens"][:, :1]
        assert spec.vocabulary is not None
        if spec.source_length is None:
            return self.net.module(spec.vocabulary).init(key, tokens)["params"], variables
        assert spec.source_vocabulary is not None
        if not isinstance(self.net, Attends):
            raise UserError(
                f"net must be a Transformer for data with a source, got {type(self.net).__name__}",
                "net",
            )
        if self.sampler.source is None and not self.sampler.source_tokens:
            raise UserError(
                "family.sampler.source is needed for samples, as these data have a source",
                "family.sampler.source",
            )
        one, two = jax.random.split(key)
        encoder, decoder = (
            make_encoder(self.net, spec.source_vocabulary),
            self._choose_net(True).module(spec.vocabulary),
        )
        encoded, params = encoder.init_with_output(one, example["source_tokens"][:, :1])
        return {
            "encoder": params["params"],
            "decoder": decoder.init(two, tokens, memory=Memory(encoded[0]))["params"],
        }, variables

    def _check(self, spec: Spec) -> None:
        """Refuse data that this family does not model, with a ``UserError``."""
        if spec.vocabulary is None:
            raise UserError(f"an autoregressive model needs tokens, but the data are {spec.entry}")
        length = spec.shape[0] - 1
        if max(length, spec.source_length or 0) > self.net.context:
            raise UserError(
                "family.net.context must be >= "
                f"{max(length, spec.source_length or 0)}, as the rows have {length} predictions"
                + (f" and {spec.source_length} source tokens" if spec.source_length else "")
                + f", got {self.net.context}",
                "family.net.context",
            )
        if self.prefix_lm and not spec.prefixed:
            raise UserError(
                "prefix_lm needs data with a prefix: a layout Prefixed(...)", "prefix_lm"
            )

    def _make_constants(self, spec: Spec) -> dict[str, jax.Array]:
        """Return the variables that depend on the data."""
        return (
            {}
            if spec.token_bytes is None
            else {"token_bytes": jnp.asarray(spec.token_bytes, jnp.float32)}
        )

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            read = self._read(params, batch, key, ahead=True)
            found = self._score(read, batch, 1)
            nll = Mean.of(found.nll, found.weight)
            metrics, total = {"loss": nll}, nll.sum
            if self.z_loss:
                metrics["z_loss"] = Mean.of(self.z_loss * jnp.square(found.log_total), found.weight)
                total = total + metrics["z_loss"].sum
            later = self._score_later(read, batch)
            if later:
                metrics |= name_offsets(later)
                total = total + self.ahead_weight * sum(mean.sum for mean in later)
            if len(metrics) > 1:
                metrics |= {"loss": Mean(total, nll.weight), "nll": nll}
            real = count_inputs(batch)
            return add_side(metrics, self.net, read.sown, real, axis), variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        reading = self._read(state.params, batch, None, ahead=True)
        found = self._score(reading, batch, 1)
        metrics = {"loss": Mean.of(found.nll, found.weight)}
        metrics |= name_offsets(self._score_later(reading, batch))
        metrics |= measure_side(self.net, reading.sown, count_inputs(batch))
        if "token_bytes" in state.variables:
            in_bytes = state.variables["token_bytes"][batch["tokens"][:, 1:]]
            bits = metrics["loss"].sum / math.log(2)
            metrics["bits_per_byte"] = Mean(bits, jnp.sum(in_bytes * found.weight))
        read = {name: batch[name] for name in self.list_read(batch)}
        if read and len(batch["mask"]) > 1:
            metrics["reading_gain"] = self._measure_reading(
                state.params, batch, read, metrics["loss"]
            )
        return metrics

    def list_read(self, batch: Batch) -> tuple[str, ...]:
        """Return the names of the batch entries that the decoder attends to; none without an
        encoder.
        """
        return tuple(name for name in batch if name.startswith("source_"))

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Report a decoder that predicts just as well with the source of another example, and a
        router that uses few experts.
        """
        return find_signs(numbers)

    def _measure_reading(self, params: Params, batch: Batch, read: Batch, loss: Mean) -> Mean:
        """Measure how much the loss rises if each text is predicted from the source of its
        neighbour.
        """
        place = jnp.arange(len(batch["mask"]))
        after = jnp.where(place + 1 < batch["mask"].sum(), place + 1, 0)
        other = self.predict(params, {**batch, **{k: v[after] for k, v in read.items()}})
        return Mean(jnp.sum(other.nll * other.weight) - loss.sum, loss.weight)

    def sample(
        self, state: State, key: jax.Array, n: int, options: Decoding | Request
    ) -> jax.Array:
        """Draw texts, int32 [n, T], prompts included; finished ones are padded with their end
        token.

        T is the length of the longest prompt plus ``options.steps``. If there is no end token, the
        padding is ``genjax.data.text.codecs.NOTHING``.

        Raises:
          UserError: a prompt is longer than the context, or has tokens outside the vocabulary.
        """
        request = options.to_request()
        draft = (
            None
            if request.draft is None
            else request.draft.reader(state.frozen[DRAFT]["params"], request)
        )
        given = find_input(state, "prompt")
        prompts = None if given is None else align_prompts(given)
        return draw_texts(self.make_reader(state, request), request, key, n, draft, prompts)

    def describe_inputs(self, state: State, options: Decoding | Request) -> Inputs:
        """Describe the input: source tokens if the model reads a source, else prompt tokens, at
        least one.
        """
        context, decoding = self.net.context, options.to_request().decoding
        if "encoder" in state.params:
            return {"source": ((context,), np.int32)}
        within = decoding.beams > 1 or decoding.draft is not None or decoding.self_draft
        room = context + 1 - decoding.steps - decoding.draft_tokens if within else context
        return {"prompt": ((max(room, 1),), np.int32)}

    def make_reader(self, state: State, request: Request) -> TokenReader:
        """Return the model as a reader of a request, or of the sources given with the state."""
        source = find_input(state, "source")
        if source is None:
            return self.reader(state.params, request)
        real = (source >= 0).astype(jnp.float32)
        return self.read_rows(state.params, jnp.maximum(source, 0), real)

    def stream(
        self,
        state: State,
        key: jax.Array,
        n: int,
        options: Decoding | Request,
        codec: Component,
        show: Callable[[str], None],
    ) -> np.ndarray:
        """Draw as ``sample`` does, but on the host, showing the first text as it is drawn."""
        request = options.to_request()
        check_stream(request, codec)
        first = jax.jit(
            lambda params: DrawLoop(self.reader(params, request), request, n).draw_first(key)
        )
        following = jax.jit(
            lambda params, drawing: DrawLoop(self.reader(params, request), request, n).draw_next(
                drawing
            ),
            donate_argnums=1,
        )
        params = state.params
        return stream_texts(
            lambda: first(params), lambda drawing: following(params, drawing), request, codec, show
        )

    def reader(self, params: Params, request: Request) -> TokenReader:
        """Return the model as a reader of a request.

        Raises:
          UserError: the request does not fit the model, see ``Request.check``.
        """
        known = self._count_tokens(params["encoder"]) if "encoder" in params else None
        request.check(self._count_tokens(params), self.net.context, known)
        if known is None:
            return self.read_rows(params)
        source = jnp.asarray(request.source, jnp.int32)[None]
        return self.read_rows(params, source, jnp.ones(source.shape))

    def read_rows(
        self, params: Params, source: jax.Array | None = None, source_mask: jax.Array | None = None
    ) -> TokenReader:
        """Return the model as a reader of rows of tokens.

        Args:
          source: int32 [B, S] or [1, S], for a model with an encoder.
          source_mask: mask of the same shape, 0 at padding.
        """
        if "encoder" not in params:
            return self._make_reader(params)
        assert source is not None and source_mask is not None, (
            "a model with an encoder reads a source"
        )
        return self._make_reader(
            params, (self._encode_source(params["encoder"], source, source_mask), source_mask)
        )

    def _make_reader(
        self, params: Params, memory: tuple[jax.Array, jax.Array] | None = None
    ) -> TokenReader:
        """Build the reader of rows of tokens. With an encoder, ``memory`` is features [B, S, C] or
        [1, S, C] and a mask [B, S] or [1, S], 0 at padding.
        """
        reads = memory is not None
        net, decoder = self._choose_net(reads), params["decoder"] if reads else params
        # A loop over layers is slow for single tokens.
        if isinstance(net, Attends) and net.scan_layers:
            net, decoder = dataclasses.replace(net, scan_layers=False), unstack_layers(decoder)
        vocabulary = self._count_tokens(params)

        def model(
            module: Any, tokens: jax.Array, mask: jax.Array, cache: Any, last: int
        ) -> tuple[jax.Array, Any]:
            options = {}
            if self.prefix_lm and tokens.shape[1] > 1:  # an empty cache means a prompt
                options["prefix"] = mask & (cache.lengths == 0)[:, None]
            hidden, cache = module.apply(
                {"params": decoder}, tokens, None, mask.astype(jnp.int32), cache=cache, **options
            )
            hidden = hidden[..., -last:, :]
            return module.apply({"params": decoder}, hidden, method="logits"), cache

        def new_cache(module: Any, rows: int, room: int) -> Any:
            options = {"ahead": True} if self._heads > 1 and module.ahead else {}
            if memory is None:
                return net.new_cache(rows, room, **options)
            features, real = (jnp.broadcast_to(a, (rows, *a.shape[1:])) for a in memory)
            # Padding, so that only the memory enters the cache.
            nothing = jnp.zeros((rows, 1), jnp.int32)
            cache = net.new_cache(rows, room, features.shape[1], **options)
            return module.apply(
                {"params": decoder}, nothing, None, nothing, Memory(features, real), cache=cache
            )[1]

        period = math.lcm(*net.periods) if isinstance(net, Attends) else 1
        bound, ahead = functools.partial, None
        if self._heads > 1:
            heads = net.module(vocabulary, ahead=True)
            ahead = Ahead(bound(model, heads), bound(new_cache, heads), self._heads)
        plain = net.module(vocabulary)
        return TokenReader(
            bound(model, plain), bound(new_cache, plain), self.net.context, period, ahead
        )

    def predict(self, params: Params, batch: Batch, key: jax.Array | None = None) -> Predictions:
        """Predict tokens 1 to T of each row from those before them; a key means training."""
        return self._score(self._read(params, batch, key), batch, 1)

    def _score(self, read: Reading, batch: Batch, offset: int) -> Predictions:
        cap = self.net.logit_softcap
        return score_offset(read, batch, offset, cap, self.chunk, prefix_lm=self.prefix_lm)

    def _score_later(self, read: Reading, batch: Batch) -> list[Mean]:
        """Return the losses of the tokens after the next one, as far as rows are long enough."""
        most = min(len(read.features), batch["tokens"].shape[1] - 1)
        later = (self._score(read, batch, offset) for offset in range(2, most + 1))
        return [Mean.of(found.nll, found.weight) for found in later]

    def open_head(
        self, params: Params, batch: Batch, key: jax.Array | None = None
    ) -> tuple[Callable[[jax.Array], jax.Array], jax.Array, jax.Array]:
        """Return the function from features [..., C] to logits [..., V], the features [B, T, C]
        that tokens 1 to T of each row are predicted from, and the weights [B, T] of those; a key
        means training.
        """
        read = self._read(params, batch, key)
        head = functools.partial(read.module.apply, {"params": read.params}, method="logits")
        return head, read.features[0], weigh_targets(batch, 1, self.prefix_lm)

    def guess(self, params: Params, batch: Batch) -> jax.Array:
        """Return the likeliest of tokens 1 to T of each row given those before it, int32 [B, T]."""
        head, hidden, _ = self.open_head(params, batch)
        return jnp.argmax(head(hidden), -1).astype(jnp.int32)

    @property
    def _heads(self) -> int:
        """The number of next tokens that the net predicts."""
        return self.net.ahead if isinstance(self.net, Attends) else 1

    def _read(
        self, params: Params, batch: Batch, key: jax.Array | None, ahead: bool = False
    ) -> Reading:
        """Read all tokens but the last; a key means training, ``ahead`` that the features of later
        tokens are wanted, too.
        """
        inputs = batch.get("inputs", batch["tokens"])[:, :-1]
        options: dict[str, Component] = {
            name: batch[name][:, :-1] for name in ("positions", "segment_ids") if name in batch
        }
        if self.prefix_lm:
            options["prefix"] = batch["prefix_mask"][:, :-1] > 0
        decoder, reads = params, "encoder" in params
        keys = (None, None) if key is None else jax.random.split(key)
        if reads:
            decoder = params["decoder"]
            options["memory"] = Memory(*self._encode_memory(params["encoder"], batch, keys[0]))
        several = ahead and self._heads > 1
        choice = {"ahead": True} if several else {}
        module = self._choose_net(reads).module(self._count_tokens(params), **choice)
        options |= {"rngs": _rngs(keys[1]), "train": key is not None}
        variables, sown = {"params": decoder}, list_sown(self.net)
        (hidden, _), found = module.apply(variables, inputs, **options, mutable=sown)
        return Reading(module, decoder, hidden if several else hidden[None], found)

    def _choose_net(self, reads: bool) -> Any:
        """Return the hyper-parameters of the decoder, with cross-attention if it reads a source."""
        return dataclasses.replace(self.net, cross_attention=True) if reads else self.net

    def _encode_memory(
        self, params: Params, batch: Batch, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Encode the source: features [B, S, C], and a mask [B, S] with the segment of each, 0 for
        padding; a key means training.
        """
        mask = batch.get("source_segment_ids", batch["source_mask"])
        places = batch.get("source_positions")
        return self._encode_source(params, batch["source_tokens"], mask, key, places), mask

    def _encode_source(
        self,
        params: Params,
        tokens: jax.Array,
        mask: jax.Array,
        key: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> jax.Array:
        """Return features [B, S, C] of source tokens int32 [B, S]; the mask [B, S] has their
        segments, 0 for padding.
        """
        segments = mask.astype(jnp.int32)
        module = make_encoder(self.net, self._count_tokens(params))
        return module.apply(
            {"params": params}, tokens, positions, segments, rngs=_rngs(key), train=key is not None
        )[0]

    def _count_tokens(self, params: Params) -> int:
        params = params.get("decoder", params)
        return len(params["embedding" if "embedding" in params else "table"])


def _rngs(key: jax.Array | None) -> dict[str, jax.Array]:
    return {} if key is None else {"dropout": key}
