"""The network of the Transformer (Vaswani et al., arXiv 1706.03762): tokens to features to
logits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.losses import multiply
from genjax.nets.transformer.blocked_attention import make_mask
from genjax.nets.transformer.cache import Cache, LayerCache, Memory
from genjax.nets.transformer.experts import ROUTING, ExpertLayer, Experts
from genjax.nets.transformer.feed_forward import FeedForward, activate
from genjax.nets.transformer.positions import encode_sinusoids
from genjax.nets.transformer.token_attention import SharedInputs, TokenAttention

# A `Transformer` and its `LayerKind`; their module imports this one.
Net = Any
Kind = Any


def _norm(net: Net, dtype: Any, name: str | None = None) -> nn.Module:
    """Build the norm: [..., C] -> the same; statistics are float32."""
    if net.norm == "rms":
        return nn.RMSNorm(net.norm_epsilon, dtype=dtype, name=name)
    return nn.LayerNorm(net.norm_epsilon, dtype=dtype, use_bias="norm" in net.biases, name=name)


class Block(nn.Module):
    """A residual block of attention, optional cross-attention and feed-forward, or ``experts``: [B,
    T, C] -> the same.
    """

    net: Net
    train: bool
    kind: Kind
    experts: Experts | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, cache: LayerCache | None, shared: SharedInputs
    ) -> tuple[jax.Array, LayerCache | None]:
        """Return the output and the updated cache."""
        net = self.net
        init = nn.initializers.normal(net.init_std * net.shrink**0.5)
        last = nn.initializers.normal(net.init_std * net.shrink**0.5 / (2 * net.layers) ** 0.5)

        def normed(x: jax.Array, name: str) -> jax.Array:
            return _norm(net, x.dtype, name)(x)

        def added(
            x: jax.Array, branch: Callable[[jax.Array], jax.Array], name: str, read: jax.Array
        ) -> jax.Array:
            """Add to ``x`` what a branch makes of ``read``."""
            first = net.norm_first and (self.kind.normed or name != "attention")
            y = branch(normed(read, f"{name}_norm") if first else read)
            if net.norm_last:
                y = normed(y, f"{name}_last_norm")
            x = x + nn.Dropout(net.dropout, deterministic=not self.train)(y)
            return x if net.norm_first or net.norm_last else normed(x, f"{name}_norm")

        def attention(y: jax.Array, cross: bool = False) -> jax.Array:
            nonlocal cache
            attend = TokenAttention(
                net.heads,
                net.keys_of_heads,
                net.head_size,
                dataclasses.replace(net.rule, window=self.kind.window),
                net.attention,
                "attention" in net.biases,
                "mix" in net.biases,
                net.norm_epsilon if net.qk_norm else None,
                net.attention_dropout,
                init,
                last,
                cross,
                net.qk_norm_whole,
                name="cross" if cross else "attention",
            )
            y, cache = attend(y, cache, shared, self.train)
            return y

        def feed_forward(y: jax.Array) -> jax.Array:
            bias = "feed_forward" in net.biases
            if self.experts is not None:
                width = self.experts.hidden or net.hidden_width
                return ExpertLayer(
                    self.experts, width, net.activation, bias, init, last, name="feed_forward"
                )(y)
            perceptron = FeedForward(
                net.hidden_width, net.activation, bias, init, last, name="feed_forward"
            )
            return perceptron(y.reshape(-1, y.shape[-1])).reshape(y.shape)

        before, x = x, added(x, attention, "attention", x)
        if net.cross_attention:
            x = added(x, lambda y: attention(y, cross=True), "cross", x)
        return added(x, feed_forward, "feed_forward", before if net.parallel else x), cache


class TokenNet(nn.Module):
    """A Transformer over tokens 0 to vocabulary - 1, built by ``Transformer.module``.

    Attributes:
      net: hyper-parameters, a ``Transformer``.
      vocabulary: number of tokens, V.
      ahead: whether there are features for each of the n next tokens (``Transformer.ahead``); then
        the cache is one with ``ahead``.
    """

    net: Net
    vocabulary: int
    ahead: bool = False

    def setup(self) -> None:
        net = self.net
        if self.vocabulary < 1:
            raise UserError(f"vocabulary must be >= 1, got {self.vocabulary}", "vocabulary")
        init = nn.initializers.normal(net.init_std)
        self.embedding = self.param("embedding", init, (self.vocabulary, net.width))
        dtype = self.embedding.dtype
        if net.positions == "learned":
            self.position_embedding = self.param(
                "position_embedding", init, (net.context, net.width)
            )
        if net.periods:
            self.period_embedding = self.param(
                "period_embedding", init, (sum(net.periods), net.width)
            )
        if net.token_types:
            self.type_embedding = self.param("type_embedding", init, (net.token_types, net.width))
        if net.norm_embeddings:
            self.embedding_norm = _norm(net, dtype)
        if net.norm_first or net.norm_last:
            self.final_norm = _norm(net, dtype)
        if net.head_transform:
            shrunk = nn.initializers.normal(net.init_std * net.shrink**0.5)
            self.transform = nn.Dense(
                net.width, "head" in net.biases, dtype=dtype, kernel_init=shrunk
            )
            self.transform_norm = _norm(net, dtype)
        if not net.tied:
            self.head_kernel = self.param("head_kernel", init, (self.vocabulary, net.width))
        if "head" in net.biases:
            self.head_bias = self.param("head_bias", nn.initializers.zeros, (self.vocabulary,))

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        memory: Memory | None = None,
        cache: Cache | None = None,
        types: jax.Array | None = None,
        prefix: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, Cache | None]:
        """Return the features [B, T, C] of each token, or [n, B, T, C] with ``ahead``, and the
        updated cache.

        Args:
          tokens: int32 [B, T]; a token outside the vocabulary gives NaN.
          positions: int32 [B, T]; by default they count from 0, or with a cache from the length of
            each row.
          segment_ids: int32 [B, T], 0 for padding; tokens of different segments do not see each
            other. With a cache only the zeros matter: padding is not stored.
          memory: input of cross-attention; None when the cache has it from an earlier call.
          cache: cache from ``Transformer.new_cache``; tokens past its capacity are lost.
          types: int32 [B, T], token types; all 0 by default. Or float [B, T, C], features that are
            added to the embedded tokens.
          prefix: bool [B, T], tokens that see one another in both directions within their segment
            (prefix LM: Raffel et al., arXiv 1910.10683, section 3.2.1); or int32 [B, T], the number
            of a token's block, whose tokens do, 0 for none. With a cache, within one call.
          train: whether dropout, of the rng "dropout", is on.

        Raises:
          UserError: more tokens than the context; a memory that is missing or that the model does
            not read.
        """
        net = self.net
        self._check_call(tokens.shape[1], memory, cache)
        places: jax.Array | np.ndarray
        masks: dict[int | None, jax.Array | None] = {}
        if cache is not None:
            shared, masks, places, cache = self._share_inputs(
                tokens, positions, segment_ids, memory, cache, prefix
            )
        else:
            counted = np.arange(tokens.shape[1], dtype=np.int32)[None]
            places = counted if positions is None else positions
            read = (None, None) if memory is None else memory
            shared = SharedInputs(None, None, None, segment_ids, prefix, *read)
        length = None if cache is None else cache.capacity
        of_kinds = {}
        for kind in dict.fromkeys(net.kinds):
            turned = net.positions == "rotary" and kind.rotary is not None
            table = kind.rotary.make_table(places, net.head_size, length) if turned else None
            of_kinds[kind] = shared._replace(table=table, mask=masks.get(kind.window))
        x = self._embed(tokens, places, types)
        x = nn.Dropout(net.dropout, deterministic=not train, name="embedding_dropout")(x)
        every = self.ahead or self.is_initializing()
        x, layers = self._apply_blocks(
            x, None if cache is None else cache.layers, of_kinds, train, every
        )
        if net.norm_first or net.norm_last:
            x = self.final_norm(x)
        if self.is_initializing():
            self.head(x)
        x = x if self.ahead or not every else x[0]
        return x, None if cache is None else cache._replace(layers=layers)

    def _check_call(self, count: int, memory: Memory | None, cache: Cache | None) -> None:
        net = self.net
        if count > net.context:
            raise UserError(
                f"a sequence must have at most {net.context} tokens (context), got {count}",
                "context",
            )
        if net.cross_attention and memory is None and cache is None:
            raise UserError("a transformer with cross-attention needs a memory to read")
        if not net.cross_attention and memory is not None:
            raise UserError(
                "cross_attention must be True for a transformer that reads a memory",
                "cross_attention",
            )

    def head(self, hidden: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Return rows [..., C], kernel [V, C] and bias [V] or None: logits = rows kernel^T + bias.

        The soft-cap comes after that. For losses that compute logits chunk by chunk.
        """
        net = self.net
        rows = hidden
        if net.head_transform:
            flat = activate(net.activation, self.transform(rows.reshape(-1, net.width)))
            rows = self.transform_norm(flat).reshape(rows.shape)
        if net.mup is not None:
            rows = rows * net.shrink
        kernel = self.embedding if net.tied else self.head_kernel
        return rows, kernel, self.head_bias if "head" in net.biases else None

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Map features [..., C] to float32 logits [..., V]."""
        rows, kernel, bias = self.head(hidden)
        flat = rows.reshape(-1, rows.shape[-1])
        out = multiply("nd,vd->nv", flat, kernel)
        if bias is not None:
            out = out + bias.astype(jnp.float32)[None]
        if self.net.logit_softcap is not None:
            out = self.net.logit_softcap * jnp.tanh(out / self.net.logit_softcap)
        return out.reshape(*hidden.shape[:-1], -1)

    def _embed(
        self, tokens: jax.Array, places: jax.Array | np.ndarray, types: jax.Array | None
    ) -> jax.Array:
        net = self.net
        x = self.embedding.at[tokens].get(mode="fill", fill_value=jnp.nan)
        if net.embedding_scale != 1:
            x = x * net.embedding_scale
        if net.positions == "learned":
            counted = isinstance(places, np.ndarray)
            table = self.position_embedding
            x = x + (table[None, : tokens.shape[1]] if counted else table[places])
        elif net.positions == "sinusoidal":
            x = x + encode_sinusoids(jnp.asarray(places), net.width).astype(x.dtype)
        for number, period in enumerate(net.periods):  # of one table, one after another
            phase = jnp.asarray(places) % period + sum(net.periods[:number])
            x = x + self.period_embedding[phase]
        if types is not None and jnp.issubdtype(types.dtype, jnp.floating):
            x = x + types.astype(x.dtype)
        elif net.token_types:
            kinds = jnp.zeros_like(tokens) if types is None else types
            x = x + self.type_embedding[kinds]
        return self.embedding_norm(x) if net.norm_embeddings else x

    def _share_inputs(
        self,
        tokens: jax.Array,
        positions: jax.Array | None,
        segment_ids: jax.Array | None,
        memory: Memory | None,
        cache: Cache,
        prefix: jax.Array | None,
    ) -> tuple[SharedInputs, dict[int | None, jax.Array | None], jax.Array, Cache]:
        """Return the layers' shared inputs, the mask of each window, positions [B, T], and the
        cache with its new lengths.
        """
        real = jnp.ones(tokens.shape, bool) if segment_ids is None else segment_ids > 0
        order = cache.lengths[:, None] + jnp.cumsum(real, 1, dtype=jnp.int32) - 1
        # Padding among several tokens is dropped; a single one goes past the end of its row.
        several = tokens.shape[1] > 1
        slots = jnp.where(real, order, cache.capacity) if several else cache.lengths[:, None]
        both_ways = None
        if prefix is not None and several:
            rows = jnp.arange(len(tokens))[:, None]
            kept = (
                jnp.zeros((len(tokens), cache.capacity), prefix.dtype)
                .at[rows, slots]
                .set(prefix, mode="drop")
            )
            both_ways = prefix, kept
        rules = [dataclasses.replace(self.net.rule, window=kind.window) for kind in self.net.kinds]
        columns = jnp.arange(cache.capacity)
        masks = {
            rule.window: make_mask(rule, order, columns, None, both_ways)
            for rule in dict.fromkeys(rules)
        }
        features = None
        if memory is not None:
            features, given = memory
            real_memory = jnp.ones(features.shape[:2], bool) if given is None else given > 0
            cache = cache._replace(memory_mask=real_memory)
        shared = SharedInputs(None, None, slots, None, None, features, cache.memory_mask)
        cache = cache._replace(lengths=cache.lengths + real.sum(1, dtype=jnp.int32))
        places = jnp.maximum(order, 0) if positions is None else positions
        return shared, masks, places, cache

    def _apply_blocks(
        self,
        x: jax.Array,
        caches: Any,
        of_kinds: Mapping[Kind, SharedInputs],
        train: bool,
        ahead: bool,
    ) -> tuple[jax.Array, Any]:
        """Return the features [B, T, C], or with ``ahead`` [n, B, T, C], and the caches."""
        net = self.net
        block: Any = Block
        if net.remat != "nothing":
            policy = (
                jax.checkpoint_policies.dots_with_no_batch_dims_saveable
                if net.remat == "products"
                else None
            )
            block = nn.remat(Block, policy=policy, prevent_cse=not net.scan_layers)
        if net.scan_layers:
            scanned = nn.scan(
                block,
                variable_axes={"params": 0, ROUTING: 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast),
                length=net.layers,
            )
            kind = net.kinds[0]  # which all have
            scanned = scanned(net, train, kind, net.experts, name="layers")
            x, caches = scanned(x, caches, of_kinds[kind])
            return (x[None] if ahead else x), caches
        after: list[Any] = []

        def apply(x: jax.Array, i: int, name: str) -> jax.Array:
            kind, cache = net.kinds[i], None if caches is None else caches[len(after)]
            x, cache = block(net, train, kind, net.experts_of(i), name=name)(
                x, cache, of_kinds[kind]
            )
            after.append(cache)
            return x

        for i in range(net.layers):
            trunk, x = x, apply(x, i, f"layer_{i}")
        if not ahead:
            return x, tuple(after)
        later = [apply(trunk, net.layers - 1, f"ahead_{n}") for n in range(2, net.ahead + 1)]
        return jnp.stack([x, *later]), tuple(after)


def stack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Stack the parameters of layers ``layer_0``, ... as ``scan_layers`` has them: ``layers``, with
    a leading axis L.
    """
    names = sorted(
        (name for name in params if name.startswith("layer_")), key=lambda name: int(name[6:])
    )
    layers = jax.tree.map(lambda *parts: jnp.stack(parts), *(params[name] for name in names))
    return {name: part for name, part in params.items() if name not in names} | {"layers": layers}


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Invert ``stack_layers``: without ``scan_layers`` a Transformer generates faster."""
    layers = params["layers"]
    count = len(jax.tree.leaves(layers)[0])
    parts = {f"layer_{i}": jax.tree.map(lambda a, i=i: a[i], layers) for i in range(count)}
    return {name: part for name, part in params.items() if name != "layers"} | parts
