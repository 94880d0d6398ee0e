"""Hyper-parameters of a Transformer over tokens: decoder, encoder, or one with cross-attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.nets.transformer.blocked_attention import Rule
from genjax.nets.transformer.cache import Cache, LayerCache
from genjax.nets.transformer.experts import ROUTING, Experts, Side, measure_load
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
    """Maximal update parametrization: hyper-parameters tuned at one width hold at others (Yang et
    al., arXiv 2203.03466).

    Compared with the base model (their table 8), the blocks' matrices start with standard
    deviations smaller by sqrt(base / width), and their learning rate in Adam is base / width times
    as high: pass ``Transformer.rates()`` as the optimizer's ``rates``. Logits are multiplied by
    base / width; attention scores of heads with width D by sqrt(base D) / D instead of 1 / sqrt(D).
    Embeddings, biases and norms do not change.

    Attributes:
      width: base width, at which the hyper-parameters were tuned.
      head_width: head width of the base model.
    """

    width: int = 128
    head_width: int = 32

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "width", "head_width")


@checks.frozen
class LayerKind:
    """What a layer's attention sees and how it knows positions, where layers differ.

    Attributes:
      window: a token sees others less than this many positions away; None for all.
      rotary: options of rotary positions; None for a layer without positions (NoPE, Kazemnejad et
        al., arXiv 2305.19466).
      normed: whether its attention has the norm of ``norm_first`` (ModernBERT's first layer, which
        follows that of the embeddings, has none).
    """

    window: int | None = None
    rotary: Rotary | None = Rotary()
    normed: bool = True

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "window")


@checks.frozen
class Transformer:
    """Blocks of attention and feed-forward over embedded tokens; the defaults are GPT-2's.

    Attributes:
      layers: number of blocks.
      heads: attention heads.
      width: token width.
      context: longest sequence, in tokens; also the number of learned positions.
      kv_heads: key and value heads, shared by groups of query heads; None for ``heads``, 1 for
        multi-query attention.
      head_width: width of a head; None for width / heads.
      hidden: feed-forward width; None for 4 width, or if gated 8/3 width rounded up to a multiple
        of 8.
      positions: how positions are encoded.
      rotary: options of rotary positions.
      embedding_scale: factor on the embedded tokens (in Gemma the root of the width).
      periods: lengths, in tokens, of cycles whose phase each token knows, by a learned embedding of
        its position modulo the length: the voice and the place in the bar of music, for example.
      norm: layer norm or, without a mean, RMS norm (Zhang & Sennrich, arXiv 1910.07467).
      norm_first: whether the norm is before each branch and once at the end (pre-norm), or after
        each sum (post-norm, as in BERT).
      norm_last: whether a norm ends each branch, before the sum: besides the first one (Gemma 2,
        arXiv 2408.00118), or without ``norm_first`` instead of that after the sum (OLMo 2, arXiv
        2501.00656). It also adds the one at the end.
      parallel: whether attention and feed-forward both read the input of their block, and both are
        added to it (GPT-J, GPT-NeoX, arXiv 2204.06745).
      norm_embeddings: whether a norm follows the embeddings (as in BERT).
      norm_epsilon: added to the variance.
      activation: activation of the feed-forward layers.
      biases: which layers have biases: the projections of queries, keys and values ("attention"),
        the output projection of attention ("mix"), feed-forward, layer norms, the head.
      qk_norm: whether queries and keys get an RMS norm (arXiv 2302.05442).
      qk_norm_whole: whether that norm is over all heads at once (OLMo 2), not over each.
      causal: whether a token sees only itself and earlier tokens.
      window: a token sees others less than this many positions away; None for all.
      layer_kinds: window and rotary positions of layers that differ, in place of ``window`` and
        ``rotary``; layer i has that of number i modulo their count. Empty if all are alike.
      score_width: scores are divided by its root; None for ``head_width``.
      cross_attention: whether each block also attends to a memory.
      attention_softcap: bound on the scores, by tanh (arXiv 2408.00118); None for none.
      logit_softcap: the same for the logits.
      tied: whether the head shares the embedding table (Press & Wolf, arXiv 1608.05859).
      head_transform: whether a dense layer, activation and norm precede the head (as in BERT).
      token_types: number of token types with an embedding each (the two sentences of BERT); 0 for
        none.
      dropout: share of the embeddings and of each branch dropped in training.
      attention_dropout: share of the attention weights dropped in training, which then uses "xla".
      attention: "xla" (all scores at once), "blocked" (memory grows with the length, not its
        square), "kernel" (of a GPU or TPU, in bfloat16) or "auto": the kernel where one fits,
        otherwise "blocked" from 1,024 tokens on, else "xla". With a cache always "xla".
      scan_layers: whether one compiled block, with stacked parameters, serves all layers. It
        compiles faster but generates slower: see ``token_net.unstack_layers``.
      remat: what the gradient of a block recomputes: "nothing", everything but matrix "products",
        or "everything".
      init_std: standard deviation of the initial weights; that of each branch's last matrix is
        divided by sqrt(2 layers).
      mup: maximal update parametrization; None for the standard one.
      experts: mixtures of experts in place of the feed-forward layers; None for none.
      ahead: number of next tokens that are predicted at each position, n. Each but the first has a
        block of its own beside the last layer, called ``ahead_2``, ``ahead_3`` and so on, on the
        features of the layers before; norm and head are shared (Gloeckle et al., arXiv 2404.19737).
        ``Autoregressive`` trains them.
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
    embedding_scale: float = 1.0
    periods: tuple[int, ...] = ()
    norm: Norm = "layer"
    norm_first: bool = True
    norm_last: bool = False
    parallel: bool = False
    norm_embeddings: bool = False
    norm_epsilon: float = 1e-5
    activation: Activation = "gelu_tanh"
    biases: tuple[Bias, ...] = ("attention", "mix", "feed_forward", "norm")
    qk_norm: bool = False
    qk_norm_whole: bool = False
    causal: bool = True
    window: int | None = None
    layer_kinds: tuple[LayerKind, ...] = ()
    score_width: int | None = None
    cross_attention: bool = False
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    tied: bool = True
    head_transform: bool = False
    token_types: int = 0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    attention: Implementation = "auto"
    scan_layers: bool = False
    remat: Remat = "nothing"
    init_std: float = 0.02
    mup: MuP | None = None
    experts: Experts | None = None
    ahead: int = 1

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
            "score_width",
            "ahead",
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
                f"width must be even per head for {self.positions} positions, got {self.width} "
                f"with {self.heads} heads",
                "width",
            )
        checks.share(self, "dropout", "attention_dropout")
        checks.above(self, 0, "attention_softcap", "logit_softcap")
        if self.attention == "kernel" and self.attention_dropout:
            raise UserError(
                'attention must be "auto", "xla" or "blocked" with attention_dropout, got "kernel"',
                "attention",
            )
        checks.at_least(self, 0, "token_types")
        if not all(period >= 2 for period in self.periods):
            raise UserError(f"periods must be >= 2 each, got {self.periods}", "periods")
        checks.above(self, 0, "init_std", "norm_epsilon", "embedding_scale")
        self._check_forms()
        self._check_experts()
        if self.ahead > 1 and (self.scan_layers or not self.causal):
            wrong = "scan_layers" if self.scan_layers else "causal=False"
            raise UserError(f"ahead must be 1 with {wrong}, got {self.ahead}", "ahead")

    def _check_forms(self) -> None:
        """Refuse forms that exclude one another."""
        if self.parallel and (not self.norm_first or self.cross_attention):
            other = "cross_attention" if self.norm_first else "norm_first=False"
            raise UserError(f"parallel must be False with {other}, got True", "parallel")
        if self.qk_norm_whole and not self.qk_norm:
            raise UserError(
                "qk_norm_whole must be False without qk_norm, got True", "qk_norm_whole"
            )
        if self.score_width is not None and self.mup is not None:
            raise UserError(
                f"score_width must be None with mup, got {self.score_width}", "score_width"
            )
        self._check_kinds()

    def _check_kinds(self) -> None:
        """Refuse kinds of layers that do not fit."""
        if self.layer_kinds and self.positions != "rotary":
            raise UserError(
                f'layer_kinds must be empty with {self.positions} positions: they are "rotary"',
                "layer_kinds",
            )
        if self.layer_kinds and (self.window is not None or self.rotary != Rotary()):
            raise UserError(
                "window and rotary must be left out with layer_kinds, which replace them", "window"
            )
        if not (self.norm_first or all(kind.normed for kind in self.layer_kinds)):
            raise UserError("norm_first must be True for layer_kinds without a norm", "norm_first")
        if self.scan_layers and len(set(self.kinds)) > 1:
            raise UserError(
                "scan_layers must be False where layer_kinds differ: it has one compiled block",
                "scan_layers",
            )
        if self.positions == "rotary":
            for kind in self.kinds:
                if kind.rotary is not None:
                    kind.rotary.turned_width(self.head_size)

    def _check_experts(self) -> None:
        dense = () if self.experts is None else self.experts.dense
        if any(number >= self.layers for number in dense):
            raise UserError(
                f"experts.dense must be numbers below {self.layers} (layers), got {dense}",
                "experts.dense",
            )
        if dense and self.scan_layers:
            raise UserError(
                "experts.dense must be empty with scan_layers, whose layers are alike, got "
                f"{dense}",
                "experts.dense",
            )

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """The window and rotary positions of each layer."""
        if not self.layer_kinds:
            return (LayerKind(self.window, self.rotary),) * self.layers
        return tuple(self.layer_kinds[i % len(self.layer_kinds)] for i in range(self.layers))

    @property
    def keys_of_heads(self) -> int:
        """The number of key and value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_size(self) -> int:
        """The width of a head."""
        return self.width // self.heads if self.head_width is None else self.head_width

    @property
    def hidden_width(self) -> int:
        """The width of the feed-forward layers."""
        if self.hidden is not None:
            return self.hidden
        return -(-8 * self.width // 24) * 8 if self.activation in GATED else 4 * self.width

    def experts_of(self, layer: int) -> Experts | None:
        """Return the experts of a layer, counted from 0; None if it has a feed-forward layer."""
        kept = self.experts is None or layer in self.experts.dense
        return None if kept else self.experts

    @property
    def shrink(self) -> float:
        """The ratio base / width of muP; 1 in the standard parametrization."""
        return 1.0 if self.mup is None else self.mup.width / self.width

    @property
    def rule(self) -> Rule:
        """The scale and visibility rule of the attention; ``layer_kinds`` have windows of their
        own.
        """
        base = self.head_size if self.mup is None else self.mup.head_width
        scale = base**0.5 / self.head_size if self.score_width is None else self.score_width**-0.5
        return Rule(scale, self.causal, self.window, self.attention_softcap)

    def module(self, vocabulary: int, ahead: bool = False) -> TokenNet:
        """Build the network over tokens 0 to vocabulary - 1; ``ahead`` gives features for each of
        the next tokens.
        """
        return TokenNet(self, vocabulary, ahead)

    def rates(self) -> tuple[tuple[str, float], ...]:
        """Return the factors on the blocks' learning rates in muP, for the ``rates`` of Adam.

        They also fit a model of several such parts, as an encoder and a decoder.
        """
        blocks = (r"(^|/)(layers?(_\d+)?|ahead_\d+)/.*kernel", self.shrink)
        return (
            (blocks, ("(^|/)transform/kernel", self.shrink)) if self.head_transform else (blocks,)
        )

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections that modules sow into; see ``HasSideLosses``."""
        return () if self.experts is None else (ROUTING,)

    def compute_side(self, sown: Mapping[str, Any], real: jax.Array, axis: str | None) -> Side:
        """Return the losses of the experts; see ``HasSideLosses``."""
        assert self.experts is not None
        load = measure_load(sown[ROUTING], real, axis)
        measures = {"balance": load.balance, "router_z": load.z, "load_entropy": load.entropy}
        return Side(self.experts.balance * load.balance + self.experts.z_loss * load.z, measures)

    def new_cache(
        self,
        batch: int,
        capacity: int,
        memory: int = 0,
        dtype: Any = jnp.float32,
        ahead: bool = False,
    ) -> Cache:
        """Create an empty cache for ``capacity`` tokens per row and, with cross-attention, memories
        [batch, memory, C]. With ``ahead`` it also serves the blocks of later tokens.

        Raises:
          UserError: the capacity exceeds the context; the model is not causal.
        """
        if not self.causal:
            raise UserError(
                "causal must be True for a cache: earlier tokens must not see later ones", "causal"
            )
        if capacity > self.context:
            raise UserError(
                f"a row must have at most {self.context} tokens (context), got {capacity}",
                "context",
            )
        if self.cross_attention and memory < 1:
            raise UserError(f"memory must be >= 1 with cross_attention, got {memory}", "memory")

        def zeros(slots: int) -> jax.Array:
            shape = (batch * self.keys_of_heads, slots, self.head_size)
            return jnp.zeros((self.layers, *shape) if self.scan_layers else shape, dtype)

        def layer() -> LayerCache:
            if not self.cross_attention:
                return LayerCache(zeros(capacity), zeros(capacity))
            return LayerCache(zeros(capacity), zeros(capacity), zeros(memory), zeros(memory))

        count = self.layers + (self.ahead - 1 if ahead else 0)
        layers = layer() if self.scan_layers else tuple(layer() for _ in range(count))
        mask = jnp.zeros((batch, memory), bool) if self.cross_attention else None
        return Cache(layers, jnp.zeros(batch, jnp.int32), mask)
