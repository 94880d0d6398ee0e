"""Next-scale prediction: the codes of an image are drawn scale by scale, coarse to fine.

Tian et al., arXiv 2404.02905 (VAR). Here the label is the start token alone, without adaptive
norms, and guidance has one scale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.code_prior import (
    AUTOENCODER,
    CodeSampler,
    ImageCodes,
    Rows,
    guide,
    needs_two,
)
from genjax.families.multiscale import MultiscaleCodebook
from genjax.families.side_losses import list_sown
from genjax.families.vqvae import VQVAE
from genjax.family import Batch, Params, State, Variables
from genjax.nets.transformer.token_net import unstack_layers
from genjax.nets.transformer.transformer import Transformer

PLAIN: tuple[tuple[str, Any], ...] = (("window", None), ("layer_kinds", ()), ("token_types", 0))


@checks.frozen
class NextScale(ImageCodes):
    """A Transformer that predicts all codes of a scale at once from those of the scales before.

    The autoencoder is frozen, its quantiser a ``MultiscaleCodebook``. The tokens of the first scale
    are start tokens, or the label as one. Those of scale k are the sum of the scales before,
    averaged over the areas of its places and projected to the net's width. A token sees its own
    scale and all before.

    ``loss`` is the mean cross-entropy of a code. Given the scales before, the codes of one scale
    are independent of each other in this model; so ``code_nats`` is exactly -log p of all codes of
    an image, and samples, one pass of the net for each scale, follow that p. For the other metrics
    see ``ImageCodes``.

    Attributes:
      autoencoder: run directory of a ``VQVAE`` of the same data, with codes at several scales.
      net: causal ``Transformer`` whose context holds all codes of an image; learned positions are
          those of each scale's places.
      conditional: whether the start token is the label.
      drop_label: share of labels hidden in training, so that the net also learns the unconditional
          model.
      sampler: sampling options; ``guidance_scale`` is the same at all scales.
    """

    autoencoder: Component = "runs/vqvae_scales_fashion_mnist"
    net: Transformer = Transformer(layers=4, heads=4, width=128, context=70)
    conditional: bool = False
    drop_label: float = 0.1
    sampler: CodeSampler = CodeSampler()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in PLAIN:
            if getattr(self.net, name) != value:
                raise UserError(
                    f"net.{name} must be {value} in a NextScale, got {getattr(self.net, name)}",
                    f"net.{name}",
                )

    @property
    def protocol(self) -> str:  # type: ignore[override]
        return (
            "nats per code, the codes of a scale at once; code_nats: all codes of an image; "
            "code_bits_per_dim: the same over its pixels and channels"
        )

    def check_base(self, family: VQVAE, run_dir: str) -> None:
        if not isinstance(family.grid_quantiser, MultiscaleCodebook):
            raise UserError(
                "autoencoder must be a run of a VQVAE whose quantiser is a MultiscaleCodebook, but "
                f"that of {run_dir} is a {type(family.grid_quantiser).__name__}",
                "autoencoder",
            )

    @property
    def quantiser(self) -> MultiscaleCodebook:
        """The quantiser of the autoencoder."""
        found = self.autoencoder.grid_quantiser
        assert isinstance(found, MultiscaleCodebook)
        return found

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        starts, quantiser = self._count_starts(spec), self.quantiser
        if quantiser.length > self.net.context:
            raise UserError(
                f"family.net.context must be >= {quantiser.length} (codes per image), got "
                f"{self.net.context}",
                "family.net.context",
            )
        token_key, read_key = jax.random.split(key)
        # The vocabulary: codes, start tokens, and one token for all places of later scales.
        module = self.net.module(quantiser.codes + starts + 1)
        shape = (quantiser.code_dim, self.net.width)
        return {
            "tokens": module.init(token_key, jnp.zeros((1, 1), jnp.int32))["params"],
            "read": {"kernel": self.net.init_std * jax.random.normal(read_key, shape)},
        }, {}

    def draw_codes(self, state: State, key: jax.Array, n: int, options: CodeSampler) -> jax.Array:
        """Draw codes, int32 [n, N], one scale after another, with a cache of keys and values."""
        label, twice = self._choose_labels(state, n, options), needs_two(options)
        net, params, quantiser = self.net, state.params["tokens"], self.quantiser
        if net.scan_layers:
            net, params = dataclasses.replace(net, scan_layers=False), unstack_layers(params)
        module: Any = net.module(len(params["embedding"]))
        starts = self._make_start_tokens(label, n)
        if twice:  # the same codes again, after the start token of a hidden label
            hidden_label = jnp.full(n, self._count_classes(state.params))
            starts = jnp.concatenate([starts, self._make_start_tokens(hidden_label, n)])
        cache = net.new_cache(len(starts), quantiser.length)
        own, variables = self._frozen_quantiser(state)
        total = jnp.zeros((n, quantiser.size, quantiser.size, quantiser.code_dim))
        drawn = []
        for number, scale in enumerate(quantiser.scales):
            seen = None if number == 0 else quantiser.shrink(total, scale).reshape(n, scale**2, -1)
            if seen is not None and twice:
                seen = jnp.concatenate([seen, seen])
            tokens, features = self._embed(state.params, starts, seen, scale)
            hidden, cache = module.apply(
                {"params": params},
                tokens,
                types=features,
                prefix=jnp.ones(tokens.shape, bool),
                cache=cache,
            )
            logits = module.apply({"params": params}, hidden, method="logits")
            logits = logits[..., : quantiser.codes]
            if twice:
                logits = guide(logits, options.guidance_scale)
            filtered = options.tokens(1).filter_logits(logits)
            codes = jax.random.categorical(jax.random.fold_in(key, number), filtered)
            drawn.append(codes.astype(jnp.int32))
            grid = drawn[-1].reshape(n, scale, scale)
            total = quantiser.add_scale(own, variables, number, total, grid)
        return jnp.concatenate(drawn, 1)

    def nll(self, state: State, codes: jax.Array, label: jax.Array | None) -> jax.Array:
        """Return -log p(code | earlier scales, label) [B, N] in nats of codes int32 [B, N]."""
        return self._score(state.params, self._read(state, codes), label, None)[0]

    def _read(self, state: State, codes: jax.Array) -> Rows:
        """Return the codes [B, N], and for each place of the later scales the sum of those before
        [B, N - s^2, D].
        """
        quantiser = self.quantiser
        own, variables = self._frozen_quantiser(state)
        totals = quantiser.accumulate(own, variables, codes)
        before = [
            quantiser.shrink(total, scale).reshape(len(codes), scale**2, -1)
            for total, scale in zip(totals, quantiser.scales[1:], strict=False)
        ]
        empty = jnp.zeros((len(codes), 0, quantiser.code_dim))
        return {"codes": codes, "before": jnp.concatenate([empty, *before], 1)}

    def _score(
        self, params: Params, rows: Rows, label: jax.Array | None, key: jax.Array | None
    ) -> tuple[jax.Array, Mapping[str, Any]]:
        codes, before, quantiser = rows["codes"], rows["before"], self.quantiser
        first, later = quantiser.scales[0], before if before.shape[1] else None
        starts = self._make_start_tokens(label, len(codes))
        tokens, features = self._embed(params, starts, None, first)
        if later is not None:
            more, added = self._embed(params, starts, later, 0)
            tokens = jnp.concatenate([tokens, more], 1)
            features = jnp.concatenate([features, added], 1)
        module: Any = self.net.module(len(params["tokens"]["embedding"]))
        squares = [scale**2 for scale in quantiser.scales]
        blocks = np.repeat(np.arange(1, len(squares) + 1), squares)[None]  # [1, N]
        (hidden, _), sown = module.apply(
            {"params": params["tokens"]},
            tokens,
            types=features,
            prefix=jnp.asarray(np.broadcast_to(blocks, codes.shape), jnp.int32),
            rngs={} if key is None else {"dropout": key},
            train=key is not None,
            mutable=list_sown(self.net),
        )
        logits = module.apply({"params": params["tokens"]}, hidden, method="logits")
        log_prob = jax.nn.log_softmax(logits[..., : quantiser.codes])
        return -jnp.take_along_axis(log_prob, codes[..., None], -1)[..., 0], sown

    def _embed(
        self, params: Params, starts: jax.Array, seen: jax.Array | None, scale: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return tokens int32 [B, T] and features [B, T, C] of the first scale, or of places that
        have ``seen`` [B, T, D].
        """
        if seen is None:
            tokens = jnp.repeat(starts, scale**2, axis=1)
            return tokens, jnp.zeros((*tokens.shape, self.net.width))
        place = len(params["tokens"]["embedding"]) - 1
        kernel = params["read"]["kernel"]
        flat = seen.reshape(-1, seen.shape[-1]).astype(kernel.dtype) @ kernel
        return jnp.full(seen.shape[:2], place), flat.reshape(*seen.shape[:2], -1)

    def _make_start_tokens(self, label: jax.Array | None, n: int) -> jax.Array:
        """Return the start tokens int32 [n, 1]."""
        start = jnp.zeros(n, jnp.int32) if label is None else label.astype(jnp.int32)
        return self.quantiser.codes + start[:, None]

    def _frozen_quantiser(self, state: State) -> tuple[Params, Variables]:
        """Return the parameters and variables of the quantiser."""
        frozen = state.frozen[AUTOENCODER]
        return frozen["params"].get("quantiser", {}), frozen["variables"]

    def _count_classes(self, params: Params) -> int:
        if not self.conditional:
            return 0
        vocabulary = len(params["tokens"]["embedding"])
        return vocabulary - 1 - self.quantiser.codes - (self.drop_label > 0)
