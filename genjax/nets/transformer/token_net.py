"""The Transformer's network (Vaswani et al., arXiv 1706.03762), from tokens to features and
from those to logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.nets.transformer.blocked_attention import visible
from genjax.nets.transformer.cache import Cache, LayerCache, Memory
from genjax.nets.transformer.feed_forward import FeedForward, activate
from genjax.nets.transformer.positions import sinusoids
from genjax.nets.transformer.token_attention import RelationScene, TokenAttention

Net = Any  # a `Transformer`, which is above: its `module` makes what is here


def _norm(net: Net, dtype: Any, name: str | None = None) -> nn.Module:
    """Build the network: [..., C] -> the same; statistics are float32."""
    if net.norm == "rms":
        return nn.RMSNorm(net.norm_epsilon, dtype=dtype, name=name)
    return nn.LayerNorm(net.norm_epsilon, dtype=dtype, use_bias="norm" in net.biases, name=name)


class Block(nn.Module):
    """Attention, cross-attention if any, and the perceptron, each added to what it read: [B,
    T, C] -> the same.
    """

    net: Net
    train: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, cache: LayerCache | None, scene: RelationScene
    ) -> tuple[jax.Array, LayerCache | None]:
        """Return the output, and the cache with the tokens in it."""
        net = self.net
        init = nn.initializers.normal(net.init_std * net.shrink**0.5)
        last = nn.initializers.normal(net.init_std * net.shrink**0.5 / (2 * net.layers) ** 0.5)

        def added(x: jax.Array, branch: Callable[[jax.Array], jax.Array], name: str) -> jax.Array:
            norm = _norm(net, x.dtype, f"{name}_norm")
            y = branch(norm(x) if net.norm_first else x)
            x = x + nn.Dropout(net.dropout, deterministic=not self.train)(y)
            return x if net.norm_first else norm(x)

        def attention(y: jax.Array, cross: bool = False) -> jax.Array:
            nonlocal cache
            attend = TokenAttention(
                net.heads,
                net.keys_of_heads,
                net.head_size,
                net.rule,
                net.attention,
                "attention" in net.biases,
                "mix" in net.biases,
                net.norm_epsilon if net.qk_norm else None,
                net.attention_dropout,
                init,
                last,
                cross,
                name="cross" if cross else "attention",
            )
            y, cache = attend(y, cache, scene, self.train)
            return y

        def feed_forward(y: jax.Array) -> jax.Array:
            bias = "feed_forward" in net.biases
            perceptron = FeedForward(
                net.hidden_width, net.activation, bias, init, last, name="feed_forward"
            )
            return perceptron(y.reshape(-1, y.shape[-1])).reshape(y.shape)

        x = added(x, attention, "attention")
        if net.cross_attention:
            x = added(x, lambda y: attention(y, cross=True), "cross")
        return added(x, feed_forward, "feed_forward"), cache


class TokenNet(nn.Module):
    """A Transformer over tokens 0 to vocabulary - 1; `Transformer.module` makes it.

    Attributes:
        net: Its hyper-parameters, a `Transformer`.
        vocabulary: Tokens that there are.
    """

    net: Net
    vocabulary: int

    def setup(self) -> None:
        net = self.net
        if self.vocabulary < 1:
            raise UserError(f"a vocabulary has at least 1 token, not {self.vocabulary}")
        init = nn.initializers.normal(net.init_std)
        self.embedding = self.param("embedding", init, (self.vocabulary, net.width))
        dtype = self.embedding.dtype
        if net.positions == "learned":
            self.position_embedding = self.param(
                "position_embedding", init, (net.context, net.width)
            )
        if net.token_types:
            self.type_embedding = self.param("type_embedding", init, (net.token_types, net.width))
        if net.norm_embeddings:
            self.embedding_norm = _norm(net, dtype)
        if net.norm_first:
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
        """Return features of each token [B, T, C], and the cache with the tokens in it.

        Args:
            tokens: int32 [B, T]; one that is not in the vocabulary gives NaN.
            positions: int32 [B, T]; by default they count from 0, with a cache from the length of
              each row.
            segment_ids: int32 [B, T], tokens of different segments do not see each other, 0 for
                padding; with a cache only what is 0 counts: those tokens are not kept, wherever in
                the row they stand.
            memory: For cross-attention; None when the cache has it from an earlier call.
            cache: Of `Transformer.new_cache`, of enough capacity: tokens past it are lost.
            types: int32 [B, T], kinds of tokens; all 0 by default.
            prefix: bool [B, T], tokens that see one another both ways within their segment (prefix
                LM: Raffel et al., arXiv 1910.10683, section 3.2.1); with a cache those of one call.
            train: Whether dropout (of the rng "dropout") acts.

        Raises:
            UserError: more tokens than the context; a memory that the model does not read, or that
              it lacks.
        """
        net = self.net
        self._check_call(tokens.shape[1], memory, cache)
        places: jax.Array | np.ndarray
        if cache is not None:
            scene, places, cache = self._make_scene(
                tokens, positions, segment_ids, memory, cache, prefix
            )
        else:
            counted = np.arange(tokens.shape[1], dtype=np.int32)[None]
            places = counted if positions is None else positions
            read = (None, None) if memory is None else memory
            scene = RelationScene(None, None, None, segment_ids, prefix, *read)
        if net.positions == "rotary":
            scene = scene._replace(table=net.rotary.make_table(places, net.head_size))
        x = self._embed(tokens, places, types)
        x = nn.Dropout(net.dropout, deterministic=not train, name="embedding_dropout")(x)
        x, layers = self._apply_blocks(x, None if cache is None else cache.layers, scene, train)
        if net.norm_first:
            x = self.final_norm(x)
        if self.is_initializing():
            self.head(x)
        return x, None if cache is None else cache._replace(layers=layers)

    def _check_call(self, count: int, memory: Memory | None, cache: Cache | None) -> None:
        net = self.net
        if count > net.context:
            raise UserError(f"{count} tokens are more than the context of {net.context}")
        if net.cross_attention and memory is None and cache is None:
            raise UserError("a transformer with cross-attention needs a memory to read")
        if not net.cross_attention and memory is not None:
            raise UserError("this transformer reads no memory; set cross_attention")

    def head(self, hidden: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """What logits are made of: rows [..., C], kernel [V, C] and bias [V] or None; logits = rows
        kernel^T + bias.

        The soft-cap comes after. For a loss that makes logits a chunk at a time.
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
        """Return features [..., C] to logits [..., V] in float32."""
        rows, kernel, bias = self.head(hidden)
        flat = rows.reshape(-1, rows.shape[-1])
        out = jnp.einsum("nd,vd->nv", flat, kernel, preferred_element_type=jnp.float32)
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
        if net.positions == "learned":
            counted = isinstance(places, np.ndarray)
            table = self.position_embedding
            x = x + (table[None, : tokens.shape[1]] if counted else table[places])
        elif net.positions == "sinusoidal":
            x = x + sinusoids(jnp.asarray(places), net.width).astype(x.dtype)
        if net.token_types:
            kinds = jnp.zeros_like(tokens) if types is None else types
            x = x + self.type_embedding[kinds]
        return self.embedding_norm(x) if net.norm_embeddings else x

    def _make_scene(
        self,
        tokens: jax.Array,
        positions: jax.Array | None,
        segment_ids: jax.Array | None,
        memory: Memory | None,
        cache: Cache,
        prefix: jax.Array | None,
    ) -> tuple[RelationScene, jax.Array, Cache]:
        """What the layers need to know, positions [B, T], and the cache with its new lengths."""
        real = jnp.ones(tokens.shape, bool) if segment_ids is None else segment_ids > 0
        order = cache.lengths[:, None] + jnp.cumsum(real, 1, dtype=jnp.int32) - 1
        several = (
            tokens.shape[1] > 1
        )  # of which padding goes nowhere; a single one past the row's end
        slots = jnp.where(real, order, cache.capacity) if several else cache.lengths[:, None]
        both_ways = None
        if prefix is not None and several:
            rows = jnp.arange(len(tokens))[:, None]
            kept = (
                jnp.zeros((len(tokens), cache.capacity), bool)
                .at[rows, slots]
                .set(prefix, mode="drop")
            )
            both_ways = prefix, kept
        mask = visible(self.net.rule, order, jnp.arange(cache.capacity), None, both_ways)
        features = None
        if memory is not None:
            features, given = memory
            real_memory = jnp.ones(features.shape[:2], bool) if given is None else given > 0
            cache = cache._replace(memory_mask=real_memory)
        scene = RelationScene(None, mask, slots, None, None, features, cache.memory_mask)
        cache = cache._replace(lengths=cache.lengths + real.sum(1, dtype=jnp.int32))
        return scene, jnp.maximum(order, 0) if positions is None else positions, cache

    def _apply_blocks(
        self, x: jax.Array, caches: Any, scene: RelationScene, train: bool
    ) -> tuple[jax.Array, Any]:
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
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast),
                length=net.layers,
            )
            return scanned(net, train, name="layers")(x, caches, scene)
        after = []
        for i in range(net.layers):
            x, cache = block(net, train, name=f"layer_{i}")(
                x, None if caches is None else caches[i], scene
            )
            after.append(cache)
        return x, tuple(after)


def stack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with layers side by side (`layer_0`, ...) as those of `scan_layers`
    (`layers`, a leading axis L).
    """
    names = sorted(
        (name for name in params if name.startswith("layer_")), key=lambda name: int(name[6:])
    )
    layers = jax.tree.map(lambda *parts: jnp.stack(parts), *(params[name] for name in names))
    return {name: part for name, part in params.items() if name not in names} | {"layers": layers}


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inverse of `stacked`: what generates fast, with a `Transformer` whose
    `scan_layers` is off.
    """
    layers = params["layers"]
    count = len(jax.tree.leaves(layers)[0])
    parts = {f"layer_{i}": jax.tree.map(lambda a, i=i: a[i], layers) for i in range(count)}
    return {name: part for name, part in params.items() if name != "layers"} | parts
