"""The Transformer over tokens as hyper-parameters: decoder, encoder, or one that reads a memory."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.nets.transformer.blocked_attention import Rule
from genjax.nets.transformer.cache import Cache, LayerCache
from genjax.nets.transformer.feed_forward import GATED, Activation, check_activation
from genjax.nets.transformer.positions import Rotary
from genjax.nets.transformer.token_attention import Implementation
from genjax.nets.transformer.token_net import TokenNet

Positions = Literal["learned", "sinusoidal", "rotary", "none"]
Norm = Literal["layer", "rms"]
Remat = Literal["nothing", "products", "everything"]
Bias = Literal["attention", "mix", "feed_forward", "norm", "head"]


@checks.frozen
class MuP:
    """Maximal update parametrization: what is tuned at one width holds at others (Yang et al.,
    arXiv 2203.03466).

    Beside the model of the base width (their table 8) matrices of the blocks start with deviations
    smaller by sqrt(base / width), and Adam's learning rate of them is base / width times as high:
    give `Transformer.rates()` to the optimizer's `rates`. Logits are multiplied by base / width,
    scores of heads D wide by sqrt(base D) / D instead of 1 / sqrt(D). Embeddings, biases and norms
    stay as they are.

    Attributes:
        width: Of the model that was tuned; one of this width is the ordinary one.
        head_width: Of its heads.
    """

    width: int = 128
    head_width: int = 32

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "width", "head_width")


@checks.frozen
class Transformer:
    """Blocks of attention and a perceptron over embedded tokens; the defaults are GPT-2's.

    Attributes:
        layers: Blocks.
        heads: Of the attention.
        width: Of a token.
        context: The longest sequence, longer ones are refused; rows of the table of learned
          positions.
        kv_heads: Heads of keys and values, shared by groups of queries; None for `heads`, 1 for
          multi-query attention.
        head_width: None for width / heads.
        hidden: Width within the perceptron; None for 4 width, gated 8/3 width rounded up to a
          multiple of 8.
        positions: How a token's position is encoded.
        rotary: Of rotary positions.
        norm: Layer norm or, without a mean, RMS norm (Zhang & Sennrich, arXiv 1910.07467).
        norm_first: Before each branch and once at the end (pre-norm), or after each sum (post-norm,
          BERT's).
        norm_embeddings: One after the embeddings, too (BERT's).
        norm_epsilon: Added to the variance.
        activation: Of the perceptron.
        biases: Where there are biases: in the matrices of queries, keys and values ("attention"),
            in the one that mixes heads, in the perceptron, in layer norms, in the head.
        qk_norm: RMS norm of queries and keys (arXiv 2302.05442).
        causal: Whether a token sees those before it and itself alone.
        window: It sees tokens less than this many places away; None for all.
        cross_attention: Whether each block reads a memory, too.
        attention_softcap: Bound of the scores by tanh (arXiv 2408.00118); None for none.
        logit_softcap: Of the logits.
        tied: The head is the table of embeddings (Press & Wolf, arXiv 1608.05859).
        head_transform: A matrix, activation and norm before the head (BERT's).
        token_types: Kinds of tokens with an embedding each (BERT's two sentences); 0 for none.
        dropout: Share that a training step drops of the embeddings and of each branch.
        attention_dropout: Of the attention's weights; such steps compute attention by "xla".
        attention: "xla", "blocked" (memory grows with the length, not its square) or "cudnn" (a
            GPU's kernel in bfloat16; refuses packed rows and soft-caps). With a cache always "xla".
        scan_layers: One compiled block for all layers, their parameters stacked; it compiles faster
            and, token by token, runs slower: see `token_net.unstacked`.
        remat: What the forward pass of a block makes again for the gradient: nothing, all but
            matrix products, or everything.
        init_std: Deviation of the first weights, that of each branch's last matrix over sqrt(2
          layers).
        mup: Width-independent hyper-parameters; None for the standard parametrization.
    """

    layers: int = 12
    heads: int = 12
    width: int = 768
    context: int = 1024
    kv_heads: int | None = None
    head_width: int | None = None
    hidden: int | None = None
    positions: Positions = "learned"
    rotary: Rotary = Rotary()
    norm: Norm = "layer"
    norm_first: bool = True
    norm_embeddings: bool = False
    norm_epsilon: float = 1e-5
    activation: Activation = "gelu_tanh"
    biases: tuple[Bias, ...] = ("attention", "mix", "feed_forward", "norm")
    qk_norm: bool = False
    causal: bool = True
    window: int | None = None
    cross_attention: bool = False
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    tied: bool = True
    head_transform: bool = False
    token_types: int = 0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    attention: Implementation = "xla"
    scan_layers: bool = False
    remat: Remat = "nothing"
    init_std: float = 0.02
    mup: MuP | None = None

    def __post_init__(self) -> None:
        checks.at_least(
            self,
            1,
            "layers",
            "heads",
            "width",
            "context",
            "kv_heads",
            "head_width",
            "hidden",
            "window",
        )
        if not self.scan_layers:
            checks.depth(self, "layers")
        check_activation(self.activation)
        if self.head_width is None and self.width % self.heads:
            raise UserError(
                f"heads must be a divisor of {self.width} (width), got {self.heads}", "heads"
            )
        if self.heads % self.keys_of_heads:
            raise UserError(
                f"kv_heads must be a divisor of {self.heads} (heads), got {self.kv_heads}",
                "kv_heads",
            )
        odd = {"rotary": self.head_size % 2, "sinusoidal": self.width % 2}
        if odd.get(self.positions):
            raise UserError(
                f"{self.positions} positions come in pairs of entries: their width is even, not odd"
            )
        checks.share(self, "dropout", "attention_dropout")
        checks.above(self, 0, "attention_softcap", "logit_softcap")
        if self.attention == "cudnn" and (self.attention_softcap or self.attention_dropout):
            raise UserError(
                'attention="cudnn" knows neither attention_softcap nor attention_dropout'
            )
        checks.at_least(self, 0, "token_types")
        checks.above(self, 0, "init_std", "norm_epsilon")

    @property
    def keys_of_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.width // self.heads if self.head_width is None else self.head_width

    @property
    def hidden_width(self) -> int:
        """Width within the perceptron."""
        if self.hidden is not None:
            return self.hidden
        return -(-8 * self.width // 24) * 8 if self.activation in GATED else 4 * self.width

    @property
    def shrink(self) -> float:
        """muP's base / width; 1 in the standard parametrization."""
        return 1.0 if self.mup is None else self.mup.width / self.width

    @property
    def rule(self) -> Rule:
        """Of the attention."""
        base = self.head_size if self.mup is None else self.mup.head_width
        return Rule(base**0.5 / self.head_size, self.causal, self.window, self.attention_softcap)

    def module(self, vocabulary: int) -> TokenNet:
        """Return the network over tokens 0 to vocabulary - 1."""
        return TokenNet(self, vocabulary)

    def rates(self) -> tuple[tuple[str, float], ...]:
        """For an Adam's `rates`: what muP multiplies the learning rate of the blocks' matrices by.

        The same for a model whose parts, such as encoder and decoder, are all of these
        hyper-parameters.
        """
        blocks = (r"(^|/)layers?(_\d+)?/.*kernel", self.shrink)
        return (
            (blocks, ("(^|/)transform/kernel", self.shrink)) if self.head_transform else (blocks,)
        )

    def new_cache(
        self, batch: int, capacity: int, memory: int = 0, dtype: Any = jnp.float32
    ) -> Cache:
        """Return an empty cache for `capacity` tokens a row, and for memories [batch, memory, C]
        with cross-attention.

        Raises:
            UserError: it is longer than the context, or the model is not causal.
        """
        if not self.causal:
            raise UserError(
                "a cache needs causal attention: earlier tokens would have to see later ones"
            )
        if capacity > self.context:
            raise UserError(f"{capacity} tokens are more than the context of {self.context}")
        if self.cross_attention and memory < 1:
            raise UserError(
                "a cache of a model with cross-attention needs the length of its memory"
            )

        def zeros(slots: int) -> jax.Array:
            shape = (batch * self.keys_of_heads, slots, self.head_size)
            return jnp.zeros((self.layers, *shape) if self.scan_layers else shape, dtype)

        def layer() -> LayerCache:
            if not self.cross_attention:
                return LayerCache(zeros(capacity), zeros(capacity))
            return LayerCache(zeros(capacity), zeros(capacity), zeros(memory), zeros(memory))

        layers = layer() if self.scan_layers else tuple(layer() for _ in range(self.layers))
        mask = jnp.zeros((batch, memory), bool) if self.cross_attention else None
        return Cache(layers, jnp.zeros(batch, jnp.int32), mask)
