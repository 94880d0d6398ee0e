"""Autoregressive models of tokens: each is predicted from those before it, and texts are drawn token by token.

GPT: Radford et al., 2018 and 2019. From one sequence to another by an encoder and a decoder: Vaswani et al., arXiv
1706.03762. The z-loss: Chowdhery et al., arXiv 2204.02311.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.decoding import Decoding
from genjax.family import Batch, Family, Mean, Metrics, Params, State, gradient_step
from genjax.losses import chunked_cross_entropy
from genjax.nets.token_net import TokenNet, unstacked
from genjax.nets.transformer import Transformer
from genjax.samplers.decoding import generate


class Predictions(NamedTuple):
    """How well each token of a batch was predicted; all float32 [B, T].

    Attributes:
      nll: -log p(token | those before it) in nats.
      log_total: logarithm of the sum of exponentials of the logits.
      weight: 1 for a token that counts, 0 for another.
    """

    nll: jax.Array
    log_total: jax.Array
    weight: jax.Array


@dataclass(frozen=True)
class Autoregressive(Family):
    """Next-token prediction. Its ``loss`` is in nats a token: the sum over target tokens over their number.

    Where the data's codec tells how many bytes a token stands for, ``bits_per_byte`` stands beside it when held-out
    text is judged: what lets models of different vocabularies be compared.

    Data with a source have an encoder of the same hyper-parameters read it, which the decoder attends to.

    Attributes:
      net: ``Transformer``, ``NgramMLP``, or ``Bigram`` for the floor.
      chunk: tokens whose logits stand in memory at once; rows of more tokens in all are done in several parts.
      z_loss: weight of the squared logarithm of the sum of the exponentials of a token's logits, which is added to the
        loss in training, to hold logits in the range that bfloat16 tells apart.
      sampler: how texts are drawn.
    """

    net: Any = Transformer()
    chunk: int = 1024
    z_loss: float = 0.0
    sampler: Decoding = Decoding()

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise UserError(f"chunk is at least 1 token, not {self.chunk}")
        if not self.z_loss >= 0:
            raise UserError(f"z_loss is not negative, but {self.z_loss} is")
        if not getattr(self.net, "causal", True):
            raise UserError("an autoregressive model is causal: it would see what it is to predict")

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Any]:
        if spec.vocabulary is None:
            raise UserError(f"an autoregressive model is of tokens, but the data are of {spec.entry}")
        length = spec.shape[0] - 1
        if max(length, spec.source_length or 0) > self.net.context:
            raise UserError(
                f"the rows of the data make {length} predictions"
                + (f" of {spec.source_length} source tokens" if spec.source_length else "")
                + f", more than the context of {self.net.context} (family.net.context)"
            )
        variables = {} if spec.token_bytes is None else {"token_bytes": jnp.asarray(spec.token_bytes, jnp.float32)}
        tokens = example["tokens"][:, :1]
        if spec.source_length is None:
            return _module(self.net, spec.vocabulary).init(key, tokens)["params"], variables
        assert spec.source_vocabulary is not None
        if not hasattr(self.net, "cross_attention"):
            raise UserError(f"these data have a source, which a {type(self.net).__name__} does not read")
        if self.sampler.source is None and not self.sampler.source_tokens:
            raise UserError("these data have a source: samples need one, too (family.sampler.source)")
        one, two = jax.random.split(key)
        encoder, decoder = self._encoder(spec.source_vocabulary), _module(self._net(True), spec.vocabulary)
        encoded, params = encoder.init_with_output(one, example["source_tokens"][:, :1])
        return {
            "encoder": params["params"],
            "decoder": decoder.init(two, tokens, memory=encoded[0])["params"],
        }, variables

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Any, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def loss(params: Params, variables: Any, batch: Batch, key: jax.Array) -> tuple[Metrics, Any]:
            found = self.predictions(params, batch, key)
            nll = Mean.of(found.nll, found.weight)
            if not self.z_loss:
                return {"loss": nll}, variables
            z_loss = Mean.of(self.z_loss * jnp.square(found.log_total), found.weight)
            return {"loss": Mean(nll.sum + z_loss.sum, nll.weight), "nll": nll, "z_loss": z_loss}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        found = self.predictions(state.params, batch)
        metrics = {"loss": Mean.of(found.nll, found.weight)}
        if "token_bytes" in state.variables:
            in_bytes = state.variables["token_bytes"][batch["tokens"][:, 1:]]
            bits = metrics["loss"].sum / math.log(2)
            metrics["bits_per_byte"] = Mean(bits, jnp.sum(in_bytes * found.weight))
        return metrics

    def sample(self, state: State, key: jax.Array, n: int, options: Decoding) -> jax.Array:
        """Texts [n, T] int32 from the first token of their prompt on, ended ones filled up with their end.

        T is the length of the prompt and ``options.steps``, but no more than the context and the token after it.

        Raises:
          UserError: a prompt longer than the context, or of tokens outside the vocabulary.
        """
        params = state.params
        vocabulary = self._vocabulary(params)
        prompt, source = self._asked(params, options, vocabulary)
        steps = min(options.steps, self.net.context + 1 - len(prompt))
        reads = "encoder" in params
        decoder = params["decoder"] if reads else params
        net = self._net(reads)
        if getattr(net, "scan_layers", False):  # token by token a loop over layers is slow
            net, decoder = dataclasses.replace(net, scan_layers=False), unstacked(decoder)
        module = _module(net, vocabulary)

        def model(tokens: jax.Array, mask: jax.Array, cache: Any, last: int) -> tuple[jax.Array, Any]:
            hidden, cache = module.apply({"params": decoder}, tokens, None, mask.astype(jnp.int32), cache=cache)
            return module.apply({"params": decoder}, hidden[:, -last:], method="logits"), cache

        capacity = len(prompt) + steps - 1
        if reads:
            rows = jnp.broadcast_to(jnp.asarray(source, jnp.int32), (n, len(source)))
            memory = self._read(params["encoder"], rows, jnp.ones(rows.shape))
            cache = net.new_cache(n, capacity, len(source))
            nothing = jnp.zeros((n, 1), jnp.int32)  # padding, which leaves the memory alone in the cache
            _, cache = module.apply({"params": decoder}, nothing, None, nothing, memory, cache=cache)
        else:
            cache = net.new_cache(n, capacity)
        prompts = jnp.broadcast_to(jnp.asarray(prompt, jnp.int32), (n, len(prompt)))
        stops = tuple((end,) for end in options.ends)
        drawing = generate(
            model,
            cache,
            prompts,
            jnp.ones(prompts.shape, bool),
            dataclasses.replace(options, steps=steps),
            key,
            stops,
            pad=options.ends[0] if options.ends else 0,
        )
        return jnp.concatenate([prompts, drawing.tokens], 1)

    def prepared(self, options: Decoding, codec: Any) -> Decoding:
        return options.encoded(codec)

    def predictions(self, params: Params, batch: Batch, key: jax.Array | None = None) -> Predictions:
        """Of the tokens 1 to T of each row from those before them; a key says training."""
        inputs = batch.get("inputs", batch["tokens"])[:, :-1]
        weight = batch["loss_mask"][:, 1:] * batch["mask"][:, None]
        told = {name: batch[name][:, :-1] for name in ("positions", "segment_ids") if name in batch}
        decoder, reads = params, "encoder" in params
        keys = (None, None) if key is None else jax.random.split(key)
        if reads:
            decoder = params["decoder"]
            told["memory_mask"] = batch.get("source_segment_ids", batch["source_mask"])
            places = batch.get("source_positions")
            told["memory"] = self._read(params["encoder"], batch["source_tokens"], told["memory_mask"], keys[0], places)
        module = _module(self._net(reads), self._vocabulary(params))
        hidden, _ = module.apply({"params": decoder}, inputs, **told, rngs=_rngs(keys[1]), train=key is not None)
        rows, kernel, bias = module.apply({"params": decoder}, hidden, method="head")
        targets = batch["tokens"][:, 1:].reshape(-1)
        nll, log_total = chunked_cross_entropy(
            rows.reshape(len(targets), -1),
            kernel,
            targets,
            bias=bias,
            weights=weight.reshape(-1) if len(targets) > self.chunk else None,  # to sort a few rows pays nothing
            softcap=self.net.logit_softcap,
            chunk=self.chunk,
        )
        return Predictions(nll.reshape(weight.shape), log_total.reshape(weight.shape), weight)

    def _net(self, reads: bool) -> Any:
        """The hyper-parameters of what predicts, which may read a source."""
        return dataclasses.replace(self.net, cross_attention=True) if reads else self.net

    def _encoder(self, vocabulary: int) -> TokenNet:
        """What reads the source; it has no head."""
        biases = tuple(bias for bias in self.net.biases if bias != "head")
        net = dataclasses.replace(self.net, causal=False, cross_attention=False, tied=True, biases=biases)
        return TokenNet(dataclasses.replace(net, head_transform=False), vocabulary)

    def _read(
        self,
        params: Params,
        tokens: jax.Array,
        mask: jax.Array,
        key: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> jax.Array:
        """Features [B, S, C] of source tokens int32 [B, S], of which mask [B, S] numbers the real ones' segments."""
        segments = mask.astype(jnp.int32)
        module = self._encoder(self._vocabulary(params))
        return module.apply({"params": params}, tokens, positions, segments, rngs=_rngs(key), train=key is not None)[0]

    def _vocabulary(self, params: Params) -> int:
        params = params.get("decoder", params)
        return len(params["embedding" if "embedding" in params else "table"])

    def _asked(self, params: Params, options: Decoding, vocabulary: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens of the prompt and of the source."""
        prompt, source = options.tokens or (0,), options.source_tokens
        for name, tokens, known in (
            ("prompt", prompt, vocabulary),
            ("end", options.ends, vocabulary),
            ("source", source, self._vocabulary(params["encoder"]) if "encoder" in params else 0),
        ):
            if tokens and not known:
                raise UserError("this model reads no source: leave sampler.source out")
            if not all(0 <= token < known for token in tokens):
                raise UserError(f"the {name} holds a token outside the model's vocabulary of {known:,}")
            if len(tokens) > self.net.context:
                size = f"{len(tokens):,} tokens, more than the context of {self.net.context:,}"
                raise UserError(f"the {name} is of {size}")
        if "encoder" in params and not source:
            raise UserError("this model writes what a source says: give one (sampler.source)")
        return prompt, source


def _module(net: Any, vocabulary: int) -> Any:
    return TokenNet(net, vocabulary) if isinstance(net, Transformer) else net.module(vocabulary)


def _rngs(key: jax.Array | None) -> dict[str, jax.Array]:
    return {} if key is None else {"dropout": key}
